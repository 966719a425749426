"""Which request goes next: many photos, few workers, one pace for each domain."""

import heapq
import itertools
import math
import queue
import random
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from openimager import metadata
from openimager.web.client import Answer, Request
from openimager.web.politeness import RATE, Pace, registered_domain
from openimager.web.sources import Source


@dataclass(frozen=True)
class Patience:
    """How often and how long we try.

    Attributes
    ----------
    rate : float, optional
        Requests a second for each registered domain, 0 for no cap. By default `RATE`, and no cap
        for this machine itself.
    tries : int
        Requests for one photo at one source before the next source has its turn.
    strikes : int
        429s in a row after which a domain is left alone.
    hops : int
        Redirects followed for one photo at one source.
    backoff : float
        Seconds before a second try; they double from try to try, with jitter.
    longest_wait : float
        Seconds: the bound of every wait, whatever Retry-After says.
    slowest : float
        Seconds between requests to a domain that 429s do not lengthen any further.
    ahead : int
        Photos that may be under way or waiting for a slow domain.
    """

    rate: float | None = None
    tries: int = 4
    strikes: int = 8
    hops: int = 5
    backoff: float = 1.0
    longest_wait: float = 120.0
    slowest: float = 2.0
    ahead: int = 1000

    def pace(self, url: str) -> Pace:
        """Return the pace at which the domain of `url` is asked."""
        rate = self.rate
        if rate is None:
            rate = 0.0 if metadata.is_loopback(url) else RATE
        return Pace(rate, self.backoff, self.longest_wait, self.strikes, self.slowest)


@dataclass(slots=True)
class Task:
    """One photo on its way through its sources.

    `gone` maps the addresses that have nothing for us to the reason, also those of earlier runs.
    """

    row: dict
    sources: list[Source]
    part: Path
    gone: dict[str, str] = field(default_factory=dict)
    at: int = 0
    url: str = ""
    domain: str = ""
    failures: int = 0
    hops: int = 0
    sent: float = 0.0
    reasons: list[str] = field(default_factory=list)

    @property
    def source(self) -> Source:
        """The source that has its turn."""
        return self.sources[self.at]

    @property
    def is_gone(self) -> bool:
        """Whether every source has said that it will never have this photo."""
        return all(source.address in self.gone for source in self.sources)


