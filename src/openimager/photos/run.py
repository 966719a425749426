"""One run of `download`: rounds of `fetch` for what a selection lacks, then the tables."""

import functools
import heapq
import itertools
import operator
import os
import pickle
import shutil
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace as changed

from tqdm.auto import tqdm

from openimager import cluster, files, query
from openimager.errors import BadInput, TryAgain, megabytes
from openimager.photos import journal
from openimager.photos.fetch import BEFORE, fetch, fetch_partition
from openimager.photos.photo import Outcome, Settings
from openimager.query import Site
from openimager.store import CREDIT_COLUMNS, OUTCOME_COLUMNS, Store

_NOTHING = Outcome("", "failed", Error="not requested yet: the run was interrupted")
# What a run knows of photos. In memory that would take more than 1 kB each.
_STATE = """
CREATE TABLE photo (
    ImageID TEXT PRIMARY KEY,
    place INTEGER,  -- in the selection; NULL, like row and size, for other photos
    size INTEGER,  -- OriginalSize
    row BLOB,
    status TEXT,  -- of the last outcome
    bytes INTEGER,
    outcome BLOB,
    disk INTEGER,  -- bytes of the file
    settled INTEGER DEFAULT 0  -- not to be requested (again) in this run
)"""


class Run:
    """One selection on its way into a data directory."""

    def __init__(self, store: Store, selector, settings: Settings, retry_gone: bool, quiet: bool):
        self.store, self.selector, self.settings = store, selector, settings
        self.retry_gone, self.quiet = retry_gone, quiet
        self._gone: list[str] | None = None
        # A temporary file, deleted when the connection closes; threads use it one at a time.
        self._db = sqlite3.connect("", check_same_thread=False)
        self._db.executescript(_STATE)

    def all(self, processes: int = 1, executor=None, replace: bool = False) -> dict[str, dict]:
        """Fetch what is missing and write the tables, however the fetching ends.

        Return, for each source, the reasons why earlier ones were passed over, and how often.
        """
        self.store.remove_parts(self.store.images)
        self._recall()
        self._look()
        self._db.execute(
            """UPDATE photo SET settled = 1 WHERE (status = 'ok' AND bytes = disk)
            OR (status = 'gone' AND disk IS NULL AND NOT ?)""",
            [self.retry_gone],
        )
        missing = self._missing()
        if not replace:
            self._check()
        self._announce()
        disable = True if self.quiet or not missing else None
        try:
            with tqdm(desc="photos", unit=" photos", disable=disable) as bar:
                elsewhere = executor is not None or processes > 1
                while missing:
                    bar.total = bar.n + len(missing)
                    if elsewhere:
                        # Deferred: photos that only Flickr may have. They are fetched here.
                        elsewhere = not self._partitions(missing, bar, processes, executor)
                    else:
                        done = functools.partial(_show, bar, bar.n)
                        rows = self._rows(missing)
                        self._note_waits(fetch(rows, self.store, self.settings, self._settle, done))
                    missing = self._missing()
        except BaseException:
            # What partitions in flight have done is in their journals alone.
            self._recall()
            raise
        finally:
            self.store.remove_parts(self.store.images)
            skipped = self._write_tables()
        return skipped

    def _put(self, columns: str, rows: Iterable[tuple]) -> None:
        """Set some columns of photos; each row begins with the ImageID."""
        names = columns.split(", ")
        self._db.executemany(
            f"INSERT INTO photo (ImageID, {columns}) VALUES (?{', ?' * len(names)}) ON CONFLICT "
            f"DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in names)}",
            rows,
        )

    def _recall(self) -> None:
        """Read the recorded outcomes, of this run and of earlier ones."""
        outcomes = itertools.chain(self._installed(), journal.outcomes(self.store))
        self._put(
            "status, bytes, outcome",
            ((one.ImageID, self._status(one), one.Bytes, pickle.dumps(one)) for one in outcomes),
        )

    def _look(self) -> None:
        """Read the sizes of the photos on disk."""
        self._db.execute("UPDATE photo SET disk = NULL")
        sizes = self.store.sizes(self.store.images).items()
        self._put("disk", ((name.removesuffix(".jpg"), size) for name, size in sizes))

    def _installed(self) -> Iterator[Outcome]:
        """Yield the outcomes in images.csv, which may have come with a package."""
        for one in self.store.read_rows("images.csv", ["ImageID", *OUTCOME_COLUMNS]):
            if one[1] in ("ok", "gone"):
                one[3:6] = (int(text) if text.isdigit() else None for text in one[3:6])
                yield Outcome(*one)

    def _status(self, one: Outcome) -> str:
        # What was gone may be at other sources. images.csv does not say which, and is trusted.
        doubtful = one.Status == "gone" and one.Gone and one.Asked != self.settings.asked
        return "" if doubtful else one.Status

    def _missing(self) -> list[str]:
        """Take the next photos in place of those gone; return what is to be fetched."""
        gone = self._ids("settled AND status = 'gone'")
        if self._gone is None or (self.selector.query.limit and gone != self._gone):
            self._db.commit()
            # In one transaction, so that an interruption leaves the old selection.
            with self._db:
                self._db.execute("UPDATE photo SET place = NULL")
                taken = enumerate(self.selector.take(gone))
                self._put("place, size", ((name, place, size) for place, (name, size) in taken))
                rows = self.selector.photos(self._ids("row IS NOT NULL"))
                self._put("row", ((row["ImageID"], pickle.dumps(row)) for row in rows))
            self._gone = gone
        return self._ids("place IS NOT NULL AND NOT settled ORDER BY place")

    def _ids(self, condition: str) -> list[str]:
        rows = self._db.execute(f"SELECT ImageID FROM photo WHERE {condition}")
        return [image_id for (image_id,) in rows]

    def _rows(self, ids: list[str]) -> Iterator[dict]:
        """Yield rows for `fetch`."""
        question = "SELECT row, outcome, disk FROM photo WHERE ImageID = ?"
        for image_id in ids:
            row, outcome, disk = self._db.execute(question, [image_id]).fetchone()
            gone = pickle.loads(outcome).Gone if outcome and not self.retry_gone else None
            yield pickle.loads(row) | {"Gone": gone, "Here": "" if disk is None else BEFORE}

    def _partitions(self, missing, bar: tqdm, processes: int, executor) -> bool:
        """Fetch partitions elsewhere; tell whether only Flickr may have some photos.

        One partition at a time may talk to Flickr, and passes on how long to leave it alone.
        """
        talking, deferred, slots = [], False, cluster.slots(processes, executor)
        workers = max(1, self.settings.workers // slots)

        def jobs() -> Iterator[tuple]:
            rows = self._rows(missing)
            for size in cluster.sizes(len(missing), slots):
                one = changed(self.settings, workers=workers, share=slots, flickr=not talking)
                # A worker that takes over needs a named journal; only an executor has such workers.
                job = [*itertools.islice(rows, size)], one, journal.new_name() if executor else ""
                if one.flickr:
                    talking.append(one)
                yield job

        task = functools.partial(fetch_partition, self.store)
        for (_, one, _), (outcomes, waits) in cluster.run(task, jobs(), processes, executor):
            if one.flickr:
                talking.clear()
            self._note_waits(waits)
            for outcome in outcomes:
                if outcome.Status == "deferred":
                    deferred = True
                else:
                    self._settle(outcome.ImageID, outcome)
                    bar.update()
        return deferred

    def _settle(self, image_id: str, outcome: Outcome) -> None:
        known = image_id, 1, outcome.Status, outcome.Bytes, pickle.dumps(outcome)
        self._put("settled, status, bytes, outcome", [known])

    def _note_waits(self, waits: Mapping) -> None:
        self.settings = changed(self.settings, waits={**self.settings.waits, **waits})

    def _announce(self) -> None:
        """Print what is to come; TryAgain if the recorded sizes exceed the room on the disk."""
        [(there, known, unsized, missing)] = self._db.execute(
            """SELECT count(disk), sum(iif(fresh, size, 0)), sum(fresh AND size IS NULL), sum(fresh)
            FROM (SELECT *, disk IS NULL AND NOT settled AS fresh FROM photo)
            WHERE place IS NOT NULL"""
        )
        if self.settings.sources and self.settings.sources[0] != "flickr":
            known, unsized = 0, missing
        size = f", {megabytes(known)}" if known else ""
        more = f" ({unsized:,} of unknown size)" if unsized else ""
        if not self.quiet:
            say(f"{there:,} photos on disk, {missing:,} to fetch{size}{more}.")
        if not (self.store.is_local and known):
            return
        self.store.images.mkdir(parents=True, exist_ok=True)
        if known > (room := shutil.disk_usage(self.store.images).free):
            raise TryAgain(
                f"{missing:,} photos take {megabytes(known)}, and {self.store.root} has room "
                f"for {megabytes(room)}. Free some, give another --data-dir, or a --limit."
            )

    def _check(self) -> None:
        """Raise BadInput if the tables have categories or photos on disk that are not selected."""
        before = self.store.read_rows("images.csv", ["ImageID", "Status"])
        on_disk = {image_id for image_id, status in before if status == "ok"}
        photos = len(on_disk.difference(self._ids("place IS NOT NULL")))
        held = {category for (category,) in self.store.read_rows("boxes.csv", ["Category"])}
        categories = sorted(held.difference(self.selector.categories))
        what = [f"the categories {', '.join(categories)}"] if categories else []
        what += [f"{photos:,} of {len(on_disk):,} photos"] if photos else []
        if what:
            raise BadInput(
                f"This selection would drop {' and '.join(what)} from the tables in "
                f"{self.store.root}. Give --replace (replace=True) to do that, or another "
                "--data-dir."
            )

    def _write_tables(self) -> dict[str, dict[str, int]]:
        skipped = {}

        def images() -> Iterator[list]:
            release = self.selector.query.release
            for row, one in self._taken():
                yield [*row.values(), *one[1:7], release]
                if one.Status == "ok" and one.Skipped:
                    skipped.setdefault(one.Source, Counter())[one.Skipped] += 1

        self._look()
        # A photo that is recorded but missing will be requested again.
        self._db.execute(
            """UPDATE photo SET status = 'failed', outcome = NULL
            WHERE status = 'ok' AND disk IS NOT bytes"""
        )
        self._record_query(done=False)
        boxes = self.selector.boxes(self._ids("place IS NOT NULL AND status IS NOT 'gone'"))
        self.store.write_rows(boxes, "boxes.csv")
        self.store.write_rows(self._credits(), "ATTRIBUTION.csv")
        self.store.write_rows(images(), "images.csv")
        self._record_query(done=True)
        known = self._db.execute("SELECT outcome FROM photo WHERE outcome IS NOT NULL")
        journal.compact(self.store, (pickle.loads(outcome) for (outcome,) in known))
        return skipped

    def _taken(self) -> Iterator[tuple[dict, Outcome]]:
        """Yield row and outcome of each photo of the selection."""
        question = "SELECT row, outcome FROM photo WHERE place IS NOT NULL ORDER BY ImageID"
        for row, outcome in self._db.execute(question):
            yield pickle.loads(row), pickle.loads(outcome) if outcome else _NOTHING

    def _record_query(self, done: bool) -> None:
        """Write data/query.json: `done` is False before the tables are written, and True after."""
        content = self.selector.query.to_json() | {"downloaded": done}
        self.store.write_json(query.NAME, content)
        self.store.write_json(query.SITE, given(self.selector.site))

    def _credits(self) -> Iterator[list[str]]:
        """Yield the credits of every photo on disk: of this selection, and of earlier ones."""
        others = "disk IS NOT NULL AND (place IS NULL OR status IS NOT 'ok')"
        credits = dict.fromkeys(self._ids(f"{others} ORDER BY ImageID"))
        if credits:
            rows = self.store.read_rows("ATTRIBUTION.csv", CREDIT_COLUMNS)
            journaled = (one["Credit"] for one in journal.replay(self.store) if "Credit" in one)
            credits |= {row[0]: row for row in (*rows, *journaled) if row[0] in credits}
        mine = (journal.credits_of(*one) for one in self._taken() if one[1].Status == "ok")
        return heapq.merge(mine, filter(None, credits.values()), key=operator.itemgetter(0))


def given(site: Site) -> dict[str, str]:
    """Return what was given for a site, with absolute paths."""
    found = {}
    for name in ("base_url", "class_names", "boxes", "photos"):
        if value := getattr(site, name):
            url = name == "base_url" and not files.is_local(value)
            found[name] = os.fspath(value) if url else os.path.abspath(value)
    return found


def say(sentence: str) -> None:
    """Print a sentence, above a progress bar if there is one."""
    tqdm.write(sentence, file=sys.stderr)


def _show(bar: tqdm, before: int, done: int, message: str) -> None:
    bar.set_postfix_str(message, refresh=False)
    bar.update(before + done - bar.n)
