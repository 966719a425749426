"""Which boxes and which photos some categories want."""

import hashlib
import os
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from openimager import categories, metadata
from openimager.errors import BadInput

if TYPE_CHECKING:
    import pandas as pd

DROPS = {
    "occluded": "IsOccluded",
    "truncated": "IsTruncated",
    "group": "IsGroupOf",
    "depiction": "IsDepiction",
    "inside": "IsInside",
}


class Selection(NamedTuple):
    """The rows of the V4 tables that some categories want.

    Attributes
    ----------
    boxes : pandas.DataFrame
        `metadata.BOX_COLUMNS` and Category, sorted by ImageID, then as in the table.
    photos : pandas.DataFrame
        `metadata.PHOTO_COLUMNS`, one row for each photo of `boxes`, in the order in which a
        limit takes them.
    categories : tuple of str
        The names asked for, in the order asked, whether they have boxes or not.
    """

    boxes: "pd.DataFrame"
    photos: "pd.DataFrame"
    categories: tuple[str, ...] = ()


def find(
    names: Iterable[str],
    subset: str | Sequence[str] | None = None,
    seed: int = 0,
    with_children: bool = False,
    drop: str | Collection[str] = (),
    drop_unknown: bool = False,
    base_url: str | os.PathLike = metadata.BASE_URL,
    cache_dir: str | os.PathLike | None = None,
    class_names: str | os.PathLike | None = None,
    boxes: str | os.PathLike | None = None,
    photos: str | os.PathLike | None = None,
    quiet: bool = False,
) -> Selection:
    """Select the boxes and photos of some categories, fetching the tables that this takes.

    Parameters
    ----------
    names : iterable of str
        Categories, by name or MID.
    subset : str or sequence of str, optional
        ``"train"``, ``"validation"``, ``"test"`` or ``"all"``. By default train or, where both
        `boxes` and `photos` are given, whatever these hold.
    seed : int
        What the order of the photos depends on, beside their ImageIDs.
    with_children : bool
        Take the boxes of all kinds of a category as boxes of that category.
    drop : str or collection of str
        Leave out boxes with these flags set: keys of `DROPS`.
    drop_unknown : bool
        Leave out boxes whose flags are unknown (-1).
    base_url, cache_dir, quiet
        As for `metadata.fetch`.
    class_names, boxes, photos : path-like, optional
        Tables already on disk, used in place of the site's.

    Returns
    -------
    Selection

    Raises
    ------
    BadInput
        If a category, subset or flag is unknown, a table is missing or lacks columns.
    TryAgain
        If a table can't be fetched.

    Warns
    -----
    UserWarning
        If one category is a kind of another, rows break the format, or boxes have no photo.
    """
    import pandas as pd

    names = [names] if isinstance(names, str) else list(names)
    flags = drop_flags(drop)
    local_only = boxes is not None and photos is not None
    subsets = subset_names(subset or "train")
    tables = _Tables(base_url, cache_dir, quiet)
    if class_names is None:
        tables.want("classes", metadata.table_path("classes"))
    if with_children or class_names is None or not local_only:
        tables.want("hierarchy", metadata.table_path("hierarchy"))
    try:
        small = tables.get()
    except metadata.MissingTable:
        # Without children the hierarchy only serves a warning; a small site may do without it.
        if with_children or class_names is not None:
            raise
        tables.want("classes", metadata.table_path("classes"))
        small = tables.get()
    classes = categories.read_classes(class_names or small["classes"])
    wanted = categories.resolve(names, classes)
    labels = {mid: mid for mid in wanted}
    if "hierarchy" in small:
        hierarchy = categories.read_hierarchy(small["hierarchy"])
        _warn_of_kinds(wanted, hierarchy, classes, with_children)
        if with_children:
            labels = _nearest_asked(wanted, hierarchy)

    for name in () if boxes is not None else subsets:
        tables.want(f"boxes {name}", metadata.table_path("boxes", name))
    for name in () if photos is not None else subsets:
        tables.want(f"photos {name}", metadata.table_path("photos", name))
    big = tables.get()
    box_tables = [boxes] if boxes is not None else [big[f"boxes {name}"] for name in subsets]
    photo_tables = [photos] if photos is not None else [big[f"photos {name}"] for name in subsets]

    read = [_checked(path, metadata.read_boxes(path, labels)) for path in box_tables]
    box_rows = pd.concat(read, ignore_index=True)
    box_rows = without_flags(box_rows, flags, drop_unknown)
    box_rows["Category"] = box_rows["LabelName"].map(labels).map(wanted)
    ids = box_rows["ImageID"].unique()
    read = [_checked(path, metadata.read_photos(path, ids)) for path in photo_tables]
    photo_rows = pd.concat(read, ignore_index=True)
    if len(read) > 1:
        photo_rows = photo_rows.drop_duplicates("ImageID")
    if subset or not local_only:
        photo_rows = photo_rows[photo_rows["Subset"].isin(subsets)]
    # Every photo here was looked for because it has a box; the other way round is to be seen.
    if len(photo_rows) < len(ids):
        box_rows = _with_photo(box_rows, photo_rows)
    return Selection(
        box_rows.sort_values("ImageID", kind="stable", ignore_index=True),
        in_order(photo_rows, seed),
        tuple(wanted.values()),
    )


