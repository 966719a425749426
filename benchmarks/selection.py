"""Selection from full-size tables, compared with the pandas code of 2018 on the same tables.

    python benchmarks/selection.py [--rows N] [--runs N] [--keep DIR]

Makes tables of the size of Open Images V4 (14.6 million boxes, 1.74 million photos, the photos
not sorted), converts them to Parquet as the first use does, and runs whole processes in turn:
openimager, and read_csv, isin and merge. Prints wall time, peak memory and their ratios, and exits
with 1 if a goal is missed.
"""

import argparse
import itertools
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

BOXES, PHOTOS, CATEGORIES = 14_610_229, 1_743_042, 601
RARE, COMMON = ("category 588", "category 599"), ("category 5", "category 10")
# Title, categories, limit, dry run; the highest ratios of wall time and peak memory to pandas.
CASES = (
    ("two rare categories, dry run", RARE, None, True, 0.25, 0.10),
    ("two common ones, limit 1500, dry run", COMMON, 1500, True, 0.40, 0.25),
    ("two common ones, all rows", COMMON, None, False, 0.60, 0.40),
)
GOAL_CONVERSION = 20, 1200

CONVERT = """
import sys, threading
from pathlib import Path
from openimager.tables import catalogue, views
from openimager.tables.cache import Site
source, target = map(Path, sys.argv[1:])
for kind in ("boxes", "photos"):
    [path] = catalogue.table_paths("v4", kind, "train")
    table = (target / path).with_suffix(".parquet")
    site = Site(cache_dir=target, quiet=True)
    views.convert(source / path, table, kind, site, threading.Event())
print("both train tables")
"""
OURS = """
import sys
from openimager import selection
from openimager.query import ask
folder, limit, dry_run, *names = sys.argv[1:]
query, site = ask(names, base_url=folder, limit=int(limit) or None, quiet=True)
selector = selection.Selector(query, site)
if dry_run == "True":
    counts = selector.describe()["in all"]
    print(counts["boxes"], counts["photos"])
else:
    found = [image_id for image_id, _ in selector.take()]
    rows = selector.boxes(found), selector.photos()
    print(*(sum(1 for _ in table) for table in rows))
"""
PLAIN = """
import sys
import pandas as pd
folder, names = sys.argv[1], sys.argv[2:]
classes = pd.read_csv(f"{folder}/class-descriptions-boxable.csv", names=["LabelName", "Name"])
labels = classes.loc[classes["Name"].isin(names), "LabelName"]
boxes = pd.read_csv(f"{folder}/train/train-annotations-bbox.csv")
boxes = boxes[boxes["LabelName"].isin(labels)]
photos = pd.read_csv(f"{folder}/train/train-images-boxable-with-rotation.csv")
photos = photos[photos["ImageID"].isin(boxes["ImageID"])]
joined = boxes.merge(photos, on="ImageID")
print(len(joined), joined["ImageID"].nunique())
"""


def make_tables(folder: Path, boxes: int) -> None:
    """Write tables of the shape of V4; category k is drawn in proportion to 1/k."""
    rng = np.random.default_rng(0)
    photos = max(2, round(boxes * PHOTOS / BOXES))
    (folder / "train").mkdir(parents=True, exist_ok=True)
    mids = [f"/m/0{random.Random(k).randrange(16**5):05x}" for k in range(1, CATEGORIES + 1)]
    lines = [f"{mid},category {k}" for k, mid in enumerate(mids, start=1)]
    (folder / "class-descriptions-boxable.csv").write_text("\n".join(lines), encoding="utf-8")
    kinds = ",".join(f'{{"LabelName": "{mid}"}}' for mid in mids)
    (folder / "bbox_labels_600_hierarchy.json").write_text(
        f'{{"LabelName": "/m/0bl9f", "Subcategory": [{kinds}]}}', encoding="utf-8"
    )
    ids = np.unique(rng.integers(0, 2**63, photos, dtype=np.uint64))
    _write_boxes(folder / "train/train-annotations-bbox.csv", boxes, ids, mids, rng)
    _write_photos(folder / "train/train-images-boxable-with-rotation.csv", ids, rng)


def _hex(ids) -> list[bytes]:
    text = ids.astype(">u8").tobytes().hex().encode()
    return [text[i : i + 16] for i in range(0, len(text), 16)]


def _write_boxes(path: Path, boxes: int, ids, mids: list[str], rng) -> None:
    weights = 1 / np.arange(1, CATEGORIES + 1)
    names = _hex(ids)
    owner = np.sort(rng.integers(0, len(ids), boxes))
    owner[: len(ids)] = np.arange(len(ids)) if boxes >= len(ids) else owner[: len(ids)]
    owner.sort()
    with open(path, "wb") as stream:
        stream.write(
            b"ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,"
            b"IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside\n"
        )
        for at in range(0, boxes, 500_000):
            part = owner[at : at + 500_000]
            labels = rng.choice(CATEGORIES, len(part), p=weights / weights.sum())
            low = rng.integers(0, 500_000, (2, len(part)))
            high = low + rng.integers(1_000, 500_000, (2, len(part)))
            flags = rng.integers(0, 2, len(part))
            for owned, label, x0, x1, y0, y1, flag in zip(
                part.tolist(), labels.tolist(), *low[:1].tolist(), *high[:1].tolist(),
                *low[1:].tolist(), *high[1:].tolist(), flags.tolist(), strict=True,
            ):  # fmt: skip
                stream.write(
                    b"%b,xclick,%b,1,0.%06d,0.%06d,0.%06d,0.%06d,%d,0,0,0,0\n"
                    % (names[owned], mids[label].encode(), x0, x1, y0, y1, flag)
                )


