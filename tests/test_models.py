"""The code of the notebooks that train and evaluate, run as scripts on tiny pictures.

The scripts run in this process, which imports TensorFlow once; the one that is killed has its own.
Tracing the networks takes most of the time, so that one training serves all tests.
"""

import contextlib
import importlib.util
import io
import json
import os
import runpy
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import requests
from builders import BOX_COLUMNS, IMAGE_COLUMNS, image_id
from PIL import Image

import openimager
from openimager import files, predict
from openimager.errors import BadInput
from openimager.store import CROP_COLUMNS, FLAGS, Store
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
SECONDS = 120


def make_crops(data):
    """Write crops of noise in two colours, with tables; a fifth are depictions."""
    rng, rows = np.random.default_rng(0), []
    for folder, category, colour, numbers in KINDS:
        for subset, number in zip(("train", "validation", "test"), numbers, strict=True):
            for k in range(number):
                photo = image_id(len(rows))
                path = data / "crops" / subset / folder / f"{photo}_0.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                noise = rng.integers(-40, 40, (32, 32, 3))
                Image.fromarray((noise + colour).clip(0, 255).astype("uint8")).save(path)
                rows.append({
                    "ImageID": photo, "n": 0, "Category": category, "Subset": subset,
                    "CropPath": f"data/crops/{subset}/{folder}/{path.name}",
                    **dict.fromkeys(FLAGS, 0), "IsDepiction": int(k % 5 == 0),
                    "XMin": 0, "XMax": 1, "YMin": 0, "YMax": 1, "Rotation": 0, "Error": "",
                    "Left": 0, "Upper": 0, "Right": 100, "Lower": 100, "Source": "xclick",
                    "DuplicateGroup": photo, "SHA256": files.sha256(path),
                })  # fmt: skip
    table = pd.DataFrame(rows)
    store = Store(data)
    store.write_table(table.reindex(columns=CROP_COLUMNS, fill_value=""), "crops.csv")
    credits = table[["ImageID"]].assign(
        Title="A picture", Author="A test", AuthorProfileURL="", License="none", Changes="none",
        OriginalLandingURL="https://photos.example.com/1",
    )  # fmt: skip
    store.write_table(credits, "ATTRIBUTION.csv")
    photos = credits.assign(Subset=table["Subset"], Rotation=0, Status="ok", Width=100, Height=100)
    store.write_table(photos.reindex(columns=IMAGE_COLUMNS, fill_value=""), "images.csv")
    boxes = table.reindex(columns=[*BOX_COLUMNS, "Category"], fill_value="")
    store.write_table(boxes, "boxes.csv")


def script_of(name, folder, **parameters):
    """Write a notebook's code with changed parameters as a script; return its path."""
    notebook = read(NOTEBOOKS / f"{name}.ipynb")
    cell = parameters_cell(notebook)
    parameters |= {"DATA_DIR": str(folder / "data"), "MODELS_DIR": str(folder / "models")}
    cell.source = replace_values(cell.source, parameters)
    script = folder / f"{name}.py"
    script.write_text("\n\n".join(c.source for c in code_cells(notebook)), encoding="utf-8")
    return script


def run(script, **environment):
    """Run a script in its folder; return its standard output and standard error."""
    import matplotlib

    matplotlib.use("agg")
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, matplotlib.rc_context():
        patch.chdir(script.parent)
        for name, value in environment.items():
            patch.setenv(name, value)
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            runpy.run_path(str(script), run_name="__main__")
    return said.getvalue()


