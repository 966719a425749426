"""What the user asks for, and which boxes and photos that selects."""

import os
import re
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from openimager.errors import BadInput
from openimager.store import FLAGS, IMAGE_ID, SUBSETS
from openimager.tables import cache, catalogue, categories, convert

if TYPE_CHECKING:
    import pandas as pd

DROPS = {
    "occluded": "IsOccluded",
    "truncated": "IsTruncated",
    "group": "IsGroupOf",
    "depiction": "IsDepiction",
    "inside": "IsInside",
}


@dataclass(frozen=True)
class Query:
    """What the user asked for: which photos and boxes, whatever they are fetched from.

    Lists and single names are accepted for all tuples.

    Attributes
    ----------
    categories : tuple of str
        Names, in any case, or MIDs.
    release : str
        ``"v4"``, ``"v5"``, ``"v6"``, ``"v7"`` or ``"sample"``.
    subsets : tuple of str
        Of ``"train"``, ``"validation"``, ``"test"``, in this order; ``"all"`` means all three.
    limit : int, optional
        Photos for each category, over all subsets.
    seed : int
        Seed for choosing photos under a limit.
    with_children : bool
        Count boxes of kinds of a category as that category.
    drop : tuple of str
        Leave out boxes with these flags: keys of `DROPS`.
    drop_unknown : bool
        Leave out boxes whose flags are unknown (-1).
    image_ids : tuple of str, optional
        Only these photos: ``ImageID`` or ``subset/ImageID``; or a file with one on each line.
    without : tuple of str
        Leave out photos with a box of these categories.
    merge : tuple of (str, tuple of str)
        Several categories under one name: a mapping such as ``{"Pet": ["Cat", "Dog"]}``, or
        texts such as ``"Pet=Cat,Dog"``.

    Raises
    ------
    BadInput
        If a value is not allowed.

    Examples
    --------
    >>> Query("Cat", subsets=["test", "train"], merge=["Pet=Cat,Dog"]).merge
    (('Pet', ('Cat', 'Dog')),)
    """

    categories: tuple[str, ...] = ()
    release: str = "v4"
    subsets: tuple[str, ...] = ("train",)
    limit: int | None = None
    seed: int = 0
    with_children: bool = False
    drop: tuple[str, ...] = ()
    drop_unknown: bool = False
    image_ids: tuple[str, ...] | None = None
    without: tuple[str, ...] = ()
    merge: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def __post_init__(self):
        put = object.__setattr__.__get__(self)
        for name, allowed in (("categories", None), ("drop", DROPS), ("without", None)):
            put(name, _names(getattr(self, name), name, allowed))
        _names(self.release, "release", catalogue.RELEASES)
        subsets = _names(self.subsets, "subset", (*SUBSETS, "all"))
        if not subsets:
            raise BadInput(f"No subset was given. Allowed: {', '.join(SUBSETS)}, all.")
        put("subsets", tuple(s for s in SUBSETS if s in subsets or "all" in subsets))
        for name, least in (("limit", 1), ("seed", None)):
            value = getattr(self, name)
            if name == "limit" and value is None:
                continue
            if isinstance(value, bool) or not hasattr(value, "__index__"):
                raise BadInput(f"The {name} is {value!r}; it must be a whole number, such as 5.")
            if least is not None and value < least:
                raise BadInput(f"The {name} is {value}; it must be at least {least}.")
            put(name, int(value))
        if self.image_ids is not None:
            put("image_ids", tuple(dict.fromkeys(_image_ids(self.image_ids))))
        put("merge", tuple(_merges(self.merge)))

    def to_json(self) -> dict:
        """Return the query as data/query.json holds it."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping) -> "Query":
        """Return the query that data/query.json holds; unknown keys are ignored."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in content.items() if name in known})


def _names(given, what: str, allowed: Collection[str] | None) -> tuple[str, ...]:
    names = (given,) if isinstance(given, str) else tuple(given)
    for name in names:
        if not isinstance(name, str) or (allowed is not None and name not in allowed):
            word = {"drop": "flag to drop"}.get(what, what.removesuffix("s"))
            ends = f" Allowed: {', '.join(allowed)}." if allowed else " It must be a name."
            raise BadInput(f"Unknown {word} {name!r}.{ends}")
    return tuple(dict.fromkeys(names))


