"""What goes into the Quilt package: which files, with whose credit, and its metadata."""

import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
import unicodedata
from pathlib import Path

import pandas as pd

from openimager.crops.files import FORMATS
from openimager.errors import BadInput, first_of
from openimager.export.licences import licence
from openimager.files import sha256
from openimager.package.consistency import check_data, check_model
from openimager.query import SITE
from openimager.store import SUBSETS, Store
from openimager.tables import catalogue

# What of each folder is in the package; hidden files and data/yolo/ are not.
_REPOSITORY = ("README.md", "quilt_summarize.json", "summaries/*.json")
_CROPS = tuple(f"crops/*/*/*.{suffix}" for suffix in FORMATS.values())
_TABLES = ("images.csv", "boxes.csv", "crops.csv", "ATTRIBUTION.csv")
_DATA = (
    *_TABLES, "README.md", "query.json", "boxes.coco.json", "croissant.json", "gallery.html",
    "summaries/*", *_CROPS,
)  # fmt: skip
_UNKNOWN = (*_TABLES, "query.json", *_CROPS)  # data/unknown/: photos of other categories
_MODELS = ("*.keras", "*.json", "*.csv", "*.txt", "*.png", "README.md")
_NEEDED = {
    **{f"data/{name}": "build-dataset" for name in (*_TABLES, "images", "crops")},
    **{f"models/{n}": "build-model" for n in ("latest.keras", "history.json", "trained_on.txt")},
    **{f"models/{name}": "evaluate-model" for name in ("metrics.json", "predictions.csv")},
}
_PACKAGES = ("keras", "tensorflow", "numpy", "pandas", "Pillow", "quilt3")


def require(
    *paths: str,
    data_dir: str | os.PathLike | Store = "data",
    models_dir: str | os.PathLike = "models",
) -> None:
    """Check that a notebook has what it needs, in an empty clone or after a partial install.

    `paths` are files or folders as the package names them, such as ``"data/crops.csv"``. Raises
    BadInput if one is missing, or a folder empty; it names the notebook that makes it.

    >>> require("models/latest.keras", models_dir="/nowhere")
    Traceback (most recent call last):
    openimager.errors.BadInput: There is no models/latest.keras: run build-model first, or install
    it from a package with python -m openimager.install REGISTRY --part models.
    """
    for path in paths:
        part, _, name = path.partition("/")
        file = Store(data_dir).path(name) if part == "data" else Path(models_dir, name)
        if not (any(file.iterdir()) if file.is_dir() else file.exists()):
            raise BadInput(
                f"There is no {path}: run {_NEEDED.get(path, 'build-dataset')} first, or install "
                f"it from a package with python -m openimager.install REGISTRY --part {part}."
            )


def collect(
    root: str | os.PathLike = ".",
    data_dir: str | os.PathLike = "data",
    models_dir: str | os.PathLike = "models",
    with_photos: bool = True,
) -> dict[str, Path]:
    """Return the files of the package by their paths in it, once they are known to belong together.

    `root` is the repository, of which README.md, quilt_summarize.json and summaries/ are in the
    package; `data_dir` and `models_dir` are data/ and models/ in it, whatever their own names.
    Photos and credits of earlier selections are left out. If `with_photos` is False, all full-size
    photos are left out, too, but not the crops.

    BadInput if a needed file is missing, a photo has no credit, or query, tables, crops, model and
    metrics do not belong together; the sentence names the notebook to run again.
    """
    root, store, models = Path(root), Store(data_dir), Store(models_dir)
    if not store.is_local:
        raise BadInput(f"A package is made from a local folder: copy {store.root} to one first.")
    needed = [path for path in _NEEDED if with_photos or path != "data/images"]
    require(*needed, data_dir=store, models_dir=models_dir)
    check_data(store, with_photos)
    check_model(store, models)
    files = _matching(root, _REPOSITORY)
    files |= _matching(store.root, _DATA, "data/") | _matching(models.root, _MODELS, "models/")
    files |= _photos_and_credits(store, "data/", with_photos)
    unknown = Store(store.path("unknown"))
    if unknown.path("images.csv").exists():
        files |= _matching(unknown.root, _UNKNOWN, "data/unknown/")
        files |= _photos_and_credits(unknown, "data/unknown/", with_photos)
    return dict(sorted(files.items()))


