"""What cropping keeps in .openimager/: facts about photos, a journal, crops without a split.

Each partition writes objects of its own, because a bucket cannot append. They are removed when
crops.csv is written.
"""

import hashlib
import io
import zipfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

from openimager.store import PIXELS, SCHEMAS, Store, typed

if TYPE_CHECKING:
    import pandas as pd

# What is remembered of a photo, so that it need not be opened again.
FACTS = {
    **{"ImageID": "str", "Rotation": "float64", "Bytes": "Int64", "Width": "Int64"},
    **{"Height": "Int64", "Hash": "str", "Error": "str", "Stage": "str"},
}
_OUTCOME = ("ImageID", "n", *PIXELS, "CropPath", "SHA256", "Bytes", "Error", "Key")
OUTCOME = {name: SCHEMAS["crops.csv"][name] for name in _OUTCOME}
# Bytes of crops that one partition may keep; the rest is cut again from the photo.
MOST = 32_000_000


def entry(row) -> str:
    """Return the name of a crop while its split is not known."""
    return f"{row.ImageID}_{row.n}_{row.Key}"


def save_crops(store: Store, crops: dict[str, bytes]) -> str:
    """Keep crops by their `entry`; return the name under which `load_crops` finds them."""
    if not crops:
        return ""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in crops.items():
            archive.writestr(name, data)
    name = _name(crops)
    store.write(store.state / "crops" / f"{name}.zip", stream.getvalue())
    return name


def load_crops(store: Store, name: str) -> Iterator[tuple[str, bytes]]:
    """Yield the crops that `save_crops` kept; none if they are missing or damaged."""
    try:
        data = store.read(store.state / "crops" / f"{name}.zip") if name else b""
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for crop in archive.namelist():
                yield crop, archive.read(crop)
    except (FileNotFoundError, zipfile.BadZipFile):
        return


def note(store: Store, kind: str, outcomes: "pd.DataFrame") -> None:
    """Write what became of one partition of "photos" or "crops"."""
    store.write_table(outcomes, f".openimager/crops/{_name(outcomes['ImageID'])}.{kind}.csv")


def facts(store: Store) -> "pd.DataFrame":
    """Return what earlier runs learned about photos."""
    known = _joined(store, ".openimager/photos.csv", "photos", FACTS)
    return known[known["Error"] == ""].drop_duplicates("ImageID", keep="last")


def records(store: Store) -> "pd.DataFrame":
    """Return the crops that earlier runs wrote."""
    known = _joined(store, "crops.csv", "crops", OUTCOME)
    known = known[known["CropPath"].str.fullmatch(r"data/crops/[^/]+/[^/]+/[^/]+")]
    return known.drop_duplicates(["ImageID", "n"], keep="last")


def clear(store: Store) -> None:
    """Remove what only an unfinished run needs."""
    folder = store.state / "crops"
    store.remove(*(folder / name for name in store.sizes(folder)))


def _name(words) -> str:
    return hashlib.sha256(" ".join(sorted({*words})).encode()).hexdigest()[:16]


def _joined(store: Store, table: str, kind: str, schema: dict[str, str]) -> "pd.DataFrame":
    import pandas as pd

    damaged = (pd.errors.ParserError, pd.errors.EmptyDataError)
    names = sorted(store.sizes(store.state / "crops"))
    parts = [f".openimager/crops/{name}" for name in names if name.endswith(f".{kind}.csv")]
    frames = [pd.DataFrame(columns=list(schema), dtype=str)]
    for name in (table, *parts):
        try:
            data = io.BytesIO(store.read(store.path(name)))
            frames.append(pd.read_csv(data, dtype=str, keep_default_na=False, encoding="utf-8"))
        except (FileNotFoundError, UnicodeDecodeError, *damaged):
            continue  # none, or damaged: nothing is known
    return typed(pd.concat(frames, ignore_index=True)[list(schema)].fillna(""), schema)
