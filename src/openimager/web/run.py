"""One selection on its way to the disk: what is there, what is missing, rounds until it is."""

import contextlib
import os
import re
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
from tqdm.auto import tqdm

from openimager import metadata, selection
from openimager.errors import BadInput, TryAgain
from openimager.web import photo, sources
from openimager.web.client import Answer, Client
from openimager.web.outcomes import Outcome
from openimager.web.traffic import Patience, Task, Traffic

_BLOCK = 64


class Run:
    """One selection on its way to the disk."""

    def __init__(self, data_dir, found, limit, source, base_url, outcomes, settings, quiet):
        self.data_dir, self.images = data_dir, data_dir / "images"
        self.found, self.limit, self.source, self.base_url = found, limit, source, base_url
        self.outcomes, self.settings, self.quiet = outcomes, settings, quiet
        self.token = secrets.token_hex(4)
        self.on_disk: set[str] = set()
        self.gone: set[str] = set()
        self.before: dict[str, dict[str, str]] = {}

    def all(self, workers: int, patience: Patience, retry_gone: bool) -> pd.DataFrame:
        """Fetch what is missing and write the tables, however it ends; return images.csv."""
        self.images.mkdir(parents=True, exist_ok=True)
        self._remove_parts()
        self.outcomes.adopt_tables()
        self._look_at_disk(retry_gone)
        missing = self._missing()
        self._announce(missing)
        try:
            if missing:
                self._fetch_all(missing, workers, patience)
        finally:
            self._remove_parts()
            table = self._write_tables()
        return table

    def _fetch_all(self, missing: list[str], workers: int, patience: Patience) -> None:
        with contextlib.ExitStack() as stack:
            if metadata.is_directory(self.base_url):
                self.base_url = stack.enter_context(self._served(missing))
            client = stack.enter_context(contextlib.closing(Client(self.settings)))
            traffic = Traffic(client.ask, workers, patience, self._say)
            stack.enter_context(contextlib.closing(traffic))
            bar = stack.enter_context(self._bar(len(missing), "photos"))
            self._fetch(missing, traffic, bar)

    def _fetch(self, missing: list[str], traffic: Traffic, bar) -> None:
        """Fetch round after round: each replaces, within the limit, what the last found gone."""
        asked: set[str] = set()
        while missing:
            asked.update(missing)
            tasks = self._tasks(missing)
            traffic.run(lambda tasks=tasks: next(tasks, None), self._finisher(bar))
            missing = [image_id for image_id in self._missing() if image_id not in asked]
            bar.total += len(missing)
            bar.refresh()

    def _finisher(self, bar) -> Callable[[Task, Answer], None]:
        def finished(task: Task, answer: Answer) -> None:
            image_id = task.row["ImageID"]
            if answer.kind == "ok":
                found = (answer.width, answer.height, answer.size)
                # Written before the photo has its name: see Outcomes.
                self.outcomes.add(task.row, Outcome("ok", task.source.name, *found, gone=task.gone))
                os.replace(task.part, self._path(image_id))
                self.on_disk.add(image_id)
            else:
                self.outcomes.add(
                    task.row, Outcome(answer.kind, error=answer.error, gone=task.gone)
                )
                if answer.kind == "gone":
                    self.gone.add(image_id)
            bar.update()

        return finished

    def _tasks(self, image_ids: Sequence[str]) -> Iterator[Task]:
        for row in self._rows(image_ids):
            path = self._path(row["ImageID"])
            yield Task(
                row,
                sources.of_photo(row, self.source, self.base_url),
                path.with_name(f".{path.name}.{self.token}.part"),
                dict(self.before.get(row["ImageID"], {})),
            )

    def _rows(self, image_ids: Sequence[str]) -> Iterator[dict]:
        """Yield rows of the table of photos as dicts, some at a time, to save memory."""
        photos = self.found.photos.set_index("ImageID", drop=False)
        for start in range(0, len(image_ids), _BLOCK):
            yield from photos.loc[list(image_ids[start : start + _BLOCK])].to_dict("records")

    def _missing(self) -> list[str]:
        """Return the photos that the selection wants and the disk has not, in order."""
        taken = _take(self.found, self.limit, self.gone).photos["ImageID"]
        return taken[~taken.isin(self.on_disk)].tolist()

    def _look_at_disk(self, retry_gone: bool) -> None:
        """Tell what is on disk and whole, and what is gone, without asking anybody."""
        sizes = {path.stem: path.stat().st_size for path in self.images.glob("*.jpg")}
        wanted = self.found.photos["ImageID"]
        unsure = set(wanted) & set(sizes)
        for image_id, outcome in self.outcomes.known(wanted):
            if outcome.status == "ok" and outcome.size == sizes.get(image_id):
                self.on_disk.add(image_id)
                unsure.discard(image_id)
            elif outcome.gone and not retry_gone:
                self.before[image_id] = dict(outcome.gone)
            elif outcome.status == "gone" and not retry_gone and image_id not in sizes:
                # Taken over from an installed table, which does not say which addresses.
                self.gone.add(image_id)
        for row in self._rows(list(self.before)):
            if row["ImageID"] not in unsure:
                places = sources.of_photo(row, self.source, self.base_url)
                if all(one.address in self.before[row["ImageID"]] for one in places):
                    self.gone.add(row["ImageID"])
        self._look_at(sorted(unsure))

    def _look_at(self, image_ids: list[str]) -> None:
        """Adopt photos on disk that no outcome vouches for; remove those that are not whole."""

        def look(row: dict) -> tuple[dict, sources.Source, photo.Look]:
            place = sources.of_photo(row, ("flickr",), self.base_url)[0]
            path, most = self._path(row["ImageID"]), self.settings.most_pixels
            seen = photo.judge(path, place.size, place.md5, most)
            # It may well come from a source for which the table records nothing.
            return row, place, seen if seen.known else photo.judge(path, most_pixels=most)

        rows = self._rows(image_ids)
        with self._bar(len(image_ids), "photos looked at") as bar, ThreadPoolExecutor() as pool:
            while block := [row for row, _ in zip(rows, range(_BLOCK), strict=False)]:
                for row, _, seen in pool.map(look, block):
                    self._adopt(row, seen)
                    bar.update()

    def _adopt(self, row: dict, seen: photo.Look) -> None:
        image_id = row["ImageID"]
        if seen.fault:
            self._path(image_id).unlink()
            return
        source = "flickr" if seen.known else ""
        size = (seen.width, seen.height, seen.size)
        self.outcomes.add(row, Outcome("ok", source, *size))
        self.on_disk.add(image_id)

    def _announce(self, missing: list[str]) -> None:
        """Say what is to come, and stop if the disk has not the room for it.

        Raises
        ------
        TryAgain
            If the sizes in the table add up to more than there is room for.
        """
        photos = self.found.photos
        sizes = photos.loc[photos["ImageID"].isin(missing), "OriginalSize"]
        if self.source is not None and self.source[0] != "flickr":
            sizes = sizes.iloc[:0]
        known, room = int(sizes.sum()), shutil.disk_usage(self.images).free
        unsized = len(missing) - int(sizes.notna().sum())
        size = f", {_megabytes(known)}" if known else ""
        more = f" ({unsized:,} of unknown size)" if unsized else ""
        self._say(f"{len(self.on_disk):,} photos on disk, {len(missing):,} to fetch{size}{more}.")
        if known > room:
            raise TryAgain(
                f"{len(missing):,} photos take {_megabytes(known)}, and {self.data_dir} has room "
                f"for {_megabytes(room)}. Make room, give another --data-dir, or a --limit."
            )

    def _write_tables(self) -> pd.DataFrame:
        taken = _take(self.found, self.limit, self.gone)
        rows = set(taken.photos["ImageID"]) | self._passed_over(taken)
        photos = self.found.photos[self.found.photos["ImageID"].isin(rows)]
        on_disk = {path.stem for path in self.images.glob("*.jpg")}
        return self.outcomes.write_tables(photos, taken.boxes, on_disk)

    def _passed_over(self, taken: selection.Selection) -> set[str]:
        """Return the photos that are gone and would have been taken otherwise."""
        place = dict(zip(self.found.photos["ImageID"], range(len(self.found.photos)), strict=True))
        pairs = self.found.boxes[["ImageID", "Category"]].drop_duplicates()
        pairs = pairs.assign(place=pairs["ImageID"].map(place))
        is_gone = pairs["ImageID"].isin(self.gone)
        if self.limit is None:
            return set(pairs.loc[is_gone, "ImageID"])
        there = pairs[~is_gone].sort_values("place").groupby("Category")["place"]
        # A category with fewer photos than the limit has looked at all of them.
        last = there.nth(self.limit - 1)
        last = dict(zip(pairs.loc[last.index, "Category"], last, strict=True))
        before = pairs["place"] < pairs["Category"].map(last).fillna(len(place))
        return set(pairs.loc[is_gone & before, "ImageID"])

    @contextlib.contextmanager
    def _served(self, missing: list[str]) -> Iterator[str]:
        """Serve the directory of the tables while relative addresses are asked for."""
        columns = ["OriginalURL", "Thumbnail300KURL"]
        photos = self.found.photos
        addresses = photos.loc[photos["ImageID"].isin(missing), columns].to_numpy().ravel()
        if not any(sources.is_relative(sources.text(address)) for address in addresses):
            yield metadata.BASE_URL
            return
        from openimager import sample

        with sample.serve(self.base_url) as url:
            yield url

    def _path(self, image_id: str):
        # The name of a file is the one thing that a table could use to reach out of the folder.
        if not re.fullmatch("[0-9a-fA-F]{16}", image_id):
            raise BadInput(f"'{image_id}' is no ImageID: those are 16 hex digits.")
        return self.images / f"{image_id}.jpg"

    def _remove_parts(self) -> None:
        """Remove what earlier runs, or requests that were given up, left half written."""
        for part in self.images.glob(".*.jpg.*.part"):
            with contextlib.suppress(OSError):
                part.unlink()

    def _bar(self, total: int, what: str) -> tqdm:
        return tqdm(total=total, desc=what, unit="photo", disable=True if self.quiet else None)

    def _say(self, sentence: str) -> None:
        if not self.quiet:
            tqdm.write(sentence, file=sys.stderr)


def _take(found, limit, gone):
    """Cut a selection to the first `limit` photos of each category that are not gone."""
    photos = found.photos[~found.photos["ImageID"].isin(gone)]
    if limit is not None:
        place = dict(zip(photos["ImageID"], range(len(photos)), strict=True))
        pairs = found.boxes[["ImageID", "Category"]].drop_duplicates()
        pairs = pairs[pairs["ImageID"].isin(place)]
        pairs = pairs.assign(place=pairs["ImageID"].map(place)).sort_values("place")
        taken = pairs.groupby("Category").head(limit)["ImageID"]
        photos = photos[photos["ImageID"].isin(taken)]
    boxes = found.boxes[found.boxes["ImageID"].isin(photos["ImageID"])].reset_index(drop=True)
    return selection.Selection(photos.reset_index(drop=True), boxes, found.categories)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size < 1e9 else f"{size / 1e9:,.1f} GB"
