"""One photo: the settings of a run, the photo's sources in order, and its outcome."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote, urljoin, urlsplit

from openimager import cluster
from openimager.errors import BadInput
from openimager.files import is_local
from openimager.photos import check
from openimager.photos.pace import MIRROR, RATE, Pace, registered_domain
from openimager.store import PHOTO_COLUMNS
from openimager.tables import catalogue

NAMES = ("flickr", "cvdf", "thumbnail")
CHANGES = {
    "flickr": "none",
    "cvdf": "scaled down to at most 1,024 pixels (CVDF)",
    "thumbnail": "scaled down to a thumbnail (Flickr)",
}

_COLUMN = re.compile(rf"\{{({'|'.join(PHOTO_COLUMNS)})\}}")
_TEMPLATE = re.compile(rf"(?i:https?)://[^{{}}]*({_COLUMN.pattern}[^{{}}]*)+")


@dataclass(frozen=True)
class Settings:
    """What fetching needs to know; picklable. Times are in seconds."""

    sources: tuple[str, ...] | None = None  # as `checked_sources` returns them
    base: str = catalogue.BASE_URL  # URL or directory that relative addresses start from
    workers: int = 32  # requests in flight
    rate: float | None = None  # as for `openimager.download`
    share: int = 1  # partitions in flight, which share the rate of every domain but Flickr's
    # Whether this partition may talk to Flickr. If not, Flickr counts as waiting, and a photo that
    # no other source has comes back with the status "deferred".
    flickr: bool = True
    # Domains that wait, as `Client.waiting` returned them.
    waits: Mapping[str, tuple[float, int, str]] = field(default_factory=dict)
    connect: float = 10.0  # until a connection stands
    read: float = 30.0  # between two blocks
    whole: float = 600.0  # for a whole request
    most_bytes: int = 100 << 20  # bounds of one photo, whatever the table says
    most_pixels: int = check.MOST_PIXELS
    tries: int = 4  # failures that end one photo at one source
    refusals: int = 8  # the same for answers of 429
    hops: int = 5  # redirects followed
    backoff: float = 1.0  # before a second try; doubles from try to try, with jitter
    pause: float = 30.0  # after a 429 without Retry-After; doubles
    longest_pause: float = 600.0
    # If no photo arrives for so long before the next try is due, those that are left fail.
    patience: float = 1800.0
    flickr_domains: tuple[str, ...] = ("staticflickr.com", "flickr.com")

    @property
    def asked(self) -> str:
        """The sources as one text, kept with a photo that is gone: other sources may have it."""
        return " ".join(self.sources or ("by default",))

    def rate_of(self, domain: str, url: str) -> float:
        """Return the requests per second for a domain; 0 for no cap."""
        free = self.rate is None and catalogue.is_loopback(url)
        if free or urlsplit(url).hostname == MIRROR:
            return 0.0
        rate = RATE if self.rate is None else self.rate
        return rate if domain in self.flickr_domains else rate / self.share


class Outcome(NamedTuple):
    """The outcome of fetching one photo: columns of images.csv, and more."""

    ImageID: str
    Status: str  # "ok", "gone", "failed" or "deferred"
    Source: str = ""
    Width: int | None = None
    Height: int | None = None
    Bytes: int | None = None
    Error: str = ""
    Gone: Mapping[str, str] | None = None  # addresses that will never have the photo, and why
    Asked: str = ""  # `Settings.asked`, if the photo is gone
    Skipped: str = ""  # of a photo on disk: why earlier sources did not deliver it


@dataclass(slots=True)
class Source:
    """One source of one photo, and what it has answered so far."""

    name: str  # one of `NAMES`, or the template
    address: str  # as the table has it, perhaps relative; the key in Outcome.Gone
    url: str  # an absolute http or https URL, or empty
    path: Path | None = None  # the file, if the address is relative and the site a directory
    size: int | None = None  # OriginalSize and OriginalMD5 (base64), which only originals have
    md5: str | None = None
    pace: Pace | None = None  # of the domain of the next try
    moved: str = ""  # target of a redirect to a domain that waits
    tries: int = 0  # failed requests
    refusals: int = 0  # requests answered with 429
    later: float = 0.0  # when the next try may begin, on the monotonic clock
    error: str = ""  # why it did not deliver the photo
    gone: bool = False  # whether it will never have the photo
    done: bool = False  # whether it is not to be asked again in this run

    def settle(self, error: str, gone: bool) -> None:
        """Record that the source is not to be asked again in this run."""
        self.error, self.gone, self.done = error, gone, True

    def wake(self, now: float) -> float:
        """Return when it may be tried; infinite if never, or while its domain is being probed."""
        if self.done:
            return math.inf
        if self.pace is None or not self.pace.waits(now):
            return self.later
        return max(self.later, self.pace.until) if self.pace.until > now else math.inf


class Photo:
    """One photo on its way through its sources."""

    __slots__ = ("data", "row", "settings", "sources")

    def __init__(self, row: Mapping, settings: Settings):
        self.row, self.settings, self.data = row, settings, b""
        self.sources = sources_of(row, settings)

    def wake(self, now: float) -> float:
        """Return when one of its sources may be tried; infinite as for a source."""
        return min(source.wake(now) for source in self.sources)

    def ready(self, now: float) -> Source | None:
        """Return the first source that may be tried now."""
        return next((source for source in self.sources if source.wake(now) <= now), None)

    def outcome(self, status: str = "") -> Outcome:
        """Return the outcome: by default gone if every source says so, failed otherwise."""
        status = status or ("gone" if all(one.gone for one in self.sources) else "failed")
        gone = {one.address: one.error for one in self.sources if one.gone} or None
        asked = self.settings.asked if status == "gone" else ""
        error = reasons(self.sources)
        return Outcome(self.row["ImageID"], status, Error=error, Gone=gone, Asked=asked)


def reasons(tried: Iterable[Source]) -> str:
    """Say why sources did not deliver a photo."""
    waits = {one.name: f"waiting {one.pace.reason}" for one in tried if one.pace}
    return "; ".join(f"{o.name}: {o.error or waits.get(o.name, 'not tried')}" for o in tried)


def checked(
    settings: Settings, source=None, workers=32, rate=None, processes=1, executor=None
) -> Settings:
    """Return settings with options of `openimager.download`; BadInput if one cannot be used."""
    cluster.check_counts(workers, processes, executor)
    if rate is not None and not (rate >= 0 and math.isfinite(rate)):
        raise BadInput(f"The rate is {rate} per second; it must be 0 (no cap) or more.")
    return replace(settings, sources=checked_sources(source), workers=workers, rate=rate)


def checked_sources(source: str | Iterable[str] | None) -> tuple[str, ...] | None:
    """Return sources as a tuple, or None; BadInput for what is neither a name nor a template."""
    if source is None:
        return None
    sources = (source,) if isinstance(source, str) else tuple(source)
    for one in sources or ("",):
        if one not in NAMES and not _TEMPLATE.fullmatch(one):
            raise BadInput(
                f"Unknown source '{one}'. Allowed: {', '.join(NAMES)}, or a URL with columns, such "
                f"as https://host/{{Subset}}/{{ImageID}}.jpg, of: {', '.join(PHOTO_COLUMNS)}."
            )
    return tuple(dict.fromkeys(sources))


def sources_of(row: Mapping, settings: Settings) -> list[Source]:
    """Return the sources of a photo, in order; in its row, ``""`` stands for a missing value.

    CVDF mirrors what Open Images took from Flickr. By default it is therefore not asked for a
    photo whose OriginalURL is elsewhere, as in the drawn sample or a site of one's own. Sources
    that are in the row's Gone, or have no address, are settled.
    """
    found, gone, local = [], row.get("Gone") or {}, is_local(settings.base)
    for name in settings.sources or NAMES[:2]:
        if name in ("flickr", "thumbnail"):
            address = row["OriginalURL" if name == "flickr" else "Thumbnail300KURL"]
        elif settings.sources or registered_domain(found[0].url) in settings.flickr_domains:
            template = catalogue.CVDF_URL if name == "cvdf" else name
            address = _COLUMN.sub(lambda field: quote(str(row[field[1]]), safe=""), template)
        else:
            continue
        size, md5 = original(row) if name == "flickr" else (None, None)
        path = _local(address, settings.base) if local else None
        url = absolute(address, "" if local else settings.base)
        source = Source(name, address, url, path, size, md5)
        found.append(source)
        if address in gone:
            source.settle(gone[address], gone=True)
        elif not url and not path:
            reason = "its address is neither http nor https" if address else "no address"
            source.settle(reason, gone=True)
    return found


def original(row: Mapping) -> tuple[int | None, str | None]:
    """Return OriginalSize and OriginalMD5, None where they are not recorded."""
    return max(int(row["OriginalSize"] or 0), 0) or None, row["OriginalMD5"] or None


def absolute(address: str, base: str = "") -> str:
    """Resolve an address as a browser would; empty unless that is http or https with a host."""
    try:
        url = urljoin(base, address) if address else ""
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        return ""
    return url if sound else ""


def _local(address: str, base: str) -> Path | None:
    """Return the file of a relative address; `Client._read` checks that it is inside the site."""
    try:
        scheme, host, path, *_ = urlsplit(address)
    except ValueError:
        return None
    path = unquote(path)
    return None if scheme or host or not path or "\0" in path else Path(base, path)
