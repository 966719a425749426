"""The dataset in formats of other tools: COCO, YOLO and MLCommons Croissant."""

from openimager.export.coco import write_coco
from openimager.export.croissant import write_croissant
from openimager.export.yolo import write_yolo

__all__ = ["write_coco", "write_croissant", "write_yolo"]
