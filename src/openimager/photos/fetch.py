"""Fetching a table of photos on threads: one outcome row per photo."""

import heapq
import itertools
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from openimager.photos import check
from openimager.photos.client import Client
from openimager.photos.journal import Journal, begun_before
from openimager.photos.pace import Pace, Paces
from openimager.photos.photo import Outcome, Photo, Settings, fetch_photo
from openimager.photos.sources import of_photo
from openimager.store import PHOTO_COLUMNS, Store

if TYPE_CHECKING:
    import pandas as pd

_BLOCK = 256


def fetch_rows(
    rows: "pd.DataFrame",
    store: Store,
    settings: Settings,
    progress: Callable[[int, str], None] | None = None,
    journal: str = "",
) -> "pd.DataFrame":
    """Fetch a table of photos on `Settings.workers` threads.

    Photos are written through the store, outcomes to a journal there.

    Parameters
    ----------
    rows : pandas.DataFrame
        `store.PHOTO_COLUMNS`, and Gone, if verdicts of earlier runs are known.
    store : Store
    settings : Settings
    progress : callable, optional
        Called now and then with the number of photos done and what is being waited for.
    journal : str
        Name of the journal to write, from `journal.new_name`; a new one by default.

    Returns
    -------
    pandas.DataFrame
        The fields of `Outcome`, a row for each of `rows` in their order. ``attrs["waits"]`` is
        what the next call should get as `Settings.waits`.

    Raises
    ------
    OSError
        If a photo or the journal cannot be written. Whole photos are kept.
    """
    import pandas as pd

    with Journal(store, journal) as log:
        run = _Run(rows, store, settings, log)
        try:
            run.wait(progress)
        finally:
            run.stop()
    outcomes = [run.outcomes[image_id] for image_id in rows["ImageID"]]
    frame = pd.DataFrame(outcomes, columns=Outcome._fields, dtype=object)
    frame.attrs["waits"] = {
        domain: [until, strikes]
        for domain, (until, strikes, _) in run.paces.waiting().items()
        if until < math.inf
    }
    return frame


class _Run:
    """The photos of one call: fresh ones, those whose sources wait, and the threads at work."""

    def __init__(self, rows: "pd.DataFrame", store: Store, settings: Settings, journal: Journal):
        self.store, self.settings, self.journal = store, settings, journal
        waits = dict(settings.waits)
        if not settings.flickr:
            waits |= dict.fromkeys(settings.flickr_domains, (math.inf, 1))
        self.paces = Paces(settings, waits)
        self.client = Client(settings)
        self.outcomes: dict[str, Outcome] = {}
        self.error: BaseException | None = None
        self._changed = self.paces.changed
        self._fresh = _records(rows)
        self._later: list[tuple[float, int, Photo]] = []
        self._parked: dict[tuple[Pace, ...], deque[Photo]] = {}
        self._count = itertools.count()
        self._flying = self._idle = self._committing = 0
        self._over = False
        self._last = time.monotonic()
        self._alive = min(settings.workers, len(rows))
        # Daemons, because Ctrl-C should not wait for a host that hangs.
        for _ in range(self._alive):
            threading.Thread(target=self._work, daemon=True).start()

    def wait(self, progress: Callable[[int, str], None] | None) -> None:
        """Wait until every photo has an outcome, or for the first error."""
        while True:
            with self._changed:
                if self._alive and not self.error:
                    self._changed.wait(0.25)
                alive = self._alive
            if self.error:
                raise self.error
            if progress:
                progress(len(self.outcomes), self._message())
            if not alive:
                return

    def stop(self) -> None:
        """Abandon what is in flight, except a photo that is being written."""
        self.client.stop.set()
        self.paces.stop()
        with self._changed:
            self._changed.wait_for(lambda: not self._committing, timeout=60)
        self.client.close()

    def _message(self) -> str:
        for domain, (until, _, reason) in self.paces.waiting().items():
            if 0 < (seconds := until - time.time()) < math.inf:
                name = "Flickr" if domain in self.settings.flickr_domains else domain
                return f"{name}: waiting {seconds:.0f} s {reason}"
        return ""

    def _work(self) -> None:
        try:
            while (photo := self._next()) is not None:
                if self._over:
                    outcome = photo.outcome("failed" if self.settings.flickr else "deferred")
                else:
                    outcome = fetch_photo(photo, self.client, self.paces, self.settings)
                if outcome is None:
                    self._park(photo)
                else:
                    self._commit(photo, outcome)
        except BaseException as error:
            self.error = self.error or error
        with self._changed:
            self._alive -= 1
            if self.error or not self._alive:
                self._changed.notify_all()

    def _next(self) -> Photo | None:
        """Return the next photo that need not wait; None if nothing is left for this thread."""
        with self._changed:
            while not self.paces.stopped:
                now = time.monotonic()
                if (photo := self._ready(now)) is not None:
                    self._flying += 1
                    return photo
                row = next(self._fresh, None)
                if row is not None:
                    self._flying += 1
                    return Photo(row, self.settings)
                if not self._later and not any(self._parked.values()):
                    return None
                wake = self._wake(now)
                if not self._flying and wake >= self._last + self.settings.patience:
                    self._over = True
                    continue
                self._idle += 1
                self._changed.wait(min(max(wake - now, 0.001), 1.0))
                self._idle -= 1
        return None

    def _ready(self, now: float) -> Photo | None:
        if self._later and (self._over or self._later[0][0] <= now):
            return heapq.heappop(self._later)[2]
        for paces, photos in self._parked.items():
            if photos and (self._over or not all(pace.waits(now) for pace in paces)):
                return photos.popleft()
        return None

    def _wake(self, now: float) -> float:
        paces = {pace for paces, photos in self._parked.items() if photos for pace in paces}
        # A domain that is being probed wakes us with its answer.
        times = [pace.until for pace in paces if pace.until > now]
        return min([*times, *(entry[0] for entry in self._later[:1])], default=math.inf)

    def _park(self, photo: Photo) -> None:
        with self._changed:
            self._flying -= 1
            now = time.monotonic()
            left = [source for source in photo.sources if not source.done]
            if later := [source.later for source in left if source.later > now]:
                heapq.heappush(self._later, (min(later), next(self._count), photo))
            else:
                # In the order of arrival: the next probe is another photo.
                paces = tuple(dict.fromkeys(source.pace for source in left))
                self._parked.setdefault(paces, deque()).append(photo)
            if self._idle:
                self._changed.notify_all()

    def _commit(self, photo: Photo, outcome: Outcome) -> None:
        """Write outcome and photo, unless the run has been stopped meanwhile."""
        with self._changed:
            if self.paces.stopped:
                return
            self._committing += 1
        try:
            if outcome.Status != "deferred":
                # Before the photo: one that is recorded but missing is requested again.
                self.journal.append(outcome, photo.row)
            if photo.answer is not None:
                self.store.write(self.store.photo(outcome.ImageID), photo.answer.data)
        finally:
            with self._changed:
                self._committing -= 1
                self._flying -= 1
                if self._idle or self.paces.stopped:
                    self._changed.notify_all()
        self.outcomes[outcome.ImageID] = outcome
        if outcome.Status == "ok":
            self._last = time.monotonic()


