"""Whether a probability of 90 % is right nine times out of ten, and how to make it so."""

import numpy as np
import pandas as pd

from openimager.metrics.intervals import interval

# Beyond these a temperature says "always certain" or "never", not how far confidence is off.
TEMPERATURES = (0.05, 20.0)
_SMALLEST = 1e-12  # a probability of 0 has no logarithm
_CHI2 = 3.84  # 95 % quantile for one degree of freedom


def scale(probabilities, temperature: float) -> np.ndarray:
    """Return probabilities with their logarithms divided by a temperature.

    Above 1 they become less certain, below 1 more; the predicted category stays the same.

    Examples
    --------
    >>> scale([[0.9, 0.1]], 2).round(3).tolist()
    [[0.75, 0.25]]
    """
    logits = np.log(np.clip(np.asarray(probabilities, dtype=float), _SMALLEST, 1)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def log_loss(truth, probabilities) -> float:
    """Return the negative log likelihood per crop: the mean of -log P(true category).

    Examples
    --------
    >>> round(log_loss([0, 1], [[0.5, 0.5], [0.5, 0.5]]), 3)
    0.693
    """
    probabilities = np.asarray(probabilities, dtype=float)
    given = probabilities[np.arange(len(probabilities)), np.asarray(truth)]
    return float(-np.log(np.clip(given, _SMALLEST, 1)).mean())


def fit_temperature(truth, probabilities) -> float:
    """Return the temperature that minimises the log loss of validation crops.

    It is 1 unless the crops show that another one is better (likelihood-ratio test, 5 %): fitting
    a few crops whose probabilities are good already would only add noise. As in Platt scaling one
    label in crops + 2 is taken to be wrong, so that crops that are all correct do not ask for
    complete certainty.

    Examples
    --------
    Always 90 % certain, but right three times out of four: 75 % is what it should say.

    >>> truth, probabilities = [0, 0, 0, 1] * 1000, [[0.9, 0.1]] * 4000
    >>> round(fit_temperature(truth, probabilities), 2)
    2.0
    """
    from scipy.optimize import minimize_scalar

    truth, probabilities = np.asarray(truth), np.asarray(probabilities, dtype=float)
    crops, categories = probabilities.shape
    if not crops:
        return 1.0
    wrong = 1 / (crops + 2)
    target = np.full(probabilities.shape, wrong / (categories - 1))
    target[np.arange(crops), truth] = 1 - wrong

    def loss(log_temperature: float) -> float:
        scaled = scale(probabilities, np.exp(log_temperature))
        return -(target * np.log(np.clip(scaled, _SMALLEST, 1))).sum() / crops

    found = minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded")
    return float(np.exp(found.x)) if 2 * crops * (loss(0) - found.fun) > _CHI2 else 1.0


def reliability(truth, probabilities, photos, bins: int = 10, seed: int = 0) -> pd.DataFrame:
    """Return the accuracy of crops, binned by confidence.

    Returns
    -------
    DataFrame
        One row for each of the `bins` of equal width that holds crops: From, To (edges; a value
        on an edge belongs to the lower bin), Confidence (mean), Accuracy, Low, High (95 % by
        photo), Crops.

    Examples
    --------
    >>> probabilities = [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.1, 0.9]]
    >>> table = reliability([0, 0, 1, 1], probabilities, list("abcd"), bins=5)
    >>> table[["From", "To", "Confidence", "Accuracy", "Crops"]]
       From   To  Confidence  Accuracy  Crops
    0   0.6  0.8        0.75       0.5      2
    1   0.8  1.0        0.90       1.0      2
    """
    probabilities, photos = np.asarray(probabilities), np.asarray(photos)
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == np.asarray(truth)
    bin_of = np.clip(np.ceil(np.round(confidence * bins, 9)).astype(int) - 1, 0, bins - 1)
    rows = []
    for k in np.unique(bin_of):
        inside = bin_of == k
        found = interval(correct[inside], photos[inside], seed=seed)
        rows.append({
            "From": k / bins, "To": (k + 1) / bins, "Confidence": confidence[inside].mean(),
            "Accuracy": found["accuracy"], "Low": found["low"], "High": found["high"],
            "Crops": found["crops"],
        })  # fmt: skip
    return pd.DataFrame(rows)


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
