"""The split that the crops of a photo belong to: train, validation or test."""

import hashlib

import pandas as pd

from openimager.store import SUBSETS

SHARES = (70, 15, 15)


def split_of(image_id: str, shares=SHARES) -> str:
    """Return the split that a hash of the ImageID chooses; `shares` may have any unit.

    Examples
    --------
    >>> split_of("000a1249af2bc5f0"), split_of("000a1249af2bc5f0", shares=(0, 0, 1))
    ('train', 'test')
    """
    # Salted, because a limit chooses photos by a hash of the ImageID too, and these must not all
    # have the same split.
    digest = hashlib.sha256(f"part {image_id}".encode()).digest()
    point = int.from_bytes(digest[:8], "big") / 2**64 * sum(shares)
    if point < shares[0]:
        return SUBSETS[0]
    return SUBSETS[1] if point < shares[0] + shares[1] else SUBSETS[2]


def assign_splits(groups: pd.Series, subset: pd.Series, shares=SHARES) -> pd.Series:
    """Return the split of each photo.

    Photos of several official subsets stay in their own, but a photo that repeats one of a later
    subset (train, validation, test) is left out (""): a model must not be tested on what it has
    seen. Photos of one subset are divided by hash: a group goes where its first ImageID sends it,
    so a new photo moves nothing but the group that it joins. `groups` and `subset` map ImageID to
    the first ImageID of its group (`openimager.crops.duplicates.group`) and to its official subset.

    Examples
    --------
    >>> subset = pd.Series({"a": "train", "b": "train", "c": "test"})
    >>> assign_splits(pd.Series({"a": "a", "b": "b", "c": "b"}), subset).to_dict()
    {'a': 'train', 'b': '', 'c': 'test'}
    """
    if subset.nunique() <= 1:
        return groups.map(lambda first: split_of(first, shares)).astype(str)
    subset = subset.reindex(groups.index)
    rank = subset.map(SUBSETS.index)
    return subset.where(rank == rank.groupby(groups).transform("max"), "")
