"""Names that moved to openimager.tables; to be removed once the downloader no longer needs them."""

from openimager.store import BOX_COLUMNS, FLAGS, PHOTO_COLUMNS, SUBSETS  # noqa: F401
from openimager.tables.cache import MissingTable, cache_folder  # noqa: F401
from openimager.tables.catalogue import (  # noqa: F401
    BASE_URL,
    CVDF_URL,
    is_directory,
    is_loopback,
    normal_base,
    table_path,
)
