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
# Bytes of crops that one partition keeps until their split is known; the rest is cut again.
_MOST = 32_000_000
_UNREAD = (0, 0, 0, "")


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
    """Hash photos, so that near-identical ones are found; return one outcome per photo.

    `rows` has a row per box, sorted by ImageID: ImageID, n, Rotation, the coordinates and Key. The
    outcomes have the columns `files.PHOTO` and Error: why a photo, whose Width is then 0, cannot be
    read. Because decoding is most of the work, boxes without a crop (CropPath is "") are cut at the
    same time and kept for `crop_rows`.
    """
    options, staged = options or Options(), {}

    def one(boxes: list) -> tuple:
        crops = [None if getattr(row, "CropPath", None) == "" else "" for row in boxes]
        facts, crops = _cut(store, boxes, crops, options)
        for row, crop in zip(boxes, crops, strict=True):
            full = sum(map(len, list(staged.values()))) > _MOST
            if isinstance(crop, bytes) and not full:
                staged[_entry(row)] = crop
        error = "" if facts[1] else crops[0]
        return boxes[0].ImageID, boxes[0].Rotation, *facts, "", error

    outcomes = _each_photo(one, rows, options.workers)
    return files.note(store, pd.DataFrame(outcomes, columns=[*files.PHOTO, "Error"]), staged)


def crop_rows(rows: pd.DataFrame, store: Store, options: Options) -> pd.DataFrame:
    """Cut boxes out of photos and write the crops; return one outcome per row.

    `rows` has a row per box, as for `hash_rows`, with the CropPath to write and, optionally, the
    Stage that `hash_rows` returned. The outcomes have the same index, the columns `files.CROP` and
    Error: why there is no crop, where CropPath is "".
    """
    staged = files.staged_crops(store, rows["Stage"]) if "Stage" in rows else {}

    def one(boxes: list) -> list[tuple]:
        crops = [staged.get(_entry(row)) for row in boxes]
        if None in crops:
            _, crops = _cut(store, boxes, crops, options)
        return list(map(write, boxes, crops))

    def write(row, crop: bytes | str) -> tuple:
        if isinstance(crop, str):
            return row.ImageID, row.n, row.Key, "", "", pd.NA, crop
        store.write(store.crop(row.CropPath), crop)
        digest = hashlib.sha256(crop).hexdigest()
        return row.ImageID, row.n, row.Key, row.CropPath, digest, len(crop), ""

    outcomes = [crop for crops in _each_photo(one, rows, options.workers) for crop in crops]
    return files.note(store, pd.DataFrame(outcomes, rows.index, [*files.CROP, "Error"]))


def _each_photo(one: Callable, rows: pd.DataFrame, workers: int) -> list:
    """Return what `one` returns for the rows of each photo."""
    photos = [list(boxes) for _, boxes in groupby(rows.itertuples(), lambda row: row.ImageID)]
    with ThreadPoolExecutor(workers) as pool:  # whose map cancels the rest after an error
        return list(pool.map(one, photos))


def _entry(row) -> str:
    """Return the name of a staged crop, whose split is not known yet."""
    return f"{row.ImageID}_{row.n}_{row.Key}"


def _cut(store: Store, boxes: list, crops: list, options: Options):
    """Decode a photo once, at the coarsest scale that suffices; hash it and cut boxes out of it.

    Return its size in bytes, width, height and hash, and `crops` with each None replaced by the
    crop's file or by why there is none.
    """
    photo = boxes[0]
    try:
        data = store.read(store.photo(photo.ImageID))
    except FileNotFoundError:
        return _UNREAD, [crop or MISSING for crop in crops]
    try:
        with Image.open(io.BytesIO(data)) as opened:
            size = opened.size
            judged = [
                judge(row, size, options) if crop is None else (None, crop)
                for row, crop in zip(boxes, crops, strict=True)
            ]
            cuts = [(pixels, options.size, options.keep_aspect) for pixels, _ in judged if pixels]
            cuts.append(((0, 0, *size), 64, False))  # for the hash, which is made from 64 x 64
            picture = decode(opened, min(draft_scale(*cut, size) for cut in cuts))
        how = options.size, photo.Rotation, options.padding, options.keep_aspect, size
        made = [
            _file(crop_box(picture, _box(row), *how), options) if pixels else other
            for row, (pixels, other) in zip(boxes, judged, strict=True)
        ]
        return (len(data), *size, photo_hash(upright(picture, photo.Rotation))), made
    except UnidentifiedImageError:
        why = "The photo is in no format that Pillow reads."
    except Exception as error:  # for a broken file Pillow raises nearly anything
        why = f"The photo cannot be cropped: {error}"
    return _UNREAD, [crop or why for crop in crops]


def _file(crop: Image.Image, options: Options) -> bytes:
    crop.info = {}  # Pillow would write the photo's comment and colour profile into it
    stream = io.BytesIO()
    crop.save(stream, options.format.upper(), quality=options.quality)
    return stream.getvalue()


def _box(row) -> tuple[float, ...]:
    return row.XMin, row.XMax, row.YMin, row.YMax
