"""Time of a push into a registry folder, compared with copying and hashing the same files.

    python benchmarks/registry.py [--files 3000] [--megabytes 100] [--rounds 3]

The reference reads each file once, hashes it (SHA256) and writes it elsewhere, with the standard
library. Ratios are within one run, of the best of several rounds. Exits with 1 if a goal is
missed: a first push at most 3 times the reference, a repeated push at most 0.35 of the first.
"""

import argparse
import hashlib
import shutil
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from openimager import registry
from openimager.package.objects import import_quilt

FIRST_GOAL, REPEATED_GOAL = 3.0, 0.35
METADATA = {
    "categories": ["Cat"],
    "licence": {"photos": ["CC BY 2.0"], "annotations": "CC BY 4.0"},
    "metrics": {"accuracy": 0.5},
}


def make_files(folder: Path, count: int, megabytes: float) -> dict[str, Path]:
    """Write files of random bytes, from a tenth to nearly twice the mean size."""
    folder.mkdir()
    random = Random(0)
    mean = megabytes * 1e6 / count
    files = {}
    for number in range(count):
        file = folder / f"{number:016x}.jpg"
        file.write_bytes(random.randbytes(int(random.uniform(0.1, 1.9) * mean)))
        files[f"data/images/{file.name}"] = file
    return files


def copy_and_hash(files: dict[str, Path], folder: Path) -> None:
    """Read each file once, hash it and write it under its name."""
    folder.mkdir()
    for file in files.values():
        with open(file, "rb") as source, open(folder / file.name, "wb") as target:
            digest = hashlib.sha256()
            while block := source.read(1 << 20):
                digest.update(block)
                target.write(block)


def seconds(work, *arguments) -> float:
    """Return the wall time of a call in seconds."""
    began = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - began


def main() -> int:
    """Run the comparison; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=3000)
    parser.add_argument("--megabytes", type=float, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    import_quilt()  # do not measure the import
    plain, first, again = [], [], []
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        files = make_files(home / "files", options.files, options.megabytes)
        for number in range(options.rounds):
            place = home / f"registry-{number}"
            push = (registry.push, files, "bench/mark", place, METADATA, "a round")
            plain.append(seconds(copy_and_hash, files, home / f"plain-{number}"))
            first.append(seconds(*push))
            again.append(seconds(*push))
            shutil.rmtree(home / f"plain-{number}")
            shutil.rmtree(place)
    ratios = min(first) / min(plain), min(again) / min(first)
    print(f"{options.files} files of {options.megabytes:g} MB in all, best of {options.rounds}")
    print(f"copy and hash   {min(plain):6.2f} s")
    goals = f"goal {FIRST_GOAL}", f"goal {REPEATED_GOAL}"
    print(f"first push      {min(first):6.2f} s   {ratios[0]:.2f} of copy and hash ({goals[0]})")
    print(f"repeated push   {min(again):6.2f} s   {ratios[1]:.2f} of the first push ({goals[1]})")
    missed = ratios[0] > FIRST_GOAL or ratios[1] > REPEATED_GOAL
    print("A goal is missed." if missed else "Both goals are met.")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
