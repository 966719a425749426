"""The files of cropping: the folders of crops, and what .openimager/ keeps to resume.

To resume, it keeps outcomes, crops whose split is not known yet, and the previous crops.csv. Each
partition writes files of its own, because a bucket cannot append. They are removed when crops.csv
is written.
"""

import contextlib
import fnmatch
import hashlib
import io
import os
import re
import secrets
import unicodedata
import zipfile
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import pandas as pd

from openimager.errors import BadInput
from openimager.store import IMAGE_ID, SUBSETS, Store, typed

FORMATS = {"jpeg": "jpg", "webp": "webp", "png": "png"}  # to the extension of the file
_STATE = ".openimager/crops"  # what only an unfinished run needs
_ASIDE = f"{_STATE}/crops-0000.csv"  # sorts first, so that later notes override it
_PHOTOS = ".openimager/photos.csv"  # so that a photo need not be opened again
# What is known of a crop, and of a photo (Width and Height are 0 if it cannot be read).
MADE = ("CropPath", "SHA256", "Bytes")
SEEN = ("Width", "Height", "Hash", "Stage")
CROP = ["ImageID", "n", "Key", *MADE]
PHOTO = ["ImageID", "Rotation", "PhotoBytes", *SEEN]
# A crop, or what a killed process left of one (`openimager.files.write`).
_OWN = re.compile(
    rf"(?:.*/)?(\.)?{IMAGE_ID}_\d+\.(?:{'|'.join(FORMATS.values())})(?(1)\.[0-9a-f]+\.part)"
)
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def folder_name(category: str) -> str:
    """Return the name of a category's folder, safe on every file system.

    In a name that is not safe, unsafe characters are replaced and a digest of the name is added,
    so that two categories do not share a folder.

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
    """Return each category's folder; BadInput if two differ only in case, which Windows ignores."""
    names = pd.Series({category: folder_name(category) for category in categories}, dtype=str)
    same = names.str.casefold().duplicated(keep=False)
    if same.any():
        raise BadInput(
            f"The categories {' and '.join(map(repr, names.index[same]))} would share a folder on "
            "systems that ignore case. Rename all but one in boxes.csv."
        )
    return names.to_dict()


def crop_path(data_dir: str | os.PathLike | Store, path: str) -> Path:
    """Return where the crop with this CropPath of crops.csv is: `openimager.store.Store.crop`."""
    return Store(data_dir).crop(path)


def stale(there: Iterable[str], belong: Collection[str]) -> list[str]:
    """Return the crops below crops/ that do not belong; files that are not crops are ignored."""
    own = (path for path in there if _OWN.fullmatch(path))
    return [path for path in own if f"data/crops/{path}" not in belong]


def set_aside(store: Store) -> None:
    """Move crops.csv to where only the next run of `write_crops` looks for it."""
    table = store.path("crops.csv")
    with contextlib.suppress(FileNotFoundError):  # two steps, as a bucket cannot rename
        store.write(store.path(_ASIDE), store.read(table))
        store.remove(table)


def tidy(store: Store, stale: list[str], folders: Iterable[str]) -> None:
    """Remove stale crops. Every category gets a folder in every split, as Keras needs them."""
    store.remove(*(store.crops / path for path in stale))
    if store.is_local:
        wanted = {store.crops / split / folder for split in SUBSETS for folder in folders}
        for folder in {*store.crops.glob("*/*")} - wanted:
            with contextlib.suppress(OSError):  # it holds other files, or is a file
                folder.rmdir()
        for folder in wanted:
            folder.mkdir(parents=True, exist_ok=True)


def note(store: Store, outcomes: pd.DataFrame, staged: Mapping | None = None) -> pd.DataFrame:
    """Record the outcomes of one partition, of photos or of crops, and return them.

    `staged` are crops whose split is not known yet: they are kept in a zip file, which Stage names.
    """
    name, kind = secrets.token_hex(8), "crops" if "CropPath" in outcomes else "photos"
    if staged:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            for entry, data in staged.items():
                archive.writestr(entry, data)
        store.write(store.path(f"{_STATE}/{name}.zip"), stream.getvalue())
        outcomes["Stage"] = name
    store.write_table(outcomes, f"{_STATE}/{kind}-{name}.csv")
    return outcomes


def staged_crops(store: Store, names: Iterable[str]) -> dict[str, bytes]:
    """Return the crops that `note` staged, except missing or damaged ones."""
    crops = {}
    for name in {*names} - {""}:
        with contextlib.suppress(FileNotFoundError, zipfile.BadZipFile):
            data = io.BytesIO(store.read(store.path(f"{_STATE}/{name}.zip")))
            with zipfile.ZipFile(data) as archive:
                crops |= {entry: archive.read(entry) for entry in archive.namelist()}
    return crops


def known(store: Store) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return what is known of crops and of photos from the last run and from unfinished ones."""
    noted = sorted(f"{_STATE}/{name}" for name in store.sizes(store.path(_STATE)))
    crops = _read(store, CROP, "crops.csv", *fnmatch.filter(noted, "*/crops-*.csv"))
    photos = _read(store, PHOTO, _PHOTOS, *fnmatch.filter(noted, "*/photos-*.csv"))
    crops = crops[crops["CropPath"] != ""].drop_duplicates(["ImageID", "n"], keep="last")
    return crops, photos[photos["Width"] > 0].drop_duplicates("ImageID", keep="last")


def _read(store: Store, columns: list[str], *names: str) -> pd.DataFrame:
    tables = [typed(pd.DataFrame(columns=columns, dtype=str))]
    for name in names:
        with contextlib.suppress(BadInput):  # missing or damaged: nothing is known
            tables.append(store.read_table(name, columns))
    return pd.concat(tables)


def keep(store: Store, rows: pd.DataFrame) -> None:
    """Keep what is known of the photos of rows, and remove what only an unfinished run needs."""
    store.write_table(rows.drop_duplicates("ImageID")[PHOTO].assign(Stage=""), _PHOTOS)
    folder = store.path(_STATE)
    store.remove(*(folder / name for name in store.sizes(folder)))
