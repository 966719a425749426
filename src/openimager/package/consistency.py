"""Do query, tables, crops, model, metrics and predictions belong together?

Each check raises BadInput with what does not match and the notebook to run again.
"""

import pandas as pd

from openimager.errors import BadInput, first_of
from openimager.files import sha256
from openimager.store import COORDINATES, FLAGS, PIXELS, Store

_JUDGED = ["ImageID", "n", "Subset", "Category"]


def check_data(store: Store, with_photos: bool = True) -> None:
    """Check that query, photos, boxes and crops are of one selection."""
    tables = ("images.csv", "boxes.csv", "crops.csv")
    photos, boxes, crops = (store.read_table(name) for name in tables)
    unlisted = set(boxes["ImageID"]) - set(photos["ImageID"])
    _refuse("boxes.csv has boxes of photos that images.csv does not list", unlisted)
    photos = photos[photos["Status"] == "ok"]
    bare = set(photos["ImageID"]) - set(boxes["ImageID"])
    _refuse("images.csv lists photos that have no box in boxes.csv", bare)
    _check_query(store.read_json("query.json") or {}, photos, boxes)
    if with_photos:
        sizes = store.sizes(store.images)
        absent = photos["ImageID"].map(lambda i: sizes.get(f"{i}.jpg", -1)) != photos["Bytes"]
        _refuse("images/ lacks photos that images.csv lists", photos["ImageID"][absent])
    _check_crops(photos, boxes, crops)
    _check_files(store, crops[crops["CropPath"] != ""])
    for part in (store.read_json("croissant.json") or {}).get("distribution", ()):
        fine = "sha256" not in part or part["sha256"] == sha256(store.path(part["contentUrl"]))
        _require(fine, f"croissant.json describes another {part['@id']}", "distribute-model")


def _check_query(query: dict, photos: pd.DataFrame, boxes: pd.DataFrame) -> None:
    """Check that photos and boxes are what the query asks for."""
    # A download sets this mark when it has written the tables of its query.
    done = query.get("downloaded")
    _require(done, "query.json and the tables are of different downloads", "build-dataset")
    foreign = set(boxes["Category"]) - {*query.get("categories", ()), *dict(query.get("merge", ()))}
    _refuse("boxes.csv has categories that query.json lacks", foreign)
    other = photos["ImageID"][~photos["Release"].isin([query.get("release"), ""])]
    _refuse("images.csv has photos of another release than query.json", other)


def _check_crops(photos: pd.DataFrame, boxes: pd.DataFrame, crops: pd.DataFrame) -> None:
    """Check that the rows of crops.csv are boxes of the photos, and that no photo lacks a row."""
    boxes = boxes.assign(n=boxes.groupby("ImageID").cumcount())
    boxes = boxes.merge(photos[["ImageID", "Width", "Height"]], on="ImageID")
    keys, digits = ["ImageID", "n", "Category", *COORDINATES], dict.fromkeys(COORDINATES, 6)
    both = boxes.round(digits).merge(crops[keys].round(digits), "outer", keys, indicator=True)
    foreign = both["_merge"] == "right_only"
    _refuse("crops.csv has crops of boxes that boxes.csv does not have", both["ImageID"][foreign])
    rest = both[~both["ImageID"].isin(crops["ImageID"])]
    # Boxes dropped by a flag, or for min_pixels, have no row: report a box only if its flags
    # occur among the crops and it is no smaller than the smallest.
    for flag in FLAGS:
        rest = rest[rest[flag].isin([0, *crops[flag]])]
    left, upper, right, lower = (crops[edge] for edge in PIXELS)
    rest = rest[(rest["XMax"] - rest["XMin"]) * rest["Width"] >= (right - left).min()]
    rest = rest[(rest["YMax"] - rest["YMin"]) * rest["Height"] >= (lower - upper).min()]
    _refuse("boxes.csv has boxes that were never cropped", rest["ImageID"])


def _check_files(store: Store, crops: pd.DataFrame) -> None:
    """Check that the crops on disk are those of crops.csv, byte for byte."""
    there = {f"data/crops/{path}" for path in store.sizes(store.crops) if "/." not in f"/{path}"}
    _refuse("crops/ has other files than crops.csv lists", there ^ {*crops["CropPath"]})
    digests = [sha256(store.crop(path)) for path in crops["CropPath"]]
    changed = crops.loc[crops["SHA256"] != digests, "CropPath"]
    _refuse("crops/ has files with another content than crops.csv records", changed)


def check_model(store: Store, models: Store) -> None:
    """Check that the model was trained on these crops, and that its scores are of this model."""
    crops = store.read_table("crops.csv").query("CropPath != ''")
    history, metrics = (models.read_json(f"{name}.json") or {} for name in ("history", "metrics"))
    table, model = sha256(store.path("crops.csv")), sha256(models.path("latest.keras"))
    trained = history.get("models", {}).get("latest", {}).get("sha256")
    _require(trained == model, "history.json is of another model than latest.keras", "build-model")
    seen = {*models.read(models.path("trained_on.txt")).decode().split()}
    allowed = {*crops.loc[crops["Subset"] != "test", "SHA256"]}
    _require(
        history.get("crops_csv_sha256") == table and seen <= allowed,
        "The model was trained on other crops than crops.csv lists",
        "build-model and then evaluate-model",
    )
    _require(
        metrics.get("model_sha256") == model,
        "metrics.json has the scores of another model than latest.keras",
        "evaluate-model",
    )
    predictions = models.read_table("predictions.csv", _JUDGED)
    judged = crops.loc[crops["Subset"] != "train", _JUDGED]
    rows, expected = (
        {*frame.itertuples(index=False, name=None)} for frame in (predictions, judged)
    )
    _require(
        metrics.get("crops_csv_sha256") == table and rows == expected,
        "metrics.json and predictions.csv are about other crops than crops.csv lists",
        "evaluate-model",
    )


def _refuse(what: str, names) -> None:
    """Raise BadInput if there are names. These checks are about files that build-dataset writes."""
    names = sorted({*names})
    _require(not names, f"{what} ({first_of(names, 1)})", "build-dataset")


def _require(fine: bool, what: str, notebook: str) -> None:
    if not fine:
        raise BadInput(f"{what}: run {notebook} again.")
