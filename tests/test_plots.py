"""Figures can be drawn from any valid table, without warnings."""

import warnings

import matplotlib
import numpy as np
import pytest
from PIL import Image

from openimager import metrics, plots

matplotlib.use("Agg")


@pytest.mark.parametrize("probabilities", [[[0.9, 0.1]] * 3, [[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]]])
def test_reliability(probabilities):
    """Each bin has a bar as high as its number of crops, even if there is only one bin."""
    table = metrics.reliability([0, 0, 1], probabilities, ["a", "b", "c"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = plots.reliability({"raw": table}, "Reliability")
        figure.canvas.draw()
    assert [bar.get_height() for bar in figure.axes[1].patches] == table["Crops"].tolist()


PICTURES = [Image.new("RGB", (40, 20), (shade,) * 3) for shade in (10, 20, 30)]


def shades(axes):
    """Return the first pixel value of each picture, by axes."""
    return [[int(image.get_array().flat[0]) for image in ax.images] for ax in axes]


def test_photos_with_boxes():
    """Boxes are drawn at their pixels in the category's colour, over a wider dark line."""
    boxes = [[("Dog", (0.25, 0.5, 0.5, 1))], [], [("Cat", (0, 1, 0, 1)), ("Dog", (0, 0.1, 0, 0.1))]]
    figure = plots.photos_with_boxes(PICTURES, boxes, ["Cat", "Dog"], "Photos", columns=2)
    assert shades(figure.axes) == [[10], [20], [30], []]
    assert [len(ax.patches) for ax in figure.axes] == [2, 0, 4, 0]
    below, above = figure.axes[0].patches
    for patch in (below, above):
        assert (patch.get_xy(), patch.get_width(), patch.get_height()) == ((10, 10), 10, 10)
    assert matplotlib.colors.to_hex(above.get_edgecolor()) == plots.PALETTE[1].lower()
    assert below.get_linewidth() > above.get_linewidth()


def test_contact_sheet():
    """Pictures are drawn row by row with captions; without pictures the sheet is empty."""
    figure = plots.contact_sheet(PICTURES, "Crops", ["a", "b", "c"], columns=2)
    assert shades(figure.axes) == [[10], [20], [30], []]
    assert [ax.get_title() for ax in figure.axes] == ["a", "b", "c", ""]
    assert shades(plots.contact_sheet([], "Crops").axes) == [[]] * 8


def test_occlusion():
    """Below each picture is its map over the grey picture, on one scale around 0."""
    maps = [np.full((2, 2), value) for value in (0.1, -0.4, 0.2)]
    figure = plots.occlusion([np.asarray(p) for p in PICTURES], maps, ["a", "b", "c"], "Maps")
    assert shades(figure.axes[:3]) == [[10], [20], [30]]
    for ax, shade, values in zip(figure.axes[3:6], (10, 20, 30), maps, strict=True):
        grey, found = ax.images
        assert grey.get_array()[0, 0] == shade and (found.get_array() == values).all()
        assert found.get_clim() == (-0.4, 0.4) and found.get_extent() == [0, 40, 20, 0]
