"""Install a package from a registry, with every byte verified.

``python -m openimager.install REGISTRY`` does the same on the command line. It also reads a
registry folder that was moved or is read-only, because it looks for the bytes where the registry
is now.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from openimager.errors import BadInput, TryAgain
from openimager.files import replacing
from openimager.package.bucket import bucket_of, explained
from openimager.package.objects import (
    Entry,
    bytes_hash,
    content_hash,
    import_quilt,
    in_registry,
    key,
    manifest,
    on_threads,
    pointers,
)
from openimager.registry import check

PARTS = ("data", "models")


@dataclass(frozen=True)
class Installed:
    """What an installation did: package, revision, files and bytes written, files kept as equal."""

    name: str
    top_hash: str
    files: int
    size: int
    kept: int

    def __str__(self) -> str:
        return (
            f"{self.name}, top hash {self.top_hash}: {self.files} files installed and verified "
            f"({self.size / 1e6:.1f} MB); {self.kept} were there already, byte for byte, and kept."
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

    Returns
    -------
    Installed

    Raises
    ------
    BadInput
        If there is no such registry, package, revision or part, the registry may not be read, or
        files in `dest` differ and `overwrite` is not set; nothing is written then.
    TryAgain
        If the registry does not answer, or bytes in it are not what was pushed.
    """
    parts = [parts] if isinstance(parts, str) else list(parts)
    address = check(registry, to_read=True)
    with explained(address):
        name = _only_package(address) if name is None else name
        top_hash = _revision(address, name, top_hash)
        _, entries = manifest(address, top_hash)
        wanted = {}
        for part in parts:
            inside = {p: e for p, e in entries.items() if p.startswith(f"{part.rstrip('/')}/")}
            if not inside:
                found = ", ".join(sorted({path.partition("/")[0] for path in entries}))
                raise BadInput(f"{name} has no part {part!r}. It has: {found}.")
            wanted |= inside
        targets = {path: _inside(Path(dest), path) for path in wanted}
        there = {path: target for path, target in targets.items() if target.is_file()}
        same, differ = set(), []
        for path, digest in on_threads(_hashed, there, "Comparing"):
            same.add(path) if digest == wanted[path].digest else differ.append(path)
        if differ and not overwrite:
            more = f" and {len(differ) - 3} more" if len(differ) > 3 else ""
            raise BadInput(
                f"{len(differ)} files differ from the package and were kept: "
                f"{', '.join(differ[:3])}{more}. Nothing was installed. Replace them with "
                "--overwrite (overwrite=True), or install into another folder with --dest."
            )
        missing = {path: target for path, target in targets.items() if path not in same}
        sizes = {path: wanted[path].size for path in missing}

        def fetch(path: str, target: Path, size: int) -> None:
            _fetch(wanted[path], path, target, address)

        for _ in on_threads(fetch, missing, "Installing", sizes):
            pass
    return Installed(name, top_hash, len(missing), sum(sizes.values()), len(same))


def _hashed(path: str, file: Path, size: int) -> tuple[str, str]:
    return path, content_hash(file)[0]


def _fetch(entry: Entry, path: str, target: Path, registry: str) -> None:
    """Write a file of the package, if its bytes are what was pushed."""
    from quilt3.data_transfer import get_bytes

    source = None if bucket_of(registry) else in_registry(entry.address, Path(registry))
    try:
        with replacing(target) as part:
            if source is None:
                content = get_bytes(key(entry.address))
                part.write_bytes(content)
                digest = bytes_hash(content)
            else:
                digest, _ = content_hash(source, copy_to=part)
            if digest != entry.digest:
                raise TryAgain(
                    f"{path} in {registry} is not what was pushed (at {source or entry.address}): "
                    "copy the registry again, or push the revision again."
                )
    except FileNotFoundError as error:
        raise BadInput(
            f"{registry} lacks the bytes of {path} ({error.filename}): copy the registry again, "
            "whole."
        ) from error


def _inside(dest: Path, path: str) -> Path:
    """Return where a file goes; a manifest must not name one elsewhere."""
    if ".." in PurePosixPath(path).parts or PurePosixPath(path).is_absolute() or "\\" in path:
        raise BadInput(f"The package names the file {path!r}, which is outside of it.")
    return dest.joinpath(*path.split("/"))


def _only_package(registry: str) -> str:
    names = sorted(import_quilt().list_packages(registry))
    if len(names) != 1:
        found = ", ".join(names) or "none"
        raise BadInput(f"{registry} has these packages: {found}. Choose one with --name (name=).")
    return names[0]


def _revision(registry: str, name: str, top_hash: str | None) -> str:
    """Return the whole top hash of a revision of a package."""
    from quilt3.util import QuiltException

    try:
        found = pointers(registry, name)
    except QuiltException as error:
        raise BadInput(f"{name!r} is no package name: {error}") from error
    if "latest" not in found:
        names = ", ".join(sorted(import_quilt().list_packages(registry))) or "none"
        raise BadInput(f"{registry} has no package {name}. It has: {names}.")
    if top_hash is None:
        return found["latest"]
    matching = {whole for whole in found.values() if whole.startswith(top_hash)}
    if len(top_hash) < 6 or len(matching) != 1:
        revisions = ", ".join(sorted({whole[:12] for whole in found.values()}))
        raise BadInput(f"{name} has no revision {top_hash!r}. It has: {revisions}.")
    return matching.pop()


def main(arguments: list[str] | None = None) -> int:
    """Run ``python -m openimager.install``; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m openimager.install",
        description="Install a package of photos, crops and model, and verify every byte.",
    )
    parser.add_argument("registry", help="the registry's folder, or s3://bucket")
    parser.add_argument("--dest", default=".", metavar="DIR", help="install into DIR (.)")
    parser.add_argument(
        "--part", action="append", metavar="PART",
        help="data, models or a folder in them, such as data/crops (repeatable; all)",
    )  # fmt: skip
    parser.add_argument("--name", metavar="OWNER/NAME", help="the package (the only one there)")
    parser.add_argument("--top-hash", metavar="HASH", help="the revision (the latest)")
    parser.add_argument("--overwrite", action="store_true", help="replace files that differ")
    options = parser.parse_args(arguments)
    try:
        print(
            install_package(
                options.registry, options.dest, options.part or PARTS, options.name,
                options.top_hash, options.overwrite,
            )
        )  # fmt: skip
    except (BadInput, TryAgain) as error:
        print(f"openimager: {error}", file=sys.stderr)
        return 2 if isinstance(error, BadInput) else 1
    except KeyboardInterrupt:
        print("Interrupted; the same command installs the rest.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
