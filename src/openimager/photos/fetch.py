"""Fetching photos: one from its sources, or a table of them on threads."""

import math
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from openimager.photos import check
from openimager.photos.client import Client
from openimager.photos.journal import recording
from openimager.photos.photo import Outcome, Photo, Settings, original, reasons
from openimager.store import Store

if TYPE_CHECKING:
    import pandas as pd

# Values of Here, for photos in the store without an outcome: from before this run, or fetched in it
# by another worker.
BEFORE, NOW = "before", "now"


def fetch_photo(photo: Photo, client: Client) -> Outcome | None:
    """Try the sources of one photo, in order, except those that wait; keep what one delivers.

    None means that every remaining source waits: call again later.
    """
    settings = client.settings
    while not client.stopped:
        now = time.monotonic()
        source = next((source for source in photo.sources if source.wake(now) <= now), None)
        if source is None:
            break
        if (answer := client.fetch(source)) is None:
            continue
        source.error = answer.error
        if answer.kind == "ok":
            photo.data = answer.data
            skipped = reasons(photo.sources[: photo.sources.index(source)])
            found = {"Source": source.name, "Width": answer.width, "Height": answer.height}
            found |= {"Bytes": len(answer.data), "Error": "", "Skipped": skipped}
            return photo.outcome("ok")._replace(**found)
        if answer.kind == "gone":
            source.settle(answer.error, gone=True)
        elif answer.kind == "busy":
            source.refusals += 1
            source.done = source.refusals >= settings.refusals
        else:
            source.tries += 1
            source.done = source.tries >= settings.tries
            wait = settings.backoff * 2 ** (source.tries - 1) * random.uniform(0.5, 1.5)
            source.later = time.monotonic() + wait
    return photo.outcome() if all(source.done for source in photo.sources) else None


def fetch_rows(
    rows: "pd.DataFrame",
    store: Store,
    settings: Settings,
    progress: Callable[[int, str], None] | None = None,
) -> "pd.DataFrame":
    """Fetch a table of photos on `Settings.workers` threads; return an `Outcome` row for each.

    `rows` has `store.PHOTO_COLUMNS`. `progress` is called now and then with the number of photos
    done and what is being waited for. ``attrs["waits"]`` of the result is what the next call should
    get as `Settings.waits`.
    """
    import pandas as pd

    found = {}
    records = rows.astype(object).where(rows.notna(), "").to_dict("records")
    waits = fetch(iter(records), store, settings, found.__setitem__, progress)
    outcomes = [found[image_id] for image_id in rows["ImageID"]]
    frame = pd.DataFrame(outcomes, columns=Outcome._fields, dtype=object)
    frame.attrs["waits"] = waits
    return frame


def fetch(
    rows: Iterator[Mapping],
    store: Store,
    settings: Settings,
    keep: Callable[[str, Outcome], None],
    progress: Callable[[int, str], None] | None = None,
    journal: str = "",
) -> dict[str, tuple[float, int]]:
    """Fetch photos as their rows come; pass ImageID and outcome of each to `keep`.

    In a row, ``""`` stands for a missing value. It may have Gone, the verdicts of earlier runs, and
    Here, which is not empty for a photo that is in the store but has to be checked. `journal` is a
    name from `journal.new_name`; a new one by default. The result is `Settings.waits` for the next
    call.
    """
    with recording(store, journal) as record:
        run = _Run(rows, store, settings, record, keep)
        try:
            run.wait(progress)
        finally:
            run.stop()
    waits = run.client.waiting().items()
    return {domain: one[:2] for domain, one in waits if one[0] < math.inf}


