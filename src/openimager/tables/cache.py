"""A site of Open Images: its tables as local files, fetched once, checked and kept as Parquet."""

import atexit
import hashlib
import os
import re
import shutil
import tempfile
import threading
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

from openimager import files
from openimager.errors import BadInput
from openimager.tables import catalogue, categories, convert
from openimager.tables.fetch import NotThere, fetch_file

# One conversion at a time: it uses every core and its share of memory.
_converting = threading.Lock()


class MissingTable(BadInput):
    """The site, or the directory, does not have the table."""


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
        """URL (ending in a slash) or directory that a relative OriginalURL is resolved against."""
        return catalogue.photo_base(self.release, self._root)

    @property
    def _root(self) -> str:
        if self.release == "sample" and self.base_url is None:
            from openimager import sample

            return str(sample.build())
        return catalogue.normal_base(self.base_url, self.release)

    def classes(self) -> dict[str, str]:
        """Return MID to name of all categories."""
        return categories.read_classes(self.class_names or self.local(("classes", None))[0])

    def hierarchy(self) -> categories.Hierarchy | None:
        """Return the hierarchy, or None if the site has none."""
        try:
            return categories.read_hierarchy(self.local(("hierarchy", None))[0])
        except MissingTable:
            return None

    def tables(self, subsets: Sequence[str], *kinds: str) -> dict[str, list[Path]]:
        """Return the tables of each kind: the one on disk, or those of the subsets."""
        given = {"boxes": self.boxes, "photos": self.photos}
        found = {kind: [Path(given[kind])] for kind in kinds if given.get(kind)}
        wanted = [(kind, subset) for kind in kinds if kind not in found for subset in subsets]
        for (kind, _), path in zip(wanted, self.local(*wanted), strict=True):
            found.setdefault(kind, []).append(path)
        return found

    def local(self, *wanted: tuple[str, str | None]) -> list[Path]:
        """Return tables, by kind and subset, as local files: CSV, Parquet or JSON.

        Those that the cache lacks are fetched, two at a time, and checked before they get their
        names: size and hash for the files of Open Images itself, length, announced MD5 and columns
        for any other site. Then they are converted to Parquet and the CSV removed. A directory is
        read in place. Tables of a loopback address are fetched by every run: the next site at that
        port may be another one.

        Raises
        ------
        MissingTable
            If the site has no such table.
        TryAgain
            If the site can't be reached, or its files fail the check.
        """
        base = self._root
        if catalogue.is_directory(base):
            return [self._in_directory(base, *one) for one in wanted]
        stop, notes = threading.Event(), []
        with ThreadPoolExecutor(2) as pool:
            jobs = [pool.submit(self._fetch, base, *one, stop, notes) for one in wanted]
            try:
                found = [job.result() for job in jobs]
            except BaseException:
                stop.set()
                pool.shutdown(cancel_futures=True)
                raise
        for note in filter(None, notes):
            warnings.warn(note, stacklevel=3)
        return found

    def _missing(self, what: str, kind: str) -> MissingTable:
        if not catalogue.table_paths(self.release, kind, "train"):
            return MissingTable(f"Open Images {self.release.upper()} has no table of {kind}.")
        if self.release in ("v4", "sample"):
            where = f"ends in the folder of the tables, as {catalogue.BASE_URL} does."
        else:
            where = f"of {self.release} is the folder that holds 2018_04/, v5/, v6/ and v7/."
        return MissingTable(f"There is no table {what}. A base URL {where}")

    def _in_directory(self, base: str, kind: str, subset: str | None) -> Path:
        paths = [Path(base, p) for p in catalogue.table_paths(self.release, kind, subset)]
        for path in paths:
            for local in (path, path.with_suffix(".parquet")):
                if local.is_file():
                    return local
        raise self._missing(str(paths[0]) if paths else "", kind)

    def _fetch(self, base: str, kind: str, subset: str | None, stop, notes: list[str]) -> Path:
        """Return one table of a site, as Parquet if it is a large one."""
        error = self._missing("", kind)
        for path in catalogue.table_paths(self.release, kind, subset):
            folder = base
            if path.startswith(catalogue.FOLDER):
                # Releases share these: they are kept once, in the folder that V4 uses.
                folder = urljoin(base, catalogue.FOLDER)
                path = path.removeprefix(catalogue.FOLDER)
            try:
                return self._fetch_one(folder, path, kind, stop, notes)
            except NotThere:
                error = self._missing(urljoin(folder, path), kind)
        raise error

    def _fetch_one(self, base: str, path: str, kind: str, stop, notes: list[str]) -> Path:
        cache, url = cache_folder(self.cache_dir), urljoin(base, path)
        folder = fresh_folder() if catalogue.is_loopback(base) else folder_of(base, cache)
        target = folder / path

        def fetch() -> None:
            fetch_file(url, target, lambda part: _fault(url, kind, part), stop, self.quiet)

        if kind not in convert.COLUMNS:
            fetch()
            return target
        table = target.with_suffix(".parquet")
        with files.lock(table.with_name(f"{table.name}.lock"), stop=stop):
            if not table.exists():
                fetch()
                with _converting:
                    notes.append(convert.convert(target, table, kind, cache, stop, self.quiet))
            target.unlink(missing_ok=True)
        return table


def cache_folder(cache_dir: str | os.PathLike | None = None) -> Path:
    """Return the per-user cache directory: `cache_dir`, OPENIMAGER_CACHE or the platform's own."""
    if cache_dir or os.environ.get("OPENIMAGER_CACHE"):
        return Path(cache_dir or os.environ["OPENIMAGER_CACHE"])
    import platformdirs

    return Path(platformdirs.user_cache_dir("openimager", appauthor=False))


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
    known = catalogue.KNOWN.get(url)
    if known and part.stat().st_size != known.size:
        return f"it has {part.stat().st_size} bytes, not {known.size}"
    if known and known.algorithm:
        with open(part, "rb") as stream:
            digest = hashlib.file_digest(stream, known.algorithm).hexdigest()
        if digest != known.digest:
            return f"its {known.algorithm} is {digest}, not {known.digest}"
    with open(part, "rb") as stream:
        lines = [stream.readline(4096).decode("utf-8-sig", "replace").strip() for _ in range(2)]
    has = lines[0].replace('"', "").split(",")
    if missing := sorted({*convert.COLUMNS.get(kind, ())}.difference(has)):
        return f"it lacks the columns {', '.join(missing)}"
    # The table of classes may begin with a header.
    if kind == "classes" and not any(re.match(r'"?/[a-z]/\w+"?,', line) for line in lines):
        return "its first lines are not MIDs and names"
    if kind == "hierarchy" and not lines[0].startswith("{"):
        return "it is not a JSON object"
    return ""
