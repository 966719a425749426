"""Speed of downloads: from a throttled source, in bulk beside img2dataset, and with latency.

    python benchmarks/download.py [throttled] [bulk] [latency]

`download()` is measured in separate processes, after imports and selection. Goals:

- throttled: 1,000 photos from a source that serves 30, then one every 10 s, and from a mirror that
  needs 50 ms: at most twice the time of the mirror alone plus 20 s, at most 20 responses of 429,
  all photos on disk; with and without Retry-After,
- bulk: 20,000 photos of 96 kB from one nginx (apt-get install nginx-light), each decoded: at least
  0.7 of the rate of img2dataset (in this environment), which decodes nothing. Both use 2 processes
  and run in turns; the rate is from the first request to the end, the median of three. Memory: at
  most 60 MB above the process after its imports, and at most 10 MB more than for 2,000 photos,
- latency: 2,000 photos at 150 ms, 32 workers: at most 1.15 x latency x photos / workers.

Exits with 1 if a goal is missed.
"""

import argparse
import asyncio
import importlib.util
import io
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WORKERS, LATENCY, MIRROR_LATENCY = 32, 0.150, 0.050
THROTTLED, BULK, FEW, DELAYED, ROUNDS = 1000, 20_000, 2000, 2000, 3
BURST, REFILL = 30, 10.0

# The tables are read before the measurement, because selection has its own benchmark.
CLIENT = """
import json, resource, sys, time
import openimager.photos.download as module

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024) / 1e6

if __name__ == "__main__":
    tables, data, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    import duckdb, numpy, pandas
    imported, marks = peak(), {}
    real = module.Run.all
    def all(run, *arguments):
        marks["start"] = time.perf_counter()
        return real(run, *arguments)
    module.Run.all = all
    frame = module.download("Cat", data_dir=data, base_url=tables, quiet=True, **options)
    print(json.dumps({
        "wall": time.perf_counter() - marks["start"],
        "end": time.time(), "memory": peak() - imported,
        "ok": int((frame["Status"] == "ok").sum()),
        "sources": frame["Source"].value_counts().to_dict(),
    }))
"""

IMG2DATASET = """
import sys, time
from img2dataset import download

if __name__ == "__main__":
    urls, folder = sys.argv[1:]
    download(url_list=urls, output_folder=folder, processes_count=2, thread_count=16,
             resize_mode="no", disable_all_reencoding=True, disallowed_header_directives=[],
             enable_wandb=False, number_sample_per_shard=1000)
    print(time.time())
"""

NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  log_format times "$msec"; access_log {folder}/access.log times;
  sendfile on; tcp_nopush on; keepalive_requests 1000000;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  server {{ listen 127.0.0.1:{port} backlog=1024; root {folder}/photos; }}
}}
"""


def photo(size=96_000):
    """Return a JPEG of about `size` bytes, with as many pixels as Flickr's photos of that size."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((1024, 768), Image.Resampling.BICUBIC)).astype(int)
    for noise in range(60, 0, -1):
        noisy = (pixels + rng.integers(-noise, noise + 1, pixels.shape)).clip(0, 255)
        stream = io.BytesIO()
        Image.fromarray(noisy.astype(np.uint8)).save(stream, "JPEG", quality=75)
        if stream.tell() <= size:
            return stream.getvalue()
    raise ValueError(size)


def serve(ready, latency, throttled, retry_after):
    """Answer GETs after `latency` seconds; if throttled, with 429 when the budget is spent.

    ``GET /counts`` returns the numbers of both kinds of answers, and resets them.
    """
    data, counts = photo(), {}

    def begin():
        counts.update({"200": 0, "429": 0, "budget": BURST, "since": time.monotonic()})

    begin()

    async def answer(reader, writer):
        while request := await reader.readline():
            while (await reader.readline()).strip():
                pass
            status, head, body = "200 OK", "", data
            if request.split()[1] == b"/counts":
                body = json.dumps(counts).encode()
                begin()
            else:
                earned = int((time.monotonic() - counts["since"]) / REFILL)
                if throttled and counts["200"] >= counts["budget"] + earned:
                    status, body = "429 Too Many Requests", b""
                    head = f"Retry-After: {retry_after}\r\n" if retry_after else ""
                counts[status[:3]] += 1
                await asyncio.sleep(latency)
            head += f"Content-Length: {len(body)}\r\n\r\n"
            writer.write(f"HTTP/1.1 {status}\r\n{head}".encode() + body)
            await writer.drain()
        writer.close()

    async def main():
        server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=512)
        ready.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


class Server:
    """A process that runs `serve`."""

    def __init__(self, latency, throttled=False, retry_after=None):
        context = multiprocessing.get_context("spawn")
        ready = context.Queue()
        arguments = (ready, latency, throttled, retry_after)
        self.process = context.Process(target=serve, args=arguments, daemon=True)
        self.process.start()
        self.url = f"http://127.0.0.1:{ready.get(timeout=60)}"

    def counts(self):
        """Return the counts since the last call."""
        import urllib.request

        with urllib.request.urlopen(self.url + "/counts") as response:
            return json.load(response)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.join()


