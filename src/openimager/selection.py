"""A query in SQL: which boxes and photos it selects."""

import warnings
from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from openimager.errors import BadInput, first_of
from openimager.query import DROPS, Query, Site, ask, without_flags  # noqa: F401
from openimager.store import FLAGS, SUBSETS
from openimager.tables import categories, views

if TYPE_CHECKING:
    import pandas as pd


class Selection(NamedTuple):
    """The rows that a query selects."""

    photos: "pd.DataFrame"  # PHOTO_COLUMNS, in the order in which a limit takes them
    boxes: "pd.DataFrame"  # BOX_COLUMNS and Category, sorted by ImageID, then as in the table
    categories: tuple[str, ...] = ()  # in the order given, whether they have boxes or not


class Selector:
    """The photos and boxes of a query, asked again as photos turn out to be gone.

    The rows that qualify are kept in DuckDB; only those in play become a frame. BadInput if a
    category is unknown, a table can't be used, or nothing is selected; TryAgain if a table can't be
    fetched. Warns if one category is a kind of another or has no photos, and of rows left out.
    """

    def __init__(self, query: Query, site: Site):
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
        self._con = views.open_database(site.cache_dir)
        self._rows: pd.DataFrame | None = None
        self._last: tuple[set[str], Selection] | None = None
        with views.explain_errors():
            self._find(labels)
            self._report()
            self._order()

    def _find(self, labels: categories.Labels) -> None:
        """Fill box and photo: the rows that qualify or have a Fault; of photos a few columns."""
        query, run = self.query, self._con.execute
        run(
            f"""CREATE TEMP TABLE listed AS SELECT id, right(id, 16) AS ImageID, Subset
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
            f"""CREATE TEMP TABLE box AS
            SELECT *, map_extract(map([{mids}], [{names}]), LabelName)[1] AS Category FROM {boxes}
            WHERE LabelName IN ({mids}) AND (Fault IS NOT NULL OR {" AND ".join(keep) or "true"})"""
        )
        if labels.without:
            run(
                f"""DELETE FROM box WHERE ImageID IN (SELECT ImageID FROM {self._boxes}
                WHERE LabelName IN ({views.quoted(*labels.without)}) AND Fault IS NULL)"""
            )
        run(
            f"""CREATE TEMP TABLE photo AS
            SELECT ImageID, Subset, OriginalSize, License, Fault,
                left(md5('{query.seed}:' || ImageID), 12) AS hash
            FROM {photos} WHERE ImageID IN (SELECT ImageID FROM box)
                AND (Fault IS NOT NULL OR Subset IN ({views.quoted(*query.subsets)}));
            DELETE FROM photo WHERE rowid NOT IN (SELECT min(rowid) FROM photo GROUP BY ImageID)"""
        )

    def _report(self) -> None:
        """Warn of what is left out: broken rows, boxes without a photo, unknown ImageIDs."""
        run, where = self._con.execute, ", ".join(self.query.subsets)
        for kind, table in (("boxes", "box"), ("photos", "photo")):
            views.warn_of_bad_rows(self._con, self._files[kind], table)
            run(f"DELETE FROM {table} WHERE Fault IS NOT NULL")
        [(count, first)] = run(
            "SELECT count(DISTINCT ImageID), min(ImageID) FROM box ANTI JOIN photo USING (ImageID)"
        ).fetchall()
        if count and self.query.image_ids is None:
            warnings.warn(
                f"{count:,} photo{'s have' if count > 1 else ' has'} boxes but no row in the "
                f"table of photos (the first is {first}); left out.",
                stacklevel=3,
            )
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
        """Fill pair: each category's photos in order, by hash, its subsets in proportion."""
        self._con.execute(
            """CREATE TEMP TABLE pair AS
            SELECT Category, ImageID, hash, row_number() OVER (
                PARTITION BY Category ORDER BY (n - 0.5::DOUBLE) / total, hash, ImageID) AS place
            FROM (
                SELECT Category, ImageID, hash,
                    row_number() OVER (subset ORDER BY hash, ImageID) AS n,
                    count(*) OVER subset AS total
                FROM (SELECT DISTINCT Category, ImageID FROM box) JOIN photo USING (ImageID)
                WINDOW subset AS (PARTITION BY Category, Subset));
            CREATE TEMP TABLE taken (ImageID VARCHAR)"""
        )

    def _play(self, gone: Collection[str] = ()) -> None:
        """Fill play: the photos before the limit-th that is not gone, and their order."""
        self._con.execute(
            """CREATE OR REPLACE TEMP TABLE play AS
            WITH gone AS (SELECT unnest(?::VARCHAR[]) AS ImageID),
            there AS (
                SELECT Category, place,
                    row_number() OVER (PARTITION BY Category ORDER BY place) AS n
                FROM pair ANTI JOIN gone USING (ImageID)),
            ends AS (SELECT Category, place AS stop FROM there WHERE n = ?)
            SELECT ImageID, hash, min(place) AS place, bool_and(g.ImageID IS NULL) AS there
            FROM pair LEFT JOIN ends USING (Category) LEFT JOIN gone g USING (ImageID)
            WHERE stop IS NULL OR place <= stop GROUP BY ALL""",
            [list(gone), self.query.limit],
        )

    def take(self, gone: Collection[str] = frozenset()) -> Selection:
        """Return the photos in play and their boxes.

        The photos of `gone`, ImageIDs that no source has any more, keep their rows; the next ones
        take their places, and the boxes are of these. While `gone` stays as it is, so does what is
        returned.
        """
        import pandas as pd

        if self._last and self._last[0] == set(gone):
            return self._last[1]
        run, new = self._con.execute, "SELECT ImageID FROM play EXCEPT SELECT ImageID FROM taken"
        with views.explain_errors():
            self._play(gone)
            ids = run("SELECT ImageID FROM play ORDER BY place, hash, ImageID").df()["ImageID"]
            boxes = run(
                "SELECT box.* EXCLUDE Fault FROM box JOIN play USING (ImageID) WHERE there "
                "ORDER BY box.ImageID, box.rowid"
            ).df()
            # Rows that an earlier call took are shared with it: their texts are most of the memory.
            rows = run(
                f"SELECT * EXCLUDE Fault FROM {self._photos} "
                f"WHERE Fault IS NULL AND ImageID IN ({new})"
            ).df()
            run(f"INSERT INTO taken {new}")
        rows = rows.drop_duplicates("ImageID").astype({"OriginalSize": "Int64"})
        self._rows = pd.concat([self._rows, rows.set_index("ImageID", drop=False)])
        if (boxes["Confidence"] % 1 == 0).all():
            # Published as 0 and 1, and so they are written.
            boxes = boxes.astype({"Confidence": "int64"})
        found = Selection(self._rows.loc[ids].reset_index(drop=True), boxes, self.categories)
        self._last = set(gone), found
        return found

    def describe(self) -> dict[str, dict]:
        """Count what `take` would return, per category and ``"in all"``, without making a frame.

        Each count is a dict: photos, boxes, one for each flag (boxes with it set), unknown (boxes
        whose flags are), bytes (sum of OriginalSize), unsized (photos without one) and licences
        (each licence and its number of photos).
        """
        flags = ", ".join(f"count(*) FILTER ({flag} = 1) AS {flag}" for flag in FLAGS)
        unknown = " OR ".join(f"{flag} = -1" for flag in FLAGS)
        with views.explain_errors():
            self._play()
            counts = self._con.execute(
                f"""WITH mine AS (
                    SELECT unnest([Category, 'in all']) AS name, box.* EXCLUDE Category
                    FROM box JOIN play USING (ImageID)),
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
