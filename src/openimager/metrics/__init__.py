"""Metrics with intervals: accuracy, calibration, thresholds, label audit and occlusion.

Truth and predictions are integer positions in a list of category names; probabilities have shape
(crops, categories) and rows that add up to 1. `photos` holds the ImageID of every crop: crops of
one photo are not independent, so photos are resampled, not crops.
"""

# ruff: noqa: F401 (imported for users of the package)

from openimager.metrics.calibration import (
    calibration_error,
    fit_temperature,
    log_loss,
    reliability,
    scale,
)
from openimager.metrics.checks import check_categories, check_unseen
from openimager.metrics.explain import greyed, occlusion, suspects
from openimager.metrics.intervals import difference, interval
from openimager.metrics.scores import confusion, per_category, roc_auc, slices
from openimager.metrics.thresholds import operating_point, rejection_threshold, threshold_sweep
