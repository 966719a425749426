"""What goes into the package, with whose credit, and what it says of itself."""

import json
from pathlib import Path

import pandas as pd
import pytest
from package_tree import IDS, NAME, make_tree

from openimager.errors import BadInput
from openimager.files import sha256, write_table
from openimager.quilt import datacard, package


@pytest.fixture
def tree(tmp_path):
    return make_tree(tmp_path / "clone")


def collect(tree, **options):
    return package.collect(tree, tree / "data", tree / "models", **options)


def describe(tree, **options):
    return package.describe(tree / "data", tree / "models", tree, **options)


def test_package_holds_the_documented_tree(tree):
    """Images, crops, tables, credits, models, summaries and the repository's three are in it."""
    paths = list(collect(tree))
    assert [p for p in paths if p.startswith("data/images/")] == [
        f"data/images/{i}.jpg" for i in IDS
    ]
    assert len([p for p in paths if p.startswith("data/crops/")]) == 6
    wanted = "README.md quilt_summarize.json summaries/top-image-labels.vl.json data/images.csv "
    wanted += "data/boxes.csv data/crops.csv data/ATTRIBUTION.csv models/latest.keras "
    wanted += "models/history.json models/metrics.json models/trained_on.txt "
    wanted += "data/summaries/top-image-labels.csv"
    assert set(wanted.split()) <= set(paths)
    assert all(file.is_file() for file in collect(tree).values())


def test_folders_of_other_names_keep_the_paths(tree):
    """data/ and models/ may be called anything on this machine; the package says data/, models/."""
    (tree / "data").rename(tree / "cats")
    (tree / "models").rename(tree / "best")
    files = package.collect(tree, tree / "cats", tree / "best")
    assert files["data/crops.csv"] == tree / "cats" / "crops.csv"
    assert files["models/latest.keras"] == tree / "best" / "latest.keras"


def test_state_of_this_machine_stays_out(tree):
    """Hidden files and folders, half-written files and strangers' files are not packaged."""
    before = set(collect(tree))
    for path in (
        "data/.openimager/state.csv",
        "models/.resume/a.keras",
        "data/.images.csv.ab.part",
    ):
        (tree / path).parent.mkdir(exist_ok=True)
        (tree / path).write_text("state", encoding="utf-8")
    (tree / "data" / "my-notes.docx").write_text("notes", encoding="utf-8")
    (tree / "data" / "crops" / "train" / "Cat" / f".{IDS[0]}_1.jpg").write_bytes(b"half")
    assert set(collect(tree)) == before


def test_photos_can_be_left_out(tree):
    """Without photos, the crops, tables and the model stay."""
    paths = set(collect(tree, with_photos=False))
    assert not any(p.startswith("data/images/") for p in paths)
    assert set(collect(tree)) - paths == {f"data/images/{i}.jpg" for i in IDS}
    assert describe(tree, with_photos=False)["with_photos"] is False


def test_photo_without_credit_stops_and_is_named(tree):
    """A photo on disk with no row in ATTRIBUTION.csv ends it, with the ImageID in the sentence."""
    credits = pd.read_csv(tree / "data" / "ATTRIBUTION.csv", dtype=str)
    write_table(credits[credits["ImageID"] != IDS[3]], tree / "data" / "ATTRIBUTION.csv")
    with pytest.raises(BadInput, match=IDS[3]):
        collect(tree)
    # Its crop is a copy of a part of it, so leaving the photo out does not help.
    with pytest.raises(BadInput, match=IDS[3]):
        collect(tree, with_photos=False)


def test_stray_photo_without_credit_is_named(tree):
    """A picture that somebody put among the photos is noticed, though no table names it."""
    stray = tree / "data" / "images" / "my-holiday.jpg"
    stray.write_bytes((tree / "data" / "images" / f"{IDS[0]}.jpg").read_bytes())
    with pytest.raises(BadInput, match="my-holiday"):
        collect(tree)


def test_photos_of_earlier_selections_stay_at_home(tree):
    """A credited photo that images.csv no longer names is not packaged."""
    photos = pd.read_csv(tree / "data" / "images.csv", dtype=str, keep_default_na=False)
    write_table(photos[photos["ImageID"] != IDS[0]], tree / "data" / "images.csv")
    assert f"data/images/{IDS[0]}.jpg" not in collect(tree)


@pytest.mark.parametrize(
    ("path", "notebook"),
    [("data/crops.csv", "build-dataset"), ("models/metrics.json", "evaluate-model")],
)
def test_missing_part_names_the_notebook_that_makes_it(tree, path, notebook):
    """A tree that is not finished is refused with what to run."""
    (tree / path).unlink()
    with pytest.raises(BadInput, match=rf"{path}.*{notebook}"):
        collect(tree)


def test_metadata_says_what_there_is(tree):
    """Categories, subsets, counts, licence, options, metrics and table hashes are the tree's."""
    said = describe(tree)
    assert said["categories"] == ["Cat", "Hot dog"]
    assert said["subsets"] == ["train", "validation", "test"]
    assert said["counts"]["photos"] == 6 and said["counts"]["boxes"] == 7
    assert said["counts"]["crops_by_subset"]["train"] == {"Cat": 2, "Hot dog": 1}
    assert said["licence"]["photos"] == ["CC BY 2.0 (https://creativecommons.org/licenses/by/2.0/)"]
    assert said["options"]["EPOCHS"] == 3
    assert said["metrics"]["accuracy"] == 0.5
    assert said["tables"]["crops.csv"] == sha256(tree / "data" / "crops.csv")
    assert said["drawn"] is True
    assert describe(tree) == said


def test_catalogue_shows_files_that_are_in_the_package(tree):
    """Every file that quilt_summarize.json names is one that the package takes along."""
    root = Path(__file__).resolve().parents[1]
    rows = json.loads((root / "quilt_summarize.json").read_text(encoding="utf-8"))
    cells = [cell for row in rows for cell in (row if isinstance(row, list) else [row])]
    named = {cell["path"] for cell in cells}
    assert {"data/README.md", "models/confusion-matrix.png"} < named and len(named) == 5
    for path in named:
        if path.startswith("summaries/"):
            assert (root / path).is_file()
        (tree / path).write_text("{}", encoding="utf-8")
    assert named <= set(collect(tree))


def test_code_outside_of_git_is_of_unknown_revision(tmp_path, monkeypatch):
    """Without git or a repository the revision is said to be unknown."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert package.code_revision(tmp_path) == "unknown"


def test_card_says_counts_licence_score_and_that_pictures_are_drawn(tree):
    """The data card has what a reader needs, and calls the drawn sample drawn."""
    card = datacard.write_card(tree / "data", describe(tree), NAME)
    text = card.read_text(encoding="utf-8")
    assert "| Cat | 2 | 0 | 1 |" in text
    assert "CC BY 2.0 (https://creativecommons.org/licenses/by/2.0/)" in text
    assert "Accuracy 0.500 (95 % interval 0.100 to 0.900) on 2 crops of 2 drawn pictures." in text
    assert "- always the most common category: 0.250 (95 % interval 0.000 to 0.750)" in text
    assert f"quilt3 install {NAME} --registry REGISTRY --dest ." in text
    assert "drawn and their credits invented" in text
    photos = pd.read_csv(tree / "data" / "images.csv", dtype=str, keep_default_na=False)
    photos["OriginalLandingURL"] = "https://www.flickr.com/photos/a/1"
    write_table(photos, tree / "data" / "images.csv")
    datacard.write_card(tree / "data", describe(tree), NAME)
    assert "drawn" not in card.read_text(encoding="utf-8")
