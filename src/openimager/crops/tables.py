"""The rows to crop: boxes of the photos on disk, and what exists of them."""

import os
import warnings

import pandas as pd

from openimager.crops.cut import FORMATS, Options, key
from openimager.errors import BadInput
from openimager.store import COORDINATES, FLAGS, IMAGE_ID, SUBSETS, Store

_SAME = ["ImageID", "n", "Key"]


def photos_and_boxes(store: Store) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the photos that are on disk and their boxes, sorted by ImageID and n."""
    photos = store.read_table("images.csv", ("ImageID", "Subset", "Rotation", "Status"))
    boxes = store.read_table("boxes.csv", ("ImageID", "Source", "Category", *COORDINATES, *FLAGS))
    photos = photos[photos["Status"] == "ok"].copy()
    if len(twice := photos.loc[photos["ImageID"].duplicated(), "ImageID"]):
        raise BadInput(f"images.csv has photo {twice.iloc[0]} more than once.")
    if len(strange := photos.loc[~photos["ImageID"].str.fullmatch(IMAGE_ID), "ImageID"]):
        raise BadInput(f"'{strange.iloc[0]}' in images.csv is not an ImageID: 16 hex digits.")
    if len(strange := photos.loc[~photos["Subset"].isin(SUBSETS), "Subset"]):
        allowed = ", ".join(SUBSETS)
        raise BadInput(f"'{strange.iloc[0]}' in images.csv is not a subset. Allowed: {allowed}.")
    sizes = store.sizes(store.images)
    photos["PhotoBytes"] = [sizes.get(f"{image_id}.jpg", -1) for image_id in photos["ImageID"]]
    boxes["n"] = boxes.groupby("ImageID").cumcount()
    boxes = boxes.merge(photos[["ImageID", "Rotation", "PhotoBytes"]], on="ImageID")
    if len(boxes) and (boxes["PhotoBytes"] < 0).all():
        # Crops may have come without photos, in a package; they must not be removed.
        raise BadInput(
            f"None of the photos of images.csv is in {store.images}: download them first."
        )
    return photos, boxes.sort_values(["ImageID", "n"])


def listed(exclude: str | os.PathLike, rows: pd.DataFrame) -> list[int]:
    """Return 1 for each row that a CSV lists, else 0; warn of what it lists in vain."""
    try:
        wanted = pd.read_csv(exclude, dtype=str, usecols=["ImageID", "n"])
        wanted = set(zip(wanted["ImageID"], wanted["n"].astype(int), strict=True))
    except (OSError, ValueError) as error:
        raise BadInput(
            f"exclude '{exclude}' cannot be used: a CSV file with the columns ImageID and n "
            f"(a whole number) is needed. {error}"
        ) from None
    boxes = list(zip(rows["ImageID"], rows["n"], strict=True))
    if unknown := sorted(wanted - {*boxes}):
        some = ", ".join(f"{image_id} {n}" for image_id, n in unknown[:3])
        warnings.warn(
            f"{len(unknown)} of the crops in {exclude} do not exist, such as {some}.", stacklevel=3
        )
    return [int(box in wanted) for box in boxes]


def with_existing(store: Store, rows: pd.DataFrame, before: pd.DataFrame, options: Options):
    """Add Key, Name and, where a crop with that key exists, its path as Existing, SHA256, Bytes.

    Old tells whether a file of that name exists, however it was made.
    """
    sizes = store.sizes(store.crops)
    whole = before["Bytes"] == before["CropPath"].str.removeprefix("data/crops/").map(sizes)
    before = before.loc[whole, [*_SAME, "CropPath", "SHA256", "Bytes"]]
    keys = [key(row, options) for row in rows.itertuples()]
    rows["Key"] = pd.Series(keys, rows.index, dtype=str)
    rows = rows.merge(before.rename(columns={"CropPath": "Existing"}), how="left", on=_SAME)
    ending = FORMATS[options.format]
    names = [f"{row.Folder}/{row.ImageID}_{row.n}.{ending}" for row in rows.itertuples()]
    rows["Name"] = pd.Series(names, rows.index, dtype=str)
    rows["Old"] = rows["Name"].isin({path.partition("/")[2] for path in sizes})
    return rows.fillna({"Existing": "", "SHA256": ""})
