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
from openimager.store import PIXELS, Store

if TYPE_CHECKING:
    import pandas as pd

FORMATS = {"jpeg": "jpg", "webp": "webp", "png": "png"}  # to the extension of the file
# Bump when the pixels change for unchanged options, so that existing crops are made again.
_RULES = 2


class Options(NamedTuple):
    """How crops are made (`openimager.crops.write_crops`), and on how many threads."""

    size: int | None = 128
    quality: int = 95
    padding: float = 0
    keep_aspect: bool = False
    min_pixels: int = 1
    format: str = "jpeg"
    workers: int = 1


class Verdict(NamedTuple):
    """Whether a box gives a crop: outcome is "made", "small" or "failed"."""

    outcome: str
    pixels: tuple[int, int, int, int] | None = None
    error: str = ""


def judge(row, width: int, height: int, options: Options) -> Verdict:
    """Decide whether the box of a row gives a crop of a photo of `width` x `height` pixels."""
    box = x_min, x_max, y_min, y_max = _box(row)
    if not all(map(math.isfinite, box)):
        return Verdict("failed", error="The box lacks a coordinate.")
    if x_min >= x_max or y_min >= y_max:
        return Verdict("failed", error="The box has no width or no height.")
    if x_min >= 1 or y_min >= 1 or x_max <= 0 or y_max <= 0:
        return Verdict("failed", error="The box lies outside the photo.")
    left, upper, right, lower = box_to_pixels(box, width, height)
    if min(right - left, lower - upper) < options.min_pixels:
        return Verdict("small")
    return Verdict("made", box_to_pixels(pad_box(box, options.padding), width, height))


def key(row, size: int, options: Options) -> str:
    """Return a digest of all that a crop is made from: options, box, rotation, photo.

    Another photo is recognised by its `size` in bytes.
    """
    made_from = [_RULES, *options[:4], options.format, *_box(row), str(row.Rotation), int(size)]
    return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:16]


