"""The wanted rows of the V4 tables, picked out as the bytes go by.

The table of boxes has 14.6 million rows, of which a pair of categories wants some thousands. A
regular expression over blocks of bytes finds these at close to the speed of the disk, and only
they are given to a real CSV parser; so the big tables never become a frame.

pandas is imported by the functions that need it: `--help` and `--list` do without.
"""

import io
import re
from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from openimager.errors import BadInput
from openimager.store import (
    BOX_COLUMNS,
    COORDINATES,
    FLAGS,
    IMAGE_ID,
    PHOTO_COLUMNS,
    ROTATIONS,
    SUBSETS,
)

if TYPE_CHECKING:
    import pandas as pd

_BLOCK = 1 << 20
_BATCH = 4 << 20
_NAMED = 5
# Added to the end of every kept record, so that one comparison finds rows with too few or too
# many fields: the parser would fill or cut them without a word.
_END = "."
_NEVER_EMPTY = (*COORDINATES, *FLAGS)
_NUMBERS = ("OriginalSize", "Rotation", *_NEVER_EMPTY)


class Rows(NamedTuple):
    """What a table held of what was wanted.

    Attributes
    ----------
    frame : pandas.DataFrame
        The rows that keep the format, in the order of the table.
    bad : int
        How many wanted rows break the format and were left out.
    examples : tuple of str
        The first few of these, each as ``"line 17: XMin 1.2 is outside 0..1"``.
    """

    frame: "pd.DataFrame"
    bad: int
    examples: tuple[str, ...]


def read_boxes(path: str | Path, labels: Iterable[str]) -> Rows:
    """Read the boxes of some categories from a table of boxes.

    Parameters
    ----------
    path : path-like
        A V4 table of boxes; its columns may stand in any order, with others between them.
    labels : iterable of str
        The wanted LabelNames, such as ``"/m/01yrx"``.

    Returns
    -------
    Rows
        `frame` has `BOX_COLUMNS`: coordinates are fractions of the picture in 0..1, y down
        (float64); flags are 1, 0 or -1 for unknown (int8).

    Raises
    ------
    BadInput
        If the file is missing or lacks one of the columns.
    """
    header = _header(path, BOX_COLUMNS)
    labels = sorted(set(labels))
    kept = _Kept(path, header, BOX_COLUMNS, lambda frame: _box_faults(frame, labels))
    if labels:
        _keep_matching(path, _any_of(labels), kept.add)
    return kept.rows()


def read_photos(path: str | Path, image_ids: Iterable[str]) -> Rows:
    """Read the rows of some photos from a table of photos, which need not be sorted.

    Parameters
    ----------
    path : path-like
        A V4 table of photos. The ImageID is its first column.
    image_ids : iterable of str
        The wanted ImageIDs, 16 hex digits each.

    Returns
    -------
    Rows
        `frame` has `PHOTO_COLUMNS`, as text, but for OriginalSize (bytes, Int64, missing where
        the table has none) and Rotation (degrees counter-clockwise to apply: 0, 90, 180 or 270,
        NaN where unknown). A repeated ImageID counts once.

    Raises
    ------
    BadInput
        If the file is missing, lacks one of the columns or has another first column.
    """
    header = _header(path, PHOTO_COLUMNS)
    if header[0] != "ImageID":
        raise BadInput(f"{path}: the first column is '{header[0]}', but must be 'ImageID'.")
    kept = _Kept(path, header, PHOTO_COLUMNS, _photo_faults)
    if len(image_ids):
        _keep_starting(path, set(image_ids), kept.add)
    rows = kept.rows()
    return rows._replace(frame=rows.frame.drop_duplicates("ImageID", ignore_index=True))


def chunks(
    path: str | Path, columns: Iterable[str], rows: int = 500_000
) -> Iterator["pd.DataFrame"]:
    """Yield some columns of a whole table, a bounded number of rows at a time.

    Parameters
    ----------
    path : path-like
        A CSV table with a header.
    columns : iterable of str
        The columns to read; the others are skipped by the parser.
    rows : int
        Rows a chunk, the bound on memory: one of 500,000 rows and three columns takes some
        30 to 100 MB.

    Raises
    ------
    BadInput
        If the file is missing or lacks one of the columns.
    """
    import pandas as pd

    columns = list(columns)
    _header(path, columns)
    with pd.read_csv(path, usecols=columns, chunksize=rows) as reader:
        for chunk in reader:
            yield chunk[columns]


