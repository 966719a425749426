"""Downloading and cropping on a local Dask cluster, and an extrapolation to all photos.

    python benchmarks/cluster.py [--photos N] [--crops N] [--rows N] [--only PART]

A scheduler, one or two workers (processes; one partition at a time), the client, an S3 server
(SeaweedFS) and a photo server that answers after 150 ms run on this machine. The CPU time of each
is printed. Goals, as ratios within one run:

- download: 5,000 photos into the bucket, 8 requests per worker: two workers at least 1.8 times as
  fast as one, and Dask at most 10 % slower than two processes without it,
- crops: 300 photos of 3000 x 2000, one thread per worker: two workers at least 1.5 times as fast,
- memory: 200,000 rows through a function that only returns outcomes: client and scheduler at most
  0.5 GB; the client, less the outcomes, grows by at most 0.05 GB after the first tenth of rows.

The last lines extrapolate CPU and bytes per photo to 1.74 million photos and 14.6 million crops.
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks")]

import builders  # noqa: E402
import cluster_clients  # noqa: E402
import crops  # noqa: E402
import seaweed  # noqa: E402

from openimager import cluster as glue  # noqa: E402

LATENCY, ROWS = 0.150, 200_000
PHOTOS, BOXES, COPY = 1_743_042, 14_610_229, 294_000  # of train; bytes of a mirror copy
MOST_MEMORY, PUTS = 0.5e9, 3500  # requests that S3 accepts per second and prefix
glue._TIMEOUT = 120.0  # processes may take long to start on a busy machine


def main() -> int:
    """Run everything; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--photos", type=int, default=5000, help="photos to download (5000)")
    parser.add_argument("--crops", type=int, default=300, help="photos to crop (300)")
    parser.add_argument("--rows", type=int, default=ROWS, help="rows for the memory (200000)")
    parser.add_argument("--only", choices=("download", "crops", "memory"), help="one part alone")
    parser.add_argument("--client", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        what, *words = options.client
        print(json.dumps(vars(cluster_clients)[what](*words)))
        return 0
    goals, paper = [], {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.only in (None, "download"):
            goals += downloads(folder, options.photos, paper)
        if options.only in (None, "crops"):
            goals += croppings(folder, options.crops, paper)
        if options.only in (None, "memory"):
            goals += memory(options.rows, paper)
    missed = 0
    for what, value, bound, sign in goals:
        met = value * sign <= bound * sign
        missed += not met
        sense = "at most" if sign > 0 else "at least"
        print(f"{'met   ' if met else 'MISSED'} {what}: {value:.3g} ({sense} {bound:g})")
    if not options.only:
        on_paper(paper)
    return 1 if missed else 0


# The cluster, each part a process


@contextlib.contextmanager
def cluster(workers: int, environment: dict[str, str]):
    """Run a scheduler and workers; yield its address and the processes by name."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    environment = os.environ | environment | {"PYTHONPATH": str(ROOT / "benchmarks")}
    run = [sys.executable, "-m"]
    commands = {
        "scheduler": ["distributed.cli.dask_scheduler", "--host", "127.0.0.1", f"--port={port}"]
    } | {
        f"worker {n}": ["distributed.cli.dask_worker", address, "--nthreads=1", "--no-nanny"]
        for n in range(workers)
    }
    processes = {}
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(tempfile.TemporaryFile())
        for name, command in commands.items():
            command = [*run, *command, "--no-dashboard"]
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.kill)
            processes[name] = psutil.Process(process.pid)
        with glue.connected(address) as executor:
            executor._client.wait_for_workers(workers, timeout=120)
            executor._client.run(cluster_clients.imported)
        yield address, processes


def client(environment: dict[str, str], *words) -> dict:
    """Run a function of `cluster_clients` in a separate process; return its measurements."""
    command = [sys.executable, __file__, "--client", *map(str, words)]
    done = subprocess.run(
        command, env=os.environ | environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def cpu(processes: dict) -> dict[str, float]:
    """Return the CPU seconds of processes and their children."""
    found = {}
    for name, process in processes.items():
        family = [process, *process.children(recursive=True)]
        found[name] = sum(sum(one.cpu_times()[:2]) for one in family)
    return found


def measured(what: str, processes: dict, environment: dict[str, str], *words) -> dict:
    """Run a client; print the wall time and the CPU time of each process."""
    before = cpu(processes)
    run = client(environment, *words)
    used = {name: seconds - before[name] for name, seconds in cpu(processes).items()}
    shown = ", ".join(f"{name} {seconds:.1f}" for name, seconds in used.items())
    print(f"{what}: {run['wall']:.1f} s; CPU s: client {run['cpu']:.1f}, {shown}", flush=True)
    return run | {"used": used}


# Downloads


def downloads(folder: Path, photos: int, paper: dict) -> list[tuple]:
    """Download into a bucket with one worker, with two, and with two processes without Dask."""
    context = multiprocessing.get_context("spawn")
    ready = context.Queue()
    server = context.Process(target=serve, args=(ready,), daemon=True)
    server.start()
    url, size = ready.get(timeout=60)
    rows = [builders.photo_row(number, "https://example.org/") for number in range(photos)]
    tables = builders.write_site(folder / "site", rows)
    print(f"{photos:,} photos of {size / 1e3:.0f} kB, {LATENCY * 1e3:.0f} ms each")
    runs = {}
    for workers in (1, 2, 0):
        # Start a new S3 server each time, because a full one is slower.
        weed = folder / f"weed{workers}"
        weed.mkdir()
        what = f"{workers} workers" if workers else "2 processes without Dask"
        with contextlib.ExitStack() as stack:
            environment = stack.enter_context(seaweed.serving(weed))
            at, processes = "-", {}
            if workers:
                at, processes = stack.enter_context(cluster(workers, environment))
            [s3] = [one for one in psutil.Process().children() if one.cmdline()[1:2] == ["server"]]
            others = {"S3": s3, "photo server": psutil.Process(server.pid)}
            words = ["download", at, workers, tables]
            words += [f"{url}/{{ImageID}}.jpg", "s3://unversioned/d"]
            runs[workers] = measured(what, processes | others, environment, *words)
        if runs[workers]["ok"] != photos:
            raise SystemExit(f"only {runs[workers]['ok']} of {photos} photos arrived")
    server.terminate()
    used = runs[2]["used"]
    paper["fetch"] = (used["worker 0"] + used["worker 1"]) / photos
    return [
        ("download, two workers to one, times", runs[1]["wall"] / runs[2]["wall"], 1.8, -1),
        ("download, Dask to processes", runs[2]["wall"] / runs[0]["wall"], 1.1, 1),
    ]


def serve(ready) -> None:
    """Answer every GET, after `LATENCY`, with a photo that ends with its path, as S3 does."""
    base = photo()

    async def answer(reader, writer):
        with contextlib.suppress(ConnectionError):
            while request := await reader.readline():
                while (await reader.readline()).strip():
                    pass
                body = base + request.split()[1]
                head = f'HTTP/1.1 200 OK\r\nETag: "{hashlib.md5(body).hexdigest()}"\r\n'
                head += f"Content-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
                await asyncio.sleep(LATENCY)
                writer.write(head.encode() + body)
                await writer.drain()
        writer.close()

    async def run():
        server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=256)
        ready.put((f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", len(base)))
        await server.serve_forever()

    asyncio.run(run())


def photo() -> bytes:
    """Return a JPEG of 1024 x 768 pixels and about 100 kB."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((1024, 768))).astype(int) + rng.integers(
        -20, 20, (768, 1024, 3)
    )
    return builders.jpeg(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), quality=75)