def _photos_and_credits(store: Store, prefix: str, with_photos: bool) -> dict[str, Path]:
    """Return the photos of the current selection, and their credits in a file of the state folder.

    Changes says "cropped" for a photo of which crops are in the package. BadInput if a picture
    has no credit, even a stray one in images/ that is in no selection.
    """
    photos, crops = (store.read_table(name) for name in ("images.csv", "crops.csv"))
    credits = store.read_table("ATTRIBUTION.csv").drop_duplicates("ImageID")
    selected = set(photos.loc[photos["Status"] == "ok", "ImageID"])
    cropped = set(crops.loc[crops["CropPath"] != "", "ImageID"])
    strays = {path.stem for path in store.images.glob("[!.]*")} if with_photos else set()
    if missing := sorted((selected | cropped | strays) - set(credits["ImageID"])):
        raise BadInput(
            f"No credit in {store.path('ATTRIBUTION.csv')} for {first_of(missing)}: a photo is "
            "only passed on with author and licence. Run build-dataset again, or take it out."
        )
    packaged = selected if with_photos else cropped
    credits = credits[credits["ImageID"].isin(packaged)].copy()
    is_cropped = credits["ImageID"].isin(cropped) & ~credits["Changes"].str.contains("cropped")
    changes = credits.loc[is_cropped, "Changes"].replace("none", "")
    credits.loc[is_cropped, "Changes"] = (changes + "; cropped").str.removeprefix("; ")
    store.write_table(credits, ".openimager/package/ATTRIBUTION.csv")
    files = {f"{prefix}ATTRIBUTION.csv": store.state / "package" / "ATTRIBUTION.csv"}
    if with_photos:
        files |= {f"{prefix}images/{i}.jpg": store.photo(i) for i in sorted(selected)}
    return files


def describe(
    data_dir: str | os.PathLike = "data",
    models_dir: str | os.PathLike = "models",
    root: str | os.PathLike = ".",
    with_photos: bool = True,
) -> dict:
    """Return the metadata of the package, ready for JSON.

    `drawn` in it is True for the drawn sample, whose numbers say nothing about photos; `query` is
    data/query.json, `options` are those of the training, `metrics` the single numbers and the
    baselines, and `tables` the SHA256 of each.
    """
    store, models = Store(data_dir), Store(models_dir)
    photos, boxes, crops = (store.read_table(name) for name in _TABLES[:3])
    photos, crops = photos[photos["Status"] == "ok"], crops[crops["Error"] == ""]
    history, metrics = (models.read_json(f"{name}.json") or {} for name in ("history", "metrics"))
    licences = sorted(photos["License"].unique())
    by_subset = pd.crosstab(crops["Category"], crops["Subset"])
    by_subset = by_subset[[subset for subset in SUBSETS if subset in by_subset]]
    query = store.read_json("query.json") or {}
    query.pop("downloaded", None)
    # An installed package has no record of the site that the tables came from.
    if (site := store.read_json(SITE)) is not None:
        known = {"v4": catalogue.BASE_URL, "sample": "drawn on this machine"}
        default = known.get(query["release"], catalogue.ROOT_URL)
        query["base_url"] = site.get("base_url") or default
    return {
        "categories": list(by_subset.index),
        "subsets": list(by_subset),
        "counts": {
            **{"photos": len(photos), "crops": len(crops)},
            "boxes": int(boxes["ImageID"].isin(photos["ImageID"]).sum()),
            "crops_by_subset": by_subset.to_dict(),
        },
        "licence": {
            "photos": [f"{licence(url)[0]} ({url})" for url in licences],
            **{"annotations": "CC BY 4.0, Google LLC", "credits": "data/ATTRIBUTION.csv"},
        },
        "query": query,
        "with_photos": with_photos,
        # The sample's invented credits are at example.org.
        "drawn": bool(photos["OriginalLandingURL"].str.startswith("https://example.org/").all()),
        "options": history.get("parameters", {}),
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES}
        | {"python": platform.python_version()},
        "revision": code_revision(root),
        "metrics": {
            name: value
            for name, value in metrics.items()
            if isinstance(value, str | int | float) or name == "baselines"
        },
        "tables": {name: sha256(store.path(name)) for name in _TABLES},
    }


def default_name(about: dict) -> str:
    """Return a package's name from its metadata: the categories, or the sample's own name.

    Where a name cannot hold the categories as they are, a part of their hash tells them apart.

    >>> default_name({"drawn": False, "categories": ["Apple", "Hot dog"]})
    'quilt/apple_hot-dog'
    >>> default_name({"drawn": True, "categories": ["Cat"]})
    'quilt/open_images'
    """
    if about["drawn"]:
        return "quilt/open_images"
    names = "_".join(about["categories"])
    plain = unicodedata.normalize("NFKD", names).encode("ascii", "ignore").decode().lower()
    name = re.sub(r"[^a-z0-9_]+", "-", plain).strip("-_")
    words = " ".join(about["categories"])
    if len(name) > 60 or not re.fullmatch("[A-Za-z0-9]+( [A-Za-z0-9]+)*", words):
        digest = hashlib.sha256("\n".join(about["categories"]).encode()).hexdigest()
        name = f"{name[:52]}-{digest[:6]}".lstrip("-")
    return f"quilt/{name}"


def code_revision(root: str | os.PathLike = ".") -> str:
    """Return git's name for the code in `root`, or "unknown"."""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--tags"]
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip() or "unknown"
    except OSError:
        return "unknown"


def _matching(folder: Path, patterns, prefix: str = "") -> dict[str, Path]:
    """Return the files under `folder` that match a pattern and are not hidden, by package path."""
    files = (file for pattern in patterns for file in folder.glob(pattern) if file.is_file())
    inside = {file.relative_to(folder).as_posix(): file for file in files}
    return {prefix + path: file for path, file in inside.items() if "/." not in f"/{path}"}
