"""Published tables in DuckDB: typed columns, the faults of each row, Parquet files and views."""

import atexit
import contextlib
import csv
import os
import secrets
import shutil
import tempfile
import threading
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import duckdb
from tqdm.auto import tqdm

from openimager import files
from openimager.errors import BadInput, TryAgain
from openimager.store import BOX_COLUMNS, COORDINATES, FLAGS, IMAGE_ID, PHOTO_COLUMNS, SUBSETS
from openimager.tables.fetch import MissingTable

_NAMED = 5  # bad rows that a warning names

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
# Of each kind: (condition, what it says about the row); the first that holds is reported.
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
}


@contextlib.contextmanager
def explain_errors() -> Iterator[None]:
    """Turn what DuckDB raises about files, memory and the disk into errors for people."""
    try:
        yield
    except (duckdb.IOException, duckdb.OutOfMemoryException, duckdb.InterruptException) as error:
        raise TryAgain(f"DuckDB stopped: {str(error).splitlines()[0]}") from None
    except (duckdb.InvalidInputException, duckdb.ConversionException) as error:
        raise BadInput(f"A table could not be read: {str(error).splitlines()[0]}") from None


def fresh_folder() -> Path:
    """Return a new folder that is removed when the program ends."""
    folder = Path(tempfile.mkdtemp(prefix="openimager-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def open_database(
    cache_dir: str | os.PathLike | None = None, path: str | os.PathLike = ":memory:"
) -> duckdb.DuckDBPyConnection:
    """Open a database that spills what exceeds 1 GB of memory to a folder in the cache."""
    spill = files.cache_folder(cache_dir) / "spill" / f"{os.getpid()}-{secrets.token_hex(4)}"
    # Every thread has buffers of its own, so many of them would need more memory.
    threads = min(4, os.cpu_count() or 1)
    config = {"memory_limit": "1GB", "temp_directory": str(spill), "threads": threads}
    con = duckdb.connect(path, config=config)
    # Progress is read by `convert`; DuckDB itself must print nothing.
    con.execute("SET enable_progress_bar = true; SET enable_progress_bar_print = false")
    return con


def quoted(*texts: str | os.PathLike) -> str:
    """Return texts as literals of SQL, separated by commas."""
    return ", ".join("'" + str(text).replace("'", "''") + "'" for text in texts)


def source(path: str | os.PathLike, kind: str) -> str:
    """Return a SELECT of a table's rows with a column Fault: what breaks the format, or NULL.

    The file is CSV or Parquet; its columns may be in any order, with others among them. BadInput if
    it is missing or lacks a column.
    """
    columns = COLUMNS[kind]
    if not Path(path).is_file():
        raise BadInput(f"There is no table at {path}.")
    if Path(path).suffix == ".parquet":
        table = f"read_parquet({quoted(path)})"
        with explain_errors():
            found = duckdb.sql(f"SELECT * FROM {table}").columns
    else:
        with open(path, encoding="utf-8-sig", errors="replace", newline="") as stream:
            header, first = stream.readline(), stream.readline()
        found = []
        with contextlib.suppress(csv.Error):  # it holds no text
            found = next(csv.reader([header]), [])
        types = ", ".join(f"{quoted(c)}: '{_NUMBERS.get(c, 'VARCHAR')}'" for c in found)
        # Quotes count in photos, elsewhere if in the first two lines: a stray one eats lines.
        quote = '"' if kind == "photos" or '"' in header + first else ""
        table = (
            f"read_csv({quoted(path)}, auto_detect=false, header=true, delim=',', quote='{quote}', "
            f"escape='{quote}', columns={{{types}}}, store_rejects=true)"
        )
    if missing := [column for column in columns if column not in found]:
        raise BadInput(
            f"{path} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}; "
            f"it has {', '.join(found)[:120]}."
        )
    if "Fault" in found:
        # Our own Parquet file. Without the coalesce below, DuckDB can skip blocks: faster.
        return f"SELECT {', '.join(columns)}, Fault FROM {table}"
    values = ", ".join(c if c in _NUMBERS else f"coalesce({c}, '') AS {c}" for c in columns)
    cases = " ".join(
        f"WHEN coalesce({condition}, true) THEN {quoted(word)}"
        for condition, word in _FAULTS.get(kind, [_BAD_ID])
    )
    return f"SELECT {values}, CASE {cases} END AS Fault FROM {table}"


def warn_of_bad_rows(con, paths: Sequence[str | os.PathLike], table: str = "") -> None:
    """Count and name what is left out: lines that can't be read, rows of `table` with a Fault."""
    name = "parse_filename(file_path) || ' '" if len(paths) > 1 else "''"
    what = "if(error_type = 'CAST', column_name || ' is not a number', lower(error_type))"
    lines = (
        f"SELECT {name} || 'line ' || line, first({what}), count(*) OVER () FROM reject_errors "
        f"JOIN reject_scans USING (scan_id, file_id) WHERE file_path IN ({quoted(*paths)}) "
        f"GROUP BY file_path, line ORDER BY file_path, line LIMIT {_NAMED}"
    )
    faults = (
        f"SELECT 'ImageID ' || ImageID, Fault, count(*) OVER () FROM {table} "
        f"WHERE Fault IS NOT NULL ORDER BY ImageID LIMIT {_NAMED}"
    )
    few, total = [], 0
    for select in (lines, faults) if table else (lines,):
        # DuckDB makes its tables of rejects when it first reads a CSV file.
        with contextlib.suppress(duckdb.CatalogException):
            rows = con.execute(select).fetchall()
            few += [f"{where}: {word}" for where, word, _ in rows]
            total += rows[0][-1] if rows else 0
    if total:
        warnings.warn(
            f"{', '.join(Path(path).name for path in paths)}: {total:,} row"
            f"{'s break' if total > 1 else ' breaks'} the format; left out "
            f"({'; '.join(few[:_NAMED])}{', ...' * (total > _NAMED)}).",
            stacklevel=4,
        )


def convert(path: Path, target: Path, kind: str, site, stop: threading.Event) -> None:
    """Write a published table of a `Site` as Parquet, in bounded memory, unless `stop` is set.

    Lines that can't be read are left out with a warning; rows with a Fault are kept, so that
    whoever reads the file can count them.
    """
    with (
        contextlib.closing(open_database(site.cache_dir)) as con,
        files.replacing(target) as part,
        tqdm(
            desc=f"{path.name} to Parquet", total=100, unit="%", disable=site.quiet or None
        ) as bar,
        explain_errors(),
        ThreadPoolExecutor(1) as pool,
    ):
        copy = f"COPY ({source(path, kind)}) TO {quoted(part)} (FORMAT parquet, COMPRESSION zstd)"
        job = pool.submit(con.execute, copy)
        try:
            while wait([job], 0.1).not_done:
                bar.update(max(0, con.query_progress() - bar.n))
                if stop.is_set():
                    raise TryAgain(f"{path.name} was not converted: the run was interrupted.")
        except BaseException:
            con.interrupt()
            raise
        job.result()
        warn_of_bad_rows(con, [path])


def open_site(site, subsets: Sequence[str]) -> duckdb.DuckDBPyConnection:
    """Open the tables of a site; see `connect`."""
    con = open_database(site.cache_dir)
    con.execute("CREATE TABLE classes (LabelName VARCHAR, Category VARCHAR)")
    con.executemany("INSERT INTO classes VALUES (?, ?)", [*map(list, site.classes().items())])
    tables = site.tables(subsets, "boxes", "photos")
    for kind in COLUMNS.keys() - tables.keys():  # which not every release has
        with contextlib.suppress(MissingTable):
            tables |= site.tables(subsets, kind)
    for kind, paths in tables.items():
        selects = []
        for path, name in zip(paths, subsets if len(paths) == len(subsets) else [""], strict=True):
            if path.suffix != ".parquet":
                # Converted for this run: a CSV file would be parsed again by every question.
                published, path = path, fresh_folder() / f"{path.stem}.parquet"
                convert(published, path, kind, site, threading.Event())
            rows = source(path, kind)
            warn_of_bad_rows(con, [path], f"({rows})")
            more = f", '{name}' AS Subset" if kind != "photos" else ""
            selects.append(f"SELECT * EXCLUDE Fault{more} FROM ({rows}) WHERE Fault IS NULL")
        con.execute(f"CREATE VIEW {kind} AS {' UNION ALL '.join(selects)}")
    return con