def _header(path: str | Path, wanted: Iterable[str]) -> list[str]:
    try:
        with open(path, encoding="utf-8-sig") as stream:
            header = stream.readline().rstrip("\r\n").replace('"', "").split(",")
    except (FileNotFoundError, IsADirectoryError):
        raise BadInput(f"There is no table at {path}.") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path} is not a table: it is not UTF-8 text.") from None
    missing = [name for name in wanted if name not in header]
    if missing:
        raise BadInput(
            f"{path} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}; "
            f"its first line is '{','.join(header)[:120]}'."
        )
    return header


def _blocks(path: str | Path) -> Iterator[tuple[int, bytes]]:
    """Yield the file as (offset, block); blocks end at line ends, the first line is left out."""
    with open(path, "rb") as stream:
        stream.readline()
        offset = stream.tell()
        while block := stream.read(_BLOCK):
            block += stream.readline()
            yield offset, block if block.endswith(b"\n") else block + b"\n"
            offset += len(block)


def _any_of(labels: list[str]) -> re.Pattern[bytes]:
    r"""Compile one pattern for any of the labels, their common prefix factored out.

    The prefix lets the engine skip through the bytes by a plain search.

    Examples
    --------
    >>> _any_of(["/m/0cdn1", "/m/0l515"]).pattern
    b'/m/0(?:cdn1|l515)(?=[",\\r\\n])'
    """
    prefix = labels[0]
    while not all(label.startswith(prefix) for label in labels):
        prefix = prefix[:-1]
    rest = "|".join(re.escape(label[len(prefix) :]) for label in labels)
    return re.compile(rf'{re.escape(prefix)}(?:{rest})(?=[",\r\n])'.encode())


def _keep_matching(path, pattern: re.Pattern[bytes], keep: Callable[[bytes, int], None]) -> None:
    """Keep every line that holds a match."""
    for offset, block in _blocks(path):
        end = 0
        for match in pattern.finditer(block):
            if match.start() >= end:
                start = max(end, block.rfind(b"\n", end, match.start()) + 1)
                end = block.index(b"\n", match.end()) + 1
                keep(block[start:end], offset + start)


def _keep_starting(path, image_ids: set[str], keep: Callable[[bytes, int], None]) -> None:
    """Keep every record that starts with one of the ImageIDs."""
    import numpy as np

    # Eight bytes as one number compare much faster than sixteen characters; what they let
    # through wrongly, the look-up in the set sends away again.
    as_bytes = {image_id.encode() for image_id in image_ids}
    wanted = np.unique(np.frombuffer(b"".join(i[8:] for i in as_bytes), "<u8"))
    for offset, block in _blocks(path):
        ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n"))
        starts = np.concatenate(([0], ends[:-1] + 1))
        starts = starts[starts + 16 <= len(block)]
        words = np.ndarray(len(block) - 7, "<u8", block, strides=(1,))
        here = words[starts + 8]
        # Not np.isin: it would sort all that is wanted anew for every block.
        found = wanted[np.searchsorted(wanted, here).clip(max=len(wanted) - 1)] == here
        for start in starts[found].tolist():
            if block[start : start + 16] in as_bytes:
                keep(_record(block, start), offset + start)


def _record(block: bytes, start: int) -> bytes:
    r"""Return the record that starts there: a quoted field may hold line ends.

    Examples
    --------
    >>> _record(b'a,"one\ntwo"\nb,c\n', 0)
    b'a,"one\ntwo"\n'
    """
    first = end = block.index(b"\n", start) + 1
    while block.count(b'"', start, end) % 2:
        if end == len(block):
            return block[start:first].replace(b'"', b"")
        end = block.index(b"\n", end) + 1
    return block[start:end]


