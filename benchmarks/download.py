"""How fast photos arrive, and what that costs: 2,000 photos of 100 KB, each after 150 ms.

    python benchmarks/download.py

serves drawn photos from another process, which waits before each answer, and measures whole
`download()` runs in processes of their own. Goals, as ratios within this one run:

- wall time at 32 workers: at most 1.25 of latency x photos / workers,
- at least 20 times faster than one request after another (100 of them, scaled),
- peak memory below 150 MiB, and the same for 500 and for 2,000 photos (but for their rows).

CPU per photo is printed beside img2dataset's on the same server, which is installed into a
throwaway environment for this alone. Exits with 1 if a goal is missed.
"""

import argparse
import asyncio
import csv
import hashlib
import io
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from pathlib import Path

LATENCY = 0.150
WORKERS = 32
PHOTOS = 2000
SEQUENTIAL = 100
MOST_TIME, LEAST_SPEEDUP, MOST_MEMORY, MOST_GROWTH = 1.25, 20.0, 150.0, 1.1

CAT = "/m/01yrx"

# Its own process, so that what is measured is the client alone. Memory is the kernel's high-water
# mark of the process, CPU that of the whole process with its imports.
CLIENT = """
import json, resource, sys, time
from openimager.downloader import download

tables, data, workers = sys.argv[1:]
started, cpu = time.perf_counter(), time.process_time()
frame = download("Cat", data_dir=data, base_url=tables, workers=int(workers), quiet=True)
unit = 1 if sys.platform == "darwin" else 1024
print(json.dumps({
    "wall": time.perf_counter() - started,
    "cpu": time.process_time() - cpu,
    "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6,
    "ok": int((frame["Status"] == "ok").sum()),
}))
"""

SEQUENCE = """
import json, sys, time
import requests

urls = json.load(open(sys.argv[1], encoding="utf-8"))
started = time.perf_counter()
for url in urls:
    requests.get(url, timeout=30).content
print(json.dumps({"wall": time.perf_counter() - started}))
"""

IMG2DATASET = """
import json, resource, sys, time
from img2dataset import download

if __name__ == "__main__":
    urls, folder, workers = sys.argv[1:]
    started = time.perf_counter()
    download(url_list=urls, output_folder=folder, processes_count=1, thread_count=int(workers),
             resize_mode="no", disallowed_header_directives=[], enable_wandb=False)
    wall = time.perf_counter() - started
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(json.dumps({"wall": wall, "cpu": sum(one.ru_utime + one.ru_stime for one in both)}))
"""


def photo(size=100_000):
    """Return a JPEG of about `size` bytes, as large in pixels as Flickr's photos of that size."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((1024, 768), Image.Resampling.BICUBIC)).astype(int)
    low, high, found = 0, 60, b""
    while high - low > 1:
        noise = (low + high) // 2
        noisy = (pixels + rng.integers(-noise, noise + 1, pixels.shape)).clip(0, 255)
        stream = io.BytesIO()
        Image.fromarray(noisy.astype(np.uint8)).save(stream, "JPEG", quality=75)
        if stream.tell() < size:
            low, found = noise, stream.getvalue()
        else:
            high = noise
    return found


def serve(ready):
    """Answer every GET with the photo and its number at the end, after `LATENCY` seconds."""
    base = photo()

    async def answer(reader, writer):
        while request := await reader.readline():
            while (await reader.readline()).strip():
                pass
            await asyncio.sleep(LATENCY)
            body = numbered(base, int(request.split()[1].strip(b"/").partition(b".")[0]))
            head = f"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n"
            writer.write(head.encode() + b"\r\n" + body)
            await writer.drain()
        writer.close()

    async def main():
        server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=256)
        ready.put((server.sockets[0].getsockname()[1], base))
        await server.serve_forever()

    asyncio.run(main())


def numbered(base, number):
    """Return a photo of its own for each number: what follows its end is not decoded."""
    return base + b"%08d" % number


def write_tables(folder, url, base, count):
    """Write the tables of `count` photos, each with a box of a cat; return their folder."""
    from openimager.store import BOX_COLUMNS, PHOTO_COLUMNS
    from openimager.tables.catalogue import table_path

    tables = folder / f"{count}" / "2018_04"
    (tables / "train").mkdir(parents=True)
    boxes, photos = [BOX_COLUMNS], [PHOTO_COLUMNS]
    for number in range(count):
        body = numbered(base, number)
        row = dict.fromkeys(PHOTO_COLUMNS, "") | {"ImageID": f"{number:016x}", "Subset": "train"}
        row |= {"OriginalURL": f"{url}/{number}.jpg", "OriginalSize": len(body)}
        row |= {"OriginalMD5": b64encode(hashlib.md5(body).digest()).decode()}
        photos.append([row[name] for name in PHOTO_COLUMNS])
        boxes.append([row["ImageID"], "xclick", CAT, 1, 0.1, 0.9, 0.1, 0.9, 0, 0, 0, 0, 0])
    for path, rows in (
        (table_path("boxes", "train"), boxes),
        (table_path("photos", "train"), photos),
        (table_path("classes"), [[CAT, "Cat"]]),
    ):
        with open(tables / path, "w", encoding="utf-8", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerows(rows)
    tree = {"LabelName": "/m/0bl9f", "Subcategory": [{"LabelName": CAT}]}
    (tables / table_path("hierarchy")).write_text(json.dumps(tree), encoding="utf-8")
    return tables


def measured(python, code, *arguments):
    """Run `code` in a process of its own; return what its last line says."""
    command = [str(word) for word in (python, "-c", code, *arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=1200)
    return json.loads(done.stdout.strip().splitlines()[-1])


def img2dataset(folder, url):
    """Measure img2dataset on the same photos; None, with a word, if it cannot be had."""
    venv = folder / "venv"
    python = venv / ("Scripts" if os.name == "nt" else "bin") / "python"
    urls, script = folder / "urls.txt", folder / "img2dataset_run.py"
    urls.write_text("\n".join(f"{url}/{number}.jpg" for number in range(PHOTOS)), encoding="utf-8")
    script.write_text(IMG2DATASET, encoding="utf-8")
    try:
        subprocess.run([sys.executable, "-m", "venv", venv], check=True, capture_output=True)
        # It still imports pkg_resources' successor and an older albumentations.
        packages = ["img2dataset", "setuptools<80"]
        install = [python, "-m", "pip", "install", "-q", *packages]
        subprocess.run(install, check=True, capture_output=True, timeout=900)
        command = [str(word) for word in (python, script, urls, folder / "theirs", WORKERS)]
        environment = os.environ | {"NO_ALBUMENTATIONS_UPDATE": "1"}
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=600, env=environment
        )
        found = json.loads(done.stdout.strip().splitlines()[-1])
        found["ok"] = sum(1 for _ in (folder / "theirs").rglob("*.jpg"))
        return found
    except (subprocess.SubprocessError, OSError, ValueError) as error:
        said = getattr(error, "stderr", "") or ""
        said = said if isinstance(said, str) else said.decode(errors="replace")
        reason = (said.strip().splitlines() or [str(error)])[-1]
        print(f"img2dataset could not be measured here: {reason[:160]}")
        return None


def main():
    """Measure, print, and tell by the exit status whether the goals are met."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--without-img2dataset", action="store_true", help="skip its installation")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    ready = context.Queue()
    server = context.Process(target=serve, args=(ready,), daemon=True)
    server.start()
    try:
        with tempfile.TemporaryDirectory() as name:
            return report(Path(name), *ready.get(timeout=60), options)
    finally:
        server.terminate()
        server.join()


