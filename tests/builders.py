"""Photos, tables and data directories for the tests.

A picture:
    jpeg(3)                          bytes of a small JPEG of noise; another seed, another picture
    jpeg(scene(320, 240, seed=3))    of a picture whose quarters differ in colour
    bomb()                           a small file that announces 3.6 thousand million pixels

A site as Open Images publishes it, for `base_url=` or to put on a server:
    rows = [photo_row(n, f"../photos/{n}.jpg", jpeg(n)) for n in range(3)]
    tables = write_site(tmp_path, rows)                          one cat in each photo
    tables = write_site(tmp_path, rows, {image_id(1): [CAT, DOG]})
    tables = write_site(tmp_path, rows, boxes=[box_row(0, DOG, IsGroupOf=1)])
    put_photos(tables, {f"photos/{n}.jpg": jpeg(n) for n in range(3)})

A data directory as a download leaves it:
    data = DataDir(tmp_path / "data")
    first = data.photo(scene(), rotation=90.0)
    data.box(first, (0.1, 0.6, 0.2, 0.9), "Cat", IsOccluded=1)
    data.write()                     images.csv, boxes.csv, ATTRIBUTION.csv; returns the directory

(package_tree.py makes a clone after all five notebooks, with data/ and models/.)

The columns are written out here and not imported, so that a test notices when the module reads or
writes others.
"""

import csv
import io
import json
import random
from base64 import b64encode
from hashlib import md5, sha256
from pathlib import Path

import numpy as np
from PIL import Image

CAT, DOG = "/m/01yrx", "/m/0bt9lr"
SPLITS = ("train", "validation", "test")
COORDINATES = ["XMin", "XMax", "YMin", "YMax"]
FLAGS = ["IsOccluded", "IsTruncated", "IsGroupOf", "IsDepiction", "IsInside"]
BOX_COLUMNS = ["ImageID", "Source", "LabelName", "Confidence", *COORDINATES, *FLAGS]
PHOTO_COLUMNS = [
    *("ImageID", "Subset", "OriginalURL", "OriginalLandingURL", "License", "AuthorProfileURL"),
    *("Author", "Title", "OriginalSize", "OriginalMD5", "Thumbnail300KURL", "Rotation"),
]
IMAGE_COLUMNS = [*PHOTO_COLUMNS, "Status", "Source", "Width", "Height", "Bytes", "Error", "Release"]
PHOTO_TABLES = {
    "train": "train/train-images-boxable-with-rotation.csv",
    "validation": "validation/validation-images-with-rotation.csv",
    "test": "test/test-images-with-rotation.csv",
}
BOX_TABLES = {split: f"{split}/{split}-annotations-bbox.csv" for split in SPLITS}


# Pictures


def jpeg(picture=0, size=(96, 64), **options):
    """Return the bytes of a JPEG: of a Pillow image, or of noise from a seed."""
    if not isinstance(picture, Image.Image):
        noise = random.Random(picture).randbytes(size[0] * size[1] * 3)
        picture = Image.frombytes("RGB", size, noise)
    else:
        options = {"quality": 95, **options}
    stream = io.BytesIO()
    picture.save(stream, "JPEG", **options)
    return stream.getvalue()


def scene(width=320, height=240, seed=0):
    """Return an upright picture whose quarters differ in colour, with some detail."""
    rng = np.random.default_rng(seed)
    blobs = Image.fromarray(rng.integers(0, 90, (12, 16, 3), dtype=np.uint8))
    array = np.asarray(blobs.resize((width, height), Image.Resampling.BICUBIC)).copy()
    half_h, half_w = height // 2, width // 2
    array[:half_h, :half_w, 0] += 150
    array[:half_h, half_w:, 1] += 150
    array[half_h:, :half_w, 2] += 150
    return Image.fromarray(array)


def bomb():
    """Return a small JPEG whose header claims 3.6 thousand million pixels."""
    data = bytearray(jpeg())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = (60_000).to_bytes(2, "big") * 2
    return bytes(data)


def digest(path):
    """Return the SHA256 of a file."""
    return sha256(Path(path).read_bytes()).hexdigest()


