"""The bytes of packages in a registry: copied by content into a folder, by version into S3.

What is there already is not copied again, and what an old revision refers to is never changed.
"""

import base64
import contextlib
import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import quote, unquote

from tqdm.auto import tqdm

from openimager.errors import BadInput, TryAgain
from openimager.files import replacing
from openimager.package.bucket import share_clients

HASH = "sha2-256-chunked"
_PART = 8 << 20
_BATCH_FILES, _BATCH_BYTES = 64, 8 << 20
_OBJECT = re.compile(r"objects/([0-9a-f]{2})/\1[0-9a-f]{62}(\.[^/]*)?$")


class Entry(NamedTuple):
    """A file of a package: its address in the registry, its bytes, its hash (base64)."""

    address: str
    size: int
    digest: str


class Stored(NamedTuple):
    """A path of a package, its entry, and whether its bytes were copied just now."""

    path: str
    entry: Entry
    copied: bool


def import_quilt():
    """Import quilt3: no usage statistics, no progress bars of its own, few S3 clients."""
    os.environ.setdefault("QUILT_DISABLE_USAGE_METRICS", "1")
    os.environ.setdefault("QUILT_MINIMIZE_STDOUT", "true")
    try:
        import quilt3
    except ImportError:
        raise BadInput("This needs quilt3: pip install 'openimager[package]'.") from None
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
        if error.response["Error"]["Code"] in ("NoSuchKey", "NoSuchVersion", "404"):
            return None
        raise


def write(key, content: bytes) -> None:
    """Write a small file of the registry."""
    from quilt3.data_transfer import put_bytes

    if key.is_local():
        with replacing(key.path) as part:
            part.write_bytes(content)
    else:
        put_bytes(content, key)


def pointers(registry: str, name: str) -> dict[str, str]:
    """Return the top hash of each revision of a package, by time; ``"latest"`` is one of them."""
    return dict(import_quilt().list_package_versions(name, registry))


def manifest(registry: str, top_hash: str) -> tuple[dict, dict[str, Entry]]:
    """Return the header and the entries (by path) of a revision; both empty if it is missing."""
    # quilt3's own reader makes objects of each line, which takes ten times as long.
    content = read(key(registry).join(f".quilt/packages/{top_hash}")) or b"{}"
    header, *lines = map(json.loads, content.splitlines())
    return header, {
        line["logical_key"]: Entry(line["physical_keys"][0], line["size"], line["hash"]["value"])
        for line in lines
        if line.get("physical_keys")
    }


def bytes_hash(content: bytes) -> str:
    """Return quilt's content hash of some bytes: the SHA256 over the SHA256 of each 8 MiB.

    S3 computes the same for an upload in parts, so one content has one hash in both kinds of
    registry.

    Examples
    --------
    >>> bytes_hash(b"cat")
    'RFXfW/EeDJLI7Msa22aLz0Eh+Ff5YSkgXh0e6hf6LK8='
    """
    digests = [hashlib.sha256(content).digest()] if content else []
    return base64.b64encode(hashlib.sha256(b"".join(digests)).digest()).decode("ascii")


def content_hash(path: str | os.PathLike, copy_to: str | os.PathLike | None = None):
    """Return `bytes_hash` and size of a file of any size, copying it on the way if asked."""
    from quilt3.checksums import get_checksum_chunksize

    part_size = get_checksum_chunksize(os.path.getsize(path))
    parts, size = [], 0
    with (
        open(path, "rb") as source,
        open(copy_to, "wb") if copy_to else contextlib.nullcontext() as target,
    ):
        # A part is a whole number of these blocks, so no block straddles two.
        while block := source.read(_PART):
            if size % part_size == 0:
                parts.append(hashlib.sha256())
            parts[-1].update(block)
            size += len(block)
            if target:
                target.write(block)
    digest = hashlib.sha256(b"".join(part.digest() for part in parts)).digest()
    return base64.b64encode(digest).decode("ascii"), size


def in_registry(address: str, folder: Path) -> Path | None:
    """Return where the object of an address is in a registry folder now; None if it is in S3.

    Examples
    --------
    >>> name = 64 * "0" + ".jpg"
    >>> in_registry(f"file:///old/place/objects/00/{name}", Path("new")).parts[:3]
    ('new', 'objects', '00')
    >>> in_registry("s3://bucket/objects/a.jpg?versionId=1", Path("new")) is None
    True
    """
    match = _OBJECT.search(address)
    return folder.joinpath(*unquote(match.group()).split("/")) if match else None


