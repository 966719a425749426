"""One request for one photo, over kept connections, and what its answer means."""

import contextlib
import hashlib
import http.client
import os
import ssl
import threading
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import should_bypass_proxies

from openimager import metadata
from openimager.tables.fetch import USER_AGENT
from openimager.web import photo
from openimager.web.politeness import retry_after
from openimager.web.sources import absolute

_BLOCK = 1 << 16


@dataclass(frozen=True)
class Settings:
    """Bounds on one request and on one photo.

    Attributes
    ----------
    connect, read, whole : float
        Seconds until a connection stands, between two blocks, and for a whole request.
    most_bytes : int
        No photo is larger, whatever the table says of it. Flickr takes photos of up to 200 MB,
        but the largest that hold boxes are far smaller.
    most_pixels : int
        Width times height
    connections : int
        Open to one host at once.
    """

    connect: float = 10.0
    read: float = 30.0
    whole: float = 600.0
    most_bytes: int = 100 << 20
    most_pixels: int = photo.MOST_PIXELS
    connections: int = 16


class DiskTrouble(Exception):
    """A file cannot be written: the end of the run, not of one photo."""

    def __init__(self, path: str | os.PathLike, error: OSError):
        super().__init__(path, error)
        self.path, self.error = path, error


class Request(NamedTuple):
    """What to ask, where the bytes go, and what is known of them beforehand."""

    url: str
    part: Path
    size: int | None = None
    md5: str | None = None


class Answer(NamedTuple):
    """How one request ended.

    Attributes
    ----------
    kind : str
        ``"ok"`` (a checked photo stands at `Request.part`), ``"moved"`` (to `location`),
        ``"gone"`` (waiting will not mend it), ``"busy"`` (429) or ``"failed"``.
    error : str
        A few words; the same whenever the same happens.
    heard : bool
        Whether the server answered at all.
    after : float, optional
        Seconds that the server asks to wait.
    """

    kind: str
    error: str = ""
    heard: bool = True
    after: float | None = None
    location: str = ""
    width: int = 0
    height: int = 0
    size: int = 0


class Client:
    """Asks for photos over a pool of kept connections; threads share it.

    Pickled, it carries its settings alone: another process opens connections of its own.

    Parameters
    ----------
    settings : Settings
    """

    def __init__(self, settings: Settings = Settings()):
        self.settings = settings
        self.stop = threading.Event()
        self._session = _session(settings.connections)
        self._proxies = urllib.request.getproxies()

    def __reduce__(self):
        return Client, (self.settings,)

    def close(self) -> None:
        """Give up what is under way at its next block, and close the idle connections."""
        self.stop.set()
        self._session.close()

    def ask(self, request: Request) -> Answer:
        """Make one request, follow nothing, and keep the file only if it is a photo.

        Parameters
        ----------
        request : Request

        Returns
        -------
        Answer
            Whatever the server does.

        Raises
        ------
        DiskTrouble
            If `Request.part` cannot be written.
        """
        if fault := self._too_large(request.size or 0, None):
            return fault._replace(heard=False)
        keep = False
        try:
            answer = self._ask(request)
            keep = answer.kind == "ok"
        except OSError as error:
            raise DiskTrouble(request.part, error) from error
        finally:
            if not keep:
                request.part.unlink(missing_ok=True)
        return answer

    def _ask(self, request: Request) -> Answer:
        started = time.monotonic()
        try:
            response = self._get(request.url)
        except (OSError, ValueError, urllib3.exceptions.HTTPError) as error:
            return _no_answer(error)
        with response:
            answer = _by_status(response, request.url)
            if answer is not None:
                _drain(response)
                return answer
            framed = response.raw.chunked or "Content-Length" in response.headers
            encoded = response.headers.get("Content-Encoding", "identity") != "identity"
            length = response.headers.get("Content-Length", "")
            announced = int(length[:18]) if length.isdigit() and not encoded else None
            if fault := self._too_large(announced or 0, request.size):
                return fault
            return self._receive(response.raw, request, framed, started + self.settings.whole)

    def _get(self, url: str) -> requests.Response:
        # The adapter itself, because a session looks into each redirect, even if it is told to
        # follow none, and raises on those that lead nowhere.
        return self._session.get_adapter(url).send(
            self._session.prepare_request(requests.Request("GET", url)),
            stream=True,
            timeout=(self.settings.connect, self.settings.read),
            proxies=self._proxies_for(url),
        )

    def _receive(self, raw, request: Request, framed: bool, until: float) -> Answer:
        digest, size, head = hashlib.md5(usedforsecurity=False), 0, b""
        with open(request.part, "wb") as stream:
            while True:
                try:
                    block = raw.read1(_BLOCK, decode_content=True)
                except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
                    return _no_answer(error)
                if not block:
                    break
                size += len(block)
                if len(head) < photo.HEAD:
                    head = (head + block)[: photo.HEAD]
                    if len(head) == photo.HEAD and not photo.format_of(head):
                        return Answer("gone", photo.NO_PHOTO)
                if fault := self._too_large(size, request.size):
                    return fault
                digest.update(block)
                stream.write(block)
                if self.stop.is_set():
                    return Answer("failed", "interrupted")
                if time.monotonic() > until:
                    return Answer("failed", f"not whole after {self.settings.whole:g} s")
        return self._judge(request, digest, framed)

    def _judge(self, request: Request, digest, framed: bool) -> Answer:
        look = photo.judge(
            request.part,
            request.size,
            request.md5,
            self.settings.most_pixels,
            digest.digest(),
            whole=framed,
        )
        if look.fault == photo.DAMAGED and not framed:
            return Answer("failed", "cut short")
        if look.fault:
            return Answer("gone", look.fault)
        return Answer("ok", width=look.width, height=look.height, size=look.size)

    def _too_large(self, size: int, recorded: int | None) -> Answer | None:
        if recorded is not None and size > recorded:
            return Answer("gone", f"another photo: more than the {recorded:,} bytes recorded")
        if size > self.settings.most_bytes:
            return Answer("gone", f"larger than {self.settings.most_bytes:,} bytes")
        return None

    def _proxies_for(self, url: str) -> dict[str, str]:
        if not self._proxies or metadata.is_loopback(url) or should_bypass_proxies(url, None):
            return {}
        return self._proxies


