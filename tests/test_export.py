"""Exports to COCO, YOLO, Croissant and class folders, read with the tools of these formats."""

import json
import os
import subprocess
import sys

import mlcroissant
import numpy as np
import pytest
from package_tree import IDS, ROTATIONS, check_yolo, datasets_says, make_tree
from PIL import Image
from pycocotools.coco import COCO

from openimager.errors import BadInput
from openimager.export import __main__ as command
from openimager.export import write_coco, write_croissant, write_yolo
from openimager.store import Store


@pytest.fixture
def data(tmp_path):
    return make_tree(tmp_path) / "data"


@pytest.fixture
def loaded(data, capsys):
    write_coco(data)
    return COCO(str(data / "boxes.coco.json"))


def test_pycocotools_reads_boxes_in_pixels(loaded):
    """COCO has every box with an area, in pixels of the stored photo."""
    assert len(loaded.anns) == 6
    assert all(a["bbox"] == [0, 4, 30, 36] and a["area"] == 1080 for a in loaded.anns.values())
    cat = loaded.getCatIds(catNms=["Cat"])
    photos = loaded.loadImgs(loaded.getImgIds(catIds=cat))
    assert [p["file_name"] for p in photos] == [f"images/{IDS[i]}.jpg" for i in (0, 2, 4)]
    assert sorted(c["name"] for c in loaded.cats.values()) == ["Cat", "Hot dog"]


def test_coco_photos_have_the_recorded_size(loaded, data):
    """file_name is relative to the data directory; width and height are the stored photo's."""
    assert len(loaded.imgs) == 6
    for photo in loaded.imgs.values():
        with Image.open(data / photo["file_name"]) as picture:
            assert picture.size == (photo["width"], photo["height"])
    assert [p["rotation"] for p in loaded.imgs.values()] == [0, 90, 270, 0, 180, 0]


def test_coco_licences_are_filled_in(loaded):
    """Every photo has a licence from the file's list, and its page on Flickr."""
    licences = {licence["id"]: licence for licence in loaded.dataset["licenses"]}
    for photo in loaded.imgs.values():
        assert licences[photo["license"]]["name"] == "CC BY 2.0"
        assert photo["flickr_url"].startswith("https://example.org/photos/")


def test_coco_url_is_where_the_photo_came_from(data):
    """Photos with a relative OriginalURL have no coco_url; for others it depends on Source."""
    store = Store(data)
    assert not any("coco_url" in photo for photo in write_coco(data)["images"])
    photos = store.read_table("images.csv").drop(index=6)
    photos["OriginalURL"] = "https://farm1.staticflickr.com/1_o.jpg"
    photos["Source"] = ["flickr", "cvdf", "https://host/{Subset}/{ImageID}.jpg"] * 2
    store.write_table(photos, "images.csv")
    urls = [photo["coco_url"] for photo in write_coco(data)["images"]]
    assert urls[0] == "https://farm1.staticflickr.com/1_o.jpg"
    assert urls[1] == f"https://open-images-dataset.s3.amazonaws.com/train/{IDS[1]}.jpg"
    assert urls[5] == f"https://host/test/{IDS[5]}.jpg"


def test_coco_groups_are_crowds_and_flags_are_kept(loaded):
    """IsGroupOf becomes iscrowd; all five flags are kept, including unknown (-1)."""
    crowds = [a for a in loaded.anns.values() if a["iscrowd"]]
    assert [loaded.imgs[a["image_id"]]["file_name"] for a in crowds] == [f"images/{IDS[2]}.jpg"]
    assert crowds[0]["attributes"]["IsGroupOf"] == 1
    assert crowds[0]["attributes"]["IsOccluded"] == -1


def test_coco_boxes_are_cut_at_the_edge(data):
    """Boxes that extend beyond the photo are clipped to it."""
    boxes = Store(data).read_table("boxes.csv")
    Store(data).write_table(boxes.assign(XMin=-0.1, XMax=1.25, YMin=0.1, YMax=1.0), "boxes.csv")
    assert {tuple(a["bbox"]) for a in write_coco(data)["annotations"]} == {(0, 4, 60, 36)}


