"""One photo: its sources in order, what each answers, and the outcome."""

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
    """What `fetch_rows` needs to know; picklable. Times are in seconds."""

    sources: tuple[str, ...] | None = None  # as `sources.checked` returns them
    base: str = catalogue.BASE_URL  # URL or directory that relative addresses start from
    workers: int = 32  # requests in flight
    rate: float | None = None  # as for `openimager.download`
    share: int = 1  # partitions in flight, which share the rate of every domain but Flickr's
    # Whether this partition may talk to Flickr. If not, Flickr counts as waiting, and a photo that
    # no other source has comes back with the status "deferred".
    flickr: bool = True
    # Domains that refused earlier requests: until when (since the epoch), and how often.
    waits: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    connect: float = 10.0  # until a connection stands
    read: float = 30.0  # between two blocks
    whole: float = 600.0  # for a whole request
    most_bytes: int = 100 << 20  # bounds of one photo, whatever the table says
    most_pixels: int = check.MOST_PIXELS
    tries: int = 4  # requests for one photo at one source that may fail
    refusals: int = 8  # or be answered with 429
    hops: int = 5  # redirects followed
    backoff: float = 1.0  # before a second try; doubles from try to try, with jitter
    pause: float = 30.0  # after a 429 without Retry-After; doubles
    longest_pause: float = 600.0
    patience: float = 1800.0  # without a photo, after which those whose sources all wait failed
    flickr_domains: tuple[str, ...] = FLICKR

    def rate_of(self, domain: str, url: str) -> float:
        """Return the requests per second for a domain; 0 for no cap."""
        if urlsplit(url).hostname == MIRROR:
            return 0.0
        if self.rate is None and catalogue.is_loopback(url):
            return 0.0
        rate = RATE if self.rate is None else self.rate
        return rate if domain in self.flickr_domains else rate / self.share


class Outcome(NamedTuple):
    """The outcome of one photo, a row of what `fetch_rows` returns: as in images.csv, and more."""

    ImageID: str
    Status: str  # "ok", "gone", "failed" or "deferred"
    Source: str = ""
    Width: int | None = None
    Height: int | None = None
    Bytes: int | None = None
    Error: str = ""
    Gone: Mapping[str, str] | None = None  # addresses that will never have the photo, and why
    Skipped: str = ""  # of a photo on disk: why earlier sources did not deliver it


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
        gone = row.get("Gone") or {}
        for source in self.sources:
            if source.address in gone:
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
        status = status or ("gone" if all(one.gone for one in self.sources) else "failed")
        error = _reasons(self.sources)
        return Outcome(self.row["ImageID"], status, Error=error, Gone=self._gone())

    def delivered(self, source: Source, answer: Answer) -> Outcome:
        """Return the outcome of a photo that has arrived, and keep it to be written."""
        self.answer = answer
        skipped = _reasons(self.sources[: self.sources.index(source)])
        found = (source.name, answer.width, answer.height, len(answer.data))
        return Outcome(self.row["ImageID"], "ok", *found, "", self._gone(), skipped)

    def _gone(self) -> dict[str, str] | None:
        return {one.address: one.error for one in self.sources if one.gone} or None


def fetch_photo(photo: Photo, client: Client, paces: Paces, settings: Settings) -> Outcome | None:
    """Try the sources of one photo, in order, except those that wait.

    The photo remembers what they have answered. None means that every remaining source waits: call
    again later.
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
