"""Metrics with intervals: accuracy, calibration, thresholds, label audit and occlusion.

Truth and predictions are integer positions in a list of category names; probabilities have shape
(crops, categories) and rows that add up to 1. `photos` holds the ImageID of every crop: crops of
one photo are not independent, so photos are resampled, not crops.
"""

# ruff: noqa: F401, I001 (imported for users of the package)

from openimager.metrics.calibration import calibration_error, fit_temperature, log_loss
from openimager.metrics.calibration import operating_point, rejection_threshold, reliability
from openimager.metrics.calibration import scale, threshold_sweep
from openimager.metrics.explain import greyed, occlusion, suspects
from openimager.metrics.scores import check_categories, check_unseen, confusion, difference
from openimager.metrics.scores import interval, per_category, roc_auc, slices
