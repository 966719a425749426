"""Runs on a Dask cluster give the files and tables of a local run, even if processes die."""

import contextlib
import functools
import gc
import io
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import distributed
import pytest
import seaweed
from builders import DataDir, image_id, jpeg, photo_row, scene, write_site
from PIL import Image
from web import body, closed_port, web

from openimager import bucket as buckets
from openimager import cli, cluster, crops, download
from openimager.errors import BadInput, TryAgain
from openimager.store import Store

FRUIT = Path(__file__).resolve().parents[2] / "shared" / "mirror" / "fruit" / "2018_04"
TABLES = ["boxes.csv", "images.csv", "ATTRIBUTION.csv", "crops.csv"]
PHOTOS, WORKERS = 128, 8


@pytest.fixture(scope="module")
def bucket(s3_server):
    """Yield the URL of a bucket on an S3 server that this process and its children can use."""
    with pytest.MonkeyPatch.context() as patch:
        seaweed.use(patch, s3_server)
        yield "s3://unversioned"


@pytest.fixture(scope="module")
def dask(bucket):
    """Return a cluster of two worker processes that run one partition at a time each."""
    with local_cluster(2) as running:
        yield running


@pytest.fixture
def executor(dask):
    """Return the executor of a new client, after both workers have connected."""
    with distributed.Client(dask, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
        yield client.get_executor(pure=False, retries=2)


def local_cluster(workers):
    """Return a cluster of worker processes with a scheduler in this process."""
    return distributed.LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        dashboard_address="127.0.0.1:0",
        silence_logs=logging.CRITICAL,
    )


