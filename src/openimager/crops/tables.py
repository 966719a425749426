"""The tables of cropping: what it reads, and what it keeps in .openimager/ to resume.

Each partition writes objects of its own, because a bucket cannot append. They are removed when
crops.csv is written.
"""

import contextlib
import hashlib
import io
import os
import warnings
import zipfile
from collections.abc import Iterable

import pandas as pd

from openimager.errors import BadInput
from openimager.store import COORDINATES, FLAGS, IMAGE_ID, SCHEMAS, SUBSETS, Store, typed

# What is remembered of a photo, so that it need not be opened again.
FACTS = {
    **{"ImageID": "str", "Rotation": "float64", "PhotoBytes": "Int64", "Width": "Int64"},
    **{"Height": "Int64", "Hash": "str", "Error": "str", "Stage": "str"},
}
_OUTCOME = ("ImageID", "n", "CropPath", "SHA256", "Bytes", "Error", "Key")
OUTCOME = {name: SCHEMAS["crops.csv"][name] for name in _OUTCOME}
_COLUMNS = {"photos": FACTS, "crops": OUTCOME}
# Bytes of crops that one partition may keep; the rest is cut again from the photo.
MOST = 32_000_000


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
        raise BadInput(f"No photo of images.csv is in {store.images}: download them first.")
    return photos, boxes.sort_values(["ImageID", "n"])


def listed(exclude: str | os.PathLike, rows: pd.DataFrame) -> list[int]:
    """Return 1 for each row that a CSV lists, else 0; warn of what it lists in vain."""
    try:
        table = pd.read_csv(exclude, dtype={"ImageID": str, "n": int}, usecols=["ImageID", "n"])
    except (OSError, ValueError) as error:
        needed = "a CSV file with the columns ImageID and n (a whole number) is needed"
        raise BadInput(f"exclude '{exclude}' cannot be used: {needed}. {error}") from None
    wanted = {*zip(table["ImageID"], table["n"], strict=True)}
    boxes = list(zip(rows["ImageID"], rows["n"], strict=True))
    if unknown := sorted(wanted - {*boxes}):
        some = ", ".join(f"{image_id} {n}" for image_id, n in unknown[:3])
        warnings.warn(
            f"{len(unknown)} of the crops in {exclude} do not exist, such as {some}.", stacklevel=3
        )
    return [int(box in wanted) for box in boxes]


def entry(row) -> str:
    """Return the name of a crop while its split is not known."""
    return f"{row.ImageID}_{row.n}_{row.Key}"


def save_crops(store: Store, crops: dict[str, bytes]) -> str:
    """Keep crops by their `entry`; return the name under which `load_crops` finds them."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in crops.items():
            archive.writestr(name, data)
    name = _name(crops)
    store.write(store.state / "crops" / f"{name}.zip", stream.getvalue())
    return name


def load_crops(store: Store, names: Iterable[str]) -> dict[str, bytes]:
    """Return the crops that `save_crops` kept, as far as they are neither missing nor damaged."""
    crops = {}
    for name in {*names} - {""}:
        with contextlib.suppress(FileNotFoundError, zipfile.BadZipFile):
            data = io.BytesIO(store.read(store.state / "crops" / f"{name}.zip"))
            with zipfile.ZipFile(data) as archive:
                crops |= {crop: archive.read(crop) for crop in archive.namelist()}
    return crops


def note(store: Store, kind: str, outcomes: list[tuple]) -> pd.DataFrame:
    """Write what became of one partition of "photos" or "crops" to the journal; return it."""
    frame = pd.DataFrame(outcomes, columns=list(_COLUMNS[kind]))
    store.write_table(frame, f".openimager/crops/{_name(frame['ImageID'])}.{kind}.csv")
    return frame


def facts(store: Store) -> pd.DataFrame:
    """Return what earlier runs learned about photos."""
    known = _joined(store, ".openimager/photos.csv", "photos")
    return known[known["Error"] == ""].drop_duplicates("ImageID", keep="last")


def records(store: Store) -> pd.DataFrame:
    """Return the crops that earlier runs wrote."""
    known = _joined(store, "crops.csv", "crops")
    return known[known["CropPath"] != ""].drop_duplicates(["ImageID", "n"], keep="last")


def clear(store: Store) -> None:
    """Remove what only an unfinished run needs."""
    folder = store.state / "crops"
    store.remove(*(folder / name for name in store.sizes(folder)))


def _name(words: Iterable[str]) -> str:
    return hashlib.sha256(" ".join(sorted({*words})).encode()).hexdigest()[:16]


def _joined(store: Store, table: str, kind: str) -> pd.DataFrame:
    schema = _COLUMNS[kind]
    names = sorted(store.sizes(store.state / "crops"))
    journal = [f".openimager/crops/{name}" for name in names if name.endswith(f".{kind}.csv")]
    frames = [typed(pd.DataFrame(columns=list(schema), dtype=str), schema)]
    for name in (table, *journal):
        with contextlib.suppress(BadInput):  # none, or damaged: nothing is known
            frames.append(typed(store.read_table(name, schema), schema))
    return pd.concat(frames, ignore_index=True)
