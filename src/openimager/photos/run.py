"""One run: what of a selection is missing, rounds until it is on disk, and the tables."""

import contextlib
import functools
import operator
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace as changed
from typing import TYPE_CHECKING

from tqdm.auto import tqdm

from openimager import cluster, query
from openimager.errors import BadInput, TryAgain
from openimager.photos import journal
from openimager.photos.fetch import BEFORE, fetch_partition, fetch_rows, records
from openimager.photos.photo import Outcome, Settings, sources_of
from openimager.selection import Selection, Site
from openimager.store import CREDIT_COLUMNS, IMAGE_COLUMNS, OUTCOME_COLUMNS, SCHEMAS, Store, typed

if TYPE_CHECKING:
    import pandas as pd

_NOTHING = Outcome("", "failed", Error="not requested yet: the run was interrupted")


class Run:
    """One selection on its way into a data directory."""

    def __init__(self, store: Store, selector, settings: Settings, retry_gone: bool, quiet: bool):
        self.store, self.selector, self.settings = store, selector, settings
        self.retry_gone, self.quiet = retry_gone, quiet
        self.known: dict[str, Outcome] = {}
        # No source has these; these are settled: whole on disk, or failed in this run.
        self.gone: set[str] = set()
        self.settled: set[str] = set()
        # Files on disk that are not known to be gone since.
        self._sizes: dict[str, int] = {}

    def all(
        self, executor=None, slots: int = 1, in_flight: int | None = None, replace: bool = False
    ) -> "pd.DataFrame":
        """Fetch what is missing and write the tables, however it ends; return images.csv."""
        self._remove_parts()
        self._replay()
        if not self.retry_gone:
            self.gone = {name for name, one in self.known.items() if one.Status == "gone"}
        self._sizes = self.store.sizes(self.store.images)
        found, missing = self._in_play()
        if not replace:
            self._check(found)
        self._announce(found, missing)
        disable = True if self.quiet or not len(missing) else None
        try:
            with tqdm(desc="photos", unit=" photos", disable=disable) as bar:
                elsewhere = executor is not None or slots > 1
                while len(missing):
                    bar.total = bar.n + len(missing)
                    if elsewhere:
                        # The photos left are those that only Flickr may have.
                        elsewhere = not self._partitions(missing, bar, executor, slots, in_flight)
                    else:
                        done = functools.partial(_show, bar, bar.n)
                        self._settle(fetch_rows(missing, self.store, self.settings, done))
                    found, missing = self._in_play()
        except BaseException:
            # What other threads and processes have fetched is in their journals.
            self._replay()
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
            new = frame["Status"].isin(("ok", "gone")) & ~frame["ImageID"].isin(self.known)
            for row in records(frame[new]):
                self.known[row["ImageID"]] = Outcome(**row)

    def _in_play(self) -> "tuple[Selection, pd.DataFrame]":
        """Return the selection in which photos that are gone have been replaced; rows to fetch.

        These have what earlier runs know of them, and whether they are on disk without an outcome.
        """
        before = None
        while before != self.gone:
            before = set(self.gone)
            found = self.selector.take(self.gone)
            rows = found.photos[~found.photos["ImageID"].isin(self.settled)]
            for image_id in rows["ImageID"]:
                if (size := self._sizes.get(f"{image_id}.jpg")) is not None:
                    self.gone.discard(image_id)
                    one = self.known.get(image_id, _NOTHING)
                    if one.Status == "ok" and one.Bytes == size:
                        self.settled.add(image_id)
            # With other sources than before, a photo may not be gone. An installed table does not
            # name the addresses.
            for row in records(rows[rows["ImageID"].isin(self.gone)]):
                if verdicts := self.known[row["ImageID"]].Gone:
                    places = sources_of(row | {"Gone": verdicts}, self.settings)
                    if not all(one.gone for one in places):
                        self.gone.remove(row["ImageID"])
        rows = rows[~rows["ImageID"].isin(self.gone | self.settled)]
        known = {} if self.retry_gone else self.known
        missing = rows.assign(
            Gone=[known.get(image_id, _NOTHING).Gone for image_id in rows["ImageID"]],
            Here=[BEFORE * (f"{image_id}.jpg" in self._sizes) for image_id in rows["ImageID"]],
        )
        return found, missing

    def _partitions(self, rows, bar: tqdm, executor, slots: int, in_flight: int | None) -> bool:
        """Fetch partitions elsewhere; tell whether only Flickr may have some photos.

        One partition at a time may talk to Flickr, and hands its waiting on to the next.
        """
        talking, deferred = [], False
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
            deferred = deferred or later.any()
            self._settle(outcomes[~later])
            bar.update(int((~later).sum()))
        return deferred

    def _settle(self, outcomes: "pd.DataFrame") -> None:
        for outcome in map(Outcome._make, outcomes.itertuples(index=False, name=None)):
            self.known[outcome.ImageID] = outcome
            (self.gone if outcome.Status == "gone" else self.settled).add(outcome.ImageID)
            self._sizes.pop(f"{outcome.ImageID}.jpg", None)
        waits = {**self.settings.waits, **outcomes.attrs.get("waits", {})}
        self.settings = changed(self.settings, waits=waits)

    def _announce(self, found: Selection, missing: "pd.DataFrame") -> None:
        """Print what is to come; TryAgain if the recorded sizes exceed the room on the disk."""
        there = int((found.photos["ImageID"] + ".jpg").isin(self._sizes).sum())
        missing = missing[missing["Here"] == ""]
        sizes = missing["OriginalSize"].dropna()
        if self.settings.sources and self.settings.sources[0] != "flickr":
            sizes = sizes.iloc[:0]
        known, unsized = int(sizes.sum()), len(missing) - len(sizes)
        size = f", {_megabytes(known)}" if known else ""
        more = f" ({unsized:,} of unknown size)" if unsized else ""
        if not self.quiet:
            say(f"{there:,} photos on disk, {len(missing):,} to fetch{size}{more}.")
        if not (self.store.is_local and known):
            return
        self.store.images.mkdir(parents=True, exist_ok=True)
        if known > (room := shutil.disk_usage(self.store.images).free):
            raise TryAgain(
                f"{len(missing):,} photos take {_megabytes(known)}, and {self.store.root} has room "
                f"for {_megabytes(room)}. Free some, give another --data-dir, or a --limit."
            )

    def _check(self, found: Selection) -> None:
        """Raise BadInput if the selection drops categories, or photos on disk, of the tables."""
        try:
            images = self.store.read_table("images.csv", ["ImageID", "Status"])
            held = set(self.store.read_table("boxes.csv", ["Category"])["Category"])
        except BadInput:
            return
        on_disk = images.loc[images["Status"] == "ok", "ImageID"]
        photos = int((~on_disk.isin(found.photos["ImageID"])).sum())
        categories = sorted(held.difference(found.categories))
        what = [f"the categories {', '.join(categories)}"] if categories else []
        what += [f"{photos:,} of {len(on_disk):,} photos"] if photos else []
        if what:
            raise BadInput(
                f"This selection would drop {' and '.join(what)} from the tables in "
                f"{self.store.root}. Give --replace (replace=True) to do that, or another "
                "--data-dir."
            )

    def _write_tables(self, found: Selection) -> "pd.DataFrame":
        import pandas as pd

        sizes, outcomes = self.store.sizes(self.store.images), []
        images = found.photos.sort_values("ImageID", kind="stable", ignore_index=True)
        for image_id in images["ImageID"]:
            one = self.known.get(image_id, _NOTHING)
            lost = one.Status == "ok" and sizes.get(f"{image_id}.jpg") != one.Bytes
            outcomes.append(_NOTHING if lost else one)
        ended = pd.DataFrame(outcomes, columns=Outcome._fields, dtype=object)
        images = images.join(ended[list(OUTCOME_COLUMNS)])
        images["Release"] = self.selector.query.release
        images = typed(images[list(IMAGE_COLUMNS)], SCHEMAS["images.csv"])
        self._record_query(done=False)
        self.store.write_table(found.boxes, "boxes.csv")
        self.store.write_table(self._credits(images, sizes), "ATTRIBUTION.csv")
        self.store.write_table(images, "images.csv")
        self._record_query(done=True)
        journal.compact(self.store, self.known.values())
        skipped = ended[(ended["Status"] == "ok") & (ended["Skipped"] != "")]
        images.attrs["skipped"] = {
            source: dict(reasons.value_counts())
            for source, reasons in skipped.groupby("Source")["Skipped"]
        }
        return images

    def _record_query(self, done: bool) -> None:
        """Write data/query.json: before the tables with `done` False, and after them."""
        content = self.selector.query.to_json() | {"downloaded": done}
        self.store.write_json(query.NAME, content)
        self.store.write_json(query.SITE, given(self.selector.site))

    def _credits(self, images: "pd.DataFrame", sizes: dict[str, int]) -> "pd.DataFrame":
        """Return the credits of every photo on disk: of this selection, and of earlier ones."""
        import pandas as pd

        mine, credits = images[images["Status"] == "ok"], {}
        others = {name.removesuffix(".jpg") for name in sizes}.difference(mine["ImageID"])
        if others:
            with contextlib.suppress(BadInput):
                frame = self.store.read_table("ATTRIBUTION.csv", CREDIT_COLUMNS)
                credits = {row[0]: row for row in frame.itertuples(index=False, name=None)}
            journaled = (one for one in journal.replay(self.store) if "Credit" in one)
            credits |= {one["ImageID"]: one["Credit"] for one in journaled}
        rows = [credits[name] for name in others if name in credits]
        mine = records(mine[[*CREDIT_COLUMNS[:-1], "Source"]])
        rows += [journal.credits_of(row, row["Source"]) for row in mine]
        rows.sort(key=operator.itemgetter(0))
        return pd.DataFrame(rows, columns=list(CREDIT_COLUMNS))

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


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size < 1e9 else f"{size / 1e9:,.1f} GB"
