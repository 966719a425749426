"""Photos of chosen categories from Open Images V4, cropped into a dataset to train on."""

import importlib

__version__ = "0.1.0"

# Where each public name lives. They are imported when first used, so that importing openimager
# costs next to nothing and `--help` does without pandas.
_HOME = {
    "connect": "query",
    "download": "photos.download",
    **dict.fromkeys(("box_to_pixels", "crop_box", "rotate_box", "write_crops"), "crops"),
    "load_model": "predict",
    "install_package": "install",
    **dict.fromkeys(("BadInput", "TryAgain"), "errors"),
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'openimager' has no attribute '{name}'")
    return getattr(importlib.import_module(f"openimager.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
