"""Photos and boxes in the layout of Ultralytics YOLO, upright and split as the crops are."""

import contextlib
import os
import shutil
from typing import NamedTuple

from PIL import ExifTags, Image
from tqdm.auto import tqdm

from openimager.crops.geometry import decode, rotate_box, upright
from openimager.errors import BadInput
from openimager.store import COORDINATES, Store

SPLITS = {"train": "train", "validation": "val", "test": "test"}
_PART = ".openimager/yolo.part"


class Exported(NamedTuple):
    """The counts of `write_yolo`: photos, hard links among them, boxes, photos left out."""

    photos: int
    linked: int
    boxes: int
    left_out: int


def write_yolo(data_dir: str | os.PathLike | Store = "data", quiet: bool = False) -> Exported:
    """Write ``yolo/`` in the data directory: images, labels and data.yaml.

    A photo is in the split that its crops are in; one without a crop is in none, so that a
    near-duplicate of a test photo stays out of train here, too. A photo with a Rotation or an
    EXIF orientation is written upright without EXIF, its boxes turned with it; any other is a
    hard link, or a copy where the file system has none. An earlier export is replaced as a whole.
    BadInput if the data directory is a bucket, or a table or a photo is missing.
    """
    store = Store(data_dir)
    if not store.is_local:
        raise BadInput(f"YOLO is read from local files; copy {store.root} to a folder first.")
    photos, boxes = store.read_table("images.csv"), store.read_table("boxes.csv")
    crops = store.read_table("crops.csv")
    splits = crops[crops["Error"] == ""].drop_duplicates("ImageID").set_index("ImageID")["Subset"]
    photos = photos[photos["Status"] == "ok"]
    taken = photos[photos["ImageID"].isin(splits.index)]
    names = sorted(boxes["Category"].unique())
    boxes = boxes[(boxes["XMax"] > boxes["XMin"]) & (boxes["YMax"] > boxes["YMin"])]
    groups = dict(tuple(boxes.groupby("ImageID")[["Category", *COORDINATES]]))
    target, part = store.path("yolo"), store.path(_PART)
    shutil.rmtree(part, ignore_errors=True)
    for kind in ("images", "labels"):
        for split in SPLITS.values():
            (part / kind / split).mkdir(parents=True)
    linked = count = 0
    bar = tqdm(taken["ImageID"], "Writing photos", unit="photo", disable=quiet or None)
    for image_id, rotation in zip(bar, taken["Rotation"], strict=True):
        split = SPLITS[splits[image_id]]
        degrees = rotation if rotation > 0 else 0.0
        linked += _place(store.photo(image_id), part / "images" / split, degrees)
        lines = [
            _label(names.index(box[0]), rotate_box(box[1:], degrees))
            for box in groups[image_id].itertuples(index=False)
        ]
        count += len(lines)
        (part / "labels" / split / f"{image_id}.txt").write_text("".join(lines), encoding="utf-8")
    # JSON is YAML; without "path" a reader takes the folder of the file, wherever it is moved.
    about = {split: f"images/{split}" for split in SPLITS.values()} | {"names": names}
    store.write_json(f"{_PART}/data.yaml", about)
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)
    return Exported(len(taken), linked, count, len(photos) - len(taken))


def _place(photo, folder, degrees: float) -> bool:
    """Put a photo upright into a folder; return whether it is a hard link."""
    target = folder / photo.name
    try:
        with Image.open(photo) as picture:
            turned = picture.getexif().get(ExifTags.Base.Orientation, 1) not in (0, 1)
            if degrees or turned:
                profile = picture.info.get("icc_profile") if picture.mode == "RGB" else None
                # EXIF is not applied: boxes and Rotation refer to the pixels as stored.
                upright(decode(picture), degrees).save(target, quality=95, icc_profile=profile)
                return False
    except FileNotFoundError:
        raise BadInput(f"There is no {photo}: run build-dataset (or openimager) again.") from None
    with contextlib.suppress(OSError):
        os.link(photo, target)
        return True
    shutil.copyfile(photo, target)
    return False


def _label(number: int, box) -> str:
    """Return a line of a label file: class, centre and size as fractions of the upright photo.

    >>> _label(1, (0.25, 0.75, 0.0, 0.5))
    '1 0.500000 0.250000 0.500000 0.500000\\n'
    """
    x_min, x_max, y_min, y_max = (min(max(edge, 0.0), 1.0) for edge in box)
    numbers = ((x_min + x_max) / 2, (y_min + y_max) / 2, x_max - x_min, y_max - y_min)
    return " ".join([str(number), *(f"{value:.6f}" for value in numbers)]) + "\n"
