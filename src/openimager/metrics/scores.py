"""Scores with bootstrap intervals, by category and by kind of crop, and checks of test crops."""

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from openimager.errors import BadInput
from openimager.store import FLAGS

_RESAMPLES, _LEVEL = 2000, 0.95
# Lower bounds of the root of a box's area, in pixels. Crops have 128 x 128 pixels by default:
# smaller boxes were enlarged, larger ones reduced.
_BOXES = {"under 64 px": 0, "64 to 128 px": 64, "128 to 256 px": 128, "256 px and more": 256}


def check_categories(known: Iterable[str], found: Iterable[str]) -> None:
    """Raise BadInput for crops of other categories than the model was trained for."""
    known, found = sorted(known), sorted(found)
    if known != found:
        raise BadInput(
            f"The model knows {', '.join(known)}, but the test crops are of {', '.join(found)}. "
            "Train on these crops first (build-model), or crop the model's categories again "
            "(build-dataset)."
        )


def check_unseen(tested: dict[str, str], trained_on: Iterable[str]) -> None:
    """Raise BadInput if a test crop was trained on.

    `tested` has the name and SHA256 of each test crop, `trained_on` the SHA256 of every crop
    trained on (models/trained_on.txt).
    """
    seen = set(trained_on)
    leaked = sorted(name for name, digest in tested.items() if digest in seen)
    if leaked:
        raise BadInput(
            f"{len(leaked)} of {len(tested)} test crops were trained on ({', '.join(leaked[:3])}), "
            "so the accuracy measured here would be too high. Remove them from the test folder, or "
            "crop (build-dataset) and train again."
        )


def interval(correct, photos, seed: int = 0, name: str = "accuracy") -> dict:
    """Return a share, such as the accuracy, with its 95 % bootstrap interval over photos.

    `correct`, of shape (crops,), says what is counted: for an accuracy, whether each crop was
    classified correctly. Returned are the share as `name`, ``low``, ``high`` (NaN without crops),
    ``crops`` and ``photos``. If all values are equal, resampling shows no spread: the interval is
    then the exact binomial (Clopper-Pearson) one, with photos as trials.

    >>> interval([1, 1, 1, 0], ["a", "a", "b", "c"])
    {'accuracy': 0.75, 'low': 0.0, 'high': 1.0, 'crops': 4, 'photos': 3}
    """
    correct, number = np.asarray(correct, dtype=float), len(set(photos))
    value = float(correct.mean()) if len(correct) else float("nan")
    low, high = _bootstrap(correct, photos, seed)
    if value in (0, 1):
        edge = ((1 - _LEVEL) / 2) ** (1 / number)
        low, high = (edge, 1.0) if value else (0.0, 1 - edge)
    return {name: value, "low": low, "high": high, "crops": len(correct), "photos": number}


def difference(first, second, photos, seed: int = 0) -> dict:
    """Return the paired difference of two accuracies on the same crops; above 0 `first` is better.

    `first` and `second` say whether each model classified each crop correctly. Each resample of
    photos measures both, so that hard photos cancel out.

    >>> difference([1, 1, 1, 0], [0, 0, 1, 1], list("abcd"))
    {'difference': 0.25, 'low': -0.5, 'high': 1.0}
    """
    gain = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    low, high = _bootstrap(gain, photos, seed)
    return {"difference": float(gain.mean()), "low": low, "high": high}


