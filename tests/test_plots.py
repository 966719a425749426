"""Figures draw whatever tables they are given, without a warning."""

import warnings

import matplotlib
import pytest

from openimager import metrics, plots

matplotlib.use("Agg")


@pytest.mark.parametrize("probabilities", [[[0.9, 0.1]] * 3, [[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]]])
def test_reliability(probabilities):
    """One bin is drawn as well as several, each with its number of crops."""
    table = metrics.reliability([0, 0, 1], probabilities, ["a", "b", "c"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = plots.reliability({"raw": table}, "Reliability")
        figure.canvas.draw()
    assert len(figure.axes[1].patches) == len(table)
