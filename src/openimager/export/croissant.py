"""The dataset as MLCommons Croissant, which catalogues and data loaders read."""

import datetime
import os

from openimager import files
from openimager.export.licences import RELEASES, licence_name
from openimager.store import SCHEMAS, SUBSETS, Store

CITATION = (
    "A. Kuznetsova et al.: The Open Images Dataset V4: Unified image classification, object "
    "detection, and visual relationship detection at scale. International Journal of Computer "
    "Vision 128, 1956-1981 (2020)."
)
ANNOTATIONS_LICENCE = "https://creativecommons.org/licenses/by/4.0/"
_TYPES = {"str": "sc:Text", "Int64": "sc:Integer", "float64": "sc:Float"}
_FORMATS = {".jpg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}
_TABLES = {
    "photos": ("images.csv", "One row per photo: its record in Open Images with author and "
               "licence, and the result of the download."),
    "boxes": ("boxes.csv", "One row per box; coordinates are fractions of the photo as stored."),
    "crop-table": ("crops.csv", "One row per box: its crop with split, path, source box and "
                   "SHA256, or in Error the reason why there is none."),
}  # fmt: skip
_SPLIT_URLS = dict(zip(SUBSETS, ("Training", "Validation", "Test"), strict=True))
# The terms of Croissant 1.0; its validator warns where one is missing.
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{
        term: f"cr:{term}"
        for term in (
            *("citeAs", "column", "equivalentProperty", "extract", "field", "fileObject"),
            *("fileProperty", "fileSet", "format", "includes", "isLiveDataset", "jsonPath"),
            *("key", "md5", "parentField", "path", "recordSet", "references", "regex"),
            *("repeated", "replace", "samplingRate", "separator", "source", "subField"),
            "transform",
        )
    },
}


def write_croissant(data_dir: str | os.PathLike | Store = "data", with_photos: bool = True) -> dict:
    """Write ``croissant.json``, a description of the data directory in Croissant 1.0.

    The tables are listed with their SHA256 and become the record sets ``photos``, ``boxes`` and
    ``crop-table``. ``crops`` and ``photo-files`` read the pictures one at a time; a crop comes
    with split, category, ImageID and n. Paths are relative to the data directory.

    Parameters
    ----------
    data_dir : path-like or Store
        The data directory; its tables and crops must be there.
    with_photos : bool
        False leaves the photos themselves out, as in a package without them.

    Returns
    -------
    dict
        What was written.

    Raises
    ------
    BadInput
        If a table is missing.
    """
    store = Store(data_dir)
    photos, crops = store.read_table("images.csv"), store.read_table("crops.csv")
    photos, crops = photos[photos["Status"] == "ok"], crops[crops["Error"] == ""]
    categories = crops.assign(Folder=crops["CropPath"].str.split("/").str[3])
    categories = categories.groupby("Category")["Folder"].first()
    release = next(iter(photos.get("Release", [])), "") or "v4"
    names = ", ".join(categories.index)
    licences = sorted(photos["License"].unique())
    crop_sets, crop_records = _pictures(
        "crops", sorted({path[path.rfind(".") :] for path in crops["CropPath"]}), "crops/*/*/*",
        {
            "split": r"^crops/([^/]+)/",
            "category": r"^crops/[^/]+/([^/]+)/",
            "image_id": r"^crops/[^/]+/[^/]+/([0-9a-f]{16})_",
            "n": r"^crops/[^/]+/[^/]+/[0-9a-f]{16}_(\d+)\.",
        },
    )  # fmt: skip
    photo_sets, photo_records = [], []
    if with_photos:
        fields = {"image_id": r"^images/([0-9a-f]{16})\."}
        photo_sets, photo_records = _pictures("photo-files", [".jpg"], "images/*", fields)
    croissant = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": f"openimager: {names}",
        "description": f"{len(photos)} photos of {names} from {RELEASES.get(release, release)}, "
        f"their boxes, and {len(crops)} crops in the splits {', '.join(SUBSETS)}.",
        "license": [*licences, ANNOTATIONS_LICENCE],
        "creditText": f"Photos by the authors in data/ATTRIBUTION.csv "
        f"({', '.join(map(licence_name, licences))}); annotations by Google LLC (CC BY 4.0).",
        "creator": {"@type": "sc:Organization", "name": "Google LLC (annotations)"},
        "citeAs": CITATION,
        "url": "https://storage.googleapis.com/openimages/web/index.html",
        "datePublished": "",
        "version": "1.0.0",
        "keywords": ["Open Images", release, *categories.index],
        "distribution": [
            *(_file(store, name) for name, _ in _TABLES.values()), *crop_sets, *photo_sets
        ],
        "recordSet": [
            _inline("splits", "cr:Split", [
                {"name": name, "url": f"cr:{_SPLIT_URLS[name]}Split"} for name in SUBSETS
            ]),
            _inline("categories", "sc:Enumeration", [
                {"name": name, "folder": folder} for name, folder in categories.items()
            ]),
            *(_table(store, *parts) for parts in _TABLES.items()),
            *crop_records,
            *photo_records,
        ],
    }  # fmt: skip
    # The date of an unchanged description stays, so that equal data make an equal package.
    old = store.read_json("croissant.json") or {}
    croissant["datePublished"] = old.get("datePublished")
    if croissant != old:
        croissant["datePublished"] = datetime.datetime.now(datetime.UTC).date().isoformat()
        store.write_json("croissant.json", croissant)
    return croissant