def report(folder, port, base, options):
    """Run everything against the server at `port`; return the exit status."""
    url = f"http://127.0.0.1:{port}"
    runs = {}
    for count in (PHOTOS // 4, PHOTOS):
        tables = write_tables(folder, url, base, count)
        started = time.perf_counter()
        run = measured(sys.executable, CLIENT, tables, folder / f"data{count}", WORKERS)
        run["process"] = time.perf_counter() - started
        if run["ok"] != count:
            print(f"only {run['ok']} of {count} photos arrived")
            return 1
        runs[count] = run
        print(
            f"{count:>5} photos of {len(base) / 1e3:.0f} KB, {WORKERS} workers: "
            f"{run['wall']:.2f} s (the whole process {run['process']:.2f} s), "
            f"{run['memory']:.0f} MB at most, "
            f"{run['cpu'] / count * 1e3:.2f} ms of CPU a photo"
        )
    urls = folder / "sequence.json"
    urls.write_text(json.dumps([f"{url}/{n}.jpg" for n in range(SEQUENTIAL)]), encoding="utf-8")
    sequence = measured(sys.executable, SEQUENCE, urls)["wall"] / SEQUENTIAL * PHOTOS
    print(f"one after another, {SEQUENTIAL} measured and scaled to {PHOTOS}: {sequence:.1f} s")
    theirs = None if options.without_img2dataset else img2dataset(folder, url)
    if theirs:
        print(
            f"img2dataset, {theirs['ok']} photos, {WORKERS} threads: {theirs['wall']:.2f} s, "
            f"{theirs['cpu'] / PHOTOS * 1e3:.2f} ms of CPU a photo, imports and all"
        )
        print(f"CPU of ours to theirs: {runs[PHOTOS]['cpu'] / theirs['cpu']:.2f}")
    wall = runs[PHOTOS]["wall"]
    few, many = runs[PHOTOS // 4]["memory"], runs[PHOTOS]["memory"]
    goals = [
        ("wall / (latency x photos / workers)", wall / (LATENCY * PHOTOS / WORKERS), MOST_TIME, 1),
        ("faster than one after another, times", sequence / wall, LEAST_SPEEDUP, -1),
        ("peak memory, MB", many, MOST_MEMORY, 1),
        (f"peak memory, {PHOTOS} to {PHOTOS // 4} photos", many / few, MOST_GROWTH, 1),
    ]
    missed = 0
    for what, value, bound, sign in goals:
        met = value * sign <= bound * sign
        missed += not met
        sense = "at most" if sign > 0 else "at least"
        print(f"{'met   ' if met else 'MISSED'} {what}: {value:.2f} ({sense} {bound:g})")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
