"""What cropping keeps in .openimager/: facts about photos, a journal, crops without a split.

Each partition writes objects of its own, because a bucket cannot append. They are removed when
crops.csv is written.
"""

import contextlib
import hashlib
import io
import zipfile
from collections.abc import Iterable
from typing import TYPE_CHECKING

from openimager.errors import BadInput
from openimager.store import SCHEMAS, Store, typed

if TYPE_CHECKING:
    import pandas as pd

# What is remembered of a photo, so that it need not be opened again.
FACTS = {
    **{"ImageID": "str", "Rotation": "float64", "PhotoBytes": "Int64", "Width": "Int64"},
    **{"Height": "Int64", "Hash": "str", "Error": "str", "Stage": "str"},
}
_OUTCOME = ("ImageID", "n", "CropPath", "SHA256", "Bytes", "Error", "Key")
OUTCOME = {name: SCHEMAS["crops.csv"][name] for name in _OUTCOME}
_COLUMNS = {"photos": FACTS, "crops": OUTCOME}
# Bytes of crops that one partition may keep; the rest is cut again from the photo.
MOST = 32_000_000


def entry(row) -> str:
    """Return the name of a crop while its split is not known."""
    return f"{row.ImageID}_{row.n}_{row.Key}"


def save_crops(store: Store, crops: dict[str, bytes]) -> str:
    """Keep crops by their `entry`; return the name under which `load_crops` finds them."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in crops.items():
            archive.writestr(name, data)
    name = _name(crops) if crops else ""
    if name:
        store.write(store.state / "crops" / f"{name}.zip", stream.getvalue())
    return name


def load_crops(store: Store, names: Iterable[str]) -> dict[str, bytes]:
    """Return the crops that `save_crops` kept, as far as they are neither missing nor damaged."""
    crops = {}
    for name in {*names} - {""}:
        with contextlib.suppress(FileNotFoundError, zipfile.BadZipFile):
            data = io.BytesIO(store.read(store.state / "crops" / f"{name}.zip"))
            with zipfile.ZipFile(data) as archive:
                crops |= {crop: archive.read(crop) for crop in archive.namelist()}
    return crops


def note(store: Store, kind: str, outcomes: list[tuple]) -> "pd.DataFrame":
    """Write what became of one partition of "photos" or "crops" to the journal; return it."""
    import pandas as pd

    frame = pd.DataFrame(outcomes, columns=list(_COLUMNS[kind]))
    store.write_table(frame, f".openimager/crops/{_name(frame['ImageID'])}.{kind}.csv")
    return frame


def facts(store: Store) -> "pd.DataFrame":
    """Return what earlier runs learned about photos."""
    known = _joined(store, ".openimager/photos.csv", "photos")
    return known[known["Error"] == ""].drop_duplicates("ImageID", keep="last")


def records(store: Store) -> "pd.DataFrame":
    """Return the crops that earlier runs wrote."""
    known = _joined(store, "crops.csv", "crops")
    return known[known["CropPath"] != ""].drop_duplicates(["ImageID", "n"], keep="last")


def clear(store: Store) -> None:
    """Remove what only an unfinished run needs."""
    folder = store.state / "crops"
    store.remove(*(folder / name for name in store.sizes(folder)))


def _name(words: Iterable[str]) -> str:
    return hashlib.sha256(" ".join(sorted({*words})).encode()).hexdigest()[:16]


def _joined(store: Store, table: str, kind: str) -> "pd.DataFrame":
    import pandas as pd

    schema = _COLUMNS[kind]
    names = sorted(store.sizes(store.state / "crops"))
    journal = [f".openimager/crops/{name}" for name in names if name.endswith(f".{kind}.csv")]
    frames = [typed(pd.DataFrame(columns=list(schema), dtype=str), schema)]
    for name in (table, *journal):
        with contextlib.suppress(BadInput):  # none, or damaged: nothing is known
            frames.append(typed(store.read_table(name, schema), schema))
    return pd.concat(frames, ignore_index=True)
