"""Reading published tables in their various forms, and reporting rows with errors."""

import contextlib
import csv
import threading
import warnings
from pathlib import Path

import pytest
from builders import table_path

from openimager.errors import BadInput
from openimager.store import BOX_COLUMNS, PHOTO_COLUMNS, SUBSETS
from openimager.tables import cache, categories, views

CAT = "/m/01yrx"
VALUES = ("0" * 16, "xclick", CAT, 1, 0.1, 0.5, 0.2, 0.6, 0, 1, 0, 0, -1)
GOOD = dict(zip(BOX_COLUMNS, VALUES, strict=True))
PICTURE = dict.fromkeys(PHOTO_COLUMNS, "") | {"ImageID": "0" * 16, "Subset": "train"}


def write(path, records, header=None, encoding="utf-8", **dialect):
    """Write a CSV table from dicts, or from lists for rows with a wrong number of fields."""
    header = header or list(records[0])
    rows = [r if isinstance(r, list) else [r[name] for name in header] for r in records]
    with open(path, "w", encoding=encoding, newline="") as stream:
        csv.writer(stream, **{"lineterminator": "\n"} | dialect).writerows([header, *rows])
    return path


def read(path, kind):
    """Return the valid rows of a table, and the warning about the others."""
    with (
        contextlib.closing(views.open_database(path.parent / "cache")) as con,
        warnings.catch_warnings(record=True) as said,
    ):
        con.execute(f"CREATE TEMP TABLE t AS {views.source(path, kind)}")
        good = con.execute("SELECT * EXCLUDE Fault FROM t WHERE Fault IS NULL")
        names = [one[0] for one in good.description]
        good = [dict(zip(names, row, strict=True)) for row in good.fetchall()]
        views.warn_of_bad_rows(con, [path], "t")
    return good, "".join(str(one.message) for one in said)


@pytest.mark.parametrize(
    "form",
    [
        {"lineterminator": "\r\n"},
        {"encoding": "utf-8-sig"},
        {"quoting": csv.QUOTE_ALL},
        {"header": BOX_COLUMNS[::-1]},
        {"header": ["ImageID", "XClick1X", *BOX_COLUMNS[1:]]},
    ],
    ids=str,
)
def test_forms_of_a_table(tmp_path, form):
    """Line ends, quotes, a byte order mark, column order and more columns do not matter."""
    record = GOOD | {"XClick1X": 0.3}
    path = write(tmp_path / "b.csv", [record] * 2, **{"header": [*GOOD]} | form)
    path.write_bytes(path.read_bytes().rstrip())
    assert read(path, "boxes") == ([GOOD] * 2, "")


BROKEN = {
    "line 3: missing columns": [*VALUES[:-1]],
    "line 3: too many columns": [*VALUES, 0],
    "line 3: XMax is not a number": GOOD | {"XMax": "wide"},
    "the ImageID is not": GOOD | {"ImageID": "../../etc/passwd"},
    "XMin is not a number in 0..1": GOOD | {"XMin": -0.1},
    "YMax is not a number in 0..1": GOOD | {"YMax": 1.5},
    "YMin is not a number in 0..1": GOOD | {"YMin": "nan"},
    "XMin is larger": GOOD | {"XMin": 0.9},
    "YMin is larger": GOOD | {"YMin": 0.9},
    "IsOccluded is not -1, 0 or 1": GOOD | {"IsOccluded": 2},
    "IsInside is not -1, 0 or 1": GOOD | {"IsInside": ""},
}


@pytest.mark.parametrize("word", BROKEN)
def test_a_broken_row_is_named(tmp_path, word):
    """Invalid rows are left out, counted and named, in CSV as in Parquet files."""
    path = write(tmp_path / "b.csv", [GOOD, BROKEN[word], GOOD])
    good, said = read(path, "boxes")
    assert good == [GOOD] * 2 and said.startswith("b.csv: 1 row breaks") and word in said
    parquet = tmp_path / "b.parquet"
    with warnings.catch_warnings(record=True) as unread:
        views.convert(
            path, parquet, "boxes", cache.Site(cache_dir=tmp_path, quiet=True), threading.Event()
        )
    good, said = read(parquet, "boxes")
    assert good == [GOOD] * 2 and word in said + "".join(str(one.message) for one in unread)


def test_many_broken_rows(tmp_path):
    """All invalid rows are counted, but only the first five are named."""
    broken = [[*VALUES, 0]] * 3 + [GOOD | {"XMin": 2}] * 27
    good, said = read(write(tmp_path / "b.csv", [GOOD, *broken]), "boxes")
    assert len(good) == 1 and said.startswith("b.csv: 30 rows break")
    assert (said.count("line"), said.count("ImageID 0")) == (3, 2) and said.endswith(", ...).")


def test_missing_columns(tmp_path):
    """The error names the missing columns; files that are not tables are errors too."""
    path = write(tmp_path / "b.csv", [], header=BOX_COLUMNS[:-2])
    with pytest.raises(BadInput, match="lacks the columns IsDepiction, IsInside"):
        views.source(path, "boxes")
    for name in ("none.csv", "none.parquet"):
        with pytest.raises(BadInput, match="no table"):
            views.source(tmp_path / name, "boxes")
        (tmp_path / name).write_bytes(bytes(range(256)))
        with pytest.raises(BadInput, match=r"lacks the columns|could not be read"):
            views.source(tmp_path / name, "boxes")


