"""Train a model from names of categories: run by `make demo` and `make all`.

    python tools/pipeline.py "Hamburger,Sandwich" --release v4 --limit 1500 [--replace]

Downloads, runs the five notebooks into build/notebooks and prints where everything is. Stops if
data/ or models/ belong to other categories or another release, unless --replace is given.
"""

import argparse
import csv
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Parameters of build-model for the sample: drawn pictures need half as many epochs, and no weights
# are downloaded.
DRAWN = {"EPOCHS": 24, "BACKBONE": None}


def main(argv=None) -> int:
    """Run the pipeline; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("categories", help='names separated by commas: "Hamburger,Sandwich"')
    parser.add_argument("--release", default="v4", help="v4, v5, v6, v7 or sample (%(default)s)")
    parser.add_argument("--limit", type=int, help="photos per category")
    parser.add_argument("--backbone", help="a pretrained network, such as mobilenet_v2")
    parser.add_argument("--options", default="", help="more options of openimager")
    parser.add_argument("--replace", action="store_true", help="replace data and model")
    # CI gives no options, because it runs the command from the README.
    parser.add_argument("--strict", action="store_true", default="CI" in os.environ)
    args = parser.parse_args(argv)
    names = [name.strip() for name in args.categories.split(",") if name.strip()]
    if len(names) < 2:
        parser.error('name at least two categories: make all CATEGORIES="Hamburger,Sandwich"')
    if (found := conflicts(ROOT, names, args.release)) and not args.replace:
        found.append(
            "Nothing was done. To replace them, run the same with REPLACE=1; to keep them, use "
            "another clone or move data/ and models/ away."
        )
        print("\n".join(found), file=sys.stderr)
        return 2
    begin = time.monotonic()
    release = ["--sample"] if args.release == "sample" else ["--release", args.release]
    download = [*names, *release, "--subset", "all", *shlex.split(args.options)]
    download += ["--limit", str(args.limit)] if args.limit else []
    download += ["--replace"] if args.replace and found else []
    print("$ openimager", shlex.join(download), flush=True)
    run = ["tools/notebooks.py", "run", "--output-dir", "build/notebooks"]
    run += ["--strict"] if args.strict else []
    sets = dict(DRAWN) if args.release == "sample" else {}
    if args.backbone:
        sets["BACKBONE"] = args.backbone
    model = [f"--set={name}={json.dumps(value)}" for name, value in sets.items()]
    if status := start("-m", "openimager", *download).wait():
        return status
    # Nothing up to evaluation needs the first notebook, and prediction needs only the model: these
    # two run beside longer ones.
    exploring = start(*run, "exploration", stderr=subprocess.PIPE, text=True)
    status = start(*run, "dataset", "model", "evaluation", *model).wait()
    said = exploring.communicate()[1]
    if status := status or exploring.returncode:
        print(said, end="", file=sys.stderr)
        return status
    crop = min((ROOT / "data" / "crops" / "test").rglob("*.jpg")).relative_to(ROOT).as_posix()
    predicting = start("-m", "openimager.predict", crop, stdout=subprocess.PIPE, text=True)
    status = start(*run, "distribution").wait()
    answer = predicting.communicate()[0]
    if status := status or predicting.returncode:
        return status
    print("\n" + closing(ROOT, args.release, time.monotonic() - begin))
    print(f"To classify a picture:  $ .venv/bin/python -m openimager.predict {crop}")
    print(answer, end="")
    return 0


def start(*command, **streams) -> subprocess.Popen:
    """Start this Python with the given arguments, in the root of the clone."""
    return subprocess.Popen([sys.executable, *command], cwd=ROOT, **streams)


def conflicts(root: Path, names: list[str], release: str) -> list[str]:
    """Return the data and models of another task in the clone, and what would happen to them."""
    data, models = root / "data", root / "models"
    query = _json(data / "query.json")
    held = query.get("categories") or sorted({row["Category"] for row in _rows(data / "boxes.csv")})
    trained = _json(models / "metrics.json").get("categories", [])
    asked, found = {name.casefold() for name in names}, []
    other = {name.casefold() for name in held} != asked or query.get("release", release) != release
    if held and other:
        photos = sum(row["Status"] == "ok" for row in _rows(data / "images.csv"))
        origin = f"{', '.join(held)} ({query.get('release', 'unknown release')})"
        found.append(
            f"data/ holds {photos:,} photos of {origin}. They would stay in data/images with their "
            f"credits, but tables and crops would be those of {', '.join(names)} ({release})."
        )
    if (models / "latest.keras").exists() and (found or {n.casefold() for n in trained} != asked):
        found.append(
            f"models/ holds a model of {', '.join(trained) or 'unknown categories'}. It would be "
            "overwritten."
        )
    return found


def closing(root: Path, release: str, seconds: float) -> str:
    """Return where everything is, and the accuracy of the model."""
    metrics = _json(root / "models" / "metrics.json")
    score, low, high = (metrics[name] for name in ("accuracy", "low", "high"))
    drawn = release == "sample"
    lines = [
        "data/      photos, boxes, credits, crops and the data card;  registry/  the Quilt package",
        "models/    latest.keras and metrics.json;  build/notebooks/  the notebooks as they ran",
        f"On {metrics['crops']} {'DRAWN ' * drawn}test crops the model scores {score:.2f} (95 % "
        f"interval {low:.2f} to {high:.2f}{'; says nothing about photos' * drawn}). "
        f"{seconds / 60:.1f} minutes in all.",
    ]
    if (root / "data" / "gallery.html").exists():
        lines.insert(2, "data/gallery.html  photos, crops and mistakes, in a browser")
    if drawn:
        task = 'CATEGORIES="Hamburger,Sandwich" RELEASE=v4 LIMIT=1500'
        lines.append(f"Real data:  make all {task}  (in another clone, or with REPLACE=1)")
    return "\n".join(lines)


def _json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _rows(path: Path) -> list[dict]:
    if not path.exists():
        return []
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
