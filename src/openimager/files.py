"""Files that are never half written, and locks that never outlive their process."""

import contextlib
import csv
import hashlib
import os
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path

from openimager.errors import TryAgain

_BLOCK = 1 << 20


class Busy(TryAgain):
    """Another process holds the lock."""


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it takes the name `path` when the block ends well.

    Parameters
    ----------
    path : path-like
        The final name. Missing parent folders are made.

    Yields
    ------
    Path
        ``.<name>.<random>.part`` in the same folder, so that the rename stays on one file
        system and is atomic. It is removed if the block raises.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with replacing(folder / "a.txt") as part:
    ...     _ = part.write_text("whole", encoding="utf-8")
    >>> [p.name for p in folder.iterdir()]
    ['a.txt']
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write(path: str | os.PathLike, data: bytes) -> None:
    """Write a file whole or not at all, like `replacing` but in less time: for many small files."""
    folder, name = os.path.split(os.fspath(path))
    part = os.path.join(folder, f".{name}.{secrets.token_hex(4)}.part")
    try:
        try:
            stream = open(part, "xb", buffering=0)  # noqa: SIM115
        except FileNotFoundError:
            os.makedirs(folder, exist_ok=True)
            stream = open(part, "xb", buffering=0)  # noqa: SIM115
        with stream:
            left = memoryview(data)
            while left:
                left = left[stream.write(left) :]
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise


def sha256(path: str | os.PathLike) -> str:
    """Return the SHA256 of a file as 64 hex digits, reading a block at a time."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def write_table(frame, path: str | os.PathLike) -> None:
    r"""Write a pandas frame as CSV, whole or not at all: UTF-8, ``\n`` line ends, no index.

    Only fields that need quotes get them, and line ends do not depend on the platform, so that
    equal frames are equal bytes everywhere.
    """
    with replacing(path) as part:
        frame.to_csv(
            part, index=False, encoding="utf-8", lineterminator="\n", quoting=csv.QUOTE_MINIMAL
        )


@contextlib.contextmanager
def lock(
    path: str | os.PathLike, wait: bool = True, stop: threading.Event | None = None
) -> Iterator[None]:
    """Hold an advisory lock on the file `path` while the block runs.

    The operating system drops it when the process dies, however it dies, so that no stale lock
    is ever left to be cleaned up. The (empty) file itself stays: removing it would let two
    processes hold locks on two files of one name.

    Parameters
    ----------
    path : path-like
        The lock file; made if missing.
    wait : bool
        Wait for the other process (True), or raise at once (False).
    stop : threading.Event, optional
        Ends the waiting once it is set.

    Raises
    ------
    Busy
        If another process (or another holder in this one) has the lock, and `wait` is False or
        `stop` is set.
    """
    path, stop = Path(path), stop or threading.Event()
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b") as stream:
        # A blocking call could not be interrupted in a thread, so the waiting is done here.
        while not _acquired(stream):
            if not wait or stop.wait(0.1):
                raise Busy(
                    f"Another run is at work: it holds {path}. Wait until it ends, or give another "
                    "--data-dir."
                )
        try:
            yield
        finally:
            _release(stream)


if os.name == "nt":
    import msvcrt

    def _acquired(stream) -> bool:
        stream.seek(0)
        try:
            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _release(stream) -> None:
        stream.seek(0)
        msvcrt.locking(stream.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _acquired(stream) -> bool:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _release(stream) -> None:
        fcntl.flock(stream, fcntl.LOCK_UN)
