"""Accuracy that says how sure it is: intervals by photo, slices, calibration, and what is refused.

Truth and predictions are integer positions in a list of category names; probabilities have
shape (crops, categories) and rows that add up to 1. `photos` holds the ImageID of every crop.
Crops of one photo are not independent (the same animal, light and camera), so photos are what is
resampled.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from openimager.errors import BadInput
from openimager.store import FLAGS

__all__ = [
    "calibration_error",
    "check_categories",
    "check_unseen",
    "confusion",
    "difference",
    "interval",
    "per_category",
    "reliability",
    "roc_auc",
    "slices",
    "threshold_sweep",
]

RESAMPLES = 2000
# Edges in pixels: a crop has 128, so boxes below that were enlarged and those above were shrunk.
BOX_SIDES = (64, 128, 256)


def interval(correct, photos, level: float = 0.95, seed: int = 0) -> dict:
    """Return an accuracy and its interval, by a percentile bootstrap over photos.

    Parameters
    ----------
    correct : array-like of bool, shape (crops,)
        Whether each crop's category was named rightly.
    photos : array-like of str, shape (crops,)
        ImageID of each crop.
    level : float
        Share of resamples inside the interval.
    seed : int
        Of the resampling: one seed gives one answer.

    Returns
    -------
    dict
        ``accuracy``, ``low``, ``high`` (fractions; NaN without crops), ``crops``, ``photos``.

    Notes
    -----
    Where every crop is right, or every one wrong, resampling sees no spread at all. The exact
    binomial (Clopper-Pearson) bound is taken then, with photos as its trials.

    Examples
    --------
    >>> interval([1, 1, 1, 0], ["a", "a", "b", "c"])
    {'accuracy': 0.75, 'low': 0.0, 'high': 1.0, 'crops': 4, 'photos': 3}
    >>> round(interval([True] * 60, range(60))["low"], 3)
    0.94
    """
    correct = np.asarray(correct, dtype=float)
    sums, counts = _by_photo(correct, photos)
    value = float(correct.mean()) if len(correct) else float("nan")
    if len(sums) == 0:
        low = high = value
    elif value in (0, 1):
        edge = ((1 - level) / 2) ** (1 / len(sums))
        low, high = (edge, 1.0) if value else (0.0, 1 - edge)
    else:
        low, high = _percentiles(sums, counts, level, seed)
    return {
        "accuracy": value, "low": low, "high": high, "crops": len(correct), "photos": len(sums)
    }  # fmt: skip


def difference(first, second, photos, level: float = 0.95, seed: int = 0) -> dict:
    """Return how much more often `first` is right than `second` on the same crops.

    Paired: each resample of photos measures both, so that hard photos cancel out.

    Parameters
    ----------
    first, second : array-like of bool, shape (crops,)
        Whether each model named each crop rightly.
    photos, level, seed
        As for `interval`.

    Returns
    -------
    dict
        ``difference``, ``low``, ``high``, as fractions; above 0 where `first` is better.

    Examples
    --------
    >>> difference([1, 1, 1, 0], [0, 0, 1, 1], list("abcd"))
    {'difference': 0.25, 'low': -0.5, 'high': 1.0}
    """
    gain = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    low, high = _percentiles(*_by_photo(gain, photos), level, seed)
    return {"difference": float(gain.mean()), "low": low, "high": high}


def _by_photo(values, photos) -> tuple[np.ndarray, np.ndarray]:
    """Return the sum of the values of each photo, and its number of crops."""
    codes, names = pd.factorize(np.asarray(photos))
    if len(codes) != len(values):
        raise BadInput(f"{len(values)} crops, but {len(codes)} photos are named for them.")
    return np.bincount(codes, values, len(names)), np.bincount(codes, minlength=len(names))


def _percentiles(sums, counts, level, seed) -> tuple[float, float]:
    """Return the bounds of the mean per crop over resamples of photos."""
    rng = np.random.default_rng(seed)
    draws = (rng.integers(len(sums), size=len(sums)) for _ in range(RESAMPLES))
    means = [sums[draw].sum() / counts[draw].sum() for draw in draws]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def per_category(truth, predicted, names: Sequence[str]) -> pd.DataFrame:
    """Return precision, recall, F1 and the number of crops of each category.

    Parameters
    ----------
    truth, predicted : array-like of int, shape (crops,)
        Positions in `names`.
    names : sequence of str
        The categories; one without crops, or never predicted, scores 0.

    Returns
    -------
    DataFrame
        Indexed by Category; columns Precision, Recall, F1 (fractions), Crops.

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
    """Return counts of crops: a row for each true category, a column for each predicted one.

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

    Returns
    -------
    float
        0.5 is chance, 1 perfect. A category of which there are no crops, or nothing else, has no
        curve and is left out of the mean; NaN where that leaves none.

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


def reliability(truth, probabilities, bins: int = 10) -> pd.DataFrame:
    """Return how often the model is right, for crops of which it is about equally sure.

    Parameters
    ----------
    truth : array-like of int, shape (crops,)
    probabilities : array-like, shape (crops, categories)
    bins : int
        Of equal width over the probability of the predicted category, 0 to 1; empty ones are
        left out.

    Returns
    -------
    DataFrame
        Low, High (edges; a value on an edge belongs to the bin below), Confidence (mean
        probability), Accuracy, Crops.

    Examples
    --------
    >>> reliability([0, 0, 1, 1], [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.1, 0.9]], bins=5)
       Low  High  Confidence  Accuracy  Crops
    0  0.6   0.8        0.75       0.5      2
    1  0.8   1.0        0.90       1.0      2
    """
    probabilities = np.asarray(probabilities)
    sure = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == np.asarray(truth)
    bin_of = np.clip(np.ceil(np.round(sure * bins, 9)).astype(int) - 1, 0, bins - 1)
    table = pd.DataFrame({"bin": bin_of, "Confidence": sure, "Accuracy": right})
    table = table.groupby("bin").agg(
        Confidence=("Confidence", "mean"), Accuracy=("Accuracy", "mean"), Crops=("bin", "size")
    )
    table.insert(0, "Low", table.index / bins)
    table.insert(1, "High", (table.index + 1) / bins)
    return table.reset_index(drop=True)


def calibration_error(table: pd.DataFrame) -> float:
    """Return the expected calibration error: the mean gap of a `reliability` table, by crops.

    Examples
    --------
    >>> bins = {"Confidence": [0.75, 0.9], "Accuracy": [0.5, 1], "Crops": [3, 1]}
    >>> calibration_error(pd.DataFrame(bins))
    0.2125
    """
    gap = (table["Confidence"] - table["Accuracy"]).abs()
    return float(np.average(gap, weights=table["Crops"]))


def threshold_sweep(truth, scores, thresholds=None) -> pd.DataFrame:
    """Return what calling a crop the second of two categories from each threshold on would do.

    Parameters
    ----------
    truth : array-like of int, shape (crops,)
        0 or 1.
    scores : array-like of float, shape (crops,)
        Probability of category 1.
    thresholds : sequence of float, optional
        By default 0, 0.01 ... 1.

    Returns
    -------
    DataFrame
        Threshold, Accuracy, Precision (of category 1; NaN where nothing is called that), Recall.

    Examples
    --------
    >>> threshold_sweep([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.8], [0.3, 0.5, 0.9])
       Threshold  Accuracy  Precision  Recall
    0        0.3      0.75   0.666667     1.0
    1        0.5      0.50   0.500000     0.5
    2        0.9      0.50        NaN     0.0
    """
    thresholds = np.linspace(0, 1, 101) if thresholds is None else np.asarray(thresholds)
    called = np.asarray(scores) >= thresholds[:, None]
    positive = np.asarray(truth) == 1
    hits, calls = (called & positive).sum(axis=1), called.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return pd.DataFrame({
            "Threshold": thresholds,
            "Accuracy": (called == positive).mean(axis=1),
            "Precision": hits / calls,
            "Recall": hits / positive.sum(),
        })  # fmt: skip


def slices(crops: pd.DataFrame, truth, probabilities, seed: int = 0) -> pd.DataFrame:
    """Return the metrics for kinds of crops: by flag, unknown flags, box size and Source.

    Parameters
    ----------
    crops : DataFrame
        Rows of data/crops.csv, one for each prediction: ImageID, the flags (1, 0, -1 unknown),
        Left, Upper, Right, Lower (pixels of the stored photo), Source.
    truth : array-like of int, shape (crops,)
    probabilities : array-like, shape (crops, categories)
    seed : int
        Of the bootstrap.

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


