"""The two ways in which a run of openimager can end badly, and the exit status of each."""

import contextlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence


class BadInput(ValueError):
    """What the user gave cannot be used; the command line exits with 2.

    The message is for a person: the offending value, what was allowed, how to mend it.
    """


class TryAgain(RuntimeError):
    """Nothing is wrong with the input and running again may help; the command line exits with 1."""


@contextlib.contextmanager
def explained_os_errors(kept: str) -> Iterator[None]:
    """Turn an OSError into `TryAgain`; the message says that `kept` ("Whole photos") are kept."""
    try:
        yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise TryAgain(
            f"The disk refuses what is written: {error.strerror or error}{where}. {kept} are "
            "kept; make room or repair it, and run again for the rest."
        ) from error


def first_of(names: Sequence[str], shown: int = 3) -> str:
    """Return the first few names, and how many more there are.

    >>> first_of(["a", "b", "c", "d", "e"]), first_of(["a"])
    ('a, b, c and 2 more', 'a')
    """
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def megabytes(size: float) -> str:
    """Return a number of bytes in MB, or in GB from 1 GB on."""
    return f"{size / 1e6:,.1f} MB" if size < 1e9 else f"{size / 1e9:,.1f} GB"


def exit_status(work: Callable[[], int | None]) -> int:
    """Run the `work` of a command; return its exit status (None is 0), 1 or 2 after an error.

    Errors and warnings are written to stderr, without traceback or line number.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = lambda message, *_args, **_more: _say(f"warning: {message}")
            status = int(work() or 0)
        sys.stdout.flush()
        return status
    except (BadInput, TryAgain) as error:
        status, words = 2 if isinstance(error, BadInput) else 1, str(error)
    except BrokenPipeError:
        # The reader, such as head, has closed the pipe: discard what is still buffered.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        status, words = 1, f"{error.strerror or error} ({error.filename or 'file unknown'})."
    except KeyboardInterrupt:
        status, words = 1, "Interrupted. What is whole is kept; run again for the rest."
    for line in words.splitlines():
        _say(f"openimager: {line}")
    return status


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
