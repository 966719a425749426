"""Fetch one large file over HTTP: resumed, checked, and only then given its name."""

import base64
import hashlib
import os
import random
import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import requests
from tqdm.auto import tqdm
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

from openimager import __version__
from openimager.errors import BadInput, TryAgain

USER_AGENT = f"openimager/{__version__} (research downloader for Open Images)"

_BLOCK = 1 << 18
_TRIES = 5
_TIMEOUT = (10, 60)
_LONGEST_WAIT = 600  # seconds that a server may ask for


class MissingTable(BadInput):
    """The site, or the directory, does not have the table."""


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

    A partial download is resumed, also by a later run, if the file on the server has not changed.
    The complete file is compared with its size ("bytes") and hashes (in hex) in `known`, and with
    the MD5 that Google's servers send; `check` raises BadInput if it is not a table. MissingTable
    on 403, 404 and 410; TryAgain if several tries in a row brought nothing, if the file is wrong,
    or once `stop` is set.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    fruitless = 0
    while not target.exists():
        before = _size(part)
        try:
            _continue(url, part, stop, quiet)
        except requests.exceptions.InvalidSchema:
            raise BadInput(f"{url} redirects to an address that is not http or https.") from None
        except requests.RequestException as error:
            reason, least = _reason(error)
            fruitless = 0 if _size(part) > before else fruitless + 1
            if fruitless == _TRIES or least > _LONGEST_WAIT:
                sentence = f"{url} could not be fetched: {reason}. Run again to resume it."
                raise TryAgain(sentence) from None
            if stop.wait(max(least, backoff * 2**fruitless * random.uniform(0.5, 1.0))):
                raise TryAgain(f"{url} was interrupted.") from None
            continue
        try:
            md5 = _noted(part)[1]
            _verify(part, {**({"md5": md5} if md5 else {}), **known})
            check(part)
            os.replace(part, target)
        except BadInput as fault:
            _discard(part)
            raise TryAgain(
                f"{url} arrived, but failed the check: {str(fault).rstrip('.')}. It was not kept; "
                "try again later, or give another base URL."
            ) from None
        _discard(part)


def _continue(url: str, part: Path, stop: threading.Event, quiet: bool) -> None:
    """Extend `part` to the whole file; a RequestException if the server does not send all of it."""
    headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
    have, validator = _size(part), _noted(part)[0]
    if have and validator:
        headers |= {"Range": f"bytes={have}-", "If-Range": validator}
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
        status, sent = response.status_code, response.headers
        span, length = sent.get("Content-Range", ""), sent.get("Content-Length", "")
        if status in (403, 404, 410):
            raise MissingTable(f"There is no {url} (the server answers {status}).")
        if status == 416 and span == f"bytes */{have}":
            return  # Whole, but the run that fetched it ended before the check.
        if status != 206 or not span.startswith(f"bytes {have}-"):
            if status in (200, 206, 416):
                _discard(part)
            if status != 200:
                raise requests.HTTPError(response=response)
            have, etag = 0, sent.get("ETag", "")
            validator = etag if etag.startswith('"') else sent.get("Last-Modified", "")
            md5 = re.search(r"md5=([\w+/]{22}==)", sent.get("x-goog-hash", ""))
            digest = base64.b64decode(md5[1]).hex() if md5 else ""
            _tag(part).write_text(f"{validator}\n{digest}", encoding="utf-8")
        total = have + int(length) if length.isdigit() else None
        look = {"desc": url.rpartition("/")[2], "initial": have, "total": total}
        with (
            open(part, "ab") as file,
            tqdm.wrapattr(file, "write", disable=quiet or None, **look) as stream,
        ):
            for block in response.iter_content(_BLOCK):
                if stop.is_set():
                    raise TryAgain(f"{url} was interrupted.")
                stream.write(block)
    if status == 206 and span.rpartition("/")[2] not in ("*", str(_size(part))):
        raise requests.ConnectionError  # a server may send less than the rest


def _reason(error: requests.RequestException) -> tuple[str, float]:
    """Return why a try failed, and the seconds that the server asks to wait."""
    if error.response is None:
        return f"the server can't be reached, or breaks off ({type(error).__name__})", 0
    after = retry_after(error.response.headers.get("Retry-After")) or 0
    more = f" and asks to wait {after:.0f} s" if after else ""
    return f"the server answers {error.response.status_code}{more}", after


def retry_after(value: str | None) -> float | None:
    """Return the seconds that a Retry-After header asks for; None if it has no valid value."""
    try:
        return float(Retry().parse_retry_after(value or ""))
    except (InvalidHeader, TypeError, ValueError, OverflowError):
        return None


def _verify(part: Path, known: Mapping[str, str]) -> None:
    """Compare a whole file with its known size and hashes in hex; BadInput if one differs."""
    for name, expected in known.items():
        with open(part, "rb") as stream:
            is_hash = name in hashlib.algorithms_available
            found = hashlib.file_digest(stream, name).hexdigest() if is_hash else str(_size(part))
        if found != expected:
            raise BadInput(f"{name}: {found}, not {expected}")


def _tag(part: Path) -> Path:
    return part.with_name(f"{part.name}.tag")


def _noted(part: Path) -> tuple[str, str]:
    """Return the validator of a part (its ETag, or when it changed) and its MD5; "" if unknown."""
    tag = _tag(part)
    validator, _, md5 = (tag.read_text(encoding="utf-8") if tag.exists() else "").partition("\n")
    return validator, md5


def _discard(part: Path) -> None:
    for path in (part, _tag(part)):
        path.unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