class _Kept:
    """Kept records, parsed a batch at a time so that only typed columns pile up in memory."""

    def __init__(self, path, header: list[str], columns: tuple[str, ...], faults: Callable):
        self.path, self.header, self.columns, self.faults = path, header, columns, faults
        self.records, self.offsets = io.BytesIO(), array("Q")
        self.frames: list[pd.DataFrame] = []
        self.bad = 0
        self.named: list[tuple[int, str]] = []

    def add(self, record: bytes, offset: int) -> None:
        self.records.write(record.rstrip(b"\r\n") + f",{_END}\n".encode())
        self.offsets.append(offset)
        if self.records.tell() > _BATCH:
            self._parse()

    def rows(self) -> Rows:
        import pandas as pd

        self._parse()
        frame = pd.concat(self.frames, ignore_index=True)
        return Rows(frame, self.bad, _examples(self.path, self.named))

    def _parse(self) -> None:
        import pandas as pd

        frame = _numbers(_read(self.records.getvalue(), self.header, self.columns), self.columns)
        fault = pd.Series("", index=frame.index, dtype=object)
        for mask, word in [
            (frame[_END] != _END, "it has too few or too many fields"),
            *self.faults(frame),
        ]:
            if mask.any():
                fault[(fault == "") & mask] = word
        good = fault == ""
        self.frames.append(_small(frame.loc[good, list(self.columns)]))
        self.bad += int((~good).sum())
        for i in fault.index[~good][: _NAMED - len(self.named)]:
            self.named.append((self.offsets[i], fault[i]))
        self.records, self.offsets = io.BytesIO(), array("Q")


def _read(records: bytes, header: list[str], columns: tuple[str, ...]) -> "pd.DataFrame":
    """Parse records; numbers are NaN where the text is none."""
    import pandas as pd

    numbers = set(columns) & set(_NUMBERS)

    def parse(types: dict[str, str]) -> "pd.DataFrame":
        return pd.read_csv(
            io.BytesIO(records),
            names=[*header, _END],
            usecols=[*columns, _END],
            index_col=False,
            dtype=dict.fromkeys([*columns, _END], "str") | types,
            keep_default_na=False,
            encoding="utf-8",
            encoding_errors="replace",
        )

    try:
        return parse(dict.fromkeys(numbers & set(_NEVER_EMPTY), "float64"))
    except ValueError:
        # Some field is no number. Told one by one, the others of the batch can be kept.
        return parse({})


def _numbers(frame: "pd.DataFrame", columns: tuple[str, ...]) -> "pd.DataFrame":
    """Turn what is still text of the columns of numbers into numbers."""
    import pandas as pd

    for name in set(columns) & set(_NUMBERS):
        if not pd.api.types.is_numeric_dtype(frame[name]):
            frame[name] = pd.to_numeric(frame[name].where(frame[name] != ""), errors="coerce")
    return frame


def _small(frame: "pd.DataFrame") -> "pd.DataFrame":
    types = dict.fromkeys(FLAGS, "int8") | {"OriginalSize": "Int64", "Rotation": "float64"}
    return frame.astype({name: t for name, t in types.items() if name in frame})


def _box_faults(frame: "pd.DataFrame", labels: list[str]) -> Iterator[tuple["pd.Series", str]]:
    """Yield (rows, what is wrong with them), the first word for a row being the one that counts."""
    yield ~frame["LabelName"].isin(labels), "the LabelName is not in its column"
    yield ~frame["ImageID"].str.fullmatch(IMAGE_ID), "the ImageID is not 16 hex digits"
    for name in COORDINATES:
        yield ~frame[name].between(0, 1), f"{name} is not a number in 0..1"
    yield frame["XMin"] > frame["XMax"], "XMin is larger than XMax"
    yield frame["YMin"] > frame["YMax"], "YMin is larger than YMax"
    for name in FLAGS:
        yield ~frame[name].isin((-1, 0, 1)), f"{name} is not -1, 0 or 1"


def _photo_faults(frame: "pd.DataFrame") -> Iterator[tuple["pd.Series", str]]:
    yield ~frame["ImageID"].str.fullmatch(IMAGE_ID), "the ImageID is not 16 hex digits"
    yield ~frame["Subset"].isin(SUBSETS), f"the Subset is none of {', '.join(SUBSETS)}"
    yield frame["OriginalSize"] < 0, "OriginalSize is negative"
    yield frame["OriginalSize"] % 1 > 0, "OriginalSize is not a whole number"
    wrong_turn = frame["Rotation"].notna() & ~frame["Rotation"].isin(ROTATIONS)
    yield wrong_turn, "Rotation is not 0, 90, 180 or 270"


def _examples(path: str | Path, named: list[tuple[int, str]]) -> tuple[str, ...]:
    """Number the lines of the rows at these offsets: a second pass, made only for bad rows."""
    lines = {}
    line = 2
    for offset, block in _blocks(path) if named else ():
        for at, _ in named:
            if offset <= at < offset + len(block):
                lines[at] = line + block.count(b"\n", 0, at - offset)
        line += block.count(b"\n")
    return tuple(f"line {lines[at]}: {word}" for at, word in named)
