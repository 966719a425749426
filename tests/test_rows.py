"""The wanted rows are found wherever they stand, and the broken ones are named."""

import csv
import random
from pathlib import Path

import pytest

from openimager import rows
from openimager.errors import BadInput

CAT, DOG = "/m/01yrx", "/m/0bt9lr"
GOOD = [
    "0123456789abcdef",
    "xclick",
    CAT,
    "1",
    "0.1",
    "0.5",
    "0.2",
    "0.6",
    "0",
    "1",
    "0",
    "0",
    "-1",
]
REAL = Path(__file__).parents[2] / "shared/mirror/flickr-rows"


def write(path, header, records, end="\n"):
    """Write a CSV table."""
    with open(path, "w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator=end).writerows([header, *records])
    return path


def box(**fields):
    """Return a good row of the table of boxes with some fields changed."""
    row = dict(zip(rows.BOX_COLUMNS, GOOD, strict=True)) | fields
    return list(row.values())


def photo(image_id, **fields):
    """Return a row of the table of photos."""
    row = dict.fromkeys(rows.PHOTO_COLUMNS, "") | {"ImageID": image_id, "Subset": "train"}
    return list((row | {"OriginalSize": "10", "Rotation": "90.0"} | fields).values())


def test_only_the_wanted(tmp_path):
    """Boxes of other categories stay out, even those whose MID begins alike."""
    table = write(tmp_path / "b.csv", rows.BOX_COLUMNS, [box(), box(LabelName=CAT + "2"), box()])
    found = rows.read_boxes(table, [CAT])
    assert len(found.frame) == 2 and found.bad == 0
    assert tuple(found.frame.columns) == rows.BOX_COLUMNS
    row = found.frame.iloc[0]
    assert (row["XMin"], row["YMax"], row["IsInside"], row["IsTruncated"]) == (0.1, 0.6, -1, 1)


@pytest.mark.parametrize("block", [7, 64, 1000, 1 << 20])
def test_blocks_and_batches(tmp_path, monkeypatch, block):
    """No row is lost or doubled where a block or a batch ends."""
    monkeypatch.setattr(rows, "_BLOCK", block)
    monkeypatch.setattr(rows, "_BATCH", 3000)
    labels = [CAT, DOG, "/m/0l515"]
    rng = random.Random(block)
    records = [
        box(ImageID=f"{n:016x}", LabelName=rng.choice(labels), Source="x" * rng.randrange(9))
        for n in range(200)
    ]
    table = write(tmp_path / "b.csv", rows.BOX_COLUMNS, records)
    for wanted in ([CAT], [CAT, DOG], labels):
        found = rows.read_boxes(table, wanted).frame
        assert found["ImageID"].tolist() == [r[0] for r in records if r[2] in wanted]


def test_no_line_end_at_the_end(tmp_path):
    """The last row counts without a line end, and with the ends of Windows."""
    for end in ("\n", "\r\n"):
        table = write(tmp_path / "b.csv", rows.BOX_COLUMNS, [box(), box()], end)
        table.write_bytes(table.read_bytes().removesuffix(end.encode()))
        found = rows.read_boxes(table, [CAT])
        assert len(found.frame) == 2 and not found.bad


def test_columns_by_name(tmp_path):
    """Columns may stand in another order, quoted, with others among them."""
    header = ["Extra", *reversed(rows.BOX_COLUMNS)]
    with open(tmp_path / "b.csv", "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, quoting=csv.QUOTE_ALL)
        writer.writerows([header, ["?", *reversed(GOOD)]])
    found = rows.read_boxes(tmp_path / "b.csv", [CAT])
    assert found.frame.iloc[0]["XMax"] == 0.5 and not found.bad


BROKEN = {
    "it has too few or": GOOD[:-1],
    "it has too few or too many": [*GOOD, "0"],
    "the ImageID is not": box(ImageID="../../etc/passwd"),
    "XMin is not a number": box(XMin="-0.1"),
    "YMax is not a number": box(YMax="1.5"),
    "XMax is not a number": box(XMax="wide"),
    "YMin is not a number": box(YMin="nan"),
    "XMin is larger": box(XMin="0.9"),
    "YMin is larger": box(YMin="0.9"),
    "IsOccluded is not": box(IsOccluded="2"),
    "IsInside is not": box(IsInside=""),
}


@pytest.mark.parametrize("word", BROKEN)
def test_a_broken_row_is_named(tmp_path, word):
    """A wanted row that breaks the format is left out, counted and named with its line."""
    other = box(LabelName=DOG, XMin="7")
    table = write(tmp_path / "b.csv", rows.BOX_COLUMNS, [box(), other, BROKEN[word], box()])
    found = rows.read_boxes(table, [CAT])
    assert len(found.frame) == 2 and found.bad == 1
    assert found.examples[0].startswith(f"line 4: {word}")


def test_many_broken_rows(tmp_path, monkeypatch):
    """All broken rows are counted, the first five are named."""
    monkeypatch.setattr(rows, "_BLOCK", 200)
    table = write(tmp_path / "b.csv", rows.BOX_COLUMNS, [box(), *[box(XMin="2")] * 30])
    found = rows.read_boxes(table, [CAT])
    assert found.bad == 30
    assert [text.split(":")[0] for text in found.examples] == [f"line {n}" for n in range(3, 8)]


def test_missing_columns(tmp_path):
    """A table without its columns is an error that names them."""
    table = write(tmp_path / "b.csv", rows.BOX_COLUMNS[:-2], [])
    with pytest.raises(BadInput, match="lacks the columns IsDepiction, IsInside"):
        rows.read_boxes(table, [CAT])
    with pytest.raises(BadInput, match="no table"):
        rows.read_boxes(tmp_path / "none.csv", [CAT])


@pytest.mark.parametrize("block", [64, 1 << 20])
def test_photos_need_no_order(tmp_path, monkeypatch, block):
    """Photo rows are found in any order; quotes, commas, line ends and entities survive."""
    monkeypatch.setattr(rows, "_BLOCK", block)
    ids = [f"{n * 7919:016x}" for n in range(50)]
    records = [photo(i, Title=f'é, "{i}" &amp; b', Author="Zoë, Ü.") for i in ids]
    random.Random(1).shuffle(records)
    table = write(tmp_path / "p.csv", rows.PHOTO_COLUMNS, records)
    found = rows.read_photos(table, ids[::2])
    assert sorted(found.frame["ImageID"]) == ids[::2] and not found.bad
    first = found.frame.iloc[0]
    assert first["Title"] == f'é, "{first["ImageID"]}" &amp; b'
    assert (first["OriginalSize"], first["Rotation"], first["Author"]) == (10, 90.0, "Zoë, Ü.")


def test_a_title_of_two_lines(tmp_path):
    """A quoted line end belongs to its record."""
    table = write(tmp_path / "p.csv", rows.PHOTO_COLUMNS, [photo("0" * 16, Title="one\ntwo")])
    assert rows.read_photos(table, ["0" * 16]).frame.iloc[0]["Title"] == "one\ntwo"


def test_what_a_photo_row_may_lack(tmp_path):
    """Size and Rotation may be empty; an impossible one is a broken row."""
    a, b, c, d = ("a" * 16, "b" * 16, "c" * 16, "d" * 16)
    records = [
        photo(a, OriginalSize="", Rotation=""),
        photo(b, Rotation="45"),
        photo(c, Subset="../../up"),
        photo(d, OriginalSize="-4"),
    ]
    found = rows.read_photos(write(tmp_path / "p.csv", rows.PHOTO_COLUMNS, records), [a, b, c, d])
    assert found.frame["ImageID"].tolist() == [a] and found.bad == 3
    assert found.frame["OriginalSize"].isna().all() and found.frame["Rotation"].isna().all()


def test_chunks(tmp_path):
    """Chunks hold the asked columns alone, in the asked order, and every row once."""
    table = write(
        tmp_path / "b.csv", rows.BOX_COLUMNS, [box(ImageID=f"{n:016x}") for n in range(25)]
    )
    parts = list(rows.chunks(table, ["LabelName", "ImageID"], rows=10))
    assert [len(part) for part in parts] == [10, 10, 5]
    assert list(parts[0].columns) == ["LabelName", "ImageID"]


@pytest.mark.skipif(not REAL.exists(), reason="the mirror of real rows is not here")
@pytest.mark.parametrize("subset", rows.SUBSETS)
def test_real_rows(subset):
    """Real titles, authors, quotes and URLs are read as Python's own csv reads them."""
    from openimager.metadata import table_path

    with open(REAL / table_path("photos", subset), encoding="utf-8", newline="") as stream:
        expected = {row["ImageID"]: row for row in csv.DictReader(stream)}
    found = rows.read_photos(REAL / table_path("photos", subset), expected)
    assert not found.bad and len(found.frame) == len(expected) == 1000
    for row in found.frame.to_dict("records"):
        for name in (
            "OriginalURL",
            "Author",
            "Title",
            "License",
            "OriginalMD5",
            "Thumbnail300KURL",
        ):
            assert row[name] == expected[row["ImageID"]][name]
        assert str(row["OriginalSize"]) == expected[row["ImageID"]]["OriginalSize"]
    with open(REAL / table_path("boxes", subset), encoding="utf-8", newline="") as stream:
        boxes = list(csv.DictReader(stream))
    labels = {row["LabelName"] for row in boxes}
    found = rows.read_boxes(REAL / table_path("boxes", subset), labels)
    assert len(found.frame) == len(boxes) and not found.bad
    assert found.frame["XMin"].tolist() == [float(row["XMin"]) for row in boxes]