def cut_photo(data: bytes, rotation: float, rows: list, options: Options, hashed: bool):
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
    (size, hash, verdicts, crops)
        (width, height) in pixels, the hash or "", and for each row its `Verdict` and the bytes of
        its file, None where the verdict is not "made".
    """
    with Image.open(io.BytesIO(data)) as photo:
        size = photo.size
        verdicts = [judge(row, *size, options) for row in rows]
        pixels = [verdict.pixels for verdict in verdicts if verdict.pixels]
        scales = [draft_scale(cut, options.size, options.keep_aspect) for cut in pixels]
        if hashed:  # for which 128 pixels suffice
            scales.append(draft_scale((0, 0, *size), 64, False))
        picture = decode(photo, min(scales)) if scales else None
    crops = []
    for row, verdict in zip(rows, verdicts, strict=True):
        crops.append(None)
        if verdict.pixels:
            how = (options.size, rotation, options.padding, options.keep_aspect, size)
            crop = crop_box(picture, _box(row), *how)
            crop.info = {}  # Pillow would write the photo's comment and colour profile into it
            stream = io.BytesIO()
            crop.save(stream, options.format.upper(), quality=options.quality)
            crops[-1] = stream.getvalue()
    return size, photo_hash(upright(picture, rotation)) if hashed else "", verdicts, crops


def hash_rows(rows: "pd.DataFrame", store: Store, options: Options | None = None) -> "pd.DataFrame":
    """Hash photos, so that near-identical ones are found.

    Parameters
    ----------
    rows : pandas.DataFrame
        ImageID and Rotation, sorted by ImageID. With `options` one row per box, and also n, the
        coordinates, Key and Have (whether this crop exists already).
    store : Store
    options : Options, optional
        Cut the boxes from the same decoded photo, because decoding is most of the work. The crops
        are kept among the state of the data directory until `crop_rows` takes them.

    Returns
    -------
    pandas.DataFrame
        One row per photo: `state.FACTS` and Error, which says why there is no hash.
    """
    import pandas as pd

    staged: dict[str, bytes] = {}

    def one(boxes: list) -> list[tuple]:
        first = boxes[0]
        wanted = [row for row in boxes if not row.Have] if options else []

        def work(data: bytes):
            return len(data), cut_photo(data, first.Rotation, wanted, options or Options(), True)

        found, error = _attempt(work, store, first.ImageID)
        if error:
            return [(first.ImageID, first.Rotation, 0, 0, 0, "", "", error)]
        length, (size, digest, _, crops) = found
        for row, data in zip(wanted, crops, strict=True):
            if data and sum(map(len, staged.values())) + len(data) <= state.MOST:
                staged[state.entry(row)] = data
        return [(first.ImageID, first.Rotation, length, *size, digest, "", "")]

    facts = pd.DataFrame(
        _each_photo(one, rows, options.workers if options else 1), columns=[*state.FACTS, "Error"]
    )
    facts["Stage"] = state.save_crops(store, staged)
    return facts


def crop_rows(rows: "pd.DataFrame", store: Store, options: Options) -> "pd.DataFrame":
    """Cut boxes out of photos and write the crops.

    Parameters
    ----------
    rows : pandas.DataFrame
        One row per box, sorted by ImageID: ImageID, n, Rotation, the coordinates, Key and
        CropPath. Optional: Width and Height of the photo with Stage (from `hash_rows`), and
        Existing, the CropPath of a crop with the same Key.
    store : Store
    options : Options

    Returns
    -------
    pandas.DataFrame
        One row per row given: ImageID, n, Left, Upper, Right, Lower, CropPath, SHA256, Bytes,
        Error, Key and Outcome ("made", "small" or "failed").
    """
    import pandas as pd

    stages = rows["Stage"].unique() if "Stage" in rows else ()
    staged = {name: data for stage in stages for name, data in state.load_crops(store, stage)}

    def one(boxes: list) -> list[tuple]:
        results = {}
        for row in boxes:
            if data := staged.get(state.entry(row)) or _existing(store, row):
                results[row.Index] = judge(row, row.Width, row.Height, options), data
        missing = [row for row in boxes if row.Index not in results]
        if missing:

            def work(data: bytes):
                return cut_photo(data, boxes[0].Rotation, missing, options, False)

            found, error = _attempt(work, store, boxes[0].ImageID)
            failed = [Verdict("failed", error=error)] * len(missing)
            verdicts, crops = found[2:] if found else (failed, [None] * len(missing))
            for row, *result in zip(missing, verdicts, crops, strict=True):
                results[row.Index] = result
        return [_written(store, row, *results[row.Index]) for row in boxes]

    return pd.DataFrame(_each_photo(one, rows, options.workers), columns=list(state.OUTCOME))


def _written(store: Store, row, verdict: Verdict, data: bytes | None) -> tuple:
    """Write a crop; return its row of outcomes."""
    path, digest = "", ""
    if data:
        path, digest = row.CropPath, hashlib.sha256(data).hexdigest()
        store.write(store.crop(path), data)
    pixels = verdict.pixels or (None,) * len(PIXELS)
    size = len(data) if data else None
    return (
        *(row.ImageID, row.n, *pixels),
        *(path, digest, size, verdict.error, row.Key, verdict.outcome),
    )


def _existing(store: Store, row) -> bytes | None:
    """Return a crop made the same way that lies under another path, None if there is none."""
    if not (path := getattr(row, "Existing", "")):
        return None
    try:
        return store.crop(path).read_bytes()
    except FileNotFoundError:
        return None


def _attempt(work: Callable, store: Store, image_id: str) -> tuple:
    """Return (work(file of the photo), "") or (None, why it cannot be done)."""
    try:
        data = store.read(store.photo(image_id))
    except FileNotFoundError:
        return None, "The photo is not on disk; download it again."
    try:
        return work(data), ""
    except UnidentifiedImageError:
        return None, "The photo is in no format that Pillow reads."
    except Exception as error:  # for a broken file Pillow raises nearly anything
        return None, f"The photo cannot be cropped: {error}"


def _each_photo(one: Callable, rows: "pd.DataFrame", workers: int) -> list[tuple]:
    """Return what `one` returns for the rows of each photo, in their order."""
    photos = [list(boxes) for _, boxes in groupby(rows.itertuples(), lambda row: row.ImageID)]
    if workers == 1:
        return [outcome for boxes in photos for outcome in one(boxes)]
    pool = ThreadPoolExecutor(workers)
    try:
        return [outcome for outcomes in pool.map(one, photos) for outcome in outcomes]
    finally:
        pool.shutdown(cancel_futures=True)


def _box(row) -> tuple[float, float, float, float]:
    return row.XMin, row.XMax, row.YMin, row.YMax
