"""The V4 tables: where they are, and fetching them once into a per-user cache.

Reading the wanted rows of them is in `openimager.rows`; its functions are offered here too, so
that who works with the tables needs one import.
"""

import atexit
import hashlib
import ipaddress
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

from openimager.errors import BadInput
from openimager.fetching import NotThere, fetch_file
from openimager.rows import (
    BOX_COLUMNS,
    FLAGS,
    PHOTO_COLUMNS,
    SUBSETS,
    Rows,
    chunks,
    read_boxes,
    read_photos,
)

__all__ = [
    "BASE_URL",
    "BOX_COLUMNS",
    "FLAGS",
    "PHOTO_COLUMNS",
    "SUBSETS",
    "MissingTable",
    "Rows",
    "chunks",
    "fetch",
    "read_boxes",
    "read_photos",
    "table_path",
]

BASE_URL = "https://storage.googleapis.com/openimages/2018_04/"
CVDF_URL = "https://open-images-dataset.s3.amazonaws.com/{Subset}/{ImageID}.jpg"

_PATHS = {
    "classes": "class-descriptions-boxable.csv",
    "hierarchy": "bbox_labels_600_hierarchy.json",
    "boxes": "{subset}/{subset}-annotations-bbox.csv",
    "photos": "{subset}/{subset}-images-with-rotation.csv",
    "labels": "{subset}/{subset}-annotations-human-imagelabels-boxable.csv",
}


class _Known(NamedTuple):
    size: int
    algorithm: str = ""
    digest: str = ""


# Public records of the files under BASE_URL, and of them alone. The table of image-level labels
# is not listed because no record of it is known.
_KNOWN = {
    "class-descriptions-boxable.csv": _Known(11_255),
    "bbox_labels_600_hierarchy.json": _Known(86_291),
    "train/train-annotations-bbox.csv": _Known(
        1_194_033_454, "sha256", "0646f6a18872519da5eb89a6420d23c1202bfb44c62f89bea8d1621817234309"
    ),
    "validation/validation-annotations-bbox.csv": _Known(
        17_074_036, "sha256", "aebdfc1dbae39dc1f25d2079720f95c5963eeaf9ff23fe638522f09aeb306ee7"
    ),
    "test/test-annotations-bbox.csv": _Known(
        52_174_204, "sha256", "7cd2d47f158b6e752c972a20186f33a2d467c371e326d39e210e2ee89d978d2b"
    ),
    "train/train-images-boxable-with-rotation.csv": _Known(
        638_407_721, "md5", "a4ac0bcedb5c2df4d1b1230dc6b41b8f"
    ),
    "validation/validation-images-with-rotation.csv": _Known(
        15_245_485, "sha256", "ed93a0e121fe345effdfc7359b848dbc64a1ff6778c8c73563157cb500b33a17"
    ),
    "test/test-images-with-rotation.csv": _Known(
        45_227_339, "sha256", "de55c6b8cbda32a79f4a20f28572d54e9c49d527a4006725675764074a51a36d"
    ),
}

# Enough of a table's header to know that what arrived is the table and not a page about it.
_STARTS = {
    "annotations-bbox.csv": set(BOX_COLUMNS),
    "with-rotation.csv": set(PHOTO_COLUMNS),
    "imagelabels-boxable.csv": {"ImageID", "Source", "LabelName", "Confidence"},
}


class MissingTable(BadInput):
    """The site, or the directory, does not have the table."""


def table_path(kind: str, subset: str | None = None) -> str:
    """Return where a table stands below the base URL.

    Parameters
    ----------
    kind : str
        ``"classes"``, ``"hierarchy"``, ``"boxes"``, ``"photos"`` or ``"labels"`` (the
        human-verified image-level labels).
    subset : str, optional
        ``"train"``, ``"validation"`` or ``"test"``, for the last three kinds.

    Examples
    --------
    >>> table_path("boxes", "test")
    'test/test-annotations-bbox.csv'
    >>> table_path("photos", "train")
    'train/train-images-boxable-with-rotation.csv'
    """
    if kind == "photos" and subset == "train":
        return "train/train-images-boxable-with-rotation.csv"
    return _PATHS[kind].format(subset=subset)


def is_directory(base_url: str | os.PathLike) -> bool:
    """Tell whether a base is a directory, to be read in place, and not a URL.

    Examples
    --------
    >>> is_directory("https://storage.googleapis.com/openimages/2018_04/")
    False
    >>> is_directory("mirror/2018_04")
    True
    """
    return not re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", os.fspath(base_url))