def _file(store: Store, name: str) -> dict:
    path = store.path(name)
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": name,
        "contentSize": f"{path.stat().st_size} B",
        "encodingFormat": "text/csv",
        "sha256": files.sha256(path),
    }


def _table(store: Store, name: str, parts: tuple[str, str]) -> dict:
    """Return the record set of a table: a field for each of its columns, typed by the schema."""
    table, description = parts
    columns = store.read_table(table).columns
    key = {"photos": {"key": {"@id": "photos/ImageID"}}}.get(name, {})
    fields = [
        _field(f"{name}/{column}", _TYPES[SCHEMAS[table][column]],
               {"fileObject": {"@id": table}, "extract": {"column": column}})
        for column in columns
    ]  # fmt: skip
    if name == "boxes":
        fields[0]["references"] = {"field": {"@id": "photos/ImageID"}}
    return _records(name, fields, description=description, **key)


def _pictures(name: str, suffixes: list[str], pattern: str, fields: dict[str, str]):
    """Return the file set of some pictures, and a record set with fields from their paths."""
    file_set = {
        "@type": "cr:FileSet",
        "@id": f"{name}-set",
        "name": f"{name}-set",
        "encodingFormat": [_FORMATS.get(suffix, "image/jpeg") for suffix in suffixes],
        "includes": [pattern + suffix for suffix in suffixes],
    }
    origin = {"fileSet": {"@id": f"{name}-set"}}
    path = origin | {"extract": {"fileProperty": "fullpath"}}
    content = origin | {"extract": {"fileProperty": "content"}}
    kinds = {"n": "sc:Integer", "split": ["sc:Text", "cr:Split"]}
    described = [
        _field(f"{name}/image", "sc:ImageObject", content),
        _field(f"{name}/path", "sc:Text", path),
        *(
            _field(f"{name}/{field}", kinds.get(field, "sc:Text"),
                   path | {"transform": {"regex": regex}})
            for field, regex in fields.items()
        ),
    ]  # fmt: skip
    return [file_set], [_records(name, described, description="One record per file.")]


def _inline(name: str, kind: str, rows: list[dict]) -> dict:
    """Return a record set whose rows are in the description itself."""
    fields = [_field(f"{name}/{column}", "sc:Text") for column in rows[0]]
    data = [{f"{name}/{column}": value for column, value in row.items()} for row in rows]
    return _records(name, fields, dataType=kind, key={"@id": f"{name}/name"}, data=data)


def _records(name: str, fields: list[dict], **more) -> dict:
    return {"@type": "cr:RecordSet", "@id": name, "name": name, **more, "field": fields}


def _field(name: str, kind, source: dict | None = None) -> dict:
    field = {"@type": "cr:Field", "@id": name, "name": name, "dataType": kind}
    return field | ({"source": source} if source else {})
