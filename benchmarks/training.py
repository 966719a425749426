"""The cost of feeding batches, compared with the model's, and the memory that training takes.

    python benchmarks/training.py

5,000 noisy drawn crops are written to a temporary folder. A separate process runs the cells of
notebooks/build-model.ipynb up to the batches and the small CNN, trains it, and measures
CPU-seconds, the smaller of two rounds, of
    reading      decoding all crops and filling the cache, once per training
    feeding      an epoch of shuffled batches from that cache, without a model
    model        as many steps as in an epoch, all on one batch, with augmentation
    fit          an epoch of `model.fit` on the batches
Goals: (feeding + reading / EPOCHS) / model at most 0.10, and memory below 3 GB. What fit costs
beyond model is only printed: it is a small difference of two large numbers, and varies by several
per cent from run to run, which is much more than feeding costs.

The exit status is 1 if a goal is missed. It takes about three minutes on two cores.
"""

import argparse
import ast
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from openimager.store import FLAGS

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools import documents, notebooks

NEEDED = ("train_batches", "validation_batches", "make_small", "compiled")
SIZE, CROPS, VALIDATION, ROUNDS = 128, 5000, 400, 2
SHARE, GIGABYTES = 0.10, 3.0  # the goals


def main() -> int:
    """Run everything; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, metavar="DIR", help=argparse.SUPPRESS)
    if data_dir := parser.parse_args().run:
        print(json.dumps(measured(data_dir)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        write_crops(Path(folder))
        command = [sys.executable, "-W", "ignore", __file__, "--run", folder]
        quiet = os.environ | {"MPLBACKEND": "agg"}
        child = subprocess.run(command, env=quiet, capture_output=True, text=True)
    if child.returncode:
        raise SystemExit(f"The training failed:\n{child.stderr[-3000:]}")
    return 1 if missed(**json.loads(child.stdout)) else 0


def write_crops(data_dir: Path) -> None:
    """Draw crops of two categories with noise, and write their table."""
    random = np.random.default_rng(0)
    found = []
    for number in range(CROPS):
        subset = "validation" if number < VALIDATION else "train"
        category = ("Disc", "Square")[number % 2]
        blobs = random.integers(0, 255, (6, 6, 3), dtype=np.uint8)
        picture = Image.fromarray(blobs).resize((SIZE, SIZE))
        x, y, r = map(int, random.integers((30, 30, 15), (98, 98, 30)))
        draw = ImageDraw.Draw(picture)
        shape = {"Disc": draw.ellipse, "Square": draw.rectangle}[category]
        shape((x - r, y - r, x + r, y + r), fill=tuple(map(int, random.integers(0, 255, 3))))
        noise = random.normal(0, 10, (SIZE, SIZE, 3))
        path = Path("crops", subset, category, f"{number:016x}_0.jpg")
        (data_dir / path).parent.mkdir(parents=True, exist_ok=True)
        noisy = (np.asarray(picture) + noise).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(data_dir / path, quality=95)
        found.append((f"{number:016x}", 0, category, subset, f"data/{path.as_posix()}"))
    table = pd.DataFrame(found, columns=["ImageID", "n", "Category", "Subset", "CropPath"])
    table.assign(**dict.fromkeys(FLAGS, 0)).to_csv(data_dir / "crops.csv", index=False)


def cells_until_needed(data_dir: Path):
    """Run the notebook's code in this process; return its names, EPOCHS and seconds of reading."""
    notebook = documents.read(documents.FOLDER / "build-model.ipynb")
    parameters = documents.parameters_cell(notebook)
    epochs = ast.literal_eval(documents.assigned(parameters.source)["EPOCHS"].value)
    values = {"DATA_DIR": str(data_dir), "MODELS_DIR": str(data_dir / "models")}
    values |= {"EPOCHS": 10, "BASELINE_EPOCHS": 0, "BACKBONE": None}
    parameters.source = notebooks.replace_values(parameters.source, values)
    names, reading = {"__name__": "build-model"}, 0.0
    for cell in documents.code_cells(notebook):
        unread, began = "train_batches" not in names, time.process_time()
        exec(compile(cell.source, cell.get("id", "cell"), "exec"), names)
        if unread and "train_batches" in names:
            reading = time.process_time() - began
        if all(name in names for name in NEEDED):
            return names, epochs, reading
    raise SystemExit(f"build-model defines no {', '.join(set(NEEDED) - set(names))}.")


def measured(data_dir: Path) -> dict:
    """Train in this process; return CPU-seconds and peak gigabytes."""
    with contextlib.redirect_stdout(sys.stderr):
        names, epochs, reading = cells_until_needed(data_dir)
        batches, model = names["train_batches"], names["compiled"](names["make_small"], 10)
    # The cells read only one batch, so the cache may not be filled yet.
    reading += cpu_seconds(lambda: sum(1 for _ in batches))
    model.fit(batches, validation_data=names["validation_batches"], verbose=0)
    batch = next(iter(batches))
    ways = {
        "feeding": lambda: sum(1 for _ in batches),
        "model": lambda: [model.train_on_batch(*batch) for _ in range(len(batches))],
        "fit": lambda: model.fit(batches, verbose=0),
    }
    rounds = [{way: cpu_seconds(run) for way, run in ways.items()} for _ in range(ROUNDS)]
    spent = {"reading": [reading]} | {way: [one[way] for one in rounds] for way in ways}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    gigabytes = peak * (1 if sys.platform == "darwin" else 1024) / 1e9
    return {"spent": spent, "epochs": epochs, "gigabytes": gigabytes}


def cpu_seconds(run) -> float:
    """Return the CPU time of a call, over all threads."""
    began = time.process_time()
    run()
    return time.process_time() - began


def missed(spent: dict, epochs: int, gigabytes: float) -> bool:
    """Print the figures and their goals; return whether one is missed."""
    for way, seconds in spent.items():
        print(f"{way:8} {' and '.join(f'{one:.2f}' for one in seconds)} CPU-seconds")
    reading, feeding, model, fit = map(min, spent.values())
    print(f"feeding / model: {feeding / model:.4f}, with all of reading {reading / model:.4f} more")
    print(f"fit / model - 1: {fit / model - 1:+.4f}")
    share = (feeding + reading / epochs) / model
    fine = share <= SHARE, gigabytes < GIGABYTES
    judged = [("MISSED", "ok")[one] for one in fine]
    print(f"(feeding + reading / {epochs}) / model: {share:.4f}, at most {SHARE}: {judged[0]}")
    print(f"peak memory: {gigabytes:.2f} GB, below {GIGABYTES}: {judged[1]}")
    return not all(fine)


if __name__ == "__main__":
    sys.exit(main())
