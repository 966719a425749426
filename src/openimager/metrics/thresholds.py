"""Where to draw the line. Choose thresholds on validation crops and judge them on test crops."""

import numpy as np
import pandas as pd


def rejection_threshold(confidence, keep: float = 0.95) -> float:
    """Return the confidence below which the answer should be "none of these".

    It is the highest threshold at or above which a share `keep` of the validation crops has its
    confidence, so that these still get an answer; 0 without crops.

    Examples
    --------
    >>> rejection_threshold([0.5, 0.7, 0.8, 0.9, 0.95], keep=0.8)
    0.7
    """
    confidence = np.sort(np.asarray(confidence, dtype=float))[::-1]
    if not len(confidence):
        return 0.0
    # Rounded first: 0.95 x 20 is a little more than 19.
    return float(confidence[max(int(np.ceil(np.round(keep * len(confidence), 9))), 1) - 1])


def operating_point(truth, scores, precision: float) -> float | None:
    """Return the lowest threshold at which category 1 reaches a precision.

    The lowest such threshold misses the fewest crops. It is one of the `scores` (probabilities of
    category 1; `truth` is 0 or 1), or None if no threshold reaches the precision.

    Examples
    --------
    >>> operating_point([0, 1, 0, 1, 1], [0.2, 0.3, 0.4, 0.6, 0.9], precision=0.7)
    0.3
    >>> operating_point([0, 1, 0, 1, 1], [0.2, 0.3, 0.4, 0.6, 0.9], precision=0.8)
    0.6
    """
    sweep = threshold_sweep(truth, scores, np.unique(np.asarray(scores, dtype=float)))
    reached = sweep.loc[sweep["Precision"] >= precision, "Threshold"]
    return None if reached.empty else float(reached.min())


def threshold_sweep(truth, scores, thresholds=None) -> pd.DataFrame:
    """Return accuracy, precision and recall at each threshold.

    Parameters
    ----------
    truth, scores : array-like, shape (crops,)
        0 or 1, and the probability of category 1.
    thresholds : sequence of float, optional
        By default 0, 0.01 ... 1.

    Returns
    -------
    DataFrame
        Threshold, Accuracy, Precision (of category 1; NaN if it is never predicted), Recall.

    Examples
    --------
    >>> threshold_sweep([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.8], [0.3, 0.5, 0.9])
       Threshold  Accuracy  Precision  Recall
    0        0.3      0.75   0.666667     1.0
    1        0.5      0.50   0.500000     0.5
    2        0.9      0.50        NaN     0.0
    """
    thresholds = np.linspace(0, 1, 101) if thresholds is None else np.asarray(thresholds)
    predicted = np.asarray(scores) >= thresholds[:, None]
    positive = np.asarray(truth) == 1
    hits, calls = (predicted & positive).sum(axis=1), predicted.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return pd.DataFrame({
            "Threshold": thresholds,
            "Accuracy": (predicted == positive).mean(axis=1),
            "Precision": hits / calls,
            "Recall": hits / positive.sum(),
        })  # fmt: skip
