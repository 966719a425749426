"""A Quilt registry, in a folder or in S3: pushing, history, and moving the folder.

quilt3 pushes to S3 only; a package that it builds in a folder refers to the working files. So the
bytes are copied into the registry first, under the hash of their content: whoever can read the
registry can install from it, and an old revision stays whole when the working files change::

    objects/<2 hex>/<64 hex><suffix>    the bytes, each content once
    .quilt/packages/<top hash>          a manifest: one line per file
    .quilt/named_packages/...           which revisions a package has, and the latest
    .quilt/workflows/                   what a revision must say about itself

``python -m openimager.registry DIRECTORY`` corrects the addresses in a folder that was moved.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from openimager.bucket import explained
from openimager.errors import BadInput, exit_status
from openimager.files import write
from openimager.package.objects import ADDRESS, HASH, Registry
from openimager.package.workflow import WORKFLOW, checked_package, write_workflow


class Pushed(NamedTuple):
    """What a push did: the revision, whether it is new, its files, and what was copied."""

    top_hash: str
    new: bool
    files: int
    copied_files: int
    copied_size: int


def push(
    files: Mapping[str, str | os.PathLike],
    name: str,
    registry: str | os.PathLike,
    metadata: dict,
    message: str,
) -> Pushed:
    """Copy files into a registry and add them to it as a package's new latest revision.

    What is in the registry already is neither copied nor changed, and the revision is only added
    if it differs from the latest in a file or in `metadata`.

    Parameters
    ----------
    files, metadata : mapping and dict
        The file on this machine for each path in the package, and what the package says about
        itself: what `collect` and `describe` of `openimager.package.contents` return.
    name, message : str
        ``owner/package``, and why there is a new revision.
    registry : path-like
        A folder (made if missing; ``file://`` works too) or ``s3://bucket``.

    Raises
    ------
    BadInput
        If the registry cannot be used or written, or if the Quilt workflow in it refuses the
        package: categories, licence or metrics are not in `metadata`, or there is no message.
    TryAgain
        If S3 does not answer, or the disk is full.
    """
    place = Registry(registry)
    with explained(place.address):
        write_workflow(place)
        package = checked_package(metadata, name, place, message)
        latest = place.revisions(name).get("latest")
        header, before = place.manifest(latest) if latest else ({}, {})
        known = place.objects()
        entries = place.store(files, known)
        # The metadata in a manifest went through JSON, so what is compared does too.
        new = (before, header.get("user_meta")) != (entries, json.loads(json.dumps(metadata)))
        top_hash = _build(package, entries, name, place, message) if new else latest
    # By name: two files of one content are one object.
    copied = {e.name: e.size for e in entries.values() if known.get(e.name) != e.size}
    return Pushed(top_hash, new, len(entries), len(copied), sum(copied.values()))


def _build(package, entries: dict, name: str, place: Registry, message: str) -> str:
    """Add a revision of what is stored; return its top hash."""
    from quilt3.packages import PackageEntry

    for path, entry in entries.items():
        digest = {"type": HASH, "value": entry.digest}
        package.set(path, PackageEntry(place.key.join(entry.name), entry.size, digest, None))
    # quilt names a revision by its time in seconds: another in the same second would hide it.
    while str(int(time.time())) in place.revisions(name):
        time.sleep(0.05)
    return package.build(name, place.address, message, workflow=WORKFLOW)


def revisions(name: str, registry: str | os.PathLike):
    """Return the history of a package, oldest first, as a pandas frame.

    Columns: Pushed (UTC), TopHash, Files, Bytes, Message, Latest.
    """
    import pandas as pd

    place = Registry(registry)
    with explained(place.address):
        found = place.revisions(name)
        latest = found.pop("latest", None)
        rows = []
        for second, top_hash in sorted(found.items()):
            header, entries = place.manifest(top_hash)
            pushed = pd.Timestamp(int(second), unit="s", tz="UTC")
            size = sum(entry.size for entry in entries.values())
            now = top_hash == latest
            rows.append((pushed, top_hash, len(entries), size, header.get("message"), now))
    return pd.DataFrame(rows, columns=["Pushed", "TopHash", "Files", "Bytes", "Message", "Latest"])


def check(registry: str | os.PathLike) -> str:
    """Return a registry's address for quilt3; BadInput or TryAgain, within seconds, if it fails."""
    return Registry(registry).address


def repoint(directory: str | os.PathLike) -> int:
    """Make the manifests of a registry folder point at where the folder is now.

    Top hashes stay: the addresses of a manifest's files are not part of what is hashed. Returns
    how many files were rewritten, 0 when the addresses were right already. Raises BadInput if the
    folder is no registry or cannot be written, or bytes that a manifest names are not in it.
    """
    place = Registry(directory)
    folder = Path(place.address)
    manifests = sorted(p for p in (folder / ".quilt" / "packages").glob("*") if p.is_file())
    if not manifests:
        raise BadInput(f"{folder} is no registry: it has no manifests in .quilt/packages.")
    there, changed = place.objects(), {}

    def current(address) -> str:
        if (name := unquote(address[1])) not in there:
            raise BadInput(f"{folder / name} is missing. Copy the registry again, whole.")
        return f"{place.key}/{address[1]}"

    for path in manifests:
        before = path.read_text(encoding="utf-8")
        if (after := ADDRESS.sub(current, before)) != before:
            changed[path] = after
    # Only now, when every manifest is known to be whole: all are re-pointed or none.
    with explained(place.address):
        for path, text in changed.items():
            write(path, text.encode("utf-8"))
        return len(changed) + write_workflow(place)


def main(arguments: list[str] | None = None) -> int:
    """Run ``python -m openimager.registry``; return the exit status."""
    about = "Correct the file addresses in a Quilt registry folder that was moved."
    parser = argparse.ArgumentParser(prog="python -m openimager.registry", description=about)
    parser.add_argument("directory", help="the registry folder, where it is now")
    folder = parser.parse_args(arguments).directory
    done = "manifests and settings re-pointed; no top hash changed."
    return exit_status(lambda: print(repoint(folder), done))


if __name__ == "__main__":
    sys.exit(main())
