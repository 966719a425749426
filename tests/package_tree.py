"""A clone as the five notebooks leave it, with data/, models/ and the files of the package."""

import contextlib
import functools
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import pytest
import yaml
from builders import DataDir, digest, image_id, jpeg
from PIL import Image

from openimager import registry
from openimager.crops.geometry import rotate_box

# The IDs end with a letter, so that readers without a schema do not parse them as numbers.
IDS = [image_id(16 * number + 10) for number in range(6)]
GONE = image_id(16 * 6 + 10)
SUBSETS = ["train", "train", "train", "validation", "test", "test"]
# The third and fourth photo also have an EXIF orientation, which boxes and crops ignore.
ROTATIONS = [0.0, 90.0, 270.0, "", 180.0, 0.0]
CATEGORIES = ["Cat", "Hot dog"]
NAME = "quilt/open_images"
METADATA = {
    "categories": CATEGORIES,
    "licence": {"photos": ["CC BY 2.0"], "annotations": "CC BY 4.0"},
    "metrics": {"accuracy": 0.5},
}
QUERY = {"categories": CATEGORIES, "release": "v4", "subsets": ["train", "validation", "test"]}
QUERY |= {"limit": 3, "seed": 7, "base_url": "https://example.org/2018_04/"}


def write_data(root):
    """Write data/: tables, photos of 60 x 40 pixels and crops of 32 x 32.

    Six photos and one that is gone: box 0 of each is its left half, a Cat in the first, third
    and fifth, a Hot dog in the others; the second photo has a box without width as well, the
    third photo's box is a group.
    """
    data = DataDir(root / "data")
    for i, (photo, subset) in enumerate(zip(IDS, SUBSETS, strict=True)):
        exif = Image.Exif()
        if i in (2, 3):
            exif[0x0112] = 6
        fields = {"OriginalURL": f"../photos/{i}_o.jpg", "Author": 'Zoë "Z", Jr.', "Title": ""}
        fields |= {"OriginalLandingURL": f"https://example.org/photos/{i}"}
        fields |= {"Width": 60, "Height": 40}
        data.photo(jpeg(i, (60, 40), exif=exif), photo, subset, ROTATIONS[i], **fields)
        flags = {"IsOccluded": -1, "IsDepiction": 1, "IsGroupOf": int(i == 2)}
        data.box(photo, (0.0, 0.5, 0.1, 1.0), CATEGORIES[i % 2], **flags)
        if i == 1:
            data.box(photo, (0.5, 0.5, 0.1, 0.9), "Cat", **flags)
    data.photo(jpeg(), GONE, status="gone", Width="", Height="", Bytes="")
    data.crop(size=32)
    shutil.rmtree(root / "data" / ".openimager")
    query = QUERY | {"downloaded": True}
    (root / "data" / "query.json").write_text(json.dumps(query), encoding="utf-8")