def test_photos(tmp_path):
    """Quotes, commas, line ends and entities are kept; size and rotation may be empty."""
    records = [
        PICTURE | {"Title": 'é, "x" &amp;\nb', "OriginalSize": 10, "Rotation": 90.0},
        PICTURE,
        PICTURE | {"Rotation": 45},
        PICTURE | {"Subset": "../../up"},
        PICTURE | {"OriginalSize": -4},
    ]
    good, said = read(write(tmp_path / "p.csv", records), "photos")
    assert good == [records[0], PICTURE | {"OriginalSize": None, "Rotation": None}]
    assert "3 rows break" in said


@pytest.mark.parametrize(("at", "lost"), [(5, range(4, 1501)), (2000, range(1999, 2000))])
def test_unbalanced_quotes(tmp_path, at, lost):
    """A stray quote is named; it costs the rows up to the next quote, or to the end."""
    records = [PICTURE | {"Title": "t", "Author": str(number)} for number in range(2000)]
    records[1500]["Title"] = "a, b"  # is written in quotes
    path = write(tmp_path / "p.csv", records)
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[at] = lines[at].replace(",t,", ',"t,')
    path.write_text("\n".join(lines), encoding="utf-8")
    good, said = read(path, "photos")
    assert f"line {at + 1}: unquoted value" in said
    kept = [number for number in range(2000) if number not in lost]
    assert [int(row["Author"]) for row in good] == kept


def test_a_quoted_line_end_anywhere(tmp_path):
    """A quoted line end is part of its row, even at the end of a reader's block."""
    titles = [f"{n}\n" + "x" * (n % 4099) for n in range(2000)]
    path = write(tmp_path / "p.csv", [PICTURE | {"Title": title} for title in titles])
    good, said = read(path, "photos")
    assert not said and [row["Title"] for row in good] == titles


MIRROR = Path(__file__).parents[2] / "shared/mirror"
mirrored = pytest.mark.skipif(not MIRROR.exists(), reason="the mirror of real rows is not here")


@mirrored
@pytest.mark.parametrize("subset", SUBSETS)
@pytest.mark.parametrize("kind", ["photos", "boxes"])
def test_real_rows(kind, subset):
    """Real titles, authors, quotes and URLs are read as by Python's csv module."""
    path = MIRROR / "flickr-rows" / table_path(kind, subset)
    with open(path, encoding="utf-8", newline="") as stream:
        expected = list(csv.DictReader(stream))
    good, said = read(path, kind)
    assert not said and len(good) == len(expected)
    for row, text in zip(good, expected, strict=True):
        for name, value in row.items():
            number = float(text[name]) if text[name] and not isinstance(value, str) else None
            assert value == (text[name] if isinstance(value, str) else number)


@pytest.mark.parametrize("header", ["LabelName,DisplayName", "id,name", ""])
def test_class_table_with_a_header(tmp_path, header):
    """The class table may have a header of two columns."""
    path = tmp_path / "classes.csv"
    path.write_text(f"{header}\n/m/01yrx,Cat\n".lstrip(), encoding="utf-8")
    assert categories.read_classes(path) == {CAT: "Cat"}


@pytest.mark.parametrize("text", ["id,name\n", "/m/01yrx,Cat\nDog\n", "<html>\n/m/01yrx,Cat\n"])
def test_not_a_class_table(tmp_path, text):
    """Rows other than MID and name are errors."""
    path = tmp_path / "classes.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match="is not a MID and a name"):
        categories.read_classes(path)


def test_line_of_a_bad_class(tmp_path):
    """Empty lines count, too."""
    path = tmp_path / "classes.csv"
    path.write_text("\nid,name\n/m/01yrx,Cat\n\nDog\n", encoding="utf-8")
    with pytest.raises(BadInput, match="line 5: 'Dog'"):
        categories.read_classes(path)


def test_a_graph_with_a_ring():
    """A hierarchy with a cycle does not cause endless recursion."""
    tree = {"LabelName": "b", "Subcategory": [{"LabelName": "a"}]}
    tree = {"LabelName": "a", "Subcategory": [tree]}
    assert categories.Hierarchy(tree).descendants("a") == {"b": 1}


@mirrored
def test_real_hierarchy():
    """In the real hierarchy a hamburger is a sandwich, and a nose is not a person."""
    tables = MIRROR / "fruit/2018_04"
    classes = categories.read_classes(tables / table_path("classes"))
    hierarchy = categories.read_hierarchy(tables / table_path("hierarchy"))
    names = ["Sandwich", "Hamburger", "Person", "Human nose"]
    sandwich, hamburger, person, nose = categories.resolve(names, classes)
    assert hamburger in hierarchy.descendants(sandwich)
    assert nose not in hierarchy.descendants(person)
    assert len(classes) == 601 and len(hierarchy.descendants(hierarchy.root)) >= 570
