"""One request for one photo: over kept connections, or from a local site."""

import contextlib
import functools
import http.client
import os
import ssl
import threading
import time
import urllib.request
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import certifi
import urllib3
from urllib3 import exceptions

from openimager.photos import check
from openimager.photos.pace import retry_after
from openimager.photos.sources import Source, absolute
from openimager.tables import catalogue
from openimager.tables.fetch import USER_AGENT

_BLOCK = 1 << 18
_HEADERS = {
    "User-Agent": USER_AGENT,
    "Accept": "image/jpeg,*/*;q=0.5",
    "Accept-Encoding": "identity",
}


class Answer(NamedTuple):
    """How one request ended.

    The kinds are ``"ok"`` (`data` is a checked photo), ``"moved"`` (to `location`), ``"gone"``
    (waiting will not help), ``"busy"`` (429) and ``"failed"``.
    """

    kind: str
    error: str = ""  # the same words for the same cause
    heard: bool = True  # whether the server answered at all
    after: float | None = None  # seconds that the server asks to wait
    location: str = ""
    data: bytes = b""
    width: int = 0
    height: int = 0


class Client:
    """Makes requests for photos; the threads of a run share it.

    Parameters
    ----------
    settings : openimager.photos.photo.Settings
    """

    def __init__(self, settings):
        self.settings = settings
        self.stop = threading.Event()
        self._timeout = urllib3.Timeout(connect=settings.connect, read=settings.read)
        self._managers: dict[tuple[str, str], urllib3.PoolManager] = {}
        self._guard = threading.Lock()
        # Decoding is all CPU: more at once than there are cores only takes memory.
        self._decoding = threading.BoundedSemaphore(os.cpu_count() or 1)
        self._site = None
        if catalogue.is_directory(settings.base):
            # The folder of the tables stands in the site's folder, beside that of the photos.
            self._site = Path(settings.base).resolve().parent

    def close(self) -> None:
        """Abandon requests at their next block, and close idle connections."""
        self.stop.set()
        for manager in self._managers.values():
            manager.clear()

    def ask(self, source: Source, url: str = "") -> Answer:
        """Make one request, following no redirect, and check what arrives.

        Parameters
        ----------
        source : Source
        url : str
            Where a redirect led, in place of the source's own URL.
        """
        if fault := self._too_large(source.size or 0, None):
            return fault._replace(heard=False)
        if source.path:
            return self._read(source)
        url, until = url or source.url, time.monotonic() + self.settings.whole
        options = {"redirect": False, "retries": False, "preload_content": False}
        try:
            manager = self._manager(url)
            with manager.urlopen("GET", url, timeout=self._timeout, **options) as response:
                answer = _by_status(response, url)
                if answer is None:
                    return self._receive(response, source, until)
                _drain(response)
                return answer
        except (OSError, ValueError, http.client.HTTPException, exceptions.HTTPError) as error:
            return _no_answer(error)

    def _manager(self, url: str) -> urllib3.PoolManager:
        """Return the connections to the host of a URL, through the proxy of the environment."""
        parts = urlsplit(url)
        with self._guard:
            if parts[:2] not in self._managers:
                self._managers[parts[:2]] = _connections(url, self.settings.workers)
            return self._managers[parts[:2]]

    def _receive(self, response, source: Source, until: float) -> Answer:
        framed = response.chunked or "Content-Length" in response.headers
        data = bytearray()
        while block := response.read1(_BLOCK, decode_content=True):
            early = len(data) < check.HEAD
            data += block
            if early and len(data) >= check.HEAD and not check.format_of(data[: check.HEAD]):
                return Answer("gone", check.NO_PHOTO)
            if fault := self._too_large(len(data), source.size):
                return fault
            if self.stop.is_set():
                return Answer("failed", "interrupted")
            if time.monotonic() > until:
                return Answer("failed", f"not whole after {self.settings.whole:g} s")
        return self._check(bytes(data), source, response.headers.get("ETag", ""), framed)

    def _read(self, source: Source) -> Answer:
        """Read a file of a local site, wherever its links lead inside the site's folder."""
        try:
            path = source.path.resolve()
            if not path.is_relative_to(self._site):
                return Answer("gone", "its address is outside the site's folder")
            if not path.is_file():
                return Answer("gone", "the site has no such file")
            if fault := self._too_large(path.stat().st_size, source.size):
                return fault
            data = path.read_bytes()
        except (OSError, RuntimeError) as error:
            return Answer("failed", getattr(error, "strerror", None) or "cannot be read")
        return self._check(data, source)

    def _check(self, data: bytes, source: Source, etag: str = "", framed: bool = True) -> Answer:
        with self._decoding:
            look = check.look(
                data, source.size, source.md5, etag, self.settings.most_pixels, framed
            )
        if look.fault == check.DAMAGED and not framed:
            return Answer("failed", "cut short")
        if look.fault:
            return Answer("gone", look.fault)
        return Answer("ok", data=data, width=look.width, height=look.height)

    def _too_large(self, size: int, recorded: int | None) -> Answer | None:
        if recorded is not None and size > recorded:
            return Answer("gone", f"another photo: more than the {recorded:,} bytes recorded")
        if size > self.settings.most_bytes:
            return Answer("gone", f"larger than {self.settings.most_bytes:,} bytes")
        return None