def subset_names(subset: str | Sequence[str]) -> list[str]:
    """Return the asked subsets in the order of `metadata.SUBSETS`; ``"all"`` means all three.

    Examples
    --------
    >>> subset_names(["test", "train"]), subset_names("all")
    (['train', 'test'], ['train', 'validation', 'test'])
    """
    asked = {subset} if isinstance(subset, str) else set(subset)
    unknown = sorted(asked - {*metadata.SUBSETS, "all"})
    if unknown or not asked:
        raise BadInput(
            f"Unknown subset {', '.join(map(repr, unknown)) or 'of no name'}. "
            f"Allowed: {', '.join(metadata.SUBSETS)}, all."
        )
    return [name for name in metadata.SUBSETS if name in asked or "all" in asked]


def drop_flags(drop: str | Iterable[str]) -> list[str]:
    """Return the columns of the flags to leave out.

    Examples
    --------
    >>> drop_flags(["group", "depiction"])
    ['IsGroupOf', 'IsDepiction']
    """
    asked = [drop] if isinstance(drop, str) else list(drop)
    for name in asked:
        if name not in DROPS:
            raise BadInput(f"Unknown flag to drop '{name}'. Allowed: {', '.join(DROPS)}.")
    return [DROPS[name] for name in asked]


def without_flags(
    boxes: "pd.DataFrame", flags: Sequence[str], drop_unknown: bool = False
) -> "pd.DataFrame":
    """Return the boxes that have none of `flags` set and, if so asked, none unknown.

    Examples
    --------
    >>> import pandas as pd
    >>> boxes = pd.DataFrame({flag: [0, 1, -1] for flag in metadata.FLAGS})
    >>> without_flags(boxes, ["IsGroupOf"]).index.tolist()
    [0, 2]
    >>> without_flags(boxes, [], drop_unknown=True).index.tolist()
    [0, 1]
    """
    keep = ~(boxes[list(flags)] == 1).any(axis=1)
    if drop_unknown:
        keep &= ~(boxes[list(metadata.FLAGS)] == -1).any(axis=1)
    return boxes[keep].copy()


def in_order(photos: "pd.DataFrame", seed: int = 0) -> "pd.DataFrame":
    """Sort photos by a hash of seed and ImageID.

    A photo's place among others depends on nothing else, so that a larger limit keeps what a
    smaller one took.
    """
    rank = [
        hashlib.blake2b(f"{seed}:{image_id}".encode(), digest_size=8).digest()
        for image_id in photos["ImageID"]
    ]
    order = sorted(range(len(rank)), key=rank.__getitem__)
    return photos.iloc[order].reset_index(drop=True)


