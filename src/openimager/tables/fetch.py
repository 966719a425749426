"""Fetch one large file over HTTP: resumed, checked, and only then given its name."""

import base64
import contextlib
import hashlib
import json
import os
import random
import re
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from openimager import __version__, files
from openimager.errors import BadInput, TryAgain

USER_AGENT = f"openimager/{__version__} (research downloader for Open Images; python-requests)"

_BLOCK = 1 << 18
_TRIES = 5
_TIMEOUT = (10, 60)
_LONGEST_WAIT = 60.0


class NotThere(BadInput):
    """The server says that it has no such file."""


class Stopped(TryAgain):
    """The fetch was told to stop; the bytes received so far are kept for the next run."""


class _Later(Exception):
    """This try failed, another may not; `wait` is in seconds, or None for the usual back-off."""

    def __init__(self, reason: str, wait: float | None = None):
        super().__init__(reason)
        self.wait = wait


def fetch_file(
    url: str,
    target: Path,
    check: Callable[[Path], str],
    stop: threading.Event,
    quiet: bool = False,
    backoff: float = 1.0,
) -> None:
    """Fetch `url` into `target`, unless that exists already.

    Bytes are collected in ``<target>.part``, which this run or a later one resumes with Range
    and If-Range, so that a file that has changed on the server is fetched from its start. Runs
    that want the same file wait for each other.

    `check` takes the path of the whole file and returns what is wrong with it, ``""`` if nothing
    is; the MD5 that Google's servers send (``x-goog-hash``) is checked in any case. Once `stop` is
    set, the fetch ends at the next block. `backoff` is in seconds, doubled for each try.

    Raises
    ------
    NotThere
        On 403, 404 and 410.
    TryAgain
        If several tries in a row brought nothing, or the file failed the check twice.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with files.lock(target.with_name(target.name + ".lock"), stop=stop):
        if target.exists():
            return
        part = target.with_name(target.name + ".part")
        fruitless, refused = 0, 0
        while True:
            before = _size(part)
            try:
                _continue(url, part, stop, quiet)
                fault = _md5_fault(part) or check(part)
                if not fault:
                    break
                _discard(part)
                refused += 1
                if refused == 2:
                    raise TryAgain(
                        f"{url} arrived twice and failed the check: {fault}. It was not kept; "
                        "try again later, or give another base URL."
                    )
            except _Later as later:
                fruitless = 0 if _size(part) > before else fruitless + 1
                if fruitless == _TRIES:
                    raise TryAgain(
                        f"{url} could not be fetched: {later}. Run again to resume it."
                    ) from None
                wait = backoff * 2**fruitless * random.uniform(0.5, 1.0)
                if stop.wait(min(_LONGEST_WAIT, max(wait, later.wait or 0.0))):
                    raise Stopped(f"{url} was interrupted.") from None
        os.replace(part, target)
        _notes_file(part).unlink(missing_ok=True)


def _continue(url: str, part: Path, stop: threading.Event, quiet: bool) -> None:
    """Extend `part` to the length that the server announces, or raise _Later."""
    import requests
    from tqdm.auto import tqdm

    headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
    notes = _notes(part)
    if _size(part) and _size(part) == notes.get("total"):
        # Whole, but the run that fetched it ended before the check.
        return
    if _size(part) and notes.get("validator"):
        headers |= {"Range": f"bytes={_size(part)}-", "If-Range": notes["validator"]}
    else:
        _discard(part)
    try:
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
            total = _start(url, response, part)
            if total and total == _size(part):
                return
            bar = tqdm(
                desc=urlsplit(url).path.rpartition("/")[2],
                initial=_size(part),
                total=total,
                unit="B",
                unit_scale=True,
                disable=True if quiet else None,
            )
            with bar, open(part, "ab") as stream:
                for block in response.iter_content(_BLOCK):
                    if stop.is_set():
                        raise Stopped(f"{url} was interrupted.")
                    stream.write(block)
                    bar.update(len(block))
    except requests.exceptions.InvalidSchema:
        raise BadInput(f"{url} redirects to an address that is neither http nor https.") from None
    except requests.RequestException as error:
        raise _Later(_reason(error)) from None
    if total is not None and _size(part) != total:
        if _size(part) > total:
            _discard(part)
        raise _Later(f"{_size(part)} of {total} bytes arrived")


def _start(url: str, response, part: Path) -> int | None:
    """Read status and headers; return the length of the whole file, None if it is unknown."""
    status = response.status_code
    if status in (403, 404, 410):
        raise NotThere(f"There is no {url} (the server answers {status}).")
    ranges = response.headers.get("Content-Range", "")
    if status == 416 and ranges == f"bytes */{_size(part)}":
        return _size(part)
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", ranges)
    if status == 206 and found and int(found[1]) == _size(part):
        return int(found[2])
    if status != 200:
        if status in (206, 416):
            _discard(part)
        wait = response.headers.get("Retry-After", "")
        raise _Later(f"the server answers {status}", float(wait) if wait.isdigit() else None)
    _discard(part)
    etag = response.headers.get("ETag", "")
    length = response.headers.get("Content-Length", "")
    encoded = response.headers.get("Content-Encoding", "identity") != "identity"
    total = int(length) if length.isdigit() and not encoded else None
    md5 = re.search(r"md5=([\w+/]{22}==)", response.headers.get("x-goog-hash", ""))
    notes = {
        "validator": etag if etag.startswith('"') else response.headers.get("Last-Modified"),
        "total": total,
        "md5": md5[1] if md5 and not encoded else None,
    }
    _notes_file(part).write_text(json.dumps(notes), encoding="utf-8")
    return total


def _md5_fault(part: Path) -> str:
    """Compare a whole file with the MD5 that its server announced, if it did."""
    announced = _notes(part).get("md5")
    if not announced:
        return ""
    with open(part, "rb") as stream:
        digest = base64.b64encode(hashlib.file_digest(stream, "md5").digest()).decode()
    return "" if digest == announced else f"its MD5 is {digest}, the server says {announced}"


def _reason(error: Exception) -> str:
    import requests

    if isinstance(error, requests.Timeout):
        return "the server does not answer in time"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection was closed too early"
    if isinstance(error, requests.ConnectionError):
        return "the server can't be reached"
    return str(error)


def _notes_file(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _notes(part: Path) -> dict:
    """Return what is known of a part: validator, total, md5. Version 0.1 kept the first alone."""
    with contextlib.suppress(OSError, ValueError):
        notes = json.loads(_notes_file(part).read_text(encoding="utf-8"))
        return notes if isinstance(notes, dict) else {"validator": notes}
    return {}


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _notes_file(part).unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
