"""The boxes as COCO JSON, which detection libraries read."""

import json
import os

import numpy as np
import pandas as pd

from openimager.export.licences import licence, release_of
from openimager.photos.photo import Settings, sources_of
from openimager.store import COORDINATES, FLAGS, Store
from openimager.tables.catalogue import RELEASES


def write_coco(data_dir: str | os.PathLike | Store = "data") -> dict:
    """Write ``boxes.coco.json``: the boxes of every photo on disk, in its stored pixels.

    A reader must ignore an EXIF orientation; ``rotation`` in ``images`` is the turn, in degrees
    counter-clockwise, that sets the picture and its boxes upright. ``coco_url`` is the address
    that the photo came from, absent where that is not on the web. ``iscrowd`` is 1 for a group of
    more than five things in one box. Boxes that cover no area are left out. Returned is what was
    written.
    """
    store = Store(data_dir)
    photos, boxes = store.read_table("images.csv"), store.read_table("boxes.csv")
    photos = photos[photos["Status"] == "ok"].sort_values("ImageID", ignore_index=True)
    licences = sorted(photos["License"].unique())
    names = sorted(boxes["Category"].unique())
    release = release_of(photos)
    coco = {
        "info": {
            "description": f"{RELEASES.get(release, release)}: {', '.join(names)}",
            "url": "https://storage.googleapis.com/openimages/web/index.html",
            "contributor": "Annotations: Google, CC BY 4.0; photos: see ATTRIBUTION.csv",
            "year": 2018,
        },
        "licenses": [
            {"id": i, "name": licence(url)[0], "url": url} for i, url in enumerate(licences, 1)
        ],
        "categories": [
            {"id": i, "name": name, "supercategory": name} for i, name in enumerate(names, 1)
        ],
        "images": [_image(i, row, licences) for i, row in enumerate(photos.to_dict("records"), 1)],
        "annotations": _annotations(photos, boxes, names),
    }
    text = json.dumps(coco, ensure_ascii=False)
    store.write(store.path("boxes.coco.json"), text.encode())
    return coco


def _image(number: int, row: dict, licences: list[str]) -> dict:
    # Without a base, so that a relative address stays without a URL.
    [source] = sources_of(row | {"OriginalSize": 0}, Settings(sources=(row["Source"],), base=""))
    image = {
        **{"id": number, "file_name": f"images/{row['ImageID']}.jpg", "subset": row["Subset"]},
        **{"width": int(row["Width"]), "height": int(row["Height"])},
        **{"license": licences.index(row["License"]) + 1, "flickr_url": row["OriginalLandingURL"]},
        "rotation": int(row["Rotation"]) if row["Rotation"] > 0 else 0,
    }
    return image | ({"coco_url": source.url} if source.url else {})


def _annotations(photos: pd.DataFrame, boxes: pd.DataFrame, names: list[str]) -> list[dict]:
    numbers = photos.assign(number=photos.index + 1)[["ImageID", "number", "Width", "Height"]]
    boxes = boxes.merge(numbers, on="ImageID")
    size = boxes[["Width", "Height"]].to_numpy(float)
    x_min, x_max, y_min, y_max = (boxes[c].clip(0, 1).to_numpy() for c in COORDINATES)
    corner = np.column_stack([x_min, y_min]) * size
    # Hundredths of a pixel are finer than the boxes were drawn.
    sides = np.round(np.column_stack([x_max, y_max]) * size - corner, 2)
    boxes["bbox"] = np.column_stack([np.round(corner, 2), sides]).tolist()
    found = boxes[(sides > 0).all(axis=1)].to_dict("records")
    return [
        {
            **{"id": i, "image_id": row["number"], "category_id": names.index(row["Category"]) + 1},
            **{"bbox": row["bbox"], "area": round(row["bbox"][2] * row["bbox"][3], 2)},
            "iscrowd": int(row["IsGroupOf"] == 1),
            "attributes": {flag: int(row[flag]) for flag in FLAGS},
        }
        for i, row in enumerate(found, 1)
    ]
