"""How fast one registered domain is asked, and what a 429 changes."""

import email.utils
import ipaddress
import math
import random
import time
from urllib.parse import urlsplit

RATE = 10.0
"""Requests a second for each registered domain where nothing else is asked for."""

# Registries that hand out names at the third label. A domain under one that is missing here is
# taken for a part of the registry's: slower than it need be, never ruder.
_SECOND_LEVEL = {
    "ar": ("com",),
    "au": ("com", "net", "org"),
    "br": ("com", "net", "org"),
    "cn": ("com",),
    "hk": ("com",),
    "in": ("co",),
    "jp": ("ac", "co", "ne", "or"),
    "kr": ("co",),
    "mx": ("com",),
    "nz": ("co", "org"),
    "sg": ("com",),
    "tr": ("com",),
    "tw": ("com",),
    "uk": ("ac", "co", "gov", "org"),
    "za": ("co",),
}
_UNCAPPED = 0.02
_RECOVERY = 20


def registered_domain(url: str) -> str:
    """Return what counts as one place: the last two labels of the host, or three under co.uk.

    An address, or a name without dots, stands for itself, with its port.

    Examples
    --------
    >>> registered_domain("https://farm4.staticflickr.com/3/a_o.jpg")
    'staticflickr.com'
    >>> registered_domain("https://images.example.co.uk/a.jpg")
    'example.co.uk'
    >>> registered_domain("http://127.0.0.1:8000/a.jpg"), registered_domain("http://nas/a.jpg")
    ('127.0.0.1:8000', 'nas:80')
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    labels = host.split(".")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if len(labels) > 1:
            three = labels[-2] in _SECOND_LEVEL.get(labels[-1], ())
            return ".".join(labels[-3 if three else -2 :])
    return f"{host}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def retry_after(value: str | None, now: float | None = None) -> float | None:
    """Return the seconds that a Retry-After header asks for; None if it says nothing.

    Parameters
    ----------
    value : str, optional
        Seconds, or a date (RFC 9110, 10.2.3).
    now : float, optional
        Seconds since the epoch; the clock's by default.

    Examples
    --------
    >>> retry_after("120"), retry_after("soon")
    (120.0, None)
    >>> retry_after("Thu, 01 Jan 1970 00:01:00 GMT", now=30.0)
    30.0
    """
    value = (value or "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:12])
    try:
        date = email.utils.parsedate_to_datetime(value).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
    return max(0.0, date - (time.time() if now is None else now))


class Pace:
    """When the next request to one registered domain may go.

    It reads no clock and never sleeps: times go in, times come out, so that one thread can keep
    the pace of many domains while others go on.

    A 429 makes the domain wait for as long as it asks (bounded), then halves its rate; after
    that it is sent one request at a time until one is answered otherwise, and from there each
    such answer gives back a twentieth of its usual rate. Answers to requests that were under way
    when a 429 arrived are no news, so that one burst is one 429.

    Parameters
    ----------
    rate : float
        Requests a second; 0 for no cap.
    backoff : float
        Seconds to wait after a first 429 without Retry-After; they double with each 429.
    longest_wait : float
        Seconds: the bound of every wait.
    strikes : int
        429s in a row after which the domain is left alone.
    slowest : float
        Seconds between requests that 429s do not lengthen any further.

    Examples
    --------
    >>> pace = Pace(rate=10, backoff=1, longest_wait=120, strikes=8)
    >>> pace.sent(now=0.0)
    >>> pace.wait(now=0.0)
    0.1
    >>> pace.answered(sent=0.0, now=0.3, busy=True, after=30.0)
    >>> pace.wait(now=0.3), pace.interval
    (30.0, 0.2)
    """

    def __init__(
        self,
        rate: float,
        backoff: float,
        longest_wait: float,
        strikes: int,
        slowest: float = 2.0,
    ):
        self.usual = self.interval = 1.0 / rate if rate > 0 else 0.0
        self.backoff, self.longest_wait, self.allowed = backoff, longest_wait, strikes
        self.slowest = max(slowest, 2 * self.usual)
        self.strikes = 0
        self._running = 0
        self._next = -math.inf
        self._last_strike = -math.inf

    @property
    def closed(self) -> bool:
        """Whether the domain is left alone for the rest of the run."""
        return self.strikes >= self.allowed

    def wait(self, now: float) -> float:
        """Return the seconds until a request may go; infinite if an answer must come first."""
        if self.strikes and self._running:
            return math.inf
        return max(0.0, self._next - now)

    def sent(self, now: float) -> None:
        """Take note that a request goes now."""
        self._running += 1
        self._next = max(self._next, now) + self.interval

    def answered(
        self, sent: float, now: float, busy: bool | None, after: float | None = None
    ) -> None:
        """Take note of how the request that went at `sent` ended.

        Parameters
        ----------
        sent, now : float
            Seconds on one clock.
        busy : bool, optional
            True for a 429, False for any other answer, None if there was none.
        after : float, optional
            Seconds that the 429 asked for.
        """
        self._running -= 1
        stale = sent <= self._last_strike
        if busy:
            if not stale:
                self.strikes += 1
                self._last_strike = now
                self.interval = min(2 * (self.interval or _UNCAPPED), self.slowest)
            if after is None:
                after = self.backoff * 2 ** (self.strikes - 1) * random.uniform(1.0, 1.5)
            pause = max(min(after, self.longest_wait), self.interval)
            self._next = max(self._next, now + pause)
        elif busy is False and not stale:
            self.strikes = 0
            self._recover()

    def _recover(self) -> None:
        if self.interval > self.usual:
            # What has no cap counts as recovered at a rate that hardly differs from none.
            usual = self.usual or _UNCAPPED
            self.interval = 1 / (1 / self.interval + 1 / (usual * _RECOVERY))
            if self.interval <= usual * 1.001:
                self.interval = self.usual
