"""A site of Open Images: its tables as local files, fetched once, checked and kept as Parquet."""

import contextlib
import functools
import hashlib
import itertools
import os
import re
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

from openimager import files
from openimager.errors import BadInput
from openimager.tables import catalogue, categories, views
from openimager.tables.fetch import MissingTable, fetch_file

_BASES = (
    "The base URL begins with http:// or https:// and a host, or is a directory. For v4 it ends in "
    "the folder of the tables (2018_04/), for v5 to v7 it holds 2018_04/, v5/, v6/ and v7/."
)
# Read as they are; the other kinds become Parquet.
_SMALL = {"classes": categories.read_classes, "hierarchy": categories.read_hierarchy}
# One conversion at a time: it uses up to 4 cores and 1 GB of memory.
_converting = threading.Lock()


@dataclass(frozen=True)
class Site:
    """Where the tables of Open Images come from."""

    release: str = "v4"  # one of `catalogue.RELEASES`
    base_url: str | os.PathLike | None = None  # a URL or directory in place of the release's URL
    cache_dir: str | os.PathLike | None = None  # by default `files.cache_folder()`
    class_names: str | os.PathLike | None = None  # the table of class names, already on disk
    boxes: str | os.PathLike | None = None  # the table of boxes, already on disk
    photos: str | os.PathLike | None = None  # the table of photos, already on disk
    quiet: bool = False  # show no progress

    @functools.cached_property
    def base(self) -> str:
        """The folder of V4's tables, which relative OriginalURLs start from: URL or directory."""
        if self.base_url is None:
            if self.release != "sample":
                return catalogue.BASE_URL
            from openimager import sample

            return str(sample.build())
        base = os.fspath(self.base_url)
        folder = "" if self.release in ("v4", "sample") else "2018_04/"
        if files.is_local(base):
            if not os.path.isdir(base):
                raise BadInput(f"There is no directory '{base}'. {_BASES}")
            return str(Path(base, folder))
        if not re.match(r"https?://[^/:]", base, re.IGNORECASE):
            raise BadInput(f"'{base}' is not a base URL. {_BASES}")
        return f"{base.rstrip('/')}/{folder}"

    def classes(self) -> dict[str, str]:
        """Return MID to name of all categories."""
        return categories.read_classes(*self.local(("classes", None)))

    def hierarchy(self, needed: bool = False) -> categories.Hierarchy | None:
        """Return the hierarchy. If the site has none: None, or MissingTable if `needed`."""
        with contextlib.nullcontext() if needed else contextlib.suppress(MissingTable):
            return categories.read_hierarchy(*self.local(("hierarchy", None)))

    def tables(self, subsets: Sequence[str], *kinds: str) -> dict[str, list[Path]]:
        """Return the tables of each kind: the file that the user gave, or one for each subset."""
        found = iter(self.local(*itertools.product(kinds, subsets)))
        return {kind: [*dict.fromkeys(itertools.islice(found, len(subsets)))] for kind in kinds}

    def local(self, *wanted: tuple[str, str | None]) -> list[Path]:
        """Return tables, by kind and subset, as local files: CSV, Parquet or JSON.

        Those that the cache lacks are fetched, two at a time, and converted; a directory is read in
        place. MissingTable if there is none, TryAgain if it can't be fetched.
        """
        stop = threading.Event()
        with ThreadPoolExecutor(2) as pool:
            jobs = [pool.submit(self._table, *one, stop) for one in wanted]
            try:
                for job in as_completed(jobs):
                    job.result()
            except BaseException:
                stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return [job.result() for job in jobs]

    def _table(self, kind: str, subset: str | None, stop: threading.Event) -> Path:
        given = {"classes": self.class_names, "boxes": self.boxes, "photos": self.photos}
        if given.get(kind):
            return Path(given[kind])
        base, paths = self.base, catalogue.table_paths(self.release, kind, subset)
        for path in paths:
            if files.is_local(base):
                csv = Path(os.path.normpath(Path(base, path)))
                if found := [p for p in (csv, csv.with_suffix(".parquet")) if p.is_file()]:
                    return found[0]
                continue
            with contextlib.suppress(MissingTable):
                return self._fetched(base, path, kind, stop)
        what = f"{paths[0]} at {base}" if paths else f"of {kind} in {self.release}"
        raise MissingTable(f"There is no table {what}. {_BASES}")

    def _fetched(self, base: str, path: str, kind: str, stop: threading.Event) -> Path:
        """Return one table of a site, as Parquet if it is a large one."""
        url, path = urljoin(base, path), path.removeprefix("../")
        folder = folder_of(url.removesuffix(path), self.cache_dir)
        # Not kept if it is from this machine: another site may be served at the same port later.
        target = (views.fresh_folder() if catalogue.is_loopback(url) else folder) / path
        large = kind not in _SMALL
        table = target.with_suffix(".parquet") if large else target
        with files.lock(target.with_name(f"{target.name}.lock"), stop=stop):
            if not table.exists():
                check = _SMALL.get(kind, functools.partial(views.source, kind=kind))
                fetch_file(url, target, catalogue.KNOWN.get(url, {}), check, stop, self.quiet)
                if large:
                    with _converting:
                        views.convert(target, table, kind, self, stop)
            if large:
                target.unlink(missing_ok=True)
        return table


def folder_of(base: str, cache_dir: str | os.PathLike | None = None) -> Path:
    """Return the cache's folder for a base URL: readable, and different for each URL."""
    readable = re.sub(r"[^A-Za-z0-9.-]+", "_", base.partition("://")[2]).strip("_")[:80]
    digest = hashlib.sha256(base.encode()).hexdigest()[:8]
    return files.cache_folder(cache_dir) / f"{readable}-{digest}"
