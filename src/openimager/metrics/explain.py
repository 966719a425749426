"""Why a model errs: labels that may be wrong, and the parts of a crop that it depends on."""

from collections.abc import Callable

import numpy as np

GREY = 127


def suspects(truth, probabilities) -> np.ndarray:
    """Return the positions of crops whose label is probably wrong, the least likely label first.

    Confident learning (`cleanlab.filter.find_label_issues`): a label is suspect where the model
    is at least as confident of another category as it usually is of crops of that category. The
    probabilities must be of a model that was not trained on these crops.

    Examples
    --------
    >>> suspects([0] * 5 + [1] * 5, [[0.9, 0.1]] * 4 + [[0.05, 0.95]] + [[0.1, 0.9]] * 5)
    array([4])
    """
    from cleanlab.filter import find_label_issues

    return find_label_issues(
        np.asarray(truth), np.asarray(probabilities, dtype=float), n_jobs=1,
        return_indices_ranked_by="self_confidence",
    )  # fmt: skip


def occlusion(
    predict: Callable, picture, category: int, patch: float = 0.25, steps: int = 9
) -> np.ndarray:
    """Return how much the probability of a category falls as a grey patch covers each place.

    `predict` turns pictures, shape (n, height, width, 3), pixels from 0 to 255, into probabilities;
    `picture` is one of them. The side of the patch is a share `patch` of the picture's; it takes
    `steps` positions along each side. The map, shape (steps, steps), is above 0 where the model
    needs what the patch covers, and below 0 where that speaks against the category.

    Examples
    --------
    A "model" that looks at the upper left quarter alone:

    >>> def predict(pictures):
    ...     white = pictures[:, :4, :4].mean(axis=(1, 2, 3)) / 255
    ...     return np.stack([1 - white, white], axis=1)
    >>> occlusion(predict, np.full((8, 8, 3), 255), 1, patch=0.5, steps=2).round(2).tolist()
    [[0.5, 0.0], [0.0, 0.0]]
    """
    picture = np.asarray(picture)
    sides = [max(1, round(patch * side)) for side in picture.shape[:2]]
    tops, lefts = (
        np.linspace(0, length - side, steps).round().astype(int)
        for length, side in zip(picture.shape, sides, strict=False)
    )
    covered = np.repeat(picture[None], steps * steps, axis=0)
    for k, (top, left) in enumerate((top, left) for top in tops for left in lefts):
        covered[k, top : top + sides[0], left : left + sides[1]] = GREY
    before = predict(picture[None])[0, category]
    return (before - predict(covered)[:, category]).reshape(steps, steps)


def greyed(pictures, middle: bool, area: float = 0.5) -> np.ndarray:
    """Return pictures, shape (n, height, width, 3), with their middle, or all else, greyed out.

    The middle is a rectangle that has the share `area` of the picture's area.

    Examples
    --------
    >>> greyed(np.zeros((1, 4, 4, 3)), True, area=0.25)[0, :, :, 0].astype(int).tolist()
    [[0, 0, 0, 0], [0, 127, 127, 0], [0, 127, 127, 0], [0, 0, 0, 0]]
    """
    inside = np.zeros(np.shape(pictures)[1:3], dtype=bool)
    top, left = (round(side * (1 - area**0.5) / 2) for side in inside.shape)
    inside[top : len(inside) - top, left : inside.shape[1] - left] = True
    return np.where((inside == middle)[..., None], GREY, pictures).astype(
        np.asarray(pictures).dtype
    )