def take(
    selection: Selection, limit: int | None = None, gone: Collection[str] = frozenset()
) -> Selection:
    """Cut a selection to the first `limit` photos of each category.

    A photo with two of the categories counts for both.

    Parameters
    ----------
    selection : Selection
    limit : int, optional
        Photos for each category, over all subsets; None takes all.
    gone : collection of str
        ImageIDs that do not count, because nothing can be had of them; they are left out, and
        the next in order take their places.

    Returns
    -------
    Selection

    Raises
    ------
    BadInput
        If the limit is below 1.
    """
    if limit is not None and limit < 1:
        raise BadInput(f"The limit is {limit}; it must be at least 1.")
    photos = selection.photos[~selection.photos["ImageID"].isin(gone)]
    if limit is not None:
        place = dict(zip(photos["ImageID"], range(len(photos)), strict=True))
        pairs = selection.boxes[["ImageID", "Category"]].drop_duplicates()
        pairs = pairs[pairs["ImageID"].isin(place)]
        pairs = pairs.assign(place=pairs["ImageID"].map(place)).sort_values("place")
        taken = pairs.groupby("Category").head(limit)["ImageID"]
        photos = photos[photos["ImageID"].isin(taken)]
    return Selection(
        selection.boxes[selection.boxes["ImageID"].isin(photos["ImageID"])].reset_index(drop=True),
        photos.reset_index(drop=True),
        selection.categories,
    )


