"""Accuracy and calibration of our models on unseen crops, compared with the recipe of 2018.

    python benchmarks/accuracy.py SITE CATEGORY... [--seeds N] [--weights FILE] [--folder DIR]
    python benchmarks/accuracy.py sample [--seeds N] [--folder DIR]

The first form serves SITE (a folder in the layout of Open Images V4), downloads and crops its
photos, trains the recipe of 2018 on them, and runs build-model and evaluate-model. With --weights
(of MobileNetV2, without its top) it runs them once more with that backbone. The weights in
../shared/weights were tuned on dog breeds, so their figures on dogs are flattered.

The second form compares our small network with the original's network on the drawn sample; both
are trained by build-model.

With --folder everything is kept there, and finished parts are not repeated. The exit status is 1
if a goal is missed; results on test sets that are too small are only reported.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import openimager
from openimager import metrics, predict, sample

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools import pipeline

ROOT = pipeline.ROOT
RECIPE, SMALL, BACKBONE, ORIGINAL = "recipe of 2018", "our CNN", "backbone", "original network"
# Goals: the highest ratio of the recipe's error, and of its CPU-seconds of fitting.
GOALS = {SMALL: (0.60, 1.0), BACKBONE: (0.20, 1.0)}
CALIBRATED = 0.05  # expected calibration error after scaling, mean over the seeds
ENOUGH = 300  # test crops; with fewer, one standard error is some three points
SIZE, TEST = (128, 128), Path("crops", "test")
EPOCHS, PATIENCE = 50, 4


def import_keras():
    """Import Keras without TensorFlow's log messages."""
    keras = predict.import_keras()
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")  # training several models would log warnings
    return keras, tf


def fit_recipe(crops, out, seed):
    """Train the recipe of 2018; save the model and the cost of fitting.

    Parameters
    ----------
    crops : path-like
        The folder with train/<Category>/.
    out : path-like
        Where recipe.keras and recipe.json go.
    seed : int
    """
    keras, tf = import_keras()
    generator_class = tf.keras.preprocessing.image.ImageDataGenerator
    keras.utils.set_random_seed(seed)
    augmented = generator_class(
        rescale=1 / 255, rotation_range=40, width_shift_range=0.2, height_shift_range=0.2,
        shear_range=0.2, zoom_range=0.2, horizontal_flip=True, fill_mode="nearest",
    )  # fmt: skip
    options = dict(directory=str(Path(crops) / "train"), target_size=SIZE, batch_size=16)
    train = augmented.flow_from_directory(**options, seed=seed)
    # The recipe stops by the loss on the folder that it was trained on.
    judged_on = generator_class(rescale=1 / 255).flow_from_directory(**options, shuffle=False)
    layers = keras.layers
    model = keras.Sequential([keras.Input((*SIZE, 3))])
    for filters in (32, 32, 64):
        model.add(layers.Conv2D(filters, 3, activation="relu"))
        model.add(layers.MaxPooling2D())
    model.add(layers.Flatten())
    model.add(layers.Dense(64, activation="relu"))
    model.add(layers.Dropout(0.5))
    model.add(layers.Dense(train.num_classes, activation="softmax"))
    model.compile(keras.optimizers.RMSprop(5e-4), "categorical_crossentropy")
    stop = keras.callbacks.EarlyStopping("val_loss", patience=PATIENCE)
    began = time.process_time()
    fitted = model.fit(train, validation_data=judged_on, epochs=EPOCHS, callbacks=[stop], verbose=0)
    spent = time.process_time() - began
    # The recipe was trained on pixels from 0 to 1; the saved model takes raw pixels.
    inputs = keras.Input((*SIZE, 3))
    raw = keras.Model(inputs, model(layers.Rescaling(1 / 255)(inputs)))
    raw.save(Path(out) / "recipe.keras")
    cost = {"cpu_seconds": spent, "epochs": len(fitted.history["loss"])}
    (Path(out) / "recipe.json").write_text(json.dumps(cost), encoding="utf-8")


