"""A page to look at photos, boxes, crops and mistakes: `data/gallery.html`, which needs no server.

    python -m openimager.gallery [DIR]

The page holds the tables as JSON; photos and crops are loaded from beside it by relative paths, so
it works wherever the data directory is copied. Titles, authors and tables come from strangers: the
script inserts all of them as text, and the page's Content-Security-Policy allows only the inlined
script and style, by their hashes, and images from beside the page.
"""

import argparse
import base64
import hashlib
import html
import io
import json
import os
import re
import sys
import webbrowser
from collections.abc import Collection, Iterator, Sequence
from importlib import resources

import numpy as np
import pandas as pd
from PIL import Image

from openimager.errors import BadInput, TryAgain
from openimager.store import COORDINATES, FLAGS, IMAGE_ID, Store, typed

PAGE = "gallery.html"
# EXIF is in the first segments of a JPEG, and its first entries hold the orientation.
_HEAD = 16 << 10
_EXIF = re.compile(rb"\xff\xe1..Exif\0\0", re.DOTALL)
_ORIENTATION = 0x0112
_BATCH = 512
_CREDITS = ("Title", "Author", "AuthorProfileURL", "OriginalLandingURL", "License")
_CROP_PATH = rf"data/(crops/[^/]+/[^/]+)/{IMAGE_ID}_\d+\.jpg"


def write_gallery(data_dir: str | os.PathLike = "data", models_dir: str | os.PathLike | None = None):
    """Write ``gallery.html`` into the data directory.

    Parameters
    ----------
    data_dir : path-like
        The data directory; it needs images.csv and boxes.csv. Crops are shown if there is a
        crops.csv.
    models_dir : path-like, optional
        The folder of predictions.csv, by default ``models`` beside the data directory. Without
        this file the page shows crops without predictions.

    Returns
    -------
    pathlib.Path or upath.UPath
        The page.

    Raises
    ------
    BadInput
        If a table is missing or broken, or Jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError:
        raise BadInput("The gallery needs Jinja2: pip install jinja2") from None
    store = Store(data_dir)
    photos, boxes = tables(store, Store(models_dir) if models_dir else _models_of(store))
    categories = sorted(boxes["Category"].unique(), key=str.casefold)
    data = {"categories": categories, "flags": list(FLAGS)}
    data |= {"photos": columns(photos), "boxes": columns(boxes)}
    files = resources.files("openimager") / "gallery_page"
    parts = {name: (files / name).read_text("utf-8") for name in ("page.js", "page.css")}
    template = (files / "page.html").read_text("utf-8")
    page = jinja2.Environment(autoescape=True).from_string(template).render(
        title=", ".join(categories) or "no boxes",
        script=parts["page.js"],
        style=parts["page.css"],
        script_hash=_source_hash(parts["page.js"]),
        style_hash=_source_hash(parts["page.css"]),
        data=script_json(data),
    )
    path = store.path(PAGE)
    store.write(path, page.encode())
    return path


def show(data_dir: str | os.PathLike = "data", models_dir: str | os.PathLike | None = None):
    """Write the page, print its path, and open it in the default browser.

    The browser is opened only from a terminal on this machine: not when piped, over SSH, without a
    display or for a data directory in a bucket.

    Returns
    -------
    pathlib.Path or upath.UPath
        The page.
    """
    path = write_gallery(data_dir, models_dir)
    print(path)
    if Store(data_dir).is_local and _has_desktop():
        webbrowser.open(path.resolve().as_uri())
    return path


def tables(store: Store, models: Store) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the photos and boxes that the page shows; boxes are upright and know their crops."""
    photos = store.read_table("images.csv").drop_duplicates("ImageID")
    photos = photos[photos["ImageID"].str.fullmatch(IMAGE_ID)].reset_index(drop=True)
    boxes = store.read_table("boxes.csv")
    boxes["n"] = boxes.groupby("ImageID").cumcount()
    boxes = boxes[boxes["ImageID"].isin(photos["ImageID"])]
    states = {0: "0", 1: "1"}
    boxes["Flags"] = boxes[list(FLAGS)].apply(lambda flag: flag.map(states).fillna("?")).sum(axis=1)
    crops = _crops(store)
    group = crops.drop_duplicates("ImageID").set_index("ImageID")["DuplicateGroup"]
    group = photos["ImageID"].map(group).fillna("")
    photos["Group"] = group.where(group.duplicated(keep=False), "")
    # By coordinates, too: a crop of an earlier selection can have another box's number.
    keys = ["ImageID", "n", "Category", "XMin", "YMin"]
    boxes = boxes.merge(crops.drop(columns="DuplicateGroup"), on=keys, how="left")
    boxes = boxes.merge(_predictions(models, crops), on=["ImageID", "n", "Category"], how="left")
    boxes = boxes.drop(columns=["LabelName", "Confidence", *FLAGS]).sort_values(["ImageID", "n"])
    on_disk = photos["Status"] == "ok"
    photos["Orientation"] = 1
    photos.loc[on_disk, "Orientation"] = list(orientations(store, photos["ImageID"][on_disk]))
    photos["Rotation"] = photos["Rotation"].where(photos["Rotation"].isin([90, 180, 270]), 0)
    photos[list(_CREDITS)] = photos[list(_CREDITS)].map(html.unescape)
    shown = ["ImageID", "Subset", *_CREDITS, "Rotation", "Orientation", "Group"]
    shown += ["Status", "Source", "Width", "Height", "Bytes", "Error"]
    return photos[shown], upright(boxes, photos.set_index("ImageID")["Rotation"])