def _bootstrap(values, photos, seed: int) -> tuple[float, float]:
    """Return the bounds of the mean per crop over resamples of photos."""
    codes, names = pd.factorize(np.asarray(photos))
    if len(codes) != len(values):
        raise BadInput(f"{len(values)} crops, but {len(codes)} ImageIDs: pass one for each crop.")
    if not len(values):
        return float("nan"), float("nan")
    sums, counts = np.bincount(codes, values), np.bincount(codes)
    rng = np.random.default_rng(seed)
    draws = (rng.integers(len(names), size=len(names)) for _ in range(_RESAMPLES))
    means = [sums[draw].sum() / counts[draw].sum() for draw in draws]
    low, high = np.quantile(means, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return float(low), float(high)


def per_category(truth, predicted, names: Sequence[str]) -> pd.DataFrame:
    """Return Precision, Recall, F1 and Crops of each category; 0 where there is nothing to score.

    >>> per_category([0, 0, 0, 1], [0, 0, 1, 1], ["Cat", "Dog"]).round(2)
              Precision  Recall    F1  Crops
    Category
    Cat             1.0    0.67  0.80      3
    Dog             0.5    1.00  0.67      1
    """
    from sklearn.metrics import precision_recall_fscore_support

    labels = range(len(names))
    scores = precision_recall_fscore_support(truth, predicted, labels=labels, zero_division=0)
    table = dict(zip(["Precision", "Recall", "F1", "Crops"], scores, strict=True))
    return pd.DataFrame(table, index=pd.Index(names, name="Category"))


def confusion(truth, predicted, names: Sequence[str]) -> pd.DataFrame:
    """Return counts of crops: one row per true category, one column per predicted category.

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
    """Return the area under the ROC curve; for many categories, the mean of one-vs-rest areas.

    0.5 is chance, 1 perfect. A category of no crop, or of every crop, has no curve and is left out
    of the mean; NaN where that leaves none.

    >>> roc_auc([0, 0, 1, 1], [[0.9, 0.1], [0.6, 0.4], [0.65, 0.35], [0.2, 0.8]])
    0.75
    """
    from sklearn.metrics import roc_auc_score

    truth, probabilities = np.asarray(truth), np.asarray(probabilities)
    categories = probabilities.shape[1]
    areas = [
        roc_auc_score(truth == k, probabilities[:, k])
        for k in (range(categories) if categories > 2 else [1])
        if 0 < (truth == k).sum() < len(truth)
    ]
    return float(np.mean(areas)) if areas else float("nan")


def slices(crops: pd.DataFrame, truth, probabilities, seed: int = 0) -> pd.DataFrame:
    """Return the metrics for kinds of crops: by flag, unknown flags, box size and Source.

    `crops` has a row of data/crops.csv for each prediction. A row of the result has Property,
    Value, Crops, Photos, Accuracy, Low, High (95 % by photo), F1 (mean over the categories that
    the slice holds) and AUC. The first row is of all crops; kinds of which there are none have no
    row. The five flags of a box are all known or all unknown, so "unknown" is one kind.
    """
    from sklearn.metrics import f1_score

    truth, probabilities = np.asarray(truth), np.asarray(probabilities)
    predicted, photos = probabilities.argmax(axis=1), crops["ImageID"].to_numpy()
    side = np.sqrt((crops["Right"] - crops["Left"]) * (crops["Lower"] - crops["Upper"]))
    kinds = {"All": pd.Series("all", crops.index)}
    kinds |= {flag.removeprefix("Is"): crops[flag].map({1: "yes", 0: "no"}) for flag in FLAGS}
    kinds["Flags"] = (crops[list(FLAGS)] == -1).any(axis=1).map({True: "unknown"})
    kinds["Box"] = pd.cut(side, [*_BOXES.values(), np.inf], right=False, labels=list(_BOXES))
    kinds["Source"] = crops["Source"]
    order = ["all", "yes", "no", "unknown", *_BOXES, *sorted(crops["Source"].dropna().unique())]
    rows = []
    for (kind, labels), value in itertools.product(kinds.items(), order):
        mask = (labels == value).to_numpy(dtype=bool, na_value=False)
        if not mask.any():
            continue
        given, called = truth[mask], predicted[mask]
        f1 = f1_score(given, called, labels=np.unique(given), average="macro")
        share, low, high, count, of = interval(given == called, photos[mask], seed).values()
        scores = share, low, high, float(f1), roc_auc(given, probabilities[mask])
        rows.append((kind, value, count, of, *scores))
    names = ["Property", "Value", "Crops", "Photos", "Accuracy", "Low", "High", "F1", "AUC"]
    return pd.DataFrame(rows, columns=names)