def _by_status(response: requests.Response, url: str) -> Answer | None:
    """Return the answer that status and headers give; None if the body has to be looked at."""
    status = response.status_code
    if photo.PLACEHOLDER_PATH in url:
        return Answer("gone", photo.PLACEHOLDER)
    if status == 200:
        return None
    if status in (301, 302, 303, 307, 308):
        location = absolute(_location(response), url)
        if photo.PLACEHOLDER_PATH in location:
            return Answer("gone", photo.PLACEHOLDER)
        if not location:
            return Answer("gone", "sent to an address that is neither http nor https")
        return Answer("moved", location=location)
    wait = retry_after(response.headers.get("Retry-After"))
    if status == 429:
        return Answer("busy", "answered 429", after=wait)
    # These say "not now"; every other 4xx and 3xx says something about the address.
    if status >= 500 or status in (407, 408, 425) or status < 300:
        return Answer("failed", f"answered {status}", after=wait)
    return Answer("gone", f"answered {status}")


def _location(response: requests.Response) -> str:
    # http.client reads headers as latin-1, browsers read this one as UTF-8.
    location = response.headers.get("Location", "")
    with contextlib.suppress(UnicodeError):
        location = location.encode("latin-1").decode("utf-8")
    return location


def _drain(response: requests.Response) -> None:
    """Read a short body to its end, so that the connection can be used again."""
    length = response.headers.get("Content-Length", "")
    if length.isdigit() and len(length) < 6:
        with contextlib.suppress(urllib3.exceptions.HTTPError, OSError, ValueError):
            response.raw.read1(int(length))


def _no_answer(error: Exception) -> Answer:
    """Put a network error into words that are the same whenever the same happens."""
    # requests and urllib3 tell of a bad address by ValueErrors of several kinds.
    if (isinstance(error, ValueError) and not isinstance(error, OSError)) or isinstance(
        error, (requests.exceptions.InvalidURL, urllib3.exceptions.LocationValueError)
    ):
        return Answer("gone", "its address is no URL", heard=False)
    causes, cause = [], error
    while cause is not None and len(causes) < 8:
        causes.append(cause)
        inner = [arg for arg in getattr(cause, "args", ()) if isinstance(arg, Exception)]
        inner.append(getattr(cause, "reason", None))
        cause = next((one for one in inner if isinstance(one, Exception)), cause.__cause__)
    for kinds, words in (
        ((ConnectionRefusedError,), "connection refused"),
        ((urllib3.exceptions.NameResolutionError,), "no such host, or no network"),
        ((urllib3.exceptions.NewConnectionError,), "the host cannot be reached"),
        ((requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError), "timed out"),
        ((requests.exceptions.SSLError, ssl.SSLError), "no safe connection (TLS)"),
        ((requests.exceptions.ProxyError,), "the proxy does not answer"),
        ((http.client.IncompleteRead, urllib3.exceptions.IncompleteRead), "cut short"),
        ((http.client.RemoteDisconnected, ConnectionError), "the connection broke off"),
    ):
        if any(isinstance(cause, kinds) for cause in causes):
            return Answer("failed", words, heard=False)
    return Answer("failed", f"no answer ({type(causes[-1]).__name__})", heard=False)


class _Adapter(HTTPAdapter):
    """One TLS context for all connections: to read the list of authorities takes 40 ms."""

    def init_poolmanager(self, *args, **kwargs):
        context = urllib3.util.create_urllib3_context()
        bundle = os.environ.get("REQUESTS_CA_BUNDLE") or requests.certs.where()
        context.load_verify_locations(**{"capath" if os.path.isdir(bundle) else "cafile": bundle})
        super().init_poolmanager(*args, ssl_context=context, **kwargs)

    def cert_verify(self, conn, url, verify, cert):
        """Require a certificate, without naming the list again: that would have it read again."""
        conn.cert_reqs = "CERT_REQUIRED"


def _session(connections: int) -> requests.Session:
    session = requests.Session()
    # Proxies are looked up once, and passwords from ~/.netrc are nobody's business here.
    session.trust_env = False
    session.headers = requests.structures.CaseInsensitiveDict(
        {"User-Agent": USER_AGENT, "Accept": "image/jpeg,*/*;q=0.5", "Accept-Encoding": "identity"}
    )
    adapter = _Adapter(pool_maxsize=connections)
    for scheme in ("http://", "https://"):
        session.mount(scheme, adapter)
    return session