def measured(command):
    """Run a command; return the peak memory in bytes of the largest process that it started."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    said = process.stderr.read().decode(errors="replace")
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{said[-3000:]}")
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def run_recipe(data, out, seed):
    """Train the recipe in a separate process; return the model's file and the cost."""
    out.mkdir(parents=True, exist_ok=True)
    script = [sys.executable, __file__, "--recipe", str(out), "--seed", str(seed), str(data)]
    memory = measured(script)
    cost = json.loads((out / "recipe.json").read_text(encoding="utf-8"))
    return {"file": "recipe.keras", "memory": memory} | cost


def run_notebooks(data, out, parameters):
    """Run build-model and evaluate-model; return the model's file, the costs and calibration."""
    parameters = {"DATA_DIR": str(data), "MODELS_DIR": str(out)} | parameters
    command = [sys.executable, str(ROOT / "tools" / "notebooks.py"), "run", "model", "evaluation"]
    for name, value in parameters.items():
        command += ["--set", f"{name}={json.dumps(value)}"]
    memory = measured(command)
    trained = json.loads((out / "history.json").read_text(encoding="utf-8"))["models"]["latest"]
    if trained["network"] != (parameters.get("BACKBONE") or "small"):
        raise SystemExit(f"Validation chose '{trained['network']}'.")
    report = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    return {
        "file": "latest.keras", "memory": memory, "cpu_seconds": trained["cpu_seconds"],
        "epochs": len(trained["curve"]["epoch"]), "calibration": report["calibration"],
    }  # fmt: skip


def correct(model_file, test):
    """Return for each test crop whether the model classifies it correctly, and its ImageID."""
    keras, _ = import_keras()
    batches = keras.utils.image_dataset_from_directory(
        test, label_mode="int", image_size=SIZE, shuffle=False, verbose=False
    )
    model = keras.saving.load_model(model_file, safe_mode=True, compile=False)
    truth = np.concatenate([labels.numpy() for _, labels in batches])
    photos = [Path(path).stem.rpartition("_")[0] for path in batches.file_paths]
    return (model.predict(batches, verbose=0).argmax(axis=1) == truth).tolist(), photos


def make_crops(site, categories, folder):
    """Download and crop the photos of a site, or of the drawn sample."""
    if (folder / "data" / "crops.csv").exists():
        return
    with sample.serve() if site is None else sample.serve(site) as base_url:
        openimager.download(
            categories, data_dir=folder / "data", subset="all", base_url=base_url,
            cache_dir=folder / "cache", quiet=True,
        )  # fmt: skip
    table = openimager.write_crops(folder / "data", quiet=True)
    print("crops:", table["Subset"].value_counts().to_dict(), flush=True)


def methods_of(site, weights):
    """Return the parameters of build-model for each method; None for the recipe of 2018."""
    if site is None:
        return {SMALL: {"BACKBONE": None} | pipeline.DRAWN}
    methods = {RECIPE: None, SMALL: {"BASELINE_EPOCHS": 0, "BACKBONE": None}}
    if weights:
        # The small network gets one epoch, so that validation chooses the backbone.
        borrowed = {"BACKBONE": "mobilenet_v2", "WEIGHTS": str(weights), "EPOCHS": 1}
        methods[BACKBONE] = methods[SMALL] | borrowed
    return methods


def compare(methods, seeds, folder):
    """Run what is not finished yet; return the results of the seeds for each method."""
    data, results = folder / "data", {}
    for seed in seeds:
        for name, changes in methods.items():
            out = folder / f"{name} {seed}".replace(" ", "-")
            if not (out / "result.json").exists():
                if changes is None:
                    result = run_recipe(data, out, seed)
                else:
                    result = run_notebooks(data, out, changes | {"SEED": seed})
                result["right"], result["photos"] = correct(out / result["file"], data / TEST)
                if (out / "original.keras").exists():
                    result["original"] = correct(out / "original.keras", data / TEST)[0]
                (out / "result.json").write_text(json.dumps(result), encoding="utf-8")
            result = json.loads((out / "result.json").read_text(encoding="utf-8"))
            results.setdefault(name, []).append(result)
            if "original" in result:
                results.setdefault(ORIGINAL, []).append(result | {"right": result["original"]})
            print(
                f"seed {seed}, {name}: {np.mean(result['right']):.3f} after {result['epochs']} "
                f"epochs and {result['cpu_seconds']:.0f} CPU-seconds", flush=True,
            )  # fmt: skip
    return results