SMALL = {"IMAGE_SIZE": 32, "BATCH_SIZE": 8, "LEARNING_RATE": 2e-3, "BACKBONE": "mobilenet_v2"}
# These proxies send every request to a closed port.
NO_NETWORK = dict.fromkeys(("http_proxy", "https_proxy", "HTTPS_PROXY"), "http://127.0.0.1:9")
OLD = ("metrics.json", "predictions.csv", "confusion-matrix.png", "README.md")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder where build-model, with a backbone, was killed and run again.

    Returns it, what both runs printed, and the log of the first.
    """
    folder = tmp_path_factory.mktemp("trained")
    make_crops(folder / "data")
    (folder / "models").mkdir()
    for name in OLD:
        (folder / "models" / name).write_text("about an older model", encoding="utf-8")
    backbone = predict.import_keras().applications.MobileNetV2(
        weights=None, include_top=False, input_shape=(32, 32, 3)
    )
    backbone.save_weights(folder / "made.weights.h5")
    changes = SMALL | {
        "EPOCHS": 12, "BASELINE_EPOCHS": 1, "BACKBONE_EPOCHS": 1, "LEAVE_OUT": ["IsDepiction"],
        "WEIGHTS": str(folder / "made.weights.h5"),
    }  # fmt: skip
    script = script_of("build-model", folder, **changes)
    state = folder / "models" / ".training"
    log = state / "small" / "log.csv"
    # State of an earlier training with other parameters must be removed first.
    Store(log.parent).write_table(pd.DataFrame({"epoch": range(9), "val_loss": 0.0}), log.name)
    (state / "basis.json").write_text("{}", encoding="utf-8")
    first = folder / "said.txt"
    with open(first, "w", encoding="utf-8") as stream:
        process = subprocess.Popen(
            [sys.executable, "-u", script], stdout=stream, stderr=subprocess.STDOUT, cwd=folder,
            env=os.environ | NO_NETWORK | {"MPLBACKEND": "agg", "PYTHONIOENCODING": "utf-8"},
        )  # fmt: skip
    deadline = time.monotonic() + SECONDS
    while not 3 <= len(rows_of(log)) < 9 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    before = rows_of(log)
    assert 3 <= len(before) < 12, first.read_text(encoding="utf-8")
    assert not (folder / "models" / "latest.keras").exists()
    return folder, (first.read_text(encoding="utf-8"), run(script, **NO_NETWORK)), before


def rows_of(log):
    """Return the complete lines of a training log, without its header."""
    return log.read_text(encoding="utf-8").split("\n")[1:-1] if log.exists() else []


def history_of(folder):
    return json.loads((folder / "models" / "history.json").read_text(encoding="utf-8"))


def test_saved_file_has_the_scores_that_it_was_chosen_by(trained):
    """Loaded in safe mode, the model has the recorded scores on raw pixels."""
    folder, *_ = trained
    keras = predict.import_keras()
    path = folder / "models" / "latest.keras"
    model = keras.saving.load_model(path, safe_mode=True, compile=False)
    model.compile(loss="categorical_crossentropy", metrics=["accuracy"])
    data = keras.utils.image_dataset_from_directory(
        folder / "data" / "crops" / "validation", label_mode="categorical", image_size=(32, 32),
        shuffle=False, verbose=False,
    )  # fmt: skip
    loss, accuracy = model.evaluate(data, verbose=0)
    recorded = history_of(folder)["models"]["latest"]
    assert loss == pytest.approx(recorded["validation"]["log_loss"], abs=1e-4)
    assert accuracy == pytest.approx(recorded["validation"]["accuracy"])
    assert recorded["chosen_epoch"] == max(recorded["curve"]["epoch"])


def test_what_is_recorded(trained):
    """history.json and trained_on.txt describe the training; no temporary state is left."""
    folder, (_, said), _ = trained
    history, models = history_of(folder), folder / "models"
    assert history["categories"] == ["Cat", "Hot_dog"] and history["majority"] == "Cat"
    assert history["names"] == {"Cat": "Cat", "Hot_dog": "Hot dog"}
    assert history["crops_csv_sha256"] == files.sha256(folder / "data" / "crops.csv")
    assert history["models"]["latest"]["sha256"] == files.sha256(models / "latest.keras")
    table = pd.read_csv(folder / "data" / "crops.csv")
    kept = table[(table["Subset"] == "train") & (table["IsDepiction"] == 0)]
    digests = (models / "trained_on.txt").read_text(encoding="utf-8").split()
    assert digests == sorted(kept["SHA256"]) and history["crops"]["train"] == len(kept) == 48
    assert not list(models.glob(".*"))
    assert "Weights in the loss: {'Cat': 0.75, 'Hot_dog': 1.5}" in said


def test_new_model_removes_the_old_ones_numbers(trained):
    """A new model removes the metrics, predictions and confusion matrix of the old one."""
    folder, *_ = trained
    left = {path.name for path in (folder / "models").iterdir()} - {"metrics.json"}
    assert {"latest.keras", "original.keras", "history.json", "trained_on.txt"} <= left
    for name in OLD:
        path = folder / "models" / name
        assert not path.exists() or "older" not in path.read_text(
            encoding="utf-8", errors="replace"
        )


def test_backbone_is_a_candidate_when_it_has_weights(trained):
    """With weights there are two candidates; the better on validation is chosen."""
    history = history_of(trained[0])
    assert list(history["candidates"]) == ["small", "mobilenet_v2"]
    best = max(one["validation"]["accuracy"] for one in history["candidates"].values())
    assert history["models"]["latest"]["validation"]["accuracy"] == best
    assert (history["backbone"] or "small") == history["models"]["latest"]["network"]


def test_killed_training_is_taken_up_again(trained):
    """Training killed between epochs continues there, and its history is complete."""
    folder, (first, second), before = trained
    assert "starting again" in first and "starting again" not in second
    assert "Resuming 'small' after epoch" in second
    curve = history_of(folder)["candidates"]["small"]["curve"]
    assert curve["epoch"] == list(range(1, 13))
    was = [float(row.split(",")[2]) for row in before]
    assert curve["loss"][: len(was)] == pytest.approx(was)


def test_without_a_network_the_small_network_is_the_only_candidate(tmp_path):
    """If weights cannot be downloaded, one line says so, and nothing is left of the attempt."""
    make_crops(tmp_path / "data")
    script = script_of("build-model", tmp_path, **SMALL)
    text, end, _ = script.read_text(encoding="utf-8").partition('print("Candidates:"')
    # What follows is as without a backbone, which test_jupyter.py runs.
    script.write_text(f"{text}{end}, *CANDIDATES)", encoding="utf-8")
    said = run(script, **NO_NETWORK, KERAS_HOME=str(tmp_path / "keras"))
    assert "The small network is the only candidate: no weights for mobilenet_v2" in said
    assert said.endswith("Candidates: small\n")
    assert not list((tmp_path / "keras").rglob("*.h5*"))


def test_named_weights_that_cannot_be_used_are_an_error(tmp_path):
    """Named weights that do not fit are an error; the small network is not used instead."""
    make_crops(tmp_path / "data")
    (tmp_path / "other.weights.h5").write_bytes(b"no weights")
    script = script_of("build-model", tmp_path, **SMALL, WEIGHTS="other.weights.h5")
    with pytest.raises(BadInput, match=r"WEIGHTS 'other\.weights\.h5' do not fit mobilenet_v2"):
        run(script)
    assert not (tmp_path / "models" / "latest.keras").exists()


@pytest.mark.parametrize("pause", [0, 0.2])
def test_download_of_weights_is_bounded(tmp_path, monkeypatch, pause):
    """A file that arrives in time is kept in Keras's cache; a slow download is stopped."""
    blocks = [b"x" * 70_000] * 5

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(sum(map(len, blocks))))
            self.end_headers()
            with contextlib.suppress(OSError):
                for block in blocks:
                    self.wfile.write(block)
                    time.sleep(pause)

        def log_message(self, *arguments):
            pass

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (cell,) = (
        cell.source for cell in code_cells(read(NOTEBOOKS / "build-model.ipynb"))
        if cell.source.startswith("def fetched")
    )  # fmt: skip
    names = {"os": os, "Path": Path, "time": time, "files": files, "requests": requests}
    exec(cell, names)
    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/some/weights.h5"
        if pause:
            with pytest.raises(TimeoutError, match=r"more than 0\.3 s"):
                names["fetched"](url, 0.3)
            assert not list(tmp_path.rglob("*.*"))
        else:
            path = names["fetched"](url, 30)
            assert path.read_bytes() == b"".join(blocks)
        server.shutdown()
    if not pause:  # now without a server
        assert names["fetched"](url, 30) == path