def test_yolo_labels_are_the_table_turned_upright(data):
    """Every box is in the label file of its photo, rotated with the photo."""
    done = write_yolo(data, quiet=True)
    assert (done.photos, done.linked, done.boxes, done.left_out) == (6, 2, 6, 0)
    assert [label.stem for label in sorted(check_yolo(Store(data)), key=lambda p: p.stem)] == IDS


def test_yolo_photos_are_upright_without_exif(data):
    """YOLO's photos are upright and have no EXIF orientation, so all readers agree."""
    write_yolo(data, quiet=True)
    for image_id, rotation in zip(IDS, [rotation or 0 for rotation in ROTATIONS], strict=True):
        (path,) = data.glob(f"yolo/images/*/{image_id}.jpg")
        stored = data / "images" / f"{image_id}.jpg"
        with Image.open(stored) as before, Image.open(path) as after:
            assert not after.getexif()
            turned = np.rot90(np.asarray(before, float), rotation / 90)
            assert turned.shape == np.asarray(after).shape
            assert abs(turned - np.asarray(after, float)).mean() < 8
            linked = os.path.samefile(stored, path)
        assert linked == (rotation == 0 and image_id != IDS[3])


def test_yolo_is_split_as_the_crops_are(data):
    """Photos follow the split of their crops or are left out; old exports are replaced."""
    write_yolo(data, quiet=True)
    store = Store(data)
    crops = store.read_table("crops.csv")
    crops.loc[crops["ImageID"] == IDS[0], "Subset"] = "validation"
    crops.loc[crops["ImageID"] == IDS[5], "Error"] = "repeats another"
    store.write_table(crops, "crops.csv")
    assert write_yolo(data, quiet=True).left_out == 1
    where = {path.stem: path.parent.name for path in data.glob("yolo/images/*/*.jpg")}
    assert where == dict(zip(IDS[:5], ["val", "train", "train", "val", "test"], strict=True))
    assert {path.stem: path.parent.name for path in data.glob("yolo/labels/*/*.txt")} == where


