"""What the notebooks that train and evaluate do, run as scripts on tiny pictures made here."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from openimager import files
from openimager.store import FLAGS
from tools.documents import code_cells, parameters_cell, read
from tools.notebooks import replace_values

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("keras") is None, reason="training needs the extra 'notebooks'"
)

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
# Folder, human name, colour, and number of crops in train, validation and test.
KINDS = (
    ("Cat", "Cat", (200, 90, 60), (40, 8, 8)),
    ("Hot_dog", "Hot dog", (60, 90, 200), (20, 8, 8)),
)
SECONDS = 300
QUIET = {
    **os.environ,
    "MPLBACKEND": "agg",
    "PYTHONIOENCODING": "utf-8",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


def make_crops(data):
    """Write folders of noisy pictures of two colours with their tables; a fifth are depictions."""
    rng, rows = np.random.default_rng(0), []
    for folder, category, colour, numbers in KINDS:
        for subset, number in zip(("train", "validation", "test"), numbers, strict=True):
            for k in range(number):
                photo = f"{folder[0].lower()}{subset[:2]}{k:04d}"
                path = data / "crops" / subset / folder / f"{photo}_0.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                noise = rng.integers(-40, 40, (32, 32, 3))
                Image.fromarray((noise + colour).clip(0, 255).astype("uint8")).save(path)
                rows.append({
                    "ImageID": photo, "n": 0, "Category": category, "Subset": subset,
                    "CropPath": f"data/crops/{subset}/{folder}/{path.name}",
                    **dict.fromkeys(FLAGS, 0), "IsDepiction": int(k % 5 == 0),
                    "Left": 0, "Upper": 0, "Right": 100, "Lower": 100, "Source": "xclick",
                    "SHA256": files.sha256(path),
                })  # fmt: skip
    table = pd.DataFrame(rows)
    files.write_table(table, data / "crops.csv")
    credits = table[["ImageID"]].assign(Title="A picture", Author="A test", License="none")
    files.write_table(credits, data / "ATTRIBUTION.csv")


def script_of(name, folder, **parameters):
    """Write a notebook's code with other parameters as a script, and return its path."""
    notebook = read(NOTEBOOKS / f"{name}.ipynb")
    cell = parameters_cell(notebook)
    parameters |= {"DATA_DIR": str(folder / "data"), "MODELS_DIR": str(folder / "models")}
    cell.source = replace_values(cell.source, parameters)
    script = folder / f"{name}.py"
    script.write_text("\n\n".join(c.source for c in code_cells(notebook)), encoding="utf-8")
    return script


def run(script):
    """Run a script to its end; return what it printed, and on failure what it raised."""
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, env=QUIET, timeout=SECONDS,
        encoding="utf-8", cwd=script.parent,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


SMALL = {"IMAGE_SIZE": 32, "BATCH_SIZE": 8, "BASELINE_EPOCHS": 0, "LEARNING_RATE": 2e-3}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with data/ and models/ after build-model, and what that printed."""
    folder = tmp_path_factory.mktemp("trained")
    make_crops(folder / "data")
    changes = SMALL | {
        "EPOCHS": 4, "BASELINE_EPOCHS": 1, "LEAVE_OUT": ["IsDepiction"],
        "BACKBONE": "mobilenet_v2", "WEIGHTS": "missing.weights.h5",
    }  # fmt: skip
    code, said = run(script_of("build-model", folder, **changes))
    assert code == 0, said
    return folder, said


def history_of(folder):
    return json.loads((folder / "models" / "history.json").read_text(encoding="utf-8"))


RELOAD = """
import json, sys, keras
model = keras.saving.load_model(sys.argv[1], safe_mode=True, compile=False)
loss = keras.losses.CategoricalCrossentropy(label_smoothing=0.1)
model.compile(loss=loss, metrics=["accuracy"])
data = keras.utils.image_dataset_from_directory(
    sys.argv[2], label_mode="categorical", image_size=(32, 32), shuffle=False, verbose=False)