def _write_photos(path: Path, ids, rng) -> None:
    tail = (
        b",train,https://farm1.staticflickr.com/%d/%d_0123456789_o.jpg,"
        b"https://www.flickr.com/photos/someone/%d,https://creativecommons.org/licenses/by/2.0/,"
        b'https://www.flickr.com/people/someone/,"Somebody, from S\xc3\xa3o Paulo",'
        b'"A photo, and its ""title""",%d,XKWUMkcNib71Ge6Yq1/0/g==,'
        b"https://c7.staticflickr.com/6/5499/10245691204_ace6136324_z.jpg,0.0\n"
    )
    names = _hex(rng.permutation(ids))
    with open(path, "wb") as stream:
        stream.write(
            b"ImageID,Subset,OriginalURL,OriginalLandingURL,License,AuthorProfileURL,Author,"
            b"Title,OriginalSize,OriginalMD5,Thumbnail300KURL,Rotation\n"
        )
        for number, name in zip(itertools.count(1_000_000_000), names, strict=False):
            stream.write(name + tail % (number % 9000, number, number, 2_000_000 + number % 999))


def run(code: str, *arguments) -> tuple[float, float, str]:
    """Run code in a separate process; return wall seconds, peak megabytes and its output."""
    begin = time.perf_counter()
    command = [sys.executable, "-c", code, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    printed = process.stdout.read().strip()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        # For example if it ran out of memory; the other runs are still measured.
        printed = f"ended with status {os.waitstatus_to_exitcode(status)}"
    # Linux counts in KiB, macOS in bytes.
    scale = 1e6 if sys.platform == "darwin" else 1e3
    return time.perf_counter() - begin, usage.ru_maxrss / scale, printed


def convert(folder: Path, parquet: Path) -> bool:
    """Convert the tables as the first use does; return whether the goal was met."""
    parquet.mkdir(exist_ok=True)
    for path in folder.glob("*.*"):
        (parquet / path.name).write_bytes(path.read_bytes())
    seconds, megabytes, title = run(CONVERT, folder, parquet)
    sizes = [sum(p.stat().st_size for p in d.rglob("train-*.*")) for d in (folder, parquet)]
    print(f"conversion of {title}: {seconds:.1f} s, {megabytes:.0f} MB, ", end="")
    print(f"{sizes[0] / 1e9:.2f} GB to {sizes[1] / 1e9:.2f} GB", flush=True)
    return seconds <= GOAL_CONVERSION[0] and megabytes <= GOAL_CONVERSION[1]


def main() -> int:
    """Measure and print; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=BOXES, help="rows of the table of boxes")
    parser.add_argument("--runs", type=int, default=3, help="runs of each process")
    parser.add_argument("--keep", metavar="DIR", help="make the tables here, or use those here")
    parser.add_argument("--make", metavar="DIR", help="only make the tables, here")
    options = parser.parse_args()
    if options.make:
        make_tables(Path(options.make), options.rows)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(options.keep or scratch)
        if not (folder / "class-descriptions-boxable.csv").exists():
            print(f"making tables of {options.rows:,} boxes ...", flush=True)
            # In a separate process, because a child's peak memory includes its parent's.
            make = [sys.executable, __file__, "--make", str(folder), "--rows", str(options.rows)]
            subprocess.run(make, check=True)
        met = [convert(folder, Path(scratch, "parquet"))]
        rows = [measure(folder, Path(scratch, "parquet"), options.runs, *case) for case in CASES]
    print(f"{'':40} wall, of pandas   peak memory, of pandas")
    for title, wall, peak, good, most_wall, most_peak in rows:
        met.append(good and wall <= most_wall and peak <= most_peak)
        print(f"{title:40} {wall:.2f} (at most {most_wall:.2f})", end="")
        print(f"  {peak:.2f} (at most {most_peak:.2f})", end="\n" if good else ", failed\n")
    print("goals met" if all(met) else "goals missed")
    return int(not all(met))


def measure(folder, parquet, runs, title, names, limit, dry_run, *goals) -> tuple:
    """Run openimager and pandas in turn; return title, the two ratios, success and the goals."""
    pairs = [
        (run(OURS, parquet, limit or 0, dry_run, *names), run(PLAIN, folder, *names))
        for _ in range(runs)
    ]
    said = [{printed for _, _, printed in side} for side in zip(*pairs, strict=True)]
    # With a limit, fewer rows are selected than by pandas.
    good = (limit is not None or said[0] == said[1]) and "ended" not in str(said)
    print(f"{title}: {' '.join(sorted(said[0]))} boxes and photos", end="")
    print("" if limit or good else f", pandas: {' '.join(sorted(said[1]))}")
    for name, side in (("openimager", 0), ("pandas", 1)):
        wall, peak = (statistics.median(pair[side][i] for pair in pairs) for i in (0, 1))
        print(f"  {name:10} {wall:6.2f} s {peak:6.0f} MB", flush=True)
    ratios = [statistics.median(a[i] / b[i] for a, b in pairs) for i in (0, 1)]
    return title, *ratios, good, *goals


if __name__ == "__main__":
    sys.exit(main())