@pytest.mark.slow
def test_croissant_is_valid_for_its_own_validator(data):
    """`mlcroissant validate` accepts the file without a warning."""
    write_croissant(data)
    line = [sys.executable, "-c", "from mlcroissant.scripts.cli import main; main()", "validate"]
    done = subprocess.run(
        [*line, "--jsonld", data / "croissant.json"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0 and "Done." in done.stderr, done.stderr
    assert "WARNING" not in done.stderr.upper(), done.stderr


def test_croissant_iterates_crops_photos_and_tables(data):
    """mlcroissant reads crops with split, category and ids, and the rows of all tables."""
    write_croissant(data)
    dataset = mlcroissant.Dataset(data / "croissant.json")
    crops = {row["crops/path"].decode(): row for row in dataset.records("crops")}
    table = Store(data).read_table("crops.csv").query("Error == ''")
    assert {f"data/{path}" for path in crops} == set(table["CropPath"])
    for row in table.itertuples():
        found = crops[row.CropPath.removeprefix("data/")]
        assert found["crops/image"].size == (32, 32)
        for field, value in (("split", row.Subset), ("category", row.Category)):
            assert found[f"crops/{field}"].decode() == value
        assert (found["crops/image_id"].decode(), found["crops/n"]) == (row.ImageID, row.n)
    assert len(list(dataset.records("boxes"))) == 7
    assert len(list(dataset.records("photo-files"))) == 6
    photos = list(dataset.records("photos"))
    assert photos[0]["photos/Author"].decode() == 'Zoë "Z", Jr.' and len(photos) == 7
    assert [row["splits/name"] for row in dataset.records("splits")] == [
        "train", "validation", "test"
    ]  # fmt: skip


def test_croissant_notices_a_changed_table(data):
    """A table that no longer has the recorded SHA256 is refused."""
    write_croissant(data)
    with open(data / "images.csv", "ab") as stream:
        stream.write(b"\n")
    with pytest.raises((ValueError, mlcroissant.GenerationError)):
        list(mlcroissant.Dataset(data / "croissant.json").records("photos"))


def test_croissant_has_licence_citation_and_is_repeatable(data):
    """Licences are those of photos and annotations; datePublished is kept when rewritten."""
    found = write_croissant(data)
    by = "https://creativecommons.org/licenses/by/"
    assert found["license"] == [f"{by}2.0/", f"{by}4.0/"]
    assert "Kuznetsova" in found["citeAs"] and "ATTRIBUTION.csv" in found["creditText"]
    old = json.loads((data / "croissant.json").read_text(encoding="utf-8"))
    old["datePublished"] = "2018-04-01"
    (data / "croissant.json").write_text(json.dumps(old), encoding="utf-8")
    assert write_croissant(data)["datePublished"] == "2018-04-01"
    without = write_croissant(data, with_photos=False)
    assert "photo-files" not in [part["@id"] for part in without["recordSet"]]


def test_croissant_and_coco_of_a_bucket(data, tmp_path):
    """A data directory at a URL gets the files that a folder gets."""
    url = f"memory://{tmp_path.name}"
    for path in data.rglob("*.*"):
        if path.is_file():
            name = path.relative_to(data).as_posix()
            Store(url).write(Store(url).path(name), path.read_bytes())
    assert write_croissant(url) == write_croissant(data)
    assert write_coco(url) == write_coco(data)


def test_command_writes_each_format(data, capsys):
    """Each format is written by its command; without tables, the error is one line."""
    for name, path in (
        ("coco", "boxes.coco.json"), ("yolo", "yolo/data.yaml"), ("croissant", "croissant.json")
    ):  # fmt: skip
        assert command.main([name, "--data-dir", str(data)]) == 0
        said = capsys.readouterr().out
        assert (data / path).is_file() and f"{path} was written in {data}" in said
        assert (name == "yolo") == (" photos (" in said) and "=" not in said
        assert command.main([name, "--data-dir", str(data / "nothing")]) == 2
        said = capsys.readouterr().err
        assert "images.csv" in said and len(said.splitlines()) == 1


@pytest.mark.parametrize("name", ["coco", "yolo", "croissant"])
def test_table_without_a_column_is_named(data, capsys, name):
    """A table that lacks a column gives an error of one line with the column."""
    store = Store(data)
    store.write_table(store.read_table("images.csv").drop(columns="Status"), "images.csv")
    assert command.main([name, "--data-dir", str(data)]) == 2
    said = capsys.readouterr().err
    assert "images.csv lacks the columns Status" in said and len(said.splitlines()) == 1


def test_yolo_of_a_bucket_is_refused():
    """YOLO needs local files, so the error says to copy the bucket."""
    pytest.importorskip("upath")
    with pytest.raises(BadInput, match="copy memory://pets"):
        write_yolo("memory://pets")


@pytest.mark.slow
def test_datasets_reads_the_crops_as_imagefolder(data, tmp_path):
    """Hugging Face's datasets finds the splits and labels offline."""
    assert datasets_says(tmp_path / "hf", "imagefolder", data_dir=str(data / "crops")) == [
        "{'train': 3, 'validation': 1, 'test': 2}",
        "['Cat', 'Hot dog'] (32, 32)",
    ]


def test_crops_are_laid_out_as_torchvision_wants_them(data):
    """Class folders contain only pictures, as torchvision's ImageFolder expects."""
    pictures = [p for p in (data / "crops" / "train").rglob("*") if p.is_file()]
    assert len(pictures) == 3
    assert {p.parent.parent for p in pictures} == {data / "crops" / "train"}
    assert {p.suffix for p in pictures} == {".jpg"}
