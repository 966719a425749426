"""What cropping keeps in .openimager/ to resume: outcomes, facts about photos, and early crops.

Each partition writes objects of its own, because a bucket cannot append. They are removed when
crops.csv is written.
"""

import contextlib
import hashlib
import io
import zipfile
from collections.abc import Iterable

import pandas as pd

from openimager.errors import BadInput
from openimager.store import SCHEMAS, Store, typed

_OUTCOME = ("ImageID", "n", "CropPath", "SHA256", "Bytes", "Error", "Key")
COLUMNS = {
    "photos": {  # so that a photo need not be opened again
        **{"ImageID": "str", "Rotation": "float64", "PhotoBytes": "Int64", "Width": "Int64"},
        **{"Height": "Int64", "Hash": "str", "Error": "str", "Stage": "str"},
    },
    "crops": {name: SCHEMAS["crops.csv"][name] for name in _OUTCOME},
}
# The table of a run that ended, and what identifies a row.
_WHOLE = {
    "photos": (".openimager/photos.csv", ["ImageID"]),
    "crops": ("crops.csv", ["ImageID", "n"]),
}


def note(store: Store, kind: str, outcomes: list[tuple]) -> pd.DataFrame:
    """Record what became of one partition of "photos" or "crops"; return it as a table."""
    frame = pd.DataFrame(outcomes, columns=list(COLUMNS[kind]))
    store.write_table(frame, f".openimager/crops/{_name(frame['ImageID'])}.{kind}.csv")
    return frame


def known(store: Store, kind: str) -> pd.DataFrame:
    """Return the "photos" or "crops" that earlier runs opened or wrote without an error."""
    schema, (table, key) = COLUMNS[kind], _WHOLE[kind]
    names = sorted(store.sizes(store.state / "crops"))
    names = [f".openimager/crops/{name}" for name in names if name.endswith(f".{kind}.csv")]
    frames = [pd.DataFrame(columns=list(schema), dtype=str)]
    for name in (table, *names):
        with contextlib.suppress(BadInput):  # none, or damaged: nothing is known
            frames.append(store.read_table(name, schema))
    frame = pd.concat([typed(frame, schema) for frame in frames])
    return frame[frame["Error"] == ""].drop_duplicates(key, keep="last")


def clear(store: Store) -> None:
    """Remove what only an unfinished run needs."""
    folder = store.state / "crops"
    store.remove(*(folder / name for name in store.sizes(folder)))


def save_crops(store: Store, crops: dict[str, bytes]) -> str:
    """Keep crops whose split is not known yet; return the name for `load_crops`."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for entry, data in crops.items():
            archive.writestr(entry, data)
    name = _name(crops)
    store.write(store.state / "crops" / f"{name}.zip", stream.getvalue())
    return name


def load_crops(store: Store, names: Iterable[str]) -> dict[str, bytes]:
    """Return the crops that `save_crops` kept, as far as they are neither missing nor damaged."""
    crops = {}
    for name in {*names} - {""}:
        with contextlib.suppress(FileNotFoundError, zipfile.BadZipFile):
            data = io.BytesIO(store.read(store.state / "crops" / f"{name}.zip"))
            with zipfile.ZipFile(data) as archive:
                crops |= {entry: archive.read(entry) for entry in archive.namelist()}
    return crops


def _name(words: Iterable[str]) -> str:
    return hashlib.sha256(" ".join(sorted({*words})).encode()).hexdigest()[:16]
