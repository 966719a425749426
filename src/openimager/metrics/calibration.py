"""Calibration and thresholds: fit them on validation crops, and judge them on test crops."""

import numpy as np
import pandas as pd

from openimager.metrics.scores import difference, interval

_SMALLEST = 1e-12  # a probability of 0 has no logarithm
_CHI2 = 3.84  # 95 % quantile for one degree of freedom


def scale(probabilities, temperature: float) -> np.ndarray:
    """Return probabilities with their logarithms divided by a temperature.

    Above 1 they become less certain, below 1 more; the predicted category stays the same.

    >>> scale([[0.9, 0.1]], 2).round(3).tolist()
    [[0.75, 0.25]]
    """
    logits = np.log(np.clip(np.asarray(probabilities, dtype=float), _SMALLEST, 1)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def log_loss(truth, probabilities) -> float:
    """Return the negative log likelihood per crop: the mean of -log P(true category).

    >>> round(log_loss([0, 1], [[0.5, 0.5], [0.5, 0.5]]), 3)
    0.693
    """
    probabilities = np.asarray(probabilities, dtype=float)
    given = probabilities[np.arange(len(probabilities)), np.asarray(truth)]
    return float(-np.log(np.clip(given, _SMALLEST, 1)).mean())


def fit_temperature(truth, probabilities, photos, seed: int = 0) -> float:
    """Return the temperature that minimises the log loss of validation crops.

    It is 1 unless another one is better beyond chance: by a likelihood-ratio test (5 %), and in a
    bootstrap by photo, because crops of one photo are not independent. Fitting a few crops whose
    probabilities are good already would only add noise. As in Platt scaling, one label in (number
    of crops + 2) is taken to be wrong: crops without errors must not push the temperature to 0.

    >>> round(fit_temperature([0, 0, 0, 1] * 1000, [[0.9, 0.1]] * 4000, range(4000)), 2)
    2.0
    """
    from scipy.optimize import minimize_scalar

    truth, probabilities = np.asarray(truth), np.asarray(probabilities, dtype=float)
    crops, categories = probabilities.shape
    if not crops or categories == 1:
        return 1.0
    wrong = 1 / (crops + 2)
    target = np.full(probabilities.shape, wrong / (categories - 1))
    target[np.arange(crops), truth] = 1 - wrong

    def log_likelihood(log_temperature: float) -> np.ndarray:
        scaled = np.clip(scale(probabilities, np.exp(log_temperature)), _SMALLEST, 1)
        return (target * np.log(scaled)).sum(axis=1)

    # Beyond these bounds all probabilities are nearly 0 or 1, or nearly equal.
    bounds = np.log([0.05, 20])
    found = minimize_scalar(lambda t: -log_likelihood(t).sum(), bounds=bounds, method="bounded")
    fitted, given = log_likelihood(found.x), log_likelihood(0)
    likely = 2 * (fitted - given).sum() > _CHI2
    better = likely and difference(fitted, given, photos, seed)["low"] > 0
    return float(np.exp(found.x)) if better else 1.0


def reliability(truth, probabilities, photos, bins: int = 10, seed: int = 0) -> pd.DataFrame:
    """Return the accuracy of crops, binned by confidence.

    A row for each of `bins` equal bins that holds crops: From, To (edges; a value on an edge
    belongs to the lower bin), Confidence (mean), Accuracy, Low, High (95 % by photo), Crops.

    >>> probabilities = [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.1, 0.9]]
    >>> reliability([0, 0, 1, 1], probabilities, list("abcd"), 5)[["From", "Accuracy"]].to_numpy()
    array([[0.6, 0.5], [0.8, 1. ]])
    """
    probabilities, photos = np.asarray(probabilities), np.asarray(photos)
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == np.asarray(truth)
    bin_of = np.clip(np.ceil(np.round(confidence * bins, 9)).astype(int) - 1, 0, bins - 1)
    rows, columns = [], ["From", "To", "Confidence", "Accuracy", "Low", "High", "Crops"]
    for k in np.unique(bin_of):
        inside = bin_of == k
        row = {"From": k / bins, "To": (k + 1) / bins, "Confidence": confidence[inside].mean()}
        rows.append(row | interval(correct[inside], photos[inside], seed))
    return pd.DataFrame(rows).rename(columns=str.capitalize).reindex(columns=columns)


def calibration_error(table: pd.DataFrame) -> float:
    """Return the expected calibration error: the gap between Confidence and Accuracy in a
    `reliability` table, as a mean over crops.

    >>> bins = {"Confidence": [0.75, 0.9], "Accuracy": [0.5, 1], "Crops": [3, 1]}
    >>> calibration_error(pd.DataFrame(bins))
    0.2125
    """
    gap = (table["Confidence"] - table["Accuracy"]).abs()
    return float(np.average(gap, weights=table["Crops"]))


def rejection_threshold(confidence, keep: float = 0.95) -> float:
    """Return the confidence below which the answer should be "none of these".

    It is the highest at which a share `keep` of the crops still gets an answer; 0 without crops.

    >>> rejection_threshold([0.5, 0.7, 0.8, 0.9, 0.95], keep=0.8)
    0.7
    """
    confidence = np.sort(np.asarray(confidence, dtype=float))[::-1]
    if not len(confidence):
        return 0.0
    # Rounded first: 0.56 * 25 is a little more than 14, and ceil would make it 15.
    return float(confidence[max(int(np.ceil(np.round(keep * len(confidence), 9))), 1) - 1])


def operating_point(truth, scores, precision: float) -> float | None:
    """Return the lowest of `scores` that, as a threshold, gives category 1 this precision.

    The lowest misses the fewest crops; None if no score gives that precision. `truth` and `scores`
    are as for `threshold_sweep`.

    >>> operating_point([0, 1, 0, 1, 1], [0.2, 0.3, 0.4, 0.6, 0.9], precision=0.8)
    0.6
    """
    sweep = threshold_sweep(truth, scores, np.unique(np.asarray(scores, dtype=float)))
    reached = sweep.loc[sweep["Precision"] >= precision, "Threshold"]
    return None if reached.empty else float(reached.min())


def threshold_sweep(truth, scores, thresholds=None) -> pd.DataFrame:
    """Return Threshold, Accuracy, Precision and Recall of category 1 at each threshold.

    `truth` is 0 or 1, `scores` the probability of category 1, the thresholds 0, 0.01 ... 1 by
    default. Precision is NaN where category 1 is never predicted.

    >>> threshold_sweep([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.8], [0.5, 0.9])
       Threshold  Accuracy  Precision  Recall
    0        0.5       0.5        0.5     0.5
    1        0.9       0.5        NaN     0.0
    """
    thresholds = np.linspace(0, 1, 101) if thresholds is None else np.asarray(thresholds)
    predicted = np.asarray(scores) >= thresholds[:, None]
    positive = np.asarray(truth) == 1
    hits, accuracy = (predicted & positive).sum(axis=1), (predicted == positive).mean(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision, recall = hits / predicted.sum(axis=1), hits / positive.sum()
    table = {"Threshold": thresholds, "Accuracy": accuracy}
    return pd.DataFrame(table | {"Precision": precision, "Recall": recall})
