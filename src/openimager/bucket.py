"""Buckets, of a data directory or of a registry: plain errors, a lock with a lease, local copies.

fsspec and boto3 find server and credentials by the same rules: ``AWS_ENDPOINT_URL_S3`` where it is
not Amazon's, ``AWS_ACCESS_KEY_ID`` and ``AWS_SECRET_ACCESS_KEY`` or a profile.
"""

import contextlib
import errno
import json
import os
import re
import secrets
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from openimager.errors import BadInput, TryAgain
from openimager.files import Busy

# A bucket cannot drop the lock of a killed process, so the holder writes to it every few seconds.
_BEAT = 4
_LEASE = 15

_CREDENTIALS = (
    "Credentials come from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE "
    "...) or ~/.aws."
)
_WRONG_KEYS = {
    *("401", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"),
    *("TokenRefreshRequired", "InvalidClientTokenId", "AuthFailure"),
}
_TAKEN = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}


def opened(url: str):
    """Return the UPath of a URL; BadInput if it has credentials in it or nothing can open it."""
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
def explained(place: str) -> Iterator[None]:
    """Turn what goes wrong with a bucket or a registry's folder into one sentence without secrets.

    BadInput if credentials, name or rights are to be corrected; TryAgain if the server cannot be
    reached or fails, or the disk is full. FileNotFoundError stays: callers expect it.
    """
    try:
        yield
    except (BadInput, TryAgain):
        raise
    except Exception as error:
        code, kind = _code(error), type(error).__name__
        if isinstance(error, FileNotFoundError | FileExistsError) and code != "NoSuchBucket":
            raise
        remote = code or type(error).__module__.startswith(("botocore", "aio"))
        if not remote and not isinstance(error, OSError):
            raise
        raise _explanation(place, error, code or kind) from None


def _explanation(place: str, error: Exception, why: str) -> BadInput | TryAgain:
    env = os.environ
    server = env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL") or "Amazon"
    at = f"{place} at {server}" if place.startswith("s3") else place
    request = getattr(error, "operation_name", "a request")
    folder = "" if "://" in place else place
    # An error in writing to an open file says that the disk is full, but not which file it was.
    file, number = getattr(error, "filename", None) or folder, getattr(error, "errno", None)
    if file or number == errno.ENOSPC:  # on this machine
        if number in (errno.EACCES, errno.EPERM, errno.EROFS):
            rights = "needs the right to write there; installing only needs to read it."
            more = f" Pushing to {folder} {rights}" if folder else ""
            return BadInput(f"{file} cannot be used ({error.strerror}).{more}")
        full = "The disk is full" if number == errno.ENOSPC else error.strerror or str(error)
        return TryAgain(f"{full} ({file or 'here'}). Make room or repair it, and run again.")
    if why in ("NoSuchBucket", "InvalidBucketName", "404"):
        return BadInput(f"{at}: there is no such bucket. Create it first, or correct its name.")
    if why in _WRONG_KEYS or re.search("Credential|Token|Profile|SSO", why):
        return BadInput(f"{at}: credentials are missing or were refused ({why}). {_CREDENTIALS}")
    if isinstance(error, PermissionError) or why in ("403", "AccessDenied"):
        return BadInput(
            f"{at}: access was refused for {request} ({why}). Check the credentials: installing a "
            "package needs the right to read and list, pushing one also to write, and a data "
            "directory also to delete."
        )
    if isinstance(error, ValueError):  # an address or a region that botocore cannot use
        return BadInput(f"{at} cannot be used: {error}")
    return TryAgain(
        f"{at}: the bucket cannot be reached or failed {request} ({why}). Everything complete is "
        "kept; check the address (AWS_ENDPOINT_URL_S3) and the network, and run again for the rest."
    )


def _code(error: BaseException | None) -> str:
    """Return the code that S3 gave, such as "AccessDenied", or ""."""
    cause = error if hasattr(error, "response") else getattr(error, "__cause__", None)
    response = getattr(cause, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


@contextlib.contextmanager
def lock(path, url: str) -> Iterator[None]:
    """Hold a lock (an object in the bucket) for the block; hold none if PUTs can't be conditional.

    `Busy` if another run holds it. If its holder has not written to it for `_LEASE` seconds, it
    is taken to be dead, and the lock is taken over. We watch the object for changes instead of
    comparing times, so clocks need not agree.
    """
    mine, stopped, fs = secrets.token_hex(8), threading.Event(), path.fs

    def held() -> bytes | None:
        with contextlib.suppress(FileNotFoundError):
            return fs.cat_file(path.path)

    def is_mine() -> bool:
        return (held() or b"").startswith(mine.encode())

    def beat() -> None:
        while not stopped.wait(_BEAT):
            with contextlib.suppress(Exception):  # the run itself reports what is wrong
                if not is_mine():
                    return  # taken over: this process was suspended for too long
                fs.pipe_file(path.path, f"{mine} {time.monotonic()}".encode())

    def acquired() -> bool:
        try:
            fs.pipe_file(path.path, f"{mine} 0".encode(), mode="create")
        except OSError as error:
            if isinstance(error, FileExistsError) or _code(error) in _TAKEN:
                return False
            if _code(error) != "NotImplemented":
                raise
        except (NotImplementedError, TypeError):
            pass
        return True  # also if the server has no conditional PUT: then there is no lock

    with explained(url):
        begun, before = time.monotonic(), None
        while not acquired():
            now = held()
            if before and now and now != before:
                raise Busy(url)
            if now and time.monotonic() > begun + _LEASE:
                with contextlib.suppress(FileNotFoundError):
                    fs.rm_file(path.path)
            before = before or now
            time.sleep(0.5)
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
        with contextlib.suppress(Exception):
            if is_mine():
                fs.rm_file(path.path)


def copied(root, names: Iterable[str], target: Path, quiet: bool = False) -> Path:
    """Copy objects below `root` to a local folder, with a progress bar; remove other files there.

    An object that was copied before and has not changed is not copied again.
    """
    from fsspec.callbacks import TqdmCallback

    base, names = root.path.rstrip("/"), {*names}
    with explained(str(root)):
        listing = root.fs.find(base, detail=True)
    there = {path.removeprefix(f"{base}/"): entry for path, entry in listing.items()}
    if missing := sorted(names - there.keys()):
        raise BadInput(f"{root} has no {missing[0]} ({len(missing)} files are missing).")
    tags = {name: str(there[name].get("ETag") or there[name]) for name in sorted(names)}
    record, before = target / ".copied.json", {}
    with contextlib.suppress(OSError, ValueError):
        before = json.loads(record.read_text(encoding="utf-8"))
    record.unlink(missing_ok=True)  # an interrupted copy must not pass for a whole one
    for path in list(target.rglob("*")):
        if path.is_file() and path.relative_to(target).as_posix() not in tags:
            path.unlink()
    todo = [n for n in tags if before.get(n) != tags[n] or not (target / n).is_file()]
    # Keras takes its classes from the folders of a split, also from empty ones.
    for folder in {name.split("/")[2] for name in tags if name.startswith("crops/")}:
        for split in ("train", "validation", "test"):
            (target / "crops" / split / folder).mkdir(parents=True, exist_ok=True)
    target.mkdir(parents=True, exist_ok=True)
    bar = {"desc": "Copying", "unit": "file", "disable": quiet or None}
    with explained(str(root)), TqdmCallback(bar) as callback:
        local = [str(target / name) for name in todo]
        root.fs.get([f"{base}/{name}" for name in todo], local, callback=callback)
    record.write_text(json.dumps(tags), encoding="utf-8")
    return target
