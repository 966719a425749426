"""Classify photos with a trained model: `load_model`, or ``python -m openimager.predict``."""

import argparse
import contextlib
import importlib
import json
import os
import sys
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, UnidentifiedImageError
from tqdm.auto import tqdm

from openimager import metrics
from openimager.cropping.geometry import box_to_pixels, crop_box, decode, draft_scale
from openimager.errors import BadInput
from openimager.files import replacing, sha256

__all__ = ["NONE", "Classifier", "import_keras", "load_model", "save_model"]

NONE = "none of these"
# A member of the .keras archive. Keras ignores it, and safe mode needs no custom object to read it.
_FACTS = "openimager.json"
_AT_ONCE = 256  # photos decoded before the model sees them
_WHOLE = (0.0, 1.0, 0.0, 1.0)
_UPRIGHT = {  # EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90,
}  # fmt: skip
_TURNED = (5, 6, 7, 8)  # width and height change places


def import_keras():
    """Import Keras without the lines that TensorFlow logs while it starts; return the module."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _quiet_stderr():
        try:
            return importlib.import_module("keras")
        except ImportError as error:
            raise BadInput(
                f"Keras could not be imported ({error}). Install it with "
                "pip install 'openimager[notebooks]'."
            ) from error


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Discard what compiled libraries write to file descriptor 2."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def save_model(model, path: str | os.PathLike, categories: dict[str, str], **crops) -> str:
    """Save a Keras model together with its categories, whole or not at all.

    Parameters
    ----------
    model : keras.Model
        From pixels (0 to 255) to one probability per category.
    path : path-like
        Its name must end in ``.keras``.
    categories : dict of str to str
        Folder and name of each category, in the order of the model's outputs.
    **crops
        How its crops were made: ``padding``, ``keep_aspect`` (see `openimager.write_crops`).

    Returns
    -------
    str
        SHA256 of the file.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.part.keras")  # Keras insists on the suffix
    with replacing(path) as part:
        try:
            model.save(temporary)
            with zipfile.ZipFile(temporary, "a") as archive:
                archive.writestr(_FACTS, json.dumps({"categories": categories, "crops": crops}))
            temporary.replace(part)
        finally:
            temporary.unlink(missing_ok=True)
    return sha256(path)


def load_model(models: str | os.PathLike = "models") -> "Classifier":
    """Load a trained model to classify photos with.

    Parameters
    ----------
    models : path-like
        The folder with latest.keras, and metrics.json if the model was evaluated; or one of the
        .keras files in it.

    Returns
    -------
    Classifier
        Warns if metrics.json is missing or about another model: its probabilities are then not
        calibrated, and no answer is "none of these".

    Raises
    ------
    BadInput
        If there is no model, or it is not one of build-model's.
    """
    path = Path(models)
    path = path / "latest.keras" if path.is_dir() else path
    if not path.is_file():
        raise BadInput(
            f"There is no model at {path}. Train one (notebooks/build-model.ipynb) or install one "
            "from a package; --models names another folder."
        )
    try:
        with zipfile.ZipFile(path) as archive:
            facts = json.loads(archive.read(_FACTS))
        model = import_keras().saving.load_model(path, safe_mode=True, compile=False)
    except BadInput:
        raise
    except Exception as error:  # Keras raises many kinds for a broken file
        raise BadInput(f"{path} is not a model saved by build-model ({error}).") from error
    return Classifier(model, facts, *_calibration(path))


def _calibration(path: Path) -> tuple[float, float]:
    """Return temperature and threshold of a model, from the metrics.json beside it."""
    try:
        report = json.loads((path.parent / "metrics.json").read_text(encoding="utf-8"))
        same = report["model_sha256"] == sha256(path)
        found = float(report["temperature"]), float(report["threshold"])
        reason = "is about another model than"
    except (OSError, ValueError, KeyError, TypeError):
        same, reason = False, "is missing or incomplete beside"
    if same:
        return found
    warnings.warn(
        f"metrics.json {reason} {path}: the probabilities are not calibrated, and no answer is "
        f"'{NONE}'. Run evaluate-model.", stacklevel=3,
    )  # fmt: skip
    return 1.0, 0.0