@contextlib.contextmanager
def process(what, *words, env=()):
    """Run a scheduler or a worker in its own environment."""
    command = [sys.executable, "-m", f"distributed.cli.dask_{what}", *words, "--no-dashboard"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    running = subprocess.Popen(command, env=os.environ | dict(env), **quiet)
    try:
        yield running
    finally:
        running.kill()
        running.wait()


def other_worker(address, **options):
    """Run a worker that is not restarted when it dies."""
    return process("worker", address, "--nthreads=1", "--no-nanny", **options)


def served_site(folder, server, at=None, act=None, photos=PHOTOS):
    """Write tables of photos that take 50 ms each; call `act` on request number `at`."""
    guard, asked = threading.Lock(), []

    def page(data, handler, times):
        with guard:
            asked.append(handler.path)
            now = len(asked) == at
        if now:
            act()
        time.sleep(0.05)
        body(data)(handler, times)

    rows = []
    for number in range(photos):
        data = jpeg(number)
        server.pages[f"/{number}.jpg"] = functools.partial(page, data)
        rows.append(photo_row(number, f"{server.url}/{number}.jpg", data))
    return write_site(folder, rows)


def contents(data_dir, tables=TABLES):
    """Return the bytes of the tables, photos and crops of a data directory."""
    store = Store(data_dir)
    found = {name: store.read(store.path(name)) for name in tables}
    for folder in (store.images, store.crops):
        found |= {name: store.read(folder.joinpath(name)) for name in store.sizes(folder)}
    return found


def whole(data_dir):
    """Return the ImageIDs of the photos of a data directory; fail if one does not decode."""
    store = Store(data_dir)
    names = sorted(store.sizes(store.images))
    for name in names:
        Image.open(io.BytesIO(store.read(store.images / name))).load()
    return [name.removesuffix(".jpg") for name in names]


IDS = [image_id(number) for number in range(PHOTOS)]


# Same results as on one machine


def test_real_photos(executor, bucket, tmp_path):
    """Photos, crops and tables in a bucket equal those of a local run, byte for byte."""
    if not FRUIT.is_dir():
        pytest.skip("needs the real photos of ../shared/mirror/fruit")
    here, there = tmp_path / "data", f"{bucket}/fruit"
    site = {"base_url": FRUIT, "subset": "all", "limit": 20, "cache_dir": tmp_path, "quiet": True}
    for data_dir, options in ((here, {}), (there, {"executor": executor})):
        download(["Apple", "Orange"], data_dir=data_dir, **site, **options)
        crops.write_crops(data_dir, quiet=True, **options)
    assert contents(there) == contents(here)


def test_drawn_crops(executor, tmp_path):
    """Crops in a shared folder equal those of a local run, byte for byte."""
    found = []
    for name, options in (("a", {}), ("b", {"executor": executor})):
        data = DataDir(tmp_path / name)
        for seed in range(8):
            data.box(data.photo(scene(seed=seed), rotation=90.0 * (seed % 4)))
        data.crop(**options)
        found.append(contents(tmp_path / name))
    assert found[0] == found[1]


# Killed processes


def test_worker_killed(dask, executor, bucket, tmp_path):
    """Another worker takes over and requests only photos that the killed one had not written."""
    pids = executor._client.run(os.getpid)
    kill = functools.partial(os.kill, next(iter(pids.values())), signal.SIGKILL)
    with web() as server:
        tables = served_site(tmp_path, server, at=60, act=kill)
        options = {"base_url": tables, "cache_dir": tmp_path, "workers": WORKERS, "quiet": True}
        table = download("Cat", data_dir=f"{bucket}/worker", executor=executor, **options)
        assert len(server.asked) <= PHOTOS + WORKERS
    assert table["Status"].eq("ok").all()
    assert table["Source"].eq("flickr").all()
    assert whole(f"{bucket}/worker") == IDS


def words(dask, data_dir, tables):
    """Return the options of a run on a cluster."""
    options = ["Cat", "--dask", dask.scheduler_address, "--data-dir", data_dir]
    return [*options, "--base-url", str(tables), "--workers", str(WORKERS)]


def run_cli(*options):
    """Start the command line in a process."""
    command = [sys.executable, "-m", "openimager", *words(*options)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def wait_until_idle(server):
    """Wait for a second without requests."""
    before = -1
    while before != len(server.asked):
        before = len(server.asked)
        time.sleep(1)


def test_client_killed(dask, bucket, tmp_path, monkeypatch):
    """After kill -9 of the client, the same command downloads the rest."""
    monkeypatch.setattr(buckets, "_LEASE", 0.5)  # nobody holds the lock any more
    data_dir, clients = f"{bucket}/client", []
    with web() as server:
        tables = served_site(tmp_path, server, at=50, act=lambda: clients[0].kill())
        clients.append(run_cli(dask, data_dir, tables))
        clients[0].communicate(timeout=120)
        wait_until_idle(server)
        before = len(server.asked)
        assert before < PHOTOS
        assert cli.main(words(dask, data_dir, tables)) == 0
        assert len(server.asked) <= PHOTOS + WORKERS
    assert whole(data_dir) == IDS
    assert Store(data_dir).read_table("images.csv")["Status"].eq("ok").all()


def test_interrupted(dask, bucket, tmp_path):
    """Ctrl-C cancels waiting partitions; the photos of finished ones are listed and complete."""
    data_dir, clients, photos = f"{bucket}/interrupted", [], 192
    with web() as server:
        stop = functools.partial(lambda: clients[0].send_signal(signal.SIGINT))
        # Six partitions of 32 photos, two at a time: one is finished, and at least two wait.
        tables = served_site(tmp_path, server, at=70, act=stop, photos=photos)
        clients.append(run_cli(dask, data_dir, tables))
        said = clients[0].communicate(timeout=120)[1]
        assert clients[0].returncode == 1
        assert "Interrupted" in said and "Traceback" not in said
        wait_until_idle(server)
        assert len(server.asked) < photos
    table = Store(data_dir).read_table("images.csv")
    assert len(table) == photos
    kept = table.loc[table["Status"] == "ok", "ImageID"]
    assert len(kept) >= 32 and set(kept) <= set(whole(data_dir))


def die(_):
    os._exit(1)


def test_partition_kills_workers(dask, executor, monkeypatch):
    """A partition that kills every worker ends the run with a clear error."""
    monkeypatch.setattr(dask.scheduler, "allowed_failures", 0)
    with pytest.raises(TryAgain, match=r"workers died .* same partition"):
        list(cluster.run(die, [1], executor=executor))


def test_scheduler_lost(monkeypatch):
    """If the scheduler is lost, the run ends with a clear error."""
    monkeypatch.setattr(cluster, "_TIMEOUT", 60)  # the scheduler takes time to start
    port = closed_port()
    address = f"tcp://127.0.0.1:{port}"
    with (
        process("scheduler", "--host=127.0.0.1", f"--port={port}") as scheduler,
        other_worker(address),
        cluster.connected(address) as executor,
    ):
        executor._client._timeout = 1  # seconds, for reconnecting
        running = cluster.run(time.sleep, [0, 60], 2, executor)
        next(running)
        scheduler.kill()
        with pytest.raises(TryAgain, match="connection to the scheduler was lost"):
            next(running)


# Bad input


def complaint(capsys, tmp_path, *arguments):
    """Return the exit status and the error message of the command line."""
    folder = write_site(tmp_path, [photo_row(0, "http://127.0.0.1:9/a.jpg")])
    options = ["Cat", "--base-url", str(folder), "--data-dir", str(tmp_path / "data")]
    status = cli.main([*options, *arguments])
    # A client that could not connect stops its loop when it is garbage-collected. During the
    # start of the next client, this would be a deadlock.
    gc.collect()
    return status, capsys.readouterr().err


@pytest.mark.parametrize("address", ["scheduler", "tcp://scheduler", "http://scheduler:8786"])
def test_no_address(capsys, tmp_path, address):
    """An invalid scheduler address is bad input."""
    status, said = complaint(capsys, tmp_path, "--dask", address)
    assert (status, said.count("\n")) == (2, 1)
    assert f"'{address}' is not the address of a scheduler" in said


def test_tls_without_certificates(capsys, tmp_path):
    """TLS requires certificates in Dask's configuration."""
    status, said = complaint(capsys, tmp_path, "--dask", "tls://127.0.0.1:8786")
    assert status == 2
    assert "DASK_DISTRIBUTED__COMM__TLS__CA_FILE" in said


def test_distributed_missing(capsys, tmp_path, monkeypatch):
    """Without Dask, the error names the extra to install."""
    monkeypatch.setitem(sys.modules, "distributed", None)
    status, said = complaint(capsys, tmp_path, "--dask", "tcp://127.0.0.1:8786")
    assert status == 2
    assert 'pip install "openimager[cluster]"' in said


def test_scheduler_unreachable(capsys, tmp_path, monkeypatch):
    """An unreachable scheduler gives status 1, because a later attempt may succeed."""
    monkeypatch.setattr(cluster, "_TIMEOUT", 0.5)
    address = f"tcp://127.0.0.1:{closed_port()}"
    status, said = complaint(capsys, tmp_path, "--dask", address)
    assert status == 1
    assert f"The scheduler {address} cannot be reached" in said


def test_no_workers(capsys, tmp_path, monkeypatch):
    """A scheduler without workers gives status 1 after the time limit."""
    monkeypatch.setattr(cluster, "_TIMEOUT", 0.5)
    with local_cluster(0) as dask:
        status, said = complaint(capsys, tmp_path, "--dask", dask.scheduler_address)
    assert status == 1
    assert "has no workers" in said and "dask worker tcp://" in said


# Files put before the installed packages on a worker's path.
OTHER = "Metadata-Version: 2.1\nName: openimager\nVersion: 9.9.9\n"
HIDE = """
import importlib.metadata

def version(name, found=importlib.metadata.version):
    if name == "openimager":
        raise importlib.metadata.PackageNotFoundError(name)
    return found(name)

importlib.metadata.version = version
"""


@pytest.mark.parametrize(
    ("name", "text", "has"),
    [
        ("openimager-9.9.9.dist-info/METADATA", OTHER, "has openimager 9.9.9"),
        ("sitecustomize.py", HIDE, "has no openimager"),
    ],
)
def test_other_version(capsys, tmp_path, name, text, has):
    """A worker with another version of openimager, or none, is found before any download."""
    path = tmp_path / "first" / name
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    with (
        local_cluster(0) as dask,
        other_worker(dask.scheduler_address, env={"PYTHONPATH": str(tmp_path / "first")}),
    ):
        status, said = complaint(capsys, tmp_path, "--dask", dask.scheduler_address)
    assert status == 2
    assert has in said and "pip install" in said
    assert f"python 3.{sys.version_info.minor}" in said and "pandas" in said
    assert not (tmp_path / "data" / "images").exists()


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="needs /proc")
def test_folder_of_this_machine(executor, tmp_path, monkeypatch):
    """A folder that the workers do not share is refused before any download."""
    monkeypatch.chdir(tmp_path)
    # This path is a different folder in each process.
    store = Store("/proc/self/cwd/data")
    with pytest.raises(BadInput, match=r"The worker \S+ cannot use .*s3://bucket/folder"):
        cluster.check(executor, store)
    assert not list(tmp_path.rglob("seen-*"))


def test_site_of_this_machine(executor, tmp_path, monkeypatch):
    """A site whose folder the workers cannot read is refused."""
    with pytest.raises(BadInput, match="No such file or directory: '/proc/self/fd/nothing'"):
        cluster.check(executor, Store(tmp_path), "/proc/self/fd/nothing")


def test_relative_folder(executor, tmp_path, monkeypatch):
    """A relative folder is resolved by the client, not by the worker."""
    monkeypatch.chdir(tmp_path)
    cluster.check(executor, Store("data"))
    assert not list(tmp_path.rglob("seen-*"))


def test_equal_tasks(dask):
    """An executor that merges equal tasks (pure=True) is refused."""
    with (
        distributed.Client(dask, set_as_default=False) as client,
        pytest.raises(BadInput, match="pure=False"),
    ):
        cluster.check(client.get_executor(), Store("data"))


def test_cancelled():
    """Partitions that have not started when a run ends are cancelled."""
    begun = []

    def task(number):
        begun.append(number)
        time.sleep(0.2)

    with ThreadPoolExecutor(1) as executor:
        running = cluster.run(task, range(5), 5, executor)
        next(running)
        running.close()
    assert len(begun) <= 2


def test_other_executors_need_no_check():
    """Executors that run in this process need no check of the data directory."""
    with ThreadPoolExecutor(2) as executor:
        cluster.check(executor, Store("nowhere"))
        assert sorted(n for _, n in cluster.run(len, ["a", "bc"], executor=executor)) == [1, 2]
