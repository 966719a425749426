"""The loop over photos: each is fetched from its sources, many at a time."""

import asyncio
import math
import random
import time
from asyncio import FIRST_EXCEPTION
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from openimager.photos import check
from openimager.photos.client import Client
from openimager.photos.journal import recording
from openimager.photos.photo import Outcome, Photo, Settings, original, reasons
from openimager.store import Store

if TYPE_CHECKING:
    import pandas as pd

# Values of Here in a row. BEFORE: the photo is in the store from before this run and has to be
# checked. NOW: another worker may have fetched it in this run.
BEFORE, NOW = "before", "now"
_THREADS = 32  # photos that are written or checked at a time


async def fetch_photo(photo: Photo, client: Client) -> Outcome | None:
    """Try the sources of one photo, in order, except those that wait; keep what one delivers.

    None means that every remaining source waits: call again later.
    """
    settings = client.settings
    while source := photo.ready(time.monotonic()):
        if (answer := await client.fetch(source)) is None:
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
    """Fetch a table of photos, `Settings.workers` at a time; return an `Outcome` row for each.

    `rows` has `store.PHOTO_COLUMNS`. `progress` is called now and then with the number of photos
    done and what is being waited for. ``attrs["waits"]`` is `Settings.waits` for the next call.
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
) -> dict[str, tuple[float, int, str]]:
    """Fetch photos as their rows come; pass ImageID and outcome of each to `keep`.

    In a row, ``""`` stands for a missing value. Two more keys are optional: Gone (the verdicts of
    earlier runs) and Here (not empty if the photo may be in the store: it is then checked).
    `journal` is a name from `journal.new_name`, by default a new one. The result is
    `Settings.waits` for the next call.
    """
    with recording(store, journal) as record, ThreadPoolExecutor(1) as thread:
        queue = _Queue(rows, store, settings, record, keep)
        # On a thread of its own, because Jupyter runs an event loop in this one.
        job = thread.submit(asyncio.run, queue.all())
        try:
            done = False
            while not done:
                done = wait([job], timeout=0.25).done
                if progress:
                    progress(queue.done, queue.message())
        finally:
            queue.stopped = True
        job.result()
    return queue.client.waiting()


class _Queue:
    """The photos of one `fetch`: fresh ones, those whose sources wait, and the tasks at work."""

    def __init__(self, rows: Iterator, store: Store, settings: Settings, record, keep):
        self.store, self.settings, self.record, self.keep = store, settings, record, keep
        self.client = Client(settings)
        self.done, self.stopped = 0, False
        self._fresh = rows
        # A photo that has to wait goes to the end, so each probe is of another one. `_wake` is when
        # the first of them may be tried.
        self._waiting: list[Photo] = []
        self._wake = math.inf
        self._flying, self._given_up, self._last = 0, False, time.monotonic()

    async def all(self) -> None:
        """Work until every photo has an outcome, `stopped` is set, or an error is raised."""
        # Threads that read and write the store: a bucket, or a network folder, takes its time.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS))
        async with self.client:
            tasks = [asyncio.create_task(self._work()) for _ in range(self.settings.workers)]
            left = set(tasks)
            try:
                while left and not self.stopped:
                    done, left = await asyncio.wait(left, timeout=0.25, return_when=FIRST_EXCEPTION)
                    for task in done:
                        task.result()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    def message(self) -> str:
        """Return what is being waited for, such as "Flickr: waiting 25 s after 429", or ""."""
        for domain, (until, _, reason) in self.client.waiting().items():
            if (seconds := until - time.time()) > 0:
                name = "Flickr" if domain in self.settings.flickr_domains else domain
                return f"{name}: waiting {seconds:.0f} s {reason}"
        return ""

    async def _work(self) -> None:
        while (photo := await self._next()) is not None:
            outcome = photo.row.get("Here") and await asyncio.to_thread(self._here, photo)
            if not outcome and self._given_up:
                outcome = photo.outcome("failed" if self.settings.flickr else "deferred")
            outcome = outcome or await fetch_photo(photo, self.client)
            self._flying -= 1
            if outcome is None:
                self._wake = min(self._wake, photo.wake(time.monotonic()))
                self._waiting.append(photo)
                continue
            if outcome.Status != "deferred":
                # Recorded first: a photo that is recorded but not on disk is requested again.
                self.record(outcome, photo.row)
            if photo.data:
                path = self.store.photo(outcome.ImageID)
                # A bucket takes its time; a file is written sooner than a thread is woken.
                if self.store.is_local:
                    self.store.write(path, photo.data)
                else:
                    await asyncio.to_thread(self.store.write, path, photo.data)
            self.done += 1
            self.keep(outcome.ImageID, outcome)
            if outcome.Status == "ok":
                self._last = time.monotonic()

    async def _next(self) -> Photo | None:
        """Return the next photo that need not wait; None if nothing is left for this task."""
        while True:
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
                self._given_up = True
            else:
                await self.client.sleep(min(max(self._wake - now, 0.001), 0.5))

    def _ready(self, now: float) -> Photo | None:
        """Take a waiting photo that may be tried now; search only if there may be one."""
        if not (self.client.reopened or self._given_up or self._wake <= now):
            return None
        self.client.reopened, self._wake = False, math.inf
        for place, photo in enumerate(self._waiting):
            wake = photo.wake(now)
            self._wake = min(self._wake, wake)
            if wake <= now or self._given_up:
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


def fetch_partition(
    store: Store, job: tuple[list[dict], Settings, str]
) -> tuple[list[Outcome], dict]:
    """Call `fetch` for one partition: rows, settings and the name of the journal, or "".

    A worker that takes over a partition, because another one died or was cut off, finds its
    journal, and does not fetch again what is written.
    """
    rows, settings, name = job
    if name in store.sizes(store.state):
        rows = [row | {"Here": row["Here"] or NOW} for row in rows]
    elif name:
        store.write(store.state / name, b"")
    found = {}
    waits = fetch(iter(rows), store, settings, found.__setitem__, journal=name)
    return list(found.values()), waits
