"""Cut boxes out of photos: a table of boxes is the input, a table of outcomes the output."""

import hashlib
import io
import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import NamedTuple

import pandas as pd
from PIL import Image, UnidentifiedImageError

from openimager.crops import files
from openimager.crops.geometry import box_to_pixels, crop_box, decode, draft_scale, upright
from openimager.crops.split import photo_hash
from openimager.store import Store

MISSING = "The photo is not on disk; download it again."
SMALL = "The box has fewer pixels than min_pixels."
# Bump when the pixels change for unchanged options, so that existing crops are made again.
_RULES = 2
# Bytes of crops that one partition may stage; the rest is cut again from the photo.
_MOST = 32_000_000


class Options(NamedTuple):
    """How crops are made (`openimager.crops.write_crops`), and on how many threads."""

    size: int | None = 128
    quality: int = 95
    padding: float = 0
    keep_aspect: bool = False
    format: str = "jpeg"
    min_pixels: int = 1
    workers: int = 1


def judge(row, size: tuple[int, int], options: Options) -> tuple[tuple | None, str]:
    """Return the pixels to cut from a photo of this (width, height), or None and the reason."""
    box = x_min, x_max, y_min, y_max = _box(row)
    if not all(map(math.isfinite, box)):
        return None, "The box lacks a coordinate."
    if x_min >= x_max or y_min >= y_max:
        return None, "The box has no width or no height."
    if x_min >= 1 or y_min >= 1 or x_max <= 0 or y_max <= 0:
        return None, "The box lies outside the photo."
    left, upper, right, lower = box_to_pixels(box, *size)
    if min(right - left, lower - upper) < options.min_pixels:
        return None, SMALL
    return box_to_pixels(box, *size, options.padding), ""


def key(row, options: Options) -> str:
    """Return a digest of all that a crop is made from: options, box, rotation, photo (its size)."""
    made_from = [_RULES, *options[:5], *_box(row), str(row.Rotation), int(row.PhotoBytes)]
    return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:16]


def hash_rows(rows: pd.DataFrame, store: Store, options: Options | None = None) -> pd.DataFrame:
    """Hash photos, so that near-identical ones are found; return a row per photo.

    `rows` has ImageID and Rotation, sorted by ImageID. The result has these, PhotoBytes, Width,
    Height, Hash, Error (why there is no hash) and Stage. Because decoding is most of the work,
    boxes without an existing crop (Existing is "") are cut too and staged for `crop_rows`: `rows`
    then has a row per box, and also n, the coordinates and Key.
    """
    options, staged = options or Options(), {}

    def one(boxes: list) -> list[tuple]:
        wanted = [row for row in boxes if getattr(row, "Existing", None) == ""]
        facts, crops = _cut(store, boxes[0], wanted, options, hashed=True)
        for row in wanted:
            full = sum(map(len, list(staged.values()))) > _MOST
            if not full and isinstance(crops[row.Index], bytes):
                staged[_entry(row)] = crops[row.Index]
        return [(boxes[0].ImageID, boxes[0].Rotation, *facts, "")]

    facts = _each_photo(one, rows, options.workers)
    return files.note(store, ".openimager/photos.csv", facts, staged)


def crop_rows(rows: pd.DataFrame, store: Store, options: Options) -> pd.DataFrame:
    """Cut boxes out of photos and write the crops; return one outcome per row.

    `rows` has a row per box, sorted by ImageID: ImageID, n, Rotation, the coordinates, Key,
    CropPath and, optionally, the Stage that `hash_rows` returned. The outcomes have the same index
    and ImageID, n, CropPath, SHA256, Bytes, Error and Key; where Error says why there is no crop,
    CropPath is "".
    """
    staged = files.staged_crops(store, rows["Stage"]) if "Stage" in rows else {}

    def one(boxes: list) -> list[tuple]:
        todo = [row for row in boxes if _entry(row) not in staged]
        crops = _cut(store, boxes[0], todo, options)[1] if todo else {}
        return [write(row, staged.get(_entry(row)) or crops[row.Index]) for row in boxes]

    def write(row, crop: bytes | str) -> tuple:
        if isinstance(crop, str):
            return row.ImageID, row.n, "", "", pd.NA, crop, ""
        store.write(store.crop(row.CropPath), crop)
        digest = hashlib.sha256(crop).hexdigest()
        return row.ImageID, row.n, row.CropPath, digest, len(crop), "", row.Key

    outcomes = _each_photo(one, rows, options.workers)
    return files.note(store, "crops.csv", outcomes).set_index(rows.index)


def _cut(store: Store, photo, rows: list, options: Options, hashed: bool = False):
    """Decode a photo once, at the coarsest scale that suffices; cut boxes out of it and hash it.

    Return its bytes, width, height, hash and error, and by Index of each row the file of its crop,
    or the reason why there is none.
    """

    def failed(error: str) -> tuple[tuple, dict]:
        return (0, 0, 0, "", error), {row.Index: error for row in rows}

    try:
        data = store.read(store.photo(photo.ImageID))
    except FileNotFoundError:
        return failed(MISSING)
    try:
        with Image.open(io.BytesIO(data)) as opened:
            size = opened.size
            judged = [judge(row, size, options) for row in rows]
            cuts = [(pixels, options.size, options.keep_aspect) for pixels, _ in judged if pixels]
            if hashed:  # for which 128 pixels suffice
                cuts.append(((0, 0, *size), 64, False))
            picture = decode(opened, min((draft_scale(*cut, size) for cut in cuts), default=8))
        how = options.size, photo.Rotation, options.padding, options.keep_aspect, size
        crops = {
            row.Index: error or _file(crop_box(picture, _box(row), *how), options)
            for row, (_, error) in zip(rows, judged, strict=True)
        }
        digest = photo_hash(upright(picture, photo.Rotation)) if hashed else ""
        return (len(data), *size, digest, ""), crops
    except UnidentifiedImageError:
        return failed("The photo is in no format that Pillow reads.")
    except Exception as error:  # for a broken file Pillow raises nearly anything
        return failed(f"The photo cannot be cropped: {error}")


def _file(crop: Image.Image, options: Options) -> bytes:
    crop.info = {}  # Pillow would write the photo's comment and colour profile into it
    stream = io.BytesIO()
    crop.save(stream, options.format.upper(), quality=options.quality)
    return stream.getvalue()


def _each_photo(one: Callable, rows: pd.DataFrame, workers: int) -> list[tuple]:
    """Return what `one` returns for the rows of each photo, in their order."""
    photos = [list(boxes) for _, boxes in groupby(rows.itertuples(), lambda row: row.ImageID)]
    with ThreadPoolExecutor(workers) as pool:  # whose map cancels the rest after an exception
        return [outcome for outcomes in pool.map(one, photos) for outcome in outcomes]


def _box(row) -> tuple[float, ...]:
    return row.XMin, row.XMax, row.YMin, row.YMax


def _entry(row) -> str:
    """Return the name of a staged crop, whose split is not known yet."""
    return f"{row.ImageID}_{row.n}_{row.Key}"
