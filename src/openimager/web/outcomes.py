"""What became of each photo that was ever asked for: kept as it happens, told in three tables."""

import contextlib
import html
import json
import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from openimager import files
from openimager.store import PHOTO_COLUMNS
from openimager.web.sources import text

STATE = ".openimager"
IMAGE_COLUMNS = (*PHOTO_COLUMNS, "Status", "Source", "Width", "Height", "Bytes", "Error")
CREDIT_COLUMNS = (
    "ImageID",
    "Title",
    "Author",
    "AuthorProfileURL",
    "OriginalLandingURL",
    "License",
    "Changes",
)
CHANGES = {
    "flickr": "none",
    "cvdf": "scaled down to at most 1,024 pixels (CVDF)",
    "thumbnail": "scaled down to a thumbnail (Flickr)",
}

_TABLES = f"""
create table if not exists outcomes (ImageID text primary key, Status text, Source text,
    Width integer, Height integer, Bytes integer, Error text, Gone text) without rowid;
create table if not exists credits ({", ".join(CREDIT_COLUMNS)}, primary key (ImageID))
    without rowid;
"""


class Outcome(NamedTuple):
    """One photo's row of the table of outcomes; `gone` maps addresses to reasons."""

    status: str
    source: str = ""
    width: int | None = None
    height: int | None = None
    size: int | None = None
    error: str = ""
    gone: Mapping[str, str] = {}


