"""A Quilt registry, in a folder or in S3: bytes copied by content, then the manifest.

quilt3 pushes to S3 only, and what it builds in a folder refers to the files where they happen to
lie. Here the bytes are copied into the registry first, under the hash of their content, so that
everybody who can read the folder can install from it, and so that an old revision stays whole
when the working files change.

A registry in a folder looks like this (`.quilt` is quilt3's own layout)::

    objects/<2 hex>/<64 hex><suffix>    the bytes, each content once
    .quilt/packages/<top hash>          a manifest: one line a file
    .quilt/named_packages/...           which revisions a package has, and the latest
    .quilt/workflows/                   what a revision must say about itself

``python -m openimager.registry DIRECTORY`` mends the addresses in a folder that was moved.
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
from openimager.quilt.bucket import bucket_of, check_bucket, explained
from openimager.quilt.objects import (
    import_quilt,
    in_registry,
    key,
    store_in_bucket,
    store_in_folder,
    write,
)
from openimager.quilt.workflow import WORKFLOW, check_metadata, write_workflow


@dataclass(frozen=True)
class Pushed:
    """What a push did.

    Attributes
    ----------
    top_hash : str
        The revision's name, 64 hex digits.
    new : bool
        False if the latest revision already was the same, so that none was added.
    files, size : int
        Files in the package and their bytes.
    copied_files, copied_size : int
        Files whose bytes were not in the registry yet, and their bytes.
    """

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
        ``{"data/crops.csv": "../data/crops.csv"}``.
    name : str
        ``owner/package``.
    registry : path-like
        A folder (made if missing; ``file://`` works too) or ``s3://bucket``, which must be
        versioned.
    metadata : dict
        What the package says about itself; `SCHEMA` says what must be in it.
    message : str
        Why there is a new revision.

    Returns
    -------
    Pushed

    Raises
    ------
    BadInput
        If the registry can't be used, or the metadata lacks something that it must have.
    TryAgain
        If S3 does not answer, or a file changed while it was copied.
    """
    registry = check(registry)
    quilt3 = import_quilt()
    with explained(registry):
        write_workflow(registry)
        check_metadata(metadata, name, registry, message)
        latest = _latest(name, registry)
        package = quilt3.Package().set_meta(metadata)
        if bucket_of(registry):
            everything = store_in_bucket(files, f"{registry}/{name}", _known(name, registry))
        else:
            everything = store_in_folder(files, registry)
        sizes, copied = [], {}
        for path, stored in everything:
            package.set(path, stored.entry)
            sizes.append(stored.entry.size)
            if stored.copied:
                # By address: two files of one content are one object.
                copied[str(stored.entry.physical_key)] = stored.entry.size
        # What is read back from a manifest went through JSON, so what is compared does too.
        same = latest and latest.meta == json.loads(json.dumps(metadata))
        new = not same or any(latest.diff(package))
        if new:
            _wait_for_a_free_second(name, registry)
            top_hash = package.build(name, registry, message, workflow=WORKFLOW)
        else:
            top_hash = latest.top_hash
    return Pushed(top_hash, new, len(sizes), sum(sizes), len(copied), sum(copied.values()))


def revisions(name: str, registry: str | os.PathLike):
    """Return the history of a package, oldest first, as a pandas frame.

    Columns: Pushed (UTC), TopHash, Files, Bytes, Message, Latest.
    """
    import pandas as pd

    registry = check(registry)
    quilt3 = import_quilt()
    with explained(registry):
        pointers = dict(quilt3.list_package_versions(name, registry))
        latest = pointers.pop("latest", None)
        rows = []
        for second, top_hash in sorted(pointers.items()):
            package = quilt3.Package.browse(name, registry, top_hash)
            sizes = [entry.size for _, entry in package.walk()]
            header = next(package.manifest)
            pushed = pd.Timestamp(int(second), unit="s", tz="UTC")
            message, now = header.get("message"), top_hash == latest
            rows.append((pushed, top_hash, len(sizes), sum(sizes), message, now))
    return pd.DataFrame(rows, columns=["Pushed", "TopHash", "Files", "Bytes", "Message", "Latest"])