class Traffic:
    """Sends each photo's requests when its domain may be asked, over a few worker threads.

    All decisions are taken in the thread that calls `run`; the workers only call `ask`. A photo
    that has to wait is put aside and keeps no worker from another one.

    Parameters
    ----------
    ask : callable
        Takes a `Request`, returns its `Answer`.
    workers : int
        Requests under way at once.
    patience : Patience
    say : callable
        Takes a sentence for the user.
    """

    def __init__(
        self,
        ask: Callable[[Request], Answer],
        workers: int,
        patience: Patience,
        say: Callable[[str], None],
    ):
        self.patience, self.workers, self.say = patience, workers, say
        self._paces: dict[str, Pace] = {}
        self._waiting: OrderedDict[str, deque[Task]] = OrderedDict()
        self._later: list[tuple[float, int, Task]] = []
        self._count = itertools.count()
        self._running = 0
        self._unfinished = 0
        self._todo: queue.SimpleQueue = queue.SimpleQueue()
        self._answers: queue.SimpleQueue = queue.SimpleQueue()
        # Daemons, because Ctrl-C should not have to wait for a host that hangs.
        for _ in range(workers):
            threading.Thread(
                target=_work, args=(ask, self._todo, self._answers), daemon=True
            ).start()

    def run(
        self,
        more: Callable[[], Task | None],
        finished: Callable[[Task, Answer], None],
    ) -> None:
        """Bring every photo to its end.

        Parameters
        ----------
        more : callable
            Returns the next photo, or None when there is none left.
        finished : callable
            Called in this thread with each photo and its last answer: ``"ok"``, ``"gone"`` from
            every source, or ``"failed"``.

        Raises
        ------
        DiskTrouble
            From `ask`.
        """
        self._finished = finished
        exhausted = False
        while True:
            pause = self._send()
            # Photos are made ready only for workers that have nothing to do.
            idle = self._running < self.workers and self._unfinished < self.patience.ahead
            if idle and not exhausted:
                task = more()
                exhausted = task is None
                if task:
                    self._unfinished += 1
                    self._queue(task)
                continue
            if exhausted and not self._unfinished:
                return
            try:
                # Bounded, because on Windows Ctrl-C does not end a wait.
                task, answer = self._answers.get(timeout=min(pause, 0.5))
            except queue.Empty:
                continue
            self._running -= 1
            if isinstance(answer, BaseException):
                raise answer
            self._take(task, answer)

    def close(self) -> None:
        """Let the workers go, each after the request that it is at."""
        for _ in range(self.workers):
            self._todo.put(None)

    def _send(self) -> float:
        """Send what may go now; return the seconds until something else may."""
        now = time.monotonic()
        while self._later and self._later[0][0] <= now:
            self._queue(heapq.heappop(self._later)[2])
        pause = self._later[0][0] - now if self._later else math.inf
        # One request for each domain in turn, until nothing more may go.
        went = True
        while went and self._running < self.workers:
            went = False
            for domain in list(self._waiting):
                wait = self._paces[domain].wait(now)
                if wait > 0:
                    pause = min(pause, wait)
                elif self._running < self.workers:
                    self._dispatch(domain, now)
                    went = True
        return max(pause, 0.0)

    def _dispatch(self, domain: str, now: float) -> None:
        tasks = self._waiting[domain]
        task = tasks.popleft()
        if tasks:
            self._waiting.move_to_end(domain)
        else:
            del self._waiting[domain]
        self._paces[domain].sent(now)
        task.sent = now
        self._running += 1
        source = task.source
        self._todo.put((task, Request(task.url, task.part, source.size, source.md5)))

    def _queue(self, task: Task) -> None:
        """Put a photo where its next request waits; finish it if it has no source left."""
        while task.at < len(task.sources):
            source = task.source
            reason = task.gone.get(source.address)
            if reason is None and not source.url:
                reason = task.gone[source.address] = (
                    "its address is neither http nor https" if source.address else "no address"
                )
            if reason is None:
                task.url = task.url or source.url
                task.domain = registered_domain(task.url)
                pace = self._paces.get(task.domain)
                if pace is None:
                    pace = self._paces[task.domain] = self.patience.pace(task.url)
                if not pace.closed:
                    self._waiting.setdefault(task.domain, deque()).append(task)
                    return
                reason = "left alone after too many 429s"
            self._next_source(task, reason)
        self._finish(task, Answer("gone" if task.is_gone else "failed", "; ".join(task.reasons)))

    def _next_source(self, task: Task, reason: str) -> None:
        task.reasons.append(f"{task.source.name}: {reason}")
        task.at += 1
        task.url, task.failures, task.hops = "", 0, 0

    def _take(self, task: Task, answer: Answer) -> None:
        """Decide what follows from an answer."""
        now = time.monotonic()
        self._slow_down(task, answer, now)
        if answer.kind == "ok":
            return self._finish(task, answer)
        if answer.kind == "moved" and task.hops < self.patience.hops:
            task.hops += 1
            task.url = answer.location
            return self._queue(task)
        if answer.kind in ("busy", "failed"):
            task.failures += 1
            task.url, task.hops = "", 0
            if answer.kind == "busy" and task.failures < self.patience.strikes:
                return self._queue(task)
            if answer.kind == "failed" and task.failures < self.patience.tries:
                wait = self.patience.backoff * 2 ** (task.failures - 1) * random.uniform(0.5, 1.5)
                wait = min(max(wait, answer.after or 0.0), self.patience.longest_wait)
                heapq.heappush(self._later, (now + wait, next(self._count), task))
                return None
            self._next_source(task, answer.error)
        else:
            reason = "redirects without end" if answer.kind == "moved" else answer.error
            task.gone[task.source.address] = reason
            self._next_source(task, reason)
        return self._queue(task)

    def _slow_down(self, task: Task, answer: Answer, now: float) -> None:
        pace = self._paces[task.domain]
        was_closed = pace.closed
        busy = (answer.kind == "busy") if answer.heard else None
        pace.answered(task.sent, now, busy, answer.after)
        if pace.closed and not was_closed:
            self.say(
                f"{task.domain} answered 429 (too many requests) {pace.strikes} times in a row. It "
                "is left alone for the rest of this run; run again later for what is missing."
            )
            for other in self._waiting.pop(task.domain, ()):
                self._queue(other)

    def _finish(self, task: Task, answer: Answer) -> None:
        self._unfinished -= 1
        self._finished(task, answer)


def _work(ask, todo: queue.SimpleQueue, answers: queue.SimpleQueue) -> None:
    while (item := todo.get()) is not None:
        task, request = item
        try:
            answers.put((task, ask(request)))
        except BaseException as error:
            answers.put((task, error))