def write_model(root, model=100 * b"stands for a model of some size\n"):
    """Write models/ as training and evaluating on the crops in data/ leave it."""
    models = root / "models"
    models.mkdir(exist_ok=True)
    (models / "latest.keras").write_bytes(model)
    (models / "original.keras").write_bytes(b"the network of 2018")
    table = root / "data" / "crops.csv"
    crops = pd.read_csv(table, dtype=str, keep_default_na=False).query("Error == ''")
    categories = sorted(set(crops["Category"]))
    hashes = {"model_sha256": digest(models / "latest.keras"), "crops_csv_sha256": digest(table)}
    history = {
        "parameters": {"EPOCHS": 3, "leave_out": []},
        "categories": categories,
        "crops_csv_sha256": hashes["crops_csv_sha256"],
        "models": {"latest": {"sha256": hashes["model_sha256"]}},
    }
    metrics = hashes | {
        **{"accuracy": 0.5, "low": 0.1, "high": 0.9, "crops": 2, "photos": 2},
        "network": "small_cnn",
        "categories": categories,
        "baselines": {"majority": {"accuracy": 0.25, "low": 0.0, "high": 0.75}},
        "differences": {"majority": {"difference": 0.25, "low": -0.5, "high": 0.75}},
        "per_category": [{"Category": "Cat", "Precision": 0.5, "Recall": 1.0}],
        "slices": [
            {"Property": "IsOccluded", "Value": "yes", "Crops": 2}
            | {"Accuracy": 0.5, "Low": 0.1, "High": 0.9}
        ],
        **{"calibration_error": 0.04, "temperature": 1.25, "threshold": 0.6},
    }
    judged = crops[crops["Subset"] != "train"][["ImageID", "n", "Subset", "Category"]]
    judged = judged.assign(Predicted="Cat", Probability=0.7)
    judged = judged.assign(**{f"P({name})": 0.5 for name in categories}, Suspect=0.1)
    judged.to_csv(models / "predictions.csv", index=False)
    for name, content in (("history", history), ("metrics", metrics)):
        (models / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    seen = crops.loc[crops["Subset"] == "train", "SHA256"]
    (models / "trained_on.txt").write_text("".join(f"{d}\n" for d in seen), encoding="utf-8")


def make_tree(root):
    """Write a clone's README, summaries, data/ and models/ into `root` and return it."""
    shutil.copytree(_made().name, root, dirs_exist_ok=True)
    return root


@functools.cache
def _made():
    """Return the temporary folder with the tree that is copied for each test."""
    folder = tempfile.TemporaryDirectory()
    root = Path(folder.name)
    write_data(root)
    write_model(root)
    texts = {
        "README.md": "# a clone\n",
        "quilt_summarize.json": "[]\n",
        "summaries/top-image-labels.vl.json": "{}\n",
        "data/summaries/top-image-labels.csv": "Category,Boxes\nCat,4\n",
    }
    for name, text in texts.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text, encoding="utf-8", newline="\n")
    return folder


def everything(tree):
    """Return every file of a tree by its path, without the check of consistency."""
    return {p.relative_to(tree).as_posix(): p for p in sorted(tree.rglob("*")) if p.is_file()}


def push(tree, place, message="first", name=NAME):
    """Push every file of a tree into a registry."""
    return registry.push(everything(tree), name, place, METADATA, message)


def quilt(*arguments, cwd="."):
    """Run quilt3's command line in this process; return its exit status and what it prints."""
    from quilt3.main import main

    said = io.StringIO()
    with contextlib.chdir(cwd), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = main([*map(str, arguments)]) or 0
    return status, said.getvalue()


def check_yolo(store):
    """Compare every label of a YOLO export with the table of boxes, with rotated photos."""
    text = store.path("yolo/data.yaml").read_text(encoding="utf-8")
    names = yaml.safe_load(text)["names"]
    photos = store.read_table("images.csv").set_index("ImageID")
    boxes = store.read_table("boxes.csv").query("XMax > XMin").groupby("ImageID")
    labels = sorted(store.root.glob("yolo/labels/*/*.txt"))
    assert len({photos.loc[label.stem, "Rotation"] for label in labels}) > 1
    for label in labels:
        turn = photos.loc[label.stem, "Rotation"]
        rows = boxes.get_group(label.stem).itertuples()
        for line, row in zip(label.read_text().splitlines(), rows, strict=True):
            number, x, y, width, height = map(float, line.split())
            box = (row.XMin, row.XMax, row.YMin, row.YMax)
            expected = rotate_box(box, turn if turn > 0 else 0)
            found = (x - width / 2, x + width / 2, y - height / 2, y + height / 2)
            assert names[int(number)] == row.Category and found == pytest.approx(expected, abs=2e-6)
    return labels


def datasets_says(home, *arguments, **options):
    """Load with Hugging Face's datasets, offline, in a process; return what it prints."""
    script = f"""
import datasets
found = datasets.load_dataset(*{arguments!r}, **{options!r})
print({{split: len(rows) for split, rows in found.items()}})
print(found["train"].features["label"].names, found["train"][0]["image"].size)
"""
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(home), "USE_TF": "0"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **offline, "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
