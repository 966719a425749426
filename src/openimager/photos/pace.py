"""Politeness: how fast each registered domain is asked, and how long it is left alone."""

import ipaddress
import math
from dataclasses import dataclass
from urllib.parse import urlsplit

RATE = 10.0  # requests per second for each registered domain by default
# Limited by the number of workers alone: CVDF's mirror on S3 does not throttle.
MIRROR = "open-images-dataset.s3.amazonaws.com"

# Registries below the domain of a country, such as co.uk. Hosts below a registry that is not listed
# share one pace: slower than necessary, never too fast.
_REGISTRIES = {"ac", "co", "com", "gov", "ne", "net", "or", "org"}
# At most 12 requests are in flight until a domain has answered 36, so that one that throttles after
# 20 to 30 photos refuses only a few.
TRIAL_WINDOW, _TRIAL = 12, 36
# After 8 unanswered requests in a row the domain waits; after 4 unanswered probes it is given up.
_SILENT, _PROBES = 8, 4


def registered_domain(url: str) -> str:
    """Return the last two labels of the host, or three below a registry such as co.uk.

    An IP address, or a name without dots, stands for itself, with its port.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    labels = host.split(".")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if len(labels) > 1:
            below = len(labels[-1]) == 2 and labels[-2] in _REGISTRIES
            return ".".join(labels[-3 if below else -2 :])
    return f"{host}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


@dataclass(eq=False)
class Pace:
    """When the next request to one registered domain may go.

    It reads no clock and never sleeps: times go in and delays come out.

    A domain *waits* after a 429 or a Retry-After, or after several requests without any answer.
    After the wait it is probed by one request at a time; an answer opens it again, and each one
    lets one more request be in flight. If a request that was in flight when the wait began is
    refused, this can prolong that wait, but does not double the next wait.

    Examples
    --------
    >>> pace = Pace(rate=10)
    >>> pace.sent(now=0.0)
    >>> pace.delay(now=0.0)
    0.1
    >>> pace.answered(sent=0.0, now=0.3, busy=True, after=25.0)
    >>> pace.waits(now=0.3), pace.until, pace.waits(now=25.4)
    (True, 25.3, False)
    """

    rate: float = 0.0  # requests per second; 0 for no cap
    window: float = math.inf  # requests in flight until the domain has proven itself
    pause: float = 30.0  # seconds to wait after a 429 without Retry-After; doubles
    longest: float = 600.0  # bound of the pause
    backoff: float = 1.0  # seconds to wait after several requests without an answer; doubles
    strikes: int = 0  # refusals and silences since the last answer that was no refusal
    silent: int = 0  # requests without an answer since the last answer that was no refusal
    running: int = 0
    answers: int = 0
    until: float = -math.inf  # end of the wait
    struck: float = -math.inf  # when the last wait began
    next: float = -math.inf  # when the rate allows another request
    reason: str = ""

    @property
    def closed(self) -> bool:
        """Whether the domain is given up, because no probe of it was answered."""
        return self.silent >= _SILENT + _PROBES

    def waits(self, now: float) -> bool:
        """Tell whether the domain waits, or is being probed."""
        return self.strikes > 0 and not self.closed and (now < self.until or self.running > 0)

    def delay(self, now: float) -> float:
        """Return the seconds until a request may go; infinite if an answer must come first."""
        return math.inf if self.running >= self.window else max(0.0, self.next - now)

    def sent(self, now: float) -> None:
        """Record that a request goes now."""
        self.running += 1
        self.next = max(self.next, now) + (1.0 / self.rate if self.rate > 0 else 0.0)

    def answered(self, sent: float, now: float, busy: bool | None, after: float | None = None):
        """Record how a request ended: `busy` is a 429, None no answer; `after` is Retry-After."""
        self.running -= 1
        if busy or after is not None:
            self._strike(sent, now, after, "after 429" if busy else "as the server asked")
        elif sent <= self.struck:
            return
        elif busy is None:
            self.silent += 1
            if self.silent >= _SILENT:
                wait = self.backoff * 2 ** (self.silent - _SILENT)
                self._strike(sent, now, wait, "because it does not answer")
        else:
            self.strikes = self.silent = 0
            self.answers += 1
            if self.struck > -math.inf:
                self.window += 1
            elif self.answers >= _TRIAL:
                self.window = math.inf

    def _strike(self, sent: float, now: float, after: float | None, reason: str) -> None:
        if sent > self.struck:
            self.strikes += 1
            self.struck = now
        self.window, self.reason = 1, reason
        growth = 2 ** min(self.strikes - 1, 16)
        # A server that keeps refusing after its own Retry-After is asked more and more seldom.
        pause = self.pause if after is None else self.pause / 64
        after = max(after or 0.0, min(pause * growth, self.longest))
        self.until = max(self.until, now + after)
