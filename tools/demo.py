"""The whole way on the drawn sample: the main job, then the five notebooks in order."""

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

CATEGORIES = ("Cat", "Dog")


def main() -> int:
    """Run everything; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    # CI passes no options: it runs the command that a newcomer would type.
    strict = "CI" in os.environ
    parser.add_argument("--strict", action="store_true", default=strict, help="fail on warnings")
    options = parser.parse_args()
    os.chdir(ROOT)
    if foreign := _not_the_samples():
        print(
            f"data/ holds photos that are not the sample's (such as {foreign}); the demo would "
            "replace their tables, crops and model. Move data/ and models/ away, or run it in "
            "another clone.",
            file=sys.stderr,
        )
        return 2
    begin = time.monotonic()
    print("$ python -m openimager Cat Dog --sample --subset all", flush=True)
    main_job = [sys.executable, "-m", "openimager", *CATEGORIES, "--sample", "--subset", "all"]
    if status := subprocess.run(main_job).returncode:
        return status
    run = [sys.executable, "tools/notebooks.py", "run", "--output-dir", "build/notebooks"]
    if status := subprocess.run(run + ["--strict"] * options.strict).returncode:
        return status
    print()
    print("\n".join(_closing_lines(time.monotonic() - begin)))
    return 0


def _not_the_samples() -> str:
    """Return the ImageID of a photo in data/ that is none of the sample's, "" if there is none."""
    table = Path("data/images.csv")
    if not table.exists():
        return ""
    from openimager import sample
    from openimager.metadata import SUBSETS, table_path

    drawn = sample.build()
    ours = set()
    for subset in SUBSETS:
        with open(drawn / table_path("photos", subset), encoding="utf-8", newline="") as stream:
            ours.update(row["ImageID"] for row in csv.DictReader(stream))
    with open(table, encoding="utf-8", newline="") as stream:
        return next((r["ImageID"] for r in csv.DictReader(stream) if r["ImageID"] not in ours), "")


def _closing_lines(seconds: float) -> list[str]:
    metrics = json.loads(Path("models/metrics.json").read_text(encoding="utf-8"))
    score, low, high = (metrics[name] for name in ("accuracy", "low", "high"))
    return [
        "data/      photos, boxes, credits, crops and the data card;  registry/  the Quilt package",
        "models/    latest.keras and metrics.json;  build/notebooks/  the notebooks as they ran",
        f"On {metrics['crops']} DRAWN test crops the model scores {score:.2f} (95 % interval "
        f"{low:.2f} to {high:.2f}; says nothing about photos). {seconds / 60:.1f} minutes in all.",
        "Real data:  .venv/bin/openimager Hamburger Sandwich --subset all --dry-run",
        "Then change CATEGORIES and BASE_URL in the first two notebooks:  make lab",
    ]


if __name__ == "__main__":
    sys.exit(main())
