"""The data directory: every path in it, the columns of every table, and whole-or-nothing writes.

A data directory is a local folder or any URL that fsspec opens, such as ``s3://bucket/pets``.
Other modules get every path and table of it from here.
"""

import contextlib
import csv
import hashlib
import io
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from openimager import bucket, files
from openimager.errors import BadInput

if TYPE_CHECKING:
    import pandas as pd

SUBSETS = ("train", "validation", "test")
FLAGS = ("IsOccluded", "IsTruncated", "IsGroupOf", "IsDepiction", "IsInside")
COORDINATES = ("XMin", "XMax", "YMin", "YMax")
PIXELS = ("Left", "Upper", "Right", "Lower")
ROTATIONS = (0.0, 90.0, 180.0, 270.0)
IMAGE_ID = r"[0-9a-f]{16}"

BOX_COLUMNS = ("ImageID", "Source", "LabelName", "Confidence", *COORDINATES, *FLAGS)
PHOTO_COLUMNS = (
    *("ImageID", "Subset", "OriginalURL", "OriginalLandingURL", "License", "AuthorProfileURL"),
    *("Author", "Title", "OriginalSize", "OriginalMD5", "Thumbnail300KURL", "Rotation"),
)
OUTCOME_COLUMNS = ("Status", "Source", "Width", "Height", "Bytes", "Error")
IMAGE_COLUMNS = (*PHOTO_COLUMNS, *OUTCOME_COLUMNS, "Release")
CREDIT_COLUMNS = (
    *("ImageID", "Title", "Author", "AuthorProfileURL", "OriginalLandingURL", "License"),
    "Changes",
)
CROP_COLUMNS = (
    *("ImageID", "n", "Category", "Subset", "CropPath", *COORDINATES, *PIXELS, *FLAGS, "Source"),
    *("Rotation", "DuplicateGroup", "SHA256", "Bytes", "Error", "Key", "Excluded"),
)
_BLOCK = 4000  # rows of a table that are parsed at a time
# All other columns are text, and a missing value is "".
TYPES = {
    **dict.fromkeys((*FLAGS, *PIXELS, "n", "OriginalSize", "Width", "Height"), "Int64"),
    **dict.fromkeys(("Bytes", "PhotoBytes", "Excluded"), "Int64"),
    **dict.fromkeys((*COORDINATES, "Confidence", "Rotation", "Probability"), "float64"),
}
COLUMNS = {
    "images.csv": IMAGE_COLUMNS,
    "boxes.csv": (*BOX_COLUMNS, "Category"),
    "ATTRIBUTION.csv": CREDIT_COLUMNS,
    "crops.csv": CROP_COLUMNS,
    # In models/, with one more column "P(<category>)" for each category.
    "predictions.csv": (
        *("ImageID", "n", "Subset", "Category", "Predicted", "Probability", "Suspect"),
    ),
}
_MADE_BY = {
    **dict.fromkeys(("images.csv", "boxes.csv", "ATTRIBUTION.csv"), "openimager.download"),
    "crops.csv": "openimager.write_crops (build-dataset)",
    "predictions.csv": "evaluate-model",
}


