"""Fetch one large file over HTTP: resumed, checked, and only then given its name."""

import base64
import contextlib
import hashlib
import json
import os
import random
import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import requests
from tqdm.auto import tqdm

from openimager import __version__
from openimager.errors import BadInput, TryAgain

USER_AGENT = f"openimager/{__version__} (research downloader for Open Images; python-requests)"

_NOTES = ".part.json"
_BLOCK = 1 << 18
_TRIES = 5
_TIMEOUT = (10, 60)
_LONGEST_WAIT = 60.0


class MissingTable(BadInput):
    """The site, or the directory, does not have the table."""


class _Later(Exception):
    """This try failed, another may not: the reason, and the seconds that the server asks for."""


def fetch_file(
    url: str,
    target: Path,
    known: Mapping[str, str],
    check: Callable[[Path], object],
    stop: threading.Event,
    quiet: bool = False,
    backoff: float = 1.0,
) -> None:
    """Fetch `url` into `target`, unless that exists already.

    What has arrived is resumed, by a later run too, while the file on the server is the same. The
    whole has the bytes and hashes that are `known` (in hex, by name) or that Google's servers send,
    and `check` raises BadInput if it is no table. MissingTable on 403, 404 and 410; TryAgain if
    several tries in a row brought nothing, if two files were wrong, or once `stop` is set.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    fruitless, refused = 0, False
    while not target.exists():
        before = _size(part)
        try:
            _continue(url, part, stop, quiet)
        except _Later as later:
            reason, least = later.args
            fruitless = 0 if _size(part) > before else fruitless + 1
            if fruitless == _TRIES:
                sentence = f"{url} could not be fetched: {reason}. Run again to resume it."
                raise TryAgain(sentence) from None
            wait = max(least, backoff * 2**fruitless * random.uniform(0.5, 1.0))
            if stop.wait(min(_LONGEST_WAIT, wait)):
                raise TryAgain(f"{url} was interrupted.") from None
            continue
        try:
            _verify(part, {**_notes(part).get("known", {}), **known})
            check(part)
            os.replace(part, target)
        except BadInput as fault:
            _discard(part)
            if refused:
                raise TryAgain(
                    f"{url} arrived twice and failed the check: {fault}. It was not kept; "
                    "try again later, or give another base URL."
                ) from None
            refused = True
        _discard(part)


def _verify(part: Path, known: Mapping[str, str]) -> None:
    """Compare a whole file with its bytes and hashes in hex; BadInput if one differs."""
    for name, expected in known.items():
        with open(part, "rb") as stream:
            is_hash = name in hashlib.algorithms_available
            found = hashlib.file_digest(stream, name).hexdigest() if is_hash else str(_size(part))
        if found != expected:
            raise BadInput(f"it has the {name} {found}, not {expected}")


def _continue(url: str, part: Path, stop: threading.Event, quiet: bool) -> None:
    """Extend `part` to the length that the server announces, or raise _Later."""
    headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
    notes, have = _notes(part), _size(part)
    if have and have == notes.get("total"):
        # Whole, but the run that fetched it ended before the check.
        return
    if have and notes.get("validator"):
        headers |= {"Range": f"bytes={have}-", "If-Range": notes["validator"]}
    look = {"desc": url.rpartition("/")[2], "disable": quiet or None}
    try:
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
            total = _start(url, response, part)
            look |= {"initial": _size(part), "total": total}
            with open(part, "ab") as file, tqdm.wrapattr(file, "write", **look) as stream:
                for block in response.iter_content(_BLOCK) if _size(part) != total else ():
                    if stop.is_set():
                        raise TryAgain(f"{url} was interrupted.")
                    stream.write(block)
    except requests.exceptions.InvalidSchema:
        raise BadInput(f"{url} redirects to an address that is neither http nor https.") from None
    except requests.RequestException as error:
        why = f"the server can't be reached, or breaks off ({type(error).__name__})"
        raise _Later(why, 0) from None
    if total not in (None, _size(part)):
        raise _Later(f"{_size(part)} of {total} bytes arrived", 0)


def _start(url: str, response: requests.Response, part: Path) -> int | None:
    """Read status and headers; return the length of the whole file, None if it is unknown."""
    status, sent = response.status_code, response.headers
    if status in (403, 404, 410):
        raise MissingTable(f"There is no {url} (the server answers {status}).")
    if status in (206, 416):
        whole = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+)", sent.get("Content-Range", ""))
        if whole and int(whole[1] or whole[2]) == _size(part):
            return int(whole[2])
        _discard(part)
    if status != 200:
        wait = sent.get("Retry-After", "")
        raise _Later(f"the server answers {status}", float(wait) if wait.isdigit() else 0)
    _discard(part)
    plain = sent.get("Content-Encoding", "identity") == "identity"
    etag, length = sent.get("ETag", ""), sent.get("Content-Length", "")
    md5 = re.search(r"md5=([\w+/]{22}==)", sent.get("x-goog-hash", ""))
    notes = {
        "validator": etag if etag.startswith('"') else sent.get("Last-Modified"),
        "total": int(length) if plain and length.isdigit() else None,
        "known": {"md5": base64.b64decode(md5[1]).hex()} if plain and md5 else {},
    }
    part.with_suffix(_NOTES).write_text(json.dumps(notes), encoding="utf-8")
    return notes["total"]


def _notes(part: Path) -> dict:
    """Return what is noted of a part: validator, total, known. Version 0.1 kept the first alone."""
    with contextlib.suppress(OSError, ValueError):
        notes = json.loads(part.with_suffix(_NOTES).read_text(encoding="utf-8"))
        return notes if isinstance(notes, dict) else {"validator": notes}
    return {}


def _discard(part: Path) -> None:
    for path in (part, part.with_suffix(_NOTES)):
        path.unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
