"""Shares with bootstrap intervals, resampled by photo."""

import numpy as np
import pandas as pd

from openimager.errors import BadInput

RESAMPLES = 2000


def interval(correct, photos, level: float = 0.95, seed: int = 0, name: str = "accuracy") -> dict:
    """Return a share, such as the accuracy, with its bootstrap interval over photos.

    Parameters
    ----------
    correct : array-like of bool, shape (crops,)
        What is counted: for an accuracy, whether each crop was classified correctly.
    photos : array-like of str, shape (crops,)
    level, seed
        Coverage of the interval, and seed of the resampling.
    name : str
        Key of the share in the result.

    Returns
    -------
    dict
        `name`, ``low``, ``high`` (fractions; NaN without crops), ``crops``, ``photos``. If all
        values are equal, resampling shows no spread: the interval is then the exact binomial
        (Clopper-Pearson) one, with photos as trials.

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
    return {name: value, "low": low, "high": high, "crops": len(correct), "photos": len(sums)}


def difference(first, second, photos, level: float = 0.95, seed: int = 0) -> dict:
    """Return the paired difference of two accuracies on the same crops.

    `first` and `second` say whether each model classified each crop correctly. Each resample of
    photos measures both, so that hard photos cancel out; above 0 `first` is better.

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
        raise BadInput(
            f"{len(values)} crops, but {len(codes)} ImageIDs: pass one ImageID per crop."
        )
    return np.bincount(codes, values, len(names)), np.bincount(codes, minlength=len(names))


def _percentiles(sums, counts, level, seed) -> tuple[float, float]:
    """Return the bounds of the mean per crop over resamples of photos."""
    rng = np.random.default_rng(seed)
    draws = (rng.integers(len(sums), size=len(sums)) for _ in range(RESAMPLES))
    means = [sums[draw].sum() / counts[draw].sum() for draw in draws]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
