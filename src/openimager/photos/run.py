"""One run: what of a selection is missing, rounds until it is on disk, and the tables."""

import functools
import heapq
import operator
import os
import pickle
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace as changed
from itertools import islice

from tqdm.auto import tqdm

from openimager import cluster, query
from openimager.errors import BadInput, TryAgain, megabytes
from openimager.photos import journal
from openimager.photos.fetch import BEFORE, fetch, fetch_partition
from openimager.photos.photo import Outcome, Settings
from openimager.selection import Site
from openimager.store import CREDIT_COLUMNS, OUTCOME_COLUMNS, Store

_NOTHING = Outcome("", "failed", Error="not requested yet: the run was interrupted")


class Run:
    """One selection on its way into a data directory."""

    def __init__(self, store: Store, selector, settings: Settings, retry_gone: bool, quiet: bool):
        self.store, self.selector, self.settings = store, selector, settings
        self.retry_gone, self.quiet = retry_gone, quiet
        # The photos that the selection takes, with their OriginalSize.
        self.play: dict[str, int | None] = {}
        # Photos not to be requested (again) in this run, and their Status.
        self.settled: dict[str, str] = {}
        # Of others: what is on disk and has to be checked, and the addresses that do not have it.
        self.here: set[str] = set()
        self.verdicts: dict[str, Mapping[str, str]] = {}

    def all(
        self, executor=None, slots: int = 1, in_flight: int | None = None, replace: bool = False
    ) -> dict[str, dict[str, int]]:
        """Fetch what is missing and write the tables, however it ends.

        Return, for each source, the reasons why earlier ones were passed over, and how often.
        """
        self._remove_parts()
        self._look()
        missing = self._missing()
        if not replace:
            self._check()
        self._announce(missing)
        disable = True if self.quiet or not missing else None
        try:
            with tqdm(desc="photos", unit=" photos", disable=disable) as bar:
                elsewhere = executor is not None or slots > 1
                while missing:
                    bar.total = bar.n + len(missing)
                    if elsewhere:
                        # The photos left are those that only Flickr may have.
                        elsewhere = not self._partitions(missing, bar, executor, slots, in_flight)
                    else:
                        done = functools.partial(_show, bar, bar.n)
                        rows = self._rows(missing)
                        self._wait_on(fetch(rows, self.store, self.settings, self._settle, done))
                    missing = self._missing()
        finally:
            self._remove_parts()
            skipped = self._write_tables()
        return skipped

    def _known(self) -> tuple[dict[str, Outcome], dict[str, int]]:
        """Return the outcomes so far, and the bytes of each photo on disk.

        Those of an installed package are in its tables. What other threads and processes have
        fetched is in their journals.
        """
        known = {}
        for record in journal.replay(self.store):
            fields = {name: record[name] for name in Outcome._fields if name in record}
            known[record["ImageID"]] = Outcome(**{"Status": "failed"} | fields)
        for one in self.store.read_rows("images.csv", ["ImageID", *OUTCOME_COLUMNS]):
            if one[0] not in known and one[1] in ("ok", "gone"):
                one[3:6] = (int(text) if text.isdigit() else None for text in one[3:6])
                known[one[0]] = Outcome(*one)
        sizes = self.store.sizes(self.store.images)
        return known, {name.removesuffix(".jpg"): size for name, size in sizes.items()}

    def _look(self) -> None:
        """Find out what is settled by earlier runs, and what they know of other photos."""
        known, sizes = self._known()
        for image_id, one in known.items():
            if one.Status == "ok" and one.Bytes == sizes.get(image_id):
                self.settled[image_id] = "ok"
                del sizes[image_id]
            elif self.retry_gone:
                continue
            elif one.Status == "gone" and image_id not in sizes and self._holds(one):
                self.settled[image_id] = "gone"
            elif one.Gone:
                self.verdicts[image_id] = one.Gone
        self.here = set(sizes)

    def _holds(self, gone: Outcome) -> bool:
        # With other sources than before, a photo may not be gone. An installed table does not say.
        return gone.Asked == self.settings.asked or not gone.Gone

    def _missing(self) -> list[str]:
        """Take the next photos in place of those gone; return what is to be fetched."""
        gone = [image_id for image_id, status in self.settled.items() if status == "gone"]
        self.play = self.selector.take(gone)
        return [image_id for image_id in self.play if image_id not in self.settled]

    def _rows(self, ids: list[str]) -> Iterator[dict]:
        """Return the rows of photos, from a file: DuckDB takes tens of MB as long as it is open."""
        stream = tempfile.TemporaryFile()  # noqa: SIM115
        for row in self.selector.photos(ids):
            pickle.dump(row, stream)
        self.selector.close()
        stream.seek(0)
        rows = (pickle.load(stream) for _ in ids)
        return (
            row | {"Gone": self.verdicts.get(image_id), "Here": BEFORE * (image_id in self.here)}
            for image_id, row in zip(ids, rows, strict=True)
        )

    def _partitions(self, missing, bar: tqdm, executor, slots: int, in_flight: int | None) -> bool:
        """Fetch partitions elsewhere; tell whether only Flickr may have some photos.

        One partition at a time may talk to Flickr, and hands its waiting on to the next.
        """
        talking, deferred = [], False
        workers = max(1, self.settings.workers // slots)

        def jobs() -> Iterator[tuple]:
            rows = self._rows(missing)
            for size in cluster.sizes(len(missing), slots):
                one = changed(self.settings, workers=workers, share=slots, flickr=not talking)
                # Only an executor such as Dask's has another worker take over.
                job = [*islice(rows, size)], one, journal.new_name() if executor else ""
                if one.flickr:
                    talking.append(one)
                yield job

        task = functools.partial(fetch_partition, self.store)
        for (_, one, _), (outcomes, waits) in cluster.run(task, jobs(), slots, executor, in_flight):
            if one.flickr:
                talking.clear()
            self._wait_on(waits)
            for outcome in outcomes:
                if outcome.Status == "deferred":
                    deferred = True
                else:
                    self._settle(outcome.ImageID, outcome)
                    bar.update()
        return deferred

    def _settle(self, image_id: str, outcome: Outcome) -> None:
        self.settled[image_id] = outcome.Status

    def _wait_on(self, waits: Mapping) -> None:
        self.settings = changed(self.settings, waits={**self.settings.waits, **waits})

    def _announce(self, missing: list[str]) -> None:
        """Print what is to come; TryAgain if the recorded sizes exceed the room on the disk."""
        there = sum(self.settled.get(i) == "ok" or i in self.here for i in self.play)
        sizes = [self.play[image_id] for image_id in missing if image_id not in self.here]
        first = (self.settings.sources or ("flickr",))[0]
        known = sum(filter(None, sizes)) if first == "flickr" else 0
        unsized = sizes.count(None) if first == "flickr" else len(sizes)
        size = f", {megabytes(known)}" if known else ""
        more = f" ({unsized:,} of unknown size)" if unsized else ""
        if not self.quiet:
            say(f"{there:,} photos on disk, {len(sizes):,} to fetch{size}{more}.")
        if not (self.store.is_local and known):
            return
        self.store.images.mkdir(parents=True, exist_ok=True)
        if known > (room := shutil.disk_usage(self.store.images).free):
            raise TryAgain(
                f"{len(sizes):,} photos take {megabytes(known)}, and {self.store.root} has room "
                f"for {megabytes(room)}. Free some, give another --data-dir, or a --limit."
            )

    def _check(self) -> None:
        """Raise BadInput if the selection drops categories, or photos on disk, of the tables."""
        before = self.store.read_rows("images.csv", ["ImageID", "Status"])
        on_disk = [image_id for image_id, status in before if status == "ok"]
        photos = sum(image_id not in self.play for image_id in on_disk)
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
        known, sizes = self._known()

        def outcome(image_id: str) -> Outcome:
            one = known.get(image_id, _NOTHING)
            lost = one.Status == "ok" and sizes.get(image_id) != one.Bytes
            return _NOTHING if lost else one

        ids, release = sorted(self.play), self.selector.query.release
        there = [image_id for image_id in ids if outcome(image_id).Status != "gone"]
        images = (
            [*row.values(), *outcome(row["ImageID"])[1:7], release]
            for row in self.selector.photos(ids)
        )
        mine = {i: outcome(i).Source for i in there if outcome(i).Status == "ok"}
        self._record_query(done=False)
        self.store.write_rows(self.selector.boxes(there), "boxes.csv")
        self.store.write_rows(self._credits(mine, sizes), "ATTRIBUTION.csv")
        self.store.write_rows(images, "images.csv")
        self._record_query(done=True)
        journal.compact(self.store, known.values())
        skipped = {}
        for one in map(outcome, mine):
            if one.Skipped:
                skipped.setdefault(one.Source, Counter())[one.Skipped] += 1
        return skipped

    def _record_query(self, done: bool) -> None:
        """Write data/query.json: before the tables with `done` False, and after them."""
        content = self.selector.query.to_json() | {"downloaded": done}
        self.store.write_json(query.NAME, content)
        self.store.write_json(query.SITE, given(self.selector.site))

    def _credits(self, mine: Mapping[str, str], sizes: Mapping[str, int]) -> Iterator[list[str]]:
        """Return the credits of every photo on disk: of this selection, and of earlier ones.

        `mine` are the photos of this selection and their sources.
        """
        others, credits = sizes.keys() - mine.keys(), {}
        if others:
            rows = self.store.read_rows("ATTRIBUTION.csv", CREDIT_COLUMNS)
            journaled = (one["Credit"] for one in journal.replay(self.store) if "Credit" in one)
            credits = {row[0]: row for row in (*rows, *journaled) if row[0] in others}
        rows = self.selector.photos(mine)
        own = (journal.credits_of(row, mine[row["ImageID"]]) for row in rows)
        return heapq.merge(own, sorted(credits.values()), key=operator.itemgetter(0))

    def _remove_parts(self) -> None:
        """Remove files that a killed run left half written."""
        if self.store.is_local:
            for part in self.store.images.glob(".*.jpg.*.part"):
                part.unlink(missing_ok=True)


def given(site: Site) -> dict[str, str]:
    """Return what was given for a site, with absolute paths."""
    found = {}
    for name in ("base_url", "class_names", "boxes", "photos"):
        if value := getattr(site, name):
            url = name == "base_url" and not query.is_directory(value)
            found[name] = os.fspath(value) if url else os.path.abspath(value)
    return found


def say(sentence: str) -> None:
    """Print a sentence, above a progress bar if there is one."""
    tqdm.write(sentence, file=sys.stderr)


def _show(bar: tqdm, before: int, done: int, message: str) -> None:
    bar.set_postfix_str(message, refresh=False)
    bar.update(before + done - bar.n)
