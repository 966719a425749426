"""Decide for each box in which split its crop belongs, or why it gets none."""

import os
import warnings

import numpy as np
import pandas as pd

from openimager.crops import split
from openimager.crops.cut import MISSING, Options, judge, key
from openimager.crops.files import FORMATS
from openimager.errors import BadInput
from openimager.store import COORDINATES, FLAGS, IMAGE_ID, PIXELS, SUBSETS, Store

REPEATS = "The photo repeats one of a later subset (validation or test)."
EXCLUDED = "Excluded from train and validation on request."


def photos_and_boxes(store: Store) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the photos with Status "ok" and their boxes, sorted by ImageID and n."""
    photos = store.read_table("images.csv", ("ImageID", "Subset", "Rotation", "Status"))
    boxes = store.read_table("boxes.csv", ("ImageID", "Source", "Category", *COORDINATES, *FLAGS))
    photos = photos[photos["Status"] == "ok"].copy()
    sound = photos["ImageID"].str.fullmatch(IMAGE_ID) & ~photos["ImageID"].duplicated()
    sound &= photos["Subset"].isin(SUBSETS)
    if not sound.all():
        row = photos[~sound].iloc[0]
        raise BadInput(
            f"images.csv has a row that cannot be used: ImageID '{row.ImageID}' (16 hex digits are "
            f"needed, and not more than once), Subset '{row.Subset}' (of {', '.join(SUBSETS)})."
        )
    sizes = store.sizes(store.images)
    photos["PhotoBytes"] = [sizes.get(f"{image_id}.jpg", -1) for image_id in photos["ImageID"]]
    boxes["n"] = boxes.groupby("ImageID").cumcount()
    boxes = boxes.merge(photos[["ImageID", "Rotation", "PhotoBytes"]], on="ImageID")
    if len(boxes) and (boxes["PhotoBytes"] < 0).all():
        # Crops may have come without photos, in a package; they must not be removed.
        raise BadInput(f"No photo of images.csv is in {store.images}: download them first.")
    return photos, boxes.sort_values(["ImageID", "n"])


def excluded(exclude: str | os.PathLike, rows: pd.DataFrame) -> np.ndarray:
    """Return 1 for each row that a CSV lists, else 0; warn of listed crops that do not exist."""
    box = ["ImageID", "n"]
    try:
        table = pd.read_csv(exclude, dtype={"ImageID": str, "n": int}, usecols=box)
    except (OSError, ValueError) as error:
        needed = "a CSV file with the columns ImageID and n (a whole number) is needed"
        raise BadInput(f"exclude '{exclude}' cannot be used: {needed}. {error}") from None
    wanted, boxes = (pd.MultiIndex.from_frame(frame[box]) for frame in (table, rows))
    if len(unknown := wanted.difference(boxes)):
        some = f"such as {', '.join(f'{image_id} {n}' for image_id, n in unknown[:3])}"
        message = f"{len(unknown)} of the crops in {exclude} do not exist, {some}."
        warnings.warn(message, stacklevel=3)
    return boxes.isin(wanted).astype(int)


def with_known(rows: pd.DataFrame, crops, photos, there, options: Options) -> pd.DataFrame:
    """Return the rows with Key, and what is known of crops and photos from earlier runs.

    Before is the CropPath of the crop that an earlier run made of the box. CropPath and Kept repeat
    it if that file is complete (`there` has the sizes) and was made in the same way; otherwise they
    are "". Width is 0 until the photo is read.
    """
    keys = [key(row, options) for row in rows.itertuples()]
    rows["Key"] = pd.Series(keys, rows.index, dtype=str)
    crops = crops.rename(columns={"CropPath": "Before", "Key": "Made"})
    rows = rows.merge(crops, "left", ["ImageID", "n"])
    rows = rows.merge(photos, "left", ["ImageID", "Rotation", "PhotoBytes"])
    rows = rows.fillna(
        {"Before": "", "SHA256": "", "Width": 0, "Height": 0, "Hash": "", "Stage": ""}
    )
    size = rows["Before"].str.removeprefix("data/crops/").map(there)
    stays = (rows["Made"] == rows["Key"]) & (rows["Bytes"] == size)
    rows["CropPath"] = rows["Kept"] = rows["Before"].where(stays, "")
    rows["Error"] = np.where(rows["PhotoBytes"] < 0, MISSING, "")
    return rows


def planned(rows: pd.DataFrame, official, shares, folders, options: Options) -> pd.DataFrame:
    """Return the rows with the split, path and pixels of each crop, or Error: why there is none."""
    groups = split.group(rows.drop_duplicates("ImageID").set_index("ImageID")["Hash"])
    splits = split.assign_splits(groups, official, shares)
    rows["DuplicateGroup"] = rows["ImageID"].map(groups)
    rows["Subset"] = rows["ImageID"].map(splits)
    decided = [_decided(row, folders, options) for row in rows.itertuples()]
    columns = ["CropPath", "Error", *PIXELS]
    rows[columns] = pd.DataFrame(decided, rows.index, columns)
    return rows


def _decided(row, folders, options: Options) -> tuple:
    """Return the CropPath that a row is to have, or "" and the reason, and its pixels."""
    pixels, error = None, row.Error
    if not row.Subset:
        error = REPEATS
    elif row.Excluded and row.Subset != "test":
        error = EXCLUDED
    elif not error:
        pixels, error = judge(row, (row.Width, row.Height), options)
    if error:
        return "", error, *[pd.NA] * len(PIXELS)
    name = f"{row.ImageID}_{row.n}.{FORMATS[options.format]}"
    return f"data/crops/{row.Subset}/{folders[row.Category]}/{name}", "", *pixels