def check(registry: str | os.PathLike) -> str:
    """Say within ten seconds whether a registry can be used, and return its address for quilt3.

    Raises
    ------
    BadInput
        If the address, the folder or the credentials are wrong or the bucket is not versioned.
    TryAgain
        If nothing answers at the address.
    """
    bucket = bucket_of(registry)
    if bucket:
        check_bucket(bucket)
        return f"s3://{bucket}"
    folder = Path(key(registry).path)
    if not folder.parent.is_dir():
        raise BadInput(f"There is no folder {folder.parent} to keep the registry {folder.name} in.")
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is a file; a registry is a folder or s3://bucket.")
    return str(folder)


def repoint(directory: str | os.PathLike) -> int:
    """Make the manifests of a registry folder point at where the folder is now.

    Top hashes stay: the addresses of a manifest's files are not part of what is hashed.

    Parameters
    ----------
    directory : path-like
        The registry, after it was moved, copied or mounted elsewhere.

    Returns
    -------
    int
        How many files were rewritten; 0 when the addresses were right already.

    Raises
    ------
    BadInput
        If the folder is no registry, or bytes that a manifest names are not in it.
    """
    folder = Path(directory).resolve()
    manifests = sorted(p for p in (folder / ".quilt" / "packages").glob("*") if p.is_file())
    if not manifests:
        raise BadInput(f"{folder} is no registry: it has no manifests in .quilt/packages.")
    changed = {}
    for manifest in manifests:
        before = manifest.read_text(encoding="utf-8")
        # The first line tells where the workflow stood; it is hashed, so it stays.
        header, *lines = before.split("\n")
        after = "\n".join([header, *(_moved(line, folder, manifest.name) for line in lines)])
        if after != before:
            changed[manifest] = after
    # Only now, when every manifest is known to be whole: all are re-pointed or none.
    for manifest, text in changed.items():
        write(key(manifest), text.encode("utf-8"))
    return len(changed) + write_workflow(str(folder))


def main(arguments: list[str] | None = None) -> int:
    """Run ``python -m openimager.registry``; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m openimager.registry",
        description="Mend the addresses in a Quilt registry folder that was moved. "
        "No byte of a photo is touched and no top hash changes.",
    )
    parser.add_argument("directory", help="the registry folder, where it is now")
    try:
        count = repoint(parser.parse_args(arguments).directory)
    except (BadInput, TryAgain) as error:
        print(f"openimager: {error}", file=sys.stderr)
        return 2 if isinstance(error, BadInput) else 1
    done = f"{count} manifests and settings re-pointed; no top hash changed."
    print(done if count else "Nothing to do: the addresses are right.")
    return 0


def _latest(name: str, registry: str):
    """Return the latest revision, or None if there is no package of this name yet."""
    quilt3 = import_quilt()
    if "latest" not in dict(quilt3.list_package_versions(name, registry)):
        return None
    return quilt3.Package.browse(name, registry)


def _known(name: str, registry: str) -> dict:
    """Return quilt's key for every content hash that any revision of a package has."""
    quilt3 = import_quilt()
    known = {}
    for top_hash in set(dict(quilt3.list_package_versions(name, registry)).values()):
        package = quilt3.Package.browse(name, registry, top_hash)
        known |= {entry.hash["value"]: entry.physical_key for _, entry in package.walk()}
    return known


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


def _wait_for_a_free_second(name: str, registry: str) -> None:
    """Wait until a new revision would not hide an old one: quilt names them by the second."""
    quilt3 = import_quilt()
    while str(int(time.time())) in dict(quilt3.list_package_versions(name, registry)):
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
