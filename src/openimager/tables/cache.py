"""The tables of a release as local files: fetched once, checked, and kept as Parquet."""

import atexit
import hashlib
import os
import re
import shutil
import tempfile
import threading
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urljoin

from openimager import files
from openimager.errors import BadInput
from openimager.tables import catalogue, convert
from openimager.tables.fetch import NotThere, fetch_file

# One conversion at a time: it uses every core and its share of memory.
_converting = threading.Lock()


class MissingTable(BadInput):
    """The site, or the directory, does not have the table."""


def cache_folder(cache_dir: str | os.PathLike | None = None) -> Path:
    """Return the per-user cache directory: `cache_dir`, OPENIMAGER_CACHE or the platform's own."""
    if cache_dir or os.environ.get("OPENIMAGER_CACHE"):
        return Path(cache_dir or os.environ["OPENIMAGER_CACHE"])
    import platformdirs

    return Path(platformdirs.user_cache_dir("openimager", appauthor=False))


def local_tables(
    wanted: Iterable[tuple[str, str | None]],
    release: str = "v4",
    base_url: str | os.PathLike | None = None,
    cache_dir: str | os.PathLike | None = None,
    quiet: bool = False,
) -> list[Path]:
    """Return tables as local files, fetching those that the cache lacks, two at a time.

    A table is checked before it gets its name: size and hash for the files of Open Images
    itself, length, announced MD5 and columns for any other site. Then it is converted to
    Parquet and the CSV removed. A directory is read in place. Tables of a loopback address are
    fetched by every run: the next site at that port may be another one.

    Parameters
    ----------
    wanted : iterable of (kind, subset)
        As for `catalogue.table_path`.
    release : str
        One of `catalogue.RELEASES`.
    base_url : str or path-like, optional
        In place of the release's own address.
    cache_dir : path-like, optional
        In place of the per-user cache directory.
    quiet : bool
        Show no progress.

    Returns
    -------
    list of Path
        CSV, Parquet or, for the hierarchy, JSON; in the order of `wanted`.

    Raises
    ------
    MissingTable
        If the site has no such table.
    TryAgain
        If the site can't be reached, or its files fail the check.
    """
    wanted, base = list(wanted), catalogue.normal_base(base_url, release)
    if catalogue.is_directory(base):
        return [_in_directory(base, release, *one) for one in wanted]
    cache = cache_folder(cache_dir)
    stop, notes = threading.Event(), []

    def get(kind: str, subset: str | None) -> Path:
        missing = MissingTable(f"Open Images {release.upper()} has no table of {kind}.")
        for path in catalogue.table_paths(release, kind, subset):
            try:
                return _fetch(base, path, kind, cache, stop, quiet, notes)
            except NotThere as error:
                missing = MissingTable(f"{error} {_base_help(release)}")
        raise missing

    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(get, *one) for one in wanted]
        try:
            found = [job.result() for job in jobs]
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    for note in filter(None, notes):
        warnings.warn(note, stacklevel=3)
    return found


def _base_help(release: str) -> str:
    if release in ("v4", "sample"):
        return f"A base URL ends in the folder of the tables, as {catalogue.BASE_URL} does."
    return (
        f"For {release} the base URL is the folder that holds 2018_04/, v5/, v6/ and v7/, "
        f"as {catalogue.ROOT_URL} does."
    )


def _in_directory(base: str, release: str, kind: str, subset: str | None) -> Path:
    paths = catalogue.table_paths(release, kind, subset)
    for path in paths:
        for local in (Path(base, path), Path(base, path).with_suffix(".parquet")):
            if local.is_file():
                return local
    if not paths:
        raise MissingTable(f"Open Images {release.upper()} has no table of {kind}.")
    raise MissingTable(f"There is no table {Path(base, paths[0])}. {_base_help(release)}")


def _fetch(base, path, kind, cache: Path, stop, quiet: bool, notes: list[str]) -> Path:
    """Return one table of a site, as Parquet if it is a large one."""
    if path.startswith(catalogue.FOLDER):
        # Releases share these: they are kept once, in the folder that V4 uses.
        base, path = urljoin(base, catalogue.FOLDER), path.removeprefix(catalogue.FOLDER)
    folder = _fresh_folder() if catalogue.is_loopback(base) else _folder_of(base, cache)
    target, url = folder / path, urljoin(base, path)

    def check(part: Path) -> str:
        return _fault(catalogue.KNOWN.get(url), kind, part)

    if kind not in convert.COLUMNS:
        fetch_file(url, target, check, stop, quiet)
        return target
    table = target.with_suffix(".parquet")
    with files.lock(table.with_name(f"{table.name}.lock"), stop=stop):
        if not table.exists():
            fetch_file(url, target, check, stop, quiet)
            with _converting:
                notes.append(convert.convert(target, table, kind, cache, stop, quiet))
        target.unlink(missing_ok=True)
    return table


def _fault(known: catalogue.Known | None, kind: str, part: Path) -> str:
    """Say what is wrong with a whole file, ``""`` if nothing is."""
    if known and part.stat().st_size != known.size:
        return f"it has {part.stat().st_size} bytes, not {known.size}"
    if known and known.algorithm:
        with open(part, "rb") as stream:
            digest = hashlib.file_digest(stream, known.algorithm).hexdigest()
        if digest != known.digest:
            return f"its {known.algorithm} is {digest}, not {known.digest}"
    with open(part, "rb") as stream:
        lines = [stream.readline(4096).decode("utf-8-sig", "replace").strip() for _ in range(2)]
    if kind in convert.COLUMNS:
        has = lines[0].replace('"', "").split(",")
        if missing := sorted({*convert.COLUMNS[kind]}.difference(has)):
            return f"it lacks the columns {', '.join(missing)}"
    # The table of classes may begin with a header.
    if kind == "classes" and not any(re.match(r'"?/[a-z]/\w+"?,', line) for line in lines):
        return "its first lines are not MIDs and names"
    if kind == "hierarchy" and not lines[0].startswith("{"):
        return "it is not a JSON object"
    return ""


def _folder_of(base: str, cache: Path) -> Path:
    """Return the cache's folder for a base URL: readable, and different for each URL."""
    readable = re.sub(r"[^A-Za-z0-9.-]+", "_", base.partition("://")[2]).strip("_")[:80]
    return cache / f"{readable}-{hashlib.sha256(base.encode()).hexdigest()[:8]}"


def _fresh_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="openimager-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
