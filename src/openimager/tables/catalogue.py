"""Releases of Open Images: where each table is, and what is known of its file."""

import csv
import re
from pathlib import Path
from urllib.parse import urljoin, urlsplit

RELEASES = {
    **{f"v{n}": f"Open Images V{n}" for n in (4, 5, 6, 7)},
    "sample": "the drawn sample of openimager",
}
ROOT_URL = "https://storage.googleapis.com/openimages/"
# The tables of V4, which later releases share in part; relative OriginalURLs start from it.
BASE_URL = ROOT_URL + "2018_04/"
CVDF_URL = "https://open-images-dataset.s3.amazonaws.com/{Subset}/{ImageID}.jpg"

# Paths start from the folder of V4's tables. If a table has several, the first that exists is read.
with open(Path(__file__).with_name("catalogue.csv"), encoding="utf-8", newline="") as _stream:
    FILES = list(csv.DictReader(_stream))
# What public records say about some files: their size and, for most, a hash in hex.
_FACTS = ("bytes", "sha256", "md5")
KNOWN = {
    urljoin(BASE_URL, file["path"]): {fact: file[fact] for fact in _FACTS if file[fact]}
    for file in FILES
}


def table_paths(release: str, kind: str, subset: str | None = None) -> tuple[str, ...]:
    """Return the paths that a table may have, relative to the folder of V4's tables, best first.

    `kind` is ``"classes"``, ``"hierarchy"``, ``"boxes"``, ``"photos"`` or ``"labels"`` (the
    human-verified image-level labels); the last three have a `subset`.

    >>> table_paths("v7", "boxes", "test"), table_paths("v7", "labels", "test")
    (('../v5/test-annotations-bbox.csv',), ())
    """
    wanted = (kind, subset or "")
    mine = (file for file in FILES if release in file["releases"].split())
    return tuple(file["path"] for file in mine if (file["kind"], file["subset"]) == wanted)


def is_loopback(url: str) -> bool:
    """Return whether a URL is served by this machine.

    >>> is_loopback("http://127.0.0.1:8000/2018_04/"), is_loopback("https://example.org/")
    (True, False)
    """
    host = urlsplit(url).hostname or ""
    return bool(re.fullmatch(r"(.+\.)?localhost|127(\.\d+){3}|::1", host))
