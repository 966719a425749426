"""Names become boxes and photos, in an order that a limit keeps."""

import json
import warnings
from pathlib import Path

import pandas as pd
import pytest
from web import photo_row, write_site

from openimager import categories, metadata, selection
from openimager.errors import BadInput

CAT, DOG = "/m/01yrx", "/m/0bt9lr"
FOOD, SANDWICH, HAMBURGER, BUN = "/m/02wbm", "/m/0l515", "/m/0cdn1", "/m/0bun"
NAMES = {FOOD: "Food", SANDWICH: "Sandwich", HAMBURGER: "Hamburger", BUN: "Bun", CAT: "Cat"}
TREE = {
    "LabelName": "/m/0bl9f",
    "Subcategory": [
        {"LabelName": CAT},
        {
            "LabelName": FOOD,
            "Subcategory": [
                {
                    "LabelName": SANDWICH,
                    "Subcategory": [{"LabelName": HAMBURGER}],
                    "Part": [{"LabelName": BUN}],
                },
                {"LabelName": HAMBURGER},
            ],
        },
    ],
}


def site_of(folder, labels, subset="train"):
    """Write a site whose photo number n has boxes of `labels[n]`."""
    rows = [photo_row(n, f"../photos/{n}_o.jpg", subset=subset) for n in range(len(labels))]
    names = {row["ImageID"]: mids for row, mids in zip(rows, labels, strict=True)}
    tables = write_site(folder, rows, names)
    text = "\n".join(f"{mid},{name}" for mid, name in NAMES.items())
    (tables / metadata.table_path("classes")).write_text(text, encoding="utf-8")
    tree = json.dumps(TREE)
    (tables / metadata.table_path("hierarchy")).write_text(tree, encoding="utf-8")
    return tables


