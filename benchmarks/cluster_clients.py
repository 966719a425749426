"""The clients of benchmarks/cluster.py, which run in separate processes, and their workers."""

import contextlib
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor

import pandas as pd
import psutil

from openimager import cluster
from openimager.crops import write_crops
from openimager.photos.download import download as download_photos
from openimager.photos.photo import Outcome
from openimager.store import PHOTO_COLUMNS, Store

THREADS = 8  # per worker


def imported(seconds: float = 0) -> None:
    """Sleep in a process that has imported this module and its dependencies."""
    time.sleep(seconds)


@contextlib.contextmanager
def timed():
    """Yield a dict that later has the wall time and the CPU time of this process."""
    found, wall, used = {}, time.perf_counter(), time.process_time()
    yield found
    found |= {"wall": time.perf_counter() - wall, "cpu": time.process_time() - used}


def download(address: str, workers: str, tables: str, source: str, data_dir: str) -> dict:
    """Download with the workers of a cluster, or with two processes if there are none."""
    count = int(workers) or 2
    options = {"base_url": tables, "source": source, "workers": THREADS * count, "quiet": True}
    pool = ProcessPoolExecutor(2, multiprocessing.get_context("spawn"))
    with cluster.connected(address) if int(workers) else pool as executor:
        if not int(workers):
            list(executor.map(imported, [1, 1]))
        with timed() as found:
            frame = download_photos("Cat", data_dir=data_dir, executor=executor, **options)
    return found | {"ok": int((frame["Status"] == "ok").sum())}


def upload(folder: str, url: str) -> dict:
    """Copy a data directory into a bucket."""
    root = Store(url).root
    root.fs.put(f"{folder}/", f"{root.path}/", recursive=True)
    return {}


def crops(address: str, data_dir: str) -> dict:
    """Crop with the workers of a cluster."""
    with cluster.connected(address) as executor, timed() as found:
        rows = write_crops(data_dir, executor=executor, quiet=True)
    row = rows.memory_usage(deep=True).sum() / len(rows)
    return found | {"crops": int((rows["CropPath"] != "").sum()), "row": float(row)}


def memory(address: str, rows: str) -> dict:
    """Run rows as long as those of Open Images through a function that does nothing."""
    length = {"OriginalURL": 62, "OriginalLandingURL": 52, "License": 45, "Thumbnail300KURL": 60}
    columns = {
        name: [f"{number:0{length.get(name, 16)}x}" for number in range(int(rows))]
        for name in PHOTO_COLUMNS
    }
    frame, me = pd.DataFrame(columns), psutil.Process()
    del columns

    def parts():
        start = 0
        for size in cluster.sizes(len(frame), slots=2):
            yield frame.iloc[start : start + size]
            start += size

    kept, seen, start, peak = [], 0, me.memory_info().rss, 0
    with cluster.connected(address) as executor, timed() as found:
        for _, outcomes in cluster.run(nothing, parts(), executor=executor):
            kept.append(outcomes)
            seen += len(outcomes)
            peak = max(peak, now := me.memory_info().rss)
            if seen < len(frame) / 10:
                early, known = now, len(kept)
    size = [int(part.memory_usage(deep=True).sum()) for part in kept]
    return found | {
        **{"start": start, "peak": peak, "partitions": len(kept), "outcomes": sum(size)},
        **{"grown": peak - early - sum(size[known:])},
    }


def nothing(rows):
    """Return outcomes of photos without downloading them."""
    outcomes = [Outcome(name, "ok", "cvdf", 1024, 768, 294_000) for name in rows["ImageID"]]
    return pd.DataFrame(outcomes, columns=Outcome._fields)
