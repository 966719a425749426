"""A table of photos with their boxes in, a table of outcomes out."""

import hashlib
import io
import json
import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import NamedTuple

import pandas as pd
from PIL import Image, UnidentifiedImageError

from openimager.crops import tables
from openimager.crops.geometry import box_to_pixels, crop_box, decode, draft_scale, pad_box, upright
from openimager.crops.split import photo_hash
from openimager.store import Store

FORMATS = {"jpeg": "jpg", "webp": "webp", "png": "png"}  # to the extension of the file
MISSING = "The photo is not on disk; download it again."
SMALL = "The box has fewer pixels than min_pixels."
# Bump when the pixels change for unchanged options, so that existing crops are made again.
_RULES = 2


class Options(NamedTuple):
    """How crops are made (`openimager.crops.write_crops`), and on how many threads."""

    size: int | None = 128
    quality: int = 95
    padding: float = 0
    keep_aspect: bool = False
    format: str = "jpeg"
    min_pixels: int = 1
    workers: int = 1


class Cut(NamedTuple):
    """What a photo gave: its (width, height), its hash, and files of crops by Index of the row."""

    error: str = ""
    bytes: int = 0
    size: tuple[int, int] = (0, 0)
    hash: str = ""
    crops: Mapping = {}


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
    return box_to_pixels(pad_box(box, options.padding), *size), ""


def key(row, options: Options) -> str:
    """Return a digest of all that a crop is made from: options, box, rotation, photo (its size)."""
    made_from = [_RULES, *options[:5], *_box(row), str(row.Rotation), int(row.PhotoBytes)]
    return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:16]


def hash_rows(rows: pd.DataFrame, store: Store, options: Options | None = None) -> pd.DataFrame:
    """Hash photos, so that near-identical ones are found; return a row per photo, `tables.FACTS`.

    `rows` has ImageID and Rotation, sorted by ImageID. Error says why there is no hash.

    With `options` boxes are cut too, because decoding is most of the work, and staged for
    `crop_rows`: `rows` then has one row per box, and also n, the coordinates, Key and Existing (""
    unless the crop exists already).
    """
    staged: dict[str, bytes] = {}

    def one(boxes: list) -> list[tuple]:
        first, wanted = boxes[0], [row for row in boxes if options and not row.Existing]
        cut = _cut(store, first, wanted, options or Options(), hashed=True)
        for row in wanted:
            if row.Index in cut.crops and sum(map(len, staged.values())) < tables.MOST:
                staged[tables.entry(row)] = cut.crops[row.Index]
        return [(first.ImageID, first.Rotation, cut.bytes, *cut.size, cut.hash, cut.error)]

    facts = _each_photo(one, rows, options.workers if options else 1)
    stage = tables.save_crops(store, staged) if staged else ""
    return tables.note(store, "photos", [(*fact, stage) for fact in facts])


def crop_rows(rows: pd.DataFrame, store: Store, options: Options) -> pd.DataFrame:
    """Cut boxes out of photos and write the crops; return one outcome per row, `tables.OUTCOME`.

    `rows` has a row per box, sorted by ImageID: ImageID, n, Rotation, the coordinates, Key,
    CropPath and, optionally, the Stage that `hash_rows` returned. The outcomes have the same index;
    where Error says why there is no crop, CropPath is "".
    """
    staged = tables.load_crops(store, rows["Stage"]) if "Stage" in rows else {}

    def one(boxes: list) -> list[tuple]:
        done = {row.Index: staged.get(tables.entry(row)) for row in boxes}
        todo = [row for row in boxes if not done[row.Index]]
        cut = _cut(store, todo[0], todo, options) if todo else Cut()
        return [write(row, done[row.Index] or cut.crops.get(row.Index), cut) for row in boxes]

    def write(row, data: bytes | None, cut: Cut) -> tuple:
        if not data:
            error = cut.error or judge(row, cut.size, options)[1]
            return row.ImageID, row.n, "", "", pd.NA, error, ""
        store.write(store.crop(row.CropPath), data)
        digest = hashlib.sha256(data).hexdigest()
        return row.ImageID, row.n, row.CropPath, digest, len(data), "", row.Key

    outcomes = _each_photo(one, rows, options.workers)
    return tables.note(store, "crops", outcomes).set_index(rows.index)


def _cut(store: Store, photo, rows: list, options: Options, hashed: bool = False) -> Cut:
    """Decode a photo once, at the coarsest scale that suffices; cut boxes out of it and hash it."""
    try:
        data = store.read(store.photo(photo.ImageID))
    except FileNotFoundError:
        return Cut(MISSING)
    try:
        with Image.open(io.BytesIO(data)) as opened:
            size = opened.size
            cuts = [(row, box) for row in rows if (box := judge(row, size, options)[0])]
            wanted = [(box, options.size, options.keep_aspect) for _, box in cuts]
            if hashed:  # for which 128 pixels suffice
                wanted.append(((0, 0, *size), 64, False))
            scales = [draft_scale(*one, size) for one in wanted]
            picture = decode(opened, min(scales)) if scales else None
        how = options.size, photo.Rotation, options.padding, options.keep_aspect, size
        crops = {row.Index: _file(crop_box(picture, _box(row), *how), options) for row, _ in cuts}
        digest = photo_hash(upright(picture, photo.Rotation)) if hashed else ""
        return Cut("", len(data), size, digest, crops)
    except UnidentifiedImageError:
        return Cut("The photo is in no format that Pillow reads.")
    except Exception as error:  # for a broken file Pillow raises nearly anything
        return Cut(f"The photo cannot be cropped: {error}")


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


def _box(row) -> tuple[float, float, float, float]:
    return row.XMin, row.XMax, row.YMin, row.YMax
