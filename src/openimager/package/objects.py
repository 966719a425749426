"""The bytes of packages in a registry: copied by content into a folder, by version into S3.

What is there already is not copied again, and what an old revision refers to is never changed.
"""

import base64
import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple
from urllib.parse import quote, unquote

from tqdm.auto import tqdm

from openimager import files
from openimager.errors import BadInput, TryAgain

HASH = "sha2-256-chunked"
_PART = 8 << 20
_BATCH = 32
_OBJECT = re.compile(r"objects/([0-9a-f]{2})/\1[0-9a-f]{62}(\.[^/]*)?$")
_clients, _clients_lock = {}, threading.Lock()


class Entry(NamedTuple):
    """A file of a package: address in the registry, bytes, hash (base64), copied there just now?"""

    address: str
    size: int
    digest: str
    copied: bool = False


def import_quilt():
    """Import quilt3, without its usage statistics and progress bars and with few S3 clients."""
    os.environ.setdefault("QUILT_DISABLE_USAGE_METRICS", "1")
    os.environ.setdefault("QUILT_MINIMIZE_STDOUT", "true")
    try:
        import quilt3
    except ImportError:
        raise BadInput("This needs quilt3: pip install 'openimager[package]'.") from None
    # A hook that somebody set before us knows better.
    if quilt3.hooks.get_build_s3_client_hook() is None:
        quilt3.hooks.set_build_s3_client_hook(_shared_client)
    return quilt3


def _shared_client(build, session, options, **more):
    """Return one S3 client for one user and server; quilt3 makes one for most requests."""
    user, env = session.get_credentials(), os.environ
    key = (
        *(user and user.get_frozen_credentials(), options["config"].signature_version),
        *(env.get("AWS_ENDPOINT_URL_S3"), env.get("AWS_ENDPOINT_URL")),
    )
    with _clients_lock:
        if key not in _clients:
            _clients[key] = build(session, options, **more)
        return _clients[key]


def key(address: str | os.PathLike):
    """Return quilt3's PhysicalKey of a path or an ``s3://`` address."""
    import_quilt()
    from quilt3.util import PhysicalKey, fix_url

    return PhysicalKey.from_url(fix_url(address))


def current_key(address: str, folder: str | None):
    """Return the PhysicalKey of an object; in a registry `folder`, at its present place.

    It is None if the object is not in the folder's ``objects/``.
    """
    from quilt3.util import PhysicalKey

    if folder is None:
        return PhysicalKey.from_url(address)
    match = _OBJECT.search(address)
    # from_url would look up each part of the path on the disk.
    return PhysicalKey(None, f"{folder}/{unquote(match.group())}", None) if match else None


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
        files.write(key.path, content)
    else:
        put_bytes(content, key)


def pointers(registry: str, name: str) -> dict[str, str]:
    """Return the top hash of each revision of a package, by time; ``"latest"`` is one of them."""
    return dict(import_quilt().list_package_versions(name, registry))


def manifest(registry: str, top_hash: str) -> tuple[dict, dict[str, Entry]]:
    """Return the header and the entries (by path) of a revision; both empty if it is missing."""
    # quilt3's own reader makes objects of each line, which takes ten times as long.
    content = read(key(registry).join(f".quilt/packages/{top_hash}")) or b"{}"
    header, *lines = json.loads(b"[%s]" % b",".join(content.splitlines()))
    return header, {
        line["logical_key"]: Entry(line["physical_keys"][0], line["size"], line["hash"]["value"])
        for line in lines
        if line.get("physical_keys")
    }


def content_hash(content: bytes) -> str:
    """Return quilt's hash of a file's content: the SHA256 over the SHA256 of each 8 MiB.

    S3 computes the same for an upload in parts, so one content has one hash in both kinds of
    registry.

    Examples
    --------
    >>> content_hash(b"cat")
    'RFXfW/EeDJLI7Msa22aLz0Eh+Ff5YSkgXh0e6hf6LK8='
    """
    size, view = _PART, memoryview(content)
    while size * 10_000 < len(content):  # what S3 allows
        size *= 2
    parts = [hashlib.sha256(view[at : at + size]).digest() for at in range(0, len(content), size)]
    return base64.b64encode(hashlib.sha256(b"".join(parts)).digest()).decode("ascii")