def check_categories(known: Iterable[str], found: Iterable[str]) -> None:
    """Refuse crops of other categories than the model was trained for.

    Raises
    ------
    BadInput
        Naming what only one side has.

    Examples
    --------
    >>> check_categories(["Cat", "Dog"], ["Dog", "Cat"])
    >>> check_categories(["Cat", "Dog"], ["Apple", "Dog"])
    Traceback (most recent call last):
    openimager.errors.BadInput: The model knows Cat, Dog, but the test crops are of Apple, Dog. ...
    """
    known, found = sorted(known), sorted(found)
    if known != found:
        raise BadInput(
            f"The model knows {', '.join(known)}, but the test crops are of {', '.join(found)}. "
            "Train on these crops first (build-model), or make the crops of the model's "
            "categories again (build-dataset)."
        )


def check_unseen(tested: dict[str, str], trained_on: Iterable[str]) -> None:
    """Refuse to measure on crops that the model was trained on.

    Parameters
    ----------
    tested : dict of str to str
        Name of each test crop, and the SHA256 of its bytes.
    trained_on : iterable of str
        SHA256 of every crop trained on (models/trained_on.txt).

    Raises
    ------
    BadInput
        Naming some of the crops that are in both.

    Examples
    --------
    >>> check_unseen({"a_0.jpg": "aa", "b_0.jpg": "bb"}, ["cc", "aa"])
    Traceback (most recent call last):
    openimager.errors.BadInput: 1 of 2 test crops was trained on (a_0.jpg), so ...
    """
    seen = set(trained_on)
    leaked = sorted(name for name, digest in tested.items() if digest in seen)
    if leaked:
        some = ", ".join(leaked[:3]) + (" ..." if len(leaked) > 3 else "")
        raise BadInput(
            f"{len(leaked)} of {len(tested)} test crops {'was' if len(leaked) == 1 else 'were'} "
            f"trained on ({some}), so no accuracy measured here would be honest. Remove them from "
            "the test folder, or make the crops again (build-dataset) and train again."
        )