def normal_base(base_url: str | os.PathLike) -> str:
    """Return a base URL with its closing slash, or a directory's path as text.

    Raises
    ------
    BadInput
        If the URL is not http or https, or the directory does not exist.

    Examples
    --------
    >>> normal_base("https://host/2018_04")
    'https://host/2018_04/'
    """
    base = os.fspath(base_url)
    if is_directory(base):
        if not Path(base).is_dir():
            raise BadInput(
                f"There is no directory '{base}'. Give the folder of the tables (such as "
                "mirror/2018_04), or a URL that begins with http:// or https://."
            )
        return base
    parts = urlsplit(base)
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
        raise BadInput(
            f"'{base}' is no base URL: it must begin with http:// or https:// and a host."
        )
    return base if base.endswith("/") else base + "/"


def is_loopback(url: str) -> bool:
    """Tell whether a URL is served by this machine.

    Examples
    --------
    >>> is_loopback("http://127.0.0.1:8000/2018_04/"), is_loopback("https://example.org/")
    (True, False)
    """
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def cache_folder(cache_dir: str | os.PathLike | None = None) -> Path:
    """Return the per-user cache directory: `cache_dir`, OPENIMAGER_CACHE or the platform's own."""
    if cache_dir or os.environ.get("OPENIMAGER_CACHE"):
        return Path(cache_dir or os.environ["OPENIMAGER_CACHE"])
    import platformdirs

    return Path(platformdirs.user_cache_dir("openimager", appauthor=False))


def fetch(
    paths: Iterable[str],
    base_url: str | os.PathLike = BASE_URL,
    cache_dir: str | os.PathLike | None = None,
    quiet: bool = False,
) -> list[Path]:
    """Return the tables as local files, fetching those that the cache lacks, two at a time.

    A fetch that broke off is resumed where it stopped. What arrived is checked before it gets
    its name: size and hash for the files of Open Images itself, Content-Length and columns for
    any other site. A directory is read in place. Tables of a loopback address are fetched anew
    every time: the next site at that port may be another one.

    Parameters
    ----------
    paths : iterable of str
        Paths below the base URL, as `table_path` gives them.
    base_url : str or path-like
        A URL or directory that ends in the folder of the tables.
    cache_dir : path-like, optional
        In place of the per-user cache directory.
    quiet : bool
        Show no progress.

    Returns
    -------
    list of Path
        In the order of `paths`.

    Raises
    ------
    MissingTable
        If the site has no such table.
    TryAgain
        If the site can't be reached, or what it sends does not pass the check.
    """
    paths, base = list(paths), normal_base(base_url)
    if is_directory(base):
        local = [Path(base, path) for path in paths]
        for path in local:
            if not path.is_file():
                raise MissingTable(
                    f"There is no table {path}. The directory must be the folder of the tables, "
                    f"the one that holds {_PATHS['classes']}."
                )
        return local
    folder = _fresh_folder() if is_loopback(base) else _folder_of(base, cache_folder(cache_dir))
    stop = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(_fetch_one, base, path, folder, stop, quiet) for path in paths]
        try:
            return [job.result() for job in jobs]
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise


def _fetch_one(base: str, path: str, folder: Path, stop: threading.Event, quiet: bool) -> Path:
    target = folder / path
    try:
        fetch_file(urljoin(base, path), target, lambda part: _fault(base, path, part), stop, quiet)
    except NotThere as error:
        raise MissingTable(
            f"{error} A base URL ends in the folder of the tables, as {BASE_URL} does."
        ) from None
    return target


def _fault(base: str, path: str, part: Path) -> str:
    """Say what is wrong with a table that has arrived whole, ``""`` if nothing is."""
    known = _KNOWN.get(path) if base == BASE_URL else None
    if known:
        if part.stat().st_size != known.size:
            return f"it has {part.stat().st_size} bytes, not {known.size}"
        if known.algorithm:
            with open(part, "rb") as stream:
                digest = hashlib.file_digest(stream, known.algorithm).hexdigest()
            if digest != known.digest:
                return f"its {known.algorithm} is {digest}, not {known.digest}"
    with open(part, "rb") as stream:
        first = stream.readline(4096).decode("utf-8-sig", "replace").strip()
    for ending, columns in _STARTS.items():
        if path.endswith(ending) and (missing := columns - set(first.replace('"', "").split(","))):
            return f"it lacks the columns {', '.join(sorted(missing))}"
    if path == _PATHS["classes"] and not re.match(r'"?/[a-z]/\w+"?,', first):
        return "its first line is no MID and name"
    if path == _PATHS["hierarchy"] and not first.startswith("{"):
        return "it is no JSON object"
    return ""


def _folder_of(base: str, cache: Path) -> Path:
    """Return the cache's folder for a base URL: readable, and different for each URL."""
    readable = re.sub(r"[^A-Za-z0-9.-]+", "_", base.partition("://")[2]).strip("_")[:80]
    return cache / f"{readable}-{hashlib.sha256(base.encode()).hexdigest()[:8]}"


def _fresh_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="openimager-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