def _records(rows: "pd.DataFrame") -> Iterator[dict]:
    """Yield rows as dicts, a block at a time to save memory."""
    columns = [name for name in (*PHOTO_COLUMNS, "Gone") if name in rows]
    for start in range(0, len(rows), _BLOCK):
        block = rows.iloc[start : start + _BLOCK]
        values = zip(*(block[name].tolist() for name in columns), strict=True)
        yield from (dict(zip(columns, each, strict=True)) for each in values)


def adopted(row: dict, store: Store, settings: Settings) -> Outcome | None:
    """Return the outcome of a photo that is in the store, None if it is missing or not whole.

    Its Source is ``"flickr"`` if the recorded MD5 says so, otherwise "".
    """
    try:
        data = store.read(store.photo(row["ImageID"]))
    except FileNotFoundError:
        return None
    [source] = of_photo(row, ("flickr",), settings.base)
    found = check.look(data, source.size, source.md5)
    if not found.known:
        # It may come from a source for which the table records nothing.
        found = check.look(data)
    name = "flickr" if found.known else ""
    outcome = Outcome(row["ImageID"], "ok", name, found.width, found.height, len(data))
    return None if found.fault else outcome


def fetch_partition(store: Store, job: "tuple[pd.DataFrame, Settings, str]") -> "pd.DataFrame":
    """Call `fetch_rows` for one partition of a larger table.

    A worker that takes over a partition, because another one died or was cut off, finds its
    journal begun, and does not fetch again what is written.

    Parameters
    ----------
    store : Store
    job : (DataFrame, Settings, str)
        Rows, their settings and, if the partition may be taken over, the name of its journal.
    """
    import pandas as pd

    rows, settings, name = job
    if not name or not begun_before(store, name):
        return fetch_rows(rows, store, settings, journal=name)

    def one(row: dict) -> Outcome | None:
        outcome = adopted(row, store, settings)
        if outcome is None or outcome.Source:
            return outcome
        # It was not there before this run: if only one source could have delivered it, it did.
        found = Photo(row, settings).sources
        names = [source.name for source in found if source.name != "flickr" or not source.md5]
        return outcome._replace(Source=names[0]) if len(names) == 1 else outcome

    with ThreadPoolExecutor(settings.workers) as pool:
        written = [outcome for outcome in pool.map(one, _records(rows)) if outcome]
    there = pd.DataFrame(written, columns=Outcome._fields, dtype=object)
    left = rows[~rows["ImageID"].isin(there["ImageID"])]
    fetched = fetch_rows(left, store, settings, journal=name)
    outcomes = pd.concat([there, fetched], ignore_index=True)
    outcomes.attrs = fetched.attrs
    return outcomes
