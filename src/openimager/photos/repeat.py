"""Whether a query repeats, extends or would replace what a data directory holds."""

import os
from typing import TYPE_CHECKING

from openimager import query as queries
from openimager.errors import BadInput
from openimager.selection import Query, Selection, Selector, Site
from openimager.store import Store

if TYPE_CHECKING:
    import pandas as pd


def unchanged(store: Store, query: Query, site: Site, other_source: bool) -> "pd.DataFrame | None":
    """Return images.csv if it answers the query: every photo is on disk or gone.

    Parameters
    ----------
    store : Store
    query : Query
    site : Site
        Where none of its addresses and files is given, it is the one that the record is of.
    other_source : bool
        Photos that are gone are to be looked for elsewhere, so there must be none.
    """
    content = store.read_json(queries.NAME) or {}
    if not content.get("downloaded") or _comparable(Query.from_json(content)) != _comparable(query):
        return None
    if _place(site) and _place(site) != store.read_json(queries.SITE):
        return None
    try:
        images = store.read_table("images.csv")
        for name in ("boxes.csv", "ATTRIBUTION.csv"):
            store.read_table(name, ["ImageID"])
    except BadInput:
        return None
    sizes = store.sizes(store.images)
    there = [sizes.get(f"{image_id}.jpg", -1) for image_id in images["ImageID"]]
    on_disk = (images["Status"] == "ok") & (images["Bytes"].fillna(-2) == there)
    gone = images["Status"] == "gone"
    if not (on_disk | gone).all() or not on_disk.any() or (other_source and gone.any()):
        return None
    return images


def check(store: Store, found: Selection, replace: bool) -> None:
    """Stop a selection that drops what the tables hold.

    Raises
    ------
    BadInput
        If the tables in the data directory have categories, or photos on disk, that the
        selection does not have, and `replace` is False.
    """
    if replace:
        return
    try:
        images = store.read_table("images.csv", ["ImageID", "Status"])
        held = set(store.read_table("boxes.csv", ["Category"])["Category"])
    except BadInput:
        return
    on_disk = images.loc[images["Status"] == "ok", "ImageID"]
    photos = int((~on_disk.isin(found.photos["ImageID"])).sum())
    categories = sorted(held.difference(found.categories))
    if photos or categories:
        what = [f"the categories {', '.join(categories)}"] if categories else []
        what += [f"{photos:,} of {len(on_disk):,} photos"] if photos else []
        raise BadInput(
            f"This selection would drop {' and '.join(what)} from the tables in {store.root}. "
            "Give --replace (replace=True) to do that, or another --data-dir."
        )


def record(store: Store, selector: Selector, done: bool) -> None:
    """Write data/query.json: before the tables with `done` False, and after them."""
    store.write_json(queries.NAME, selector.query.to_json() | {"downloaded": done})
    store.write_json(queries.SITE, _place(selector.site))


def _comparable(query: Query) -> dict:
    names = sorted(name.strip().casefold() for name in query.categories)
    return query.to_json() | {"categories": names}


def _place(site: Site) -> dict[str, str]:
    """Return what was given for a site, with absolute paths."""
    given = {}
    for name in ("base_url", "class_names", "boxes", "photos"):
        if value := getattr(site, name):
            url = name == "base_url" and not queries.is_directory(value)
            given[name] = os.fspath(value) if url else os.path.abspath(value)
    return given
