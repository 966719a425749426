"""A data directory as the downloader leaves it, made row by row; pictures drawn from a seed."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from openimager import crops
from openimager.store import COORDINATES, FLAGS


def scene(width=320, height=240, seed=0) -> Image.Image:
    """Draw an upright picture whose quarters are told apart by colour, with some detail."""
    random = np.random.default_rng(seed)
    blobs = Image.fromarray(random.integers(0, 90, (12, 16, 3), dtype=np.uint8))
    array = np.asarray(blobs.resize((width, height), Image.Resampling.BICUBIC)).copy()
    half_h, half_w = height // 2, width // 2
    array[:half_h, :half_w, 0] += 150
    array[:half_h, half_w:, 1] += 150
    array[half_h:, :half_w, 2] += 150
    return Image.fromarray(array)


def jpeg(picture, **options) -> bytes:
    """Return the picture as a JPEG file."""
    stream = io.BytesIO()
    picture.save(stream, "JPEG", **{"quality": 95, **options})
    return stream.getvalue()


class Site:
    """A data directory as the downloader leaves it, made row by row."""

    def __init__(self, folder: Path):
        self.data_dir = folder
        self.photos, self.rows = {}, []

    def photo(self, data, image_id=None, subset="train", rotation=0.0, status="ok") -> str:
        """Add a photo: bytes of a file, or a picture."""
        image_id = image_id or f"{len(self.photos) + 1:016x}"
        self.photos[image_id] = (image_id, subset, rotation, status)
        path = self.data_dir / "images" / f"{image_id}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else jpeg(data))
        return image_id

    def box(self, image_id, box=(0.1, 0.6, 0.2, 0.9), category="Cat", **flags):
        """Add a box; flags by name, 0 where not given."""
        flags = {**dict.fromkeys(FLAGS, 0), **flags}
        self.rows.append((image_id, "xclick", category, *box, *flags.values()))

    def write(self):
        """Write images.csv and boxes.csv; return the data directory."""
        photos = pd.DataFrame(
            self.photos.values(), columns=["ImageID", "Subset", "Rotation", "Status"]
        )
        photos.to_csv(self.data_dir / "images.csv", index=False)
        columns = ["ImageID", "Source", "Category", *COORDINATES, *FLAGS]
        pd.DataFrame(self.rows, columns=columns).to_csv(self.data_dir / "boxes.csv", index=False)
        return self.data_dir

    def crop(self, **options) -> pd.DataFrame:
        """Write the tables and crop."""
        return crops.write_crops(self.write(), quiet=True, **options)

    def files(self) -> dict[str, bytes]:
        """Return all crops on disk, by their path below crops/."""
        root = self.data_dir / "crops"
        paths = (path for path in root.rglob("*") if path.is_file())
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


def counts(frame, *names):
    """Return some of the counts of a run."""
    return tuple(frame.attrs["counts"][name] for name in names)
