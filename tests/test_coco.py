"""The data loads elsewhere without us: as COCO, as imagefolder, as ImageFolder."""

import os
import subprocess
import sys

import pytest
from package_tree import IDS, make_tree
from PIL import Image
from pycocotools.coco import COCO

from openimager.errors import BadInput
from openimager.quilt import coco


@pytest.fixture
def data(tmp_path):
    return make_tree(tmp_path) / "data"


@pytest.fixture
def loaded(data, capsys):
    coco.write_coco(data)
    return COCO(str(data / "boxes.coco.json"))


def test_pycocotools_reads_boxes_in_pixels(loaded):
    """Every box with an area is there, left, upper, width, height in the stored photo's pixels."""
    assert len(loaded.anns) == 6
    assert all(a["bbox"] == [0, 4, 30, 36] and a["area"] == 1080 for a in loaded.anns.values())
    cat = loaded.getCatIds(catNms=["Cat"])
    photos = loaded.loadImgs(loaded.getImgIds(catIds=cat))
    assert [p["file_name"] for p in photos] == [f"images/{IDS[i]}.jpg" for i in (0, 2, 4)]
    assert sorted(c["name"] for c in loaded.cats.values()) == ["Cat", "Hot dog"]


def test_photos_are_there_in_the_size_that_is_said(loaded, data):
    """file_name is relative to the data directory; width and height are the stored picture's."""
    assert len(loaded.imgs) == 6
    for photo in loaded.imgs.values():
        with Image.open(data / photo["file_name"]) as picture:
            assert picture.size == (photo["width"], photo["height"])
    assert [p["rotation"] for p in loaded.imgs.values()] == [0, 90, 0] * 2


def test_licences_are_filled_in(loaded):
    """Every photo names a licence that the file spells out, and its page at Flickr."""
    licences = {licence["id"]: licence for licence in loaded.dataset["licenses"]}
    for photo in loaded.imgs.values():
        assert licences[photo["license"]]["name"] == "CC BY 2.0"
        assert photo["flickr_url"].startswith("https://example.org/photos/")


def test_groups_are_crowds_and_flags_are_kept(loaded):
    """IsGroupOf is COCO's iscrowd; the five flags stay, unknown (-1) as well."""
    crowds = [a for a in loaded.anns.values() if a["iscrowd"]]
    assert [loaded.imgs[a["image_id"]]["file_name"] for a in crowds] == [f"images/{IDS[2]}.jpg"]
    assert crowds[0]["attributes"]["IsGroupOf"] == 1
    assert crowds[0]["attributes"]["IsOccluded"] == -1


def test_boxes_are_cut_at_the_edge(data):
    """A box that leaves the photo ends at its edge."""
    table = (data / "boxes.csv").read_text(encoding="utf-8").replace(",0.0,0.5,", ",-0.1,1.25,")
    (data / "boxes.csv").write_text(table, encoding="utf-8")
    assert {tuple(a["bbox"]) for a in coco.write_coco(data)["annotations"]} == {(0, 4, 60, 36)}


def test_without_tables_says_what_to_run(tmp_path):
    """A folder without tables is refused with what makes them."""
    with pytest.raises(BadInput, match="build-dataset"):
        coco.write_coco(tmp_path)


def test_datasets_reads_the_crops_as_imagefolder(data, tmp_path):
    """Hugging Face finds the three splits and the categories as labels, offline."""
    script = """
import datasets, sys
found = datasets.load_dataset("imagefolder", data_dir=sys.argv[1])
print({split: len(rows) for split, rows in found.items()})
print(found["train"].features["label"].names, found["train"][0]["image"].size)
"""
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "USE_TF": "0"}
    done = subprocess.run(
        [sys.executable, "-c", script, str(data / "crops")],
        env={**os.environ, **offline, "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "{'train': 3, 'validation': 1, 'test': 2}",
        "['Cat', 'Hot dog'] (32, 32)",
    ]


def test_crops_are_laid_out_as_torchvision_wants_them(data):
    """ImageFolder's rule: root/class/picture, and nothing but pictures in a class's folder."""
    pictures = [p for p in (data / "crops" / "train").rglob("*") if p.is_file()]
    assert len(pictures) == 3
    assert {p.parent.parent for p in pictures} == {data / "crops" / "train"}
    assert {p.suffix for p in pictures} == {".jpg"}
