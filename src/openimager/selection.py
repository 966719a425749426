"""A query in SQL: which boxes and photos it selects."""

import warnings
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from openimager.errors import BadInput
from openimager.query import DROPS, Query, Site, ask, drop_flags, without_flags  # noqa: F401
from openimager.store import FLAGS
from openimager.tables import categories, convert
from openimager.tables.cache import cache_folder

if TYPE_CHECKING:
    import pandas as pd


class Selection(NamedTuple):
    """The rows that a query selects.

    Attributes
    ----------
    photos : pandas.DataFrame
        `PHOTO_COLUMNS`, one row per photo, in the order in which a limit takes them.
    boxes : pandas.DataFrame
        `BOX_COLUMNS` and Category, sorted by ImageID, then as in the table.
    categories : tuple of str
        The categories of the result, in the order given, whether they have boxes or not.
    """

    photos: "pd.DataFrame"
    boxes: "pd.DataFrame"
    categories: tuple[str, ...] = ()


class Selector:
    """The photos and boxes of a query, asked again as photos turn out to be gone.

    The rows that qualify are kept in DuckDB; only those in play become a frame.

    Raises
    ------
    BadInput
        If a category is unknown, a table is missing or lacks columns, or nothing is selected.
    TryAgain
        If a table can't be fetched.

    Warns
    -----
    UserWarning
        If one category is a kind of another, a category has no photos, rows break the format,
        or boxes have no photo.
    """

    def __init__(self, query: Query, site: Site):
        self.site = site
        if not query.categories and not query.merge:
            raise BadInput(
                "No category was given. Name at least one, such as: openimager Cat Dog "
                "(openimager --list shows them all)"
            )
        hierarchy = None
        if query.with_children:
            hierarchy = categories.read_hierarchy(site.local(("hierarchy", None))[0])
        elif site.boxes is None or site.photos is None:
            hierarchy = site.hierarchy()
        labels = categories.labels(
            query.categories,
            site.classes(),
            hierarchy,
            query.with_children,
            query.without,
            query.merge,
        )
        self.categories, self.query = labels.names, replace(query, categories=labels.given)
        files = site.tables(query.subsets, "boxes", "photos")
        self._source = {
            kind: " UNION ALL ".join(convert.source(path, kind) for path in paths)
            for kind, paths in files.items()
        }
        self._con = convert.open_database(cache_folder(site.cache_dir))
        with convert.explain_errors():
            self._find_boxes(labels)
            self._find_photos()
            self._report(files)
            self._order()
        self._rows: pd.DataFrame | None = None

    def _find_boxes(self, labels: categories.Labels) -> None:
        """Fill the table box with the boxes that qualify, and those that break the format."""
        query, run = self.query, self._con.execute
        run(
            "CREATE TEMP TABLE wanted_id AS SELECT right(id, 16) AS ImageID, "
            "left(id, greatest(length(id) - 17, 0)) AS Subset FROM unnest(?::VARCHAR[]) AS t(id)",
            [list(query.image_ids or ())],
        )
        keep = [f"{DROPS[name]} <> 1" for name in query.drop]
        keep += [f"{flag} <> -1" for flag in FLAGS] if query.drop_unknown else []
        only = "" if query.image_ids is None else " AND ImageID IN (SELECT ImageID FROM wanted_id)"
        run(
            "CREATE TEMP TABLE box AS SELECT b.*, "
            "map_extract(map(?::VARCHAR[], ?::VARCHAR[]), LabelName)[1] AS Category "
            f"FROM ({self._source['boxes']}) b WHERE LabelName IN {_listed(labels.category)} "
            f"AND (Fault IS NOT NULL OR ({' AND '.join(keep) or 'true'})){only}",
            [[*labels.category], [*labels.category.values()]],
        )
        if labels.without:
            run(
                f"DELETE FROM box WHERE ImageID IN (SELECT ImageID FROM ({self._source['boxes']}) "
                f"WHERE LabelName IN {_listed(labels.without)} AND Fault IS NULL)"
            )

    def _find_photos(self) -> None:
        """Fill the table photo: what the order and the counts of the wanted photos depend on."""
        self._con.execute(
            "CREATE TEMP TABLE photo AS SELECT ImageID, Subset, OriginalSize, License, Fault, "
            "left(md5(? || ':' || ImageID), 12) AS hash "
            f"FROM ({self._source['photos']}) WHERE ImageID IN (SELECT ImageID FROM box) "
            f"AND (Fault IS NOT NULL OR Subset IN {_listed(self.query.subsets)})",
            [str(self.query.seed)],
        )
        if self.query.image_ids is not None:
            self._con.execute(
                "DELETE FROM photo WHERE NOT EXISTS (FROM wanted_id w WHERE "
                "w.ImageID = photo.ImageID AND w.Subset IN ('', photo.Subset))"
            )
        self._con.execute(
            "DELETE FROM photo WHERE rowid NOT IN (SELECT min(rowid) FROM photo GROUP BY ImageID)"
        )

    def _report(self, files: dict[str, list[Path]]) -> None:
        """Warn of what is left out: broken rows, boxes without a photo, unknown ImageIDs."""
        rows = self._con.execute
        lines = convert.rejected(self._con)
        for kind, table in (("boxes", "box"), ("photos", "photo")):
            mine = [line for line in lines if line[0] in map(str, files[kind])]
            where = ", ".join(str(path) for path in files[kind])
            bad = convert.bad_rows(where, mine, *convert.faulty(self._con, table))
            if bad:
                _warn(bad)
            rows(f"DELETE FROM {table} WHERE Fault IS NOT NULL")
        if self.query.image_ids is None:
            lost = "SELECT DISTINCT ImageID FROM box ANTI JOIN photo USING (ImageID)"
            [(count, first)] = rows(f"SELECT count(*), min(ImageID) FROM ({lost})").fetchall()
            if count:
                _warn(
                    f"{count:,} photo{'s have' if count > 1 else ' has'} boxes but no row in the "
                    f"table of photos (the first is {first}); left out."
                )
        rows("DELETE FROM box WHERE ImageID NOT IN (SELECT ImageID FROM photo)")
        unknown = rows(
            "SELECT if(Subset = '', '', Subset || '/') || ImageID FROM wanted_id w WHERE NOT "
            "EXISTS (FROM photo WHERE ImageID = w.ImageID AND w.Subset IN ('', Subset)) ORDER BY 1"
        ).fetchall()
        if unknown:
            _warn(
                f"{len(unknown):,} of {len(self.query.image_ids):,} ImageIDs have no box of "
                f"these categories in {', '.join(self.query.subsets)} "
                f"({', '.join(row[0] for row in unknown[:5])}{', ...' * (len(unknown) > 5)})."
            )
        there = {row[0] for row in rows("SELECT DISTINCT Category FROM box").fetchall()}
        empty = [name for name in self.categories if name not in there]
        where = ", ".join(self.query.subsets)
        if not there:
            names = ", ".join(self.categories)
            raise BadInput(f"There is no photo of {names} in {where}: nothing is selected.")
        if empty:
            _warn(f"There is no photo of {', '.join(empty)} in {where}.")

    def _order(self) -> None:
        """Fill the table pair: each category's photos and their places in its order.

        Within a subset a hash decides; subsets are interleaved in proportion to their sizes.
        """
        self._con.execute(
            """CREATE TEMP TABLE pair AS
            SELECT Category, ImageID, row_number() OVER (
                PARTITION BY Category ORDER BY (n - 0.5::DOUBLE) / total, hash, ImageID) AS place
            FROM (
                SELECT Category, ImageID, hash,
                    row_number() OVER (subset ORDER BY hash, ImageID) AS n,
                    count(*) OVER subset AS total
                FROM (SELECT DISTINCT Category, ImageID FROM box) JOIN photo USING (ImageID)
                WINDOW subset AS (PARTITION BY Category, Subset))"""
        )

    def _play(self, gone: Collection[str]) -> None:
        """Fill the table play: the photos in play, which are gone, and their order."""
        self._con.execute(
            "CREATE OR REPLACE TEMP TABLE play AS WITH "
            "gone AS (SELECT unnest(?::VARCHAR[]) AS ImageID), "
            "there AS (SELECT Category, place, row_number() OVER (PARTITION BY Category ORDER BY "
            "place) AS n FROM pair ANTI JOIN gone USING (ImageID)), "
            "ends AS (SELECT Category, place AS stop FROM there WHERE n = ?) "
            "SELECT ImageID, min(place) AS place, bool_or(g.ImageID IS NULL) AS there "
            "FROM pair LEFT JOIN ends USING (Category) LEFT JOIN gone g USING (ImageID) "
            "WHERE stop IS NULL OR place <= stop GROUP BY ImageID",
            [list(gone), self.query.limit],
        )

    def take(self, gone: Collection[str] = frozenset()) -> Selection:
        """Return the photos in play and their boxes.

        Parameters
        ----------
        gone : collection of str
            ImageIDs of photos that no source has any more. The next photos take their places.

        Returns
        -------
        Selection
            `photos` in the order of the limit, including the gone ones that were passed over;
            `boxes` of those that are not gone.
        """
        with convert.explain_errors():
            self._play(gone)
            ids = self._con.execute(
                "SELECT ImageID FROM play JOIN photo USING (ImageID) ORDER BY place, hash, ImageID"
            ).fetchnumpy()["ImageID"]
            boxes = self._con.execute(
                "SELECT box.* EXCLUDE Fault FROM box JOIN play USING (ImageID) WHERE there "
                "ORDER BY box.ImageID, box.rowid"
            ).df()
            photos = self._photo_rows(ids)
        if (boxes["Confidence"] % 1 == 0).all():
            # Published as 0 and 1, and so they are written.
            boxes = boxes.astype({"Confidence": "int64"})
        return Selection(photos, boxes, self.categories)

    def _photo_rows(self, ids) -> "pd.DataFrame":
        """Return rows of the table of photos; some more than asked for are kept for next time."""
        if self._rows is None or not self._rows.index.isin(ids).sum() >= len(ids):
            [(last,)] = self._con.execute("SELECT max(place) FROM play").fetchall()
            self._rows = (
                self._con.execute(
                    f"SELECT * EXCLUDE Fault FROM ({self._source['photos']}) WHERE Fault IS NULL "
                    "AND ImageID IN (SELECT ImageID FROM pair WHERE place <= ? "
                    "UNION SELECT ImageID FROM play)",
                    [last + last // 4 + 16],
                )
                .df()
                .drop_duplicates("ImageID")
                .astype({"OriginalSize": "Int64"})
                .set_index("ImageID", drop=False)
            )
        return self._rows.loc[ids].reset_index(drop=True)

    def describe(self, gone: Collection[str] = frozenset()) -> dict[str, dict]:
        """Count what `take` would return, per category and in all, without making a frame.

        Returns
        -------
        dict
            Of a dict for each category and one named ``"in all"``: photos, boxes, one for each
            flag (boxes with it set), unknown (boxes whose flags are), bytes (sum of
            OriginalSize), unsized (photos without one) and licences (each licence and its
            number of photos).
        """
        flags = ", ".join(f"count(*) FILTER ({flag} = 1) AS {flag}" for flag in FLAGS)
        unknown = " OR ".join(f"{flag} = -1" for flag in FLAGS)
        counts = {}
        with convert.explain_errors():
            self._play(gone)
            for name in (*self.categories, "in all"):
                mine = "" if name == "in all" else f"AND Category IN {_listed([name])}"
                boxes = f"FROM box JOIN play USING (ImageID) WHERE there {mine}"
                photos = f"FROM photo WHERE ImageID IN (SELECT ImageID {boxes})"
                row = self._con.execute(
                    f"SELECT count(DISTINCT ImageID) AS photos, count(*) AS boxes, {flags}, "
                    f"count(*) FILTER ({unknown}) AS unknown {boxes}"
                )
                columns = [column[0] for column in row.description]
                counts[name] = dict(zip(columns, row.fetchall()[0], strict=True))
                [(size, unsized)] = self._con.execute(
                    "SELECT coalesce(sum(OriginalSize), 0), "
                    f"count(*) FILTER (OriginalSize IS NULL) {photos}"
                ).fetchall()
                licences = self._con.execute(
                    f"SELECT License, count(*) {photos} GROUP BY ALL ORDER BY 1"
                ).fetchall()
                counts[name] |= {"bytes": int(size), "unsized": unsized, "licences": dict(licences)}
        return counts


def _listed(texts: Iterable[str]) -> str:
    """Return texts as the right side of SQL's IN."""
    quoted = ["'" + text.replace("'", "''") + "'" for text in texts]
    return f"({', '.join(quoted)})"


def _warn(sentence: str) -> None:
    warnings.warn(sentence, stacklevel=4)
