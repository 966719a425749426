"""Selection of boxes and photos by queries, and the order that limits use."""

import hashlib
import json
import random
import warnings
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest
from builders import CAT, DOG, box_row, image_id, photo_row, table_path, write_csv, write_site

import openimager
from openimager import sample
from openimager.errors import BadInput
from openimager.query import DROPS, Query, Site, ask, without_flags
from openimager.selection import Selector
from openimager.store import BOX_COLUMNS, FLAGS, SUBSETS
from openimager.tables import catalogue, categories

FOOD, SANDWICH, HAMBURGER, BUN = "/m/02wbm", "/m/0l515", "/m/0cdn1", "/m/0bun"
NAMES = {FOOD: "Food", SANDWICH: "Sandwich", HAMBURGER: "Hamburger", BUN: "Bun", CAT: "Cat"}
SANDWICHES = {"Subcategory": [{"LabelName": HAMBURGER}], "Part": [{"LabelName": BUN}]}
TREE = {
    "LabelName": "/m/0bl9f",
    "Subcategory": [
        {"LabelName": CAT},
        {
            "LabelName": FOOD,
            "Subcategory": [{"LabelName": SANDWICH, **SANDWICHES}, {"LabelName": HAMBURGER}],
        },
    ],
}


def site_of(folder, labels, subset="train"):
    """Write a site whose photo number n has boxes of `labels[n]`."""
    photos = [photo_row(n, f"../photos/{n}_o.jpg", subset=subset) for n in range(len(labels))]
    boxes = [box_row(n, mid) for n, mids in enumerate(labels) for mid in mids]
    return write_site(folder, photos, boxes=boxes, classes=NAMES, tree=TREE)


class Taken(NamedTuple):
    photos: pd.DataFrame
    boxes: pd.DataFrame
    categories: tuple[str, ...]


