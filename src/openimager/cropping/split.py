"""Which part of the data, train, validation or test, the crops of a photo belong to."""

import hashlib

import pandas as pd

from openimager.store import SUBSETS

SHARES = (70, 15, 15)


def part_of(image_id: str, shares=SHARES) -> str:
    """Return the part that a photo falls into by a hash of its ImageID.

    Parameters
    ----------
    image_id : str
    shares : sequence of three float
        How much train, validation and test get, in any unit.

    Examples
    --------
    >>> part_of("000a1249af2bc5f0"), part_of("000a1249af2bc5f0", shares=(0, 0, 1))
    ('train', 'test')
    """
    # Salted, because a limited selection is taken by a hash of the ImageID too and must not all
    # fall into one part.
    digest = hashlib.sha256(f"part {image_id}".encode()).digest()
    point = int.from_bytes(digest[:8], "big") / 2**64 * sum(shares)
    if point < shares[0]:
        return SUBSETS[0]
    return SUBSETS[1] if point < shares[0] + shares[1] else SUBSETS[2]


def by_hash(groups: pd.Series, shares=SHARES) -> pd.Series:
    """Return the part of each photo where all come from one official subset.

    A group goes where the hash of its first ImageID sends it: one photo more moves none but the
    members of a group that it joins.

    Parameters
    ----------
    groups : pandas.Series of str
        ImageID to the smallest ImageID of its group (`openimager.cropping.duplicates.group`).
    shares : sequence of three float

    Returns
    -------
    pandas.Series of str, indexed by ImageID
    """
    return groups.map(lambda first: part_of(first, shares)).astype(str)


def official(groups: pd.Series, subset: pd.Series) -> pd.Series:
    """Return the part of each photo where there are several official subsets: its own.

    But a photo that repeats one of a later subset (train, validation, test) is left out: what a
    model is tested on must not be what it has seen.

    Parameters
    ----------
    groups, subset : pandas.Series of str
        ImageID to the name of its group, and to its official subset.

    Returns
    -------
    pandas.Series of str, indexed by ImageID
        "" for a photo that is left out.

    Examples
    --------
    >>> subset = pd.Series({"a": "train", "b": "train", "c": "test"})
    >>> official(pd.Series({"a": "a", "b": "b", "c": "b"}), subset).to_dict()
    {'a': 'train', 'b': '', 'c': 'test'}
    """
    subset = subset.reindex(groups.index)
    rank = subset.map(SUBSETS.index)
    return subset.where(rank == rank.groupby(groups).transform("max"), "")
