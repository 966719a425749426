"""Categories: their names and MIDs, their hierarchy, and the labels that a query wants."""

import csv
import difflib
import json
import re
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from openimager.errors import BadInput

_MID = re.compile(r"/[a-z]/[0-9a-z_]+")
_FOLDER = re.compile(r"(?!\.)[\w .&'()+,-]{1,60}(?<![ .])")


def read_classes(path: str | Path) -> dict[str, str]:
    """Return MID to name, in the order of a CSV table of these two; a header is allowed.

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
    classes = {}
    for number, row in enumerate(rows, start=1):
        if len(row) == 2 and _MID.fullmatch(row[0]):
            classes[row[0]] = row[1]
        elif number > 1 or len(row) != 2 or len(rows) == 1:
            raise BadInput(
                f"{path}, line {number}: '{','.join(row)[:60]}' is not a MID and a name, such as "
                "'/m/01yrx,Cat'."
            )
    return classes


def resolve(names: Iterable[str], classes: Mapping[str, str]) -> dict[str, str]:
    """Return MID to name for categories, in the order given, without duplicates.

    Names are matched without regard to case and surrounding space; MIDs are allowed.

    Raises
    ------
    BadInput
        If a name is unknown; the message has the nearest ones.

    Examples
    --------
    >>> classes = {"/m/01yrx": "Cat", "/m/0bt9lr": "Dog", "/m/0633h": "Polar bear"}
    >>> resolve([" cat", "/m/0bt9lr"], classes)
    {'/m/01yrx': 'Cat', '/m/0bt9lr': 'Dog'}
    >>> resolve(["Polar", "bear"], classes)
    Traceback (most recent call last):
    openimager.errors.BadInput: 'Polar bear' is one category: put it in quotes.
    """
    names = [str(name) for name in names]
    by_name = {name.casefold(): mid for mid, name in classes.items()}
    found, unknown = {}, []
    for name in names:
        wanted = name.strip()
        mid = wanted if wanted in classes else by_name.get(wanted.casefold())
        if mid is None:
            unknown.append(f"Unknown category '{name}'. {_suggestion(wanted, classes)}")
        else:
            found[mid] = classes[mid]
    if unknown:
        raise BadInput(_missing_quotes(names, by_name, classes) or "\n".join(unknown))
    return found


def _missing_quotes(names: Sequence[str], by_name, classes) -> str:
    """Explain names of several words given without quotes, and names joined by commas."""
    for start in range(len(names)):
        for stop in range(start + 2, min(start + 5, len(names)) + 1):
            if mid := by_name.get(" ".join(names[start:stop]).casefold()):
                return f"'{classes[mid]}' is one category: put it in quotes."
    for name in names:
        parts = [part.strip() for part in name.split(",")]
        if len(parts) > 1 and all(p.casefold() in by_name or p in classes for p in parts):
            return f"'{name}' names several categories; separate them by spaces: {' '.join(parts)}"
    return ""


def search(text: str, classes: Mapping[str, str]) -> dict[str, str]:
    """Return the categories whose name contains `text`, or whose MID it is, sorted by name.

    Examples
    --------
    >>> search("SAND", {"/m/0l515": "Sandwich", "/m/01yrx": "Cat"})
    {'/m/0l515': 'Sandwich'}
    """
    text = text.strip().casefold()
    hits = [(name, mid) for mid, name in classes.items() if text in name.casefold() or text == mid]
    return {mid: name for name, mid in sorted(hits)}


def _suggestion(name: str, classes: Mapping[str, str]) -> str:
    """Name up to three categories that resemble `name`, the nearest first.

    >>> _suggestion("burger", {"/m/0cdn1": "Hamburger", "/m/01yrx": "Cat"})
    "Did you mean 'Hamburger'?"
    """
    by_fold = {known.casefold(): known for known in classes.values()}
    fold = name.strip().casefold()
    close = difflib.get_close_matches(fold, by_fold, n=3)
    holding = sorted((known for known in by_fold if fold and fold in known), key=len)
    near = [repr(by_fold[known]) for known in dict.fromkeys(close + holding)][:3]
    if not near:
        return f"None of the {len(classes)} resembles it; --list shows them all."
    return f"Did you mean {' or '.join(near)}?"


class Hierarchy:
    """Which category is a kind of which, and which is a part of which.

    A graph and not a tree: 190 of the 601 categories of Open Images have more than one place.
    `root` is the LabelName at the top, ``"/m/0bl9f"`` (Entity).

    >>> graph = Hierarchy({"LabelName": "/m/0bl9f", "Subcategory": [
    ...     {"LabelName": "/m/0l515", "Subcategory": [{"LabelName": "/m/0cdn1"}]}]})
    >>> graph.children("/m/0l515"), graph.descendants("/m/0bl9f")
    (('/m/0cdn1',), {'/m/0l515': 1, '/m/0cdn1': 2})
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

        Parts are never followed: a human nose is not a person.
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
    """Read the hierarchy of categories; BadInput if the file is missing or holds none."""
    try:
        return Hierarchy(json.loads(Path(path).read_text(encoding="utf-8")))
    except OSError:
        raise BadInput(f"There is no hierarchy of categories at {path}.") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BadInput(f"{path} is not a hierarchy in the form of Open Images.") from None


