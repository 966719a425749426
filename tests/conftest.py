"""What more than one test file needs."""

import pytest

from openimager import sample


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """Return the folder of the tables of a small drawn site, one for the whole session."""
    return sample.build(tmp_path_factory.mktemp("site") / "drawn", photos=60)
