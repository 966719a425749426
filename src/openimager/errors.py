"""The two ways in which a run of openimager can end badly."""

import contextlib
from collections.abc import Iterator


class BadInput(ValueError):
    """What the user gave cannot be used; the command line exits with 2.

    The message is for a person: the offending value, what was allowed, how to mend it.
    """


class TryAgain(RuntimeError):
    """Nothing is wrong with the input and running again may help; the command line exits with 1."""


@contextlib.contextmanager
def explained_os_errors(kept: str) -> Iterator[None]:
    """Turn an OSError into `TryAgain`; what is `kept`, such as "Whole photos", the message says."""
    try:
        yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise TryAgain(
            f"The disk refuses what is written: {error.strerror or error}{where}. {kept} are "
            "kept; make room or repair it, and run again for the rest."
        ) from error