def files_below(folder):
    """Return every file below a folder with its bytes, by its path relative to the folder."""
    paths = (path for path in Path(folder).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


# Rows of the published tables


def image_id(number):
    """Return the ImageID of the photo with this number."""
    return f"{number:016x}"


def photo_row(number, url, data=None, subset="train", **fields):
    """Return a row of the photo table; OriginalSize and OriginalMD5 are those of `data`."""
    row = dict.fromkeys(PHOTO_COLUMNS, "")
    row |= {"ImageID": image_id(number), "Subset": subset, "OriginalURL": url, "Rotation": "0.0"}
    row |= {"Author": "A. Painter", "Title": f"No. {number}", "License": "CC BY 2.0"}
    if data is not None:
        row["OriginalSize"] = len(data)
        row["OriginalMD5"] = b64encode(md5(data).digest()).decode()
    return row | fields


def box_row(number, label=CAT, box=(0.1, 0.9, 0.2, 0.8), **fields):
    """Return a row of the box table; the flags are 0 unless given."""
    row = {"ImageID": image_id(number), "Source": "xclick", "LabelName": label, "Confidence": 1}
    row |= dict(zip(COORDINATES, box, strict=True)) | dict.fromkeys(FLAGS, 0)
    return row | fields


def write_csv(path, rows, columns=None, header=True):
    """Write rows (dicts) to a CSV file; the columns default to those of the first row."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = columns or list(rows[0])
    with open(path, "w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(
            stream, columns, restval="", extrasaction="ignore", lineterminator="\n"
        )
        if header:
            writer.writeheader()
        writer.writerows(rows)


def table_path(kind, subset=None):
    """Return the path of a table of V4 below its folder, such as ``("boxes", "train")``."""
    small = {
        "classes": "class-descriptions-boxable.csv",
        "hierarchy": "bbox_labels_600_hierarchy.json",
    }
    return small.get(kind) or {"boxes": BOX_TABLES, "photos": PHOTO_TABLES}[kind][subset]


def write_site(folder, photos, labels=None, boxes=None, classes=None, tree=None):
    """Write the tables of a site in V4 layout and return their folder, `folder`/2018_04.

    Parameters
    ----------
    folder : Path
        The root of the site.
    photos : list of dict
        Rows of the photo tables, from `photo_row`.
    labels : dict, optional
        ImageID to the LabelNames of its boxes; one cat for each photo that is not named.
    boxes : list of dict, optional
        Rows of the box tables, from `box_row`, in place of `labels`.
    classes : dict, optional
        LabelName to name; Cat and Dog by default.
    tree : dict, optional
        The hierarchy; by default all classes are children of the root.
    """
    tables = Path(folder) / "2018_04"
    if boxes is None:
        boxes = [
            box_row(0, label, ImageID=row["ImageID"])
            for row in photos
            for label in (labels or {}).get(row["ImageID"], [CAT])
        ]
    subset_of = {row["ImageID"]: row["Subset"] for row in photos}
    for split in SPLITS:
        own = [row for row in photos if row["Subset"] == split]
        write_csv(tables / PHOTO_TABLES[split], own, PHOTO_COLUMNS)
        own = [row for row in boxes if subset_of.get(row["ImageID"], "train") == split]
        own.sort(key=lambda row: row["ImageID"])
        write_csv(tables / BOX_TABLES[split], own, BOX_COLUMNS)
    classes = classes or {CAT: "Cat", DOG: "Dog"}
    rows = [{"LabelName": label, "DisplayName": name} for label, name in classes.items()]
    write_csv(tables / "class-descriptions-boxable.csv", rows, header=False)
    children = [{"LabelName": label} for label in classes]
    tree = tree or {"LabelName": "/m/0bl9f", "Subcategory": children}
    path = tables / "bbox_labels_600_hierarchy.json"
    path.write_text(json.dumps(tree), encoding="utf-8")
    return tables


def put_photos(tables, files):
    """Write files (path below the site's root to bytes) beside the folder of the tables."""
    for name, data in files.items():
        path = tables.parent / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


# A data directory


class DataDir:
    """A data directory as a download leaves it, built row by row."""

    def __init__(self, folder):
        self.data_dir = Path(folder)
        self.photos, self.rows = {}, []

    def photo(self, data, image_id=None, subset="train", rotation=0.0, status="ok", **fields):
        """Add a photo (bytes of a file, or a Pillow image) and return its ImageID."""
        image_id = image_id or f"{len(self.photos) + 1:016x}"
        size = data.size if isinstance(data, Image.Image) else ("", "")
        data = data if isinstance(data, bytes) else jpeg(data)
        row = photo_row(0, f"../photos/{image_id}_o.jpg", data, subset, ImageID=image_id)
        row |= {"License": "https://creativecommons.org/licenses/by/2.0/"}
        row |= {"OriginalLandingURL": f"https://example.org/photos/{image_id}"}
        row |= {"Rotation": rotation, "Status": status, "Source": "flickr", "Release": "v4"}
        row |= {"Width": size[0], "Height": size[1], "Bytes": len(data)}
        self.photos[image_id] = row | fields
        if status == "ok":
            path = self.data_dir / "images" / f"{image_id}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return image_id

    def box(self, image_id, box=(0.1, 0.6, 0.2, 0.9), category="Cat", **flags):
        """Add a box; flags by name, 0 where not given."""
        row = box_row(0, {"Cat": CAT, "Dog": DOG}.get(category, "/m/0test"), box)
        self.rows.append(row | {"ImageID": image_id, "Category": category} | flags)

    def write(self):
        """Write images.csv, boxes.csv and ATTRIBUTION.csv; return the data directory."""
        photos = list(self.photos.values())
        write_csv(self.data_dir / "images.csv", photos, IMAGE_COLUMNS)
        write_csv(self.data_dir / "boxes.csv", self.rows, [*BOX_COLUMNS, "Category"])
        credits = ["ImageID", "Title", "Author", "AuthorProfileURL", "OriginalLandingURL"]
        kept = [{**row, "Changes": "none"} for row in photos if row["Status"] == "ok"]
        write_csv(self.data_dir / "ATTRIBUTION.csv", kept, [*credits, "License", "Changes"])
        return self.data_dir

    def crop(self, **options):
        """Write the tables, cut the crops and return the table of crops."""
        from openimager import crops

        return crops.write_crops(self.write(), quiet=True, **options)

    def files(self):
        """Return all crops on disk, by their path below crops/."""
        return files_below(self.data_dir / "crops")


def counts(frame, *names):
    """Return some of the counts of a cropping run."""
    return tuple(frame.attrs["counts"][name] for name in names)
