"""A Quilt registry, in a folder or in S3: pushing, history, and moving the folder.

quilt3 pushes to S3 only; a package that it builds in a folder refers to the working files. So the
bytes are copied into the registry first, under the hash of their content: whoever can read the
folder can install from it, and an old revision stays whole when the working files change::

    objects/<2 hex>/<64 hex><suffix>    the bytes, each content once
    .quilt/packages/<top hash>          a manifest: one line per file
    .quilt/named_packages/...           which revisions a package has, and the latest
    .quilt/workflows/                   what a revision must say about itself

``python -m openimager.registry DIRECTORY`` corrects the addresses in a folder that was moved.
"""

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from openimager.bucket import bucket_of, explained
from openimager.errors import BadInput, exit_status
from openimager.package import objects
from openimager.package.workflow import WORKFLOW, checked_package, write_workflow

# An object's address in a manifest, as JSON.
_ADDRESS = re.compile(r'file://[^"]*(/objects/([0-9a-f]{2})/\2[0-9a-f]{62})')


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
        package = checked_package(metadata, name, registry, message)
        revisions = objects.pointers(registry, name)
        latest = revisions.get("latest")
        header, before = objects.manifest(registry, latest) if latest else ({}, {})
        if bucket_of(registry):
            found = [objects.manifest(registry, top_hash)[1] for top_hash in {*revisions.values()}]
            known = {entry.digest: entry.address for rows in found for entry in rows.values()}
            entries = objects.store_in_bucket(files, f"{registry}/{name}", known)
        else:
            entries = objects.store_in_folder(files, registry)
        old, now = (
            {path: entry[1:3] for path, entry in each.items()} for each in (before, entries)
        )
        # The metadata in a manifest went through JSON, so what is compared does too.
        new = old != now or header.get("user_meta") != json.loads(json.dumps(metadata))
        top_hash = _build(package, entries, name, registry, message) if new else latest
    # By address: two files of one content are one object.
    copied = {entry.address: entry.size for entry in entries.values() if entry.copied}
    size = sum(entry.size for entry in entries.values())
    return Pushed(top_hash, new, len(entries), size, len(copied), sum(copied.values()))


def _build(package, entries: dict, name: str, registry: str, message: str) -> str:
    """Add a revision of what is stored; return its top hash."""
    from quilt3.packages import PackageEntry

    folder = None if bucket_of(registry) else registry
    for path, entry in entries.items():
        digest = {"type": objects.HASH, "value": entry.digest}
        address = objects.current_key(entry.address, folder)
        package.set(path, PackageEntry(address, entry.size, digest, None))
    # quilt names revisions by the second: a second one within it would hide the first.
    while str(int(time.time())) in objects.pointers(registry, name):
        time.sleep(0.05)
    return package.build(name, registry, message, workflow=WORKFLOW)


def revisions(name: str, registry: str | os.PathLike):
    """Return the history of a package, oldest first, as a pandas frame.

    Columns: Pushed (UTC), TopHash, Files, Bytes, Message, Latest.
    """
    import pandas as pd

    registry = check(registry)
    with explained(registry):
        found = objects.pointers(registry, name)
        latest = found.pop("latest", None)
        rows = []
        for second, top_hash in sorted(found.items()):
            header, entries = objects.manifest(registry, top_hash)
            pushed = pd.Timestamp(int(second), unit="s", tz="UTC")
            size = sum(entry.size for entry in entries.values())
            now = top_hash == latest
            rows.append((pushed, top_hash, len(entries), size, header.get("message"), now))
    return pd.DataFrame(rows, columns=["Pushed", "TopHash", "Files", "Bytes", "Message", "Latest"])


def check(registry: str | os.PathLike, to_read: bool = False, patience: float = 4.0) -> str:
    """Say within ten seconds whether a registry can be used, and return its address for quilt3.

    `to_read` is for installing: the registry must exist, and a bucket need not be versioned.
    A bucket gets one request: `patience` seconds to connect and as many to answer. BadInput if
    the address, the folder, the credentials or the versioning are wrong, TryAgain if nothing
    answers.
    """
    objects.import_quilt()
    if bucket := bucket_of(registry):
        _check_bucket(bucket, to_read, patience)
        return f"s3://{bucket}"
    folder = Path(objects.key(registry).path)
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is a file; a registry is a folder or s3://bucket.")
    if to_read and not (folder / ".quilt").is_dir():
        raise BadInput(f"{folder} is no registry: a registry is a folder with .quilt/ in it.")
    if not folder.parent.is_dir():
        raise BadInput(f"There is no folder {folder.parent} to keep the registry {folder.name} in.")
    return str(folder)


def _check_bucket(bucket: str, to_read: bool, patience: float) -> None:
    import boto3
    from botocore.config import Config

    once = {"total_max_attempts": 1}
    config = Config(connect_timeout=patience, read_timeout=patience, retries=once)
    with explained(f"s3://{bucket}"):
        try:
            # Not boto3.client: its session would remember the first credentials for good.
            client = boto3.Session().client("s3", config=config)
        except ValueError as error:
            raise BadInput(f"s3://{bucket} can't be reached: {error}.") from error
        if to_read:
            client.list_objects_v2(Bucket=bucket, MaxKeys=1)
        elif client.get_bucket_versioning(Bucket=bucket).get("Status") != "Enabled":
            raise BadInput(
                f"s3://{bucket} does not keep old versions, so a new revision would silently "
                "change the old ones: switch bucket versioning on, or choose a versioned bucket."
            )


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
    home, changed = str(objects.key(folder)), {}
    for path in manifests:
        for name, entry in objects.manifest(str(folder), path.name)[1].items():
            place = objects.current_key(entry.address, str(folder))
            if place and not os.path.isfile(place.path):
                raise BadInput(
                    f"{place.path} is missing: revision {path.name} has it as {name}. Copy the "
                    "registry again, whole."
                )
        # The first line has the address of the workflow; it is hashed, so it stays.
        header, _, before = path.read_text(encoding="utf-8").partition("\n")
        after = _ADDRESS.sub(lambda match: home + match[1], before)
        if after != before:
            changed[path] = f"{header}\n{after}"
    # Only now, when every manifest is known to be whole: all are re-pointed or none.
    with explained(str(folder)):
        for path, text in changed.items():
            objects.write(objects.key(path), text.encode("utf-8"))
        return len(changed) + write_workflow(str(folder))


def main(arguments: list[str] | None = None) -> int:
    """Run ``python -m openimager.registry``; return the exit status."""
    about = "Correct the addresses in a Quilt registry folder that was moved; no top hash changes."
    parser = argparse.ArgumentParser(prog="python -m openimager.registry", description=about)
    parser.add_argument("directory", help="the registry folder, where it is now")
    folder = parser.parse_args(arguments).directory
    done = "manifests and settings re-pointed; no top hash changed."
    return exit_status(lambda: print(repoint(folder), done))


if __name__ == "__main__":
    sys.exit(main())
