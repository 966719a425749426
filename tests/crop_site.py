"""Old name of `builders`; to be removed when no test imports it."""

from builders import DataDir as Site
from builders import counts, jpeg, scene

__all__ = ["Site", "counts", "jpeg", "scene"]
