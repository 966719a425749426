"""The bucket side of `openimager.store`: plain errors, a lock with a lease, local copies."""

import contextlib
import json
import re
import secrets
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from openimager.errors import BadInput, TryAgain
from openimager.files import Busy

# A bucket cannot drop the lock of a killed process, so the holder writes to it every few seconds.
_BEAT = 4
_LEASE = 15
_PARALLEL = 16

_CREDENTIALS = (
    "Credentials come from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE "
    "...) or ~/.aws."
)
_WRONG_KEYS = {
    *("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"),
    *("TokenRefreshRequired", "InvalidClientTokenId", "AuthFailure"),
}
_TAKEN = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}


def opened(url: str):
    """Return the UPath of a URL.

    Raises
    ------
    BadInput
        If its packages are missing, the protocol is unknown or the URL has credentials in it.
    """
    if re.match(r"[^:]+://[^/]*@", url):
        raise BadInput(f"The data directory must be a URL without credentials. {_CREDENTIALS}")
    protocol = url.partition("://")[0]
    try:
        from upath import UPath

        # s3fs would ask for the size before each read, to fetch large objects in pieces.
        more = {"max_concurrency": 1} if protocol in ("s3", "s3a") else {}
        # A listing that another process has changed since must not be used.
        path = UPath(url, use_listings_cache=False, **more)
        _ = path.fs
        return path
    except ImportError:
        extra = "openimager[s3]" if protocol in ("s3", "s3a") else f"fsspec[{protocol}]"
        raise BadInput(f"'{url}' needs packages: pip install universal-pathlib {extra!r}") from None
    except ValueError:
        raise BadInput(f"'{url}' cannot be opened: '{protocol}' is not a known protocol.") from None


@contextlib.contextmanager
def explained(url: str) -> Iterator[None]:
    """Turn what goes wrong with a bucket into one sentence, without secrets.

    Raises
    ------
    FileNotFoundError
        If an object is missing; callers expect it.
    BadInput
        If the credentials, the bucket's name or its rights are to be corrected.
    TryAgain
        If the server cannot be reached, or fails.
    """
    try:
        yield
    except (BadInput, TryAgain):
        raise
    except Exception as error:
        code, kind = _code(error), type(error).__name__
        if code == "NoSuchBucket":
            raise BadInput(
                f"{url}: there is no such bucket. Create it first, or correct its name."
            ) from None
        if isinstance(error, FileNotFoundError | FileExistsError):
            raise
        missing = re.search("Credential|Token|Profile|SSO", kind)
        if missing or code in _WRONG_KEYS:
            raise BadInput(
                f"{url}: the credentials are missing or were refused ({code or kind}). "
                f"{_CREDENTIALS}"
            ) from None
        if isinstance(error, PermissionError):
            raise BadInput(
                f"{url}: access was refused ({code or kind}). Check the credentials, and that "
                "they allow reading, listing, writing and deleting in this bucket."
            ) from None
        if isinstance(error, OSError) or type(error).__module__.startswith(("botocore", "aio")):
            raise TryAgain(
                f"{url}: the bucket cannot be reached or failed ({code or kind}). Everything "
                "complete is kept; run again for the rest."
            ) from None
        raise


def _code(error: Exception) -> str:
    """Return the code that S3 gave, such as "AccessDenied", or ""."""
    cause = error if hasattr(error, "response") else error.__cause__
    response = getattr(cause, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


@contextlib.contextmanager
def lock(path, url: str) -> Iterator[None]:
    """Hold a lock object while the block runs, where the server supports conditional PUTs.

    A lock whose holder has not written to it for `_LEASE` seconds belongs to a killed run and is
    taken over. This is seen by watching it, so that no two clocks need to agree.

    Raises
    ------
    openimager.files.Busy
        If another run holds it.
    """
    mine, stopped = secrets.token_hex(8), threading.Event()

    def held() -> bytes | None:
        with contextlib.suppress(FileNotFoundError):
            return path.fs.cat_file(path.path)

    def beat() -> None:
        for number in range(1, sys.maxsize):
            if stopped.wait(_BEAT):
                return
            with contextlib.suppress(Exception):  # the run itself reports what is wrong
                if not (held() or b"").startswith(mine.encode()):
                    return  # taken over: this process was suspended for too long
                path.fs.pipe_file(path.path, f"{mine} {number}".encode())

    def acquired() -> bool:
        try:
            path.fs.pipe_file(path.path, f"{mine} 0".encode(), mode="create")
        except (NotImplementedError, TypeError):
            return True  # not supported, so there is no lock; whole files are all there is
        except FileExistsError:
            return False
        except OSError as error:
            if _code(error) == "NotImplemented":
                return True
            if _code(error) not in _TAKEN:
                raise
            return False
        return True

    with explained(url):
        while not acquired():
            _wait_for_sign_of_life(held, url)
            with contextlib.suppress(FileNotFoundError):
                path.fs.rm_file(path.path)
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
        with contextlib.suppress(Exception):
            if (held() or b"").startswith(mine.encode()):
                path.fs.rm_file(path.path)


def _wait_for_sign_of_life(held, url: str) -> None:
    """Return when a lock is free or its holder is dead; raise Busy if it is alive."""
    before, begun = held(), time.monotonic()
    while before is not None and time.monotonic() < begun + _LEASE:
        time.sleep(0.5)
        if (now := held()) is None:
            return
        if now != before:
            raise Busy(
                f"Another run is at work in {url}. Wait until it ends, or give another --data-dir."
            )


def copied(root, names: Iterable[str], target: Path, quiet: bool = False) -> Path:
    """Copy objects below `root` to a local folder, with a progress bar; remove other files there.

    An object that was copied before and has not changed is not copied again.
    """
    from tqdm.auto import tqdm

    names = sorted({*names})
    start = len(root.path.rstrip("/")) + 1
    with explained(str(root)):
        listing = root.fs.find(root.path, detail=True)
    entries = {path[start:]: entry for path, entry in listing.items()}
    if missing := [name for name in names if name not in entries]:
        raise BadInput(f"{root} has no {missing[0]} ({len(missing)} files are missing).")
    tags = {
        name: [entries[name]["size"], str(entries[name].get("ETag") or entries[name])]
        for name in names
    }
    record = target / ".copied.json"
    try:
        before = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = {}
    record.unlink(missing_ok=True)  # an interrupted copy must not pass for a whole one
    for path in list(target.rglob("*")):
        if path.is_file() and path.relative_to(target).as_posix() not in tags:
            path.unlink()

    def copy(name: str) -> None:
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((root / name).fs.cat_file((root / name).path))

    todo = [name for name in names if before.get(name) != tags[name]]
    todo += [name for name in names if name not in todo and not (target / name).is_file()]
    with ThreadPoolExecutor(_PARALLEL) as pool, explained(str(root)):
        work = pool.map(copy, todo)
        for _ in tqdm(work, "Copying", len(todo), unit="file", disable=quiet or None):
            pass
    # Keras takes its classes from the folders of a split, also from empty ones.
    for folder in {name.split("/")[2] for name in names if name.startswith("crops/")}:
        for split in ("train", "validation", "test"):
            (target / "crops" / split / folder).mkdir(parents=True, exist_ok=True)
    target.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(tags), encoding="utf-8")
    return target
