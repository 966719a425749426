"""Checks that keep an evaluation honest."""

from collections.abc import Iterable

from openimager.errors import BadInput


def check_categories(known: Iterable[str], found: Iterable[str]) -> None:
    """Refuse crops of other categories than the model was trained for.

    Examples
    --------
    >>> check_categories(["Cat", "Dog"], ["Apple", "Dog"])
    Traceback (most recent call last):
    openimager.errors.BadInput: The model knows Cat, Dog, but the test crops are of Apple, Dog. ...
    """
    known, found = sorted(known), sorted(found)
    if known != found:
        raise BadInput(
            f"The model knows {', '.join(known)}, but the test crops are of {', '.join(found)}. "
            "Train on these crops first (build-model), or crop the model's categories again "
            "(build-dataset)."
        )


def check_unseen(tested: dict[str, str], trained_on: Iterable[str]) -> None:
    """Refuse to measure on crops that the model was trained on.

    `tested` has the name and SHA256 of each test crop, `trained_on` the SHA256 of every crop
    trained on (models/trained_on.txt).

    Examples
    --------
    >>> check_unseen({"a_0.jpg": "aa", "b_0.jpg": "bb"}, ["cc", "aa"])
    Traceback (most recent call last):
    openimager.errors.BadInput: 1 of 2 test crops was trained on (a_0.jpg), so ...
    """
    seen = set(trained_on)
    leaked = sorted(name for name, digest in tested.items() if digest in seen)
    if leaked:
        some = ", ".join(leaked[:3]) + (" ..." if len(leaked) > 3 else "")
        raise BadInput(
            f"{len(leaked)} of {len(tested)} test crops {'was' if len(leaked) == 1 else 'were'} "
            f"trained on ({some}), so the accuracy measured here would be too high. Remove them "
            "from the test folder, or crop (build-dataset) and train again."
        )