def store_in_folder(files: Mapping[str, os.PathLike], folder: str) -> Iterator[Stored]:
    """Copy the files whose content a registry folder does not have.

    Raises TryAgain if a file changed between being hashed and being copied.
    """
    objects = Path(folder, "objects")
    address = str(key(objects))
    there = {path.name: os.path.getsize(path) for path in objects.glob("*/[!.]*")}

    def store(path: str, file, size: int) -> Stored:
        # A small file is read once; what is written is what was hashed.
        whole = Path(file).read_bytes() if size < _PART else None
        digest, size = content_hash(file) if whole is None else (bytes_hash(whole), len(whole))
        # The suffix stays, because quilt3 tells by it how to open a file.
        name = base64.b64decode(digest).hex() + PurePosixPath(path).suffix.lower()
        copied = there.get(name) != size
        if copied:
            target = f"{objects}/{name[:2]}/{name}"
            if whole is not None:
                _write_whole(whole, target)
            else:
                with replacing(target) as part:
                    if content_hash(file, copy_to=part) != (digest, size):
                        raise TryAgain(f"{file} changed while it was copied; run this again.")
        return Stored(path, Entry(f"{address}/{name[:2]}/{quote(name)}", size, digest), copied)

    yield from on_threads(store, files, "Copying")


def _write_whole(content: bytes, target: str) -> None:
    """Do as `replacing` does, with fewer calls: there are thousands of crops."""
    folder, name = os.path.split(target)
    os.makedirs(folder, exist_ok=True)
    part = f"{folder}/.{name}.{secrets.token_hex(4)}.part"
    try:
        with open(part, "wb") as stream:
            stream.write(content)
        os.replace(part, target)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise


def store_in_bucket(
    files: Mapping[str, os.PathLike], home: str, known: Mapping[str, str]
) -> Iterator[Stored]:
    """Upload the files whose content is not `known` (hash to address) to be in the bucket.

    They go below `home`, ``s3://bucket/owner/package``, where a file of a known path becomes a new
    version of it; that is why the bucket has to be versioned. Raises TryAgain if a file changed
    between being hashed and being uploaded.
    """
    from quilt3.data_transfer import copy_file_list

    def hashed(path: str, file, size: int) -> Stored:
        digest, size = content_hash(file)
        return Stored(path, Entry(known.get(digest, ""), size, digest), copied=False)

    everything = list(on_threads(hashed, files, "Hashing"))
    yield from (stored for stored in everything if stored.entry.address)
    missing = [stored for stored in everything if not stored.entry.address]
    target, total = key(home), sum(stored.entry.size for stored in missing)
    with _bar("Uploading", total) as progress:
        for start in range(0, len(missing), _BATCH_FILES):
            batch = missing[start : start + _BATCH_FILES]
            wanted = [(key(files[path]), target.join(path), entry.size) for path, entry, _ in batch]
            done = copy_file_list(wanted)
            for (path, entry, _), (to, digest) in zip(batch, done, strict=True):
                if digest != entry.digest:
                    raise TryAgain(f"{path} changed while it was uploaded; run this again.")
                progress.update(entry.size)
                yield Stored(path, entry._replace(address=str(to)), copied=True)


def on_threads(work: Callable, files: Mapping, label: str, sizes: Mapping | None = None):
    """Yield ``work(path, file, size)`` in order, with a bar of bytes and their speed.

    Hashing and copying release Python's lock, so that all cores work; many small files are one
    task, because a task costs more than hashing a crop.
    """
    batches, bytes_of = [[]], [0]
    for path, file in files.items():
        size = sizes[path] if sizes else os.path.getsize(file)
        if len(batches[-1]) == _BATCH_FILES or bytes_of[-1] + size > _BATCH_BYTES:
            batches.append([])
            bytes_of.append(0)
        batches[-1].append((path, file, size))
        bytes_of[-1] += size
    pool = ThreadPoolExecutor(max_workers=max(2, os.cpu_count() or 2))
    try:
        done = pool.map(lambda batch: [work(*item) for item in batch], batches)
        with _bar(label, sum(bytes_of)) as progress:
            for results, size in zip(done, bytes_of, strict=True):
                progress.update(size)
                yield from results
    finally:
        pool.shutdown(cancel_futures=True)


def _bar(label: str, total: int):
    return tqdm(desc=label, total=total, unit="B", unit_scale=True, disable=None)
