"""Categories: their names and MIDs, their hierarchy, and the labels that a query wants."""

import csv
import difflib
import itertools
import json
import math
import re
import warnings
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from openimager.errors import BadInput

_MID = re.compile(r"/[a-z]/[0-9a-z_]+")


def read_classes(path: str | Path) -> dict[str, str]:
    """Return MID to name from a CSV table of both, in its order; it may have a header."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            rows = [(reader.line_num, row) for row in reader if row]
    except (OSError, UnicodeDecodeError):
        raise BadInput(f"There is no table of class names at {path}.") from None
    classes = {}
    for number, row in rows:
        if len(row) == 2 and _MID.fullmatch(row[0]):
            classes[row[0]] = row[1]
        elif number > rows[0][0] or len(row) != 2 or len(rows) == 1:
            raise BadInput(
                f"{path}, line {number}: '{','.join(row)[:60]}' is not a MID and a name, such as "
                "'/m/01yrx,Cat'."
            )
    return classes


def resolve(names: Iterable[str], classes: Mapping[str, str]) -> dict[str, str]:
    """Return MID to name for categories, in the order given, without duplicates.

    Names are matched without regard to case and surrounding space; MIDs are allowed. BadInput if a
    name is unknown, with the nearest ones.

    >>> classes = {"/m/01yrx": "Cat", "/m/0bt9lr": "Dog", "/m/0633h": "Polar bear"}
    >>> resolve([" cat", "/m/0bt9lr"], classes)
    {'/m/01yrx': 'Cat', '/m/0bt9lr': 'Dog'}
    >>> resolve(["Polar", "bear"], classes)
    Traceback (most recent call last):
    openimager.errors.BadInput: 'Polar bear' is one category: put it in quotes.
    >>> resolve(["bear"], classes)
    Traceback (most recent call last):
    openimager.errors.BadInput: Unknown category 'bear'. Did you mean 'Polar bear'?
    """
    names = [str(name).strip() for name in names]
    mids = {name.casefold(): mid for mid, name in classes.items()} | {mid: mid for mid in classes}
    unknown = [name for name in names if name.casefold() not in mids]
    if not unknown:
        return {mid: classes[mid] for mid in (mids[name.casefold()] for name in names)}
    for start, stop in itertools.combinations(range(len(names) + 1), 2):
        joined = mids.get(" ".join(names[start:stop]).casefold())
        if joined and stop - start > 1:
            raise BadInput(f"'{classes[joined]}' is one category: put it in quotes.")
    for name in unknown:
        parts = [part.strip() for part in name.split(",")]
        if all(part.casefold() in mids for part in parts):
            few = " ".join(f'"{part}"' if " " in part else part for part in parts)
            raise BadInput(f"'{name}' names several categories; separate them by spaces: {few}")
    lines = (f"Unknown category '{name}'. {_suggestion(name, classes)}" for name in unknown)
    raise BadInput("\n".join(lines))


def _suggestion(name: str, classes: Mapping[str, str]) -> str:
    """Name up to three categories that resemble `name`, the nearest first."""
    by_fold, fold = {known.casefold(): known for known in classes.values()}, name.casefold()
    close = difflib.get_close_matches(fold, by_fold, n=3)
    holding = sorted((known for known in by_fold if fold and fold in known), key=len)
    near = [repr(by_fold[known]) for known in dict.fromkeys(close + holding)][:3]
    if not near:
        return f"None of the {len(classes)} resembles it; --list shows them all."
    return f"Did you mean {' or '.join(near)}?"


class Hierarchy:
    """Which category is a kind of which, and which is a part of which.

    A graph and not a tree: 190 of the 601 categories of Open Images have more than one place.

    >>> graph = Hierarchy({"LabelName": "/m/0bl9f", "Subcategory": [
    ...     {"LabelName": "/m/0l515", "Subcategory": [{"LabelName": "/m/0cdn1"}]}]})
    >>> graph.children("/m/0l515"), graph.descendants("/m/0bl9f")
    (('/m/0cdn1',), {'/m/0l515': 1, '/m/0cdn1': 2})
    """

    def __init__(self, tree: Mapping):
        self.root: str = tree["LabelName"]  # "/m/0bl9f" (Entity)
        # Of dicts, not sets: they keep the order of the file, so that what is printed is stable.
        self._below = {"Subcategory": defaultdict(dict), "Part": defaultdict(dict)}
        waiting = [tree]
        for node in waiting:
            for key, edges in self._below.items():
                for below in node.get(key, ()):
                    edges[node["LabelName"]][below["LabelName"]] = None
                    waiting.append(below)

    def children(self, mid: str) -> tuple[str, ...]:
        """Return the direct kinds of a category, such as Hamburger for Sandwich."""
        return tuple(self._below["Subcategory"].get(mid, ()))

    def parts(self, mid: str) -> tuple[str, ...]:
        """Return the parts of a category, such as Human body for Person; they are no kinds."""
        return tuple(self._below["Part"].get(mid, ()))

    def parents(self, mid: str) -> tuple[str, ...]:
        """Return the categories that this one is a direct kind of."""
        return tuple(one for one, below in self._below["Subcategory"].items() if mid in below)

    def descendants(self, mid: str) -> dict[str, int]:
        """Return the kinds of a category, at any depth, with the least steps to each; no parts."""
        steps = {mid: 0}
        waiting = [mid]
        for above in waiting:
            new = [below for below in self.children(above) if below not in steps]
            steps |= dict.fromkeys(new, steps[above] + 1)
            waiting += new
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

    A category asked for by name keeps its own boxes. With `with_children`, a subcategory of several
    of them counts for the nearest. BadInput if a category is unknown, merged twice, or both wanted
    and excluded, or if the name of a merged category is taken.

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
    own = [name for mid, name in asked.items() if mid not in renamed]
    for one, other in itertools.combinations([*dict.fromkeys(renamed.values()), *own], 2):
        if one in renamed.values() and one.casefold() == other.casefold():
            raise BadInput(
                f"Two categories, '{one}' and '{other}', would have one name, or names that differ "
                "only in case; rename the merged one."
            )
    excluded, category = {*resolve(without, classes)}, dict(asked)
    kinds = {mid: hierarchy.descendants(mid) for mid in (*asked, *excluded)} if hierarchy else {}
    for above, below in itertools.permutations(asked, 2):
        if below in kinds.get(above, ()) and asked[above] != asked[below]:
            warnings.warn(
                f"'{classes[below]}' is a kind of '{classes[above]}' in Open Images. Boxes of "
                f"'{classes[below]}' count under '{classes[below]}' alone, and a photo with boxes "
                f"of one may well show the other without a box; consider '{classes[above]}' alone "
                "with --with-children.",
                stacklevel=4,
            )
    if with_children:
        steps = dict.fromkeys(asked, 0)
        for mid, name in asked.items():
            for kind, n in kinds[mid].items():
                if n < steps.get(kind, math.inf):
                    steps[kind], category[kind] = n, name
        excluded.update(*(kinds[mid] for mid in excluded))
    if both := [classes[mid] for mid in asked if mid in excluded]:
        raise BadInput(f"'{both[0]}' is both wanted and excluded (--without); leave one out.")
    names = tuple(dict.fromkeys(asked.values()))
    return Labels(names, category, tuple(excluded), tuple(found.values()))
