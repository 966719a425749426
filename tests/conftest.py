"""What more than one test file needs."""

import pytest

from openimager import sample

# What `make test-fast` leaves out, the longest first: kernels, browsers, training, clusters, S3.
SLOW_FILES = (
    *("test_jupyter.py", "test_models.py", "test_cluster.py", "test_bucket_data.py"),
    *("test_gallery.py", "test_bucket.py", "test_predict.py"),
)
SLOW_FIXTURES = {"chromium", "page", "lab", "explored", "s3_server"}


def pytest_collection_modifyitems(items):
    """Mark the slow tests, and begin with their files, so that two workers end together."""
    order = {name: number for number, name in enumerate(SLOW_FILES)}
    for item in items:
        if item.path.name in order or SLOW_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("slow")
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """Return the folder of the tables of a small drawn site, one for the whole session."""
    return sample.build(tmp_path_factory.mktemp("site") / "drawn", photos=60)


@pytest.fixture(scope="module")
def s3_server(tmp_path_factory):
    """Yield the environment that reaches a real S3 server, one for each file of tests."""
    import seaweed

    with seaweed.serving(tmp_path_factory.mktemp("weed")) as environment:
        yield environment


@pytest.fixture(scope="module")
def quilt_home(tmp_path_factory):
    """Keep what quilt3 writes for a user in a folder of the tests."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(home / "data"))
        patch.setenv("XDG_CACHE_HOME", str(home / "cache"))
        patch.setenv("QUILT_DISABLE_USAGE_METRICS", "1")
        yield
