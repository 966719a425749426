"""The tables that cropping reads and writes: photos and boxes, crops, what is known of a photo."""

import os
from pathlib import Path

import pandas as pd

from openimager.cropping.cutting import Facts
from openimager.errors import BadInput
from openimager.files import write_table
from openimager.store import COORDINATES, FLAGS, IMAGE_ID, SUBSETS

PIXELS = ("Left", "Upper", "Right", "Lower")
COLUMNS = (
    *("ImageID", "n", "Category", "Subset", "CropPath", *COORDINATES, *PIXELS, *FLAGS),
    *("Source", "Rotation", "DuplicateGroup", "SHA256", "Error"),
)
INTEGERS = ("n", *PIXELS, *FLAGS)
_FLOATS = (*COORDINATES, "Rotation")


def read_crops(data_dir: str | os.PathLike = "data") -> pd.DataFrame:
    """Return crops.csv as `write_crops` returned it: empty text is "", not NaN."""
    return _read(Path(data_dir) / "crops.csv", COLUMNS)


def photos_and_boxes(data_dir: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the photos that are on disk and their boxes, sorted by ImageID and n."""
    photos = _read(data_dir / "images.csv", ("ImageID", "Subset", "Rotation", "Status"))
    needed = ("ImageID", "Source", "Category", *COORDINATES, *FLAGS)
    boxes = _read(data_dir / "boxes.csv", needed)
    photos = photos[photos["Status"] == "ok"]
    twice = photos[photos["ImageID"].duplicated()]
    if len(twice):
        raise BadInput(f"Photo {twice.iloc[0]['ImageID']} stands in images.csv more than once.")
    strange = photos[~photos["ImageID"].str.fullmatch(IMAGE_ID)]
    if len(strange):
        raise BadInput(f"'{strange.iloc[0, 0]}' in images.csv is no ImageID: 16 hex digits.")
    strange = photos[~photos["Subset"].isin(SUBSETS)]
    if len(strange):
        raise BadInput(
            f"Photo {strange.iloc[0]['ImageID']} is of subset '{strange.iloc[0]['Subset']}' in "
            f"images.csv. Allowed: {', '.join(SUBSETS)}."
        )
    boxes["n"] = boxes.groupby("ImageID").cumcount()
    boxes = boxes.merge(photos[["ImageID", "Rotation"]], on="ImageID")
    return photos, boxes.sort_values(["ImageID", "n"])


def _read(path: Path, columns) -> pd.DataFrame:
    """Return some columns of a table; text stays text, what is no number becomes NaN."""
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except FileNotFoundError:
        raise BadInput(
            f"There is no {path.name} in {path.parent}. It is made by downloading and cropping, "
            "in this order."
        ) from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise BadInput(f"{path.name} in {path.parent} is no table: {error}") from None
    missing = [column for column in columns if column not in frame]
    if missing:
        raise BadInput(f"{path.name} in {path.parent} lacks the column {', '.join(missing)}.")
    frame = frame[list(columns)]
    for column in frame:
        if column in INTEGERS:
            frame[column] = pd.to_numeric(frame[column], errors="coerce").astype("Int64")
        elif column in _FLOATS:
            frame[column] = pd.to_numeric(frame[column], errors="coerce")
    return frame


def photo_path(data_dir: Path, image_id: str) -> Path:
    """Return where a photo lies."""
    return data_dir / "images" / f"{image_id}.jpg"


def remembered(data_dir: Path, photos: pd.DataFrame) -> dict[str, Facts]:
    """Return what earlier runs learnt of those photos that are still the same."""
    try:
        frame = pd.read_csv(
            data_dir / ".openimager" / "photos.csv",
            dtype={"ImageID": str, "Rotation": float, "Hash": str},
            keep_default_na=False,
            na_values={"Rotation": [""]},
        ).set_index("ImageID")
        known = {row[0]: Facts(*row[1:]) for row in frame[list(Facts._fields)].itertuples()}
    except (OSError, ValueError, KeyError):
        return {}
    facts = {}
    for image_id, rotation in zip(photos["ImageID"], photos["Rotation"], strict=True):
        fact, photo = known.get(image_id), photo_path(data_dir, image_id)
        # As text, because a rotation that is not recorded (NaN) equals itself only so.
        same = fact and str(fact.Rotation) == str(rotation) and photo.is_file()
        if same and photo.stat().st_size == fact.Bytes:
            facts[image_id] = fact
    return facts


def remember(data_dir: Path, facts: dict[str, Facts]) -> None:
    """Write what was learnt of photos down for the next run."""
    frame = pd.DataFrame(
        [(image_id, *fact) for image_id, fact in sorted(facts.items())],
        columns=["ImageID", *Facts._fields],
    )
    write_table(frame, data_dir / ".openimager" / "photos.csv")