def _by_status(response, url: str) -> Answer | None:
    """Return the answer that status and headers give; None if the body decides."""
    status = response.status
    if check.PLACEHOLDER_PATH in url:
        return Answer("gone", check.PLACEHOLDER)
    if status == 200:
        return None
    if status in (301, 302, 303, 307, 308):
        location = response.headers.get("Location", "")
        # http.client reads headers as latin-1, browsers read this one as UTF-8.
        with contextlib.suppress(UnicodeError):
            location = location.encode("latin-1").decode("utf-8")
        location = absolute(location, url)
        if check.PLACEHOLDER_PATH in location:
            return Answer("gone", check.PLACEHOLDER)
        if not location:
            return Answer("gone", "redirects to an address that is neither http nor https")
        return Answer("moved", location=location)
    wait = retry_after(response.headers.get("Retry-After"))
    if status == 429:
        return Answer("busy", "answered 429", after=wait)
    # These say "not now"; every other 4xx and 3xx says something about the address.
    if status >= 500 or status in (407, 408, 425) or status < 300:
        return Answer("failed", f"answered {status}", after=wait)
    return Answer("gone", f"answered {status}")


def _drain(response) -> None:
    """Read a short body to its end, so that the connection can be used again."""
    length = response.headers.get("Content-Length", "")
    if length.isdigit() and len(length) < 6:
        with contextlib.suppress(exceptions.HTTPError, OSError, ValueError):
            response.read(int(length) + 1)


# The first that fits an error, or the cause that it carries.
_CAUSES = (
    (ConnectionRefusedError, "connection refused"),
    (exceptions.NameResolutionError, "no such host, or no network"),
    (exceptions.ProxyError, "the proxy does not answer"),
    # It is one of urllib3's TimeoutErrors.
    (exceptions.NewConnectionError, "the host cannot be reached"),
    ((exceptions.TimeoutError, TimeoutError), "timed out"),
    ((exceptions.SSLError, ssl.SSLError), "no secure connection (TLS)"),
    ((http.client.IncompleteRead, exceptions.IncompleteRead), "cut short"),
    ((http.client.RemoteDisconnected, ConnectionError), "the connection broke off"),
)


def _no_answer(error: Exception) -> Answer:
    """Put a network error into words that are the same for the same cause."""
    # urllib3 reports a bad address by ValueErrors of several kinds.
    if isinstance(error, ValueError) and not isinstance(error, OSError):
        return Answer("gone", "its address is not a URL", heard=False)
    chain = [error, error.__cause__, *error.args]
    for kinds, words in _CAUSES:
        if any(isinstance(one, kinds) for one in chain):
            return Answer("failed", words, heard=False)
    return Answer("failed", f"no answer ({type(error).__name__})", heard=False)


@functools.cache
def _tls_context() -> ssl.SSLContext:
    """Return the context of all connections: reading the authorities takes 40 ms."""
    bundle = os.environ.get("REQUESTS_CA_BUNDLE") or certifi.where()
    context = urllib3.util.create_urllib3_context()
    context.load_verify_locations(**{"capath" if os.path.isdir(bundle) else "cafile": bundle})
    return context


def _connections(url: str, count: int) -> urllib3.PoolManager:
    scheme, host = urlsplit(url)[:2]
    options = {"maxsize": count, "headers": _HEADERS}
    if scheme == "https":
        options |= {"ssl_context": _tls_context(), "cert_reqs": "CERT_REQUIRED"}
    proxies = urllib.request.getproxies()
    proxy = proxies.get(scheme) or proxies.get("all")
    if not proxy or catalogue.is_loopback(url) or urllib.request.proxy_bypass(host):
        return urllib3.PoolManager(**options)
    if auth := urllib3.util.parse_url(proxy).auth:
        password = urllib.request.unquote(auth)
        options["proxy_headers"] = urllib3.make_headers(proxy_basic_auth=password)
    return urllib3.ProxyManager(proxy, **options)
