"""The data card and the model card: Markdown with the front matter that the Hugging Face Hub reads.

Both are filled from the tables, query.json and metrics.json, so they match those files.
"""

import os
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

from openimager.errors import first_of
from openimager.export.croissant import template as croissant
from openimager.export.licences import licence
from openimager.store import Store
from openimager.tables.catalogue import RELEASES

_SIZES = ((1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e6, "100K<n<1M"))


def write_data_card(data_dir: str | os.PathLike | Store, about: dict, name: str):
    """Write the data card, ``README.md`` in the data directory, and return its path.

    `about` is what `openimager.package.contents.describe` returns, `name` the package.
    """
    store = Store(data_dir)
    urls = sorted(store.read_table("images.csv", ["License"])["License"].unique())
    if about["drawn"]:  # the licences in its tables are invented, too
        urls = ["https://opensource.org/license/apache-2.0"]
    return _write(
        store, "data-card.md", about, name,
        licences=sorted({licence(url)[1] for url in urls}),
        other_licence=next((url for url in urls if licence(url)[1] == "other"), None),
        size=next((size for top, size in _SIZES if about["counts"]["crops"] < top), "1M<n<10M"),
        citation=croissant()["citeAs"],
    )  # fmt: skip


def write_model_card(models_dir: str | os.PathLike, about: dict, name: str) -> Path:
    """Write the model card, ``README.md`` beside the model and metrics.json; return its path."""
    models = Store(models_dir)
    trained = len(models.read(models.path("trained_on.txt")).split())
    known = {"metrics": models.read_json("metrics.json"), "trained": trained}
    return _write(models, "model-card.md", about, name, **known)


def _write(store: Store, template: str, about: dict, name: str, **more):
    release = "sample" if about["drawn"] else about["query"].get("release", "v4")
    loader = FileSystemLoader(Path(__file__).parent)
    page = Environment(loader=loader, keep_trailing_newline=True).get_template(template)
    text = page.render(
        about=about, name=name, source=RELEASES[release],
        kind="drawn pictures" if about["drawn"] else "photos",
        interval=_interval, plain=_plain, table=_table, **more,
    )  # fmt: skip
    store.write(store.path("README.md"), text.encode("utf-8"))
    return store.path("README.md")


def _interval(score: dict, key: str = "accuracy", sign: str = "") -> str:
    """Return a score with its interval.

    >>> _interval({"accuracy": 0.9, "low": 0.8512, "high": 0.94})
    '0.900 (0.851 to 0.940)'
    """
    value, low, high = (f"{score[name]:{sign}.3f}" for name in (key, "low", "high"))
    return f"{value} ({low} to {high})"


def _plain(value) -> str:
    """Return a value as text for a table.

    >>> _plain(["Cat", "Dog"]), _plain(None), _plain(True), _plain(0.25), _plain(["Cat"] * 11)
    ('Cat, Dog', 'none', 'yes', '0.250', 'Cat, Cat, Cat and 8 more')
    >>> _plain([["Pet", ["Cat", "Dog"]], ["Meal", ["Hamburger"]]])  # of --merge
    'Pet=Cat,Dog; Meal=Hamburger'
    """
    if isinstance(value, list | tuple) and value and isinstance(value[0], list | tuple):
        return "; ".join(f"{name}={','.join(members)}" for name, members in value)
    if isinstance(value, list | tuple):
        return first_of([*map(_plain, value)], 3 if len(value) > 10 else 10) or "none"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _table(rows: list[dict]) -> str:
    """Return rows as a Markdown table."""
    if not rows:
        return "(none)"
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([*row.values()] for row in rows)]
    return "\n".join("| " + " | ".join(map(_plain, line)) + " |" for line in lines)
