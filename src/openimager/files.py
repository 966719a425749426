"""Files that are never half written, and locks that never outlive their process."""

import contextlib
import hashlib
import os
import re
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path

import platformdirs

from openimager.errors import TryAgain


class Busy(TryAgain):
    """Another run holds the lock of `place`."""

    def __init__(self, place):
        super().__init__(
            f"Another run is at work in {place}. Wait until it ends, or give another --data-dir."
        )


def cache_folder(cache_dir: str | os.PathLike | None = None) -> Path:
    """Return the per-user cache directory: `cache_dir`, OPENIMAGER_CACHE or the platform's own."""
    default = platformdirs.user_cache_dir("openimager", appauthor=False)
    return Path(cache_dir or os.environ.get("OPENIMAGER_CACHE") or default)


def is_local(place: str | os.PathLike) -> bool:
    """Return whether this is a path on this machine, and not a URL.

    >>> is_local("data/2018_04"), is_local("s3://bucket/pets")
    (True, False)
    """
    return not re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", os.fspath(place))


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path`; its file is renamed to `path` when the block ends well.

    Missing folders are made. If the block raises, the temporary file is removed.
    """
    folder, name = os.path.split(path)
    # Looking is cheaper than making, and there may be many small files.
    if folder and not os.path.exists(folder):
        os.makedirs(folder, exist_ok=True)
    # In the same folder, so that the rename stays on one file system and is atomic.
    part = Path(folder, f".{name}.{secrets.token_hex(4)}.part")
    try:
        yield part
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def write(path: str | os.PathLike, data: bytes) -> None:
    """Write a file whole or not at all."""
    with replacing(path) as part, open(part, "xb") as stream:
        stream.write(data)


def sha256(path: str | os.PathLike) -> str:
    """Return the SHA256 of a file as 64 hex digits, reading a block at a time."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sizes(folder: str | os.PathLike) -> dict[str, int]:
    """Return the size of every file below a folder, by its path relative to that folder."""
    found = {}
    for parent, _, names in os.walk(folder):
        start = os.path.relpath(parent, folder).replace(os.sep, "/")
        start = "" if start == "." else f"{start}/"
        for name in names:
            # Temporary files of another process may be gone meanwhile.
            with contextlib.suppress(FileNotFoundError):
                found[start + name] = os.stat(os.path.join(parent, name)).st_size
    return found


@contextlib.contextmanager
def lock(
    path: str | os.PathLike, wait: bool = True, stop: threading.Event | None = None
) -> Iterator[None]:
    """Hold an advisory lock on the file `path` while the block runs.

    The operating system drops it when the process dies, however it dies, so that no stale lock
    is ever left to be cleaned up. If another process, or another holder in this one, has the
    lock, wait until it is free; raise `Busy` if `stop` is set meanwhile, or at once if `wait` is
    False.
    """
    import filelock

    path, stop = Path(path), stop or threading.Event()
    path.parent.mkdir(parents=True, exist_ok=True)
    one = filelock.FileLock(path)
    while not one.is_locked:
        # A longer wait in a thread could not be interrupted.
        try:
            one.acquire(timeout=0.1 if wait else 0)
        except filelock.Timeout:
            if not wait or stop.is_set():
                raise Busy(path.parent) from None
    try:
        yield
    finally:
        one.release()
