"""Cropping photos of a camera's size, compared with the time that decoding alone takes.

    python benchmarks/crops.py [--photos N] [--repeat N] [--no-bucket]

Real photos of ../shared/mirror are enlarged to 3000 x 2000, with noise like a camera's, and cropped
to 128 pixels by `openimager.write_crops` on two threads. The floor is decoding the same photos at
1/8 of their size with Pillow on two threads. Each run is a separate process. The same is measured
in a bucket of SeaweedFS on this machine, and the crops, before they are written, are compared with
those of a full decode and the same resize. The exit status is 1 if a goal is missed. Without the
mirror the photos are drawn, and a message says so.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFilter

from openimager import crops
from openimager.crops import geometry
from openimager.store import COORDINATES, FLAGS, Store

ROOT = Path(__file__).resolve().parents[1]
MIRROR = ROOT.parent / "shared" / "mirror"
WIDTH, HEIGHT, SIZE, THREADS = 3000, 2000, 128, 2
GOALS = {"wall": 2.0, "bucket": 1.5, "memory": 0.3, "worst": 40.0, "median": 50.0}


def main() -> int:
    """Run everything; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=120, help="how many photos (120)")
    parser.add_argument("--repeat", type=int, default=3, help="how often to measure (3)")
    parser.add_argument("--no-bucket", action="store_true", help="leave the bucket out")
    parser.add_argument("--run", nargs=3, metavar=("WAY", "DIR", "URL"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        return measured(*options.run)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        data_dir = Path(folder) / "data"
        photos, boxes = write_photos(data_dir, options.photos)
        print(f"{photos} photos of {WIDTH} x {HEIGHT} pixels, {boxes} boxes, {THREADS} threads")
        ways = {way: [] for way in ("floor", "folder", "bucket")[: 2 + (not options.no_bucket)]}
        environment = {}
        if "bucket" in ways:
            sys.path.insert(0, str(ROOT / "tests"))
            import seaweed

            (Path(folder) / "weed").mkdir()
            environment = stack.enter_context(seaweed.serving(Path(folder) / "weed"))
        for number in range(options.repeat):
            for way, runs in ways.items():
                runs.append(child(way, data_dir, f"s3://unversioned/{number}", environment))
        return 1 if missed(ways, psnr(data_dir)) else 0


def write_photos(data_dir: Path, count: int) -> tuple[int, int]:
    """Write photos and tables as the downloader does; return the numbers of photos and boxes."""
    (data_dir / "images").mkdir(parents=True)
    photos, boxes = mirrored(count) if MIRROR.is_dir() else drawn(count)
    random = np.random.default_rng(0)
    for image_id, picture in photos:
        enlarged = picture.convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        light = np.asarray(enlarged, dtype=np.float32)
        # Noise grows with the square root of light. It is added last, because a lens blurs light,
        # but not the noise of the sensor, which differs between neighbouring pixels.
        light += random.standard_normal(light.shape, dtype=np.float32) * (1 + 0.35 * light**0.5)
        noisy = Image.fromarray(light.clip(0, 255).astype(np.uint8))
        noisy.save(data_dir / "images" / f"{image_id}.jpg", quality=92)
    ids = [image_id for image_id, _ in photos]
    table = pd.DataFrame({"ImageID": ids, "Subset": "train", "Rotation": 0.0, "Status": "ok"})
    table.to_csv(data_dir / "images.csv", index=False)
    boxes = boxes[boxes["ImageID"].isin(ids)]
    boxes.to_csv(data_dir / "boxes.csv", index=False)
    return len(ids), len(boxes)


def mirrored(count: int):
    """Return real photos and their boxes, half from each site."""
    photos, boxes = [], []
    for site in ("fruit", "pets"):
        tables = MIRROR / site / "2018_04"
        table = pd.read_csv(tables / "train" / "train-images-boxable-with-rotation.csv")
        for row in table.sort_values("ImageID").head(count // 2).itertuples():
            with Image.open(tables / row.OriginalURL) as picture:
                photos.append((row.ImageID, picture.convert("RGB")))
        boxes.append(pd.read_csv(tables / "train" / "train-annotations-bbox.csv"))
    return photos, pd.concat(boxes).assign(Category="Thing")


def drawn(count: int):
    """Return drawn pictures with two boxes each, used if there are no real photos."""
    print(
        "There is no ../shared/mirror: these photos are DRAWN, the figures are no figures on photos"
    )
    random = np.random.default_rng(1)
    photos, boxes = [], []
    for number in range(count):
        blobs = Image.fromarray(random.integers(0, 255, (8, 12, 3), dtype=np.uint8))
        picture = blobs.resize((600, 400), Image.Resampling.BICUBIC)
        draw = ImageDraw.Draw(picture)
        for _ in range(40):
            x, y, r = random.integers(0, 600), random.integers(0, 400), random.integers(4, 60)
            colour = tuple(map(int, random.integers(0, 255, 3)))
            draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)
        photos.append((f"{number:016x}", picture.filter(ImageFilter.GaussianBlur(0.8))))
        for _ in range(2):
            x, y, w, h = random.uniform(0, 0.5, 4)
            boxes.append((f"{number:016x}", x, x + w + 0.05, y, y + h + 0.05))
    frame = pd.DataFrame(boxes, columns=["ImageID", *COORDINATES])
    return photos, frame.assign(Source="xclick", Category="Thing", **dict.fromkeys(FLAGS, 0))


def child(way: str, data_dir: Path, url: str, environment: dict) -> dict[str, float]:
    """Measure one way in a separate process."""
    command = [sys.executable, __file__, "--run", way, str(data_dir), url]
    environment = {**os.environ, **environment}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(done.stdout)


def measured(way: str, data_dir: str, url: str) -> int:
    """Run one way in this process; print seconds, CPU seconds and peak gigabytes."""
    with tempfile.TemporaryDirectory() as folder:
        target = Store(url if way == "bucket" else folder)

        def copy(path: Path) -> None:
            target.write(target.path(path.relative_to(data_dir).as_posix()), path.read_bytes())

        files = [path for path in Path(data_dir).rglob("*") if path.is_file()]
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(copy, files))
        peak = Path("/proc/self/clear_refs")  # do not count the memory of copying
        with contextlib.suppress(OSError):
            peak.write_text("5")
        begun, used = time.perf_counter(), time.process_time()
        if way == "floor":
            floor(Path(folder))
        else:
            # In a bucket threads also wait for the server, so the default of more threads is used.
            workers = THREADS if way == "folder" else None
            crops.write_crops(target, workers=workers, quiet=True)
        seconds, cpu = time.perf_counter() - begun, time.process_time() - used
    print(json.dumps({"seconds": seconds, "cpu": cpu, "gigabytes": peak_memory() / 1e9}))
    return 0


def peak_memory() -> int:
    """Return the peak memory of this process in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count the parent's memory at the fork
        line = next(s for s in status.read_text().splitlines() if s.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def floor(data_dir: Path) -> None:
    """Decode every photo at 1/8 of its size, without cropping."""

    def decode(path: Path) -> None:
        with Image.open(path) as photo:
            photo.draft(None, (photo.width // 8, photo.height // 8))
            photo.load()

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(decode, sorted((data_dir / "images").iterdir())))


def psnr(data_dir: Path) -> list[float]:
    """Return the PSNR in dB of each unwritten crop, compared with that of a full decode."""
    found = []
    for image_id, boxes in pd.read_csv(data_dir / "boxes.csv").groupby("ImageID"):
        path = data_dir / "images" / f"{image_id}.jpg"
        full = Image.open(path)
        boxes = boxes[list(COORDINATES)].to_numpy()
        all_pixels = [geometry.box_to_pixels(box, WIDTH, HEIGHT) for box in boxes]
        scale = min(
            geometry.draft_scale(pixels, SIZE, False, (WIDTH, HEIGHT)) for pixels in all_pixels
        )
        draft = geometry.decode(Image.open(path), scale)
        for box, pixels in zip(boxes, all_pixels, strict=True):
            ours = geometry.crop_box(draft, box, SIZE, stored=(WIDTH, HEIGHT))
            theirs = full.crop(pixels).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
            error = np.asarray(ours, dtype=float) - np.asarray(theirs, dtype=float)
            found.append(float(10 * np.log10(255**2 / max((error**2).mean(), 1e-9))))
    return found


def missed(ways, decibels) -> bool:
    """Print the figures and their goals; return whether one is missed."""
    for way, runs in ways.items():
        seconds, cpu = (min(run[name] for run in runs) for name in ("seconds", "cpu"))
        memory = max(run["gigabytes"] for run in runs)
        print(f"{way:8} {seconds:6.2f} s, {cpu:6.2f} CPU-seconds, at most {memory:.2f} GB")

    def ratio(way: str, other: str) -> float:
        """Return the median ratio of neighbouring runs, which other load slows equally."""
        pairs = zip(ways[way], ways[other], strict=True)
        return statistics.median(one["seconds"] / two["seconds"] for one, two in pairs)

    figures = {
        "wall": ratio("folder", "floor"),
        "memory": max(run["gigabytes"] for run in ways["folder"]),
        "worst": min(decibels),
        "median": statistics.median(decibels),
    }
    if "bucket" in ways:
        figures["bucket"] = ratio("bucket", "folder")
    units = {"wall": "of the floor", "bucket": "of the folder", "memory": "GB"}
    bad = False
    for name, figure in figures.items():
        upper = name in units
        fine = figure <= GOALS[name] if upper else figure >= GOALS[name]
        goal = f"{'at most' if upper else 'at least'} {GOALS[name]}: {'ok' if fine else 'MISSED'}"
        print(f"{name:7} {figure:7.3f} {units.get(name, 'dB (PSNR)')}, goal {goal}")
        bad |= not fine
    return bad


if __name__ == "__main__":
    sys.exit(main())
