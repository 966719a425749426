"""The two ways in which a run of openimager can end badly."""


class BadInput(ValueError):
    """What the user gave cannot be used; the command line exits with 2.

    The message is for a person: the offending value, what was allowed, how to mend it.
    """


class TryAgain(RuntimeError):
    """Nothing is wrong with the input and running again may help; the command line exits with 1."""
