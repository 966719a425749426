"""The bytes of a package, copied into a registry: into a folder by content, into S3 by version.

What is there already is not copied again, and what an old revision refers to is never changed.
"""

import base64
import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tqdm.auto import tqdm

from openimager.errors import TryAgain
from openimager.files import replacing
from openimager.quilt.bucket import share_clients

_HASH = "sha2-256-chunked"
_BLOCK = 1 << 20
_BATCH = 200
_OBJECT = re.compile(r"objects/([0-9a-f]{2})/\1[0-9a-f]{62}(\.[^/]*)?$")


def import_quilt():
    """Import quilt3: no usage statistics, no progress bars of its own, few S3 clients."""
    os.environ.setdefault("QUILT_DISABLE_USAGE_METRICS", "1")
    os.environ.setdefault("QUILT_MINIMIZE_STDOUT", "true")
    import quilt3

    share_clients()
    return quilt3


def key(address: str | os.PathLike):
    """Return quilt3's PhysicalKey of a path or an ``s3://`` address."""
    import_quilt()
    from quilt3.util import PhysicalKey, fix_url

    return PhysicalKey.from_url(fix_url(address))


def read(key) -> bytes | None:
    """Return the bytes at a PhysicalKey, or None if there are none."""
    from botocore.exceptions import ClientError
    from quilt3.data_transfer import get_bytes

    try:
        return get_bytes(key)
    except FileNotFoundError:
        return None
    except ClientError as error:
        if error.response["Error"]["Code"] == "NoSuchKey":
            return None
        raise


def write(key, content: bytes) -> None:
    from quilt3.data_transfer import put_bytes

    if key.is_local():
        with replacing(key.path) as part:
            part.write_bytes(content)
    else:
        put_bytes(content, key)


@dataclass(frozen=True)
class Stored:
    """A file whose bytes are in the registry: quilt's entry for it, and whether we copied it."""

    entry: object
    copied: bool


def content_hash(path: str | os.PathLike, copy_to: str | os.PathLike | None = None):
    """Return quilt's content hash of a file and its size, copying it on the way if asked.

    Parameters
    ----------
    path : path-like
        The file; read a block at a time.
    copy_to : path-like, optional
        Where the bytes that are hashed are written as well.

    Returns
    -------
    digest : bytes
        32 of them: the SHA256 over the SHA256 of each part of 8 MiB (``sha2-256-chunked``), which
        is what S3 computes for an upload in parts. So one content has one hash in both kinds of
        registry.
    size : int
        Bytes.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.txt"
    >>> path.write_bytes(b"cat")
    3
    >>> digest, size = content_hash(path)
    >>> digest == hashlib.sha256(hashlib.sha256(b"cat").digest()).digest(), size
    (True, 3)
    """
    from quilt3.checksums import get_checksum_chunksize

    part_size = get_checksum_chunksize(os.path.getsize(path))
    parts, size = [], 0
    with (
        open(path, "rb") as source,
        open(copy_to, "wb") if copy_to else contextlib.nullcontext() as target,
    ):
        # A part is a whole number of blocks, so no block straddles two.
        while block := source.read(_BLOCK):
            if size % part_size == 0:
                parts.append(hashlib.sha256())
            parts[-1].update(block)
            size += len(block)
            if target:
                target.write(block)
    return hashlib.sha256(b"".join(part.digest() for part in parts)).digest(), size


def _hash_small(path: str | os.PathLike) -> tuple[bytes, int, bytes | None]:
    """Return hash, size and, for a file of less than a block, its bytes, to be read only once."""
    with open(path, "rb") as source:
        block = source.read(_BLOCK)
    if len(block) == _BLOCK:
        return *content_hash(path), None
    parts = [hashlib.sha256(block).digest()] if block else []
    return hashlib.sha256(b"".join(parts)).digest(), len(block), block


