"""What cropping keeps in .openimager/: facts about photos, a journal, crops without a split.

A partition of either pass writes objects of its own, because a bucket cannot append. They are
removed when crops.csv is written.
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
    **{"ImageID": "str", "Rotation": "float64"},
    **dict.fromkeys(("Bytes", "Width", "Height"), "Int64"),
    **{"Hash": "str", "Stage": "str"},
}
OUTCOME = {
    name: SCHEMAS["crops.csv"].get(name, "str")
    for name in ("ImageID", "n", *PIXELS, "CropPath", "SHA256", "Bytes", "Error", "Key", "Outcome")
}
MOST = 32_000_000  # bytes of crops that wait for their split, per partition; the rest is cut later


def entry(row) -> str:
    """Return the name of a crop that has no path yet."""
    return f"{row.ImageID}_{row.n}_{row.Key}"


def save_crops(store: Store, crops: dict[str, bytes]) -> str:
    """Keep crops by their `entry`; return the name under which `load_crops` finds them."""
    if not crops:
        return ""
    name = hashlib.sha256(" ".join(sorted(crops)).encode()).hexdigest()[:16]
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for crop, data in crops.items():
            archive.writestr(crop, data)
    store.write(_folder(store) / f"{name}.zip", stream.getvalue())
    return name


def load_crops(store: Store, name: str) -> Iterator[tuple[str, bytes]]:
    """Yield what `save_crops` kept; nothing if it is not there or not whole."""
    if not name:
        return
    try:
        with zipfile.ZipFile(io.BytesIO(store.read(_folder(store) / f"{name}.zip"))) as archive:
            for crop in archive.namelist():
                yield crop, archive.read(crop)
    except (FileNotFoundError, zipfile.BadZipFile):
        return


def note(store: Store, kind: str, frame: "pd.DataFrame") -> None:
    """Write the outcomes of one partition; `kind` is "photos" or "crops"."""
    names = " ".join(frame["ImageID"].unique())
    name = hashlib.sha256(names.encode()).hexdigest()[:16]
    store.write_table(frame, f".openimager/crops/{name}.{kind}.csv")


def remember(store: Store, facts: "pd.DataFrame") -> None:
    """Write the facts about all photos in one table."""
    store.write_table(facts[list(FACTS)].drop(columns="Stage"), ".openimager/photos.csv")


def facts(store: Store) -> "pd.DataFrame":
    """Return what earlier runs learned about photos."""
    return _joined(store, ".openimager/photos.csv", "photos", FACTS).drop_duplicates(
        "ImageID", keep="last"
    )


def records(store: Store) -> "pd.DataFrame":
    """Return the crops that earlier runs wrote."""
    frame = _joined(store, "crops.csv", "crops", OUTCOME)
    frame = frame[frame["CropPath"] != ""]
    return frame.drop_duplicates(["ImageID", "n"], keep="last")


def clear(store: Store) -> None:
    """Remove what only an unfinished run needs."""
    folder = _folder(store)
    store.remove(*(folder / name for name in store.sizes(folder)))


def _joined(store: Store, table: str, kind: str, schema: dict[str, str]) -> "pd.DataFrame":
    import pandas as pd

    names = [name for name in store.sizes(_folder(store)) if name.endswith(f".{kind}.csv")]
    frames = [pd.DataFrame(columns=list(schema))]
    for name in (table, *(f".openimager/crops/{name}" for name in sorted(names))):
        try:
            data = io.BytesIO(store.read(store.path(name)))
            frames.append(pd.read_csv(data, dtype=str, keep_default_na=False, encoding="utf-8"))
        except (FileNotFoundError, ValueError):  # none, or not one of ours: nothing is known
            continue
    frame = pd.concat(frames, ignore_index=True)[list(schema)].fillna("")
    return typed(frame, schema)


def _folder(store: Store):
    return store.state / "crops"
