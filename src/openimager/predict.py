"""Classify photos with a trained model: `load_model`, or ``python -m openimager.predict``."""

import argparse
import importlib
import json
import os
import sys
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import ExifTags, Image, ImageOps
from tqdm.auto import tqdm

from openimager import metrics
from openimager.crops.geometry import box_to_pixels, crop_box, decode, draft_scale
from openimager.errors import BadInput, exit_status
from openimager.files import sha256
from openimager.imports import hidden
from openimager.store import Store

NONE = "none of these"
# Keras ignores this member of the .keras archive: it is no code, so safe mode can load the file.
_MEMBER = "openimager.json"
_AT_ONCE = 256  # photos decoded before the model sees them


def import_keras():
    """Import Keras, without the lines that TensorFlow writes as it starts; return the module."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with open(os.devnull, "wb") as nowhere:
        kept = os.dup(2)  # compiled libraries write to the descriptor, not to sys.stderr
        try:
            os.dup2(nowhere.fileno(), 2)
            # Keras imports scikit-learn, which takes a second, for wrappers that are not used here.
            with hidden("sklearn"):
                return importlib.import_module("keras")
        except ImportError as error:
            raise BadInput(
                f"Keras could not be imported ({error}): pip install 'openimager[notebooks]'."
            ) from error
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def save_model(model, path: str | os.PathLike, categories: dict[str, str], **crops) -> str:
    """Save a Keras model and its categories as one ``.keras`` file; return the SHA256 of that.

    `categories` maps the folder of each category to its name, in the order of the model's outputs;
    `crops` are the ``padding`` and ``keep_aspect`` with which the training crops were made.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}")  # Keras insists on the suffix
    model.save(part)
    with zipfile.ZipFile(part, "a") as archive:
        archive.writestr(_MEMBER, json.dumps({"categories": categories, "crops": crops}))
    os.replace(part, path)
    return sha256(path)


def load_model(models: str | os.PathLike = "models") -> "Classifier":
    """Load a trained model to classify photos with.

    `models` is the folder of latest.keras and, once it was evaluated, metrics.json; or a .keras
    file. Without metrics.json, or with that of another model, it warns that the probabilities
    are not calibrated, and no answer is "none of these". BadInput if there is no such model.
    """
    path = Path(models)
    path = path / "latest.keras" if path.is_dir() else path
    if not path.is_file():
        raise BadInput(f"There is no model at {path}. Run build-model or install a package first.")
    keras = import_keras()
    try:
        with zipfile.ZipFile(path) as archive:
            facts = json.loads(archive.read(_MEMBER))
        loaded = Classifier(keras.saving.load_model(path, safe_mode=True, compile=False), **facts)
    except Exception as error:  # Keras raises many kinds for a broken file
        raise BadInput(f"{path} is not a model saved by build-model: {error}") from error
    report = Store(path.parent).read_json("metrics.json") or {}
    found = report.get("temperature"), report.get("threshold")
    if None in found:
        reason = "is missing or incomplete beside"
    elif report.get("model_sha256") != sha256(path):
        reason = "describes another model than"
    else:
        loaded.temperature, loaded.threshold = found
        return loaded
    text = "the probabilities are not calibrated, and no answer is 'none of these'"
    warnings.warn(f"metrics.json {reason} {path}: {text}. Run evaluate-model.", stacklevel=2)
    return loaded


