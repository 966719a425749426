"""From photos and boxes to labelled folders of crops."""

from openimager.crops.cut import Options, crop_rows, hash_rows
from openimager.crops.folders import crop_path, folder_name
from openimager.crops.geometry import box_to_pixels, crop_box, rotate_box
from openimager.crops.write import read_crops, write_crops

__all__ = [
    "Options",
    "box_to_pixels",
    "crop_box",
    "crop_path",
    "crop_rows",
    "folder_name",
    "hash_rows",
    "read_crops",
    "rotate_box",
    "write_crops",
]