def describe(selection: Selection) -> "pd.DataFrame":
    """Count what a selection holds, per category and in all.

    Returns
    -------
    pandas.DataFrame
        A row a category and one named ``"in all"``; columns photos, boxes, one for each flag
        (boxes with it set), Unknown (boxes whose flags are), bytes (sum of OriginalSize, photos
        without one counting nothing), unsized (how many of those there are) and licences (text:
        each licence and how many photos are listed as it).
    """
    import pandas as pd

    rows = {}
    for name in [*selection.categories, "in all"]:
        boxes = selection.boxes
        boxes = boxes if name == "in all" else boxes[boxes["Category"] == name]
        photos = selection.photos[selection.photos["ImageID"].isin(boxes["ImageID"])]
        licences = photos["License"].value_counts().sort_index().items()
        rows[name] = {
            "photos": len(photos),
            "boxes": len(boxes),
            **{flag: int((boxes[flag] == 1).sum()) for flag in metadata.FLAGS},
            "Unknown": int((boxes[list(metadata.FLAGS)] == -1).any(axis=1).sum()),
            "bytes": int(photos["OriginalSize"].fillna(0).sum()),
            "unsized": int(photos["OriginalSize"].isna().sum()),
            "licences": ", ".join(f"{name or 'none'} {count:,}" for name, count in licences),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


@dataclass(frozen=True)
class Query:
    """What the user asked for: which photos and boxes, whatever they are fetched from.

    Attributes
    ----------
    categories : tuple of str
        Names, in any case, or MIDs; each at most once.
    release : str
        ``"v4"``, ``"v5"``, ``"v6"``, ``"v7"`` or ``"sample"``.
    subsets : tuple of str
        Of ``"train"``, ``"validation"``, ``"test"``, in this order.
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
        Only these photos.
    without : tuple of str
        Leave out photos with a box of these categories.
    merge : tuple of (str, tuple of str)
        Several categories under one name: ``(("Pet", ("Cat", "Dog")),)``.
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

    def to_json(self) -> dict:
        """Return the query as data/query.json holds it."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping) -> "Query":
        """Return the query that data/query.json holds; unknown keys are ignored."""
        known = {field.name for field in fields(cls)}
        found = {name: value for name, value in content.items() if name in known}
        for name in ("categories", "subsets", "drop", "image_ids", "without"):
            if isinstance(found.get(name), list):
                found[name] = tuple(found[name])
        found["merge"] = tuple((name, tuple(of)) for name, of in found.get("merge", ()))
        return cls(**found)


@dataclass(frozen=True)
class Site:
    """Where the tables of Open Images come from.

    Attributes
    ----------
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
        if self.release == "sample":
            from openimager import sample

            return str(sample.build())
        return metadata.normal_base(self.base_url or metadata.BASE_URL)


class Selector:
    """The photos and boxes of a query, asked again as photos turn out to be gone."""

    def __init__(self, query: Query, site: Site):
        self.query = query
        self._found = find(
            query.categories,
            subset=query.subsets,
            seed=query.seed,
            with_children=query.with_children,
            drop=query.drop,
            drop_unknown=query.drop_unknown,
            base_url=site.base,
            cache_dir=site.cache_dir,
            class_names=site.class_names,
            boxes=site.boxes,
            photos=site.photos,
            quiet=site.quiet,
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
        taken = take(self._found, self.query.limit, gone)
        everything = take(self._found, None)
        order = everything.photos
        place = dict(zip(order["ImageID"], range(len(order)), strict=True))
        passed = []
        for name in self._found.categories:
            ids = set(everything.boxes.loc[everything.boxes["Category"] == name, "ImageID"])
            there = sorted(place[i] for i in ids if i not in gone)
            full = self.query.limit is not None and len(there) >= self.query.limit
            last = there[self.query.limit - 1] if full else len(order)
            passed += [i for i in ids if i in gone and place[i] < last]
        rows = {*taken.photos["ImageID"], *passed}
        photos = order[order["ImageID"].isin(rows)].reset_index(drop=True)
        return Selection(taken.boxes, photos, taken.categories)


class _Tables:
    """Collects which tables are wanted, so that they are fetched together."""

    def __init__(self, base_url, cache_dir, quiet: bool):
        self.where = {"base_url": base_url, "cache_dir": cache_dir, "quiet": quiet}
        self.wanted: dict[str, str] = {}

    def want(self, name: str, path: str) -> None:
        self.wanted[name] = path

    def get(self) -> dict[str, Path]:
        wanted, self.wanted = self.wanted, {}
        if not wanted:
            return {}
        return dict(zip(wanted, metadata.fetch(wanted.values(), **self.where), strict=True))


def _nearest_asked(wanted: Mapping[str, str], hierarchy: categories.Hierarchy) -> dict[str, str]:
    """Map every asked MID and every kind of it to the asked MID that it counts under.

    What was asked for by name stays what it is; a kind of several goes to the nearest.
    """
    nearest = {mid: (0, mid) for mid in wanted}
    for mid in wanted:
        for kind, steps in hierarchy.descendants(mid).items():
            if kind not in nearest or steps < nearest[kind][0]:
                nearest[kind] = (steps, mid)
    return {kind: mid for kind, (_, mid) in nearest.items()}


def _warn_of_kinds(wanted, hierarchy, classes, with_children: bool) -> None:
    for above, below in categories.kinds_within(wanted, hierarchy):
        above, below = classes[above], classes[below]
        end = (
            f"Boxes of '{below}' count under '{below}' alone."
            if with_children
            else f"A photo of one may well hold an unmarked other; consider '{above}' alone with "
            "--with-children."
        )
        warnings.warn(f"'{below}' is a kind of '{above}' in Open Images. {end}", stacklevel=3)


def _checked(path, rows: metadata.Rows) -> "pd.DataFrame":
    if rows.bad:
        more = "" if rows.bad <= len(rows.examples) else ", ..."
        warnings.warn(
            f"{path}: {rows.bad} row{'s' * (rows.bad > 1)} of the wanted categories "
            f"break{'s' * (rows.bad == 1)} the format and {'are' if rows.bad > 1 else 'is'} left "
            f"out ({'; '.join(rows.examples)}{more}).",
            stacklevel=3,
        )
    return rows.frame


def _with_photo(boxes: "pd.DataFrame", photos: "pd.DataFrame") -> "pd.DataFrame":
    """Leave out, with a warning, the boxes whose photo has no row."""
    known = boxes["ImageID"].isin(photos["ImageID"])
    lost = boxes.loc[~known, "ImageID"].unique()
    warnings.warn(
        f"{len(lost)} photo{'s have' if len(lost) > 1 else ' has'} boxes but no row in the "
        f"table of photos (the first is {lost[0]}); left out.",
        stacklevel=3,
    )
    return boxes[known]
