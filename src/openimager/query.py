"""What the user asks for, as data that the command line, download() and the data card share."""

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from openimager.errors import BadInput
from openimager.store import FLAGS, IMAGE_ID, SUBSETS, Store
from openimager.tables import views
from openimager.tables.cache import Site
from openimager.tables.catalogue import RELEASES

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

NAME = "query.json"
# Where the tables came from: a URL, or paths on this machine. It is not part of the package.
SITE = ".openimager/site.json"
_FOLDER = re.compile(r"(?!\.)[\w .&'()+,-]{1,60}(?<![ .])")
DROPS = {flag.removeprefix("Is").removesuffix("Of").lower(): flag for flag in FLAGS}


@dataclass(frozen=True)
class Query:
    """What the user asked for: which photos and boxes, whatever they are fetched from.

    Tuple fields also accept a list or one name; for `image_ids`, one text is the path of a file.
    BadInput if a value is not allowed.

    >>> Query("Cat", subsets=["test", "train"], merge=["Pet=Cat,Dog"]).merge
    (('Pet', ('Cat', 'Dog')),)
    """

    categories: tuple[str, ...] = ()  # names, in any case, or MIDs
    release: str = "v4"  # one of `RELEASES`
    subsets: tuple[str, ...] = ("train",)  # of `SUBSETS`, in their order; "all" means all three
    limit: int | None = None  # photos for each category, over all subsets
    seed: int = 0  # for choosing the photos of a limit
    with_children: bool = False  # count boxes of a category's subcategories as its own
    drop: tuple[str, ...] = ()  # leave out boxes with these flags, keys of `DROPS`
    drop_unknown: bool = False  # leave out boxes whose flags are unknown (-1)
    # Only these photos: "ImageID" or "subset/ImageID"; or a file with one on each line.
    image_ids: tuple[str, ...] | None = None
    without: tuple[str, ...] = ()  # leave out photos with a box of these categories
    # Several categories under one name: {"Pet": ["Cat", "Dog"]}, or texts such as "Pet=Cat,Dog".
    merge: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def __post_init__(self):
        put = object.__setattr__.__get__(self)
        put("categories", _names(self.categories, "category"))
        put("without", _names(self.without, "category"))
        put("drop", _names(self.drop, "flag to drop", DROPS))
        _names((self.release,), "release", RELEASES)
        asked = _names(self.subsets or ("",), "subset", (*SUBSETS, "all"))
        put("subsets", tuple(name for name in SUBSETS if name in asked or "all" in asked))
        numbers = {"seed": self.seed} | ({} if self.limit is None else {"limit": self.limit})
        for name, value in numbers.items():
            if isinstance(value, bool) or not hasattr(value, "__index__"):
                raise BadInput(f"The {name} is {value!r}; it must be a whole number, such as 5.")
            if name == "limit" and value < 1:
                raise BadInput(f"The limit is {value}; it must be at least 1.")
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


def _names(given, what: str, allowed: Collection[str] = ()) -> tuple[str, ...]:
    names = (given,) if isinstance(given, str) else tuple(given)
    for name in names:
        if not isinstance(name, str) or (allowed and name not in allowed):
            ends = f"Allowed: {', '.join(allowed)}." if allowed else "It must be a name."
            raise BadInput(f"Unknown {what} {name!r}. {ends}")
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
        if not _FOLDER.fullmatch(name.strip()):
            raise BadInput(
                f"'{name.strip()}' can't be the name of a folder: letters, digits, spaces and "
                "_.&'()+,- are allowed, at most 60, and no dot or space at either end."
            )
        yield name.strip(), members


