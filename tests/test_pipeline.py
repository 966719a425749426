"""`make demo` and `make all`: the commands they run, and what they refuse to replace."""

import json
from pathlib import Path

import pytest
from package_tree import make_tree

from tools import pipeline


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """An empty clone; commands are recorded instead of run."""
    monkeypatch.setattr(pipeline, "ROOT", tmp_path)
    ran = []

    class Failed:
        wait = staticmethod(lambda: 1)

    monkeypatch.setattr(pipeline, "start", lambda *command: ran.append(command) or Failed)
    monkeypatch.delenv("CI", raising=False)
    return tmp_path, ran


def holds(root, categories, release):
    """Write data and a model of a task into the clone."""
    make_tree(root)
    query = {"categories": categories, "release": release}
    (root / "data" / "query.json").write_text(json.dumps(query), encoding="utf-8")
    metrics = {"categories": categories, "accuracy": 0.5, "low": 0.1, "high": 0.9, "crops": 2}
    (root / "models" / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")


def test_an_empty_clone_starts_with_the_download(clone):
    """Names, release and limit are passed to the command; a failed download ends the run."""
    _, ran = clone
    arguments = ["Hamburger, Polar bear", "--release", "v6", "--limit", "150"]
    assert pipeline.main([*arguments, "--options", "--source cvdf"]) == 1
    words = ("-m", "openimager", "Hamburger", "Polar bear", "--release", "v6", "--subset", "all")
    assert ran == [(*words, "--source", "cvdf", "--limit", "150")]


@pytest.mark.parametrize(
    ("categories", "release"), [(["Cat", "Fox"], "v4"), (["Cat", "Dog"], "v7"), (["Cat"], "v4")]
)
def test_another_task_is_not_replaced(clone, capsys, categories, release):
    """Nothing is run, and the message names both folders and what would happen to them."""
    root, ran = clone
    holds(root, categories, release)
    assert pipeline.main(["Cat,Dog"]) == 2
    said = capsys.readouterr().err
    assert not ran and "data/ holds 6 photos" in said and "models/ holds a model" in said
    assert ", ".join(categories) in said and "REPLACE=1" in said


def test_replace_goes_on(clone):
    """--replace runs the download and is passed to it."""
    root, ran = clone
    holds(root, ["Cat", "Fox"], "v4")
    assert pipeline.main(["Cat,Dog", "--replace"]) == 1
    assert ran[0][-1] == "--replace"


def test_the_same_task_goes_on(clone):
    """Repeating a task needs no --replace, and the case of names does not matter."""
    root, ran = clone
    holds(root, ["Dog", "Cat"], "v4")
    assert pipeline.main(["cat,dog", "--limit", "20"]) == 1
    assert len(ran) == 1 and "--replace" not in ran[0]


def test_a_model_without_data_is_not_replaced(clone, capsys):
    """A model of unknown categories stops the run, even without data."""
    root, ran = clone
    (root / "models").mkdir()
    (root / "models" / "latest.keras").write_bytes(b"model")
    assert pipeline.main(["Cat,Dog"]) == 2
    assert not ran and "unknown categories" in capsys.readouterr().err


def test_one_category_is_no_task(clone, capsys):
    """One category is refused; the error shows how to write two."""
    with pytest.raises(SystemExit, match="2"):
        pipeline.main(["Cat"])
    assert 'CATEGORIES="Hamburger,Sandwich"' in capsys.readouterr().err


def test_closing_lines_name_drawn_numbers(clone):
    """Results on the sample are marked as drawn, results on photos are not."""
    root, _ = clone
    holds(root, ["Cat", "Dog"], "sample")
    assert "2 DRAWN test crops" in pipeline.closing(root, "sample", 60)
    assert "On 2 test crops the model scores 0.50" in pipeline.closing(root, "v4", 60)


def test_makefile_passes_everything_on():
    """`make all` passes each of its variables to the script."""
    text = (Path(__file__).parents[1] / "Makefile").read_text(encoding="utf-8")
    recipe = text[text.index("\nall:") : text.index("\ntest:")]
    for name in ("CATEGORIES", "RELEASE", "LIMIT", "REPLACE", "OPTIONS", "BACKBONE"):
        assert f"({name})" in recipe
