"""Scores by category and by kind of crop."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from openimager.metrics.intervals import interval
from openimager.store import FLAGS

# Edges in pixels. Crops have 128 pixels: smaller boxes were enlarged and larger ones reduced.
BOX_SIDES = (64, 128, 256)


def per_category(truth, predicted, names: Sequence[str]) -> pd.DataFrame:
    """Return precision, recall, F1 and the number of crops of each category.

    A category without crops, or that is never predicted, scores 0.

    Examples
    --------
    >>> per_category([0, 0, 0, 1], [0, 0, 1, 1], ["Cat", "Dog"]).round(2)
              Precision  Recall    F1  Crops
    Category
    Cat             1.0    0.67  0.80      3
    Dog             0.5    1.00  0.67      1
    """
    from sklearn.metrics import precision_recall_fscore_support

    scores = precision_recall_fscore_support(
        truth, predicted, labels=range(len(names)), zero_division=0
    )
    table = dict(zip(["Precision", "Recall", "F1", "Crops"], scores, strict=True))
    return pd.DataFrame(table, index=pd.Index(names, name="Category"))


def confusion(truth, predicted, names: Sequence[str]) -> pd.DataFrame:
    """Return counts of crops: one row per true category, one column per predicted category.

    Examples
    --------
    >>> confusion([0, 0, 0, 1], [0, 0, 1, 1], ["Cat", "Dog"])
    Predicted  Cat  Dog
    Category
    Cat          2    1
    Dog          0    1
    """
    from sklearn.metrics import confusion_matrix

    counts = confusion_matrix(truth, predicted, labels=range(len(names)))
    index, columns = pd.Index(names, name="Category"), pd.Index(names, name="Predicted")
    return pd.DataFrame(counts, index, columns)


def roc_auc(truth, probabilities) -> float:
    """Return the area under the ROC curve; of many categories the mean of each against the rest.

    0.5 is chance, 1 perfect. A category of which there are no crops, or nothing else, has no curve
    and is left out of the mean; NaN where that leaves none.

    Examples
    --------
    >>> roc_auc([0, 0, 1, 1], [[0.9, 0.1], [0.6, 0.4], [0.65, 0.35], [0.2, 0.8]])
    0.75
    """
    from sklearn.metrics import roc_auc_score

    truth, probabilities = np.asarray(truth), np.asarray(probabilities)
    many = probabilities.shape[1] > 2
    areas = [
        roc_auc_score(truth == k, probabilities[:, k])
        for k in (range(probabilities.shape[1]) if many else [1])
        if 0 < (truth == k).sum() < len(truth)
    ]
    return float(np.mean(areas)) if areas else float("nan")


def slices(crops: pd.DataFrame, truth, probabilities, seed: int = 0) -> pd.DataFrame:
    """Return the metrics for kinds of crops: by flag, unknown flags, box size and Source.

    Parameters
    ----------
    crops : DataFrame
        Rows of data/crops.csv, one for each prediction: ImageID, the flags (1, 0, -1 unknown),
        Left, Upper, Right, Lower (pixels of the stored photo), Source.
    truth, probabilities
        Of these crops.
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    DataFrame
        Property, Value, Crops, Photos, Accuracy, Low, High (95 % by photo), F1 (mean over the
        categories that the slice holds), AUC. The first row is of all crops; kinds of which there
        are none have no row. Unknown flags are unknown all five at once, so they are one kind.
    """
    from sklearn.metrics import f1_score

    truth, probabilities = np.asarray(truth), np.asarray(probabilities)
    predicted = probabilities.argmax(axis=1)
    photos, rows = crops["ImageID"].to_numpy(), []
    for kind, value, mask in _kinds(crops):
        mask = np.asarray(mask)
        if not mask.any():
            continue
        found = interval(truth[mask] == predicted[mask], photos[mask], seed=seed)
        present = np.unique(truth[mask])
        f1 = f1_score(truth[mask], predicted[mask], labels=present, average="macro")
        rows.append({
            "Property": kind, "Value": value, "Crops": found["crops"], "Photos": found["photos"],
            "Accuracy": found["accuracy"], "Low": found["low"], "High": found["high"],
            "F1": float(f1), "AUC": roc_auc(truth[mask], probabilities[mask]),
        })  # fmt: skip
    return pd.DataFrame(rows)


def _kinds(crops: pd.DataFrame):
    """Yield (property, value, mask) of every kind of crop."""
    yield "All", "all", np.ones(len(crops), dtype=bool)
    for flag in FLAGS:
        name = flag.removeprefix("Is")
        yield name, "yes", crops[flag] == 1
        yield name, "no", crops[flag] == 0
    yield "Flags", "unknown", (crops[list(FLAGS)] == -1).any(axis=1)
    side = np.sqrt((crops["Right"] - crops["Left"]) * (crops["Lower"] - crops["Upper"]))
    edges = [0, *BOX_SIDES, np.inf]
    for low, high in pairwise(edges):
        label = f"under {high} px" if low == 0 else f"{low} to {high} px"
        label = f"{low} px and more" if high == np.inf else label
        yield "Box", label, (side >= low) & (side < high)
    for source in sorted(crops["Source"].dropna().unique()):
        yield "Source", source, crops["Source"] == source
