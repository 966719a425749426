"""A site of Open Images: its tables as local files, fetched once, checked and kept as Parquet."""

import atexit
import contextlib
import hashlib
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

from openimager import files
from openimager.errors import BadInput
from openimager.tables import catalogue, categories, convert
from openimager.tables.fetch import MissingTable, fetch_file

_BASES = (
    "The base URL begins with http:// or https:// and a host, or is a directory. For v4 it ends in "
    "the folder of the tables (2018_04/), for v5 to v7 it holds 2018_04/, v5/, v6/ and v7/."
)
# One conversion at a time: it uses every core and its share of memory.
_converting = threading.Lock()


@dataclass(frozen=True)
class Site:
    """Where the tables of Open Images come from.

    Attributes
    ----------
    release : str
        One of `catalogue.RELEASES`.
    base_url : str or path-like, optional
        In place of the release's own address.
    cache_dir, class_names, boxes, photos : path-like, optional
        The cache, and tables already on disk.
    quiet : bool
        Show no progress.
    """

    release: str = "v4"
    base_url: str | os.PathLike | None = None
    cache_dir: str | os.PathLike | None = None
    class_names: str | os.PathLike | None = None
    boxes: str | os.PathLike | None = None
    photos: str | os.PathLike | None = None
    quiet: bool = False

    @property
    def base(self) -> str:
        """The folder of V4's tables, which relative OriginalURLs start from: URL or directory."""
        if self.base_url is None and self.release == "sample":
            from openimager import sample

            return str(sample.build())
        if self.base_url is None:
            return catalogue.BASE_URL
        base, folder = os.fspath(self.base_url), catalogue.tables_folder(self.release)
        if catalogue.is_directory(base):
            if not os.path.isdir(base):
                raise BadInput(f"There is no directory '{base}'. {_BASES}")
            return str(Path(base, folder))
        if not re.match(r"https?://[^/:]", base, re.IGNORECASE):
            raise BadInput(f"'{base}' is not a base URL. {_BASES}")
        return f"{base.rstrip('/')}/{folder}"

    def classes(self) -> dict[str, str]:
        """Return MID to name of all categories."""
        return categories.read_classes(self.class_names or self.local(("classes", None))[0])

    def hierarchy(self, needed: bool = False) -> categories.Hierarchy | None:
        """Return the hierarchy, or None if the site has none; MissingTable if it is `needed`."""
        try:
            return categories.read_hierarchy(self.local(("hierarchy", None))[0])
        except MissingTable:
            if needed:
                raise
            return None

    def tables(self, subsets: Sequence[str], *kinds: str) -> dict[str, list[Path]]:
        """Return the tables of each kind: the one on disk, or those of the subsets."""
        given = {"boxes": self.boxes, "photos": self.photos}
        wanted = [(kind, subset) for kind in kinds if not given.get(kind) for subset in subsets]
        found = {kind: [Path(given[kind])] if given.get(kind) else [] for kind in kinds}
        for (kind, _), path in zip(wanted, self.local(*wanted), strict=True):
            found[kind].append(path)
        return found

    def local(self, *wanted: tuple[str, str | None]) -> list[Path]:
        """Return tables, by kind and subset, as local files: CSV, Parquet or JSON.

        Those that the cache lacks are fetched, two at a time, and checked before they get their
        names. Then they are converted to Parquet and the CSV removed. A directory is read in place.
        Tables of a loopback address are fetched by every run: the next site at that port may be
        another one. MissingTable if there is none, TryAgain if it can't be fetched.
        """
        stop, base = threading.Event(), self.base
        with ThreadPoolExecutor(2) as pool:
            jobs = [pool.submit(self._table, base, *one, stop) for one in wanted]
            try:
                return [job.result() for job in jobs]
            except BaseException:
                stop.set()
                pool.shutdown(cancel_futures=True)
                raise

    def _table(self, base: str, kind: str, subset: str | None, stop: threading.Event) -> Path:
        paths = catalogue.table_paths(self.release, kind, subset)
        for path in paths:
            if catalogue.is_directory(base):
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
        if path.startswith("../"):
            base, path = urljoin(base, ".."), path.removeprefix("../")
        cache, url = cache_folder(self.cache_dir), urljoin(base, path)
        target = (fresh_folder() if catalogue.is_loopback(url) else folder_of(base, cache)) / path
        table = target.with_suffix(".parquet") if kind in convert.COLUMNS else target
        with files.lock(target.with_name(f"{target.name}.lock"), stop=stop):
            if not table.exists():
                fetch_file(url, target, lambda part: _fault(url, kind, part), stop, self.quiet)
                if table != target:
                    with _converting:
                        convert.convert(target, table, kind, cache, stop, self.quiet)
            if table != target:
                target.unlink(missing_ok=True)
        return table


def cache_folder(cache_dir: str | os.PathLike | None = None) -> Path:
    """Return the per-user cache directory: `cache_dir`, OPENIMAGER_CACHE or the platform's own."""
    import platformdirs

    default = platformdirs.user_cache_dir("openimager", appauthor=False)
    return Path(cache_dir or os.environ.get("OPENIMAGER_CACHE") or default)


def folder_of(base: str, cache: Path) -> Path:
    """Return the cache's folder for a base URL: readable, and different for each URL."""
    readable = re.sub(r"[^A-Za-z0-9.-]+", "_", base.partition("://")[2]).strip("_")[:80]
    return cache / f"{readable}-{hashlib.sha256(base.encode()).hexdigest()[:8]}"


def fresh_folder() -> Path:
    """Return a new folder that is removed when the program ends."""
    folder = Path(tempfile.mkdtemp(prefix="openimager-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _fault(url: str, kind: str, part: Path) -> str:
    """Say what is wrong with a whole file, ``""`` if nothing is."""
    size, *known = catalogue.KNOWN.get(url, (part.stat().st_size,))
    if part.stat().st_size != size:
        return f"it has {part.stat().st_size} bytes, not {size}"
    if known:
        algorithm, digest = known
        with open(part, "rb") as stream:
            found = hashlib.file_digest(stream, algorithm).hexdigest()
        if found != digest:
            return f"its {algorithm} is {found}, not {digest}"
    read = {"classes": categories.read_classes, "hierarchy": categories.read_hierarchy}
    try:
        read[kind](part) if kind in read else convert.source(part, kind)
    except BadInput as error:
        return str(error)
    return ""