print(json.dumps(model.evaluate(data, verbose=0)))
"""


def test_same_predictions_in_another_process(trained):
    """Loaded in safe mode elsewhere, raw pixels in, the file has the loss that its epoch had."""
    folder, _ = trained
    validation = folder / "data" / "crops" / "validation"
    command = [sys.executable, "-c", RELOAD, folder / "models" / "latest.keras", validation]
    done = subprocess.run(command, capture_output=True, text=True, env=QUIET, timeout=SECONDS)
    loss, accuracy = json.loads(done.stdout.splitlines()[-1])
    model = history_of(folder)["models"]["latest"]
    chosen = model["curve"]["epoch"].index(model["chosen_epoch"])
    assert loss == pytest.approx(model["curve"]["val_loss"][chosen], abs=1e-4)
    assert accuracy == pytest.approx(model["validation"]["accuracy"])
    assert model["curve"]["val_loss"][chosen] == min(model["curve"]["val_loss"])


def test_what_is_recorded(trained):
    """History and trained_on.txt say what was trained on; no state of the training is left."""
    folder, said = trained
    history, models = history_of(folder), folder / "models"
    assert history["categories"] == ["Cat", "Hot_dog"] and history["majority"] == "Cat"
    assert history["crops_csv_sha256"] == files.sha256(folder / "data" / "crops.csv")
    assert history["models"]["latest"]["sha256"] == files.sha256(models / "latest.keras")
    table = pd.read_csv(folder / "data" / "crops.csv")
    kept = table[(table["Subset"] == "train") & (table["IsDepiction"] == 0)]
    digests = (models / "trained_on.txt").read_text(encoding="utf-8").split()
    assert digests == sorted(kept["SHA256"]) and history["crops"]["train"] == len(kept) == 48
    assert not list(models.glob(".*"))
    assert "Weights in the loss: {'Cat': 0.75, 'Hot_dog': 1.5}" in said


def test_missing_weights_are_one_sentence(trained):
    """Weights that are not there are said in a sentence, and the small CNN is trained."""
    folder, said = trained
    assert "weights missing.weights.h5 of mobilenet_v2 are not to be had" in said
    assert history_of(folder)["backbone"] is None
    assert history_of(folder)["models"]["latest"]["network"] == "small"


def test_evaluation_and_what_it_refuses(trained):
    """An honest test set is measured; a copied train crop, or another category, is refused."""
    folder, _ = trained
    script = script_of("evaluate-model", folder)
    code, said = run(script)
    assert code == 0, said
    metrics = json.loads((folder / "models" / "metrics.json").read_text(encoding="utf-8"))
    assert (metrics["crops"], metrics["photos"]) == (16, 16)
    assert metrics["categories"] == ["Cat", "Hot dog"]
    assert np.trace(metrics["confusion"]) / 16 == metrics["accuracy"]
    assert metrics["baselines"]["majority"]["accuracy"] == 0.5
    assert metrics["baselines"].keys() == {"majority", "original"}

    crops = folder / "data" / "crops"
    stolen = crops / "train" / "Cat" / "ctr0001_0.jpg"
    planted = crops / "test" / "Cat" / "new_0.jpg"
    planted.write_bytes(stolen.read_bytes())
    code, said = run(script)
    planted.unlink()
    assert code and "1 of 17 test crops was trained on (new_0.jpg)" in said

    (crops / "test" / "Hot_dog").rename(crops / "test" / "Pizza")
    code, said = run(script)
    (crops / "test" / "Pizza").rename(crops / "test" / "Hot_dog")
    assert code and "The model knows Cat, Hot_dog, but the test crops are of Cat, Pizza" in said


def rows_of(log):
    """Return the whole lines of a training's log below its header."""
    return log.read_text(encoding="utf-8").split("\n")[1:-1] if log.exists() else []


def test_killed_training_is_taken_up_again(tmp_path):
    """Killed between epochs and run again, it goes on from there and has the whole curve."""
    make_crops(tmp_path / "data")
    script = script_of("build-model", tmp_path, EPOCHS=12, **SMALL)
    state = tmp_path / "models" / ".training"
    log = state / "small" / "log.csv"
    # What another training left, of other parameters, is of no use and must go first.
    files.write_table(pd.DataFrame({"epoch": range(9), "val_loss": 0.0}), log)
    (state / "basis.json").write_text("{}", encoding="utf-8")
    said = tmp_path / "said.txt"
    with open(said, "w", encoding="utf-8") as stream:
        process = subprocess.Popen(
            [sys.executable, "-u", script], stdout=stream, stderr=subprocess.STDOUT, env=QUIET
        )
    deadline = time.monotonic() + SECONDS
    while not 3 <= len(rows_of(log)) < 9 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    before = rows_of(log)
    assert 3 <= len(before) < 12
    assert "starting afresh" in said.read_text(encoding="utf-8")
    assert not (tmp_path / "models" / "latest.keras").exists()

    code, said = run(script)
    assert code == 0, said
    assert "Taking up 'small' again after epoch" in said
    curve = history_of(tmp_path)["models"]["latest"]["curve"]
    assert curve["epoch"] == list(range(1, 13))
    was = [float(row.split(",")[2]) for row in before]
    assert curve["loss"][: len(was)] == pytest.approx(was)
