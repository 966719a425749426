"""Repeating, extending and replacing the query of a data directory."""

import contextlib
import json
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
from builders import CAT, DOG, image_id, jpeg, photo_row, put_photos, write_site

import openimager
from openimager import query
from openimager.cli import main
from openimager.errors import BadInput
from openimager.photos.download import download
from openimager.store import Store
from openimager.tables import categories, views


@pytest.fixture
def site(tmp_path):
    """Return the tables of three cats and three dogs, the last cat gone."""
    rows = [photo_row(n, f"../photos/{n}_o.jpg", jpeg(n)) for n in range(6)]
    labels = {image_id(n): [CAT if n < 3 else DOG] for n in range(6)}
    tables = write_site(tmp_path / "site", rows, labels)
    put_photos(tables, {f"photos/{n}_o.jpg": jpeg(n) for n in (0, 1, 3, 4, 5)})
    return tables


def run(categories, data, **options):
    """Download quietly."""
    return download(categories, data, quiet=True, **options)


def test_query_json(site, tmp_path):
    """query.json has the query with full category names and no path of this machine."""
    run(["cat", DOG], tmp_path / "data", base_url=site, limit=2)
    text = (tmp_path / "data/query.json").read_text(encoding="utf-8")
    content = json.loads(text)
    assert content["categories"] == ["Cat", "Dog"] and content["limit"] == 2
    assert str(tmp_path) not in text


def test_repeated_without_tables(site, tmp_path):
    """The query of an installed data directory is repeated without the Open Images tables."""
    data = tmp_path / "data"
    first = run(["Cat", "Dog"], data, base_url=site)
    assert first["Status"].tolist().count("gone") == 1
    shutil.rmtree(site.parent)
    installed = shutil.copytree(data, tmp_path / "other", ignore=lambda *_: [".openimager"])
    for place in (data, installed):
        again = run(["dog", "CAT"], place)
        pd.testing.assert_frame_equal(again, first)
    assert run(query.chosen(installed)[0], installed)["Status"].tolist().count("ok") == 5


@pytest.mark.parametrize(
    "change",
    [
        lambda data: (data / f"images/{image_id(0)}.jpg").unlink(),
        lambda data: (data / f"images/{image_id(0)}.jpg").write_bytes(b"short"),
        lambda data: (data / "boxes.csv").unlink(),
        lambda data: (data / "query.json").unlink(),
    ],
)
def test_not_repeated_where_something_is_missing(site, tmp_path, change):
    """Missing or changed files are restored from the tables."""
    data = tmp_path / "data"
    first = run("Cat", data, base_url=site)
    change(data)
    pd.testing.assert_frame_equal(run("Cat", data, base_url=site), first)
    assert (data / f"images/{image_id(0)}.jpg").read_bytes() == jpeg(0)
    assert (data / "boxes.csv").exists() and (data / "query.json").exists()


def test_another_site_is_not_the_same_query(site, tmp_path):
    """The same query with another base URL is run there."""
    data = tmp_path / "data"
    run("Cat", data, base_url=site)
    other = write_site(tmp_path / "second", [photo_row(9, "../photos/0_o.jpg", jpeg(0))])
    put_photos(other, {"photos/0_o.jpg": jpeg(0)})
    with pytest.raises(BadInput, match=r"would drop 2 of 2 photos"):
        run("Cat", data, base_url=other)
    found = run("Cat", data, base_url=other, replace=True)
    assert found["ImageID"].tolist() == [image_id(9)]


def test_a_query_that_drops_something_stops(site, tmp_path, capsys):
    """The error says what would be dropped, and nothing changes without --replace."""
    data = tmp_path / "data"
    run(["Cat", "Dog"], data, base_url=site)
    before = {path.name: path.read_bytes() for path in data.glob("[!.]*.*")}
    with pytest.raises(BadInput, match=r"the categories Dog and 3 of 5 photos .* --replace"):
        run("Cat", data, base_url=site)
    with pytest.raises(BadInput, match=r"would drop 3 of 5 photos"):
        run(["Cat", "Dog"], data, base_url=site, limit=1)
    with pytest.raises(BadInput, match=r"the categories Cat, Dog"):
        run(["Cat", "Dog"], data, base_url=site, merge={"Pet": ["Cat", "Dog"]})
    assert {path.name: path.read_bytes() for path in data.glob("[!.]*.*")} == before
    command = ["Cat", "--data-dir", str(data), "--base-url", str(site), "--quiet"]
    assert main(command) == 2
    assert main([*command, "--replace"]) == 0
    assert set(pd.read_csv(data / "boxes.csv")["Category"]) == {"Cat"}