class Store:
    """Paths, tables and writes of one data directory.

    It is picklable, and opens its file system again in another process.

    Parameters
    ----------
    data_dir : path-like
        A folder, or a URL such as ``"s3://bucket/pets"``. It need not exist.

    Attributes
    ----------
    root, images, crops, state : pathlib.Path or upath.UPath
        The data directory itself, ``images/``, ``crops/`` and ``.openimager/``.
    is_local : bool

    Examples
    --------
    >>> store = Store("data")
    >>> store.photo("000a1249af2bc5f0").as_posix()
    'data/images/000a1249af2bc5f0.jpg'
    """

    def __init__(self, data_dir: "str | os.PathLike | Store" = "data"):
        self.data_dir = str(data_dir.data_dir if isinstance(data_dir, Store) else data_dir)
        self.is_local = files.is_local(self.data_dir)
        self.root = Path(self.data_dir) if self.is_local else bucket.opened(self.data_dir)
        self.images, self.crops, self.state = (
            self.root / name for name in ("images", "crops", ".openimager")
        )

    def __reduce__(self):
        # Another process may have another working directory.
        return Store, (os.path.abspath(self.data_dir) if self.is_local else self.data_dir,)

    def photo(self, image_id: str):
        """Return the path of a photo; BadInput unless `image_id` is 16 hex digits."""
        # A table must not name a file elsewhere.
        if not re.fullmatch(IMAGE_ID, image_id):
            raise BadInput(f"'{image_id}' is not an ImageID: 16 hex digits, 0-9 and a-f.")
        return self.images / f"{image_id}.jpg"

    def crop(self, crop_path: str):
        """Return the path of a crop from its CropPath, which begins with ``data/crops/``."""
        first, folder, *rest = crop_path.split("/")
        if (first, folder) != ("data", "crops") or len(rest) != 3 or {"", ".", ".."} & {*rest}:
            raise BadInput(
                f"'{crop_path}' is not a CropPath such as "
                "'data/crops/train/Cat/000a1249af2bc5f0_0.jpg'."
            )
        return self.crops.joinpath(*rest)

    def path(self, name: str):
        """Return the path of another file of the data directory, such as ``"boxes.csv"``."""
        return self.root.joinpath(*name.split("/"))

    def read(self, path) -> bytes:
        """Return the contents of a file, which may be missing (FileNotFoundError)."""
        if self.is_local:
            return path.read_bytes()
        with bucket.explained(self.data_dir):
            return path.fs.cat_file(path.path)

    def write(self, path, data: bytes) -> None:
        """Write a file whole or not at all: renamed into place, or one PUT into a bucket."""
        if self.is_local:
            files.write(path, data)
            return
        with bucket.explained(self.data_dir):
            path.fs.pipe_file(path.path, data)

    @contextlib.contextmanager
    def replacing(self, path) -> Iterator[Path]:
        """Yield a temporary path; the file there takes the name `path` when the block ends well."""
        if self.is_local:
            with files.replacing(path) as part:
                yield part
        else:
            with tempfile.TemporaryDirectory() as folder:
                part = Path(folder, path.name)
                yield part
                self.write(path, part.read_bytes())

    def remove(self, *paths) -> None:
        """Remove files; one that is missing is no error."""
        if self.is_local:
            for path in paths:
                path.unlink(missing_ok=True)
        elif paths:
            with bucket.explained(self.data_dir):
                try:
                    self.root.fs.rm([path.path for path in paths])
                except FileNotFoundError:  # some file systems stop there, and leave the rest
                    for path in paths:
                        with contextlib.suppress(FileNotFoundError):
                            self.root.fs.rm_file(path.path)

    def remove_parts(self, folder) -> None:
        """Remove photos that a killed run left half written."""
        if self.is_local:
            self.remove(*folder.glob(".*.jpg.*.part"))

    def sizes(self, folder) -> dict[str, int]:
        """Return the size of every file below a folder, by its path relative to that folder."""
        if self.is_local:
            return files.sizes(folder)
        start = len(folder.path.rstrip("/")) + 1
        with bucket.explained(self.data_dir):
            found = folder.fs.find(folder.path, detail=True)
        # Some servers list folders as empty objects.
        return {path[start:]: entry["size"] for path, entry in found.items() if path[start:]}

    def write_table(self, frame: "pd.DataFrame", name: str) -> None:
        r"""Write a table as CSV: UTF-8, ``\n`` line ends, no index."""
        with self.replacing(self.path(name)) as part:
            frame.to_csv(part, index=False, encoding="utf-8", lineterminator="\n")

    def write_rows(self, rows: Iterable[Sequence], name: str) -> None:
        """Write a table as `write_table` does, a row at a time: all its columns."""
        with (
            self.replacing(self.path(name)) as part,
            open(part, "w", encoding="utf-8", newline="") as stream,
        ):
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(COLUMNS[name])
            writer.writerows(rows)

    def read_rows(self, name: str, columns: Sequence[str]) -> Iterator[list[str]]:
        """Yield some columns of a table as text; nothing where it is missing or not readable."""
        with contextlib.suppress(FileNotFoundError, UnicodeDecodeError, LookupError, csv.Error):
            text = io.TextIOWrapper(io.BytesIO(self.read(self.path(name))), "utf-8", newline="")
            rows = csv.reader(text)
            places = {column: place for place, column in enumerate(next(rows, []))}
            for row in rows:
                yield [row[places[column]] for column in columns]

    def read_table(
        self, name: str, columns: Iterable[str] | None = None, strict: bool = True
    ) -> "pd.DataFrame":
        """Read some columns of a table, by default those in `COLUMNS`, with their types.

        BadInput if the table cannot be parsed. If it or a column is missing: BadInput if `strict`,
        else no rows, or missing values.
        """
        import pandas as pd

        path, wanted = self.path(name), list(COLUMNS[name] if columns is None else columns)
        try:
            # In blocks, because text takes several times the memory of the typed columns.
            blocks = pd.read_csv(
                path if self.is_local else io.BytesIO(self.read(path)),
                dtype=str,
                encoding="utf-8",
                keep_default_na=False,
                usecols={*wanted}.__contains__,
                chunksize=_BLOCK,
            )
            with blocks:
                frame = pd.concat(map(typed, blocks), ignore_index=True)
        except FileNotFoundError:
            if not strict:
                return typed(pd.DataFrame(columns=wanted, dtype=str))
            made_by = _MADE_BY.get(name, "an earlier step")
            raise BadInput(f"There is no {name} in {self.root}. {made_by} writes it.") from None
        except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
            raise BadInput(f"{path} is not a readable table: {error}") from None
        missing = [column for column in wanted if column not in frame]
        if strict and missing:
            raise BadInput(f"{path} lacks the columns {', '.join(missing)}.")
        return frame.reindex(columns=wanted)

    def write_json(self, name: str, content) -> None:
        """Write a JSON file of the data directory."""
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        self.write(self.path(name), text.encode())

    def read_json(self, name: str):
        """Read a JSON file of the data directory; None if it is missing or broken."""
        with contextlib.suppress(FileNotFoundError, UnicodeDecodeError, json.JSONDecodeError):
            return json.loads(self.read(self.path(name)))

    def lock(self, name: str):
        """Return a context that holds a lock; `openimager.files.Busy` if another run has it."""
        path = self.state / f"{name}.lock"
        return files.lock(path, False) if self.is_local else bucket.lock(path, self.data_dir)

    def local_copy(self, names: Iterable[str], quiet: bool = False) -> Path:
        """Return this directory if it is local, else a folder in the cache with a copy of files.

        `names` are CropPaths (``"data/crops/..."``) and names such as ``"crops.csv"``.
        """
        if self.is_local:
            return self.root
        folder = hashlib.sha256(self.data_dir.rstrip("/").encode()).hexdigest()[:16]
        names = [name.removeprefix("data/") for name in names]
        return bucket.copied(self.root, names, files.cache_folder() / "buckets" / folder, quiet)


def typed(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Give the columns of a frame of text their `TYPES`; an invalid number becomes missing."""
    import pandas as pd

    frame = frame.infer_objects()
    for column in frame.columns.intersection([*TYPES]):
        frame[column] = pd.to_numeric(frame[column], errors="coerce").astype(TYPES[column])
    return frame
