"""What goes into the Quilt package: which files, with whose credit, and what it says of itself."""

import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path

import pandas as pd

from openimager.errors import BadInput
from openimager.files import sha256
from openimager.quilt.coco import licence_name
from openimager.store import SUBSETS

# What of each folder is in the package; hidden files are this machine's business.
_REPOSITORY = ("README.md", "quilt_summarize.json", "summaries/*.json")
_DATA = (
    "*.csv",
    "README.md",
    "query.json",
    "boxes.coco.json",
    "croissant.json",
    "summaries/*",
    "crops/*/*/*.jpg",
)
_PHOTOS = "images/*.jpg"
_MODELS = ("*.keras", "*.csv", "*.json", "*.txt", "*.png")
_NEEDED = {
    "data/images.csv": "build-dataset",
    "data/boxes.csv": "build-dataset",
    "data/ATTRIBUTION.csv": "build-dataset",
    "data/crops.csv": "build-dataset",
    "models/latest.keras": "build-model",
    "models/history.json": "build-model",
    "models/metrics.json": "evaluate-model",
}
_TABLES = ("images.csv", "boxes.csv", "crops.csv", "ATTRIBUTION.csv")
_SCORES = (
    *("network", "accuracy", "low", "high", "crops", "photos"),
    *("baselines", "auc", "calibration_error"),
)
_PACKAGES = ("keras", "tensorflow", "numpy", "pandas", "Pillow", "quilt3")


def collect(
    root: str | os.PathLike = ".",
    data_dir: str | os.PathLike = "data",
    models_dir: str | os.PathLike = "models",
    with_photos: bool = True,
) -> dict[str, Path]:
    """Return the files of the package, once every photo in it is known to have its credit.

    Parameters
    ----------
    root : path-like
        The repository, of which README.md, quilt_summarize.json and summaries/ are in the package.
    data_dir, models_dir : path-like
        What becomes data/ and models/ in the package, whatever the folders are called here.
    with_photos : bool
        False leaves the full-size photos out; the crops stay.

    Returns
    -------
    dict of str to Path
        Path in the package (with "/") to file on this machine, in order of the path. Photos of
        earlier selections, which the tables do not name, are left out.

    Raises
    ------
    BadInput
        If a file that the package needs is missing, or a photo has no row in ATTRIBUTION.csv.
    """
    root, data, models = Path(root), Path(data_dir), Path(models_dir)
    files = _matching(root, _REPOSITORY)
    files |= _matching(data, _DATA, "data/") | _matching(models, _MODELS, "models/")
    for path, notebook in _NEEDED.items():
        if path not in files:
            raise BadInput(f"There is no {path} for the package: run {notebook} first.")
    photos = _matching(data, [_PHOTOS], "data/") if with_photos else {}
    _check_credits(data, [*photos, *(path for path in files if path.startswith("data/crops/"))])
    selected = set(_read(data / "images.csv")["ImageID"])
    files |= {path: file for path, file in photos.items() if file.stem in selected}
    return dict(sorted(files.items()))


def describe(
    data_dir: str | os.PathLike = "data",
    models_dir: str | os.PathLike = "models",
    root: str | os.PathLike = ".",
    with_photos: bool = True,
) -> dict:
    """Return what the package says of itself: its metadata, ready for JSON.

    Keys: categories, subsets, counts (photos, boxes, crops, crops by subset and category),
    licence, with_photos, drawn (True for the drawn sample, whose numbers are none on photos),
    options (how the model was trained), versions, revision (of the code), metrics, and tables
    (the SHA256 of each).
    """
    data, models = Path(data_dir), Path(models_dir)
    photos, boxes, crops = (_read(data / name) for name in _TABLES[:3])
    photos = photos[photos["Status"] == "ok"]
    crops = crops[crops["Error"] == ""]
    history = json.loads((models / "history.json").read_text(encoding="utf-8"))
    metrics = json.loads((models / "metrics.json").read_text(encoding="utf-8"))
    by_subset = crops.groupby(["Subset", "Category"]).size()
    return {
        "categories": sorted(crops["Category"].unique()),
        "subsets": [subset for subset in SUBSETS if (crops["Subset"] == subset).any()],
        "counts": {
            "photos": len(photos),
            "boxes": int(boxes["ImageID"].isin(photos["ImageID"]).sum()),
            "crops": len(crops),
            "crops_by_subset": {
                subset: {name: int(n) for name, n in of_it.droplevel(0).items()}
                for subset, of_it in by_subset.groupby(level=0)
            },
        },
        "licence": {
            "photos": [
                f"{licence_name(url)} ({url})" for url in sorted(photos["License"].unique())
            ],
            "annotations": "CC BY 4.0, Google LLC",
            "credits": "data/ATTRIBUTION.csv",
        },
        "with_photos": with_photos,
        # Nobody's photos are at example.org: those credits belong to the drawn sample.
        "drawn": bool(photos["OriginalLandingURL"].str.startswith("https://example.org/").all()),
        "options": history.get("parameters", {}),
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in _PACKAGES},
        "revision": code_revision(root),
        "metrics": {name: metrics[name] for name in _SCORES if name in metrics},
        "tables": {name: sha256(data / name) for name in _TABLES},
    }


def code_revision(root: str | os.PathLike = ".") -> str:
    """Return git's name for the code in `root`, with "-dirty" if it was changed, or "unknown"."""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--tags"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip() or "unknown"


def _matching(folder: Path, patterns, prefix: str = "") -> dict[str, Path]:
    """Return the files under `folder` that match a pattern and are not hidden, by package path."""
    found = {}
    for pattern in patterns:
        for file in folder.glob(pattern):
            inside = file.relative_to(folder)
            if file.is_file() and not any(part.startswith(".") for part in inside.parts):
                found[prefix + inside.as_posix()] = file
    return found


def _check_credits(data: Path, pictures: list[str]) -> None:
    """Refuse photos, and crops of photos, that ATTRIBUTION.csv does not name."""
    credited = set(_read(data / "ATTRIBUTION.csv")["ImageID"])
    names = {path.rpartition("/")[2].partition(".")[0].partition("_")[0] for path in pictures}
    if missing := sorted(names - credited):
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise BadInput(
            f"No credit in {data / 'ATTRIBUTION.csv'} for {', '.join(missing[:3])}{more}: a photo "
            "is only passed on with author and licence. Run build-dataset again, or take it out."
        )


def _read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False)
