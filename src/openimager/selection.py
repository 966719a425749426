"""A query in SQL: which boxes and photos it selects."""

import functools
import warnings
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from openimager.errors import BadInput, first_of
from openimager.query import DROPS, Query, Site
from openimager.store import BOX_COLUMNS, FLAGS, PHOTO_COLUMNS, SUBSETS
from openimager.tables import categories, views

_BLOCK = 1000  # rows in memory at a time


class Selector:
    """Selects the photos and boxes of a query, and replaces photos that turn out to be gone.

    The rows are in DuckDB, in memory or at `path`, and read a block at a time. BadInput if a
    category is unknown, a table can't be used, or nothing is selected; TryAgain if a table can't be
    fetched. Warns if one category is a kind of another or has no photos, and of rows left out.
    """

    def __init__(self, query: Query, site: Site, path: Path | None = None):
        if not query.categories and not query.merge:
            raise BadInput(
                "No category was given. Name at least one, such as: openimager Cat Dog "
                "(openimager --list shows them all)"
            )
        with_children, hierarchy = query.with_children, None
        if with_children or not (site.boxes and site.photos):
            hierarchy = site.hierarchy(needed=with_children)
        labels = categories.labels(
            query.categories, site.classes(), hierarchy, with_children, query.without, query.merge
        )
        self.categories, self.query = labels.names, replace(query, categories=labels.given)
        self.site, self._files = site, site.tables(query.subsets, "boxes", "photos")
        self._boxes, self._photos = (
            "(" + " UNION ALL ".join(views.source(p, kind) for p in self._files[kind]) + ")"
            for kind in ("boxes", "photos")
        )
        self._path = path
        with views.explain_errors():
            self._find(labels)
            self._report()
            self._close()
            self._order()
            self._close()

    @functools.cached_property
    def _con(self):
        return views.open_database(self.site.cache_dir, self._path or ":memory:")

    def _close(self) -> None:
        """Close a database in a file until the next query: an open one takes tens of MB."""
        if self._path:
            # Closing compresses what is not in the file yet, with buffers for each thread.
            self._con.execute("SET threads = 1")
            self._con.close()
            del self._con

    def _find(self, labels: categories.Labels) -> None:
        """Fill the tables box and photo with rows that qualify, and with faulty ones to report."""
        query, run = self.query, self._con.execute
        run(
            f"""CREATE TABLE listed AS SELECT id, right(id, 16) AS ImageID, Subset
            FROM unnest(?::VARCHAR[]) AS i(id), unnest({list(SUBSETS)}) AS s(Subset)
            WHERE starts_with(id, Subset || '/') OR NOT contains(id, '/')""",
            [list(query.image_ids or ())],
        )
        boxes, photos = f"{self._boxes} b", f"{self._photos} p"
        if query.image_ids is not None:
            boxes += " SEMI JOIN listed USING (ImageID)"
            photos += " SEMI JOIN listed USING (ImageID, Subset)"
        keep = [f"{DROPS[name]} <> 1" for name in query.drop]
        keep += [f"{flag} <> -1" for flag in FLAGS] if query.drop_unknown else []
        mids, names = views.quoted(*labels.category), views.quoted(*labels.category.values())
        run(
            f"""CREATE TABLE box AS
            SELECT *, map_extract(map([{mids}], [{names}]), LabelName)[1] AS Category FROM {boxes}
            WHERE LabelName IN ({mids}) AND (Fault IS NOT NULL OR {" AND ".join(keep) or "true"})"""
        )
        if labels.without:
            run(
                f"""DELETE FROM box WHERE ImageID IN (SELECT ImageID FROM {self._boxes}
                WHERE LabelName IN ({views.quoted(*labels.without)}) AND Fault IS NULL)"""
            )
        run(
            f"""CREATE TABLE photo AS
            SELECT ImageID, Subset, OriginalSize, License, Fault,
                left(md5('{query.seed}:' || ImageID), 12) AS hash
            FROM {photos} WHERE ImageID IN (SELECT ImageID FROM box)
                AND (Fault IS NOT NULL OR Subset IN ({views.quoted(*query.subsets)}));
            DELETE FROM photo WHERE rowid NOT IN (
                SELECT min(rowid) FROM photo GROUP BY ImageID, Fault)"""
        )

    def _report(self) -> None:
        """Warn of what is left out: broken rows, boxes without a photo, unknown ImageIDs."""
        run, where = self._con.execute, ", ".join(self.query.subsets)
        for kind, table in (("boxes", "box"), ("photos", "photo")):
            views.warn_of_bad_rows(self._con, self._files[kind], table)
        run("DELETE FROM box WHERE Fault IS NOT NULL")
        [(count, first)] = run(
            "SELECT count(DISTINCT ImageID), min(ImageID) FROM box ANTI JOIN photo USING (ImageID)"
        ).fetchall()
        if count and self.query.image_ids is None:
            warnings.warn(
                f"{count:,} photo{'s have' if count > 1 else ' has'} boxes but no row in the "
                f"table of photos (the first is {first}); left out.",
                stacklevel=3,
            )
        run("DELETE FROM photo WHERE Fault IS NOT NULL")
        run("DELETE FROM box WHERE ImageID NOT IN (SELECT ImageID FROM photo)")
        found = {*run("SELECT id FROM listed JOIN photo USING (ImageID, Subset)").fetchall()}
        if unknown := [one for one in self.query.image_ids or () if (one,) not in found]:
            warnings.warn(
                f"{len(unknown):,} of {len(self.query.image_ids):,} ImageIDs have no box of these "
                f"categories in {where} ({first_of(unknown, 5)}).",
                stacklevel=3,
            )
        there = {name for (name,) in run("SELECT DISTINCT Category FROM box").fetchall()}
        if empty := ", ".join(name for name in self.categories if name not in there):
            if not there:
                raise BadInput(f"There is no photo of {empty} in {where}: nothing is selected.")
            warnings.warn(f"There is no photo of {empty} in {where}.", stacklevel=3)

    def _order(self) -> None:
        """Fill the table ranked: in each category, each subset by hash, mixed in proportion."""
        self._con.execute(
            """CREATE TABLE ranked AS
            SELECT Category, ImageID, hash, row_number() OVER (
                PARTITION BY Category ORDER BY (n - 0.5::DOUBLE) / total, hash, ImageID) AS place
            FROM (
                SELECT Category, ImageID, hash,
                    row_number() OVER (subset ORDER BY hash, ImageID) AS n,
                    count(*) OVER subset AS total
                FROM (SELECT DISTINCT Category, ImageID FROM box) JOIN photo USING (ImageID)
                WINDOW subset AS (PARTITION BY Category, Subset))"""
        )

    def _select(self, gone: Collection[str] = ()) -> None:
        """Fill the table selected: photos in order, up to the limit; gone ones do not count."""
        self._con.execute(
            """CREATE OR REPLACE TABLE selected AS
            WITH gone AS (SELECT unnest(?::VARCHAR[]) AS ImageID),
            there AS (
                SELECT Category, place,
                    row_number() OVER (PARTITION BY Category ORDER BY place) AS n
                FROM ranked ANTI JOIN gone USING (ImageID)),
            ends AS (SELECT Category, place AS stop FROM there WHERE n = ?)
            SELECT ImageID, hash, min(place) AS place FROM ranked LEFT JOIN ends USING (Category)
            WHERE stop IS NULL OR place <= stop GROUP BY ALL""",
            [list(gone), self.query.limit],
        )

    def take(self, gone: Collection[str] = frozenset()) -> Iterator[tuple[str, int | None]]:
        """Yield ImageID and OriginalSize of the selected photos, in order.

        `gone` are ImageIDs that no source has any more. They stay in the result, but do not
        count towards the limit, so the next photos are added.
        """
        with views.explain_errors():
            self._select(gone)
        yield from self._rows(
            """SELECT ImageID, OriginalSize FROM selected JOIN photo USING (ImageID)
            ORDER BY place, selected.hash, ImageID"""
        )
        self._close()

    def photos(self, known: Collection[str] = frozenset()) -> Iterator[dict]:
        """Yield the rows of the photos that `take` returned, except `known` ones, in any order.

        ``""`` is a missing value.
        """
        found = self._rows(
            f"""SELECT {", ".join(PHOTO_COLUMNS)} FROM {self._photos}
            SEMI JOIN selected USING (ImageID) WHERE Fault IS NULL"""
        )
        seen = set(known)
        for row in found:
            if row[0] not in seen:
                seen.add(row[0])
                yield {c: "" if v is None else v for c, v in zip(PHOTO_COLUMNS, row, strict=True)}
        self._close()

    def boxes(self, ids: Collection[str]) -> Iterator[tuple]:
        """Yield the boxes of photos, BOX_COLUMNS and Category, in the order of ImageIDs."""
        columns = ", ".join((*BOX_COLUMNS, "Category"))
        [(whole,)] = self._rows("SELECT bool_and(Confidence % 1 = 0) FROM box")
        if whole:
            # Published as 0 and 1, so they are written as integers.
            columns = columns.replace("Confidence", "Confidence::BIGINT")
        ids = sorted(ids)
        for start in range(0, len(ids), _BLOCK):
            yield from self._rows(
                f"""SELECT {columns} FROM box
                WHERE ImageID IN (SELECT unnest(?::VARCHAR[])) ORDER BY ImageID, rowid""",
                ids[start : start + _BLOCK],
            )
        self._close()

    def _rows(self, question: str, *parameters) -> Iterator[tuple]:
        with views.explain_errors():
            found = self._con.execute(question, parameters)
            while rows := found.fetchmany(_BLOCK):
                yield from rows

    def describe(self) -> dict[str, dict]:
        """Count what `take` would return, per category and ``"in all"``, within the database.

        Each count is a dict: photos, boxes, one for each flag (boxes with it set), unknown (boxes
        with unknown flags), bytes (sum of OriginalSize), unsized (photos without one) and licences
        (each licence and its number of photos).
        """
        flags = ", ".join(f"count(*) FILTER ({flag} = 1) AS {flag}" for flag in FLAGS)
        unknown = " OR ".join(f"{flag} = -1" for flag in FLAGS)
        with views.explain_errors():
            self._select()
            counts = self._con.execute(
                f"""WITH mine AS (
                    SELECT unnest([Category, 'in all']) AS name, box.* EXCLUDE Category
                    FROM box JOIN selected USING (ImageID)),
                boxes AS (
                    SELECT name, count(*) AS boxes, {flags}, count(*) FILTER ({unknown}) AS unknown
                    FROM mine GROUP BY name),
                photos AS (
                    SELECT name, count(*) AS photos, coalesce(sum(OriginalSize), 0) AS bytes,
                        count(*) FILTER (OriginalSize IS NULL) AS unsized,
                        histogram(License) AS licences
                    FROM (SELECT DISTINCT name, ImageID FROM mine) JOIN photo USING (ImageID)
                    GROUP BY name)
                FROM boxes JOIN photos USING (name)"""
            )
            columns = [column[0] for column in counts.description[1:]]
            found = {name: dict(zip(columns, row, strict=True)) for name, *row in counts.fetchall()}
        nothing = dict.fromkeys(columns, 0) | {"licences": {}}
        return {name: found.get(name, nothing) for name in (*self.categories, "in all")}
