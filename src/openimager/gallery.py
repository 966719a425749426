"""Write a page to look at photos, boxes, crops and mistakes. It needs no server.

The page holds the tables as JSON and loads photos and crops from beside it. Titles, authors and
tables come from strangers: the script inserts them as text, and a Content-Security-Policy allows
nothing but the page's own script and style, by their hashes, and images from beside it.
"""

import argparse
import base64
import contextlib
import hashlib
import html
import json
import os
import sys
import warnings
import webbrowser
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources

import numpy as np
import pandas as pd
from PIL import ExifTags, Image

from openimager.crops import rotate_box
from openimager.errors import BadInput, exit_status
from openimager.store import COORDINATES, CREDIT_COLUMNS, FLAGS, IMAGE_ID, OUTCOME_COLUMNS, Store

PathLike = str | os.PathLike
_CREDITS = list(CREDIT_COLUMNS[1:-1])  # without ImageID and Changes
_OUTCOME = [*OUTCOME_COLUMNS, "Release"]
_CROP_PATH = rf"^data/(crops/\w+/[^/.][^/]*)/{IMAGE_ID}_\d+(\.\w+)$"
# EXIF is among the first segments of a JPEG, and the orientation among its first entries.
_HEAD = 4 << 10


def write_gallery(data_dir: PathLike = "data", models_dir: PathLike | None = None):
    """Write ``gallery.html`` into a data directory, a folder or URL, and return its path.

    Crops are shown if there is a crops.csv, and predictions if there is a predictions.csv in
    `models_dir`, by default ``models`` beside the data directory. BadInput if a table is missing or
    broken, or Jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError:
        raise BadInput("The gallery needs Jinja2: pip install jinja2") from None
    store = Store(data_dir)
    if models_dir is None:
        models_dir = (store.root.absolute() if store.is_local else store.root).parent / "models"
    photos, boxes = _tables(store, Store(models_dir))
    categories = sorted(boxes["Category"].unique(), key=str.casefold)
    data = {"photos": _columns(photos), "boxes": _columns(boxes)}
    drawn = " (drawn sample)" if set(photos["Release"]) == {"sample"} else ""
    folder = resources.files("openimager") / "gallery_page"
    page, *inlined = ((folder / f"page.{end}").read_text("utf-8") for end in ("html", "js", "css"))
    # The hashes by which the Content-Security-Policy allows script and style.
    digests = [hashlib.sha256(text.encode()).digest() for text in inlined]
    environment = jinja2.Environment(autoescape=True)
    compact = {"ensure_ascii": False, "separators": (",", ":"), "allow_nan": False}
    environment.policies["json.dumps_kwargs"] = compact
    page = environment.from_string(page).render(
        title=(", ".join(categories) or "No boxes") + drawn,
        flags=FLAGS,
        data=data | {"categories": categories, "flags": FLAGS},
        inlined=inlined,
        hashes=["sha256-" + base64.b64encode(digest).decode() for digest in digests],
    )
    path = store.path("gallery.html")
    store.write(path, page.encode())
    return path


def show(data_dir: PathLike = "data", models_dir: PathLike | None = None):
    """Write the page as `write_gallery` does, print its path or address, and open it in a browser.

    It is opened only if it is local, from a terminal on a desktop: not when piped or over SSH.
    """
    path = write_gallery(data_dir, models_dir)
    print(path)
    remote = {"SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY"} & os.environ.keys()
    display = {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()
    desktop = not remote and (display or sys.platform in ("win32", "darwin"))
    if Store(data_dir).is_local and sys.stdout.isatty() and desktop:
        webbrowser.open(path.absolute().as_uri())


def _tables(store: Store, models: Store) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the photos and their boxes, with crops and predictions, as the page shows them."""
    photos = store.read_table("images.csv", ["ImageID", "Subset", *_CREDITS, "Rotation", *_OUTCOME])
    photos = photos[photos["ImageID"].str.fullmatch(IMAGE_ID)].drop_duplicates("ImageID")
    boxes = store.read_table("boxes.csv", ["ImageID", "Source", "Category", *COORDINATES, *FLAGS])
    crops = store.read_table("crops.csv", strict=False)
    credits = store.read_table("ATTRIBUTION.csv", strict=False).drop_duplicates("ImageID")

    photos = photos.set_index("ImageID", drop=False)
    photos[_CREDITS] = photos[_CREDITS].map(html.unescape)
    photos["Changes"] = credits.set_index("ImageID")["Changes"]
    photos["Rotation"] = photos["Rotation"].where(photos["Rotation"].isin([90, 180, 270]), 0)
    there = photos.index[(photos.index + ".jpg").isin(store.sizes(store.images))]
    photos["Orientation"] = 1
    photos.loc[there, "Orientation"] = list(orientations(store, there))
    photos["Group"] = crops.drop_duplicates("ImageID").set_index("ImageID")["DuplicateGroup"]
    photos["Group"] = photos["Group"].where(photos["Group"].duplicated(keep=False))

    boxes["n"] = boxes.groupby("ImageID").cumcount()
    boxes = boxes[boxes["ImageID"].isin(photos.index)].sort_values(["ImageID", "n"])
    for flag in FLAGS:
        boxes[flag] = boxes[flag].map({0: "no", 1: "yes"}).fillna("unknown")
    crops[["Folder", "Format"]] = crops["CropPath"].str.extract(_CROP_PATH).fillna("")
    crops = crops.rename(columns={"Subset": "Split", "Error": "CropError"})
    # By coordinates, too: n may mean another box if the crops are of an earlier selection.
    keys = ["ImageID", "n", "Category", "XMin", "YMin"]
    details = ["Folder", "Format", "Split", "CropError", "Excluded"]
    crops = crops[[*keys, *details]].drop_duplicates(["ImageID", "n"])
    boxes = boxes.merge(crops, on=keys, how="left")
    boxes["Photo"] = photos.index.get_indexer(boxes["ImageID"])
    rotations = boxes["ImageID"].map(photos["Rotation"])
    corners = boxes[list(COORDINATES)].clip(0, 1).to_numpy()
    upright = list(map(rotate_box, corners, rotations))
    boxes[["X0", "X1", "Y0", "Y1"]] = np.reshape(upright, (-1, 4))
    # A model names its classes by the folders of crops.
    names = dict(zip(crops["Folder"].str.split("/").str[-1], crops["Category"], strict=True))
    found = models.read_table("predictions.csv", strict=False).drop_duplicates(["ImageID", "n"])
    found = found.replace({"Predicted": names, "Suspect": {"1": "yes", "0": "no"}})
    keys = ["ImageID", "n", "Category"]
    boxes = boxes.merge(found[[*keys, "Predicted", "Probability", "Suspect"]], on=keys, how="left")
    return photos, boxes.drop(columns=["ImageID", *COORDINATES])