def take(names, site, gone=(), **options):
    """Select; turn warnings into errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        query, place = ask(names, base_url=site, quiet=True, **options)
        return taken(Selector(query, place), gone)


def taken(selector, gone=()):
    """Return the photos and boxes of a selector as two frames."""
    found = selector.take(gone)
    names = [name for name, _ in found]
    boxes = selector.boxes(set(names) - set(gone))
    boxes = pd.DataFrame(boxes, columns=[*BOX_COLUMNS, "Category"])
    photos = pd.DataFrame(selector.photos()).set_index("ImageID", drop=False).loc[names]
    return Taken(photos.reset_index(drop=True), boxes, selector.categories)


def ids(selection):
    """Return the ImageIDs of the photos, in order."""
    return selection.photos["ImageID"].tolist()


@pytest.fixture
def site(tmp_path):
    """Six photos of cats, food and its kinds."""
    labels = [[CAT], [HAMBURGER], [SANDWICH, HAMBURGER], [BUN], [FOOD], [CAT, SANDWICH]]
    return site_of(tmp_path, labels)


def test_boxes_as_published(site):
    """As CSV, the boxes equal the rows of the published table."""
    [table] = site.glob("train/*bbox.csv")
    wanted = [f"{line},Cat" for line in table.read_text("utf-8").splitlines() if CAT in line]
    assert take("Cat", site).boxes.to_csv(index=False).splitlines()[1:] == wanted


# Names


def test_names_and_mids(site):
    """Names are matched without regard to case and spaces; MIDs are accepted too."""
    for name in ("cat", " CAT ", CAT):
        assert take([name], site).boxes["Category"].tolist() == ["Cat", "Cat"]
    assert len(take("cat", site).photos) == 2


@pytest.mark.parametrize(
    ("names", "word"),
    [
        (["Sandwhich", "Cat", "Catt"], "'Sandwhich'. Did you mean 'Sandwich'"),
        (["Sandwhich", "Cat", "Catt"], "'Catt'. Did you mean 'Cat'"),
    ],
)
def test_unknown_names(site, names, word):
    """All unknown names are reported at once, each with the most similar name."""
    with pytest.raises(BadInput) as error:
        take(names, site)
    assert word in str(error.value)


def test_a_name_of_two_words_without_quotes():
    """Words that together make a category give an error that asks for quotes."""
    classes = {"/m/0633h": "Polar bear", "/m/01dws": "Bear"}
    with pytest.raises(BadInput, match=r"'Polar bear' is one category: put it in quotes"):
        categories.resolve(["Polar", "bear"], classes)
    with pytest.raises(BadInput, match='by spaces: "polar bear" Bear'):
        categories.resolve(["polar bear,Bear"], classes)


def test_a_category_and_its_kind_warn(site):
    """A query for Sandwich and Hamburger warns that one is a kind of the other."""
    with pytest.warns(UserWarning, match="'Hamburger' is a kind of 'Sandwich'"):
        found = taken(Selector(Query(["Sandwich", "Hamburger"]), Site(base_url=site)))
    assert found.boxes["Category"].value_counts().to_dict() == {"Sandwich": 2, "Hamburger": 2}


def test_children_count_under_the_asked(site):
    """With children, boxes of every kind count as the category; boxes of parts do not."""
    assert len(take(["Food"], site).boxes) == 1
    found = take(["Food"], site, with_children=True)
    assert set(found.boxes["LabelName"]) == {FOOD, SANDWICH, HAMBURGER}
    assert set(found.boxes["Category"]) == {"Food"}


def test_a_kind_goes_to_the_nearest(site):
    """A box counts for the nearest category of the query, and only once."""
    query = Query(["Food", "Sandwich"], with_children=True)
    with pytest.warns(UserWarning, match="count under 'Sandwich' alone"):
        found = taken(Selector(query, Site(base_url=site)))
    by_label = found.boxes.groupby("LabelName")["Category"].unique().str.join(",").to_dict()
    # Hamburger is one step below both, so it counts for the first.
    assert by_label == {FOOD: "Food", SANDWICH: "Sandwich", HAMBURGER: "Food"}
    assert len(found.boxes) == 5


def test_a_category_without_photos(site):
    """A category without photos is a warning, or an error if nothing else is selected."""
    with pytest.warns(UserWarning, match="There is no photo of Bun in train"):
        labels = [[CAT]]
        Selector(Query(["Bun", "Cat"]), Site(base_url=site_of(site.parent / "few", labels)))
    with pytest.raises(BadInput, match=r"no photo of Cat in validation, test: nothing is selected"):
        take("Cat", site, subset=["test", "validation"])


# Without, merge, image_ids


def test_without(site):
    """Photos with a box of an excluded category, or of its children, are left out."""
    assert ids(take("Cat", site, without="sandwich")) == [image_id(0)]
    with_children = take("Cat", site, without=["Food"], with_children=True)
    assert ids(with_children) == [image_id(0)]
    assert len(take("Cat", site, without="Food").photos) == 2


def test_merge(site):
    """Merged categories count as one, even if the query does not name them."""
    for names, merge in (
        (["Cat"], ["Snack=Sandwich,hamburger"]),
        (["Cat", "Sandwich", "snack"], {"Snack": ["Sandwich", "Hamburger"]}),
    ):
        found = take(names, site, merge=merge)
        assert found.categories == ("Cat", "Snack")
        assert found.boxes["Category"].value_counts().to_dict() == {"Snack": 4, "Cat": 2}
    limited = take((), site, merge={"Snack": ["Sandwich", "Hamburger"]}, limit=2)
    assert len(limited.photos) == 2


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"without": "Cat"}, "'Cat' is both wanted and excluded"),
        ({"without": "Dgo"}, "Unknown category 'Dgo'"),
        ({"merge": ["A=Cat,Bun", "B=Cat"]}, "'Cat' is merged twice: into 'A' and 'B'"),
        ({"merge": ["A=Cat,Bnu"]}, "Unknown category 'Bnu'"),
        ({"merge": ["A/B=Cat,Bun"]}, "'A/B' can't be the name of a folder"),
        ({"merge": ["..=Cat,Bun"]}, "'..' can't be the name of a folder"),
        ({"merge": ["A!=Cat,Bun"]}, "letters, digits, spaces and _.&'()+,- are allowed"),
        ({"merge": {"A ": ["Cat"], "a": ["Bun"]}}, "differ only in case"),
        ({"merge": ["CAT=Bun,Food"]}, "'CAT' and 'Cat', would have one name"),
        ({"merge": ["Cat=Bun,Food"]}, "'Cat' and 'Cat', would have one name"),
        ({"merge": ["Cat"]}, "'Cat' is not NAME=CATEGORY,CATEGORY"),
    ],
)
def test_contradictions(site, options, word):
    """Categories both wanted and excluded, merged twice or unknown are errors."""
    with pytest.raises(BadInput) as error:
        take(["Cat"], site, **options)
    assert word in str(error.value)


def test_image_ids(site, tmp_path):
    """A list of ImageIDs selects these photos; ids without a matching box are counted."""
    text = f"train/{image_id(5)}\n\n{image_id(0)}\ntest/{image_id(0)}\n{image_id(77)}\n"
    (tmp_path / "ids.txt").write_text(text, encoding="utf-8")
    query, place = ask("Cat", subset="train", image_ids=tmp_path / "ids.txt", base_url=site)
    with pytest.warns(UserWarning, match=r"2 of 4 ImageIDs .*\(test/0+, 0+04d\)") as said:
        assert sorted(ids(taken(Selector(query, place)))) == [image_id(0), image_id(5)]
    assert len(said) == 1
    named = "test/" + image_id(0)
    assert ask("Cat", image_ids=[named])[0].subsets == ("test",)
    assert ask("Cat", image_ids=[named, image_id(5)])[0].subsets == SUBSETS


def test_image_ids_that_are_not(tmp_path):
    """A line that is not an ImageID, or a missing file, is named in the error."""
    (tmp_path / "ids.txt").write_text(f"{image_id(1)}\nphoto1.jpg", encoding="utf-8")
    with pytest.raises(BadInput, match=r"line 2: 'photo1.jpg' is not an ImageID"):
        Query("Cat", image_ids=tmp_path / "ids.txt")
    with pytest.raises(BadInput, match="no list of ImageIDs"):
        Query("Cat", image_ids="none.txt")


# Allowed values


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"limit": "5"}, "The limit is '5'; it must be a whole number"),
        ({"limit": 0}, "The limit is 0; it must be at least 1"),
        ({"limit": True}, "whole number"),
        ({"seed": 1.5}, "The seed is 1.5"),
        ({"subset": "tset"}, "Unknown subset 'tset'. Allowed: train, validation, test, all"),
        ({"drop": "blurred"}, "Unknown flag to drop 'blurred'. Allowed: occluded"),
        ({"subset": ["train", "tset"]}, "Unknown subset 'tset'"),
        ({"release": "v8"}, "Unknown release 'v8'. Allowed: v4, v5, v6, v7, sample"),
        ({"release": ("v4", "v5")}, "Unknown release ('v4', 'v5')"),
        ({"sample": True, "release": "v7"}, "--sample is short for --release sample"),
        ({"sample": True, "base_url": "x"}, "The sample has no base URL"),
    ],
)
def test_values_that_are_not_allowed(options, word):
    """The error has the value and what is allowed, and no table is downloaded."""
    with pytest.raises(BadInput) as error:
        ask("Cat", **options)
    assert word in str(error.value)


def test_subsets_of_a_query():
    """Subsets may be any iterable of names, but not empty."""
    assert Query("Cat", subsets=iter(["test", "train"])).subsets == ("train", "test")
    with pytest.raises(BadInput, match=r"Unknown subset ''\. Allowed: train"):
        Query("Cat", subsets=[])


def test_query_to_json_and_back():
    """A query survives conversion to JSON and back; unknown keys are ignored."""
    query = Query("Cat", "v7", "all", 5, 1, True, "group", True, [image_id(1)], "Dog", "A=Cat,Dog")
    content = json.loads(json.dumps(query.to_json()))
    assert Query.from_json(content | {"later": 1}) == query
    assert content["subsets"] == ["train", "validation", "test"]


# Tables


def test_subsets(tmp_path):
    """Only the given subsets are read; 'all' reads all of them."""
    tables = write_site(tmp_path, [photo_row(n, "a.jpg", subset=s) for n, s in enumerate(SUBSETS)])
    assert take(["Cat"], tables).photos["Subset"].tolist() == ["train"]
    assert set(take(["Cat"], tables, subset=["test", "train"]).photos["Subset"]) == {
        "test",
        "train",
    }
    assert set(take(["Cat"], tables, subset="all").photos["Subset"]) == set(SUBSETS)


def test_tables_on_disk(tmp_path):
    """Explicit paths of tables need no site, and may hold any subset."""
    other = site_of(tmp_path / "other", [[CAT]] * 3, subset="test")
    found = take(
        ["Cat"],
        "http://127.0.0.1:9/nowhere",
        class_names=other / table_path("classes"),
        boxes=other / table_path("boxes", "test"),
        photos=other / table_path("photos", "test"),
    )
    assert found.photos["Subset"].tolist() == ["test"] * 3


@pytest.mark.parametrize("class_names", [False, True])
def test_a_site_without_a_hierarchy(site, class_names):
    """A missing hierarchy is an error only with children."""
    (site / table_path("hierarchy")).unlink()
    given = {"class_names": site / table_path("classes")} if class_names else {}
    assert len(take(["Cat"], site, **given).boxes) == 2
    with pytest.raises(BadInput, match=r"no table .*hierarchy"):
        take(["Cat"], site, with_children=True, **given)


def test_a_broken_row_warns(site):
    """A broken row of a wanted category is left out and named; other rows count."""
    path = site / table_path("boxes", "train")
    lines = path.read_text(encoding="utf-8").splitlines()
    for n, mark in ((1, "1.9"), (2, "2.9")):
        lines[n] = lines[n].replace("0.9", mark)
    path.write_text("\n".join([*lines, "short,line"]), encoding="utf-8")
    with pytest.warns(UserWarning, match=r"2 rows .* \(line 10: missing columns; ImageID 0+: XMax"):
        found = taken(Selector(Query("Cat"), Site(base_url=site)))
    assert len(found.boxes) == 1


def test_a_box_without_photo_warns(site):
    """Boxes of a photo that is missing from the photo table are left out with a warning."""
    path = site / table_path("photos", "train")
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(lines[:1] + lines[2:]), encoding="utf-8")
    with pytest.warns(UserWarning, match=r"1 photo has boxes but no row"):
        found = taken(Selector(Query("Cat"), Site(base_url=site)))
    assert ids(found) == [image_id(5)] and set(found.boxes["ImageID"]) == {image_id(5)}


def test_a_broken_photo_row_is_reported_once(site):
    """A photo without a sound row is reported as a broken row; a sound row after it counts."""
    path = site / table_path("photos", "train")
    lines = path.read_text(encoding="utf-8").splitlines()
    broken = [line.replace("train", "trian") for line in lines]
    assert broken[1] != lines[1]
    for rows, photos in (
        ([broken[0], broken[1], *lines[2:]], [image_id(5)]),
        ([broken[0], broken[1], *lines[1:]], [image_id(0), image_id(5)]),
    ):
        path.write_text("\n".join(rows), encoding="utf-8")
        with pytest.warns(UserWarning, match=r"1 row breaks .* the Subset is none of") as said:
            found = taken(Selector(Query("Cat"), Site(base_url=site)))
        assert sorted(ids(found)) == photos and len(said) == 1


def test_a_photo_listed_twice(site):
    """A repeated ImageID counts once."""
    path = site / table_path("photos", "train")
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([*lines, lines[1].replace("No. 0", "Again")]), encoding="utf-8")
    assert sorted(take("Cat", site).photos["Title"]) == ["No. 0", "No. 5"]


def test_flags_left_out():
    """Dropping a flag keeps unknown values; drop_unknown drops these."""
    boxes = pd.DataFrame({flag: [0, 1, -1] for flag in FLAGS})
    assert without_flags(boxes, ["group"]).index.tolist() == [0, 2]
    assert without_flags(boxes, [], drop_unknown=True).index.tolist() == [0, 1]


# Order and limit


def test_order_is_seed_and_id_alone(tmp_path):
    """The order of photos does not depend on other photos, but on the seed."""
    many = ids(take(["Cat"], site_of(tmp_path / "many", [[CAT]] * 40)))
    few = ids(take(["Cat"], site_of(tmp_path / "few", [[CAT]] * 20)))
    assert [image_id for image_id in many if image_id in few] == few
    assert few != sorted(few)
    other = ids(take(["Cat"], tmp_path / "few" / "2018_04", seed=1))
    assert other != few and sorted(other) == sorted(few)


def test_a_limit_keeps_proportions(tmp_path):
    """Each limit takes subsets in proportion, and includes the photos of smaller limits."""
    sizes = {"train": 70, "validation": 10, "test": 20}
    subsets = [subset for subset, size in sizes.items() for _ in range(size)]
    photos = [photo_row(n, "a.jpg", subset=subset) for n, subset in enumerate(subsets)]
    tables = write_site(tmp_path, photos)
    before = []
    for limit in (1, 2, 3, 10, 25, 64, 99, 100):
        taken = take(["Cat"], tables, subset="all", limit=limit).photos
        assert taken["ImageID"].tolist()[: len(before)] == before
        before = taken["ImageID"].tolist()
        for subset, size in sizes.items():
            assert abs((taken["Subset"] == subset).sum() - limit * size / 100) <= 1


def test_a_limit_counts_for_each_category(tmp_path):
    """A photo with two categories counts for both."""
    tables = site_of(tmp_path, [[CAT], [SANDWICH], [CAT, SANDWICH]] * 12)
    before = set()
    for limit in (1, 2, 7, 13, 24, 25):
        taken = take(["Cat", "Sandwich"], tables, limit=limit)
        assert before <= set(ids(taken))
        before = set(ids(taken))
        for name in ("Cat", "Sandwich"):
            own = taken.boxes[taken.boxes["Category"] == name]["ImageID"].nunique()
            assert min(limit, 24) <= own <= 24
    assert len(before) == 36


def test_the_next_takes_the_place_of_the_gone(tmp_path):
    """A gone photo does not count towards the limit, but stays in the list."""
    tables = site_of(tmp_path, [[CAT]] * 100)
    order = ids(take(["Cat"], tables))
    selector = Selector(*ask("Cat", base_url=tables, limit=3))
    assert [name for name, _ in selector.take()] == order[:3]
    found = taken(selector, {order[1], order[50]})
    assert ids(found) == order[:4]
    assert set(found.boxes["ImageID"]) == {order[0], order[2], order[3]}
    assert [name for name, _ in selector.take(order[:60])] == order[:63]
    assert [name for name, _ in selector.take()] == order[:3]


def test_counts(site):
    """Photos are counted per category and in total, where a shared photo counts once."""
    counts = Selector(*ask(["Cat", "Sandwich"], base_url=site)).describe()
    assert {name: of["photos"] for name, of in counts.items()} == {
        "Cat": 2, "Sandwich": 2, "in all": 3,
    }  # fmt: skip
    assert [of["boxes"] for of in counts.values()] == [2, 2, 4]
    assert counts["in all"]["unsized"] == 3 and counts["in all"]["bytes"] == 0
    assert counts["Cat"]["licences"] == {"CC BY 2.0": 2}


# V7


def test_a_site_like_v7(tmp_path):
    """V7's file names, extra columns and headers work; photos and hierarchy stay in 2018_04/."""
    photos = [photo_row(n, f"../photos/{n}.jpg", subset=SUBSETS[n % 3]) for n in range(9)]
    tables = write_site(tmp_path, photos)
    (tables / table_path("classes")).unlink()
    clicks = {f"XClick{n}{axis}": 0.5 for axis in "XY" for n in range(1, 5)}
    for n, subset in enumerate(SUBSETS):
        (tables / table_path("boxes", subset)).unlink()
        rows = [box_row(photo, DOG, IsGroupOf=-1) for photo in range(n, 9, 3)]
        path = tables / catalogue.table_paths("v7", "boxes", subset)[0]
        write_csv(path, [row | clicks for row in rows] if subset == "train" else rows)
    path = tmp_path / "v7/oidv7-class-descriptions-boxable.csv"
    write_csv(path, [{"LabelName": DOG, "DisplayName": "Dog"}])
    query, site = ask("dog", "all", release="v7", base_url=tmp_path)
    found = taken(Selector(query, site))
    assert len(found.photos) == 9 and (found.boxes["IsGroupOf"] == -1).all()
    assert Path(site.base) == tables
    # V5 uses V4's train boxes.
    own = (table_path("boxes", "train"),)
    assert catalogue.table_paths("v5", "boxes", "train") == own


