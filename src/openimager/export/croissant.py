"""The dataset as MLCommons Croissant, which catalogues and data loaders read.

``croissant.json`` beside this module has what is the same for every dataset.
"""

import datetime
import hashlib
import json
import os
from pathlib import Path

from openimager.crops.files import FORMATS
from openimager.export.licences import licence, release_of
from openimager.store import SUBSETS, TYPES, Store
from openimager.tables.catalogue import RELEASES

ANNOTATIONS_LICENCE = "https://creativecommons.org/licenses/by/4.0/"
_TYPES = {"str": "sc:Text", "Int64": "sc:Integer", "float64": "sc:Float"}
_TABLES = {"photos": "images.csv", "boxes": "boxes.csv", "crop-table": "crops.csv"}


def write_croissant(data_dir: str | os.PathLike | Store = "data", with_photos: bool = True) -> dict:
    """Write ``croissant.json``, a description of the data directory in Croissant 1.0.

    The tables are listed with their SHA256 and become the record sets ``photos``, ``boxes`` and
    ``crop-table``. ``crops`` and ``photo-files`` read the pictures one at a time; a crop comes
    with split, category, ImageID and n. Paths are relative to the data directory. `with_photos`
    False leaves the photos themselves out, as in a package without them. Returned is what was
    written.
    """
    store = Store(data_dir)
    tables = {name: store.read_table(table) for name, table in _TABLES.items()}
    photos = tables["photos"].query("Status == 'ok'")
    crops = tables["crop-table"].query("Error == ''")
    folders = crops["CropPath"].str.split("/").str[3].groupby(crops["Category"]).first()
    release = release_of(photos)
    names, licences = ", ".join(folders.index), sorted(photos["License"].unique())
    listed_as = ", ".join(licence(url)[0] for url in licences)
    croissant = template()
    croissant |= {
        "name": f"openimager: {names}",
        "description": f"{len(photos)} photos of {names} from {RELEASES.get(release, release)}, "
        f"their boxes, and {len(crops)} crops in the splits {', '.join(SUBSETS)}.",
        "license": [*licences, ANNOTATIONS_LICENCE],
        "creditText": f"Photos by the authors in ATTRIBUTION.csv ({listed_as}); annotations by "
        "Google LLC (CC BY 4.0).",
        "keywords": ["Open Images", release, *folders.index],
    }
    sets = {each["@id"]: each for key in ("distribution", "recordSet") for each in croissant[key]}
    encodings = {f".{suffix}": f"image/{name}" for name, suffix in FORMATS.items()}
    suffixes = sorted({path[path.rfind(".") :] for path in crops["CropPath"]}) or [".jpg"]
    sets["crop-set"]["encodingFormat"] = [encodings[suffix] for suffix in suffixes]
    sets["crop-set"]["includes"] = [f"crops/*/*/*{suffix}" for suffix in suffixes]
    sets["categories"]["data"] = [
        {"categories/name": name, "categories/folder": folder} for name, folder in folders.items()
    ]
    for name in _TABLES:
        sets[name]["field"] = [_field(name, column) for column in tables[name]]
    sets["boxes"]["field"][0]["references"] = {"field": {"@id": "photos/ImageID"}}
    if not with_photos:
        for key in ("distribution", "recordSet"):
            croissant[key] = [s for s in croissant[key] if not s["@id"].startswith("photo-")]
    croissant["distribution"] += [_file(store, table) for table in _TABLES.values()]
    # The date of an unchanged description stays, so that equal data make an equal package.
    old = store.read_json("croissant.json") or {}
    croissant["datePublished"] = old.get("datePublished")
    if croissant != old:
        croissant["datePublished"] = datetime.datetime.now(datetime.UTC).date().isoformat()
        store.write_json("croissant.json", croissant)
    return croissant


def template() -> dict:
    """Return what is the same in the description of every dataset."""
    return json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))


def _file(store: Store, name: str) -> dict:
    """Return the description of a table's file."""
    data = store.read(store.path(name))
    return {
        **{"@type": "cr:FileObject", "@id": name, "name": name, "contentUrl": name},
        **{"contentSize": f"{len(data)} B", "encodingFormat": "text/csv"},
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def _field(name: str, column: str) -> dict:
    """Return the field of a table's column."""
    source = {"fileObject": {"@id": _TABLES[name]}, "extract": {"column": column}}
    field = {"@type": "cr:Field", "@id": f"{name}/{column}", "name": f"{name}/{column}"}
    return field | {"dataType": _TYPES[TYPES.get(column, "str")], "source": source}