class Classifier:
    """A trained model with its categories, its temperature and its threshold.

    Attributes
    ----------
    model : keras.Model
    folders, categories : list of str
        Folder and name of each category, in the order of the model's outputs.
    temperature, threshold : float
        See `openimager.metrics.scale` and `openimager.metrics.rejection_threshold`.
    """

    def __init__(self, model, facts: dict, temperature: float = 1.0, threshold: float = 0.0):
        self.model, self.temperature, self.threshold = model, temperature, threshold
        self.folders, self.categories = map(list, zip(*facts["categories"].items(), strict=True))
        self._crops = facts["crops"]

    def probabilities(self, pictures: Sequence) -> np.ndarray:
        """Return the model's own probabilities, not calibrated, one row per picture.

        `pictures` are paths, PIL images, or an array of pixels of the model's input size.
        """
        if not isinstance(pictures, np.ndarray):
            batches = (pictures[k : k + _AT_ONCE] for k in range(0, len(pictures), _AT_ONCE))
            found = [
                self.probabilities(np.stack([self._pixels(picture) for picture in batch]))
                for batch in batches
            ]
            return np.concatenate([np.empty((0, len(self.categories)), "float32"), *found])
        return self.model.predict(pictures, batch_size=32, verbose=0)

    def predict(self, photos, box=None, quiet: bool = False) -> pd.DataFrame:
        """Classify photos, set upright by EXIF.

        Parameters
        ----------
        photos : path-like, PIL.Image.Image, or iterable of these
            A folder stands for the pictures in it and below.
        box : (left, upper, right, lower), optional
            In pixels of the upright photo, for one photo only. Without it the whole photo is used;
            probabilities were calibrated on crops, so expect them to be less reliable.
        quiet : bool
            Show no progress.

        Returns
        -------
        pandas.DataFrame
            One row per photo: Photo, Category ("none of these" if Probability is below the
            threshold), Probability, one column ``P(<category>)`` each, Error (why there is none).
        """
        sources = _sources(photos)
        if box is not None and len(sources) != 1:
            raise BadInput(f"A box is for one photo only, but there are {len(sources)} photos.")
        names, errors, pixels, found = [], [], [], []
        for k, source in enumerate(tqdm(sources, unit="photo", disable=True if quiet else None)):
            names.append(str(getattr(source, "filename", "") or k if _is_image(source) else source))
            try:
                pixels.append(self._pixels(source, box))
                errors.append("")
            except Exception as error:  # for a broken file Pillow raises nearly anything
                errors.append(_reason(error))
            if pixels and (len(pixels) == _AT_ONCE or k == len(sources) - 1):
                found.append(self.probabilities(np.stack(pixels)))
                pixels = []
        return self._table(names, errors, found)

    def _table(self, names, errors, found) -> pd.DataFrame:
        good = np.array([not error for error in errors])
        values = np.full((len(names), len(self.categories)), np.nan)
        if found:
            values[good] = metrics.scale(np.concatenate(found), self.temperature)
        table = pd.DataFrame({"Photo": names, "Category": ""})
        for k in np.flatnonzero(good):
            sure = values[k].max() >= self.threshold
            table.loc[k, "Category"] = self.categories[values[k].argmax()] if sure else NONE
        table["Probability"] = values.max(axis=1)
        for k, category in enumerate(self.categories):
            table[f"P({category})"] = values[:, k]
        return table.assign(Error=errors)

    def _pixels(self, source, box=None) -> np.ndarray:
        """Return a photo, or a box of it, as the model's input."""
        with source.copy() if _is_image(source) else Image.open(source) as photo:
            orientation = photo.getexif().get(0x0112, 1)
            stored = photo.size[::-1] if orientation in _TURNED else photo.size
            part = _WHOLE if box is None else _fractions(box, *stored)
            size, keep_aspect = self.model.input_shape[1], self._crops["keep_aspect"]
            scale = draft_scale(box_to_pixels(part, *stored), size, keep_aspect)
            picture = decode(photo, scale)
        if orientation in _UPRIGHT:
            picture = picture.transpose(_UPRIGHT[orientation])
        return np.asarray(crop_box(picture, part, size, stored=stored, **self._crops))


def _is_image(source) -> bool:
    return isinstance(source, Image.Image)


def _sources(photos) -> list:
    """Return paths and pictures, with each folder replaced by the pictures below it."""
    alone = isinstance(photos, str | os.PathLike) or _is_image(photos)
    sources: list = []
    for photo in [photos] if alone else photos:
        if _is_image(photo) or not Path(photo).is_dir():
            sources.append(photo if _is_image(photo) else Path(photo))
            continue
        suffixes = Image.registered_extensions()
        below = [path for path in Path(photo).rglob("*") if path.suffix.lower() in suffixes]
        if not below:
            raise BadInput(f"There are no pictures in the folder {photo}.")
        sources += sorted(path for path in below if not path.name.startswith("."))
    return sources


def _fractions(box, width: int, height: int) -> tuple[float, float, float, float]:
    """Return a box in pixels as XMin, XMax, YMin, YMax."""
    left, upper, right, lower = box
    if not (0 <= left < right <= width and 0 <= upper < lower <= height):
        raise BadInput(
            f"The box {','.join(map(str, box))} does not lie in the photo of {width} x {height} "
            "pixels: L,T,R,B with L < R and T < B are needed."
        )
    # A little inwards, because 49 * (1 / 49) is less than 1 and would be floored to 0.
    slack = 1e-6
    x = (left + slack) / width, (right - slack) / width
    return (*x, (upper + slack) / height, (lower - slack) / height)


def _reason(error: Exception) -> str:
    """Return why a photo could not be classified, as one line."""
    if isinstance(error, FileNotFoundError):
        return "There is no such file."
    if isinstance(error, UnidentifiedImageError):
        return "This is not a picture in a format that Pillow reads."
    return " ".join(str(error).split()) or type(error).__name__


def _box(text: str) -> tuple[float, ...]:
    box = tuple(int(edge) for edge in text.split(","))
    if len(box) != 4:
        raise ValueError
    return box


def main(argv: Iterable[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m openimager.predict",
        description="Classify photos with a trained model: CSV on stdout, one row per photo.",
        epilog="Probabilities were calibrated on crops, as boxes cut them out of photos. For a "
        "whole photo, or a box that is much larger than the thing in it, they are less reliable. "
        "Exit status: 0 every photo was classified, 1 some were not (see Error), 2 bad input.",
    )  # fmt: skip
    parser.add_argument("photos", nargs="+", metavar="PHOTO", help="a picture or a folder of them")
    parser.add_argument("--models", default="models", metavar="DIR", help="the model (models)")
    parser.add_argument(
        "--box", type=_box, metavar="L,T,R,B",
        help="left, top, right and bottom of the thing in pixels of the upright photo; for one "
        "photo only (the whole photo)",
    )  # fmt: skip
    args = parser.parse_args(argv)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            classifier = load_model(args.models)
        for warning in caught:
            print(f"Warning: {warning.message}", file=sys.stderr)
        table = classifier.predict(args.photos, args.box)
    except BadInput as error:
        print(error, file=sys.stderr)
        return 2
    table.to_csv(sys.stdout, index=False, float_format="%.6f", lineterminator="\n")
    return 1 if table["Error"].any() else 0


if __name__ == "__main__":
    sys.exit(main())
