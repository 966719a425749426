"""The boxes as COCO JSON, which detection libraries read without us."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd

from openimager.errors import BadInput
from openimager.files import replacing
from openimager.store import COORDINATES, FLAGS


def write_coco(data_dir: str | os.PathLike = "data") -> dict:
    """Write ``boxes.coco.json``: the boxes of every photo on disk, in its stored pixels.

    Boxes are relative to the photo as it is stored, so a reader must ignore an EXIF orientation;
    `Rotation` in ``images`` says how far to turn picture and boxes to set them upright.

    Parameters
    ----------
    data_dir : path-like
        The data directory; images.csv and boxes.csv are read.

    Returns
    -------
    dict
        What was written. ``file_name`` is relative to `data_dir`; ``bbox`` is left, upper, width,
        height in pixels, cut at the photo's edge; ``iscrowd`` is 1 for a group of more than five
        things in one box (IsGroupOf). Boxes that cover no area are left out.

    Raises
    ------
    BadInput
        If a table is missing.
    """
    data = Path(data_dir)
    photos, boxes = (_read(data / name) for name in ("images.csv", "boxes.csv"))
    photos = photos[photos["Status"] == "ok"].sort_values("ImageID").reset_index(drop=True)
    licences = sorted(photos["License"].unique())
    categories = sorted(boxes["Category"].unique())
    coco = {
        "info": {
            "description": f"Open Images V4: {', '.join(categories)}",
            "url": "https://storage.googleapis.com/openimages/web/index.html",
            "contributor": "Annotations by Google, CC BY 4.0; photos by the authors named in "
            "ATTRIBUTION.csv",
            "year": 2018,
        },
        "licenses": [
            {"id": i, "name": licence_name(url), "url": url} for i, url in enumerate(licences, 1)
        ],
        "categories": [
            {"id": i, "name": name, "supercategory": name} for i, name in enumerate(categories, 1)
        ],
        "images": [
            {
                "id": number,
                "file_name": f"images/{row['ImageID']}.jpg",
                "width": int(row["Width"]),
                "height": int(row["Height"]),
                "license": licences.index(row["License"]) + 1,
                "coco_url": row["OriginalURL"],
                "flickr_url": row["OriginalLandingURL"],
                "subset": row["Subset"],
                "rotation": int(float(row["Rotation"] or 0)),
            }
            for number, row in enumerate(photos.to_dict("records"), 1)
        ],
        "annotations": _annotations(photos, boxes, categories),
    }
    with replacing(data / "boxes.coco.json") as part:
        part.write_text(json.dumps(coco, ensure_ascii=False), encoding="utf-8", newline="\n")
    return coco


def licence_name(url: str) -> str:
    """Return the short name of a Creative Commons licence, or the address itself.

    Examples
    --------
    >>> licence_name("https://creativecommons.org/licenses/by/2.0/")
    'CC BY 2.0'
    >>> licence_name("https://example.org/mine")
    'https://example.org/mine'
    """
    match = re.search(r"creativecommons\.org/licenses/([a-z-]+)/([0-9.]+)", url)
    return f"CC {match[1].upper()} {match[2]}" if match else url


def _annotations(photos: pd.DataFrame, boxes: pd.DataFrame, categories: list[str]) -> list[dict]:
    numbers = pd.Series(photos.index + 1, photos["ImageID"])
    boxes = boxes[boxes["ImageID"].isin(numbers.index)]
    number = numbers[boxes["ImageID"]].to_numpy()
    size = photos.loc[number - 1, ["Width", "Height"]].astype(int).to_numpy()
    x_min, x_max, y_min, y_max = (boxes[c].astype(float).clip(0, 1).to_numpy() for c in COORDINATES)
    corner = np.column_stack([x_min, y_min]) * size
    # Hundredths of a pixel are finer than the boxes were drawn.
    sides = np.round(np.column_stack([x_max, y_max]) * size - corner, 2)
    bbox = np.column_stack([np.round(corner, 2), sides])
    rows = []
    for image, box, row in zip(number, bbox.tolist(), boxes.to_dict("records"), strict=True):
        if box[2] <= 0 or box[3] <= 0:
            continue
        rows.append(
            {
                "id": len(rows) + 1,
                "image_id": int(image),
                "category_id": categories.index(row["Category"]) + 1,
                "bbox": box,
                "area": round(box[2] * box[3], 2),
                "iscrowd": int(row["IsGroupOf"] == "1"),
                "attributes": {flag: int(row[flag]) for flag in FLAGS},
            }
        )
    return rows


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise BadInput(f"There is no {path}: run build-dataset (or openimager) first.") from None
