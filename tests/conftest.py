"""Fixtures and hooks that several test files use."""

import errno
import functools
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from openimager import files, sample
from openimager.files import cache_folder

# `make test-fast` leaves out kernels, browsers, training, clusters and S3, as entire files or by
# fixture. Other long tests are marked in their files.
SLOW_FILES = (
    *("test_jupyter.py", "test_models.py", "test_cluster.py", "test_bucket_data.py"),
    *("test_bucket.py", "test_predict.py", "test_notebooks.py"),
)
SLOW_FIXTURES = {"chromium", "page", "lab", "explored", "s3_server"}
# The slowest files come first, so that all workers finish at about the same time.
ORDER = (
    *SLOW_FILES,
    *("test_gallery.py", "test_download.py", "test_registry.py", "test_crops.py"),
    *("test_summaries.py", "test_selection.py"),
)
collect_ignore = ["hidden"]


def pytest_configure():
    """Let Ctrl-C interrupt, also in background jobs, where shells ignore it.

    Hide rfc3987_syntax from this process and its children; its stand-in says why.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    hidden = str(Path(__file__).parent / "hidden")
    sys.path.insert(0, hidden)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [hidden, os.environ.get("PYTHONPATH")]))


def pytest_ignore_collect(collection_path, config):
    """Do not import slow files, nor Dask and boto3, if their tests are not run."""
    slow = collection_path.name in SLOW_FILES
    return True if slow and config.option.markexpr == "not slow" else None


def pytest_collection_modifyitems(items):
    """Mark the slow tests, and sort the slowest files first."""
    order = {name: number for number, name in enumerate(ORDER)}
    for item in items:
        slow = item.path.name in SLOW_FILES
        if slow or SLOW_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("slow")
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """Return the folder of the tables of a small drawn site, shared by the session."""
    return sample.build(tmp_path_factory.mktemp("site") / "drawn", photos=60)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    """Yield the environment of a real S3 server, shared by the session."""
    import seaweed
    from botocore import session

    with (
        seaweed.serving(tmp_path_factory.mktemp("weed")) as environment,
        pytest.MonkeyPatch.context() as patch,
    ):
        # quilt3 makes a client for each call, and each client would parse the same JSON again.
        patch.setattr(session, "create_loader", functools.cache(session.create_loader))
        yield environment


@pytest.fixture(scope="module")
def quilt_home(tmp_path_factory):
    """Redirect the files that quilt3 writes for a user to a temporary folder."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        # The sample is drawn once for all tests, whose cache this would move.
        patch.setenv("OPENIMAGER_CACHE", str(cache_folder()))
        patch.setenv("XDG_DATA_HOME", str(home / "data"))
        patch.setenv("XDG_CACHE_HOME", str(home / "cache"))
        patch.setenv("QUILT_DISABLE_USAGE_METRICS", "1")
        yield


@pytest.fixture
def small_disk(tmp_path, monkeypatch):
    """Yield a folder with room for 400 kB: a file system of its own, or else a quota on writes."""
    folder, size = tmp_path / "small", 400 << 10
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if sys.platform == "linux" and not subprocess.run(mount, capture_output=True).returncode:
        yield folder
        subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)
        return
    write = files.write

    def limited(path, data):
        used = sum(files.sizes(folder).values())
        if Path(path).is_relative_to(folder) and used + len(data) > size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write(path, data)

    monkeypatch.setattr(files, "write", limited)
    yield folder
