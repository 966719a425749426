"""The public function `download`: it checks the options and starts one `Run`."""

import os
import sqlite3
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace as changed
from pathlib import Path
from typing import TYPE_CHECKING

from openimager import cluster, files, selection
from openimager import query as queries
from openimager.errors import BadInput, TryAgain, explained_os_errors
from openimager.photos.photo import Settings, checked
from openimager.photos.run import Run, given, say
from openimager.query import Query
from openimager.store import Store
from openimager.tables import catalogue

if TYPE_CHECKING:
    import pandas as pd

_DEFAULTS = Settings()
# The options that choose photos, and those that say where the tables are.
_OPTIONS = (
    *("subset", "sample", "release", "base_url", "cache_dir", "quiet", "limit", "seed"),
    *("with_children", "drop", "drop_unknown", "image_ids", "without", "merge"),
)


def download(
    categories: str | Iterable[str] | None = None,
    data_dir: str | os.PathLike = "data",
    subset: str | Sequence[str] | None = None,
    limit: int | None = None,
    seed: int = 0,
    source: str | Sequence[str] | None = None,
    with_children: bool = False,
    drop: str | Sequence[str] = (),
    drop_unknown: bool = False,
    workers: int = 32,
    rate: float | None = None,
    base_url: str | os.PathLike | None = None,
    cache_dir: str | os.PathLike | None = None,
    class_names: str | os.PathLike | None = None,
    boxes: str | os.PathLike | None = None,
    photos: str | os.PathLike | None = None,
    sample: bool = False,
    retry_gone: bool = False,
    quiet: bool = False,
    *,
    release: str | None = None,
    image_ids: Iterable[str] | None = None,
    without: str | Iterable[str] = (),
    merge: Mapping[str, Sequence[str]] | Iterable[str] = (),
    processes: int = 1,
    executor: Executor | None = None,
    replace: bool = False,
    class_names_fp: str | os.PathLike | None = None,
    train_boxed_fp: str | os.PathLike | None = None,
    image_ids_fp: str | os.PathLike | None = None,
) -> "pd.DataFrame":
    """Download the photos, boxes and credits of categories of Open Images.

    Photos go to ``images/<ImageID>.jpg`` below `data_dir`, the tables of this selection to
    ``images.csv`` and ``boxes.csv``, the credits of every photo on disk to ``ATTRIBUTION.csv``.
    What is whole on disk is not requested again; a query that is repeated needs no tables once
    every photo is on disk or gone.

    Parameters
    ----------
    categories : str, iterable of str or openimager.query.Query
        Names, in any case, or MIDs; or a whole query, in place of all options that choose photos.
    data_dir : path-like
        A folder, or any URL that fsspec opens, such as ``"s3://bucket/pets"``.
    subset, limit, seed, with_children, drop, drop_unknown, release, image_ids, without, merge
        As for `openimager.query.Query`. Under a limit, a photo that is gone is replaced by the
        next; one that failed keeps its place for the next run.
    source : str or sequence of str, optional
        ``"flickr"``, ``"cvdf"``, ``"thumbnail"`` or a URL with columns of the table of photos, such
        as ``"https://host/{ImageID}.jpg"``. A photo is taken from the first source that has it and
        is not waiting after a 429. By default Flickr, then CVDF for photos that came from Flickr.
    workers, rate : int and float, optional
        Requests in flight (all processes together), and per second (all hosts of a domain
        together; by default 10, 0 for no limit). CVDF's mirror has no limit, a server on this
        machine none by default.
    base_url, cache_dir, class_names, boxes, photos
        As for `openimager.query.Site`; the last three also under their original names of 2018,
        `class_names_fp`, `train_boxed_fp` and `image_ids_fp`.
    sample, retry_gone, quiet : bool
        Use the drawn sample. Request again photos that were gone. Print nothing.
    processes, executor : int and concurrent.futures.Executor
        Processes to start, of which only one at a time asks Flickr; or an executor that runs
        partitions of the photos instead (`processes` above 1 is then how many are in flight).
    replace : bool
        Continue even if this leaves out categories or photos that are in the tables in `data_dir`.

    Returns
    -------
    pandas.DataFrame
        ``images.csv``: one row per photo, the V4 columns and Status (``"ok"``, ``"gone"`` or
        ``"failed"``), Source, Width and Height as stored, Bytes, Error, Release. For each source,
        ``attrs["skipped"]`` counts why earlier ones were passed over.

    Raises
    ------
    BadInput
        If a category, option or table cannot be used.
    TryAgain
        If the tables cannot be fetched, the disk is full or another run is at work in
        `data_dir`. Whole photos are kept.
    """
    options = {name: value for name, value in locals().items() if name in _OPTIONS}
    store = Store(data_dir)
    if store.is_local and store.root.exists() and not store.root.is_dir():
        raise BadInput(f"'{data_dir}' is a file; the data directory must be a folder or not exist.")
    settings = checked(_DEFAULTS, source, workers, rate, processes, executor)
    query, site = queries.ask(
        categories or (),
        class_names=class_names or class_names_fp,
        boxes=boxes or train_boxed_fp,
        photos=photos or image_ids_fp,
        **options,
    )
    other = settings.sources is not None
    if not retry_gone and (table := _unchanged(store, query, site, other)) is not None:
        table.attrs["skipped"] = {}
        if not quiet:
            say(f"{int((table['Status'] == 'ok').sum()):,} photos on disk, 0 to fetch.")
        return table
    if not replace:
        _check_release(store, query)
    with tempfile.TemporaryDirectory(prefix="openimager-") as folder:
        selector = selection.Selector(query, site, Path(folder, "selection"))
        with explained_os_errors("Whole photos"), store.lock("lock"):
            cluster.check(executor, store, *filter(files.is_local, [site.base]))
            run = Run(store, selector, changed(settings, base=site.base), retry_gone, quiet)
            try:
                skipped = run.all(processes, executor, replace)
            except sqlite3.OperationalError as error:
                raise TryAgain(
                    f"The folder of temporary files, {tempfile.gettempdir()}, cannot be used "
                    f"({error}). Whole photos are kept; make room and run again for the rest."
                ) from None
            # Only now, so that the frame does not add to the memory of the run.
            del run
            table = store.read_table("images.csv")
    table.attrs["skipped"] = skipped
    return table


