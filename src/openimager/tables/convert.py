"""Published tables in DuckDB: typed columns, the faults of each row, and Parquet files of them."""

import contextlib
import csv
import os
import secrets
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from openimager import files
from openimager.errors import BadInput, TryAgain
from openimager.store import BOX_COLUMNS, COORDINATES, FLAGS, IMAGE_ID, PHOTO_COLUMNS, SUBSETS

if TYPE_CHECKING:
    import duckdb

MEMORY = "1GB"
_NAMED = 5

_NUMBERS = {
    **dict.fromkeys(("Confidence", *COORDINATES, "Rotation"), "DOUBLE"),
    **dict.fromkeys(FLAGS, "TINYINT"),
    "OriginalSize": "BIGINT",
}
COLUMNS = {
    "boxes": BOX_COLUMNS,
    "photos": PHOTO_COLUMNS,
    "labels": ("ImageID", "Source", "LabelName", "Confidence"),
}
# (condition, what it says about the row), the first that holds is reported.
_BAD_ID = (f"NOT regexp_full_match(ImageID, '{IMAGE_ID}')", "the ImageID is not 16 hex digits")
_FAULTS = {
    "boxes": (
        _BAD_ID,
        *((f"{c} NOT BETWEEN 0 AND 1", f"{c} is not a number in 0..1") for c in COORDINATES),
        ("XMin > XMax", "XMin is larger than XMax"),
        ("YMin > YMax", "YMin is larger than YMax"),
        *((f"{flag} NOT IN (-1, 0, 1)", f"{flag} is not -1, 0 or 1") for flag in FLAGS),
    ),
    "photos": (
        _BAD_ID,
        (f"Subset NOT IN {SUBSETS}", f"the Subset is none of {', '.join(SUBSETS)}"),
        ("coalesce(OriginalSize, 0) < 0", "OriginalSize is negative"),
        ("coalesce(Rotation, 0) NOT IN (0, 90, 180, 270)", "Rotation is not 0, 90, 180 or 270"),
    ),
    "labels": (_BAD_ID,),
}
_REJECTS = {
    "MISSING COLUMNS": "it has too few fields",
    "TOO MANY COLUMNS": "it has too many fields",
    "UNQUOTED VALUE": "it has an unbalanced quote",
    "INVALID ENCODING": "it is not UTF-8 text",
    "LINE SIZE OVER MAXIMUM": "it is too long",
}


@contextlib.contextmanager
def explain_errors() -> Iterator[None]:
    """Turn what DuckDB raises about files, memory and the disk into errors for people."""
    import duckdb

    try:
        yield
    except (duckdb.IOException, duckdb.OutOfMemoryException, duckdb.InterruptException) as error:
        raise TryAgain(f"DuckDB stopped: {str(error).splitlines()[0]}") from None
    except (duckdb.InvalidInputException, duckdb.ConversionException) as error:
        raise BadInput(f"A table could not be read: {str(error).splitlines()[0]}") from None


def open_database(cache: Path) -> "duckdb.DuckDBPyConnection":
    """Open a database in memory that spills what exceeds `MEMORY` to a folder in the cache."""
    import duckdb

    spill = Path(cache, "spill", f"{os.getpid()}-{secrets.token_hex(4)}")
    con = duckdb.connect(config={"memory_limit": MEMORY, "temp_directory": str(spill)})
    # Progress is read by `convert`; DuckDB itself must print nothing.
    con.execute("SET enable_progress_bar = true; SET enable_progress_bar_print = false")
    return con


def source(path: str | os.PathLike, kind: str) -> str:
    """Return a SELECT of the rows of a table as published, with a column Fault.

    The file is CSV, with columns in any order and others among them, or Parquet.

    Raises
    ------
    BadInput
        If the file is missing or lacks a column.
    """
    columns = COLUMNS[kind]
    quoted_path = "'" + str(path).replace("'", "''") + "'"
    if Path(path).suffix == ".parquet":
        found = _parquet_columns(path, quoted_path)
        table = f"read_parquet({quoted_path})"
    else:
        found, quotes = _csv_columns(path)
        types = ", ".join(f"{_text(c)}: '{_NUMBERS.get(c, 'VARCHAR')}'" for c in found)
        # Without quotes in the table quoting is off: a stray one can't take lines with it.
        quote = '"' if quotes or kind == "photos" else ""
        table = (
            f"read_csv({quoted_path}, auto_detect=false, header=true, delim=',', quote='{quote}', "
            f"escape='{quote}', columns={{{types}}}, store_rejects=true)"
        )
    if missing := [column for column in columns if column not in found]:
        raise BadInput(
            f"{path} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}; "
            f"it has {', '.join(found)[:120]}."
        )
    values = ", ".join(c if c in _NUMBERS else f"coalesce({c}, '') AS {c}" for c in columns)
    cases = " ".join(
        f"WHEN coalesce({condition}, true) THEN {_text(word)}" for condition, word in _FAULTS[kind]
    )
    fault = "Fault" if "Fault" in found else f"CASE {cases} END AS Fault"
    return f"SELECT {values}, {fault} FROM {table}"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _csv_columns(path) -> tuple[list[str], bool]:
    """Return the columns of a CSV table, and whether its first lines have quotes."""
    try:
        with open(path, encoding="utf-8-sig", errors="replace", newline="") as stream:
            header, first = stream.readline(), stream.readline()
    except (FileNotFoundError, IsADirectoryError):
        raise BadInput(f"There is no table at {path}.") from None
    return next(csv.reader([header]), []), '"' in header + first


