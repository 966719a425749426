"""The boxes as COCO JSON, which detection libraries read."""

import json
import os
import re

import numpy as np
import pandas as pd

from openimager.export.licences import RELEASES, licence_name
from openimager.store import COORDINATES, FLAGS, Store
from openimager.tables.catalogue import CVDF_URL


def write_coco(data_dir: str | os.PathLike | Store = "data") -> dict:
    """Write ``boxes.coco.json``: the boxes of every photo on disk, in its stored pixels.

    A reader must ignore an EXIF orientation; ``rotation`` in ``images`` is the turn, in degrees
    counter-clockwise, that sets the picture and its boxes upright. ``coco_url`` is the address
    that the photo came from, absent where that is not on the web. ``iscrowd`` is 1 for a group of
    more than five things in one box. Boxes that cover no area are left out.

    Parameters
    ----------
    data_dir : path-like or Store
        The data directory; images.csv and boxes.csv are read.

    Returns
    -------
    dict
        What was written.

    Raises
    ------
    BadInput
        If a table is missing.
    """
    store = Store(data_dir)
    photos, boxes = store.read_table("images.csv"), store.read_table("boxes.csv")
    photos = photos[photos["Status"] == "ok"].sort_values("ImageID").reset_index(drop=True)
    licences = sorted(photos["License"].unique())
    categories = sorted(boxes["Category"].unique())
    release = next(iter(photos.get("Release", [])), "") or "v4"
    coco = {
        "info": {
            "description": f"{RELEASES.get(release, release)}: {', '.join(categories)}",
            "url": "https://storage.googleapis.com/openimages/web/index.html",
            "contributor": "Annotations: Google, CC BY 4.0; photos: see ATTRIBUTION.csv",
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
                **({"coco_url": url} if (url := _address(row)) else {}),
                "flickr_url": row["OriginalLandingURL"],
                "subset": row["Subset"],
                "rotation": int(row["Rotation"]) if row["Rotation"] > 0 else 0,
            }
            for number, row in enumerate(photos.to_dict("records"), 1)
        ],
        "annotations": _annotations(photos, boxes, categories),
    }
    text = json.dumps(coco, ensure_ascii=False)
    store.write(store.path("boxes.coco.json"), text.encode("utf-8"))
    return coco


def _address(row: dict) -> str:
    """Return the web address that a photo was fetched from, or ""."""
    templates = {
        "flickr": "{OriginalURL}", "thumbnail": "{Thumbnail300KURL}", "cvdf": CVDF_URL
    }  # fmt: skip
    url = templates.get(row["Source"], row["Source"]).format_map(row)
    return url if re.match(r"https?://[^/]", url) else ""


def _annotations(photos: pd.DataFrame, boxes: pd.DataFrame, categories: list[str]) -> list[dict]:
    numbers = pd.Series(photos.index + 1, photos["ImageID"])
    boxes = boxes[boxes["ImageID"].isin(numbers.index)]
    number = numbers[boxes["ImageID"]].to_numpy()
    size = photos.loc[number - 1, ["Width", "Height"]].astype(int).to_numpy()
    x_min, x_max, y_min, y_max = (boxes[c].clip(0, 1).to_numpy() for c in COORDINATES)
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
                "iscrowd": int(row["IsGroupOf"] == 1),
                "attributes": {flag: int(row[flag]) for flag in FLAGS},
            }
        )
    return rows