def find(names, site, **options):
    """Select, with any warning an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return selection.find(names, base_url=site, quiet=True, **options)


@pytest.fixture
def site(tmp_path):
    """Six photos of cats, food and its kinds."""
    return site_of(
        tmp_path, [[CAT], [HAMBURGER], [SANDWICH, HAMBURGER], [BUN], [FOOD], [CAT, SANDWICH]]
    )


def test_names_and_mids(site):
    """Case and space do not matter, and a MID is as good as a name."""
    for name in ("cat", " CAT ", CAT):
        assert find([name], site).boxes["Category"].tolist() == ["Cat", "Cat"]
    assert len(find("cat", site).photos) == 2


def test_unknown_names(site):
    """All unknown names are told at once, each with its nearest."""
    with pytest.raises(BadInput) as error:
        find(["Sandwhich", "Cat", "Catt"], site)
    assert "'Sandwhich'. Did you mean 'Sandwich'" in str(error.value)
    assert "'Catt'. Did you mean 'Cat'" in str(error.value)
    with pytest.raises(BadInput, match="No category"):
        find([], site)


def test_a_category_and_its_kind_warn(site):
    """Asking for Sandwich and Hamburger says that one is a kind of the other."""
    with pytest.warns(UserWarning, match="'Hamburger' is a kind of 'Sandwich'"):
        found = selection.find(["Sandwich", "Hamburger"], base_url=site, quiet=True)
    assert found.boxes["Category"].value_counts().to_dict() == {"Sandwich": 2, "Hamburger": 2}


def test_children_count_under_the_asked(site):
    """With children every kind counts as the category, parts never do."""
    assert len(find(["Food"], site).boxes) == 1
    found = find(["Food"], site, with_children=True)
    assert set(found.boxes["LabelName"]) == {FOOD, SANDWICH, HAMBURGER}
    assert set(found.boxes["Category"]) == {"Food"}


def test_a_kind_goes_to_the_nearest(site):
    """What is asked by name stays itself; one box is one row, however many asked hold it."""
    with pytest.warns(UserWarning, match="count under 'Sandwich' alone"):
        found = selection.find(["Food", "Sandwich"], base_url=site, with_children=True, quiet=True)
    by_label = found.boxes.groupby("LabelName")["Category"].unique().str.join(",").to_dict()
    # Hamburger stands one step below both: the one asked first has it.
    assert by_label == {FOOD: "Food", SANDWICH: "Sandwich", HAMBURGER: "Food"}
    assert len(found.boxes) == 5


def test_a_graph_with_a_ring():
    """A hierarchy that runs in a ring is followed once."""
    tree = {
        "LabelName": "a",
        "Subcategory": [{"LabelName": "b", "Subcategory": [{"LabelName": "a"}]}],
    }
    assert categories.Hierarchy(tree).descendants("a") == {"b": 1}


def test_subsets(tmp_path):
    """Only the asked subsets are read, all of them with 'all'."""
    rows = [photo_row(n, "../a.jpg", subset=s) for n, s in enumerate(metadata.SUBSETS)]
    tables = write_site(tmp_path, rows)
    assert find(["Cat"], tables).photos["Subset"].tolist() == ["train"]
    assert set(find(["Cat"], tables, subset=["test", "train"]).photos["Subset"]) == {
        "test",
        "train",
    }
    assert set(find(["Cat"], tables, subset="all").photos["Subset"]) == set(metadata.SUBSETS)
    with pytest.raises(BadInput, match=r"'tset'.*Allowed: train, validation, test, all"):
        find(["Cat"], tables, subset="tset")


def test_flags_left_out():
    """Dropping a flag keeps its unknowns; dropping unknowns is asked for apart."""
    boxes = pd.DataFrame({flag: [0, 1, -1] for flag in metadata.FLAGS})
    assert selection.without_flags(boxes, ["IsGroupOf"]).index.tolist() == [0, 2]
    assert selection.without_flags(boxes, [], drop_unknown=True).index.tolist() == [0, 1]
    with pytest.raises(BadInput, match=r"'blurred'\. Allowed: occluded"):
        selection.drop_flags(["blurred"])


def test_tables_on_disk(tmp_path, site):
    """Tables given by hand need no site; they hold whatever subset they hold."""
    other = site_of(tmp_path / "other", [[CAT]] * 3, subset="test")
    found = find(
        ["Cat"],
        "http://127.0.0.1:9/nowhere",
        class_names=other / metadata.table_path("classes"),
        boxes=other / metadata.table_path("boxes", "test"),
        photos=other / metadata.table_path("photos", "test"),
    )
    assert found.photos["Subset"].tolist() == ["test"] * 3


def test_a_broken_row_warns(site):
    """A broken row is left out, with its line, and the others count."""
    path = site / metadata.table_path("boxes", "train")
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[1] = lines[1].replace("0.9", "1.9")
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.warns(UserWarning, match=r"1 row of the wanted .* \(line 2: XMax"):
        found = selection.find(["Cat"], base_url=site, quiet=True)
    assert len(found.boxes) == 1


def test_a_box_without_photo_warns(site):
    """Boxes of a photo that the photo table lacks are left out with a word."""
    path = site / metadata.table_path("photos", "train")
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(lines[:1] + lines[2:]), encoding="utf-8")
    with pytest.warns(UserWarning, match="1 photo has boxes but no row"):
        found = selection.find(["Cat"], base_url=site, quiet=True)
    assert len(found.photos) == 1


def test_order_is_seed_and_id_alone(tmp_path):
    """Other photos do not change the order of these; another seed does."""
    many = find(["Cat"], site_of(tmp_path / "many", [[CAT]] * 40)).photos["ImageID"].tolist()
    few = find(["Cat"], site_of(tmp_path / "few", [[CAT]] * 20)).photos["ImageID"].tolist()
    assert [image_id for image_id in many if image_id in few] == few
    assert few != sorted(few)
    other = find(["Cat"], tmp_path / "few" / "2018_04", seed=1).photos["ImageID"].tolist()
    assert other != few and sorted(other) == sorted(few)


def test_a_larger_limit_keeps_the_smaller(tmp_path):
    """Limits nest, count per category, and a photo of both counts for both."""
    labels = [[CAT], [SANDWICH], [CAT, SANDWICH]] * 12
    found = find(["Cat", "Sandwich"], site_of(tmp_path, labels))
    before = set()
    for limit in range(1, 26):
        taken = selection.take(found, limit)
        now = set(taken.photos["ImageID"])
        assert before <= now
        before = now
        for name in ("Cat", "Sandwich"):
            boxes = taken.boxes[taken.boxes["Category"] == name]
            first = found.boxes[found.boxes["Category"] == name]["ImageID"].unique()
            ordered = [i for i in found.photos["ImageID"] if i in set(first)][:limit]
            assert set(ordered) <= set(boxes["ImageID"])
    assert len(now) == 36
    with pytest.raises(BadInput, match="at least 1"):
        selection.take(found, 0)


def test_the_next_takes_the_place_of_the_gone(tmp_path):
    """A photo that is gone does not count towards the limit."""
    found = find(["Cat"], site_of(tmp_path, [[CAT]] * 10))
    order = found.photos["ImageID"].tolist()
    taken = selection.take(found, 3, gone={order[1]}).photos["ImageID"].tolist()
    assert taken == [order[0], order[2], order[3]]


def test_counts(site):
    """Counts are per category and in all, a shared photo counting once in all."""
    counts = selection.describe(find(["Cat", "Sandwich"], site))
    assert counts["photos"].to_dict() == {"Cat": 2, "Sandwich": 2, "in all": 3}
    assert counts["boxes"].to_dict() == {"Cat": 2, "Sandwich": 2, "in all": 4}
    assert counts.loc["in all", "unsized"] == 3
    assert counts.loc["Cat", "licences"] == "CC BY 2.0 2"


FRUIT = Path(__file__).parents[2] / "shared/mirror/fruit/2018_04"


@pytest.mark.skipif(not FRUIT.exists(), reason="the mirror of real photos is not here")
def test_real_hierarchy():
    """In the real hierarchy a hamburger is a sandwich, and 190 categories stand at two places."""
    classes = categories.read_classes(FRUIT / metadata.table_path("classes"))
    hierarchy = categories.read_hierarchy(FRUIT / metadata.table_path("hierarchy"))
    sandwich, hamburger, person = categories.resolve(["Sandwich", "Hamburger", "Person"], classes)
    assert hamburger in hierarchy.descendants(sandwich)
    nose = next(iter(categories.resolve(["Human nose"], classes)))
    assert nose not in hierarchy.descendants(person)
    assert len(classes) == 601 and len(hierarchy.descendants(hierarchy.root)) >= 570
