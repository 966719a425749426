"""Requests for one photo: over kept connections, or from a local site."""

import contextlib
import functools
import http.client
import math
import os
import ssl
import threading
import time
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import certifi
import requests
import urllib3
from urllib3 import exceptions

from openimager.photos import check
from openimager.photos.pace import MIRROR, TRIAL_WINDOW, Pace, registered_domain, retry_after
from openimager.photos.photo import Settings, Source, absolute
from openimager.tables import catalogue
from openimager.tables.fetch import USER_AGENT

_BLOCK = 1 << 16
_HEADERS = {
    "User-Agent": USER_AGENT,
    "Accept": "image/jpeg,*/*;q=0.5",
    "Accept-Encoding": "identity",
}


class Answer(NamedTuple):
    """How one request ended."""

    kind: str  # "ok", "moved", "gone" (waiting will not help), "busy" (429) or "failed"
    error: str = ""  # the same words for the same cause
    heard: bool = True  # whether the server answered at all
    after: float | None = None  # seconds that the server asks to wait
    location: str = ""
    data: bytes = b""  # a checked photo, of `width` times `height` pixels
    width: int = 0
    height: int = 0


class Client:
    """Makes requests for photos, to each domain at its pace; the threads of a run share it."""

    def __init__(self, settings: Settings):
        self.settings, self.changed = settings, threading.Condition()
        self.stopped = False
        self.news = False  # whether a domain may have stopped waiting
        self._paces: dict[str, Pace] = {}
        self._timeout = urllib3.Timeout(connect=settings.connect, read=settings.read)
        self._pools: dict[str, urllib3.HTTPConnectionPool | urllib3.ProxyManager] = {}
        # Decoding is all CPU: more at once than there are cores only takes memory.
        self._decoding = threading.BoundedSemaphore(os.cpu_count() or 1)
        # The folder of the tables stands in the site's folder, beside that of the photos.
        self._site = Path(settings.base).resolve().parent

    def close(self) -> None:
        """Abandon requests at their next block, and close idle connections; wake all threads."""
        with self.changed:
            self.stopped = True
            self.changed.notify_all()
        for pool in list(self._pools.values()):
            pool.clear() if isinstance(pool, urllib3.ProxyManager) else pool.close()

    def waiting(self) -> dict[str, tuple[float, int, str]]:
        """Return the domains that wait: until when (seconds since the epoch), strikes, reason."""
        with self.changed:
            shift = time.time() - time.monotonic()
            return {
                domain: (pace.until + shift, pace.strikes, pace.reason)
                for domain, pace in self._paces.items()
                if pace.strikes and not pace.closed
            }

    def fetch(self, source: Source) -> Answer | None:
        """Request a photo politely, following redirects; None if a domain on the way waits."""
        if fault := self._too_large(source.size or 0):
            return fault
        if source.path:
            return self._read(source)
        url, source.moved = source.moved or source.url, ""
        for _ in range(self.settings.hops + 1):
            pace = source.pace = self._pace(url)
            if (sent := self._enter(pace)) is None:
                if pace.closed:
                    source.settle(source.error or "its domain does not answer", gone=False)
                source.moved = url
                return None
            answer = self.ask(source, url)
            with self.changed:
                concerns = pace.strikes or pace.running >= pace.window
                busy = (answer.kind == "busy") if answer.heard else None
                pace.answered(sent, time.monotonic(), busy, answer.after)
                if concerns or pace.strikes:
                    self.news = True
                    self.changed.notify_all()
            if answer.kind != "moved":
                return answer
            url = answer.location
        return Answer("gone", "redirects without end")

    def _pace(self, url: str) -> Pace:
        """Return the pace of a URL's domain, which goes on waiting if it did in an earlier run."""
        domain, one = registered_domain(url), self.settings
        with self.changed:
            if (pace := self._paces.get(domain)) is None:
                window = math.inf if urlsplit(url).hostname == MIRROR else TRIAL_WINDOW
                waits = (one.pause, one.longest_pause, one.backoff)
                pace = self._paces[domain] = Pace(one.rate_of(domain, url), window, *waits)
                until, pace.strikes, pace.reason = *one.waits.get(domain, (0, 0)), "after 429"
                if domain in one.flickr_domains and not one.flickr:
                    until, pace.strikes = math.inf, 1
                    pace.reason = "because only one partition at a time asks Flickr"
                if pace.strikes:
                    pace.window, pace.struck = 1, time.monotonic()
                    pace.until = pace.struck + until - time.time()
            return pace

    def _enter(self, pace: Pace) -> float | None:
        """Sleep until a request may go; return the time, or None if the domain waits."""
        with self.changed:
            while not self.stopped:
                now = time.monotonic()
                if pace.waits(now) or pace.closed:
                    return None
                if (delay := pace.delay(now)) <= 0:
                    pace.sent(now)
                    return now
                self.changed.wait(min(delay, 60.0))
        return None

    def ask(self, source: Source, url: str = "") -> Answer:
        """Make one request, of `url` where a redirect led there, and check what arrives."""
        url, until = url or source.url, time.monotonic() + self.settings.whole
        options = {"redirect": False, "retries": False, "preload_content": False}
        options |= {"headers": _HEADERS, "timeout": self._timeout}
        try:
            pool, target = self._pool(url)
            with pool.urlopen("GET", target, **options) as response:
                if (answer := _by_status(response, url)) is None:
                    return self._receive(response, source, until)
                # A short body is read to its end, so that the connection can be used again.
                if (length := response.length_remaining) is not None and length < 100_000:
                    with contextlib.suppress(exceptions.HTTPError, OSError, ValueError):
                        response.read(length + 1)
                return answer
        except (OSError, ValueError, http.client.HTTPException, exceptions.HTTPError) as error:
            return _no_answer(error)

    def _pool(self, url: str):
        """Return the connections to a URL's host, and what to request there.

        They go through the proxy of the environment. Without a proxy we keep one pool per host
        ourselves, because finding it in urllib3's PoolManager takes time.
        """
        scheme, host, path, query, _ = urlsplit(url)
        place = f"{scheme}://{host}"
        if (pool := self._pools.get(place)) is None:
            options = {"maxsize": self.settings.workers}
            if scheme == "https":
                options |= {"ssl_context": _tls_context(), "cert_reqs": "CERT_REQUIRED"}
            free = catalogue.is_loopback(url)
            proxies = {} if free else requests.utils.get_environ_proxies(url)
            if proxy := requests.utils.select_proxy(url, proxies):
                login = ":".join(requests.utils.get_auth_from_url(proxy))
                login = urllib3.make_headers(proxy_basic_auth=login if login != ":" else None)
                pool = urllib3.ProxyManager(proxy, proxy_headers=login, **options)
            else:
                pool = urllib3.connection_from_url(place, **options)
            pool = self._pools.setdefault(place, pool)
        proxied = isinstance(pool, urllib3.ProxyManager)
        return pool, url if proxied else (path or "/") + f"?{query}" * bool(query)

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
            if self.stopped:
                return Answer("failed", "interrupted")
            if time.monotonic() > until:
                return Answer("failed", f"not whole after {self.settings.whole:g} s")
        return self._check(bytes(data), source, response.headers.get("ETag", ""), framed)

    def _read(self, source: Source) -> Answer:
        """Read a file of a local site, following links that stay inside the site's folder."""
        try:
            path = source.path.resolve()
            if not path.is_relative_to(self._site):
                return Answer("gone", "its address is outside the site's folder")
            if not path.is_file():
                return Answer("gone", "the site has no such file")
            if fault := self._too_large(path.stat().st_size, source.size):
                return fault
            return self._check(path.read_bytes(), source)
        except (OSError, RuntimeError) as error:
            return Answer("failed", getattr(error, "strerror", None) or "cannot be read")

    def _check(self, data: bytes, source: Source, etag: str = "", framed: bool = True) -> Answer:
        bounds = (source.size, source.md5, etag, self.settings.most_pixels, framed)
        with self._decoding:
            look = check.look(data, *bounds)
        if look.fault == check.DAMAGED and not framed:
            return Answer("failed", "cut short")
        if look.fault:
            return Answer("gone", look.fault)
        return Answer("ok", data=data, width=look.width, height=look.height)

    def _too_large(self, size: int, recorded: int | None = None) -> Answer | None:
        if recorded is not None and size > recorded:
            return Answer("gone", f"another photo: more than the {recorded:,} bytes recorded")
        if size > self.settings.most_bytes:
            return Answer("gone", f"larger than {self.settings.most_bytes:,} bytes")
        return None


