"""The data directory: every path in it, the columns of every table, and whole-or-nothing writes.

A data directory is a local folder or any URL that fsspec opens, such as ``s3://bucket/pets``.
Nothing else builds a path below it or reads one of its tables by hand.
"""

import contextlib
import hashlib
import io
import json
import os
import re
from collections.abc import Iterable, Iterator
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

# Column -> type: "str" (a missing value is ""), "Int64" (may be missing), "float64" (NaN).
_BOX = {
    **dict.fromkeys(("ImageID", "Source", "LabelName"), "str"),
    **dict.fromkeys(("Confidence", *COORDINATES), "float64"),
    **dict.fromkeys(FLAGS, "Int64"),
}
_PHOTO = {
    **dict.fromkeys(("ImageID", "Subset", "OriginalURL", "OriginalLandingURL", "License"), "str"),
    **dict.fromkeys(("AuthorProfileURL", "Author", "Title"), "str"),
    "OriginalSize": "Int64",
    **dict.fromkeys(("OriginalMD5", "Thumbnail300KURL"), "str"),
    "Rotation": "float64",
}
_OUTCOME = {
    **dict.fromkeys(("Status", "Source"), "str"),
    **dict.fromkeys(("Width", "Height", "Bytes"), "Int64"),
    "Error": "str",
}
_CREDIT = ("ImageID", "Title", "Author", "AuthorProfileURL", "OriginalLandingURL", "License")
SCHEMAS = {
    "images.csv": {**_PHOTO, **_OUTCOME, "Release": "str"},
    "boxes.csv": {**_BOX, "Category": "str"},
    "ATTRIBUTION.csv": dict.fromkeys((*_CREDIT, "Changes"), "str"),
    "crops.csv": {
        **{"ImageID": "str", "n": "Int64"},
        **dict.fromkeys(("Category", "Subset", "CropPath"), "str"),
        **dict.fromkeys(COORDINATES, "float64"),
        **dict.fromkeys((*PIXELS, *FLAGS), "Int64"),
        **{"Source": "str", "Rotation": "float64"},
        **{"DuplicateGroup": "str", "SHA256": "str", "Bytes": "Int64", "Error": "str"},
        **{"Key": "str", "Excluded": "Int64"},
    },
    # In models/, with one more column "P(<category>)" for each category.
    "predictions.csv": {
        **{"ImageID": "str", "n": "Int64"},
        **dict.fromkeys(("Subset", "Category", "Predicted"), "str"),
        **{"Probability": "float64", "Suspect": "str"},
    },
}
BOX_COLUMNS = tuple(_BOX)
PHOTO_COLUMNS = tuple(_PHOTO)
OUTCOME_COLUMNS = tuple(_OUTCOME)
IMAGE_COLUMNS, CREDIT_COLUMNS, CROP_COLUMNS = (
    tuple(SCHEMAS[name]) for name in ("images.csv", "ATTRIBUTION.csv", "crops.csv")
)
_MADE_BY = {
    "images.csv": "openimager.download",
    "boxes.csv": "openimager.download",
    "ATTRIBUTION.csv": "openimager.download",
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
    >>> store.crop("data/crops/train/Cat/000a1249af2bc5f0_0.jpg").as_posix()
    'data/crops/train/Cat/000a1249af2bc5f0_0.jpg'
    """

    def __init__(self, data_dir: "str | os.PathLike | Store" = "data"):
        self.data_dir = str(data_dir.data_dir if isinstance(data_dir, Store) else data_dir)
        self.is_local = not re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", self.data_dir)
        self.root = Path(self.data_dir) if self.is_local else bucket.opened(self.data_dir)
        self.images, self.crops, self.state = (
            self.root / name for name in ("images", "crops", ".openimager")
        )

    def __reduce__(self):
        # Another process may have another working directory.
        return Store, (os.path.abspath(self.data_dir) if self.is_local else self.data_dir,)

    def __repr__(self) -> str:
        return f"Store({self.data_dir!r})"

    def photo(self, image_id: str):
        """Return the path of a photo.

        Raises
        ------
        BadInput
            If `image_id` is not 16 hex digits: a table must not name a file elsewhere.
        """
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
        if not self.is_local:
            with bucket.explained(self.data_dir):
                path.fs.pipe_file(path.path, data)
            return
        files.write(path, data)

    def remove(self, *paths) -> None:
        """Remove files; one that is missing is no error."""
        if not self.is_local:
            with bucket.explained(self.data_dir), contextlib.suppress(FileNotFoundError):
                if paths:
                    self.root.fs.rm([path.path for path in paths])
            return
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()

    def sizes(self, folder) -> dict[str, int]:
        """Return the bytes of every file below a folder, by its path relative to that folder."""
        if self.is_local:
            return dict(_walk(str(folder), ""))
        start = len(folder.path.rstrip("/")) + 1
        with bucket.explained(self.data_dir):
            found = folder.fs.find(folder.path, detail=True)
        # Some servers list folders as empty objects.
        return {path[start:]: entry["size"] for path, entry in found.items() if path[start:]}

    def write_table(self, frame: "pd.DataFrame", name: str) -> None:
        r"""Write a table as CSV: UTF-8, ``\n`` line ends, no index, the schema's columns first."""
        first = [column for column in SCHEMAS.get(name, ()) if column in frame]
        frame = frame[first + [column for column in frame if column not in first]]
        stream = io.BytesIO()
        frame.to_csv(stream, mode="wb", encoding="utf-8", index=False, lineterminator="\n")
        self.write(self.path(name), stream.getvalue())

    def read_table(self, name: str, columns: Iterable[str] | None = None) -> "pd.DataFrame":
        """Read a table with the types of its schema.

        Parameters
        ----------
        name : str
            A key of `SCHEMAS`.
        columns : iterable of str, optional
            The columns to read; by default all of the schema that the file has.

        Raises
        ------
        BadInput
            If the table is missing, lacks one of `columns` or cannot be parsed.
        """
        import pandas as pd

        path = self.path(name)
        try:
            stream = io.BytesIO(self.read(path))
            frame = pd.read_csv(stream, dtype=str, keep_default_na=False, encoding="utf-8")
        except FileNotFoundError:
            made_by = _MADE_BY.get(name, "an earlier step")
            raise BadInput(f"There is no {name} in {self.root}. {made_by} writes it.") from None
        except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
            raise BadInput(f"{path} is not a readable table: {error}") from None
        schema = SCHEMAS.get(name, {})
        wanted = [c for c in schema if c in frame] if columns is None else list(columns)
        if missing := [column for column in wanted if column not in frame]:
            raise BadInput(f"{path} lacks the columns {', '.join(missing)}.")
        return typed(frame[wanted], schema)

    def write_json(self, name: str, content) -> None:
        """Write a JSON file of the data directory."""
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        self.write(self.path(name), text.encode())

    def read_json(self, name: str):
        """Read a JSON file of the data directory; None if it is missing or broken."""
        try:
            return json.loads(self.read(self.path(name)).decode())
        except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
            return None

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold a lock of this data directory; raise `openimager.files.Busy` if another run does."""
        path = self.state / f"{name}.lock"
        with files.lock(path, wait=False) if self.is_local else bucket.lock(path, self.data_dir):
            yield

    def local_copy(self, names: Iterable[str], quiet: bool = False) -> Path:
        """Return a local data directory that holds some files of this one.

        Parameters
        ----------
        names : iterable of str
            CropPaths (``"data/crops/..."``) and names such as ``"crops.csv"``.

        Returns
        -------
        pathlib.Path
            This directory where it is local; else a folder of the cache with just these files.
        """
        if self.is_local:
            return self.root
        import platformdirs

        cache = os.environ.get("OPENIMAGER_CACHE") or platformdirs.user_cache_dir(
            "openimager", appauthor=False
        )
        folder = hashlib.sha256(self.data_dir.rstrip("/").encode()).hexdigest()[:16]
        names = [name.removeprefix("data/") for name in names]
        return bucket.copied(self.root, names, Path(cache, "buckets", folder), quiet)


def typed(frame: "pd.DataFrame", schema: dict[str, str]) -> "pd.DataFrame":
    """Return a frame of text with the types of a schema; text that is no number is missing.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = typed(pd.DataFrame({"n": ["1", ""]}), {"n": "Int64"})
    >>> frame["n"].tolist()
    [1, <NA>]
    """
    import pandas as pd

    frame = frame.copy()
    for column in frame:
        if (kind := schema.get(column, "str")) != "str":
            frame[column] = pd.to_numeric(frame[column], errors="coerce").astype(kind)
    return frame


def _walk(folder: str, prefix: str) -> Iterator[tuple[str, int]]:
    try:
        entries = os.scandir(folder)
    except FileNotFoundError:
        return
    with entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path, f"{prefix}{entry.name}/")
            elif entry.is_file():
                yield prefix + entry.name, entry.stat().st_size