# SQL views


def test_connect(tmp_path):
    """Views hold all valid rows of the chosen subsets; labels exist only if published."""
    photos = [photo_row(n, "a.jpg", subset=SUBSETS[n % 3], Rotation="") for n in range(6)]
    tables = write_site(tmp_path, photos)
    path = tables / table_path("boxes", "test")
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([*lines, "0,0", lines[-1].replace("0.9", "9")]), encoding="utf-8")
    with pytest.warns(UserWarning, match=r"1 row breaks") as said:
        db = openimager.connect("v4", "all", base_url=tables, quiet=True)
    assert {"line 4", "XMax"} == {
        word for word in ("line 4", "XMax") for w in said if word in str(w)
    }
    count = (
        "SELECT Category, Subset, count(*) FROM boxes JOIN classes USING (LabelName) GROUP BY ALL"
    )
    assert set(db.sql(count).fetchall()) == {("Cat", subset, 2) for subset in SUBSETS}
    assert db.sql("SELECT count(*) FROM photos WHERE Rotation IS NULL").fetchall() == [(6,)]
    views = {row[0] for row in db.execute("SHOW TABLES").fetchall()}
    assert views == {"boxes", "photos", "classes"}
    given = {"boxes": tables / table_path("boxes", "train"), "base_url": tables}
    db = openimager.connect("v4", "all", quiet=True, **given)
    assert db.sql("SELECT DISTINCT Subset FROM boxes").fetchall() == [("",)]
    db = openimager.connect("sample", quiet=True)
    assert db.sql("SELECT DISTINCT Subset FROM labels").fetchall() == [("train",)]
    with pytest.raises(BadInput, match=r"'v9'"):
        openimager.connect("v9")