def report(results):
    """Print the tables; return one sentence per missed goal, and the crops."""
    reference = RECIPE if RECIPE in results else ORIGINAL
    photos = results[reference][0]["photos"]
    base = np.mean([one["right"] for one in results[reference]], axis=0)
    base_cpu = np.mean([one["cpu_seconds"] for one in results[reference]])
    missed = []
    print(f"\n{len(base)} test crops of {len(set(photos))} photos, "
          f"{len(results[reference])} seed(s):\n")  # fmt: skip
    print(f"| method | accuracy (95 %) | by seed | minus {reference}, on the same crops (95 %) "
          f"| error, {reference} = 1 | CPU-s of fitting | peak memory |")  # fmt: skip
    print("|---|---|---|---|---|---|---|")
    for name, ones in results.items():
        right = np.mean([one["right"] for one in ones], axis=0)
        each = ", ".join(f"{np.mean(one['right']):.3f}" for one in ones)
        cpu = np.mean([one["cpu_seconds"] for one in ones])
        memory = max(one["memory"] for one in ones)
        found, gain = metrics.interval(right, photos), metrics.difference(right, base, photos)
        ratio = (1 - right.mean()) / (1 - base.mean())
        print(f"| {name} | {found['accuracy']:.3f} ({found['low']:.3f} to {found['high']:.3f}) "
              f"| {each} "
              f"| {gain['difference']:+.3f} ({gain['low']:+.3f} to {gain['high']:+.3f}) "
              f"| {ratio:.2f} | {'' if name == ORIGINAL else round(cpu)} "
              f"| {memory / 1e9:.1f} GB |")  # fmt: skip
        error_goal, cpu_goal = GOALS.get(name, (np.inf, np.inf))
        if reference == ORIGINAL:
            error_goal, cpu_goal = 1, np.inf
        if ratio > error_goal:
            missed.append(f"{name}: error {ratio:.2f} of the {reference}'s, at most {error_goal}")
        if cpu > cpu_goal * base_cpu:
            missed.append(f"{name}: {cpu:.0f} CPU-seconds, the recipe took {base_cpu:.0f}")
    print("\n| method | calibration error before | after | log loss before | after |")
    print("|---|---|---|---|---|")
    for name, ones in results.items():
        if "calibration" not in ones[0] or name == ORIGINAL:
            continue
        keys = [(key, when) for key in ("calibration_error", "log_loss")
                for when in ("before", "after")]  # fmt: skip
        error, scaled, loss, scaled_loss = (
            np.mean([one["calibration"][when][key] for one in ones]) for key, when in keys
        )
        print(f"| {name} | {error:.3f} | {scaled:.3f} | {loss:.3f} | {scaled_loss:.3f} |")
        if reference == RECIPE and (scaled > CALIBRATED or scaled_loss > loss + 1e-6):
            missed.append(f"{name}: calibration error {scaled:.3f}, log loss {scaled_loss:.3f}")
    return missed, len(base)


def main():
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("site", metavar="SITE", type=Path, help="a folder, or the word sample")
    parser.add_argument("categories", metavar="CATEGORY", nargs="*")
    parser.add_argument("--seeds", type=int, help="repeat with so many seeds (3; sample: 5)")
    parser.add_argument("--weights", type=Path, help="of MobileNetV2, without its top")
    parser.add_argument("--folder", type=Path, help="keep everything here (a temporary folder)")
    parser.add_argument("--recipe", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.recipe:
        fit_recipe(args.site / "crops", args.recipe, args.seed)
        return 0
    site = None if args.site == Path("sample") else args.site
    if site and not site.is_dir():
        print(f"There is no site at {site}, so there is nothing to measure: skipped.")
        return 0
    if site and not args.categories:
        parser.error("name the categories of the site, such as Cat Dog")
    methods = methods_of(site, args.weights and args.weights.resolve())
    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.folder or Path(temporary)).resolve()
        make_crops(site, args.categories or ["Cat", "Dog"], folder)
        results = compare(methods, range(args.seeds or (3 if site else 5)), folder)
        missed, crops = report(results)
    if site and crops < ENOUGH:
        print(f"\nOnly reported: {crops} test crops are too few to decide anything.")
        return 0
    print("\n" + ("\n".join(f"MISSED: {line}" for line in missed) or "Every goal is reached."))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