class Labels(NamedTuple):
    """The labels of boxes that a query wants."""

    names: tuple[str, ...]  # the categories of the result, in the order given
    category: dict[str, str]  # LabelName to the category that it counts as
    without: tuple[str, ...]  # LabelNames whose photos are left out
    given: tuple[str, ...]  # the names asked for, as the class table writes them


def labels(
    names: Sequence[str],
    classes: Mapping[str, str],
    hierarchy: Hierarchy | None = None,
    with_children: bool = False,
    without: Collection[str] = (),
    merge: Sequence[tuple[str, Sequence[str]]] = (),
) -> Labels:
    """Find the labels of the categories of a query.

    What is asked for by name stays what it is; a kind of several goes to the nearest.

    Raises
    ------
    BadInput
        If a category is unknown, merged twice, or both wanted and excluded; if no category is
        given, or a merged one can't have its name.

    Examples
    --------
    >>> classes = {"/m/01yrx": "Cat", "/m/0bt9lr": "Dog", "/m/01g317": "Person"}
    >>> found = labels(["cat"], classes, without=["person"], merge=[("Pet", ["Cat", "Dog"])])
    >>> found.category, found.given
    ({'/m/01yrx': 'Pet', '/m/0bt9lr': 'Pet'}, ('Cat',))
    """
    renamed: dict[str, str] = {}
    for name, members in merge:
        for mid, member in resolve(members, classes).items():
            if mid in renamed:
                raise BadInput(f"'{member}' is merged twice: into '{renamed[mid]}' and '{name}'.")
            renamed[mid] = name
    merged = {name.casefold() for name, _ in merge} - {n.casefold() for n in classes.values()}
    found = resolve([n for n in names if n.strip().casefold() not in merged], classes)
    asked = {mid: renamed.get(mid, name) for mid, name in found.items()} | renamed
    if not asked:
        raise BadInput("No category was given. Name at least one, such as: openimager Cat")
    for name in {*renamed.values()}:
        _check_name(name, [other for other in {*asked.values()} if other != name])
    if both := {*renamed.values()}.intersection(
        n for mid, n in asked.items() if mid not in renamed
    ):
        raise BadInput(
            f"'{min(both)}' is merged, but also wanted by itself; rename the merged one."
        )
    excluded = dict.fromkeys(resolve(without, classes))
    category = dict(asked)
    if hierarchy:
        _warn_of_kinds(asked, hierarchy, classes, with_children)
        if with_children:
            for mid in [*excluded]:
                excluded |= dict.fromkeys(hierarchy.descendants(mid))
            category = _with_kinds(asked, hierarchy)
    if both := [classes[mid] for mid in asked if mid in excluded]:
        raise BadInput(f"'{both[0]}' is both wanted and excluded (--without); leave one out.")
    return Labels(
        tuple(dict.fromkeys(asked.values())), category, tuple(excluded), tuple(found.values())
    )


def _check_name(name: str, others: Iterable[str]) -> None:
    if not _FOLDER.fullmatch(name):
        raise BadInput(
            f"'{name}' can't be the name of a folder: letters, digits, spaces and .&'()+,- are "
            "allowed, at most 60, and no dot or space at either end."
        )
    if same := [other for other in others if other.casefold() == name.casefold()]:
        raise BadInput(f"'{name}' and '{same[0]}' differ only in case; rename the merged one.")


def _with_kinds(asked: Mapping[str, str], hierarchy: Hierarchy) -> dict[str, str]:
    nearest_asked = {mid: (0, name) for mid, name in asked.items()}
    for mid, name in asked.items():
        for kind, steps in hierarchy.descendants(mid).items():
            if kind not in nearest_asked or steps < nearest_asked[kind][0]:
                nearest_asked[kind] = (steps, name)
    return {kind: name for kind, (_, name) in nearest_asked.items()}


def _warn_of_kinds(asked, hierarchy: Hierarchy, classes, with_children: bool) -> None:
    pairs = [(m, k) for m in asked for k in asked if k in hierarchy.descendants(m)]
    for above, below in pairs:
        if asked[above] == asked[below]:
            continue
        above, below = classes[above], classes[below]
        end = (
            f"Boxes of '{below}' count under '{below}' alone."
            if with_children
            else f"A photo of one may well hold an unmarked other; consider '{above}' alone with "
            "--with-children."
        )
        warnings.warn(f"'{below}' is a kind of '{above}' in Open Images. {end}", stacklevel=5)
