"""One photo in, its crops out: the unit of work of the cropper."""

import hashlib
import io
import json
import math
from pathlib import Path
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError

from openimager.cropping.duplicates import photo_hash
from openimager.cropping.geometry import (
    box_to_pixels,
    crop_box,
    decode,
    draft_scale,
    pad_box,
    upright,
)
from openimager.files import replacing

# Counted up when the same options come to give other pixels, so that old crops are made anew.
_RULES = 1
_END_OF_JPEG = b"\xff\xd9"


class Options(NamedTuple):
    """How crops are made; `openimager.crops.write_crops` says what each means."""

    size: int | None = 128
    quality: int = 95
    padding: float = 0
    keep_aspect: bool = False
    min_pixels: int = 1


class Facts(NamedTuple):
    """What is remembered of a photo so that it need not be opened again."""

    Bytes: int
    Rotation: float
    Width: int
    Height: int
    Hash: str


class Cut(NamedTuple):
    """One crop to make: the box, the path it is to have, and files that may be it already."""

    box: tuple[float, float, float, float]
    path: Path
    there: tuple[Path, ...] = ()


class Job(NamedTuple):
    """One photo (degrees to turn it, NaN where not recorded) and the crops wanted of it."""

    photo: Path
    rotation: float
    cuts: tuple[Cut, ...]
    options: Options = Options()
    facts: Facts | None = None


class Result(NamedTuple):
    """What became of one `Cut`: outcome is "made", "remade", "kept", "small" or "failed"."""

    outcome: str
    pixels: tuple[int, int, int, int] | None = None
    path: Path | None = None
    sha256: str = ""
    error: str = ""


def cut_photo(job: Job) -> tuple[Facts | None, list[Result]]:
    """Make those crops of a photo that are not there yet, decoding it at most once.

    Each crop carries, as a JPEG comment, a digest of all that it was made from. So a crop is known
    for what it is without a list of what was done: other options, another box or another photo of
    the same name give another digest, and the crop is made anew.

    Returns
    -------
    facts : Facts or None
        None if the photo is missing or does not decode.
    results : list of Result
        One for each of ``job.cuts``, in their order.

    Raises
    ------
    OSError
        If a crop cannot be written. Trouble with the photo is a result, not an exception.
    """
    try:
        facts, results, fresh = _cut(job)
    except FileNotFoundError:
        return None, _all_failed(job, "The photo is not on disk; download it again.")
    except UnidentifiedImageError:
        return None, _all_failed(job, "The photo is in no format that Pillow reads.")
    except Exception as error:  # for a broken file Pillow raises nearly anything
        return None, _all_failed(job, f"The photo cannot be cropped: {error}")
    for k, data in fresh.items():
        _write(job.cuts[k].path, data)
        results[k] = results[k]._replace(
            path=job.cuts[k].path, sha256=hashlib.sha256(data).hexdigest()
        )
    return facts, results


def _cut(job: Job) -> tuple[Facts, list[Result], dict[int, bytes]]:
    """Return facts, results and the bytes of the crops to be written, by their position."""
    size = job.photo.stat().st_size
    if job.facts:
        results = [_judge(job, cut, size, (job.facts.Width, job.facts.Height)) for cut in job.cuts]
        if not any(result.outcome in ("made", "remade") for result in results):
            return job.facts, results, {}
    with Image.open(job.photo) as photo:
        stored = photo.size
        results = [_judge(job, cut, size, stored) for cut in job.cuts]
        todo = [k for k, result in enumerate(results) if result.outcome in ("made", "remade")]
        size_, keep_aspect = job.options.size, job.options.keep_aspect
        scales = [draft_scale(results[k].pixels, size_, keep_aspect) for k in todo]
        # For its hash alone a photo needs no more than 128 pixels.
        scales.append(draft_scale((0, 0, *stored), 64, False))
        picture = decode(photo, min(scales))
    fresh = {k: _crop(job, job.cuts[k], size, picture, stored) for k in todo}
    digest = photo_hash(upright(picture, job.rotation))
    return Facts(size, job.rotation, *stored, digest), results, fresh


def _judge(job: Job, cut: Cut, size: int, stored: tuple[int, int]) -> Result:
    """Say what is to become of one crop of a photo of `size` bytes and (width, height) `stored`."""
    x_min, x_max, y_min, y_max = cut.box
    if not all(map(math.isfinite, cut.box)):
        return Result("failed", error="The box lacks a coordinate.")
    if x_min >= x_max or y_min >= y_max:
        return Result("failed", error="The box has no width or no height.")
    if x_min >= 1 or y_min >= 1 or x_max <= 0 or y_max <= 0:
        return Result("failed", error="The box lies outside the photo.")
    left, upper, right, lower = box_to_pixels(cut.box, *stored)
    if min(right - left, lower - upper) < job.options.min_pixels:
        return Result("small")
    pixels = box_to_pixels(pad_box(cut.box, job.options.padding), *stored)
    recipe = _recipe(job, cut, size)
    # A run that was interrupted may have left the crop in another part than its last.
    for path in sorted(cut.there, key=lambda path: path != cut.path):
        data = path.read_bytes()
        if recipe in data[:64] and data.endswith(_END_OF_JPEG):
            return Result("kept", pixels, path, hashlib.sha256(data).hexdigest())
    return Result("remade" if cut.there else "made", pixels)


def _recipe(job: Job, cut: Cut, size: int) -> bytes:
    """Return a digest of all that a crop is made from, as bytes that a JPEG comment can hold."""
    made_from = [_RULES, *job.options, *cut.box, str(job.rotation), size]
    digest = hashlib.sha256(json.dumps(made_from).encode()).hexdigest()
    return f"openimager crop {digest[:16]}".encode()


def _crop(job: Job, cut: Cut, size: int, picture: Image.Image, stored: tuple[int, int]) -> bytes:
    """Return one crop as the bytes of a JPEG file."""
    options = job.options
    crop = crop_box(
        picture, cut.box, options.size, job.rotation, options.padding, options.keep_aspect, stored
    )
    stream = io.BytesIO()
    crop.save(stream, "JPEG", quality=options.quality, comment=_recipe(job, cut, size))
    return stream.getvalue()


def _write(path: Path, data: bytes) -> None:
    with replacing(path) as part:
        part.write_bytes(data)


def _all_failed(job: Job, error: str) -> list[Result]:
    return [Result("failed", error=error)] * len(job.cuts)
