"""A table of photos with their boxes in, a table of outcomes out."""

import hashlib
import io
import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image, UnidentifiedImageError

from openimager.crops import state
from openimager.crops.duplicates import photo_hash
from openimager.crops.geometry import box_to_pixels, crop_box, decode, draft_scale, pad_box, upright
from openimager.store import Store

if TYPE_CHECKING:
    import pandas as pd

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


def key(row, photo_bytes: int, options: Options) -> str:
    """Return a digest of all that a crop is made from: options, box, rotation, photo (its size)."""
    made_from = [_RULES, *options[:5], *_box(row), str(row.Rotation), int(photo_bytes)]
    return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:16]


def cut_photo(data: bytes, rotation: float, rows: list, options: Options, hashed: bool = True):
    """Decode a photo once, at the coarsest scale that suffices, and cut boxes out of it.

    Parameters
    ----------
    data : bytes
        The file of the photo.
    rotation : float
        Degrees counter-clockwise to apply; NaN counts as 0.
    rows : list of named tuples
        Boxes: XMin, XMax, YMin, YMax.
    options : Options
    hashed : bool
        Compute the perceptual hash too.

    Returns
    -------
    size, hash, crops
        (width, height); 64 hex digits or ""; for each row (pixels, error, bytes of its file).
    """
    with Image.open(io.BytesIO(data)) as photo:
        size = photo.size
        cuts = [judge(row, size, options) for row in rows]
        wanted = [(pixels, options.size, options.keep_aspect) for pixels, _ in cuts if pixels]
        if hashed:  # for which 128 pixels suffice
            wanted.append(((0, 0, *size), 64, False))
        scales = [draft_scale(*cut, size) for cut in wanted]
        picture = decode(photo, min(scales)) if scales else None
    crops = []
    for row, (pixels, error) in zip(rows, cuts, strict=True):
        stream = io.BytesIO()
        if pixels:
            how = (options.size, rotation, options.padding, options.keep_aspect, size)
            crop = crop_box(picture, _box(row), *how)
            crop.info = {}  # Pillow would write the photo's comment and colour profile into it
            crop.save(stream, options.format.upper(), quality=options.quality)
        crops.append((pixels, error, stream.getvalue()))
    return size, photo_hash(upright(picture, rotation)) if hashed else "", crops


def hash_rows(rows: "pd.DataFrame", store: Store, options: Options | None = None) -> "pd.DataFrame":
    """Hash photos, so that near-identical ones are found.

    Parameters
    ----------
    rows : pandas.DataFrame
        ImageID and Rotation, sorted by ImageID. With `options` one row per box, and also n, the
        coordinates, Key and Existing ("" unless the crop exists already).
    store : Store
    options : Options, optional
        Cut the boxes from the same decoded photo, because decoding is most of the work. The crops
        are kept among the state of the data directory until `crop_rows` takes them.

    Returns
    -------
    pandas.DataFrame
        One row per photo: `state.FACTS`. Error says why there is no hash.
    """
    import pandas as pd

    staged: dict[str, bytes] = {}

    def one(boxes: list) -> list[tuple]:
        first, wanted = boxes[0], [row for row in boxes if options and not row.Existing]

        def work(data: bytes):
            return len(data), *cut_photo(data, first.Rotation, wanted, options or Options())

        found, error = _attempt(work, store, first.ImageID)
        length, size, digest, crops = found or (0, (0, 0), "", ())
        for row, (_, _, data) in zip(wanted, crops, strict=False):
            if data and sum(map(len, staged.values())) < state.MOST:
                staged[state.entry(row)] = data
        return [(first.ImageID, first.Rotation, length, *size, digest, error, "")]

    facts = _each_photo(one, rows, options.workers if options else 1)
    name = state.save_crops(store, staged)
    return pd.DataFrame(facts, columns=list(state.FACTS)).assign(Stage=name)


def crop_rows(rows: "pd.DataFrame", store: Store, options: Options) -> "pd.DataFrame":
    """Cut boxes out of photos and write the crops.

    Parameters
    ----------
    rows : pandas.DataFrame
        One row per box, sorted by ImageID: ImageID, n, Rotation, the coordinates, Key and
        CropPath. Optional: Stage (from `hash_rows`), and Existing, the CropPath of a crop with
        the same Key; with them Width and Height of the photo.
    store : Store
    options : Options

    Returns
    -------
    pandas.DataFrame
        One row per row given, with the same index: `state.OUTCOME`. Where Error says why there is
        no crop, CropPath is "".
    """
    import pandas as pd

    stages = rows["Stage"].unique() if "Stage" in rows else ()
    staged = {name: data for stage in stages for name, data in state.load_crops(store, stage)}

    def one(boxes: list) -> list[tuple]:
        done = {}
        for row in boxes:
            if data := staged.get(state.entry(row)) or _existing(store, row):
                done[row.Index] = *judge(row, (row.Width, row.Height), options), data
        if todo := [row for row in boxes if row.Index not in done]:

            def work(data: bytes):
                return cut_photo(data, boxes[0].Rotation, todo, options, hashed=False)[-1]

            crops, error = _attempt(work, store, boxes[0].ImageID)
            crops = crops or [(None, error, b"")] * len(todo)
            done |= {row.Index: crop for row, crop in zip(todo, crops, strict=True)}
        return [write(row, *done[row.Index]) for row in boxes]

    def write(row, pixels, error: str, data: bytes) -> tuple:
        if not data:
            return row.ImageID, row.n, *[pd.NA] * 4, "", "", pd.NA, error, ""
        store.write(store.crop(row.CropPath), data)
        digest = hashlib.sha256(data).hexdigest()
        return row.ImageID, row.n, *pixels, row.CropPath, digest, len(data), "", row.Key

    outcomes = _each_photo(one, rows, options.workers)
    return pd.DataFrame(outcomes, rows.index, list(state.OUTCOME))


def _existing(store: Store, row) -> bytes:
    """Return a crop that was made in the same way and has another path, or b""."""
    try:
        path = getattr(row, "Existing", "")
        return store.read(store.crop(path)) if path else b""
    except FileNotFoundError:
        return b""


def _attempt(work: Callable, store: Store, image_id: str) -> tuple:
    """Return (work(file of the photo), "") or (None, why it cannot be done)."""
    try:
        data = store.read(store.photo(image_id))
    except FileNotFoundError:
        return None, MISSING
    try:
        return work(data), ""
    except UnidentifiedImageError:
        return None, "The photo is in no format that Pillow reads."
    except Exception as error:  # for a broken file Pillow raises nearly anything
        return None, f"The photo cannot be cropped: {error}"


def _each_photo(one: Callable, rows: "pd.DataFrame", workers: int) -> list[tuple]:
    """Return what `one` returns for the rows of each photo, in their order."""
    photos = [list(boxes) for _, boxes in groupby(rows.itertuples(), lambda row: row.ImageID)]
    with ThreadPoolExecutor(workers) as pool:
        try:
            return [outcome for outcomes in pool.map(one, photos) for outcome in outcomes]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _box(row) -> tuple[float, float, float, float]:
    return row.XMin, row.XMax, row.YMin, row.YMax
