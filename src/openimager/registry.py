"""A Quilt registry, in a folder or in S3: pushing, history, and moving the folder.

quilt3 pushes to S3 only, and what it builds in a folder refers to the files where they happen to
be. Here the bytes are copied into the registry first, under the hash of their content, so that
everybody who can read the folder can install from it, and an old revision stays whole when the
working files change.

A registry in a folder looks like this (`.quilt` is quilt3's own layout)::

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
from dataclasses import dataclass
from pathlib import Path

from openimager.errors import BadInput, TryAgain
from openimager.package.bucket import bucket_of, check_bucket, explained
from openimager.package.objects import (
    HASH,
    import_quilt,
    in_registry,
    key,
    manifest,
    pointers,
    store_in_bucket,
    store_in_folder,
    write,
)
from openimager.package.workflow import WORKFLOW, check_metadata, write_workflow


@dataclass(frozen=True)
class Pushed:
    """What a push did: the revision, whether it is new, files and bytes, and those copied."""

    top_hash: str
    new: bool
    files: int
    size: int
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
    files : mapping
        The file on this machine for each path in the package, such as
        ``{"data/crops.csv": "../data/crops.csv"}``; `openimager.package.contents.collect` makes it.
    name : str
        ``owner/package``.
    registry : path-like
        A folder (made if missing; ``file://`` works too) or ``s3://bucket``, a versioned one.
    metadata : dict
        What the package says about itself, from `openimager.package.contents.describe`.
    message : str
        Why there is a new revision.

    Returns
    -------
    Pushed

    Raises
    ------
    BadInput
        If the registry cannot be used or written, or the metadata lacks something required.
    TryAgain
        If S3 does not answer, or a file changed while it was copied.
    """
    registry = check(registry)
    with explained(registry):
        write_workflow(registry)
        check_metadata(metadata, name, registry, message)
        revisions = pointers(registry, name)
        latest = revisions.get("latest")
        header, before = manifest(registry, latest) if latest else ({}, {})
        if bucket_of(registry):
            found = [manifest(registry, top_hash)[1] for top_hash in {*revisions.values()}]
            known = {entry.digest: entry.address for rows in found for entry in rows.values()}
            stored = [*store_in_bucket(files, f"{registry}/{name}", known)]
        else:
            stored = [*store_in_folder(files, registry)]
        # By address: two files of one content are one object.
        copied = {each.entry.address: each.entry.size for each in stored if each.copied}
        # The metadata in a manifest went through JSON, so what is compared does too.
        new = header.get("user_meta") != json.loads(json.dumps(metadata)) or {
            path: entry[1:] for path, entry in before.items()
        } != {each.path: each.entry[1:] for each in stored}
        top_hash = _build(stored, name, registry, metadata, message) if new else latest
    size = sum(each.entry.size for each in stored)
    return Pushed(top_hash, new, len(stored), size, len(copied), sum(copied.values()))


def _build(stored, name: str, registry: str, metadata: dict, message: str) -> str:
    """Add a revision of what is stored; return its top hash."""
    package = import_quilt().Package().set_meta(metadata)
    from quilt3.packages import PackageEntry
    from quilt3.util import PhysicalKey

    folder = None if bucket_of(registry) else Path(key(registry).path)
    for path, entry, _ in stored:
        # from_url would look up each part of each path on the disk.
        address = (
            PhysicalKey(None, in_registry(entry.address, folder).as_posix(), None)
            if folder
            else PhysicalKey.from_url(entry.address)
        )
        digest = {"type": HASH, "value": entry.digest}
        package.set(path, PackageEntry(address, entry.size, digest, None))
    # quilt names revisions by the second: a second one within it would hide the first.
    while str(int(time.time())) in pointers(registry, name):
        time.sleep(0.05)
    return package.build(name, registry, message, workflow=WORKFLOW)