def make_unknown(data):
    """Write crops of another category to data/unknown, as build-dataset does."""
    rows = []
    for k in range(3):
        photo = image_id(900 + k)
        path = data / "unknown" / "crops" / "train" / "Tree" / f"{photo}_0.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (128, 90, 128)).save(path)
        rows.append({
            "ImageID": photo, "n": 0, "Category": "Tree", "Subset": "train",
            "CropPath": f"data/crops/train/Tree/{path.name}",
        })  # fmt: skip
    table = pd.DataFrame(rows).reindex(columns=CROP_COLUMNS, fill_value="")
    Store(data).write_table(table, "unknown/crops.csv")


def test_evaluation(trained):
    """All metrics are written, including those on unknown categories and excluded crops."""
    folder, *_ = trained
    data, models = folder / "data", folder / "models"
    make_unknown(data)
    table = pd.read_csv(data / "crops.csv", dtype={"ImageID": str})
    ticked = table.loc[table["Subset"] == "test", ["ImageID", "n"]].head(3)
    ticked.to_csv(folder / "excluded.csv", index=False)
    said = run(script_of("evaluate-model", folder, EXCLUDE=str(folder / "excluded.csv")))
    assert "drawn sample" not in said
    report = json.loads((models / "metrics.json").read_text(encoding="utf-8"))
    assert (report["crops"], report["photos"]) == (16, 16)
    assert report["categories"] == ["Cat", "Hot dog"]
    assert np.trace(report["confusion"]) / 16 == report["accuracy"]
    assert report["baselines"]["majority"]["accuracy"] == 0.5
    assert report["baselines"].keys() == {"majority", "original"}
    assert report["model_sha256"] == files.sha256(models / "latest.keras")
    assert report["calibration"].keys() == {"before", "after"}
    assert report["unknown"]["crops"] == 3 and 0 <= report["unknown"]["rejected"] <= 1
    assert report["excluded_test"]["count"] == 3 and report["excluded_test"]["crops"] == 13

    rows = pd.read_csv(models / "predictions.csv", dtype={"ImageID": str})
    assert list(rows) == [
        "ImageID", "n", "Subset", "Category", "Predicted", "Probability", "P(Cat)", "P(Hot dog)",
        "Suspect",
    ]  # fmt: skip
    assert rows["Subset"].value_counts().to_dict() == {"test": 16, "validation": 16}
    tested = rows[rows["Subset"] == "test"]
    right = tested["Category"] == tested["Predicted"]
    assert right.mean() == report["accuracy"]
    left = ~tested["ImageID"].isin(ticked["ImageID"])
    assert report["excluded_test"]["accuracy"] == right[left].mean()

    # Predicting a crop's file gives the probabilities that the notebook wrote.
    crop = data / "crops" / "test" / "Cat" / f"{tested['ImageID'].iloc[0]}_0.jpg"
    answer = openimager.load_model(models).predict(crop)
    assert answer["P(Hot dog)"][0] == pytest.approx(tested["P(Hot dog)"].iloc[0], abs=2e-6)


def test_evaluation_refuses_crops_that_were_trained_on(trained):
    """A test crop with the content of a training crop is an error."""
    folder, *_ = trained
    crops = folder / "data" / "crops"
    crop = next((crops / "test" / "Cat").glob("*.jpg"))
    kept = crop.read_bytes()
    trained_on = (folder / "models" / "trained_on.txt").read_text(encoding="utf-8")
    stolen = (path for path in (crops / "train").rglob("*.jpg") if files.sha256(path) in trained_on)
    crop.write_bytes(next(stolen).read_bytes())
    with pytest.raises(BadInput, match=rf"1 of 32 test crops were trained on \({crop.name}\)"):
        run(script_of("evaluate-model", folder))
    crop.write_bytes(kept)