def upright(boxes: pd.DataFrame, rotation: pd.Series) -> pd.DataFrame:
    """Return boxes as Photo (its position in `rotation`), X, Y, W and H in the upright photo.

    Examples
    --------
    >>> box = {"ImageID": ["a"], "XMin": [0.75], "XMax": [1.0], "YMin": [0.0], "YMax": [0.5]}
    >>> upright(pd.DataFrame(box), pd.Series([90.0], ["a"]))[["X", "Y", "W", "H"]].values.tolist()
    [[0.0, 0.0, 0.5, 0.25]]
    """
    x0, x1, y0, y1 = (boxes[name].clip(0, 1) for name in COORDINATES)
    angle = boxes["ImageID"].map(rotation)
    turned = [angle == 90, angle == 180, angle == 270]
    left = np.select(turned, [y0, 1 - x1, 1 - y1], x0)
    right = np.select(turned, [y1, 1 - x0, 1 - y0], x1)
    top = np.select(turned, [1 - x1, 1 - y1, x0], y0)
    bottom = np.select(turned, [1 - x0, 1 - y0, x1], y1)
    made = boxes.drop(columns=["ImageID", *COORDINATES])
    made["Photo"] = rotation.index.get_indexer(boxes["ImageID"])
    return made.assign(X=left, Y=top, W=right - left, H=bottom - top)


def orientations(store: Store, image_ids: Collection[str]) -> Iterator[int]:
    """Yield the EXIF orientation of each photo, 1 (as stored) where there is none.

    The boxes are relative to the pixels as stored, but a browser turns a photo by its EXIF
    orientation, and for pages opened from a folder no style sheet can stop it
    (`image-orientation: none` is for images of the page's own origin). The page undoes the turn.
    """
    paths = [store.photo(image_id) for image_id in image_ids]
    for start in range(0, len(paths), _BATCH):
        batch = paths[start : start + _BATCH]
        if store.is_local:
            heads = map(_local_head, batch)
        else:
            names = [path.path for path in batch]
            heads = batch[0].fs.cat_ranges(names, [0] * len(names), [_HEAD] * len(names))
        yield from map(orientation, heads)


def orientation(head: bytes | Exception) -> int:
    """Return the EXIF orientation, 1 to 8, from the first bytes of a photo.

    Examples
    --------
    >>> made = io.BytesIO()
    >>> turned = Image.Exif()
    >>> turned[0x0112] = 6
    >>> Image.new("RGB", (8, 8)).save(made, "JPEG", exif=turned)
    >>> orientation(made.getvalue()), orientation(b"")
    (6, 1)
    """
    found = _EXIF.search(head) if isinstance(head, bytes) else None
    if not found:
        return 1
    exif = Image.Exif()
    try:
        exif.load(head[found.end() - 6 :])
        value = exif.get(_ORIENTATION)
    except Exception:  # broken EXIF raises whatever its bytes lead to; browsers ignore it
        return 1
    return value if value in range(1, 9) else 1


