"""Requests for one photo: over kept connections, or from a local site."""

import asyncio
import contextlib
import functools
import math
import os
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import aiohttp
import certifi
import requests

from openimager.photos import check
from openimager.photos.pace import MIRROR, TRIAL_WINDOW, Pace, registered_domain
from openimager.photos.photo import Settings, Source, absolute
from openimager.tables import catalogue
from openimager.tables.fetch import USER_AGENT, retry_after

_HEADERS = {
    "User-Agent": USER_AGENT,
    "Accept": "image/jpeg,*/*;q=0.5",
    "Accept-Encoding": "identity",
}


class Answer(NamedTuple):
    """How one request ended."""

    kind: str  # "ok", "moved", "gone" (waiting will not help), "busy" (429) or "failed"
    error: str = ""  # the same words for the same cause
    received: bool = True  # whether the server answered at all
    after: float | None = None  # seconds that the server asks to wait
    location: str = ""
    data: bytes = b""  # a checked photo, of `width` times `height` pixels
    width: int = 0
    height: int = 0


class Client:
    """Makes requests for photos, to each domain at its pace; for the tasks of one event loop."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.reopened = False  # whether a domain may have stopped waiting
        self._paces: dict[str, Pace] = {}
        self._routes: dict[str, dict] = {}
        # The folder of the tables stands in the site's folder, beside that of the photos.
        self._site = Path(settings.base).resolve().parent

    async def __aenter__(self):
        one = self.settings
        bounds = aiohttp.ClientTimeout(one.whole, connect=one.connect, sock_read=one.read)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=_HEADERS,
            timeout=bounds,
        )
        # Decoding is all CPU: more at once than there are cores only takes memory.
        self._decoders = ThreadPoolExecutor(os.cpu_count())
        self._wakeup = asyncio.get_running_loop().create_future()  # ends every `sleep`
        return self

    async def __aexit__(self, *_):
        await self._session.close()
        self._decoders.shutdown(wait=False, cancel_futures=True)

    def waiting(self) -> dict[str, tuple[float, int, str]]:
        """Return end of the wait (since the epoch), strikes and reason of each waiting domain."""
        shift = time.time() - time.monotonic()
        return {
            domain: (pace.until + shift, pace.strikes, pace.reason)
            for domain, pace in list(self._paces.items())
            if pace.strikes and not pace.closed and pace.until < math.inf
        }

    async def sleep(self, seconds: float) -> None:
        """Sleep, but only until a domain may have stopped waiting."""
        await asyncio.wait([self._wakeup], timeout=seconds)

    async def fetch(self, source: Source) -> Answer | None:
        """Request a photo politely, following redirects; None if a domain on the way waits."""
        if fault := self._too_large(source.size or 0):
            return fault
        if source.path:
            return await self._on_thread(self._read, source)
        url, source.moved = source.moved or source.url, ""
        for _ in range(self.settings.hops + 1):
            pace = source.pace = self._pace(url)
            if (sent := await self._enter(pace)) is None:
                if pace.closed:
                    source.settle(source.error or "its domain does not answer", gone=False)
                source.moved = url
                return None
            answer = await self.request(source, url)
            concerns = pace.strikes or pace.running >= pace.window
            busy = (answer.kind == "busy") if answer.received else None
            pace.answered(sent, time.monotonic(), busy, answer.after)
            if concerns or pace.strikes:
                self.reopened = True
                self._wakeup.set_result(None)
                self._wakeup = asyncio.get_running_loop().create_future()
            if answer.kind != "moved":
                return answer
            url = answer.location
        return Answer("gone", "redirects without end")

    def _pace(self, url: str) -> Pace:
        """Return the pace of a URL's domain, which goes on waiting if `Settings.waits` has it."""
        domain, one = registered_domain(url), self.settings
        if (pace := self._paces.get(domain)) is None:
            window = math.inf if urlsplit(url).hostname == MIRROR else TRIAL_WINDOW
            waits = (one.pause, one.longest_pause, one.backoff)
            pace = self._paces[domain] = Pace(one.rate_of(domain, url), window, *waits)
            until, pace.strikes, pace.reason = one.waits.get(domain, (0, 0, ""))
            if domain in one.flickr_domains and not one.flickr:
                until, pace.strikes = math.inf, 1
                pace.reason = "because only one partition at a time asks Flickr"
            if pace.strikes:
                pace.window, pace.struck = 1, time.monotonic()
                pace.until = pace.struck + until - time.time()
        return pace

    async def _enter(self, pace: Pace) -> float | None:
        """Sleep until a request may go; return the time, or None if the domain waits."""
        while True:
            now = time.monotonic()
            if pace.waits(now) or pace.closed:
                return None
            if (delay := pace.delay(now)) <= 0:
                pace.sent(now)
                return now
            await self.sleep(min(delay, 60.0))

    async def request(self, source: Source, url: str = "") -> Answer:
        """Make one request, of `url` if a redirect led to it, and check what arrives."""
        url = url or source.url
        try:
            request = self._session.get(url, allow_redirects=False, **self._route(url))
            async with request as response:
                if (answer := _by_status(response, url)) is None:
                    return await self._receive(response, source)
                # A short body is read to its end, so that the connection can be used again.
                if (length := response.content_length) is not None and length < 100_000:
                    with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                        await response.read()
                return answer
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return self._no_answer(error)

    def _route(self, url: str) -> dict:
        """Return the options that are the same for all requests to a host: proxy and TLS."""
        scheme, host, *_ = urlsplit(url)
        if (route := self._routes.get(f"{scheme}://{host}")) is None:
            free = catalogue.is_loopback(url)
            proxies = {} if free else requests.utils.get_environ_proxies(url)
            route = {"proxy": requests.utils.select_proxy(url, proxies)}
            if scheme == "https":
                route["ssl"] = _tls_context()
            self._routes[f"{scheme}://{host}"] = route
        return route

    async def _receive(self, response: aiohttp.ClientResponse, source: Source) -> Answer:
        framed = "Content-Length" in response.headers or "Transfer-Encoding" in response.headers
        data = bytearray()
        while block := await response.content.readany():
            early = len(data) < check.HEAD
            data += block
            if early and len(data) >= check.HEAD and not check.format_of(data[: check.HEAD]):
                return Answer("gone", check.NO_PHOTO)
            if fault := self._too_large(len(data), source.size):
                return fault
        etag = response.headers.get("ETag", "")
        return await self._on_thread(self._check, bytes(data), source, etag, framed)

    def _on_thread(self, function, *arguments):
        return asyncio.get_running_loop().run_in_executor(self._decoders, function, *arguments)

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

    def _no_answer(self, error: Exception) -> Answer:
        """Put a network error into words that are the same for the same cause."""
        # yarl (aiohttp's URLs) and the codec of host names raise ValueErrors of several kinds.
        if isinstance(error, ValueError) and not isinstance(error, OSError):
            return Answer("gone", "its address is not a URL", received=False)
        for kinds, words in _CAUSES:
            if isinstance(error, kinds) or isinstance(error.__cause__, kinds):
                return Answer("failed", words, received=False)
        if isinstance(error, TimeoutError):
            return Answer("failed", f"not whole after {self.settings.whole:g} s")
        return Answer("failed", f"no answer ({type(error).__name__})", received=False)


