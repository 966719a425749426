"""The two ways in which a run of openimager can end badly, and the exit status of each."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence


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


def first_of(names: Sequence[str], shown: int = 3) -> str:
    """Return the first few names, and how many more there are.

    Examples
    --------
    >>> first_of(["a", "b", "c", "d", "e"]), first_of(["a"])
    ('a, b, c and 2 more', 'a')
    """
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def exit_status(work: Callable[[], object]) -> int:
    """Print what a command's `work` returns, or one line on stderr; return 0, 1, 2 or 130."""
    try:
        print(work())
    except (BadInput, TryAgain) as error:
        print(f"openimager: {error}", file=sys.stderr)
        return 2 if isinstance(error, BadInput) else 1
    except KeyboardInterrupt:
        print("Interrupted; the same command does the rest.", file=sys.stderr)
        return 130
    return 0