def columns(frame: pd.DataFrame) -> dict:
    """Return a table as lists by column, text that repeats as codes into a list of its values.

    Examples
    --------
    >>> columns(pd.DataFrame({"n": [0, 1, 2], "Category": ["Cat", "Dog", "Cat"]}))
    {'n': [0, 1, 2], 'Category': {'values': ['Cat', 'Dog'], 'codes': [0, 1, 0]}}
    """
    made = {}
    for name, column in frame.items():
        if pd.api.types.is_numeric_dtype(column):
            rounded = column.astype("Float64").round(4).tolist()
            made[name] = [None if x is pd.NA else int(x) if x == int(x) else x for x in rounded]
            continue
        codes, values = pd.factorize(column.fillna("").astype(str))
        repeats = len(values) < 0.7 * len(codes)
        text = {"values": list(values), "codes": codes.tolist()}
        made[name] = text if repeats else column.fillna("").astype(str).tolist()
    return made


def script_json(data) -> str:
    r"""Return JSON that no content can break out of a script element with.

    Examples
    --------
    >>> print(script_json({"title": "</script><!--"}))
    {"title":"\u003c/script>\u003c!--"}
    """
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _crops(store: Store) -> pd.DataFrame:
    """Return the crops by box: their Folder below the page, their Split, why there is none."""
    wanted = ["ImageID", "n", "Category", "XMin", "YMin", "DuplicateGroup"]
    if not store.path("crops.csv").exists():
        return pd.DataFrame(columns=[*wanted, "Folder", "Split", "CropError"]).astype(
            {"ImageID": str, "n": "Int64", "XMin": float, "YMin": float}
        )
    crops = store.read_table("crops.csv").rename(columns={"Subset": "Split", "Error": "CropError"})
    found = crops["CropPath"].str.extract(f"^{_CROP_PATH}$", expand=False)
    crops["Folder"] = found.fillna("")
    return crops[[*wanted, "Folder", "Split", "CropError"]].drop_duplicates(["ImageID", "n"])


def _predictions(models: Store, crops: pd.DataFrame) -> pd.DataFrame:
    """Return the predictions by box; a class is named by its folder, a category by its name."""
    path = models.path("predictions.csv")
    schema = {"n": "Int64", "Probability": "float64"}
    wanted = ["ImageID", "n", "Category", "Predicted", "Probability", "Suspect"]
    try:
        text = io.BytesIO(path.read_bytes())
    except FileNotFoundError:
        text = io.BytesIO((",".join(wanted) + "\n").encode())
    try:
        found = pd.read_csv(text, dtype=str, keep_default_na=False)
    except (ValueError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is not a readable table: {error}") from None
    if "Suspect" not in found:
        found["Suspect"] = ""
    if missing := [name for name in wanted if name not in found]:
        raise BadInput(f"{path} lacks the columns {', '.join(missing)}. Run evaluate-model again.")
    found = typed(found[wanted], schema).drop_duplicates(["ImageID", "n"])
    names = dict(zip(crops["Folder"].str.rpartition("/")[2], crops["Category"], strict=True))
    found["Predicted"] = found["Predicted"].map(lambda name: names.get(name, name))
    suspect = {"true": "yes", "1": "yes", "": ""}
    found["Suspect"] = found["Suspect"].str.lower().map(lambda value: suspect.get(value, "no"))
    return found


def _models_of(store: Store) -> Store:
    root = store.root.resolve() if store.is_local else store.root
    return Store(str(root.parent / "models"))


def _local_head(path) -> bytes | Exception:
    try:
        with open(path, "rb") as stream:
            return stream.read(_HEAD)
    except OSError as error:
        return error


def _source_hash(text: str) -> str:
    """Return a hash as a Content-Security-Policy names an inlined script or style.

    Examples
    --------
    >>> _source_hash("")
    'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='
    """
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _has_desktop() -> bool:
    if not sys.stdout.isatty() or os.environ.get("SSH_CONNECTION") or os.environ.get("SSH_TTY"):
        return False
    displays = ("DISPLAY", "WAYLAND_DISPLAY")
    return sys.platform in ("win32", "darwin") or any(map(os.environ.get, displays))


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m openimager.gallery``; return the exit status, 0, 1 or 2."""
    parser = argparse.ArgumentParser(prog="python -m openimager.gallery", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("data_dir", nargs="?", default="data", metavar="DIR", help="(data)")
    parser.add_argument("--models-dir", metavar="DIR", help="(models beside the data directory)")
    options = parser.parse_args(argv)
    try:
        show(options.data_dir, options.models_dir)
    except (BadInput, TryAgain) as error:
        print(f"openimager: {error}", file=sys.stderr)
        return 2 if isinstance(error, BadInput) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