def _image_ids(given) -> Iterator[str]:
    lines, where = given, ""
    if isinstance(given, str | os.PathLike):
        where = f"{given}, "
        try:
            lines = Path(given).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError):
            raise BadInput(f"There is no list of ImageIDs at {given}.") from None
    for number, line in enumerate(lines, 1):
        if text := str(line).strip():
            if not re.fullmatch(rf"(({'|'.join(SUBSETS)})/)?{IMAGE_ID}", text):
                raise BadInput(
                    f"{where}line {number}: '{text[:60]}' is not an ImageID (16 hex digits), "
                    "alone or after a subset as in 'train/000a1249af2bc5f0'."
                )
            yield text


def _merges(given) -> Iterator[tuple[str, tuple[str, ...]]]:
    given = (given,) if isinstance(given, str) else given
    for one in given.items() if isinstance(given, Mapping) else given:
        name, members = one.partition("=")[::2] if isinstance(one, str) else one
        members = members.split(",") if isinstance(members, str) else members
        members = tuple(member.strip() for member in members if member.strip())
        if not name.strip() or not members:
            raise BadInput(f"'{one}' is not NAME=CATEGORY,CATEGORY, such as 'Pet=Cat,Dog'.")
        yield name.strip(), members


@dataclass(frozen=True)
class Site:
    """Where the tables of Open Images come from.

    Attributes
    ----------
    release : str
        As in `Query`.
    base_url : str or path-like, optional
        In place of the release's own address.
    cache_dir, class_names, boxes, photos : path-like, optional
        The cache, and tables already on disk.
    quiet : bool
        Show no progress.
    """

    release: str = "v4"
    base_url: str | os.PathLike | None = None
    cache_dir: str | os.PathLike | None = None
    class_names: str | os.PathLike | None = None
    boxes: str | os.PathLike | None = None
    photos: str | os.PathLike | None = None
    quiet: bool = False

    @property
    def base(self) -> str:
        """URL (ending in a slash) or directory that a relative OriginalURL is resolved against."""
        return catalogue.photo_base(self.release, self._root)

    @property
    def _root(self) -> str:
        if self.release != "sample":
            return catalogue.normal_base(self.base_url, self.release)
        from openimager import sample

        return str(sample.build())

    def local(self, *wanted: tuple[str, str | None]) -> list[Path]:
        """Return tables, by kind and subset, as local files; see `cache.local_tables`."""
        return cache.local_tables(wanted, self.release, self._root, self.cache_dir, self.quiet)

    def classes(self) -> dict[str, str]:
        """Return MID to name of all categories."""
        return categories.read_classes(self.class_names or self.local(("classes", None))[0])

    def hierarchy(self) -> categories.Hierarchy | None:
        """Return the hierarchy, or None if the site has none."""
        try:
            return categories.read_hierarchy(self.local(("hierarchy", None))[0])
        except cache.MissingTable:
            return None


