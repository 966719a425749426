"""One run: what of a selection is missing, rounds until it is on disk, and the tables."""

import contextlib
import functools
import shutil
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace as changed
from typing import TYPE_CHECKING

from tqdm.auto import tqdm

from openimager import cluster, selection
from openimager.errors import BadInput, TryAgain
from openimager.photos import journal, repeat
from openimager.photos.fetch import adopted, fetch_partition, fetch_rows
from openimager.photos.photo import Outcome, Photo, Settings
from openimager.store import CREDIT_COLUMNS, IMAGE_COLUMNS, OUTCOME_COLUMNS, SCHEMAS, Store, typed

if TYPE_CHECKING:
    import pandas as pd


class Run:
    """One selection on its way into a data directory."""

    def __init__(self, store: Store, selector, settings: Settings, retry_gone: bool, quiet: bool):
        self.store, self.selector, self.settings = store, selector, settings
        self.retry_gone, self.quiet = retry_gone, quiet
        self.known: dict[str, Outcome] = {}
        # Every photo in play that has been looked at is missing, gone or settled: on disk, or
        # failed in this run.
        self.gone: set[str] = set()
        self.settled: set[str] = set()
        self._seen: set[str] = set()

    def all(
        self, executor=None, slots: int = 1, in_flight: int | None = None, replace: bool = False
    ) -> "pd.DataFrame":
        """Fetch what is missing and write the tables, however it ends; return images.csv."""
        self._remove_parts()
        self._replay()
        if not self.retry_gone:
            self.gone = {name for name, one in self.known.items() if one.Status == "gone"}
        found = self._in_play()
        repeat.check(self.store, found, replace)
        missing = self._missing(found)
        self._announce(missing)
        try:
            with self._bar(len(missing), "photos") as bar:
                while len(missing):
                    self._fetch(missing, bar, executor, slots, in_flight)
                    found = self._in_play()
                    missing = self._missing(found)
                    bar.total += len(missing)
        except BaseException:
            # What other threads and processes have fetched is in their journals.
            self._replay()
            self._seen.clear()
            self._classify(found.photos, look=False)
            raise
        finally:
            self._remove_parts()
            table = self._write_tables(found)
        return table

    def _replay(self) -> None:
        """Read the outcomes of earlier runs, and those of an installed package from its tables."""
        for record in journal.replay(self.store):
            fields = {name: record[name] for name in Outcome._fields if name in record}
            self.known[record["ImageID"]] = Outcome(**{"Status": "failed"} | fields)
        with contextlib.suppress(BadInput):
            frame = self.store.read_table("images.csv", ["ImageID", *OUTCOME_COLUMNS])
            frame = frame[frame["Status"].isin(("ok", "gone"))].astype(object)
            for row in frame.where(frame.notna(), None).itertuples(index=False):
                self.known.setdefault(row.ImageID, Outcome(*row))

    def _in_play(self) -> selection.Selection:
        """Return the selection in which the photos that are gone have been replaced."""
        while True:
            before = set(self.gone)
            found = self.selector.take(self.gone)
            self._classify(found.photos)
            if self.gone == before:
                return found

    def _classify(self, photos: "pd.DataFrame", look: bool = True) -> None:
        """Sort photos that have not been seen into those on disk, gone and missing."""
        fresh = photos[~photos["ImageID"].isin(self._seen)]
        self._seen.update(fresh["ImageID"])
        sizes = self.store.sizes(self.store.images) if len(fresh) else {}
        unsure, doubtful = [], []
        for image_id in fresh["ImageID"]:
            size, one = sizes.get(f"{image_id}.jpg"), self.known.get(image_id)
            if size is not None:
                self.gone.discard(image_id)
                same = one is not None and one.Status == "ok" and one.Bytes == size
                self.settled.add(image_id) if same else unsure.append(image_id)
            elif one is not None and not self.retry_gone and (one.Gone or one.Status == "gone"):
                doubtful.append(image_id)
        for row in fresh[fresh["ImageID"].isin(doubtful)].to_dict("records"):
            # With other sources than before, a photo may not be gone. An installed table does not
            # name the addresses.
            verdicts = self.known[row["ImageID"]].Gone
            places = Photo(row | {"Gone": verdicts}, self.settings).sources
            is_gone = not verdicts or all(one.gone for one in places)
            (self.gone.add if is_gone else self.gone.discard)(row["ImageID"])
        if look and unsure:
            self._adopt(fresh[fresh["ImageID"].isin(unsure)])

    def _adopt(self, rows: "pd.DataFrame") -> None:
        """Keep whole photos on disk that have no outcome; remove those that are not whole."""

        look = functools.partial(adopted, store=self.store, settings=self.settings)
        with (
            journal.Journal(self.store) as log,
            self._bar(len(rows), "photos checked") as bar,
            ThreadPoolExecutor() as pool,
        ):
            for start in range(0, len(rows), 1000):
                block = rows.iloc[start : start + 1000].to_dict("records")
                for row, outcome in zip(block, pool.map(look, block), strict=True):
                    bar.update()
                    if outcome is None:
                        self.store.remove(self.store.photo(row["ImageID"]))
                        continue
                    self._record(outcome)
                    log.append(outcome, row)

    def _record(self, outcome: Outcome) -> None:
        self.known[outcome.ImageID] = outcome
        (self.gone if outcome.Status == "gone" else self.settled).add(outcome.ImageID)

    def _missing(self, found: selection.Selection) -> "pd.DataFrame":
        """Return the rows of photos to fetch, with what earlier runs know of their addresses."""
        rows = found.photos[~found.photos["ImageID"].isin(self.gone | self.settled)]
        known = {} if self.retry_gone else self.known
        gone = [known[i].Gone if i in known else None for i in rows["ImageID"]]
        return rows.assign(Gone=gone)

    def _fetch(self, rows, bar: tqdm, executor, slots: int, in_flight: int | None) -> None:
        if executor is not None or slots > 1:
            rows = self._fetch_partitions(rows, bar, executor, slots, in_flight)
        if not len(rows):
            return
        before = bar.n

        def progress(done: int, message: str) -> None:
            bar.set_postfix_str(message, refresh=False)
            bar.update(before + done - bar.n)

        self._take_over(fetch_rows(rows, self.store, self.settings, progress))

    def _fetch_partitions(self, rows, bar: tqdm, executor, slots: int, in_flight):
        """Fetch partitions elsewhere; return the rows that only Flickr may have.

        One partition at a time may talk to Flickr, and hands its waiting on to the next.
        """
        talking, deferred = [], []
        workers = max(1, self.settings.workers // slots)

        def jobs() -> Iterator[tuple]:
            end = 0
            for size in cluster.sizes(len(rows), slots):
                start, end = end, end + size
                one = changed(self.settings, workers=workers, share=slots, flickr=not talking)
                # Only an executor such as Dask's has another worker take over.
                job = rows.iloc[start:end], one, journal.new_name() if executor else ""
                if one.flickr:
                    talking.append(one)
                yield job

        task = functools.partial(fetch_partition, self.store)
        for (_, one, _), outcomes in cluster.run(task, jobs(), slots, executor, in_flight):
            if one.flickr:
                talking.clear()
            later = outcomes["Status"] == "deferred"
            deferred += outcomes.loc[later, "ImageID"].tolist()
            self._take_over(outcomes[~later])
            bar.update(int((~later).sum()))
        return rows[rows["ImageID"].isin(deferred)]

    def _take_over(self, outcomes: "pd.DataFrame") -> None:
        for outcome in outcomes.itertuples(index=False, name=None):
            self._record(Outcome(*outcome))
        waits = {**self.settings.waits, **outcomes.attrs.get("waits", {})}
        self.settings = changed(self.settings, waits=waits)

    def _announce(self, missing: "pd.DataFrame") -> None:
        """Print what is to come.

        Raises
        ------
        TryAgain
            If the recorded sizes add up to more than there is room for.
        """
        sizes = missing["OriginalSize"].dropna()
        if self.settings.sources and self.settings.sources[0] != "flickr":
            sizes = sizes.iloc[:0]
        known, unsized = int(sizes.sum()), len(missing) - len(sizes)
        size = f", {_megabytes(known)}" if known else ""
        more = f" ({unsized:,} of unknown size)" if unsized else ""
        self._say(f"{len(self.settled):,} photos on disk, {len(missing):,} to fetch{size}{more}.")
        if not (self.store.is_local and known):
            return
        self.store.images.mkdir(parents=True, exist_ok=True)
        if known > (room := shutil.disk_usage(self.store.images).free):
            raise TryAgain(
                f"{len(missing):,} photos take {_megabytes(known)}, and {self.store.root} has room "
                f"for {_megabytes(room)}. Free some, give another --data-dir, or a --limit."
            )

    def _write_tables(self, found: selection.Selection) -> "pd.DataFrame":
        import pandas as pd

        images = found.photos.sort_values("ImageID", kind="stable", ignore_index=True)
        nothing = Outcome("", "failed", Error="not requested yet: the run was interrupted")
        rows = [self._final(image_id, nothing) for image_id in images["ImageID"]]
        outcomes = pd.DataFrame(rows, columns=Outcome._fields)[list(OUTCOME_COLUMNS)]
        images = pd.concat([images, outcomes], axis=1)
        images["Release"] = self.selector.query.release
        images = typed(images[list(IMAGE_COLUMNS)], SCHEMAS["images.csv"])
        repeat.record(self.store, self.selector, done=False)
        self.store.write_table(found.boxes, "boxes.csv")
        self.store.write_table(self._credits(images), "ATTRIBUTION.csv")
        self.store.write_table(images, "images.csv")
        repeat.record(self.store, self.selector, done=True)
        journal.compact(self.store, self.known.values())
        skipped: dict[str, Counter] = defaultdict(Counter)
        for one in rows:
            if one.Status == "ok" and one.Skipped:
                skipped[one.Source][one.Skipped] += 1
        images.attrs["skipped"] = {name: dict(counts) for name, counts in skipped.items()}
        return images

    def _final(self, image_id: str, nothing: Outcome) -> Outcome:
        one = self.known.get(image_id, nothing)
        return one if one.Status != "ok" or image_id in self.settled else nothing

    def _credits(self, images: "pd.DataFrame") -> "pd.DataFrame":
        """Return the credits of every photo on disk: of this selection, and of earlier ones."""
        import pandas as pd

        there = {name.removesuffix(".jpg") for name in self.store.sizes(self.store.images)}
        mine = images[(images["Status"] == "ok") & images["ImageID"].isin(there)]
        credits = {}
        if others := there.difference(mine["ImageID"]):
            with contextlib.suppress(BadInput):
                frame = self.store.read_table("ATTRIBUTION.csv", CREDIT_COLUMNS)
                credits = {row[0]: row for row in frame.itertuples(index=False, name=None)}
            for one in journal.replay(self.store):
                if "Credit" in one:
                    credits[one["ImageID"]] = one["Credit"]
            credits = {name: row for name, row in credits.items() if name in others}
        mine = mine[[*CREDIT_COLUMNS[:-1], "Source"]]
        for row in mine.itertuples(index=False, name=None):
            credits[row[0]] = journal.credits_of(dict(zip(mine, row, strict=True)), row[-1])
        rows = [credits[name] for name in sorted(credits)]
        return pd.DataFrame(rows, columns=list(CREDIT_COLUMNS))

    def _remove_parts(self) -> None:
        """Remove files that a killed run left half written."""
        if self.store.is_local:
            for part in self.store.images.glob(".*.jpg.*.part"):
                with contextlib.suppress(OSError):
                    part.unlink()

    def _bar(self, total: int, what: str) -> tqdm:
        disable = True if self.quiet or not total else None
        return tqdm(total=total, desc=what, unit=" photos", disable=disable)

    def _say(self, sentence: str) -> None:
        if not self.quiet:
            tqdm.write(sentence, file=sys.stderr)


def nothing_to_do(table: "pd.DataFrame", quiet: bool) -> "pd.DataFrame":
    """Return the images.csv of a query that is repeated, with a word to the user."""
    table.attrs["skipped"] = {}
    if not quiet:
        there = int((table["Status"] == "ok").sum())
        tqdm.write(f"{there:,} photos on disk, 0 to fetch.", file=sys.stderr)
    return table


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size < 1e9 else f"{size / 1e9:,.1f} GB"