def revisions(name: str, registry: str | os.PathLike):
    """Return the history of a package, oldest first, as a pandas frame.

    Columns: Pushed (UTC), TopHash, Files, Bytes, Message, Latest.
    """
    import pandas as pd

    registry = check(registry)
    with explained(registry):
        found = pointers(registry, name)
        latest = found.pop("latest", None)
        rows = []
        for second, top_hash in sorted(found.items()):
            header, entries = manifest(registry, top_hash)
            pushed = pd.Timestamp(int(second), unit="s", tz="UTC")
            size = sum(entry.size for entry in entries.values())
            now = top_hash == latest
            rows.append((pushed, top_hash, len(entries), size, header.get("message"), now))
    return pd.DataFrame(rows, columns=["Pushed", "TopHash", "Files", "Bytes", "Message", "Latest"])


def check(registry: str | os.PathLike, to_read: bool = False) -> str:
    """Say within ten seconds whether a registry can be used, and return its address for quilt3.

    `to_read` is for installing: the registry must exist, and a bucket need not be versioned.
    Raises BadInput if the address, the folder, the credentials or the versioning are wrong, and
    TryAgain if nothing answers.
    """
    import_quilt()
    bucket = bucket_of(registry)
    if bucket:
        check_bucket(bucket, versioned=not to_read)
        return f"s3://{bucket}"
    folder = Path(key(registry).path)
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is a file; a registry is a folder or s3://bucket.")
    if to_read and not (folder / ".quilt").is_dir():
        raise BadInput(f"{folder} is no registry: a registry is a folder with .quilt/ in it.")
    if not folder.parent.is_dir():
        raise BadInput(f"There is no folder {folder.parent} to keep the registry {folder.name} in.")
    return str(folder)


def repoint(directory: str | os.PathLike) -> int:
    """Make the manifests of a registry folder point at where the folder is now.

    Top hashes stay: the addresses of a manifest's files are not part of what is hashed. Returns
    how many files were rewritten, 0 when the addresses were right already. Raises BadInput if the
    folder is no registry or cannot be written, or bytes that a manifest names are not in it.
    """
    folder = Path(directory).resolve()
    manifests = sorted(p for p in (folder / ".quilt" / "packages").glob("*") if p.is_file())
    if not manifests:
        raise BadInput(f"{folder} is no registry: it has no manifests in .quilt/packages.")
    changed = {}
    for path in manifests:
        before = path.read_text(encoding="utf-8")
        # The first line has the address of the workflow; it is hashed, so it stays.
        header, *lines = before.split("\n")
        after = "\n".join([header, *(_moved(line, folder, path.name) for line in lines)])
        if after != before:
            changed[path] = after
    # Only now, when every manifest is known to be whole: all are re-pointed or none.
    with explained(str(folder)):
        for path, text in changed.items():
            write(key(path), text.encode("utf-8"))
        return len(changed) + write_workflow(str(folder))


def main(arguments: list[str] | None = None) -> int:
    """Run ``python -m openimager.registry``; return the exit status."""
    about = "Correct the addresses in a Quilt registry folder that was moved; no top hash changes."
    parser = argparse.ArgumentParser(prog="python -m openimager.registry", description=about)
    parser.add_argument("directory", help="the registry folder, where it is now")
    try:
        count = repoint(parser.parse_args(arguments).directory)
    except (BadInput, TryAgain) as error:
        print(f"openimager: {error}", file=sys.stderr)
        return 2 if isinstance(error, BadInput) else 1
    done = f"{count} manifests and settings re-pointed; no top hash changed."
    print(done if count else "Nothing to do: the addresses are right.")
    return 0


def _moved(line: str, folder: Path, revision: str) -> str:
    """Return a manifest's line with its file's address in the registry `folder`."""
    row = json.loads(line or "{}")
    old = row.get("physical_keys", [None])[0]
    new = in_registry(old, folder) if old else None
    if new is None or str(key(new)) == old:
        return line
    if not new.is_file():
        raise BadInput(
            f"{new} is missing: revision {revision} has it as {row['logical_key']}. "
            "Copy the registry again, whole."
        )
    return json.dumps(row | {"physical_keys": [str(key(new))]}, ensure_ascii=False)


if __name__ == "__main__":
    sys.exit(main())