# Comparison with pandas


class Oracle:
    """The same selection in plain pandas."""

    def __init__(self, site):
        self.boxes, self.photos = (
            pd.concat(
                pd.read_csv(site / table_path(kind, subset)).assign(Subset=subset)
                for subset in SUBSETS
            )
            for kind in ("boxes", "photos")
        )
        self.classes = categories.read_classes(site / table_path("classes"))
        self.hierarchy = categories.read_hierarchy(site / table_path("hierarchy"))
        self.mids = {name: mid for mid, name in self.classes.items()}

    def kinds(self, names, with_children):
        """Map each LabelName to the requested category that it counts as."""
        steps = {self.mids[name]: (0, name) for name in names}
        for name in names if with_children else ():
            for mid, n in self.hierarchy.descendants(self.mids[name]).items():
                steps[mid] = min(steps.get(mid, (n, name)), (n, name), key=lambda one: one[0])
        return {mid: name for mid, (_, name) in steps.items()}

    def take(self, query, gone):
        """Return the ImageIDs of candidate photos, and their boxes with categories."""
        renamed = {member: name for name, members in query.merge for member in members}
        asked = list(dict.fromkeys([*query.categories, *renamed]))
        label = self.kinds(asked, query.with_children)
        boxes = self.boxes[self.boxes["Subset"].isin(query.subsets)]
        out = boxes[boxes["LabelName"].isin(self.kinds(query.without, query.with_children))]
        boxes = boxes[~boxes["ImageID"].isin(out["ImageID"]) & boxes["LabelName"].isin(label)]
        boxes = without_flags(boxes, query.drop, query.drop_unknown)
        boxes["Category"] = boxes["LabelName"].map(label).map(lambda name: renamed.get(name, name))
        photos = set()
        for _, own in boxes.groupby("Category"):
            order = []
            for _, mine in own.drop_duplicates("ImageID").groupby("Subset"):
                key = {
                    i: hashlib.md5(f"{query.seed}:{i}".encode()).hexdigest()[:12]
                    for i in mine["ImageID"]
                }
                ranked = sorted(key, key=lambda i: (key[i], i))
                order += [((n + 0.5) / len(ranked), key[i], i) for n, i in enumerate(ranked)]
            left = query.limit
            for _, _, photo in sorted(order):
                if left == 0:
                    break
                photos.add(photo)
                if left is not None and photo not in gone:
                    left -= 1
        boxes = boxes[boxes["ImageID"].isin(photos - gone)]
        rows = boxes[["ImageID", "LabelName", "Category", "XMin", "IsInside"]]
        return photos, sorted(rows.itertuples(index=False, name=None))


