"""Install a package from a registry, with every byte verified.

The bytes are read from where the registry is now, so it may be a folder that was moved or that is
read-only.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from openimager import files
from openimager.bucket import explained
from openimager.errors import BadInput, TryAgain, exit_status, first_of
from openimager.package.objects import Entry, Registry, content_hash, import_quilt, on_threads

PARTS = ("data", "models")


class Installed(NamedTuple):
    """What an installation did: package, revision, files and bytes written, files kept as equal."""

    name: str
    top_hash: str
    files: int
    size: int
    kept: int

    def __str__(self) -> str:
        return (
            f"{self.name}, top hash {self.top_hash}: files installed and verified: {self.files} "
            f"({self.size / 1e6:.1f} MB); already there byte for byte and kept: {self.kept}."
        )


def install_package(
    registry: str | os.PathLike,
    dest: str | os.PathLike = ".",
    parts: str | Sequence[str] = PARTS,
    name: str | None = None,
    top_hash: str | None = None,
    overwrite: bool = False,
) -> Installed:
    """Install a package into a folder, and verify every byte.

    Parameters
    ----------
    registry : path-like
        The registry: a folder or ``s3://bucket``.
    dest : path-like
        The folder that gets ``data/`` and ``models/``.
    parts : str or sequence of str
        ``"data"``, ``"models"`` or both; or a deeper folder, such as ``"data/crops"``.
    name : str, optional
        ``owner/package``; needed where the registry has more than one.
    top_hash : str, optional
        The revision, at least its first 6 digits; by default the latest.
    overwrite : bool
        Replace files that differ from the package's.

    Raises
    ------
    BadInput
        If there is no such registry, package, revision or part, the registry may not be read, or
        files in `dest` differ and `overwrite` is not set; nothing is written then. Also if the
        registry lacks the bytes of a file.
    TryAgain
        If the registry does not answer, or bytes in it are not what was pushed.
    """
    place = Registry(registry, must_exist=True)
    with explained(place.address):
        name, top_hash = _revision(place, name, top_hash)
        wanted = _wanted(place.manifest(top_hash)[1], name, parts)

        def is_same(path: str) -> bool:
            return content_hash(Path(dest, path).read_bytes()) == wanted[path].digest

        def fetch(path: str) -> None:
            files.write(Path(dest, path), _content(place, path, wanted[path]))

        sizes = {path: entry.size for path, entry in wanted.items()}
        there = {path: sizes[path] for path in sorted(wanted) if Path(dest, path).is_file()}
        same = on_threads(is_same, there, "Comparing")
        if (differ := [path for path in there if not same[path]]) and not overwrite:
            raise BadInput(
                f"These files differ from the package and were kept: {first_of(differ)}. Nothing "
                "was installed. Replace them with --overwrite (overwrite=True), or install into "
                "another folder with --dest."
            )
        missing = {path: size for path, size in sizes.items() if not same.get(path)}
        on_threads(fetch, missing, "Installing")
    size = sum(missing.values())
    return Installed(name, top_hash, len(missing), size, len(wanted) - len(missing))


def _revision(place: Registry, name: str | None, top_hash: str | None) -> tuple[str, str]:
    """Return the name of the package and the whole top hash of its revision."""
    names = sorted(import_quilt().list_packages(place.address))
    if name is None and len(names) == 1:
        name = names[0]
    if name not in names:
        found = ", ".join(names) or "none"
        which = "Choose one with --name (name=)." if name is None else f"None is named {name!r}."
        raise BadInput(f"{place.address} has these packages: {found}. {which}")
    found = place.revisions(name)
    given = found["latest"] if top_hash is None else top_hash
    matching = {whole for whole in found.values() if whole.startswith(given)}
    if len(given) < 6 or len(matching) != 1:
        revisions = ", ".join(sorted({whole[:12] for whole in found.values()}))
        raise BadInput(f"{name} has no revision {given!r}. It has: {revisions}.")
    return name, matching.pop()


def _wanted(entries: dict, name: str, parts: str | Sequence[str]) -> dict:
    """Return the entries of some parts; a manifest must not name a file elsewhere."""
    wanted = {}
    for part in [parts] if isinstance(parts, str) else parts:
        inside = {p: e for p, e in entries.items() if p.startswith(f"{part.rstrip('/')}/")}
        if not inside:
            found = ", ".join(sorted({path.partition("/")[0] for path in entries}))
            raise BadInput(f"{name} has no part {part!r}. It has: {found}.")
        wanted |= inside
    for path in wanted:
        if {"..", "/"} & {*PurePosixPath(path).parts} or "\\" in path:
            raise BadInput(f"The package names the file {path!r}, which is outside of it.")
    return wanted


def _content(place: Registry, path: str, entry: Entry) -> bytes:
    """Return the bytes of a file of the package, verified."""
    content = place.read(entry.name) if entry.name else None
    if content is None:
        raise BadInput(f"{place.address} lacks the bytes of {path}: copy the registry again.")
    if content_hash(content) != entry.digest:
        raise TryAgain(
            f"{path} in {place.address} is not what was pushed (see {entry.name}): copy the "
            "registry again, or push the revision again."
        )
    return content


def main(arguments: list[str] | None = None) -> int:
    """Run ``python -m openimager.install``; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m openimager.install",
        description="Install a package of photos, crops and model, and verify every byte.",
    )
    add = parser.add_argument
    add("registry", help="the registry's folder, or s3://bucket")
    add("--dest", default=".", metavar="DIR", help="install into DIR (default: .)")
    part = "data, models or a folder in them, such as data/crops; repeatable (default: all)"
    add("--part", dest="parts", action="append", metavar="PART", help=part)
    add("--name", metavar="OWNER/NAME", help="the package (default: the only one there)")
    add("--top-hash", metavar="HASH", help="top hash of the revision (default: the latest)")
    add("--overwrite", action="store_true", help="replace files that differ")
    options = vars(parser.parse_args(arguments))
    options["parts"] = options["parts"] or PARTS
    return exit_status(lambda: print(install_package(**options)))


if __name__ == "__main__":
    sys.exit(main())