class Classifier:
    """A trained model, as `load_model` returns it.

    `folders` and `categories` have folder and name of each category, in the order of the model's
    outputs; for `temperature` and `threshold` see `scale` and `rejection_threshold` of `metrics`.
    """

    def __init__(self, model, categories: dict[str, str], crops: dict):
        self.model, self.temperature, self.threshold = model, 1.0, 0.0
        self.folders, self.categories = list(categories), list(categories.values())
        self._crops = crops

    def probabilities(self, pictures) -> np.ndarray:
        """Return the model's own probabilities, not calibrated: one row per picture.

        `pictures` are paths, PIL images, or one array of pixels of the model's input size.
        """
        if isinstance(pictures, np.ndarray):
            return self.model.predict(pictures, batch_size=32, verbose=0)
        found = [np.empty((0, len(self.categories)), np.float32)]
        for k in range(0, len(pictures), _AT_ONCE):
            pixels = [self.pixels(picture) for picture in pictures[k : k + _AT_ONCE]]
            found.append(self.probabilities(np.stack(pixels)))
        return np.concatenate(found)

    def predict(self, photos, box=None, quiet: bool = False) -> pd.DataFrame:
        """Classify photos, set upright by EXIF.

        Parameters
        ----------
        photos : path-like, PIL.Image.Image, or iterable of these
            A folder stands for the pictures in it and below it.
        box : (left, upper, right, lower), optional
            In pixels of the upright photo, for one photo only. Without it the whole photo is
            used, although the probabilities were calibrated on crops.
        quiet : bool
            Show no progress.

        Returns
        -------
        pandas.DataFrame
            One row per photo: Photo, Category ("none of these" if Probability is below the
            threshold), Probability, a column ``P(<category>)`` for each, Error.
        """
        sources = list(_sources(photos))
        if box is not None and len(sources) != 1:
            raise BadInput(f"A box is for one photo only, but there are {len(sources)} photos.")
        values = np.full((len(sources), len(self.categories)), np.nan)
        errors, waiting = [""] * len(sources), {}
        for k, source in enumerate(tqdm(sources, unit="photo", disable=quiet or None)):
            try:
                waiting[k] = self.pixels(source, box)
            except Exception as error:  # for a broken file Pillow raises nearly anything
                errors[k] = " ".join(str(error).split()) or type(error).__name__
            if waiting and (len(waiting) == _AT_ONCE or k == len(sources) - 1):
                found = self.probabilities(np.stack([*waiting.values()]))
                values[list(waiting)] = metrics.scale(found, self.temperature)
                waiting = {}
        each = pd.DataFrame(values, columns=self.categories)
        best = each.max(axis=1)
        answer = each.fillna(0).idxmax(axis=1).where(best >= self.threshold, NONE)
        names = [str(getattr(source, "filename", source)) for source in sources]
        table = {"Photo": names, "Category": answer.mask(best.isna(), ""), "Probability": best}
        return pd.DataFrame(table).join(each.add_prefix("P(").add_suffix(")")).assign(Error=errors)

    def pixels(self, source, box=None) -> np.ndarray:
        """Return a photo, or a box of it, as the model's input: pixels of shape (side, side, 3)."""
        with source.copy() if isinstance(source, Image.Image) else Image.open(source) as photo:
            if photo.format == "TIFF":
                photo.load()  # Pillow sets it upright by itself
            turned = photo.getexif().get(ExifTags.Base.Orientation, 1) >= 5
            size = photo.size[::-1] if turned else photo.size
            part = (0, 1, 0, 1) if box is None else _fractions(box, *size)
            side, aspect = self.model.input_shape[1], self._crops["keep_aspect"]
            pixels = box_to_pixels(part, *size, self._crops["padding"])
            scale = draft_scale(pixels, side, aspect, size)
            photo.draft(None, (photo.width // scale, photo.height // scale))
            picture = decode(ImageOps.exif_transpose(photo))
        return np.asarray(crop_box(picture, part, side, stored=size, **self._crops))


def _sources(photos) -> Iterator:
    """Yield paths and pictures, with each folder replaced by the pictures in and below it."""
    for photo in [photos] if isinstance(photos, str | os.PathLike | Image.Image) else photos:
        if isinstance(photo, Image.Image) or not Path(photo).is_dir():
            yield photo
            continue
        # Without formats that Pillow can only write, such as PDF.
        known = {end for end, kind in Image.registered_extensions().items() if kind in Image.OPEN}
        inside = sorted(p for p in Path(photo).rglob("[!.]*") if p.suffix.lower() in known)
        if not inside:
            raise BadInput(f"There is no picture in the folder {photo}.")
        yield from inside


def _fractions(box, width: int, height: int) -> tuple[float, float, float, float]:
    """Return a box in pixels as XMin, XMax, YMin, YMax."""
    left, upper, right, lower = box
    if not (0 <= left < right <= width and 0 <= upper < lower <= height):
        raise BadInput(
            f"The box {left},{upper},{right},{lower} is not one within {width} x {height} pixels: "
            "left, upper, right, lower, with left < right and upper < lower."
        )
    # A little inwards, because 49 * (1 / 49) is less than 1 and would be floored to 0.
    x, y = ((a + 1e-6) / side for a, side in ((left, width), (upper, height)))
    return x, (right - 1e-6) / width, y, (lower - 1e-6) / height


def _box(text: str) -> tuple[int, ...]:
    try:
        left, upper, right, lower = map(int, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not LEFT,UPPER,RIGHT,LOWER") from None
    return left, upper, right, lower


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m openimager.predict",
        description="Classify photos with a trained model: CSV on stdout, one row per photo.",
        epilog="The probabilities were calibrated on crops, cut out of photos along boxes: they "
        "are less reliable for a whole photo. Exit status: 0 all photos were classified, 1 some "
        "were not (see the column Error), 2 bad use or bad input.",
    )  # fmt: skip
    add = parser.add_argument
    add("photos", nargs="+", metavar="PHOTO", help="a picture or a folder of them")
    add("--models", default="models", metavar="DIR", help="folder of the model (default: models)")
    box = "classify only this part, in pixels of the upright photo; needs a single PHOTO"
    add("--box", type=_box, metavar="LEFT,UPPER,RIGHT,LOWER", help=box)
    args = parser.parse_args(argv)

    def work() -> int:
        table = load_model(args.models).predict(args.photos, args.box)
        table.to_csv(sys.stdout, index=False, float_format="%.6f", lineterminator="\n")
        return 1 if table["Error"].any() else 0

    return exit_status(work)


if __name__ == "__main__":
    sys.exit(main())