MIRROR = Path(__file__).parents[2] / "shared/mirror"


@pytest.mark.parametrize("name", ["sample", pytest.param("fruit", marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_against_pandas(name):
    """Thirty random queries select the same photos and boxes as plain pandas."""
    if name != "sample" and not MIRROR.exists():
        pytest.skip("the mirror of real photos is not here")
    site = sample.build() if name == "sample" else MIRROR / name / "2018_04"
    oracle, rng, selected = Oracle(site), random.Random(0), 0
    there = sorted({oracle.classes[mid] for mid in oracle.boxes["LabelName"]})
    kinds = sorted(
        {
            oracle.classes[p]
            for n in there
            for p in oracle.hierarchy.parents(oracle.mids[n])
            if p in oracle.classes
        }
    )
    every_id = sorted(oracle.photos["ImageID"])
    for _ in range(30):
        names = rng.sample([*there, *kinds], min(rng.randint(1, 4), len(there)))
        merged = names[: rng.choice((0, 0, 2))]
        query = Query(
            names,
            subsets=rng.sample(SUBSETS, rng.randint(1, 3)),
            limit=rng.choice((None, 1, 5, 20, 60)),
            seed=rng.randint(0, 3),
            with_children=rng.random() < 0.4,
            drop=rng.sample(sorted(DROPS), rng.choice((0, 0, 1, 2))),
            drop_unknown=rng.random() < 0.3,
            merge=[("Both", merged)] if merged else [],
            without=rng.sample(there, rng.choice((0, 0, 1))) if name == "sample" else (),
        )
        gone = set(rng.sample(every_id, len(every_id) // 5))
        try:
            found = taken(Selector(query, Site(base_url=site)), gone)
        except BadInput as error:
            if "both wanted" not in str(error):
                assert "nothing is selected" in str(error) and not oracle.take(query, set())[0]
            continue
        photos, boxes = oracle.take(query, gone)
        assert set(ids(found)) == photos, query
        columns = ["ImageID", "LabelName", "Category", "XMin", "IsInside"]
        assert sorted(found.boxes[columns].itertuples(index=False, name=None)) == boxes, query
        selected += bool(boxes)
    assert selected > 15
