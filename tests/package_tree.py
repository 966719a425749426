"""A small tree as the notebooks leave it, of pictures made on the spot, for the tests."""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from openimager.files import sha256
from openimager.store import SCHEMAS, Store

# Letters, so that a reader without a schema does not take them for numbers.
IDS = [f"{i:08x}cafe{i:04x}" for i in range(6)]
GONE = 15 * "f" + "0"
SUBSETS = ["train", "train", "train", "validation", "test", "test"]
# The third and fourth are stored turned with an EXIF tag, which boxes and crops ignore.
ROTATIONS = [0.0, 90.0, 270.0, float("nan"), 180.0, 0.0]
CATEGORIES = ["Cat", "Hot dog"]
NAME = "quilt/open_images"
METADATA = {
    "categories": CATEGORIES,
    "licence": {"photos": ["CC BY 2.0"], "annotations": "CC BY 4.0"},
    "metrics": {"accuracy": 0.5},
}
QUERY = {"categories": CATEGORIES, "release": "sample", "subsets": ["train", "validation", "test"]}
QUERY |= {"limit": 3, "seed": 7, "base_url": "https://example.org/2018_04/"}


def write_pictures(root: Path) -> None:
    """Write the photos, the crops and the four tables of data/."""
    store = Store(root / "data")
    photos, boxes, crops = [], [], []
    random = np.random.default_rng(0)
    for i, (image_id, subset) in enumerate(zip(IDS, SUBSETS, strict=True)):
        picture = Image.fromarray(random.integers(0, 255, (40, 60, 3), dtype=np.uint8))
        exif = Image.Exif()
        if i in (2, 3):
            exif[0x0112] = 6
        stream = io.BytesIO()
        picture.save(stream, "JPEG", exif=exif)
        store.write(store.photo(image_id), stream.getvalue())
        category = CATEGORIES[i % 2]
        boxes.append((image_id, category, 0.0, 0.5, 0.1, 1.0, int(i == 2)))
        if i == 1:
            boxes.append((image_id, "Cat", 0.5, 0.5, 0.1, 0.9, 0))
        path = f"data/crops/{subset}/{category}/{image_id}_0.jpg"
        stream = io.BytesIO()
        picture.crop((0, 4, 30, 40)).resize((32, 32)).save(stream, "JPEG")
        store.write(store.crop(path), stream.getvalue())
        digest = sha256(store.crop(path))
        crops.append((image_id, 0, category, subset, path, 0, 4, 30, 40, ROTATIONS[i], digest, ""))
        photos.append(
            {
                "ImageID": image_id,
                "Subset": subset,
                "OriginalURL": f"../photos/{i}_o.jpg",
                "OriginalLandingURL": f"https://example.org/photos/{i}",
                "License": "https://creativecommons.org/licenses/by/2.0/",
                "Author": 'Zoë "Z", Jr.',
                "Rotation": ROTATIONS[i],
                "Status": "ok",
                "Source": "flickr",
                "Width": 60,
                "Height": 40,
                "Release": "sample",
            }
        )
    crops.append((IDS[1], 1, "Cat", "", "", *4 * (None,), 90.0, "", "the box is empty"))
    photos.append({**photos[0], "ImageID": GONE, "Status": "gone", "Width": None, "Height": None})
    frame = pd.DataFrame(photos).reindex(columns=list(SCHEMAS["images.csv"]))
    frame = frame.astype({"Width": "Int64", "Height": "Int64"})
    store.write_table(frame, "images.csv")
    credits = frame[frame["Status"] == "ok"].assign(Changes="none")
    store.write_table(credits[list(SCHEMAS["ATTRIBUTION.csv"])], "ATTRIBUTION.csv")
    columns = ["ImageID", "Category", "XMin", "XMax", "YMin", "YMax", "IsGroupOf"]
    flags = {"IsOccluded": -1, "IsTruncated": 0, "IsDepiction": 1, "IsInside": 0}
    frame = pd.DataFrame(boxes, columns=columns).assign(
        Source="xclick", LabelName="/m/0", Confidence=1.0, **flags
    )
    store.write_table(frame, "boxes.csv")
    columns = ["ImageID", "n", "Category", "Subset", "CropPath", "Left", "Upper", "Right", "Lower"]
    crops = pd.DataFrame(crops, columns=[*columns, "Rotation", "SHA256", "Error"])
    crops = crops.astype({name: "Int64" for name in columns[5:]})
    crops = crops.merge(frame.assign(n=frame.groupby("ImageID").cumcount())).sort_values(
        ["ImageID", "n"]
    )
    store.write_table(crops.reindex(columns=list(SCHEMAS["crops.csv"])), "crops.csv")


def write_model(root: Path, bytes_of_model: bytes = 100 * b"stands for a model of some size\n"):
    """Write models/ as training and evaluating on these crops would have left it."""
    models = root / "models"
    models.mkdir(exist_ok=True)
    (models / "latest.keras").write_bytes(bytes_of_model)
    (models / "original.keras").write_bytes(b"the network of 2018")
    crops = Store(root / "data").read_table("crops.csv").query("Error == ''")
    hashes = {
        "model_sha256": sha256(models / "latest.keras"),
        "crops_csv_sha256": sha256(root / "data" / "crops.csv"),
    }
    history = {
        "parameters": {"EPOCHS": 3, "leave_out": []},
        "categories": CATEGORIES,
        "crops_csv_sha256": hashes["crops_csv_sha256"],
        "models": {"latest": {"sha256": hashes["model_sha256"]}},
    }
    score = {"accuracy": 0.5, "low": 0.1, "high": 0.9}
    metrics = hashes | {
        **score,
        "network": "small_cnn",
        "categories": CATEGORIES,
        "crops": 2,
        "photos": 2,
        "baselines": {"majority": {"accuracy": 0.25, "low": 0.0, "high": 0.75}},
        "differences": {"majority": {"difference": 0.25, "low": -0.5, "high": 0.75}},
        "per_category": [{"Category": "Cat", "Precision": 0.5, "Recall": 1.0}],
        "slices": [
            {"Property": "IsOccluded", "Value": "yes", "Crops": 2}
            | {"Accuracy": 0.5, "Low": 0.1, "High": 0.9}
        ],
        "calibration_error": 0.04,
        "temperature": 1.25,
        "threshold": 0.6,
    }
    judged = crops[crops["Subset"] != "train"][["ImageID", "n", "Subset", "Category"]]
    judged = judged.assign(Predicted="Cat", Probability=0.7, Suspect=0.1)
    judged[["P(Cat)", "P(Hot dog)"]] = 0.7, 0.3
    judged.to_csv(models / "predictions.csv", index=False)
    for name, content in (("history", history), ("metrics", metrics)):
        (models / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    seen = crops.loc[crops["Subset"] == "train", "SHA256"]
    (models / "trained_on.txt").write_text("".join(f"{d}\n" for d in seen), encoding="utf-8")


def make_tree(root: Path) -> Path:
    """Write a repository with data/ and models/ into `root` and return it.

    Six photos of 60 x 40 pixels: box 0 of each is its left half, and a Cat in the first, third
    and fifth; the second photo has a zero-width box as well, the third a group.
    """
    write_pictures(root)
    write_model(root)
    texts = {
        "README.md": "# a clone\n",
        "quilt_summarize.json": "[]\n",
        "summaries/top-image-labels.vl.json": "{}\n",
        "data/summaries/top-image-labels.csv": "Category,Boxes\nCat,4\n",
        "data/query.json": json.dumps(QUERY),
    }
    for path, text in texts.items():
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_text(text, encoding="utf-8", newline="\n")
    return root