def _parquet_columns(path, quoted_path: str) -> list[str]:
    import duckdb

    if not Path(path).is_file():
        raise BadInput(f"There is no table at {path}.")
    with explain_errors():
        rows = duckdb.execute(f"DESCRIBE SELECT * FROM read_parquet({quoted_path})").fetchall()
    return [row[0] for row in rows]


def rejected(con) -> list[tuple[str, int, str]]:
    """Return (file, line, what is wrong) of the lines that DuckDB could not split or convert."""
    tables = "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'reject_errors'"
    if not con.execute(tables).fetchall()[0][0]:
        return []
    rows = con.execute(
        "SELECT file_path, line, first(error_type), first(column_name) FROM reject_errors "
        "JOIN reject_scans USING (scan_id, file_id) GROUP BY ALL ORDER BY file_path, line"
    ).fetchall()
    return [
        (path, line, f"{column} is not a number" if kind == "CAST" else _REJECTS.get(kind, kind))
        for path, line, kind, column in rows
    ]


def bad_rows(where: str, lines: Sequence, count: int = 0, named: Sequence = ()) -> str:
    """Say how many rows were left out, and name the first few; empty if none were.

    `lines` are (file, line, fault) of rows that could not be read, `count` is the number of rows
    that were read and break the format, and `named` (ImageID, fault) of the first of these.

    >>> bad_rows("b.csv", [("b.csv", 3, "it has too few fields")])
    'b.csv: 1 row breaks the format and is left out (line 3: it has too few fields).'
    """
    total = len(lines) + count
    if not total:
        return ""
    several = len({path for path, _, _ in lines}) > 1
    words = [
        f"{Path(path).name + ' ' if several else ''}line {line}: {word}"
        for path, line, word in lines[:_NAMED]
    ]
    words += [f"ImageID {image_id}: {word}" for image_id, word in named]
    more = ", ..." if total > len(words[:_NAMED]) else ""
    verb = "break the format and are" if total > 1 else "breaks the format and is"
    return (
        f"{where}: {total:,} row{'s' * (total > 1)} {verb} left out "
        f"({'; '.join(words[:_NAMED])}{more})."
    )


def faulty(con, table: str) -> tuple[int, list[tuple[str, str]]]:
    """Return how many rows of a table have a Fault, and (ImageID, Fault) of the first few."""
    [(count,)] = con.execute(f"SELECT count(Fault) FROM {table}").fetchall()
    few = f"SELECT ImageID, Fault FROM {table} WHERE Fault IS NOT NULL LIMIT {_NAMED}"
    return count, con.execute(few).fetchall() if count else []


def convert(
    path: Path, target: Path, kind: str, cache: Path, stop: threading.Event, quiet: bool = False
) -> str:
    """Write a published table as Parquet, in bounded memory.

    Rows with a Fault are kept for `faulty` to count; lines that can't be read are left out, and
    what `bad_rows` says about them is returned. TryAgain if the disk is full or `stop` is set.
    """
    from tqdm.auto import tqdm

    with contextlib.closing(open_database(cache)) as con, files.replacing(target) as part:
        copy = f"COPY ({source(path, kind)}) TO {_text(str(part))} "
        copy += "(FORMAT parquet, COMPRESSION zstd)"
        done, failed = threading.Event(), []

        def work() -> None:
            try:
                with explain_errors():
                    con.execute(copy)
            except Exception as error:
                failed.append(error)
            finally:
                done.set()

        threading.Thread(target=work, daemon=True).start()
        bar = tqdm(
            desc=f"{path.name} to Parquet",
            total=100,
            bar_format="{desc}: {percentage:3.0f}% {bar} {elapsed}",
            disable=True if quiet else None,
        )
        with bar:
            while not done.wait(0.1):
                bar.update(max(0, con.query_progress() - bar.n))
                if stop.is_set():
                    con.interrupt()
        if failed:
            raise failed[0]
        return bad_rows(path.name, rejected(con))