def _by_status(response: aiohttp.ClientResponse, url: str) -> Answer | None:
    """Return the answer that status and headers give; None if the body decides."""
    status, location = response.status, ""
    if status in (301, 302, 303, 307, 308):
        location = absolute(response.headers.get("Location", ""), url)
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
    (aiohttp.ClientProxyConnectionError, "the proxy does not answer"),
    (aiohttp.ClientHttpProxyError, "the proxy refuses the connection"),
    (aiohttp.ClientResponseError, "the answer is not valid HTTP"),
    (ConnectionRefusedError, "connection refused"),
    (socket.gaierror, "no such host, or no network"),
    (aiohttp.ServerTimeoutError, "timed out"),
    ((aiohttp.ClientSSLError, ssl.SSLError), "no secure connection (TLS)"),
    (aiohttp.ClientPayloadError, "cut short"),
    (aiohttp.ClientConnectorError, "the host cannot be reached"),
    ((aiohttp.ServerDisconnectedError, ConnectionError), "the connection broke off"),
)


@functools.cache
def _tls_context() -> ssl.SSLContext:
    """Return the context of all connections: loading the CA certificates takes 40 ms."""
    bundle = os.environ.get("REQUESTS_CA_BUNDLE") or certifi.where()
    return ssl.create_default_context(**{"capath" if os.path.isdir(bundle) else "cafile": bundle})