def ask(
    categories: str | Iterable[str],
    subset: str | Iterable[str] | None = None,
    sample: bool = False,
    release: str | None = None,
    base_url: str | os.PathLike | None = None,
    cache_dir: str | os.PathLike | None = None,
    class_names: str | os.PathLike | None = None,
    boxes: str | os.PathLike | None = None,
    photos: str | os.PathLike | None = None,
    quiet: bool = False,
    **options,
) -> tuple[Query, Site]:
    """Return the query and the site of a user's keywords.

    `subset` is train by default, or what `image_ids` name, or all where both `boxes` and
    `photos` are given. `sample` stands for ``release="sample"``; `options` are fields of `Query`.

    Examples
    --------
    >>> query, site = ask("Cat", sample=True, limit=5)
    >>> query.subsets, site.release
    (('train',), 'sample')
    """
    if sample and release not in (None, "sample"):
        raise BadInput(f"--sample is short for --release sample; leave out --release {release}.")
    release = "sample" if sample else release or "v4"
    query = Query(categories, release, subset or "train", **options)
    named = {one.split("/")[0] for one in query.image_ids or () if "/" in one}
    if not subset and (named or (boxes and photos)):
        query = replace(query, subsets=named or "all")
    site = Site(release, base_url, cache_dir, class_names, boxes, photos, quiet)
    if release == "sample" and base_url is not None:
        raise BadInput("The sample has no base URL: leave out --base-url or --sample.")
    return query, site


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
        self.query = query
        if not query.categories and not query.merge:
            raise BadInput(
                "No category was given. Name at least one, such as: openimager Cat Dog "
                "(openimager --list shows them all)"
            )
        classes, hierarchy = site.classes(), None
        if query.with_children or site.boxes is None or site.photos is None:
            hierarchy = site.hierarchy()
        if query.with_children and hierarchy is None:
            site.local(("hierarchy", None))
        labels = categories.labels(
            query.categories, classes, hierarchy, query.with_children, query.without, query.merge
        )
        self.categories = labels.names
        kinds = [k for k, file in (("boxes", site.boxes), ("photos", site.photos)) if file is None]
        found = iter(site.local(*((kind, subset) for kind in kinds for subset in query.subsets)))
        files = {
            "boxes": [site.boxes] if site.boxes else [next(found) for _ in query.subsets],
            "photos": [site.photos] if site.photos else [next(found) for _ in query.subsets],
        }
        self._source = {
            kind: " UNION ALL ".join(convert.source(path, kind) for path in paths)
            for kind, paths in files.items()
        }
        self._con = convert.open_database(cache.cache_folder(site.cache_dir))
        with convert.explain_errors():
            self._find_boxes(labels)
            self._find_photos()
            self._report(files)
            self._order()
        self._rows: pd.DataFrame | None = None
        self._reach = 0

    def _find_boxes(self, labels: categories.Labels) -> None:
        """Fill the table box with the boxes that qualify, and those that break the format."""
        query, run = self.query, self._con.execute
        # seen: the ImageIDs asked for, each with its subset or an empty one.
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

    def _report(self, files: Mapping[str, Iterable]) -> None:
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
                counts[name] = dict(zip(columns, row.fetchone(), strict=True))
                size, unsized = self._con.execute(
                    "SELECT coalesce(sum(OriginalSize), 0), "
                    f"count(*) FILTER (OriginalSize IS NULL) {photos}"
                ).fetchone()
                licences = self._con.execute(
                    f"SELECT License, count(*) {photos} GROUP BY ALL ORDER BY 1"
                ).fetchall()
                counts[name] |= {"bytes": int(size), "unsized": unsized, "licences": dict(licences)}
        return counts


def drop_flags(drop: str | Iterable[str]) -> list[str]:
    """Return the columns of the flags to leave out.

    Examples
    --------
    >>> drop_flags(["group", "depiction"])
    ['IsGroupOf', 'IsDepiction']
    """
    return [DROPS[name] for name in _names(drop, "drop", DROPS)]


def without_flags(
    boxes: "pd.DataFrame", flags: Iterable[str], drop_unknown: bool = False
) -> "pd.DataFrame":
    """Return the boxes that have none of `flags` set and, with `drop_unknown`, none unknown.

    Examples
    --------
    >>> import pandas as pd
    >>> boxes = pd.DataFrame({flag: [0, 1, -1] for flag in FLAGS})
    >>> without_flags(boxes, ["IsGroupOf"], drop_unknown=True).index.tolist()
    [0]
    """
    keep = ~(boxes[list(flags)] == 1).any(axis=1)
    if drop_unknown:
        keep &= ~(boxes[list(FLAGS)] == -1).any(axis=1)
    return boxes[keep].copy()


def _listed(texts: Iterable[str]) -> str:
    """Return texts as the right side of SQL's IN."""
    quoted = ["'" + text.replace("'", "''") + "'" for text in texts]
    return f"({', '.join(quoted)})"


def _warn(sentence: str) -> None:
    warnings.warn(sentence, stacklevel=4)
