"""The files of a registry, in a folder or a bucket: objects by their content, and manifests.

An object is named by the hash of its content. So what is there already is not copied again, and
what an old revision refers to is never changed.
"""

import base64
import contextlib
import json
import os
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from tqdm.auto import tqdm

from openimager import files
from openimager.bucket import explained
from openimager.errors import BadInput
from openimager.imports import hidden

HASH = "sha2-256-chunked"
# The address of an object in a manifest; the name of the object in its registry is a part of it.
ADDRESS = re.compile(r'(?:file|s3)://[^"]*/(objects/([0-9a-f]{2})/\2[0-9a-f]{62}[^/"]*)')
_WORKERS = 4  # also on two cores, because a bucket takes its time to answer
_BATCH = 32
_PATIENCE = 4  # seconds, within which a bucket has to take a connection, and to answer


def import_quilt():
    """Import quilt3, without its usage statistics and progress bars."""
    os.environ.setdefault("QUILT_DISABLE_USAGE_METRICS", "1")
    os.environ.setdefault("QUILT_MINIMIZE_STDOUT", "true")
    try:
        # Where Jupyter is installed, quilt3 would import this, too: 39 grammars, which take 1.4 s.
        with hidden("rfc3987_syntax"):
            import quilt3
    except ImportError:
        raise BadInput("This needs quilt3: pip install 'openimager[package]'.") from None
    return quilt3


class Entry(NamedTuple):
    """A file of a package: its object ("" if not in the registry), size and hash (base64)."""

    name: str
    size: int
    digest: str


class Registry:
    """A registry that can be used: its address for quilt3, and its files by their names in it.

    A folder has to be a registry already if it `must_exist`; a bucket is sent one request.
    BadInput if the address, the folder or the credentials are wrong, TryAgain if nothing answers.
    """

    def __init__(self, address: str | os.PathLike, must_exist: bool = False):
        import_quilt()
        from quilt3.util import PhysicalKey, fix_url

        key = None
        with contextlib.suppress(ValueError):
            key = PhysicalKey.from_url(fix_url(str(address).rstrip("/")))
        if not key or (key.bucket and key.path):
            kinds = "give a folder or s3://bucket, nothing more."
            raise BadInput(f"{str(address)!r} is no registry: {kinds}")
        self.key, self.bucket = key, key.bucket
        self.address = f"s3://{self.bucket}" if self.bucket else key.path
        if self.bucket:
            once = {"total_max_attempts": 1}
            asked = self._client(connect_timeout=_PATIENCE, read_timeout=_PATIENCE, retries=once)
            with explained(self.address):
                asked.list_objects_v2(Bucket=self.bucket, MaxKeys=1)
            self._s3 = self._client(max_pool_connections=_WORKERS)
            return
        folder = Path(self.address)
        if folder.exists() and not folder.is_dir():
            raise BadInput(f"{folder} is a file; a registry is a folder or s3://bucket.")
        if must_exist and not (folder / ".quilt").is_dir():
            raise BadInput(f"{folder} is no registry: a registry is a folder with .quilt/ in it.")
        if not folder.parent.is_dir():
            raise BadInput(f"There is no folder {folder.parent} to keep {folder.name} in.")

    def _client(self, **options):
        import boto3
        from botocore.config import Config

        try:
            # Not boto3.client: its session would remember the first credentials for good.
            return boto3.Session().client("s3", config=Config(**options))
        except ValueError as error:
            raise BadInput(f"{self.address} can't be reached: {error}.") from error

    def read(self, name: str) -> bytes | None:
        """Return the content of a file, or None if there is none."""
        if not self.bucket:
            try:
                return _content(f"{self.address}/{name}")
            except FileNotFoundError:
                return None
        try:
            return self._s3.get_object(Bucket=self.bucket, Key=name)["Body"].read()
        except self._s3.exceptions.NoSuchKey:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Write a file whole or not at all."""
        if self.bucket:
            self._s3.put_object(Bucket=self.bucket, Key=name, Body=content)
        else:
            files.write(f"{self.address}/{name}", content)

    def objects(self) -> dict[str, int]:
        """Return the size of each object in bytes, by its name in the registry."""
        if not self.bucket:
            found = files.sizes(f"{self.address}/objects")
            return {f"objects/{path}": size for path, size in found.items()}
        pages = self._s3.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix="objects/"
        )
        return {one["Key"]: one["Size"] for page in pages for one in page.get("Contents", ())}

    def revisions(self, package: str) -> dict[str, str]:
        """Return the top hash of each revision, by time; ``"latest"`` is one of them."""
        return dict(import_quilt().list_package_versions(package, self.address))

    def manifest(self, top_hash: str) -> tuple[dict, dict[str, Entry]]:
        """Return the header and the entries (by path) of a revision; both empty if it is missing.

        Of an address only the part from ``objects/`` on counts, so a moved registry can be read.
        """
        # quilt3's own reader makes objects of each line, which takes ten times as long.
        content = self.read(f".quilt/packages/{top_hash}") or b"{}"
        header, *lines = json.loads(b"[%s]" % b",".join(content.splitlines()))
        entries = {}
        for line in lines:
            if addresses := line.get("physical_keys"):
                match = ADDRESS.fullmatch(addresses[0])
                name = unquote(match[1]) if match else ""
                entries[line["logical_key"]] = Entry(name, line["size"], line["hash"]["value"])
        return header, entries

    def store(
        self, paths: Mapping[str, str | os.PathLike], known: Mapping[str, int]
    ) -> dict[str, Entry]:
        """Copy the files whose content is not among the `known` objects; return all entries.

        Each is read once, so that what is written is what was hashed.
        """

        def stored(path: str) -> Entry:
            content = _content(paths[path])
            digest = content_hash(content)
            hexed = base64.b64decode(digest).hex()
            # The suffix stays, because quilt3 tells by it how to open a file.
            name = f"objects/{hexed[:2]}/{hexed}{os.path.splitext(path)[1].lower()}"
            if known.get(name) != len(content):
                self.write(name, content)
            return Entry(name, len(content), digest)

        sizes = {path: os.path.getsize(file) for path, file in paths.items()}
        return on_threads(stored, sizes, "Copying")


def content_hash(content: bytes) -> str:
    """Return quilt's hash of a file's content: the SHA256 over the SHA256 of each 8 MiB."""
    from quilt3.checksums import calculate_multipart_checksum_bytes

    return calculate_multipart_checksum_bytes(memoryview(content), checksum_type=HASH)


def _content(path: str | os.PathLike) -> bytes:
    # Without Path and without a buffer: reading takes most of the time of a repeated push.
    with open(path, "rb", buffering=0) as stream:
        return stream.read()


def on_threads(work: Callable, sizes: Mapping[str, int], label: str) -> dict:
    """Return ``work(path)`` for each path, with a bar of bytes and their speed.

    Hashing and copying release Python's lock, so threads share the work; many files are one task,
    because a task costs more than hashing a crop.
    """
    paths, found = list(sizes), {}
    batches = [paths[at : at + _BATCH] for at in range(0, len(paths), _BATCH)]
    how = {"desc": label, "total": sum(sizes.values()), "unit": "B", "unit_scale": True}
    with ThreadPoolExecutor(_WORKERS) as pool, tqdm(disable=None, **how) as bar:
        # map() cancels the rest after an error.
        done = pool.map(lambda batch: list(map(work, batch)), batches)
        for batch, results in zip(batches, done, strict=True):
            bar.update(sum(sizes[path] for path in batch))
            found |= zip(batch, results, strict=True)
    return found
