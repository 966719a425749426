"""Keep what compiled libraries say while they start out of a notebook's output."""

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def native_stderr() -> Iterator[None]:
    """Send what is written to file descriptor 2 nowhere while the block runs.

    TensorFlow logs lines about processor and graphics card as it is imported, before any of its
    own settings can keep it from doing so. Exceptions are raised as ever, and what Python itself
    writes to ``sys.stderr`` of a notebook does not pass through the descriptor.

    Examples
    --------
    >>> with native_stderr():
    ...     _ = os.write(2, b"unheard")
    """
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
