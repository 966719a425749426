"""The split of each photo: train, validation or test, and the same for near-identical photos.

Near-identical photos are, for example, those of a burst, or one photo uploaded twice.
"""

import bisect
import hashlib

import numpy as np
import pandas as pd
from PIL import Image, ImageChops, ImageFilter, ImageStat

from openimager.store import SUBSETS

SHARES = (70, 15, 15)
# Bits of 256 in which the hashes of copies may differ. Of 1.6 million pairs of 1,780 real photos,
# none of different things came below 60, while 99 of 100 copies that were resized, compressed,
# made brighter or trimmed by 2 % of each side stay below 56.
DISTANCE = 56
# Mean difference (of 255) of a picture from itself blurred, below which it shows too little to
# hash, such as a clear sky. The 1,780 real photos have 3 and more.
_DETAIL = 1.5
_SIDE = 64
# The first 16 rows of the matrix of the discrete cosine transform.
_COSINES = np.cos(np.pi / _SIDE * np.outer(np.arange(16), np.arange(_SIDE) + 0.5))


def photo_hash(picture: Image.Image) -> str:
    """Return the perceptual hash of an upright photo: 64 hex digits, or "" for a featureless one.

    It has a bit for each of the lowest 16 x 16 frequencies, set if that is above their median.
    (This is the "pHash" of the library imagehash with hash_size=16, bit for bit.)
    """
    # A small picture first: the hash should depend little on the scale of the decoding.
    grey = picture.reduce(max(1, min(picture.size) // 128)).convert("L")
    small = grey.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    detail = ImageChops.difference(small, small.filter(ImageFilter.GaussianBlur(4)))
    if ImageStat.Stat(detail).mean[0] < _DETAIL:
        return ""
    low = _COSINES @ np.asarray(small, dtype=float) @ _COSINES.T
    return np.packbits(low > np.median(low)).tobytes().hex()


def near_pairs(hashes: np.ndarray, distance: int = DISTANCE) -> np.ndarray:
    """Return the positions (i, j), i < j, of hashes that differ in at most `distance` bits.

    `hashes` are uint64 of shape (n, words). All pairs are compared: 30,000 hashes take seconds.
    """
    words, found = np.ascontiguousarray(hashes.T), []
    for i in range(len(hashes)):
        bits = np.bitwise_count(words[:, i + 1 :] ^ words[:, i, None]).sum(axis=0, dtype=np.uint16)
        found += [(i, i + 1 + j) for j in np.flatnonzero(bits <= distance)]
    return np.array(found, dtype=int).reshape(-1, 2)


def group(hashes: pd.Series, distance: int = DISTANCE) -> pd.Series:
    """Return the group of each photo, named by the smallest ImageID in it.

    `hashes` maps ImageID to `photo_hash`; a photo without a hash ("") stays by itself.
    """
    hashes = hashes.sort_index()
    hashed = np.flatnonzero(hashes != "")
    values = np.frombuffer(bytes.fromhex("".join(hashes)), dtype=np.uint64).reshape(-1, 4)
    i, j = hashed[near_pairs(values, distance)].T
    first, before = np.arange(len(hashes)), None
    while not np.array_equal(first, before):  # the smallest position spreads along the pairs
        before = first.copy()
        np.minimum.at(first, i, before[j])
        np.minimum.at(first, j, before[i])
        first = first[first]
    return pd.Series(hashes.index[first], hashes.index, dtype=str)


def split_of(image_id: str, shares=SHARES) -> str:
    """Return the split that a hash of the ImageID chooses; `shares` need not add up to 1."""
    digest = hashlib.sha256(f"part {image_id}".encode()).digest()
    point = int.from_bytes(digest[:8], "big") / 2**64 * sum(shares)
    return SUBSETS[bisect.bisect(np.cumsum(shares[:2]), point)]


def assign_splits(groups: pd.Series, subset: pd.Series, shares=SHARES) -> pd.Series:
    """Return the split of each photo; `groups` and `subset` map ImageID to its group and subset.

    If there are several official subsets, photos stay in theirs, but a photo that repeats one of a
    later subset (in the order train, validation, test) is left out (""): a model must not be tested
    on what it has seen. If there is only one, it is divided by hash: a group goes where the hash of
    its first ImageID sends it, so a new photo moves nothing but the group that it joins.

    >>> subset = pd.Series({"a": "train", "b": "train", "c": "test"})
    >>> assign_splits(pd.Series({"a": "a", "b": "b", "c": "b"}), subset).to_dict()
    {'a': 'train', 'b': '', 'c': 'test'}
    """
    if subset.nunique() <= 1:
        return groups.map(lambda first: split_of(first, shares)).astype(str)
    subset = subset.reindex(groups.index)
    rank = subset.map(SUBSETS.index)
    return subset.where(rank == rank.groupby(groups).transform("max"), "")