def test_sample_and_photos_are_not_mixed(site, tmp_path):
    """Real photos do not replace the drawn sample unasked; that is said before tables are read."""
    data, path = tmp_path / "data", tmp_path / "data/query.json"
    run("Cat", data, base_url=site)
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(content | {"release": "sample"}), encoding="utf-8")
    with pytest.raises(BadInput, match=r"holds pictures of the drawn sample .* --replace"):
        run("Cat", data, class_names=tmp_path / "missing.csv")
    assert run("Cat", data, base_url=site, replace=True)["Status"].tolist().count("ok") == 2


def test_a_query_that_only_adds_goes_on(site, tmp_path):
    """A larger limit or another category needs no --replace."""
    data = tmp_path / "data"
    run("Cat", data, base_url=site, limit=1)
    run("Cat", data, base_url=site, limit=2)
    assert len(run(["Cat", "Dog"], data, base_url=site)) == 6


def test_nothing_selected_leaves_the_tables(site, tmp_path):
    """A category without photos is an error, and the tables on disk are unchanged."""
    data = tmp_path / "data"
    run("Cat", data, base_url=site)
    before = {path.name: path.read_bytes() for path in data.glob("[!.]*.*")}
    with pytest.raises(BadInput, match="nothing is selected"):
        run("Dog", data, base_url=site, subset="test", replace=True)
    assert {path.name: path.read_bytes() for path in data.glob("[!.]*.*")} == before


def test_what_a_notebook_chooses(site, tmp_path):
    """The default is query.json, or else Cat and Dog of the sample; choices are recorded."""
    data = tmp_path / "data"
    choice, place = query.chosen(data)
    assert (choice.categories, choice.release, len(choice.subsets)) == (("Cat", "Dog"), "sample", 3)
    assert place.base_url is None
    query.record(choice, data)
    run("Cat", data, base_url=site, limit=2)
    choice, place = query.chosen(data)
    assert (choice.categories, choice.release, choice.limit) == (("Cat",), "v4", 2)
    assert place.base_url == str(site)
    choice, place = query.chosen(data, ["Dog"], limit=3)
    query.record(choice, data)
    assert query.chosen(data)[0] == choice
    # The recorded choice does not change what the tables hold.
    assert set(run("Cat", data, base_url=site, limit=2)["ImageID"]) <= {
        image_id(n) for n in range(3)
    }
    assert query.chosen(data, release="sample")[1].base_url is None


def test_a_recorded_choice_is_not_downloaded(site, tmp_path):
    """A query that is recorded but not downloaded is not taken for a repeated one."""
    data = tmp_path / "data"
    run("Cat", data, base_url=site)
    choice, _ = query.chosen(data, ["Cat", "Dog"])
    query.record(choice, data)
    assert len(run(choice, data, base_url=site)) == 6


def test_other_categories_are_chosen_for_each_task(tmp_path, monkeypatch):
    """build-dataset keeps its other categories for the same task, and not for another one."""
    names = {CAT: "Cat", DOG: "Dog", "/m/07j7r": "Tree"}
    rows = [photo_row(n, f"../photos/{n}_o.jpg", jpeg(n)) for n in range(6)]
    labels = {image_id(n): [mid] for n, mid in enumerate([*names, *names])}
    tables = write_site(tmp_path / "site", rows, labels, classes=names)
    put_photos(tables, {f"photos/{n}_o.jpg": jpeg(n) for n in range(6)})
    path = Path(__file__).parent.parent / "notebooks" / "build-dataset.ipynb"
    cells = ["".join(cell["source"]) for cell in json.loads(path.read_text("utf-8"))["cells"]]
    begin = next(n for n, cell in enumerate(cells) if cell.startswith("classes, tree ="))
    code = "\n\n".join(cell for cell in (cells[begin], cells[begin + 2], cells[begin + 4]))
    monkeypatch.chdir(tmp_path)

    def others(**options):
        choice, site = query.chosen("data", **options)
        space = {"DATA_DIR": "data", "OTHERS": None, "SIZE": 32, "DROP": [], "Store": Store}
        space |= {"choice": choice, "site": site, "query": query, "openimager": openimager}
        space |= {"views": views, "categories": categories, "contextlib": contextlib, "sys": sys}
        exec(code, space)
        return space["others"]

    run(["Cat", "Dog"], "data", base_url=tables)
    assert others() == ["Tree"]
    run(["Dog", "Tree"], "data", base_url=tables, replace=True)
    assert others() == ["Cat"]
    shutil.rmtree(tmp_path / "site" / "2018_04" / "train")
    assert others() == ["Cat"]  # without reading tables of boxes