# Crops


def croppings(folder: Path, photos: int, paper: dict) -> list[tuple]:
    """Crop large photos with one and two workers, and mirror copies into a bucket."""
    photos, boxes = crops.write_photos(folder / "large", photos)
    print(f"{photos} photos of {crops.WIDTH} x {crops.HEIGHT}, {boxes} boxes")
    runs = {}
    for workers in (1, 2):
        left = [folder / "large" / name for name in ("crops", "crops.csv", ".openimager")]
        subprocess.run(["rm", "-rf", *left], check=True)
        with cluster(workers, {}) as (address, processes):
            words = ("crops", address, folder / "large")
            runs[workers] = measured(f"{workers} workers", processes, {}, *words)
    write_copies(folder / "copies", 200)
    (folder / "weed").mkdir()
    with (
        seaweed.serving(folder / "weed") as environment,
        cluster(1, environment) as (at, processes),
    ):
        client(environment, "upload", folder / "copies", "s3://unversioned/copies")
        words = ("crops", at, "s3://unversioned/copies")
        run = measured("mirror copies into a bucket, 1 worker", processes, environment, *words)
    paper["crop"] = run["used"]["worker 0"] / run["crops"]
    paper["row"] = run["row"]
    return [("crops, two workers to one, times", runs[1]["wall"] / runs[2]["wall"], 1.5, -1)]


