"""From photos and boxes to labelled folders of crops."""

# ruff: noqa: F401
from openimager.crops.cut import Options, crop_rows, hash_rows
from openimager.crops.files import crop_path, folder_name
from openimager.crops.geometry import box_to_pixels, crop_box, rotate_box
from openimager.crops.write import read_crops, write_crops
