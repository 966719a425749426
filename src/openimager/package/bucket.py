"""S3 as a place for a registry: does it exist, may it be used, and does it keep old versions?

boto3 finds the server and the credentials by its own rules: ``AWS_ENDPOINT_URL_S3`` for anything
that speaks S3 but is not Amazon's, ``AWS_ACCESS_KEY_ID`` and ``AWS_SECRET_ACCESS_KEY`` or a
profile for the user.
"""

import contextlib
import errno
import os
import threading
from collections.abc import Iterator
from urllib.parse import urlparse

from openimager.errors import BadInput, TryAgain

_WRONG = {"401", "InvalidAccessKeyId", "SignatureDoesNotMatch"}
_DENIED = {"403", "AccessDenied"}
_MISSING = {"404", "NoSuchBucket", "InvalidBucketName"}

_clients = {}
_one_at_a_time = threading.Lock()


def bucket_of(registry: str | os.PathLike) -> str | None:
    """Return the bucket of an ``s3://`` address, or None if `registry` is a folder.

    Raises BadInput if it is an address of another kind, or of something inside a bucket.

    Examples
    --------
    >>> bucket_of("s3://my-photos"), bucket_of("../registry"), bucket_of("file:///shared/registry")
    ('my-photos', None, None)
    """
    address = str(registry)
    if "://" not in address or address.startswith("file://"):
        return None
    parsed = urlparse(address)
    if parsed.scheme != "s3" or not parsed.netloc or parsed.path.strip("/"):
        raise BadInput(f"{address!r} is no registry: give a folder or s3://bucket, nothing more.")
    return parsed.netloc


def check_bucket(bucket: str, patience: float = 4.0, versioned: bool = True) -> None:
    """Ask once whether a bucket exists, may be used and, unless only read, keeps old versions.

    `patience` is in seconds, for the connection and again for the answer; there is no second try,
    so that a wrong address is known within ten seconds. Raises BadInput or TryAgain.
    """
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=patience, read_timeout=patience, retries={"total_max_attempts": 1}
    )
    with explained(f"s3://{bucket}"):
        try:
            # Not boto3.client: its session would remember the first credentials for good.
            client = boto3.Session().client("s3", config=config)
        except ValueError as error:
            raise BadInput(f"s3://{bucket} can't be reached: {error}.") from error
        if not versioned:
            client.list_objects_v2(Bucket=bucket, MaxKeys=1)
        elif client.get_bucket_versioning(Bucket=bucket).get("Status") != "Enabled":
            raise BadInput(
                f"s3://{bucket} does not keep old versions, so a new revision would silently "
                "change the old ones: switch bucket versioning on, or choose a versioned bucket."
            )


@contextlib.contextmanager
def explained(registry: str) -> Iterator[None]:
    """Turn what boto3 or the file system raises inside the block into a sentence on `registry`."""
    from botocore import exceptions

    where = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "Amazon"
    keys = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    try:
        yield
    except exceptions.ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        kind, sentence = TryAgain, f"{where} answered for {registry}: {error}"
        if code in _WRONG | _DENIED | _MISSING:
            kind = BadInput
        if code in _WRONG:
            sentence = f"{where} refuses these credentials for {registry} ({code}): check {keys}."
        elif code in _DENIED:
            sentence = (
                f"{where} denies {error.operation_name} on {registry} ({code}): these credentials "
                "lack the right. Pushing needs to read and write, installing only to read."
            )
        elif code in _MISSING:
            sentence = f"There is no bucket {registry} at {where}."
        raise kind(sentence) from error
    except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError) as error:
        raise BadInput(
            f"There are no credentials for {registry}: set {keys}, or a profile (AWS_PROFILE)."
        ) from error
    except (exceptions.HTTPClientError, exceptions.ConnectionError) as error:
        raise TryAgain(
            f"Nothing answers for {registry} at {where} ({type(error).__name__}): check the "
            "address (AWS_ENDPOINT_URL_S3) and the network."
        ) from error
    except exceptions.BotoCoreError as error:
        raise BadInput(f"{registry} at {where} can't be used: {error}") from error
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise BadInput(
                f"{error.filename} cannot be used ({error.strerror}). Pushing to {registry} needs "
                "the right to write there; installing only needs to read it."
            ) from error
        if error.errno == errno.ENOSPC:
            raise TryAgain(f"The disk is full ({error.filename}).") from error
        raise


def share_clients() -> None:
    """Let quilt3 use one S3 client for one user and server: it makes one for most requests."""
    from quilt3 import hooks

    def build(build_base, session, options, **more):
        credentials = session.get_credentials()
        key = (
            credentials and credentials.get_frozen_credentials(),
            options["config"].signature_version,
            os.environ.get("AWS_ENDPOINT_URL_S3"),
            os.environ.get("AWS_ENDPOINT_URL"),
        )
        with _one_at_a_time:
            if key not in _clients:
                _clients[key] = build_base(session, options, **more)
            return _clients[key]

    # A hook that somebody set before us knows better.
    if hooks.get_build_s3_client_hook() is None:
        hooks.set_build_s3_client_hook(build)
