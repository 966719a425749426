"""The files of cropping: the folders of crops, and what .openimager/ keeps to resume.

To resume there are outcomes, facts about photos, and crops whose split is not known yet. Each
partition writes objects of its own, because a bucket cannot append. They are removed when crops.csv
is written.
"""

import contextlib
import hashlib
import io
import os
import re
import unicodedata
import zipfile
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import pandas as pd

from openimager.errors import BadInput
from openimager.store import IMAGE_ID, SCHEMAS, SUBSETS, Store, typed

FORMATS = {"jpeg": "jpg", "webp": "webp", "png": "png"}  # to the extension of the file
_STATE = ".openimager/crops"  # what only an unfinished run needs
_OUTCOME = ("ImageID", "n", "CropPath", "SHA256", "Bytes", "Error", "Key")
COLUMNS = {
    ".openimager/photos.csv": {  # so that a photo need not be opened again
        **{"ImageID": "str", "Rotation": "float64", "PhotoBytes": "Int64", "Width": "Int64"},
        **{"Height": "Int64", "Hash": "str", "Error": "str", "Stage": "str"},
    },
    "crops.csv": {name: SCHEMAS["crops.csv"][name] for name in _OUTCOME},
}
# A crop, or what a killed process left of one (`openimager.files.write`).
_OWN = re.compile(
    rf"(?:.*/)?(\.)?{IMAGE_ID}_\d+\.(?:{'|'.join(FORMATS.values())})(?(1)\.[0-9a-f]+\.part)"
)
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def folder_name(category: str) -> str:
    """Return the name of a category's folder, safe on every file system.

    In a name that is not safe, unsafe characters are replaced and a digest of the name is added,
    so that two categories do not share a folder.

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


def tidy(store: Store, belong: Collection[str], folders: Iterable[str]) -> int:
    """Remove crops that do not belong, and return how many; files of other names stay.

    Every category gets a folder in every split, because Keras takes its classes from the folders.
    """
    own = [path for path in store.sizes(store.crops) if _OWN.fullmatch(path)]
    stale = [path for path in own if f"data/crops/{path}" not in belong]
    store.remove(*(store.crops / path for path in stale))
    if store.is_local:
        wanted = {store.crops / split / folder for split in SUBSETS for folder in folders}
        for folder in {*store.crops.glob("*/*")} - wanted:
            with contextlib.suppress(OSError):  # it holds somebody else's files, or is one
                folder.rmdir()
        for folder in wanted:
            folder.mkdir(parents=True, exist_ok=True)
    return sum(not path.endswith(".part") for path in stale)


def note(
    store: Store, table: str, outcomes: list[tuple], staged: Mapping | None = None
) -> pd.DataFrame:
    """Record what became of one partition, in the columns of a table of `COLUMNS`; return it.

    `staged` are crops whose split is not known yet: they are kept beside it, named in Stage.
    """
    frame = pd.DataFrame(outcomes, columns=list(COLUMNS[table]))
    name = hashlib.sha256(" ".join(sorted({*frame["ImageID"]})).encode()).hexdigest()[:16]
    if staged:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            for entry, data in staged.items():
                archive.writestr(entry, data)
        store.write(store.path(f"{_STATE}/{name}.zip"), stream.getvalue())
        frame["Stage"] = name
    store.write_table(frame, f"{_STATE}/{name}.{table.split('/')[-1]}")
    return frame


def known(store: Store, table: str) -> pd.DataFrame:
    """Return the rows without an error of a table of `COLUMNS`, and of runs that did not end."""
    schema, kind = COLUMNS[table], table.split("/")[-1]
    noted = sorted(name for name in store.sizes(store.path(_STATE)) if name.endswith(f".{kind}"))
    frames = [pd.DataFrame(columns=list(schema), dtype=str)]
    for name in (table, *(f"{_STATE}/{name}" for name in noted)):
        with contextlib.suppress(BadInput):  # none, or damaged: nothing is known
            frames.append(store.read_table(name, schema))
    frame = pd.concat([typed(frame, schema) for frame in frames])
    key = [name for name in ("ImageID", "n") if name in schema]
    return frame[frame["Error"] == ""].drop_duplicates(key, keep="last")


def clear(store: Store) -> None:
    """Remove what only an unfinished run needs."""
    folder = store.path(_STATE)
    store.remove(*(folder / name for name in store.sizes(folder)))


def staged_crops(store: Store, names: Iterable[str]) -> dict[str, bytes]:
    """Return the crops that `note` staged, except missing or damaged ones."""
    crops = {}
    for name in {*names} - {""}:
        with contextlib.suppress(FileNotFoundError, zipfile.BadZipFile):
            data = io.BytesIO(store.read(store.path(f"{_STATE}/{name}.zip")))
            with zipfile.ZipFile(data) as archive:
                crops |= {entry: archive.read(entry) for entry in archive.namelist()}
    return crops