def write_copies(data_dir: Path, count: int) -> None:
    """Write photos of 1024 pixels with the mean number of boxes in Open Images."""
    data = builders.DataDir(data_dir)
    rng = np.random.default_rng(0)
    for seed in range(count):
        image_id = data.photo(builders.scene(1024, 768, seed))
        for x, y in rng.uniform(0, 0.6, (round(BOXES / PHOTOS), 2)):
            data.box(image_id, (x, x + 0.35, y, y + 0.35))
    data.write()


# Memory


def memory(rows: int, paper: dict) -> list[tuple]:
    """Send rows through workers that do nothing; measure the memory of client and scheduler."""
    with cluster(2, {}) as (address, processes):
        run = measured(f"{rows:,} rows", processes, {}, "memory", address, rows)
        scheduler = processes["scheduler"].memory_info().rss
    paper["client"] = (run["cpu"] + run["used"]["scheduler"]) / rows
    client = run["peak"]
    print(
        f"client {run['start'] / 1e6:.0f} MB with the rows, {client / 1e6:.0f} MB at most, of "
        f"which outcomes {run['outcomes'] / 1e6:.0f} MB; scheduler {scheduler / 1e6:.0f} MB; "
        f"{run['partitions']} partitions, {run['wall'] / run['partitions'] * 1e3:.0f} ms each"
    )
    return [
        ("memory of the client, GB", client / 1e9, MOST_MEMORY / 1e9, 1),
        ("memory of the scheduler, GB", scheduler / 1e9, MOST_MEMORY / 1e9, 1),
        ("growth of the client without its outcomes, GB", run["grown"] / 1e9, 0.05, 1),
    ]


def on_paper(paper: dict) -> None:
    """Extrapolate to all photos and crops, for workers of one core each."""
    fetch_cpu, crop_cpu, client_cpu = paper["fetch"], paper["crop"], paper["client"]
    print(
        f"On paper: {PHOTOS:,} photos of {COPY / 1e3:.0f} kB from the mirror, {BOXES:,} crops, a "
        f"bucket that takes {PUTS:,} PUTs/s. CPU per photo {fetch_cpu * 1e3:.1f} ms, in client and "
        f"scheduler {client_cpu * 1e3:.2f} ms; per crop {crop_cpu * 1e3:.1f} ms. crops.csv in the "
        f"client: {BOXES * paper['row'] / 1e9:.0f} GB"
    )
    print("cores  fetch, h  crop, h  Gbit/s each way")
    for cores in (4, 16, 64, 256):
        fetch = PHOTOS * max(fetch_cpu / cores, client_cpu, 1 / PUTS)
        crop = BOXES * max(crop_cpu / cores, 1 / PUTS)
        gbits = PHOTOS * COPY * 8 / fetch / 1e9
        print(f"{cores:5}  {fetch / 3600:8.2f}  {crop / 3600:7.2f}  {gbits:15.1f}")


if __name__ == "__main__":
    sys.exit(main())