class _Run:
    """The photos of one call: fresh ones, those whose sources wait, and the threads at work."""

    def __init__(self, rows: Iterator, store: Store, settings: Settings, record, keep):
        self.store, self.settings, self.record, self.keep = store, settings, record, keep
        self.client = Client(settings)
        self.done = 0
        self._changed = self.client.changed
        self._fresh = rows
        # In the order of arrival, so that each probe is of another photo. `_wake` is when the first
        # of them may be tried.
        self._waiting: list[Photo] = []
        self._wake = math.inf
        self._error: BaseException | None = None
        self._flying = self._committing = 0
        self._over, self._last = False, time.monotonic()
        self._alive = settings.workers
        # Daemons, because Ctrl-C should not wait for a host that hangs.
        for _ in range(self._alive):
            threading.Thread(target=self._work, daemon=True).start()

    def wait(self, progress: Callable[[int, str], None] | None) -> None:
        """Wait until every photo has an outcome, or for the first error."""
        over = False
        while not over:
            with self._changed:
                over = self._changed.wait_for(lambda: self._error or not self._alive, timeout=0.25)
            if self._error:
                raise self._error
            if progress:
                progress(self.done, self._message())

    def stop(self) -> None:
        """Abandon what is in flight, except a photo that is being written."""
        self.client.close()
        with self._changed:
            self._changed.wait_for(lambda: not self._committing, timeout=60)

    def _message(self) -> str:
        for domain, (until, _, reason) in self.client.waiting().items():
            if 0 < (seconds := until - time.time()) < math.inf:
                name = "Flickr" if domain in self.settings.flickr_domains else domain
                return f"{name}: waiting {seconds:.0f} s {reason}"
        return ""

    def _work(self) -> None:
        try:
            while (photo := self._next()) is not None:
                outcome = self._here(photo) if photo.row.get("Here") else None
                if outcome is None and self._over:
                    outcome = photo.outcome("failed" if self.settings.flickr else "deferred")
                self._commit(photo, outcome or fetch_photo(photo, self.client))
        except BaseException as error:
            self._error = self._error or error
        with self._changed:
            self._alive -= 1
            self._changed.notify_all()

    def _next(self) -> Photo | None:
        """Return the next photo that need not wait; None if nothing is left for this thread."""
        with self._changed:
            while not self.client.stopped:
                now = time.monotonic()
                photo = self._ready(now)
                if photo is None and (row := next(self._fresh, None)) is not None:
                    photo = Photo(row, self.settings)
                if photo is not None:
                    self._flying += 1
                    return photo
                if not self._waiting:
                    return None
                if not self._flying and self._wake >= self._last + self.settings.patience:
                    self._over = True
                else:
                    self._changed.wait(min(max(self._wake - now, 0.001), 0.5))
        return None

    def _ready(self, now: float) -> Photo | None:
        """Take a waiting photo that may be tried now; search only if there may be one."""
        if not (self.client.news or self._over or self._wake <= now):
            return None
        self.client.news, self._wake = False, math.inf
        for place, photo in enumerate(self._waiting):
            wake = photo.wake(now)
            self._wake = min(self._wake, wake)
            if wake <= now or self._over:
                return self._waiting.pop(place)
        return None

    def _here(self, photo: Photo) -> Outcome | None:
        """Return the outcome of a photo in the store; remove one that is not whole.

        Its Source is ``"flickr"`` if it has the recorded MD5. Otherwise Source stays empty, unless
        only one source can have delivered it in this run.
        """
        path = self.store.photo(photo.row["ImageID"])
        try:
            data = self.store.read(path)
        except FileNotFoundError:
            return None
        found, names = check.look(data, *original(photo.row)), ["flickr"]
        if not found.known:
            found, names = check.look(data), []
            # It was not there before this run: if only one source could deliver it, that one did.
            if photo.row["Here"] == NOW:
                names = [one.name for one in photo.sources if one.name != "flickr" or not one.md5]
        if found.fault:
            self.store.remove(path)
            return None
        name = names[0] if len(names) == 1 else ""
        return Outcome(photo.row["ImageID"], "ok", name, found.width, found.height, len(data))

    def _commit(self, photo: Photo, outcome: Outcome | None) -> None:
        """Write outcome and photo, unless the run was stopped; without outcome the photo waits."""
        with self._changed:
            if outcome is None:
                self._flying -= 1
                self._wake = min(self._wake, photo.wake(time.monotonic()))
                self._waiting.append(photo)
                return
            if self.client.stopped:
                return
            self._committing += 1
        try:
            if outcome.Status != "deferred":
                # Before the photo: one that is recorded but missing is requested again.
                self.record(outcome, photo.row)
            if photo.data:
                self.store.write(self.store.photo(outcome.ImageID), photo.data)
        finally:
            with self._changed:
                self._committing -= 1
                self._flying -= 1
                if self.client.stopped:
                    self._changed.notify_all()
        with self._changed:
            self.done += 1
            self.keep(outcome.ImageID, outcome)
        if outcome.Status == "ok":
            self._last = time.monotonic()


def fetch_partition(
    store: Store, job: tuple[list[dict], Settings, str]
) -> tuple[list[Outcome], dict]:
    """Call `fetch` for one partition: rows, settings and the name of the journal, or "".

    A worker that takes over a partition, because another one died or was cut off, finds its
    journal, and does not fetch again what is written.
    """
    rows, settings, name = job
    if name in store.sizes(store.state):
        rows = [row | {"Here": NOW} for row in rows]
    elif name:
        store.write(store.state / name, b"")
    found = {}
    waits = fetch(iter(rows), store, settings, found.__setitem__, journal=name)
    return list(found.values()), waits