def _check_release(store: Store, query: Query) -> None:
    """Raise BadInput, before tables are fetched, if one is of the drawn sample and one is not."""
    recorded = store.read_json(queries.NAME) or {}
    releases = [recorded.get("release", query.release), query.release]
    if recorded.get("downloaded") and (releases[0] == "sample") != (releases[1] == "sample"):
        before, now = (catalogue.RELEASES.get(name, name) for name in releases)
        raise BadInput(
            f"{store.root} holds pictures of {before}; this query is of {now} and would drop them "
            "from the tables. Give --replace (replace=True) to do that, or another --data-dir."
        )


def _unchanged(store: Store, query, site, other_source: bool) -> "pd.DataFrame | None":
    """Return images.csv if it answers the query: every photo is on disk or gone.

    If no address or file is given, the recorded site is meant. With `other_source`, photos that
    are gone must be looked for elsewhere, so a table with such photos does not answer the query.
    """

    def comparable(query: Query) -> dict:
        names = sorted(name.strip().casefold() for name in query.categories)
        return query.to_json() | {"categories": names}

    content, place = store.read_json(queries.NAME) or {}, given(site)
    if not content.get("downloaded") or comparable(Query.from_json(content)) != comparable(query):
        return None
    if place and place != store.read_json(queries.SITE):
        return None
    try:
        images = store.read_table("images.csv")
        for name in ("boxes.csv", "ATTRIBUTION.csv"):
            store.read_table(name, ["ImageID"])
    except BadInput:
        return None
    sizes = store.sizes(store.images)
    there = [sizes.get(f"{image_id}.jpg", -1) for image_id in images["ImageID"]]
    on_disk = (images["Status"] == "ok") & (images["Bytes"].fillna(-2) == there)
    gone = images["Status"] == "gone"
    whole = (on_disk | gone).all() and on_disk.any() and not (other_source and gone.any())
    return images if whole else None
