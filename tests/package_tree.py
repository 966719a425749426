"""A small tree as the notebooks leave it, of pictures drawn on the spot, for the tests."""

import json
from pathlib import Path

import pandas as pd
from PIL import Image

from openimager.files import sha256, write_table

IDS = [f"{i:016x}" for i in range(6)]
SUBSETS = ["train", "train", "train", "validation", "test", "test"]
NAME = "quilt/open_images"
METADATA = {
    "categories": ["Cat", "Hot dog"],
    "licence": {"photos": ["CC BY 2.0"], "annotations": "CC BY 4.0"},
    "metrics": {"accuracy": 0.5},
}


def make_tree(root: Path) -> Path:
    """Write a repository with data/ and models/ into `root` and return it.

    Six photos of 60 x 40 pixels: box 0 of each is its left half, and a Cat in the first, third
    and fifth; the second photo has a zero-width box as well, the third a group.
    """
    data, models = root / "data", root / "models"
    for folder in (root / "summaries", data / "images", data / "summaries", models):
        folder.mkdir(parents=True)
    photos, boxes, crops = [], [], []
    for i, (image_id, subset) in enumerate(zip(IDS, SUBSETS, strict=True)):
        picture = Image.effect_noise((60, 40), 80 + i).convert("RGB")
        picture.save(data / "images" / f"{image_id}.jpg")
        category = ["Cat", "Hot dog"][i % 2]
        boxes.append((image_id, category, 0.0, 0.5, 0.1, 1.0, int(i == 2)))
        if i == 1:
            boxes.append((image_id, "Cat", 0.5, 0.5, 0.1, 0.9, 0))
        crop = data / "crops" / subset / category / f"{image_id}_0.jpg"
        crop.parent.mkdir(parents=True, exist_ok=True)
        picture.crop((0, 4, 30, 40)).resize((32, 32)).save(crop)
        path = crop.relative_to(root).as_posix()
        crops.append((image_id, 0, category, subset, path, sha256(crop), ""))
        photos.append(
            {
                "ImageID": image_id,
                "Subset": subset,
                "OriginalURL": f"../photos/{i}_o.jpg",
                "OriginalLandingURL": f"https://example.org/photos/{i}",
                "License": "https://creativecommons.org/licenses/by/2.0/",
                "Author": 'Zoë "Z", Jr.',
                "Title": "",
                "Rotation": ["0.0", "90.0", ""][i % 3],
                "Status": "ok",
                "Width": 60,
                "Height": 40,
            }
        )
    photos.append({**photos[0], "ImageID": 16 * "f", "Status": "gone", "Width": "", "Height": ""})
    frame = pd.DataFrame(photos)
    write_table(frame, data / "images.csv")
    write_table(frame[["ImageID", "Author", "Title", "License"]], data / "ATTRIBUTION.csv")
    columns = ["ImageID", "Category", "XMin", "XMax", "YMin", "YMax", "IsGroupOf"]
    others = {"IsOccluded": -1, "IsTruncated": 0, "IsDepiction": 1, "IsInside": 0}
    write_table(pd.DataFrame(boxes, columns=columns).assign(**others), data / "boxes.csv")
    columns = ["ImageID", "n", "Category", "Subset", "CropPath", "SHA256", "Error"]
    write_table(pd.DataFrame(crops, columns=columns), data / "crops.csv")
    texts = {
        "README.md": "# a clone\n",
        "quilt_summarize.json": "[]\n",
        "summaries/top-image-labels.vl.json": "{}\n",
        "data/summaries/top-image-labels.csv": "Category,Boxes\nCat,4\n",
        "models/latest.keras": "stands for a model of some size\n" * 100,
        "models/history.json": json.dumps({"parameters": {"EPOCHS": 3}}),
        "models/metrics.json": json.dumps(
            {"accuracy": 0.5, "low": 0.1, "high": 0.9, "crops": 2, "photos": 2}
            | {"baselines": {"majority": {"accuracy": 0.25, "low": 0.0, "high": 0.75}}}
        ),
        "models/trained_on.txt": "".join(f"{row[5]}\n" for row in crops[:3]),
    }
    for path, text in texts.items():
        (root / path).write_text(text, encoding="utf-8", newline="\n")
    return root
