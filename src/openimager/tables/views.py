"""Questions in SQL: a DuckDB connection with the tables of a release as views."""

import contextlib
import threading
from collections.abc import Iterable, Sequence

import duckdb

from openimager.tables import convert
from openimager.tables.cache import MissingTable, Site, cache_folder, fresh_folder
from openimager.tables.catalogue import subset_names


def connect(
    release: str = "v4", subset: str | Iterable[str] = "train", **place
) -> duckdb.DuckDBPyConnection:
    """Open the tables of a release for questions in SQL, fetching those that the cache lacks.

    The connection is in memory and spills to the cache what exceeds 1 GB. Its views are ``boxes``
    (the columns of Open Images and Subset), ``photos``, ``classes`` (LabelName, Category) and,
    where the release has them, ``labels`` (of whole photos, with Subset). Rows that break the
    format are left out, with a warning.

    Parameters
    ----------
    release : str
        ``"v4"``, ``"v5"``, ``"v6"``, ``"v7"`` or ``"sample"``.
    subset : str or iterable of str
        ``"train"``, ``"validation"``, ``"test"`` or ``"all"``.
    **place
        `base_url`, `cache_dir`, `class_names`, `boxes`, `photos` and `quiet`, as in `Site`.

    Examples
    --------
    >>> db = connect("sample", "all", quiet=True)
    >>> db.sql("SELECT count(*) FROM photos").fetchall()
    [(400,)]
    """
    return open_site(Site(release, **place), subset_names(subset))


def open_site(site: Site, subsets: Sequence[str]) -> duckdb.DuckDBPyConnection:
    """Open the tables of a site; see `connect`."""
    cache = cache_folder(site.cache_dir)
    con = convert.open_database(cache)
    con.execute("CREATE TABLE classes (LabelName VARCHAR, Category VARCHAR)")
    con.executemany("INSERT INTO classes VALUES (?, ?)", [*map(list, site.classes().items())])
    tables = site.tables(subsets, "boxes", "photos")
    with contextlib.suppress(MissingTable):
        tables |= site.tables(subsets, "labels")
    for kind, paths in tables.items():
        selects = []
        for path, name in zip(paths, subsets if len(paths) == len(subsets) else [""], strict=True):
            if path.suffix != ".parquet":
                # Converted for this run: a CSV file would be parsed again by every question.
                published, path = path, fresh_folder() / f"{path.stem}.parquet"
                convert.convert(published, path, kind, cache, threading.Event(), site.quiet)
            rows = convert.source(path, kind)
            convert.warn_of_bad_rows(con, [path], f"({rows})")
            more = f", '{name}' AS Subset" if kind != "photos" else ""
            selects.append(f"SELECT * EXCLUDE Fault{more} FROM ({rows}) WHERE Fault IS NULL")
        con.execute(f"CREATE VIEW {kind} AS {' UNION ALL '.join(selects)}")
    return con