def ask(
    categories: str | Iterable[str] | Query,
    subset: str | Iterable[str] | None = None,
    sample: bool = False,
    release: str | None = None,
    **options,
) -> tuple[Query, Site]:
    """Return a user's keywords as a `Query`, and as a `Site`: where its tables are.

    `subset` defaults to the subsets in `image_ids` (all if one of these has no subset), else to all
    if both `boxes` and `photos` are given, else to train. `options` are fields of `Query` and
    `Site`. A whole `Query` in place of `categories` is taken as it is.

    >>> query, site = ask("Cat", sample=True, limit=5)
    >>> query.subsets, site.release
    (('train',), 'sample')
    """
    if sample and release not in (None, "sample"):
        raise BadInput(f"--sample is short for --release sample; leave out --release {release}.")
    place = {one.name: options.pop(one.name) for one in fields(Site) if one.name in options}
    if isinstance(categories, Query):
        query, subset = categories, categories.subsets
    else:
        release = "sample" if sample else release or "v4"
        query = Query(categories, release, subset or "train", **options)
    named = {one.rpartition("/")[0] or "all" for one in query.image_ids or ()}
    if not subset and (named or (place.get("boxes") and place.get("photos"))):
        query = replace(query, subsets=named or "all")
    if query.release == "sample" and place.get("base_url") is not None:
        raise BadInput("The sample has no base URL: leave out --base-url or --sample.")
    return query, Site(query.release, **place)


def connect(
    release: str = "v4", subset: str | Iterable[str] = "train", **place
) -> "duckdb.DuckDBPyConnection":
    """Open the tables of a release for questions in SQL, fetching those that the cache lacks.

    The connection is in memory and spills to the cache what exceeds 1 GB. Its views are ``boxes``
    (the columns of Open Images and Subset, which is empty if `boxes` is a file for several
    subsets), ``photos``, ``classes`` (LabelName, Category) and, where the release has them,
    ``labels`` (of whole photos, with Subset). Rows that break the format are left out, with a
    warning.

    Parameters
    ----------
    release, subset : str, or for `subset` also an iterable of them
        ``"v4"`` to ``"v7"`` or ``"sample"``; ``"train"``, ``"validation"``, ``"test"``, ``"all"``.
    **place
        `base_url`, `cache_dir`, `class_names`, `boxes`, `photos` and `quiet`, as in `Site`.

    Examples
    --------
    >>> db = connect("sample", "all", quiet=True)
    >>> db.sql("SELECT count(*) FROM photos").fetchall()
    [(400,)]
    """
    return views.open_site(Site(release, **place), Query((), release, subset).subsets)


def chosen(
    data_dir: str | os.PathLike,
    categories: str | Iterable[str] | None = None,
    release: str | None = None,
    limit: int | None = None,
) -> tuple[Query, Site]:
    """Return the query and site of a notebook: None stands for what the data directory records.

    If there is no such record, they are Cat and Dog, all subsets of the sample.

    >>> query, site = chosen("no/such/data", categories="Hamburger")
    >>> query.categories, query.release
    (('Hamburger',), 'sample')
    """
    store = Store(data_dir)
    query = Query(("Cat", "Dog"), "sample", "all")
    site = {}
    if content := store.read_json(NAME):
        query = Query.from_json(content)
        site = store.read_json(SITE) or {}
    if categories is not None:
        query = replace(query, categories=categories, merge=(), without=(), image_ids=None)
    if release not in (None, query.release):
        query, site = replace(query, release=release), {}
    if limit is not None:
        query = replace(query, limit=limit)
    return query, Site(query.release, **site)


def record(query: Query, data_dir: str | os.PathLike) -> None:
    """Write data/query.json, marked as not downloaded, unless it holds this query already."""
    store = Store(data_dir)
    content = store.read_json(NAME)
    if not content or Query.from_json(content) != query:
        store.write_json(NAME, query.to_json() | {"downloaded": False})


def without_flags(
    boxes: "pd.DataFrame", drop: str | Iterable[str], drop_unknown: bool = False
) -> "pd.DataFrame":
    """Return the boxes that have no flag of `drop` set and, with `drop_unknown`, none unknown.

    >>> import pandas as pd
    >>> boxes = pd.DataFrame({flag: [0, 1, -1] for flag in FLAGS})
    >>> without_flags(boxes, "group", drop_unknown=True).index.tolist()
    [0]
    """
    flags = [DROPS[name] for name in _names(drop, "flag to drop", DROPS)]
    keep = ~(boxes[flags] == 1).any(axis=1)
    if drop_unknown:
        keep &= ~(boxes[list(FLAGS)] == -1).any(axis=1)
    return boxes[keep].copy()
