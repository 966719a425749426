"""Photos that show nearly the same thing: a burst, or one photo uploaded twice."""

import importlib.util

import numpy as np
import pandas as pd
from PIL import Image, ImageStat

from openimager.errors import BadInput

# Bits of 64 in which two hashes may differ.
DISTANCE = 6
# Standard deviation in grey levels (of 255) below which a picture has too little in it to hash.
FLAT = 4.0
_BLOCK = 2048


def require() -> None:
    """Raise BadInput if imagehash, which the downloader does without, is not installed."""
    if importlib.util.find_spec("imagehash") is None:
        raise BadInput(
            "Finding near-identical photos needs the library imagehash. "
            "Install it with: python -m pip install imagehash"
        )


def photo_hash(picture: Image.Image) -> str:
    """Return a perceptual hash of an upright photo: 16 hex digits, or "" for a featureless one."""
    import imagehash

    # A small picture first: the hash should depend little on the scale of the decoding.
    grey = picture.reduce(max(1, min(picture.size) // 128)).convert("L")
    if ImageStat.Stat(grey).stddev[0] < FLAT:
        return ""
    return str(imagehash.phash(grey))


def near_pairs(hashes: np.ndarray, distance: int = DISTANCE) -> np.ndarray:
    """Return the pairs of 64-bit hashes that differ in at most `distance` bits.

    All pairs are compared, a block of rows at a time: 30,000 hashes take seconds and a few
    megabytes, whatever they look like.

    Parameters
    ----------
    hashes : numpy.ndarray of uint64, shape (n,)

    Returns
    -------
    numpy.ndarray of int, shape (pairs, 2)
        Positions (i, j) with i < j.

    Examples
    --------
    >>> near_pairs(np.array([0b0000, 0b0111, 0b0001], dtype=np.uint64), distance=1).tolist()
    [[0, 2]]
    """
    found = [np.empty((0, 2), dtype=int)]
    for start in range(0, len(hashes), _BLOCK):
        block = hashes[start : start + _BLOCK, None]
        i, j = np.nonzero(np.bitwise_count(block ^ hashes[None, start:]) <= distance)
        found.append(np.column_stack([i, j])[i < j] + start)
    return np.concatenate(found)


def group(hashes: dict[str, str], distance: int = DISTANCE) -> pd.Series:
    """Return the group of each photo, named by the smallest ImageID in it.

    Parameters
    ----------
    hashes : dict
        ImageID to `photo_hash`. A photo without a hash ("") stays by itself.

    Returns
    -------
    pandas.Series of str, indexed by ImageID

    Examples
    --------
    >>> group({"b": "00000000000000ff", "a": "00000000000000fe", "c": ""}).to_dict()
    {'a': 'a', 'b': 'a', 'c': 'c'}
    """
    leader = {image_id: image_id for image_id in sorted(hashes)}

    def find(image_id: str) -> str:
        while leader[image_id] != image_id:
            leader[image_id] = leader[leader[image_id]]
            image_id = leader[image_id]
        return image_id

    first_with = {}
    for image_id in leader:
        if hashes[image_id]:
            leader[image_id] = first_with.setdefault(hashes[image_id], image_id)
    values = np.array([int(value, 16) for value in first_with], dtype=np.uint64)
    hashed = list(first_with.values())
    for i, j in near_pairs(values, distance):
        first, second = sorted((find(hashed[i]), find(hashed[j])))
        leader[second] = first
    return pd.Series({image_id: find(image_id) for image_id in leader}, dtype=str)
