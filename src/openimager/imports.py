"""Imports of large optional packages, without what they would import for nothing."""

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def hidden(package: str) -> Iterator[None]:
    """Hide an optional package, unless it is imported already, from imports in the block."""
    names = {} if package in sys.modules else {package: None}
    sys.modules.update(names)
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]
