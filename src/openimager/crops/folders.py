"""The folders of crops: their names, and the removal of crops that no longer belong."""

import contextlib
import hashlib
import os
import re
import unicodedata
from collections.abc import Collection, Iterable
from pathlib import Path

from openimager.crops.cut import FORMATS
from openimager.errors import BadInput
from openimager.store import IMAGE_ID, SUBSETS, Store

# A crop, or what a killed process left of one (`openimager.files.write`).
_OWN = re.compile(
    rf"(?:.*/)?(\.)?{IMAGE_ID}_\d+\.(?:{'|'.join(FORMATS.values())})(?(1)\.[0-9a-f]+\.part)"
)
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def folder_name(category: str) -> str:
    """Return the name of a category's folder, safe on every file system.

    A name that is not has its unsafe characters replaced and a digest of it added, so that two
    categories do not share a folder.

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
    """Return the folder of each category; on Windows and macOS no two may differ in case alone."""
    names, taken = {}, {}
    for category in categories:
        names[category] = folder_name(category)
        other = taken.setdefault(names[category].casefold(), category)
        if other != category:
            raise BadInput(
                f"The categories '{other}' and '{category}' would share one folder on systems that "
                "ignore case. Rename one of them in boxes.csv."
            )
    return names


def crop_path(data_dir: str | os.PathLike | Store, path: str) -> Path:
    """Return where the crop with this CropPath of crops.csv is: `openimager.store.Store.crop`."""
    return Store(data_dir).crop(path)


def tidy(store: Store, belong: Collection[str], folders: Iterable[str]) -> int:
    """Remove crops that do not belong, and return how many; files of other names stay.

    Every category gets a folder in every split, because Keras takes its classes from the folders.
    """
    own = [path for path in store.sizes(store.crops) if _OWN.fullmatch(path)]
    stale = [path for path in own if f"data/crops/{path}" not in belong]
    store.remove(*(store.crops / path for path in stale))
    if store.is_local:
        wanted = {store.crops / split / folder for split in SUBSETS for folder in folders}
        for folder in list(store.crops.glob("*/*")):
            if folder not in wanted and folder.is_dir():
                with contextlib.suppress(OSError):  # it holds somebody else's files
                    folder.rmdir()
        for folder in wanted:
            folder.mkdir(parents=True, exist_ok=True)
    return sum(not path.endswith(".part") for path in stale)