def write_tables(folder, url, count):
    """Write the tables of `count` photos, each with a box of a cat; return their folder."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from builders import photo_row, write_site

    rows = [photo_row(number, f"{url}/{number}.jpg") for number in range(count)]
    return write_site(folder / f"site{count}-{url.rpartition(':')[2]}", rows)


def ours(folder, tables, **options):
    """Measure one download in a separate process."""
    data = Path(tempfile.mkdtemp(dir=folder))
    options = json.dumps({"workers": WORKERS} | options)
    command = [sys.executable, "-c", CLIENT, str(tables), str(data), options]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=1200)
    shutil.rmtree(data)
    return json.loads(done.stdout.strip().splitlines()[-1])


def throttled(folder):
    """Yield the goals of the throttled source."""
    with Server(MIRROR_LATENCY) as mirror:
        template = mirror.url + "/{ImageID}.jpg"
        for retry_after in (None, 10):
            with Server(MIRROR_LATENCY, True, retry_after) as first:
                tables = write_tables(folder, first.url, THROTTLED)
                alone = ours(folder, tables, source=[template])
                first.counts()
                both = ours(folder, tables, source=["flickr", template])
                refused = first.counts()["429"]
            what = f"throttled, Retry-After {retry_after}"
            print(f"{what}: mirror alone {alone['wall']:.1f} s, both {both['wall']:.1f} s")
            print(f"    {both['sources']}, {refused} responses of 429")
            bound = 2 * alone["wall"] + 20
            yield f"{what}: seconds", both["wall"], bound, 1
            yield f"{what}: responses of 429", refused, 20, 1
            yield f"{what}: photos on disk", both["ok"], THROTTLED, -1


def latency(folder):
    """Yield the goal of the source with latency."""
    with Server(LATENCY) as server:
        run = ours(folder, write_tables(folder, server.url, DELAYED))
    best = LATENCY * DELAYED / WORKERS
    print(f"latency: {run['ok']} photos in {run['wall']:.2f} s, {best:.2f} s at best")
    yield "latency: of latency x photos / workers", run["wall"] / best, 1.15, 1


def bulk(folder):
    """Yield the goals of a source without limits, compared with img2dataset."""
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    if not Path(nginx).exists():
        raise SystemExit("bulk: needs nginx (apt-get install nginx-light)")
    if not importlib.util.find_spec("img2dataset"):
        raise SystemExit("bulk: needs img2dataset (pip install img2dataset)")
    (folder / "photos").mkdir()
    base = photo()
    for number in range(BULK):
        (folder / "photos" / f"{number}.jpg").write_bytes(base + b"%08d" % number)
    port = 8199
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port), encoding="utf-8")
    server = subprocess.Popen([nginx, "-c", str(folder / "nginx.conf"), "-p", str(folder)])
    time.sleep(1.0)
    try:
        url = f"http://127.0.0.1:{port}"
        few = ours(folder, write_tables(folder, url, FEW))
        tables, own, ratios = write_tables(folder, url, BULK), [], []
        for processes in (1, *[2] * ROUNDS):
            before = len(requests_at(folder))
            own.append(ours(folder, tables, processes=processes))
            mine = rate(requests_at(folder)[before:], own[-1]["end"])
            print(f"bulk, {processes} process(es): {mine:.0f} photos/s")
            if processes > 1:
                ratios.append(mine / rival(folder, url))
                print(f"    {ratios[-1]:.2f} of img2dataset's")
        yield "bulk: photos per second, of img2dataset's", statistics.median(ratios), 0.7, -1
        yield "bulk: photos on disk", min(run["ok"] for run in own), BULK, -1
        yield "bulk: peak memory above imports, MB", own[0]["memory"], 60, 1
        yield "bulk: its growth from few photos, MB", own[0]["memory"] - few["memory"], 10, 1
    finally:
        server.terminate()
        server.wait()


def rival(folder, url):
    """Return img2dataset's photos per second."""
    urls, script = folder / "urls.txt", folder / "img2dataset_run.py"
    urls.write_text("\n".join(f"{url}/{number}.jpg" for number in range(BULK)), encoding="utf-8")
    script.write_text(IMG2DATASET, encoding="utf-8")
    before = len(requests_at(folder))
    command = [str(word) for word in (sys.executable, script, urls, folder / "theirs")]
    quiet = os.environ | {"NO_ALBUMENTATIONS_UPDATE": "1"}
    done = subprocess.run(command, capture_output=True, check=True, timeout=600, env=quiet)
    shutil.rmtree(folder / "theirs", ignore_errors=True)
    return rate(requests_at(folder)[before:], float(done.stdout.split()[-1]))


def rate(times, end):
    """Return the requests per second, from the first of these times until `end`."""
    return len(times) / (end - min(times))


def requests_at(folder):
    """Return the times at which nginx answered the requests, when the disk is at rest again."""
    os.sync()
    return [float(line) for line in (folder / "access.log").read_text("utf-8").split()]


def main():
    """Measure, print, and return the exit status: whether the goals are met."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    kinds = {"throttled": throttled, "latency": latency, "bulk": bulk}
    parser.add_argument("kinds", nargs="*", help=", ".join(kinds))
    wanted = parser.parse_args().kinds or list(kinds)
    missed = 0
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)  # nginx's worker runs as another user
        for kind in wanted:
            for what, value, bound, sign in kinds[kind](Path(name)):
                met = value * sign <= bound * sign
                missed += not met
                sense = "at most" if sign > 0 else "at least"
                print(f"{'met   ' if met else 'MISSED'} {what}: {value:.2f} ({sense} {bound:g})")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
