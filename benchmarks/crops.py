"""Cropping beside one full decode for each box, on photos the size that cameras make.

    python benchmarks/crops.py [--photos N] [--repeat N]

Real photos of ../shared/mirror, enlarged to 3000 x 2000 with noise like a camera's, are cropped by
`openimager.write_crops` and by the plain way (for each box: decode the photo, slice the array,
resize, save), each in a process of its own. Prints wall time and peak memory of both and how far
the crops are, before they are written, from a full decode and the same resize. The exit status is
1 where a goal is missed. Without the mirror the photos are drawn, and it says so.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFilter

from openimager import crops
from openimager import store as rows
from openimager.crops import geometry

MIRROR = Path(__file__).resolve().parents[1].parent / "shared" / "mirror"
WIDTH, HEIGHT, SIZE = 3000, 2000, 128
GOALS = {"wall": 0.25, "memory": 0.6, "worst": 40.0, "median": 50.0}


def main() -> int:
    """Run everything; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=120, help="how many photos (120)")
    parser.add_argument("--repeat", type=int, default=3, help="how often to measure (3)")
    parser.add_argument("--run", nargs=2, metavar=("WAY", "DIR"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        return measured(*options.run)
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder) / "data"
        photos, boxes = write_photos(data_dir, options.photos)
        print(f"{photos} photos of {WIDTH} x {HEIGHT} pixels, {boxes} boxes")
        ways = {way: [] for way in ("plain", "openimager", "openimager, one thread")}
        for _ in range(options.repeat):
            for way, runs in ways.items():
                runs.append(child(way, data_dir))
        return 1 if missed(ways, psnr(data_dir)) else 0


def write_photos(data_dir: Path, count: int) -> tuple[int, int]:
    """Make photos and tables as the downloader leaves them; return how many photos and boxes."""
    (data_dir / "images").mkdir(parents=True)
    photos, boxes = mirrored(count) if MIRROR.is_dir() else drawn(count)
    random = np.random.default_rng(0)
    for image_id, picture in photos:
        enlarged = picture.convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        light = np.asarray(enlarged, dtype=np.float32)
        # Noise of light grows with its square root; a lens blurs what falls on the sensor, not
        # the noise of the sensor, so it comes last and is as fine as the pixels.
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
    """Return drawn pictures with two boxes each, for where there are no real photos."""
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
    frame = pd.DataFrame(boxes, columns=["ImageID", *rows.COORDINATES])
    return photos, frame.assign(Source="xclick", Category="Thing", **dict.fromkeys(rows.FLAGS, 0))


def child(way: str, data_dir: Path) -> dict[str, float]:
    """Measure one way in a process of its own."""
    command = [sys.executable, __file__, "--run", way, str(data_dir)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def measured(way: str, data_dir: str) -> int:
    """Crop in this process; print seconds and peak gigabytes."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("images", "images.csv", "boxes.csv"):
            source, target = Path(data_dir, name), Path(folder, name)
            if source.is_dir():
                target.mkdir()
                for photo in source.iterdir():
                    target.joinpath(photo.name).hardlink_to(photo)
            else:
                target.write_bytes(source.read_bytes())
        begun, used = time.perf_counter(), time.process_time()
        if way == "plain":
            plain(Path(folder))
        else:
            crops.write_crops(folder, workers=1 if "one" in way else 2, quiet=True)
        seconds, cpu = time.perf_counter() - begun, time.process_time() - used
    print(json.dumps({"seconds": seconds, "cpu": cpu, "gigabytes": peak_memory() / 1e9}))
    return 0


def peak_memory() -> int:
    """Return the most bytes that this process held."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count what the parent held when it started us
        line = next(s for s in status.read_text().splitlines() if s.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def plain(data_dir: Path) -> None:
    """Crop as the original did: one full decode for each box, and numpy slicing."""
    for n, row in enumerate(pd.read_csv(data_dir / "boxes.csv").itertuples()):
        array = np.array(Image.open(data_dir / "images" / f"{row.ImageID}.jpg"))
        height, width = array.shape[:2]
        left, right = int(row.XMin * width), max(int(row.XMax * width), 1)
        upper, lower = int(row.YMin * height), max(int(row.YMax * height), 1)
        crop = Image.fromarray(array[upper:lower, left:right])
        crop = crop.resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        crop.save(data_dir / f"{row.ImageID}_{n}.jpg", quality=95)


def psnr(data_dir: Path) -> list[float]:
    """Return the PSNR in dB of each crop, before it is written, from a full decode's."""
    found = []
    for image_id, boxes in pd.read_csv(data_dir / "boxes.csv").groupby("ImageID"):
        path = data_dir / "images" / f"{image_id}.jpg"
        full = Image.open(path)
        all_pixels = [
            geometry.box_to_pixels(box, WIDTH, HEIGHT)
            for box in boxes[list(rows.COORDINATES)].to_numpy()
        ]
        scale = min(geometry.draft_scale(pixels, SIZE, False) for pixels in all_pixels)
        draft = Image.open(path)
        draft.draft(None, (WIDTH // scale, HEIGHT // scale))
        for box, pixels in zip(boxes[list(rows.COORDINATES)].to_numpy(), all_pixels, strict=True):
            ours = geometry.crop_box(draft, box, SIZE, stored=(WIDTH, HEIGHT))
            theirs = full.crop(pixels).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
            error = np.asarray(ours, dtype=float) - np.asarray(theirs, dtype=float)
            found.append(float(10 * np.log10(255**2 / max((error**2).mean(), 1e-9))))
    return found


def missed(ways, decibels) -> bool:
    """Print the figures beside their goals; return whether one is missed."""
    wall = {way: min(run["seconds"] for run in runs) for way, runs in ways.items()}
    memory = {way: max(run["gigabytes"] for run in runs) for way, runs in ways.items()}
    for way in ways:
        cpu = min(run["cpu"] for run in ways[way])
        ratio = wall[way] / wall["plain"]
        print(
            f"{way:24} {wall[way]:6.2f} s ({ratio:.3f} of plain), {cpu:6.2f} CPU-seconds, "
            f"{memory[way]:.2f} GB"
        )
    figures = {
        "wall": wall["openimager"] / wall["plain"],
        "memory": memory["openimager"],
        "worst": min(decibels),
        "median": statistics.median(decibels),
    }
    bad = False
    for name, figure in figures.items():
        upper = name in ("wall", "memory")
        fine = figure <= GOALS[name] if upper else figure >= GOALS[name]
        unit = {"wall": "of plain", "memory": "GB"}.get(name, "dB (PSNR)")
        goal = f"{'at most' if upper else 'at least'} {GOALS[name]}: {'ok' if fine else 'MISSED'}"
        print(f"{name:7} {figure:7.3f} {unit}, goal {goal}")
        bad |= not fine
    return bad


if __name__ == "__main__":
    sys.exit(main())
