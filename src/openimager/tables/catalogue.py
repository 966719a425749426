"""Releases of Open Images: where each table is, and what is known of its file."""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from openimager.errors import BadInput
from openimager.store import SUBSETS

RELEASES = ("v4", "v5", "v6", "v7", "sample")
ROOT_URL = "https://storage.googleapis.com/openimages/"
# The tables of V4, which later releases share in part; relative OriginalURLs are relative to it.
FOLDER = "2018_04/"
BASE_URL = ROOT_URL + FOLDER
CVDF_URL = "https://open-images-dataset.s3.amazonaws.com/{Subset}/{ImageID}.jpg"

_V4 = {
    "classes": "class-descriptions-boxable.csv",
    "hierarchy": "bbox_labels_600_hierarchy.json",
    "boxes": "{subset}/{subset}-annotations-bbox.csv",
    "photos": "{subset}/{subset}-images{boxable}-with-rotation.csv",
    "labels": "{subset}/{subset}-annotations-human-imagelabels-boxable.csv",
}
# Of later releases, from the folder of V4's tables.
_LATER_BOXES = {
    "train": "../v6/oidv6-train-annotations-bbox.csv",
    "validation": "../v5/validation-annotations-bbox.csv",
    "test": "../v5/test-annotations-bbox.csv",
}
# All releases name the same 601 categories: the first of these files that exists is read.
_V5_CLASSES = ("../v5/class-descriptions-boxable.csv", _V4["classes"])
_CLASSES = {
    "v5": _V5_CLASSES,
    "v6": ("../v6/oidv6-class-descriptions-boxable.csv", *_V5_CLASSES),
    "v7": ("../v7/oidv7-class-descriptions-boxable.csv", *_V5_CLASSES),
}
# What public records say about files: their bytes and, for some, a hash in hex.
_RECORDS = Path(__file__).with_name("known.txt").read_text(encoding="utf-8").splitlines()
KNOWN = {BASE_URL + path: (int(size), *digest) for path, size, *digest in map(str.split, _RECORDS)}


def subset_names(subset: str | Iterable[str]) -> tuple[str, ...]:
    """Return subsets in the order of `SUBSETS`; ``"all"`` means all three.

    >>> subset_names(["test", "train"]), subset_names("all")
    (('train', 'test'), ('train', 'validation', 'test'))
    """
    asked = [subset] if isinstance(subset, str) else list(subset)
    if not asked or not {*asked} <= {*SUBSETS, "all"}:
        names = ", ".join(repr(name) for name in asked if name not in SUBSETS)
        raise BadInput(f"Unknown subset {names}. Allowed: {', '.join(SUBSETS)}, all.")
    return tuple(name for name in SUBSETS if name in asked or "all" in asked)


def table_path(kind: str, subset: str | None = None) -> str:
    """Return the path of a table of V4 below its folder.

    `kind` is ``"classes"``, ``"hierarchy"``, ``"boxes"``, ``"photos"`` or ``"labels"`` (the
    human-verified image-level labels); the last three have a `subset`.

    >>> table_path("photos", "train")
    'train/train-images-boxable-with-rotation.csv'
    """
    return _V4[kind].format(subset=subset, boxable="-boxable" if subset == "train" else "")


def table_paths(release: str, kind: str, subset: str | None = None) -> tuple[str, ...]:
    """Return where a table may be, from the folder of V4's tables, best first.

    >>> table_paths("v7", "boxes", "test"), table_paths("v7", "labels", "test")
    (('../v5/test-annotations-bbox.csv',), ())
    """
    if release not in RELEASES:
        raise BadInput(f"Unknown release {release!r}. Allowed: {', '.join(RELEASES)}.")
    later = {"labels": (), "classes": _CLASSES.get(release)}
    if (release, subset) != ("v5", "train"):
        later["boxes"] = (_LATER_BOXES.get(subset),)
    own = (table_path(kind, subset),)
    return later.get(kind, own) if release in _CLASSES else own


def tables_folder(release: str) -> str:
    """Return where V4's tables are from a release's base URL: ``"2018_04/"`` or, for V4, ``""``."""
    return FOLDER if release in _CLASSES else ""


def is_directory(base_url: str | os.PathLike) -> bool:
    """Tell a directory, to be read in place, from a URL.

    >>> is_directory(BASE_URL), is_directory("mirror/2018_04")
    (False, True)
    """
    return not re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", os.fspath(base_url))


def is_loopback(url: str) -> bool:
    """Tell whether a URL is served by this machine.

    >>> is_loopback("http://127.0.0.1:8000/2018_04/"), is_loopback("https://example.org/")
    (True, False)
    """
    host = urlsplit(url).hostname or ""
    return bool(re.fullmatch(r"(.+\.)?localhost|127(\.\d+){3}|::1", host))
