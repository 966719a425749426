"""The data card: what somebody should read before using the package's data."""

import os
from pathlib import Path

from openimager.files import replacing

_CARD = """\
# {title}

{n_photos} photos with {n_boxes} labelled boxes from {source}, {n_crops} crops cut from them,
and a Keras model that was trained on the crops.{drawn}

## What is in it

| category | {subsets} |
|---|{rules}|
{rows}

{images}
- `images.csv`, `boxes.csv`: a row a photo, a row a box, with the columns of Open Images V4.
- `boxes.coco.json`: the boxes as COCO JSON, in pixels of the photo as stored (ignore EXIF).
- `crops/<subset>/<category>/`: the crops, upright. Crops of one photo, and of photos that are
  nearly the same, are all in one subset.
- `crops.csv`: a row a crop: where it was cut, which flags it has, its SHA256.
- `ATTRIBUTION.csv`: title, author, source, licence and changes for every photo.
- `summaries/`: what the catalogue shows.
- `../models/`: `latest.keras`, how it was trained (`history.json`), how it scores
  (`metrics.json`) and the SHA256 of each crop that it has seen (`trained_on.txt`).

## Licence and credits

Photos are listed by Open Images as {licences}. Check this with the source before you rely on it,
and pass each photo or crop on with its row of `ATTRIBUTION.csv`: author, title, source, licence,
and that it was cropped and resized. Annotations are {annotations}.

## How to use it

All of it, into a clone of the repository or any other folder:

    quilt3 install {name} --registry REGISTRY --dest .

A part: only the model, or only the crops.

    quilt3 install {name} --registry REGISTRY --path models --dest models
    quilt3 install {name} --registry REGISTRY --path data/crops --dest data/crops

Is every byte as it was pushed?

    quilt3 verify {name} --registry REGISTRY --top-hash HASH --dir . --extra-files-ok

REGISTRY is the folder or the `s3://` address that you were given, HASH the revision's top hash.
The crops load as they are in `datasets.load_dataset("imagefolder", data_dir="data/crops")`,
`torchvision.datasets.ImageFolder("data/crops/train")` and
`keras.utils.image_dataset_from_directory("data/crops/train")`; the boxes in anything that reads
COCO.

## How the model scores, and on what

{score}

It was measured on the test crops, none of which it was trained on. A classifier of {n_categories}
categories names one of them for any picture it is shown, and photos from Flickr in the years
before 2018 are not the world: what it makes of yours is for you to measure.
"""


def write_card(data_dir: str | os.PathLike, metadata: dict, name: str) -> Path:
    """Write the data card, ``README.md`` in the data directory.

    Parameters
    ----------
    data_dir : path-like
        The data directory.
    metadata : dict
        What `openimager.quilt.package.describe` says.
    name : str
        The package, ``owner/package``.

    Returns
    -------
    Path
        The card.
    """
    counts, subsets = metadata["counts"], metadata["subsets"]
    table = counts["crops_by_subset"]
    rows = [
        f"| {category} | " + " | ".join(str(table[s].get(category, 0)) for s in subsets) + " |"
        for category in metadata["categories"]
    ]
    drawn = (
        "\n\n**The pictures are drawn and their credits invented**: the sample is made to "
        "try everything\nwithout the internet, and no number here says anything about photos."
    )
    text = _CARD.format(
        title=f"{name}: {', '.join(metadata['categories'])}",
        name=name,
        source="openimager's sample" if metadata["drawn"] else "Open Images V4",
        n_photos=counts["photos"],
        n_boxes=counts["boxes"],
        n_crops=counts["crops"],
        n_categories=len(metadata["categories"]),
        images="- `images/`: the photos as they were fetched."
        if metadata["with_photos"]
        else "- The full-size photos are left out; `images.csv` says where each came from.",
        drawn=drawn if metadata["drawn"] else "",
        subsets=" | ".join(subsets),
        rules="|".join("---:" for _ in subsets),
        rows="\n".join(rows),
        licences=", ".join(metadata["licence"]["photos"]),
        annotations=metadata["licence"]["annotations"],
        score=_score(metadata["metrics"], metadata["drawn"]),
    )
    card = Path(data_dir) / "README.md"
    with replacing(card) as part:
        part.write_text(text, encoding="utf-8", newline="\n")
    return card


def _score(metrics: dict, drawn: bool) -> str:
    """Return the accuracy as sentences, with its interval and what it is to be compared with."""
    kind = "drawn pictures" if drawn else "photos"
    lines = [
        f"Accuracy {_interval(metrics)} on {metrics['crops']} crops of {metrics['photos']} {kind}. "
        "For comparison, on the same crops:\n"
    ]
    names = {"majority": "always the most common category", "original": "the CNN of 2018"}
    for name, baseline in metrics.get("baselines", {}).items():
        lines.append(f"- {names.get(name, name)}: {_interval(baseline)}")
    return "\n".join(lines)


def _interval(score: dict) -> str:
    """Return an accuracy with its interval.

    Examples
    --------
    >>> _interval({"accuracy": 0.9, "low": 0.8512, "high": 0.94})
    '0.900 (95 % interval 0.851 to 0.940)'
    """
    return f"{score['accuracy']:.3f} (95 % interval {score['low']:.3f} to {score['high']:.3f})"