def in_registry(address: str, folder: Path) -> Path | None:
    """Return where the object that an address names lies in the registry `folder`.

    Parameters
    ----------
    address : str
        An entry's address in a manifest, such as
        ``file:///old/place/objects/ab/ab01...ff.jpg``.
    folder : Path
        The registry as it stands now.

    Returns
    -------
    Path or None
        None if the address is of something else, such as an object in S3.

    Examples
    --------
    >>> name = 64 * "0" + ".jpg"
    >>> in_registry(f"file:///old/place/objects/00/{name}", Path("new")).parts[:3]
    ('new', 'objects', '00')
    >>> in_registry("s3://bucket/objects/a.jpg?versionId=1", Path("new")) is None
    True
    """
    match = _OBJECT.search(address)
    return folder.joinpath(*match.group().split("/")) if match else None


def store_in_folder(
    files: Mapping[str, str | os.PathLike], folder: str | os.PathLike
) -> Iterator[tuple[str, Stored]]:
    """Copy the files that a registry folder does not have, a block at a time.

    Yields
    ------
    path : str
        The path in the package.
    stored : Stored

    Raises
    ------
    TryAgain
        If a file changed between being hashed and being copied.
    """

    def store(item) -> tuple[str, Stored]:
        path, file = item
        digest, size, whole = _hash_small(file)
        # The suffix stays, because quilt3 tells by it how to open a file.
        name = digest.hex() + PurePosixPath(path).suffix.lower()
        target = Path(folder, "objects", name[:2], name)
        copied = not (target.exists() and target.stat().st_size == size)
        if copied:
            with replacing(target) as part:
                if whole is not None:
                    part.write_bytes(whole)
                elif content_hash(file, copy_to=part) != (digest, size):
                    raise TryAgain(f"{file} changed while it was copied; run this again.")
        return path, Stored(_entry(target, size, digest), copied)

    yield from _on_threads(store, files.items(), "Copying")


def store_in_bucket(
    files: Mapping[str, str | os.PathLike], home: str, known: Mapping[str, object]
) -> Iterator[tuple[str, Stored]]:
    """Upload the files whose content is not known to be in the bucket.

    Parameters
    ----------
    files : mapping
        Path in the package to file on this machine.
    home : str
        The address to upload to, ``s3://bucket/owner/package``. A file of a known path becomes a
        new version of it, which is why the bucket has to be versioned.
    known : mapping
        Content hash (base64) to quilt3's PhysicalKey of what is in the bucket already.

    Yields
    ------
    path : str
        The path in the package; not in the order of `files`.
    stored : Stored

    Raises
    ------
    TryAgain
        If a file changed between being hashed and being uploaded.
    """
    from quilt3.data_transfer import copy_file_list
    from quilt3.util import PhysicalKey

    def hash_one(item):
        path, file = item
        return path, _entry(file, *reversed(content_hash(file)))

    missing = []
    for path, entry in _on_threads(hash_one, files.items(), "Hashing"):
        key = known.get(entry.hash["value"])
        if key is None:
            missing.append((path, entry))
        else:
            yield path, Stored(entry.with_physical_key(key), copied=False)
    target = PhysicalKey.from_url(home)
    with tqdm(desc="Uploading", total=len(missing), unit="file", disable=None) as progress:
        for start in range(0, len(missing), _BATCH):
            batch = missing[start : start + _BATCH]
            wanted = [(entry.physical_key, target.join(path), entry.size) for path, entry in batch]
            for (path, entry), (key, digest) in zip(batch, copy_file_list(wanted), strict=True):
                if digest != entry.hash["value"]:
                    raise TryAgain(f"{path} changed while it was uploaded; run this again.")
                progress.update()
                yield path, Stored(entry.with_physical_key(key), copied=True)


def _entry(file: str | os.PathLike, size: int, digest: bytes):
    """Return quilt3's entry for a file on this machine, hash included: it is not read again."""
    from quilt3.packages import PackageEntry
    from quilt3.util import PhysicalKey

    value = base64.b64encode(digest).decode("ascii")
    return PackageEntry(PhysicalKey.from_path(file), size, {"type": _HASH, "value": value}, None)


def _on_threads(work: Callable, items: Iterable, label: str) -> Iterator:
    """Yield ``work(item)`` in order; hashing and copying let go of Python's lock."""
    items = list(items)
    pool = ThreadPoolExecutor(max_workers=4)
    try:
        yield from tqdm(pool.map(work, items), label, len(items), unit="file", disable=None)
    finally:
        pool.shutdown(cancel_futures=True)
