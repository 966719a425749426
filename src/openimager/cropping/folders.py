"""The folders of crops: their names, what lies in them, what no longer belongs."""

import contextlib
import hashlib
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path

from openimager.errors import BadInput
from openimager.store import IMAGE_ID, SUBSETS

_CROP = re.compile(rf"{IMAGE_ID}_\d+\.jpg")
# What a killed process leaves behind (`openimager.files.replacing`).
_PART = re.compile(rf"\.{IMAGE_ID}_\d+\.jpg\.[0-9a-f]+\.part")
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def folder_name(category: str) -> str:
    """Return the name of a category's folder, safe on every file system.

    A name that is safe stays as it is. Another has its unsafe characters replaced and a digest
    of the whole name added, so that two categories do not share a folder.

    Examples
    --------
    >>> folder_name("Hot dog")
    'Hot dog'
    >>> folder_name("Salt/pepper"), folder_name("Salt_pepper")
    ('Salt_pepper-1e89d6', 'Salt_pepper')
    """
    safe = re.sub(r'[<>:"/\\|?*\x00-\x1f\x7f]', "_", unicodedata.normalize("NFC", category))
    safe = safe[:80].strip(" .")
    if safe and safe == category and not _DEVICE.fullmatch(safe):
        return safe
    return f"{safe}-{hashlib.sha256(category.encode()).hexdigest()[:6]}".lstrip("-")


def folder_names(categories: Iterable[str]) -> dict[str, str]:
    """Return the folder of each category.

    Raises
    ------
    BadInput
        If two of them would share one where capitals do not count, as on Windows and macOS.
    """
    names, taken = {}, {}
    for category in categories:
        names[category] = folder_name(category)
        other = taken.setdefault(names[category].casefold(), category)
        if other != category:
            raise BadInput(
                f"The categories '{other}' and '{category}' would share one folder where "
                "capitals do not count. Rename one of them in boxes.csv."
            )
    return names


def csv_path(part: str, folder: str, image_id: str, n: int) -> str:
    """Return the CropPath of a crop, as crops.csv has it.

    Examples
    --------
    >>> csv_path("train", "Cat", "0123456789abcdef", 0)
    'data/crops/train/Cat/0123456789abcdef_0.jpg'
    """
    return f"data/crops/{part}/{folder}/{image_id}_{n}.jpg"


def crop_path(data_dir: str | os.PathLike, path: str) -> Path:
    """Return where a CropPath of crops.csv lies on disk, whatever the data directory is called.

    Examples
    --------
    >>> crop_path("elsewhere", "data/crops/train/Cat/0123456789abcdef_0.jpg").as_posix()
    'elsewhere/crops/train/Cat/0123456789abcdef_0.jpg'
    """
    return Path(data_dir, *path.split("/")[1:])


def lying(data_dir: Path) -> dict[tuple[str, str], tuple[Path, ...]]:
    """Return the crops on disk by (folder, file name), in whichever part they lie."""
    found = defaultdict(tuple)
    for path in data_dir.glob("crops/*/*/*.jpg"):
        found[path.parent.name, path.name] += (path,)
    return found


def tidy(data_dir: Path, belong: Collection[Path], folders: Iterable[str]) -> int:
    """Remove crops that do not belong, and make every category's folder in every part.

    Keras takes its classes from the folders that it finds, so a category without a crop in one
    part needs its (empty) folder there. Files that are not named as crops are let be.

    Returns
    -------
    int
        How many crops were removed.
    """
    removed = 0
    for path in list(data_dir.glob("crops/*/*/*")):
        if _PART.fullmatch(path.name):
            path.unlink()
        elif _CROP.fullmatch(path.name) and path not in belong:
            path.unlink()
            removed += 1
    wanted = {data_dir / "crops" / part / folder for part in SUBSETS for folder in folders}
    for folder in list(data_dir.glob("crops/*/*")):
        if folder not in wanted and folder.is_dir():
            with contextlib.suppress(OSError):  # it holds what somebody else put there
                folder.rmdir()
    for folder in wanted:
        folder.mkdir(parents=True, exist_ok=True)
    return removed