class Outcomes:
    """Outcomes and credits in a small database, so that `kill -9` costs nothing that is whole.

    Each outcome is one transaction. It is written before the photo gets its final name: a photo
    that is known but missing is asked for again, one that is there is known.

    Parameters
    ----------
    data_dir : path-like

    Notes
    -----
    The database outlives the process, not a power failure in the middle of a write: it does not
    wait for the disk. One that cannot be read is begun anew, and photos on disk are then looked at
    instead of asked for again.
    """

    def __init__(self, data_dir: str | os.PathLike):
        self.data_dir = Path(data_dir)
        path = self.data_dir / STATE / "outcomes.sqlite"
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._base = _opened(path)
        except sqlite3.DatabaseError:
            path.unlink(missing_ok=True)
            self._base = _opened(path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._base.close()

    def add(self, row: Mapping, outcome: Outcome) -> None:
        """Write down one photo's outcome and, if it is on disk, its credits.

        Parameters
        ----------
        row : mapping
            Its row of the table of photos.
        outcome : Outcome
        """
        with self._writing() as base:
            base.execute(
                "insert or replace into outcomes values (?, ?, ?, ?, ?, ?, ?, ?)",
                (row["ImageID"], *outcome[:6], json.dumps(dict(outcome.gone))),
            )
            if outcome.status == "ok":
                base.execute(
                    "insert or replace into credits values (?, ?, ?, ?, ?, ?, ?)",
                    credits_of(row, outcome.source),
                )

    def known(self, wanted: Iterable[str]) -> Iterator[tuple[str, Outcome]]:
        """Yield ImageID and outcome of those `wanted` photos that have one."""
        wanted = frozenset(wanted)
        for image_id, *fields, gone in self._base.execute("select * from outcomes"):
            if image_id in wanted:
                yield image_id, Outcome(*fields, json.loads(gone))

    def adopt_tables(self) -> None:
        """Take over what images.csv and ATTRIBUTION.csv know and the database does not.

        They are all there is after installing the data as a package.
        """
        images, credits = self.data_dir / "images.csv", self.data_dir / "ATTRIBUTION.csv"
        with contextlib.suppress(OSError, ValueError):
            frame = pd.read_csv(credits, dtype=str, keep_default_na=False, encoding="utf-8")
            rows = frame[list(CREDIT_COLUMNS)].itertuples(index=False, name=None)
            with self._writing() as base:
                base.executemany("insert or ignore into credits values (?, ?, ?, ?, ?, ?, ?)", rows)
        with contextlib.suppress(OSError, ValueError, KeyError):
            frame = pd.read_csv(images, dtype=str, keep_default_na=False, encoding="utf-8")
            settled = frame["Status"].isin(("ok", "gone"))
            frame = frame.loc[settled, ["ImageID", *IMAGE_COLUMNS[-6:]]]
            rows = ((*row, "{}") for row in frame.itertuples(index=False, name=None))
            with self._writing() as base:
                base.executemany(
                    "insert or ignore into outcomes values (?, ?, ?, ?, ?, ?, ?, ?)", rows
                )

    def images(self, photos: pd.DataFrame, on_disk: Collection[str]) -> pd.DataFrame:
        """Return `photos` with what became of each, sorted by ImageID.

        Parameters
        ----------
        photos : pandas.DataFrame
        on_disk : collection of str
            ImageIDs. An outcome that says otherwise was written just before the run ended.

        Returns
        -------
        pandas.DataFrame
            `IMAGE_COLUMNS`. A photo without an outcome is ``"failed"``: it was not asked for yet.
        """
        names = ["ImageID", *IMAGE_COLUMNS[-6:]]
        wanted = frozenset(photos["ImageID"])
        known = self._base.execute(f"select {', '.join(names)} from outcomes")
        rows = [row for row in known if row[0] in wanted and (row[1] != "ok" or row[0] in on_disk)]
        outcomes = pd.DataFrame(rows, columns=names)
        frame = photos.merge(outcomes, how="left", on="ImageID")
        missing = frame["Status"].isna()
        frame.loc[missing, "Status"] = "failed"
        frame.loc[missing, "Error"] = "not asked for yet: the run was interrupted"
        frame["Source"] = frame["Source"].fillna("")
        for name in ("Width", "Height", "Bytes"):
            frame[name] = pd.to_numeric(frame[name]).astype("Int64")
        frame = frame[list(IMAGE_COLUMNS)]
        return frame.sort_values("ImageID", kind="stable", ignore_index=True)

    def credits(self, image_ids: Iterable[str]) -> pd.DataFrame:
        """Return the credits of the given photos, `CREDIT_COLUMNS`, sorted by ImageID."""
        wanted = frozenset(image_ids)
        rows = self._base.execute("select * from credits order by ImageID")
        return pd.DataFrame([row for row in rows if row[0] in wanted], columns=CREDIT_COLUMNS)

    def write_tables(
        self, photos: pd.DataFrame, boxes: pd.DataFrame, on_disk: Collection[str]
    ) -> pd.DataFrame:
        """Write images.csv, boxes.csv and ATTRIBUTION.csv; return the first.

        Parameters
        ----------
        photos, boxes : pandas.DataFrame
            The selection.
        on_disk : collection of str
            ImageIDs of all photos on disk, of earlier selections too.
        """
        images = self.images(photos, on_disk)
        files.write_table(boxes, self.data_dir / "boxes.csv")
        files.write_table(self.credits(on_disk), self.data_dir / "ATTRIBUTION.csv")
        files.write_table(images, self.data_dir / "images.csv")
        return images

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._base:
                yield self._base
        except sqlite3.OperationalError as error:
            raise OSError(str(error)) from error


def credits_of(row: Mapping, source: str) -> tuple[str, ...]:
    """Return a photo's row of ATTRIBUTION.csv.

    Examples
    --------
    >>> row = dict.fromkeys(CREDIT_COLUMNS, "") | {"ImageID": "0" * 16, "Title": "Salt &amp; more"}
    >>> credits_of(row, "cvdf")[1], credits_of(row, "cvdf")[-1]
    ('Salt & more', 'scaled down to at most 1,024 pixels (CVDF)')
    """
    changes = CHANGES.get(source, f"as served by {source}" if source else "not known")
    fields = (html.unescape(text(row[name])) for name in CREDIT_COLUMNS[1:-1])
    return row["ImageID"], *fields, changes


def _opened(path: Path) -> sqlite3.Connection:
    base = sqlite3.connect(path, timeout=5)
    try:
        base.execute("pragma synchronous = off")
        base.execute("pragma journal_mode = truncate")
        base.execute("pragma cache_size = -256")
        base.executescript(_TABLES)
        base.execute("select count(*) from outcomes").fetchone()
    except sqlite3.DatabaseError:
        base.close()
        raise
    return base