def orientations(store: Store, image_ids: Iterable[str]) -> Iterator[int]:
    """Return the EXIF orientation of each photo, 1 if it has none.

    Boxes are relative to the pixels as stored, but browsers turn photos by their EXIF orientation,
    so the page has to turn them back. (`image-orientation: none` would do, but browsers ignore it
    for images of another origin, which all files opened from a folder are.)
    """
    paths = [store.photo(image_id) for image_id in image_ids]
    if store.is_local:
        heads = (np.fromfile(path, np.uint8, _HEAD).tobytes() for path in paths)
    else:
        heads = store.root.fs.cat_ranges([path.path for path in paths], 0, _HEAD)
    return map(_orientation, heads)


def _orientation(head: bytes) -> int:
    """Return the EXIF orientation, 1 to 8, from the first bytes of a JPEG."""
    exif = Image.Exif()
    with warnings.catch_warnings(action="ignore"), contextlib.suppress(Exception):
        exif.load(head[head.index(b"Exif\0\0") :])  # broken EXIF is none
    value = exif.get(ExifTags.Base.Orientation, 1)
    return value if value in range(1, 9) else 1


def _columns(frame: pd.DataFrame) -> dict:
    """Return a table by column; text as codes into a list of its values."""
    made = {}
    for name, column in frame.items():
        if pd.api.types.is_numeric_dtype(column):
            made[name] = json.loads(column.round(4).to_json(orient="values"))
        else:
            codes, values = pd.factorize(column.fillna("").astype(str))
            made[name] = {"values": list(values), "codes": codes.tolist()}
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m openimager.gallery``; return the exit status."""
    about = __doc__.splitlines()[0]
    parser = argparse.ArgumentParser("python -m openimager.gallery", description=about)
    add = parser.add_argument
    add("data_dir", nargs="?", default="data", metavar="DIR", help="data directory (default: data)")
    add("--models-dir", metavar="MODELS", help="folder of the model (default: models, next to DIR)")
    given = vars(parser.parse_args(argv))
    return exit_status(lambda: show(**given))


if __name__ == "__main__":
    sys.exit(main())
