"""Why a model errs: labels that may be wrong, and the parts of a crop that it depends on."""

import itertools
from collections.abc import Callable

import numpy as np

GREY = 127


def suspects(truth, probabilities) -> np.ndarray:
    """Return the positions of crops whose label is probably wrong, the least likely label first.

    Confident learning (cleanlab) counts the crops labelled A whose probability of B is at least its
    average over crops labelled B, and suspects at most that many labels. The model that gave the
    probabilities must not have been trained on these crops.

    >>> suspects([0] * 5 + [1] * 5, [[0.9, 0.1]] * 4 + [[0.05, 0.95]] + [[0.1, 0.9]] * 5)
    array([4])
    """
    from cleanlab.filter import find_label_issues

    how = {"n_jobs": 1, "return_indices_ranked_by": "self_confidence"}
    return find_label_issues(np.asarray(truth), np.asarray(probabilities, dtype=float), **how)


def occlusion(
    predict: Callable, picture, category: int, patch: float = 0.25, steps: int = 9
) -> np.ndarray:
    """Return how much the probability of a category falls as a grey patch covers each place.

    `predict` turns pictures, shape (n, height, width, 3), pixels from 0 to 255, into probabilities;
    `picture` is one of them. The side of the patch is a share `patch` of the picture's; it takes
    `steps` positions along each side. The map, shape (steps, steps), is above 0 where the model
    needs what the patch covers, and below 0 where that speaks against the category.

    >>> upper_left = lambda pictures: pictures[:, :4, :4, :2].mean(axis=(1, 2)) / 255
    >>> occlusion(upper_left, np.full((8, 8, 3), 255), 1, patch=0.5, steps=2).round(2).tolist()
    [[0.5, 0.0], [0.0, 0.0]]
    """
    picture = np.asarray(picture)
    places = []
    for length in picture.shape[:2]:
        side = max(1, round(patch * length))
        starts = np.linspace(0, length - side, steps).round().astype(int)
        places.append([slice(start, start + side) for start in starts])
    covered = np.repeat(picture[None], steps * steps, axis=0)
    for one, place in zip(covered, itertools.product(*places), strict=True):
        one[place] = GREY
    before = predict(picture[None])[0, category]
    return (before - predict(covered)[:, category]).reshape(steps, steps)


def greyed(pictures, middle: bool) -> np.ndarray:
    """Return pictures, shape (n, height, width, 3), with their middle, or all else, greyed out.

    The middle is a rectangle of half the picture's area.

    >>> greyed(np.zeros((1, 4, 4, 3)), True)[0, :, :, 0].astype(int).tolist()
    [[0, 0, 0, 0], [0, 127, 127, 0], [0, 127, 127, 0], [0, 0, 0, 0]]
    """
    pictures = np.asarray(pictures)
    inside = np.zeros(pictures.shape[1:3], dtype=bool)
    top, left = (round(side * (1 - 0.5**0.5) / 2) for side in inside.shape)
    inside[top : len(inside) - top, left : inside.shape[1] - left] = True
    return np.where((inside == middle)[..., None], GREY, pictures).astype(pictures.dtype)
