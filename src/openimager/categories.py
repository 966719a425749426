"""Names, MIDs and the hierarchy of the 601 boxable categories."""

import csv
import difflib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from openimager.errors import BadInput

_MID = re.compile(r"/[a-z]/[0-9a-z_]+")


def read_classes(path: str | Path) -> dict[str, str]:
    """Read the table of class descriptions.

    Parameters
    ----------
    path : path-like
        CSV without a header; a row is MID, name.

    Returns
    -------
    dict
        MID to name, such as ``{"/m/01yrx": "Cat"}``, in the order of the table.

    Raises
    ------
    BadInput
        If the file is missing, or its rows are not MID and name.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            rows = [row for row in csv.reader(stream) if row]
    except (OSError, UnicodeDecodeError):
        raise BadInput(f"There is no table of class names at {path}.") from None
    for number, row in enumerate(rows, start=1):
        if len(row) != 2 or not _MID.fullmatch(row[0]):
            raise BadInput(
                f"{path}, line {number}: '{','.join(row)[:60]}' is not a MID and a name, such as "
                "'/m/01yrx,Cat'."
            )
    return dict(rows)


def resolve(names: Iterable[str], classes: Mapping[str, str]) -> dict[str, str]:
    """Find the MID of each asked category.

    Parameters
    ----------
    names : iterable of str
        Names, matched without regard to case and surrounding space, or MIDs.
    classes : mapping
        MID to name, as `read_classes` returns it.

    Returns
    -------
    dict
        MID to name for each asked category, in the order asked; one asked twice stands once.

    Raises
    ------
    BadInput
        If a name is unknown (the message has the nearest ones) or none was given.

    Examples
    --------
    >>> classes = {"/m/01yrx": "Cat", "/m/0bt9lr": "Dog"}
    >>> resolve([" cat", "/m/0bt9lr"], classes)
    {'/m/01yrx': 'Cat', '/m/0bt9lr': 'Dog'}
    >>> resolve(["Catt"], classes)
    Traceback (most recent call last):
    openimager.errors.BadInput: Unknown category 'Catt'. Did you mean 'Cat'?
    """
    names = [names] if isinstance(names, str) else list(names)
    if not names:
        raise BadInput("No category was given. Name at least one, such as 'Cat'.")
    by_name = {name.casefold(): mid for mid, name in classes.items()}
    found, unknown = {}, []
    for name in names:
        wanted = str(name).strip()
        mid = wanted if wanted in classes else by_name.get(wanted.casefold())
        if mid is None:
            unknown.append(f"Unknown category '{name}'. {_suggestion(wanted, classes)}")
        else:
            found[mid] = classes[mid]
    if unknown:
        raise BadInput("\n".join(unknown))
    return found


def search(text: str, classes: Mapping[str, str]) -> dict[str, str]:
    """Return the categories whose name holds `text`, or whose MID it is, sorted by name.

    Examples
    --------
    >>> search("SAND", {"/m/0l515": "Sandwich", "/m/01yrx": "Cat"})
    {'/m/0l515': 'Sandwich'}
    """
    text = text.strip().casefold()
    hits = [(name, mid) for mid, name in classes.items() if text in name.casefold() or text == mid]
    return {mid: name for name, mid in sorted(hits)}


def nearest(name: str, classes: Mapping[str, str]) -> list[str]:
    """Return up to three names that resemble `name`, the nearest first.

    Examples
    --------
    >>> nearest("hamburgr", {"/m/0cdn1": "Hamburger", "/m/01yrx": "Cat"})
    ['Hamburger']
    >>> nearest("burger", {"/m/0cdn1": "Hamburger", "/m/01yrx": "Cat"})
    ['Hamburger']
    """
    by_fold = {known.casefold(): known for known in classes.values()}
    fold = name.strip().casefold()
    close = difflib.get_close_matches(fold, by_fold, n=3)
    holding = sorted((known for known in by_fold if fold and fold in known), key=len)
    return [by_fold[known] for known in dict.fromkeys(close + holding)][:3]


def _suggestion(name: str, classes: Mapping[str, str]) -> str:
    near = nearest(name, classes)
    if not near:
        return f"None of the {len(classes)} resembles it; --list shows them all."
    return f"Did you mean {' or '.join(repr(known) for known in near)}?"


class Hierarchy:
    """Which category is a kind of which, and which is a part of which.

    A graph and not a tree: 190 of the 601 categories of Open Images V4 stand at more than one
    place.

    Attributes
    ----------
    root : str
        The LabelName at the top, ``"/m/0bl9f"`` (Entity) in Open Images.

    Examples
    --------
    >>> tree = {"LabelName": "/m/0bl9f", "Subcategory": [
    ...     {"LabelName": "/m/0l515", "Subcategory": [{"LabelName": "/m/0cdn1"}]}]}
    >>> graph = Hierarchy(tree)
    >>> graph.children("/m/0l515")
    ('/m/0cdn1',)
    >>> graph.descendants("/m/0bl9f")
    {'/m/0l515': 1, '/m/0cdn1': 2}
    """

    def __init__(self, tree: Mapping):
        self.root: str = tree["LabelName"]
        # Dicts, not sets: they keep the order of the file, so that what is printed is stable.
        self._children: dict[str, dict[str, None]] = {}
        self._parts: dict[str, dict[str, None]] = {}
        waiting = [tree]
        while waiting:
            node = waiting.pop()
            for key, edges in (("Subcategory", self._children), ("Part", self._parts)):
                for below in node.get(key, ()):
                    edges.setdefault(node["LabelName"], {})[below["LabelName"]] = None
                    waiting.append(below)

    def children(self, mid: str) -> tuple[str, ...]:
        """Return the direct kinds of a category, such as Hamburger for Sandwich."""
        return tuple(self._children.get(mid, ()))

    def parts(self, mid: str) -> tuple[str, ...]:
        """Return the parts of a category, such as Human body for Person; they are no kinds."""
        return tuple(self._parts.get(mid, ()))

    def parents(self, mid: str) -> tuple[str, ...]:
        """Return the categories that this one is a direct kind of."""
        return tuple(above for above, below in self._children.items() if mid in below)

    def descendants(self, mid: str) -> dict[str, int]:
        """Return the kinds of a category, kinds of kinds and so on, with the least steps to each.

        Parts are never followed: a human nose is no person.
        """
        steps = {mid: 0}
        waiting = [mid]
        for above in waiting:
            for below in self.children(above):
                if below not in steps:
                    steps[below] = steps[above] + 1
                    waiting.append(below)
        del steps[mid]
        return steps


def read_hierarchy(path: str | Path) -> Hierarchy:
    """Read the hierarchy of categories.

    Raises
    ------
    BadInput
        If the file is missing or holds no hierarchy.
    """
    try:
        return Hierarchy(json.loads(Path(path).read_text(encoding="utf-8")))
    except OSError:
        raise BadInput(f"There is no hierarchy of categories at {path}.") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BadInput(
            f"{path} is no hierarchy of categories in the form of Open Images."
        ) from None


def kinds_within(mids: Iterable[str], hierarchy: Hierarchy) -> list[tuple[str, str]]:
    """Return (category, kind of it) for those of `mids` of which one is a kind of the other.

    Examples
    --------
    >>> graph = Hierarchy({"LabelName": "/m/0l515", "Subcategory": [{"LabelName": "/m/0cdn1"}]})
    >>> kinds_within(["/m/0cdn1", "/m/0l515", "/m/01yrx"], graph)
    [('/m/0l515', '/m/0cdn1')]
    """
    mids = list(mids)
    return [(mid, kind) for mid in mids for kind in mids if kind in hierarchy.descendants(mid)]
