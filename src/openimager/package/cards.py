"""The data card and the model card: Markdown with the front matter that the Hugging Face Hub reads.

Both are written from the tables, query.json and metrics.json, so they match those files.
"""

import json
import os
from pathlib import Path

import yaml
from jinja2 import Environment, FileSystemLoader

from openimager.export.croissant import template as croissant
from openimager.export.licences import RELEASES, licence_id
from openimager.store import Store

_SIZES = ((1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e6, "100K<n<1M"))
_TAGS = ["openimager", "open-images"]


def write_data_card(data_dir: str | os.PathLike | Store, about: dict, name: str):
    """Write the data card, ``README.md`` in the data directory, and return its path.

    Parameters
    ----------
    data_dir : path-like or Store
        The data directory.
    about : dict
        What `openimager.package.contents.describe` returns.
    name : str
        The package, ``owner/package``.
    """
    store = Store(data_dir)
    licences = sorted(store.read_table("images.csv", ["License"])["License"].unique())
    ids = sorted({licence_id(url) for url in licences})
    front = {"pretty_name": f"{name}: {', '.join(about['categories'])}"}
    front["license"] = ids[0] if len(ids) == 1 else ids
    if "other" in ids:
        other = [url for url in licences if licence_id(url) == "other"]
        front |= {"license_name": "see-attribution", "license_link": other[0]}
    crops = about["counts"]["crops"]
    front |= {
        "tags": [*_TAGS, "croissant"],
        "task_categories": ["image-classification", "object-detection"],
        "size_categories": [next((size for top, size in _SIZES if crops < top), "n>1T")],
        "configs": [
            {
                "config_name": "crops",
                "default": True,
                "drop_labels": False,
                "data_files": [
                    {"split": subset, "path": f"crops/{subset}/*/*"} for subset in about["subsets"]
                ],
            }
        ],
    }
    table = about["counts"]["crops_by_subset"]
    more = {
        "query": [{"option": k, "value": _plain(v)} for k, v in about["query"].items()],
        "crops": [
            {"category": category} | {s: table[s].get(category, 0) for s in about["subsets"]}
            for category in about["categories"]
        ],
    }
    path = store.path("README.md")
    text = _render("data-card.md", front, about, name, **more)
    store.write(path, text.encode("utf-8"))
    return path


def write_model_card(models_dir: str | os.PathLike, about: dict, name: str) -> Path:
    """Write the model card, ``README.md`` beside the model, and return its path.

    Parameters
    ----------
    models_dir : path-like
        The folder of the model; metrics.json is read.
    about, name
        As for `write_data_card`.
    """
    models = Path(models_dir)
    metrics = json.loads((models / "metrics.json").read_text(encoding="utf-8"))
    task = {"type": "image-classification", "name": "Image Classification"}
    front = {
        "library_name": "keras",
        "license": "apache-2.0",
        "pipeline_tag": task["type"],
        "tags": [*_TAGS, task["type"]],
        "model-index": [
            {
                "name": metrics["network"],
                "results": [
                    {
                        "task": task,
                        "dataset": {
                            "type": name,
                            "name": ", ".join(about["categories"]),
                            "split": "test",
                        },
                        "metrics": [
                            {"type": "accuracy", "name": "Accuracy", "value": metrics["accuracy"]}
                        ],
                    }
                ],
            }
        ],
    }
    names = {"majority": "always the most common category", "original": "the CNN of 2018"}
    baselines = [
        {
            "classifier": names.get(key, key),
            "accuracy": _interval(score),
            "the model's less this": _interval(metrics["differences"][key], "difference", "+"),
        }
        for key, score in metrics["baselines"].items()
    ]
    text = _render("model-card.md", front, about, name, metrics=metrics, baselines=baselines)
    Store(models).write(models / "README.md", text.encode("utf-8"))
    return models / "README.md"


def _render(template: str, front: dict, about: dict, name: str, **more) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), keep_trailing_newline=True
    )
    release = about["query"].get("release", "v4")
    return environment.get_template(template).render(
        front_matter=yaml.safe_dump(front, sort_keys=False, allow_unicode=True),
        about=about,
        name=name,
        source=RELEASES["sample" if about["drawn"] else release],
        kind="drawn pictures" if about["drawn"] else "photos",
        citation=croissant()["citeAs"],
        interval=_interval,
        plain=_plain,
        table=_table,
        **more,
    )


def _interval(score: dict, key: str = "accuracy", sign: str = "") -> str:
    """Return a score with its interval.

    Examples
    --------
    >>> _interval({"accuracy": 0.9, "low": 0.8512, "high": 0.94})
    '0.900 (0.851 to 0.940)'
    """
    value, low, high = (f"{score[name]:{sign}.3f}" for name in (key, "low", "high"))
    return f"{value} ({low} to {high})"


def _plain(value) -> str:
    """Return a value as text for a table.

    Examples
    --------
    >>> _plain(["Cat", "Dog"]), _plain(None), _plain(True), _plain(0.25)
    ('Cat, Dog', 'none', 'yes', '0.250')
    """
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value)) or "none"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _table(rows: list[dict]) -> str:
    """Return rows as a Markdown table."""
    if not rows:
        return "(none)"
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([*row.values()] for row in rows)]
    return "\n".join("| " + " | ".join(map(_plain, line)) + " |" for line in lines)
