"""One photo: its sources in order, what each answers, and the outcome."""

import itertools
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import urlsplit

from openimager.photos import check
from openimager.photos.client import Answer, Client
from openimager.photos.pace import MIRROR, RATE, Paces
from openimager.photos.sources import FLICKR, Source, of_photo
from openimager.tables import catalogue


@dataclass(frozen=True)
class Settings:
    """What `fetch_rows` needs to know; picklable.

    Attributes
    ----------
    sources : tuple of str, optional
        As `sources.checked` returns them.
    base : str
        URL or directory that relative addresses are resolved against.
    workers : int
        Requests in flight.
    rate : float, optional
        Requests per second for each registered domain, 0 for no cap. By default `pace.RATE`, and
        no cap for loopback addresses. CVDF's mirror never has one.
    share : int
        Partitions in flight, which share the rate of every domain but Flickr's.
    flickr : bool
        Whether this partition may talk to Flickr. If not, Flickr counts as waiting, and a photo
        that no other source has comes back with the status ``"deferred"``.
    waits : dict
        Domains that refused earlier requests: until when (seconds since the epoch), and how often.
    connect, read, whole : float
        Seconds until a connection stands, between two blocks, and for a whole request.
    most_bytes, most_pixels : int
        Bounds of one photo, whatever the table says.
    tries, refusals, hops : int
        Requests for one photo at one source that may fail or be answered with 429, and redirects
        followed.
    backoff : float
        Seconds before a second try; they double from try to try, with jitter.
    pause, longest_pause : float
        Seconds that a domain waits after a 429 without Retry-After; they double.
    patience : float
        Seconds without a photo after which photos whose sources all wait have failed.
    flickr_domains : tuple of str
        Flickr's registered domains.
    """

    sources: tuple[str, ...] | None = None
    base: str = catalogue.BASE_URL
    workers: int = 32
    rate: float | None = None
    share: int = 1
    flickr: bool = True
    waits: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    connect: float = 10.0
    read: float = 30.0
    whole: float = 600.0
    most_bytes: int = 100 << 20
    most_pixels: int = check.MOST_PIXELS
    tries: int = 4
    refusals: int = 8
    hops: int = 5
    backoff: float = 1.0
    pause: float = 30.0
    longest_pause: float = 600.0
    patience: float = 1800.0
    flickr_domains: tuple[str, ...] = FLICKR

    def rate_of(self, domain: str, url: str) -> float:
        """Return the requests per second for a domain; 0 for no cap."""
        if urlsplit(url).hostname == MIRROR:
            return 0.0
        if self.rate is None and catalogue.is_loopback(url):
            return 0.0
        rate = RATE if self.rate is None else self.rate
        return rate if domain in self.flickr_domains else rate / self.share


_NONE: Mapping[str, str] = {}


class Outcome(NamedTuple):
    """The outcome of one photo, a row of what `fetch_rows` returns.

    Attributes
    ----------
    ImageID, Status, Source, Width, Height, Bytes, Error
        As in images.csv; Status may also be ``"deferred"``.
    Gone : dict
        Addresses that will never have the photo, and why.
    Skipped : str
        For a photo on disk: why earlier sources did not deliver it.
    """

    ImageID: str
    Status: str
    Source: str = ""
    Width: int | None = None
    Height: int | None = None
    Bytes: int | None = None
    Error: str = ""
    Gone: Mapping[str, str] = _NONE
    Skipped: str = ""


class Photo:
    """One photo on its way through its sources.

    Parameters
    ----------
    row : dict
        Its row of the table of photos; ``"Gone"`` may hold verdicts of earlier runs.
    settings : Settings
    """

    __slots__ = ("answer", "row", "sources")

    def __init__(self, row: dict, settings: Settings):
        self.row = row
        self.answer: Answer | None = None
        self.sources = of_photo(row, settings.sources, settings.base, settings.flickr_domains)
        gone = row.get("Gone")
        for source in self.sources:
            if isinstance(gone, Mapping) and source.address in gone:
                source.settle(gone[source.address], gone=True)
            elif not source.url and not source.path:
                reason = "its address is neither http nor https" if source.address else "no address"
                source.settle(reason, gone=True)

    def next_source(self, now: float) -> Source | None:
        """Return the first source that may be tried now."""
        for source in self.sources:
            waits = source.pace is not None and source.pace.waits(now)
            if not (source.done or waits or source.later > now):
                return source
        return None

    def outcome(self, status: str = "") -> Outcome:
        """Return the outcome: by default gone if every source says so, failed otherwise."""
        gone = {one.address: one.error for one in self.sources if one.gone}
        status = status or ("gone" if all(one.gone for one in self.sources) else "failed")
        return Outcome(self.row["ImageID"], status, Error=_reasons(self.sources), Gone=gone)

    def delivered(self, source: Source, answer: Answer) -> Outcome:
        """Return the outcome of a photo that has arrived, and keep it to be written."""
        self.answer = answer
        gone = {one.address: one.error for one in self.sources if one.gone} or _NONE
        before = _reasons(itertools.takewhile(lambda one: one is not source, self.sources))
        found = (source.name, answer.width, answer.height, len(answer.data))
        return Outcome(self.row["ImageID"], "ok", *found, "", gone, before)


def fetch_photo(photo: Photo, client: Client, paces: Paces, settings: Settings) -> Outcome | None:
    """Try the sources of one photo, in order, except those that wait.

    Parameters
    ----------
    photo : Photo
        It remembers what its sources have answered.
    client : Client
    paces : Paces
    settings : Settings

    Returns
    -------
    Outcome, optional
        None if every remaining source waits: call again later.
    """
    while not paces.stopped and (source := photo.next_source(time.monotonic())):
        answer = _ask(source, client, paces, settings)
        if answer is None:
            continue
        if answer.kind == "ok":
            return photo.delivered(source, answer)
        if answer.kind == "gone":
            source.settle(answer.error, gone=True)
            continue
        source.error = answer.error
        if answer.kind == "busy":
            source.refusals += 1
            source.done = source.refusals >= settings.refusals
        else:
            source.tries += 1
            source.done = source.tries >= settings.tries
            wait = settings.backoff * 2 ** (source.tries - 1) * random.uniform(0.5, 1.5)
            source.later = time.monotonic() + wait
    return photo.outcome() if all(source.done for source in photo.sources) else None


def _ask(source: Source, client: Client, paces: Paces, settings: Settings) -> Answer | None:
    """Request a photo, following redirects; None if a domain on the way waits."""
    if source.path:
        return client.ask(source)
    url, source.moved = source.moved or source.url, ""
    for _ in range(settings.hops + 1):
        pace = source.pace = paces.of(url)
        sent = paces.enter(pace)
        if sent is None:
            if pace.closed:
                source.settle(source.error or "its domain does not answer", gone=False)
            source.moved = url
            return None
        answer = client.ask(source, url)
        busy = (answer.kind == "busy") if answer.heard else None
        paces.answered(pace, sent, busy, answer.after)
        if answer.kind != "moved":
            return answer
        url = answer.location
    return Answer("gone", "redirects without end")


def _reasons(tried) -> str:
    reasons = []
    for source in tried:
        error = source.error
        if not error and source.pace is not None:
            error = f"waiting {source.pace.reason}"
        reasons.append(f"{source.name}: {error or 'not tried'}")
    return "; ".join(reasons)