def _by_status(response, url: str) -> Answer | None:
    """Return the answer that status and headers give; None if the body decides."""
    status, location = response.status, ""
    if status in (301, 302, 303, 307, 308):
        location = response.headers.get("Location", "")
        # http.client reads headers as latin-1, browsers read this one as UTF-8.
        with contextlib.suppress(UnicodeError):
            location = location.encode("latin-1").decode("utf-8")
        location = absolute(location, url)
        if not location:
            return Answer("gone", "redirects to an address that is neither http nor https")
    if check.PLACEHOLDER_PATH in url + location:
        return Answer("gone", check.PLACEHOLDER)
    if status == 200:
        return None
    if location:
        return Answer("moved", location=location)
    wait = retry_after(response.headers.get("Retry-After"))
    if status == 429:
        return Answer("busy", "answered 429", after=wait)
    # These say "not now"; every other 4xx and 3xx says something about the address.
    if status >= 500 or status in (407, 408, 425) or status < 300:
        return Answer("failed", f"answered {status}", after=wait)
    return Answer("gone", f"answered {status}")


# Checked in this order, against the error and its cause.
_CAUSES = (
    (ConnectionRefusedError, "connection refused"),
    (exceptions.NameResolutionError, "no such host, or no network"),
    (exceptions.ProxyError, "the proxy does not answer"),
    # Before TimeoutError, of which it is a subclass.
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
    for kinds, words in _CAUSES:
        if any(isinstance(one, kinds) for one in (error, error.__cause__, *error.args)):
            return Answer("failed", words, heard=False)
    return Answer("failed", f"no answer ({type(error).__name__})", heard=False)


@functools.cache
def _tls_context() -> ssl.SSLContext:
    """Return the context of all connections: loading the CA certificates takes 40 ms."""
    bundle = os.environ.get("REQUESTS_CA_BUNDLE") or certifi.where()
    context = urllib3.util.create_urllib3_context()
    context.load_verify_locations(**{"capath" if os.path.isdir(bundle) else "cafile": bundle})
    return context
