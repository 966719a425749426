"""Do query, tables, crops, model, metrics and predictions belong together?

Each check raises BadInput with what does not match and the notebook to run again.
"""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from openimager.errors import BadInput, first_of
from openimager.files import sha256
from openimager.store import COORDINATES, FLAGS, PIXELS, Store

_JUDGED = ["ImageID", "n", "Subset", "Category"]


def check_data(store: Store, with_photos: bool = True) -> None:
    """Check that query, photos, boxes and crops are of one selection."""
    tables = ("images.csv", "boxes.csv", "crops.csv")
    photos, boxes, crops = (store.read_table(name) for name in tables)
    selected = photos[photos["Status"] == "ok"]
    _check_query(store, selected, boxes)
    unlisted = _ids(boxes) - _ids(photos)
    _refuse("boxes.csv has boxes of photos that images.csv does not list", unlisted)
    bare = _ids(selected) - _ids(boxes)
    _refuse("images.csv lists photos that have no box in boxes.csv", bare)
    if with_photos:
        sizes = store.sizes(store.images)
        there = selected["ImageID"].map(lambda i: sizes.get(f"{i}.jpg", -1)) == selected["Bytes"]
        _refuse("images/ lacks photos that images.csv lists", selected.loc[~there, "ImageID"])
    foreign = _ids(crops) - _ids(selected)
    _refuse("crops.csv has crops of photos that images.csv does not list", foreign)
    boxes = boxes.assign(n=boxes.groupby("ImageID").cumcount())
    both = crops.merge(boxes, "left", on=["ImageID", "n"], suffixes=("", "_box"))
    same = both["Category"] == both["Category_box"]
    for edge in COORDINATES:
        same &= (both[edge] - both[f"{edge}_box"]).abs() < 1e-6
    _refuse("crops.csv has crops of boxes that boxes.csv does not have", both.loc[~same, "ImageID"])
    _refuse("boxes.csv has boxes that were never cropped", _never_cropped(selected, boxes, crops))
    _check_crops(store, crops[crops["CropPath"] != ""])
    for part in (store.read_json("croissant.json") or {}).get("distribution", ()):
        if "sha256" in part and part["sha256"] != sha256(store.path(part["contentUrl"])):
            raise BadInput(
                f"croissant.json describes another {part['@id']}: run distribute-model again."
            )


def _ids(frame: pd.DataFrame) -> set[str]:
    return set(frame["ImageID"])


def _check_query(store: Store, photos: pd.DataFrame, boxes: pd.DataFrame) -> None:
    query = store.read_json("query.json")
    if query is None:
        raise BadInput("There is no readable data/query.json: run build-dataset again.")
    names = [*query.get("categories", ()), *dict(query.get("merge") or {})]
    wanted = {name.casefold() for name in names}
    known = boxes["Category"].str.casefold().isin(wanted) | boxes["LabelName"].isin(wanted)
    _refuse("boxes.csv has categories that query.json lacks", boxes.loc[~known, "Category"])
    other = photos[~photos.get("Release", query["release"]).isin([query["release"], ""])]
    _refuse("images.csv has photos of another release than query.json", other["ImageID"])


def _never_cropped(photos: pd.DataFrame, boxes: pd.DataFrame, crops: pd.DataFrame) -> pd.Series:
    """Return the photos with no row in crops.csv although no option explains it.

    Boxes with a dropped flag, or smaller than min_pixels, have no row there. So boxes are not
    counted if no row has their flag value, or if they are smaller than every crop.
    """
    boxes = boxes[~boxes["ImageID"].isin(crops["ImageID"])]
    boxes = boxes.merge(photos[["ImageID", "Width", "Height"]], on="ImageID")
    dropped = pd.Series(False, boxes.index)
    for flag in FLAGS:
        dropped |= boxes[flag].ne(0) & ~boxes[flag].isin(crops[flag])
    left, upper, right, lower = (crops[edge] for edge in PIXELS)
    dropped |= (boxes["XMax"] - boxes["XMin"]) * boxes["Width"] < (right - left).min()
    dropped |= (boxes["YMax"] - boxes["YMin"]) * boxes["Height"] < (lower - upper).min()
    return boxes.loc[~dropped, "ImageID"]


def _check_crops(store: Store, crops: pd.DataFrame) -> None:
    """Check that the crops on disk are those of crops.csv, byte for byte."""
    listed = {path.removeprefix("data/crops/") for path in crops["CropPath"]}
    there = {path for path in store.sizes(store.crops) if "/." not in f"/{path}"}
    _refuse("crops/ has files that crops.csv does not list", there - listed)
    _refuse("crops/ lacks files that crops.csv lists", listed - there)
    with ThreadPoolExecutor(max(2, os.cpu_count() or 2)) as pool:
        digests = list(pool.map(lambda path: sha256(store.crop(path)), crops["CropPath"]))
    changed = crops.loc[crops["SHA256"] != digests, "CropPath"]
    _refuse("crops/ has files with another content than crops.csv records", changed)


def check_model(store: Store, models: Path) -> None:
    """Check that the model was trained on these crops, and that its scores are of this model."""
    crops = store.read_table("crops.csv").query("CropPath != ''")
    table, model = sha256(store.path("crops.csv")), sha256(models / "latest.keras")
    history, metrics = (
        json.loads((models / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("history", "metrics")
    )
    if history.get("models", {}).get("latest", {}).get("sha256") != model:
        raise BadInput("history.json is of another model than latest.keras: run build-model again.")
    seen = {*(models / "trained_on.txt").read_text(encoding="utf-8").split()}
    allowed = {*crops.loc[crops["Subset"] != "test", "SHA256"]}
    if history.get("crops_csv_sha256") != table or not seen <= allowed:
        raise BadInput(
            "The model was trained on other crops than crops.csv lists: run build-model and then "
            "evaluate-model again."
        )
    predictions = pd.read_csv(models / "predictions.csv", dtype=str, keep_default_na=False)
    judged = crops.loc[crops["Subset"] != "train", _JUDGED].astype(str)
    rows, expected = ({*map(tuple, frame[_JUDGED].to_numpy())} for frame in (predictions, judged))
    stale = "metrics.json and predictions.csv are about other crops than crops.csv lists"
    if metrics.get("model_sha256") != model:
        stale = "metrics.json has the scores of another model than latest.keras"
    elif metrics.get("crops_csv_sha256") == table and rows == expected:
        return
    raise BadInput(f"{stale}: run evaluate-model again.")


def _refuse(what: str, names) -> None:
    """Raise if there are names; what these checks are about is what build-dataset writes."""
    if names := sorted({*names}):
        raise BadInput(f"{what} ({first_of(names, 1)}): run build-dataset again.")