def store_in_folder(paths: Mapping[str, os.PathLike], folder: str) -> dict[str, Entry]:
    """Copy the files whose content a registry folder does not have.

    Each is read once, so that what is written is what was hashed.
    """
    objects = f"{folder}/objects"
    address = str(key(objects))

    def store(path: str) -> Entry:
        content = _content(paths[path])
        digest, size = content_hash(content), len(content)
        # The suffix stays, because quilt3 tells by it how to open a file.
        name = base64.b64decode(digest).hex() + os.path.splitext(path)[1].lower()
        target = f"{objects}/{name[:2]}/{name}"
        try:
            missing = os.stat(target).st_size != size
        except FileNotFoundError:
            missing = True
        if missing:
            files.write(target, content)
        return Entry(f"{address}/{name[:2]}/{quote(name)}", size, digest, missing)

    return on_threads(store, _sizes(paths), "Copying")


def store_in_bucket(
    paths: Mapping[str, os.PathLike], home: str, known: Mapping[str, str]
) -> dict[str, Entry]:
    """Upload files whose content the bucket does not have; `known` maps hash to address.

    They go below `home`, ``s3://bucket/owner/package``, where a file of a known path becomes a new
    version of it; that is why the bucket has to be versioned. Raises TryAgain if a file changed
    between being hashed and being uploaded.
    """
    from quilt3.data_transfer import copy_file_list

    def hashed(path: str) -> Entry:
        content = _content(paths[path])
        digest = content_hash(content)
        return Entry(known.get(digest, ""), len(content), digest)

    entries = on_threads(hashed, _sizes(paths), "Hashing")
    missing = {path: entry.size for path, entry in entries.items() if not entry.address}
    target = key(home)
    wanted = [(key(paths[path]), target.join(path), size) for path, size in missing.items()]
    with _bar("Uploading", sum(missing.values())) as progress:
        done = copy_file_list(wanted, callback=lambda _, to, size: progress.update(size))
    for path, (to, digest) in zip(missing, done, strict=True):
        if digest != entries[path].digest:
            raise TryAgain(f"{path} changed while it was uploaded; run this again.")
        entries[path] = entries[path]._replace(address=str(to), copied=True)
    return entries


def _content(path: str | os.PathLike) -> bytes:
    # Without Path and without a buffer: this is most of the time of a repeated push.
    with open(path, "rb", buffering=0) as stream:
        return stream.read()


def _sizes(paths: Mapping[str, os.PathLike]) -> dict[str, int]:
    return {path: os.path.getsize(file) for path, file in paths.items()}


def on_threads(work: Callable, sizes: Mapping[str, int], label: str) -> dict:
    """Return ``work(path)`` for each path, with a bar of bytes and their speed.

    Hashing and copying release Python's lock, so that all cores work; many files are one task,
    because a task costs more than hashing a crop.
    """
    paths, found = list(sizes), {}
    batches = [paths[at : at + _BATCH] for at in range(0, len(paths), _BATCH)]
    pool = ThreadPoolExecutor(max_workers=max(2, os.cpu_count() or 2))
    try:
        done = pool.map(lambda batch: list(map(work, batch)), batches)
        with _bar(label, sum(sizes.values())) as progress:
            for batch, results in zip(batches, done, strict=True):
                progress.update(sum(sizes[path] for path in batch))
                found |= zip(batch, results, strict=True)
    finally:
        pool.shutdown(cancel_futures=True)
    return found


def _bar(label: str, total: int):
    return tqdm(desc=label, total=total, unit="B", unit_scale=True, disable=None)
