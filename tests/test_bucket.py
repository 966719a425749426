"""A registry in S3 (SeaweedFS on loopback), and wrong addresses or credentials."""

import socket

import boto3
import pytest
import seaweed
from botocore.httpsession import URLLib3Session
from builders import files_below
from package_tree import NAME, make_tree, push, quilt

import openimager
from openimager import registry
from openimager.errors import BadInput, TryAgain
from openimager.package.objects import import_quilt

# How quilt3 reads its own schema, on Python 3.11 and 3.12.
pytestmark = pytest.mark.filterwarnings("ignore:(read|open)_text is deprecated")
BUCKET = "s3://versioned"


@pytest.fixture
def aws(tmp_path, monkeypatch, quilt_home):
    """Remove the credentials, profile and cache of the user who runs the tests."""
    seaweed.use(monkeypatch, {})
    import_quilt()
    # quilt3 sets its cache folder when it is imported, so patch it too.
    monkeypatch.setattr("quilt3.packages.CACHE_PATH", tmp_path / "cache")
    return monkeypatch


@pytest.fixture
def s3(s3_server, aws):
    seaweed.use(aws, s3_server)
    return boto3.client("s3")


def test_stranger_installs_from_s3(s3, tmp_path):
    """A package pushed to S3 can be installed and verified by quilt3's command line."""
    tree = make_tree(tmp_path / "clone")
    pushed = push(tree, BUCKET)
    there = (NAME, "--registry", BUCKET)
    status, said = quilt("install", *there, "--dest", "out", cwd=tmp_path)
    assert status == 0, said
    verify = ("verify", *there, "--top-hash", pushed.top_hash, "--dir", "out")
    status, said = quilt(*verify, cwd=tmp_path)
    assert status == 0, said
    assert files_below(tmp_path / "out") == files_below(tree)


def test_second_push_to_s3_uploads_nothing(s3, tmp_path):
    """A second push adds no version of any object, and gives the same revision."""
    tree = make_tree(tmp_path / "clone")
    first = push(tree, BUCKET, name="quilt/twice")
    versions = s3.list_object_versions(Bucket="versioned")["Versions"]
    second = push(tree, BUCKET, "again", "quilt/twice")
    assert (second.new, second.copied_files, second.copied_size) == (False, 0, 0)
    assert second.top_hash == first.top_hash
    assert len(s3.list_object_versions(Bucket="versioned")["Versions"]) == len(versions)


def test_registry_in_s3_holds_others_to_the_rules_too(s3, tmp_path):
    """quilt3 itself cannot push a revision without the required metadata."""
    push(make_tree(tmp_path / "clone"), BUCKET)
    quilt3 = import_quilt()
    with pytest.raises(quilt3.util.QuiltException, match="'categories' is a required"):
        quilt3.Package().push("someone/else", BUCKET, message="mine", force=True)


def test_old_revision_in_s3_stays_whole(s3, tmp_path):
    """Only the changed file is uploaded, and the old revision keeps its bytes."""
    tree = make_tree(tmp_path / "clone")
    old = push(tree, BUCKET, name="quilt/old").top_hash
    before = (tree / "models" / "latest.keras").read_bytes()
    (tree / "models" / "latest.keras").write_bytes(b"a better model")
    new = push(tree, BUCKET, "better", "quilt/old")
    assert (new.copied_files, new.copied_size) == (1, len(b"a better model"))
    found = import_quilt().Package.browse("quilt/old", BUCKET, old)
    assert found["models/latest.keras"].get_bytes() == before
    assert registry.revisions("quilt/old", BUCKET)["Message"].tolist() == ["first", "better"]
    # Bytes of an older revision are not uploaded again either.
    (tree / "models" / "latest.keras").write_bytes(before)
    assert push(tree, BUCKET, "back again", "quilt/old").copied_files == 0


def test_folder_and_s3_hold_equal_entries(s3, tmp_path):
    """Revisions of the same files in a folder and in S3 have equal entries."""
    tree = make_tree(tmp_path / "clone")
    push(tree, BUCKET, name="quilt/same")
    push(tree, tmp_path / "registry", name="quilt/same")
    browse = import_quilt().Package.browse
    here, there = (browse("quilt/same", str(r)) for r in (tmp_path / "registry", BUCKET))
    assert here.diff(there) == ([], [], [])


def test_old_revision_in_an_unversioned_bucket_stays_whole(s3, tmp_path):
    """Old revisions work without versioning, because no object is ever replaced."""
    tree = make_tree(tmp_path / "clone")
    old = push(tree, "s3://unversioned").top_hash
    before = (tree / "models" / "latest.keras").read_bytes()
    (tree / "models" / "latest.keras").write_bytes(b"a better model")
    push(tree, "s3://unversioned", "better")
    openimager.install_package("s3://unversioned", tmp_path / "new", top_hash=old)
    assert (tmp_path / "new" / "models" / "latest.keras").read_bytes() == before


def test_registry_that_was_copied_into_a_bucket(s3, tmp_path):
    """A registry folder uploaded to a bucket can be installed from."""
    tree = make_tree(tmp_path / "clone")
    push(tree, tmp_path / "registry")
    s3.create_bucket(Bucket="copied")
    for path, content in files_below(tmp_path / "registry").items():
        s3.put_object(Bucket="copied", Key=path, Body=content)
    openimager.install_package("s3://copied", tmp_path / "new", "models")
    assert files_below(tmp_path / "new" / "models") == files_below(tree / "models")


def one_sentence(aws, address, kind, word):
    """Check that an address fails after at most one request, with a one-line error naming it."""
    sent = []

    def counted(session, request):
        sent.append(request.url)
        return send(session, request)

    send = URLLib3Session.send
    with aws.context() as patch:
        patch.setattr(URLLib3Session, "send", counted)
        with pytest.raises(kind, match=word) as caught:
            registry.check(address)
    assert len(sent) <= 1
    assert address in str(caught.value) and "\n" not in str(caught.value)


def test_bucket_that_is_not_there(s3, aws):
    """The bucket does not exist."""
    one_sentence(aws, "s3://no-such-bucket", BadInput, "no such bucket")


def test_refused_credentials(s3, aws):
    """A wrong secret, and an unknown key."""
    aws.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    one_sentence(aws, BUCKET, BadInput, "credentials are missing or were refused")
    aws.setenv("AWS_ACCESS_KEY_ID", "nobody")
    one_sentence(aws, BUCKET, BadInput, "credentials are missing or were refused")


def test_no_credentials(s3, aws):
    """There are neither keys nor a profile."""
    aws.delenv("AWS_ACCESS_KEY_ID")
    aws.delenv("AWS_SECRET_ACCESS_KEY")
    one_sentence(aws, BUCKET, BadInput, "credentials are missing")


def test_nothing_listens(aws):
    """No server listens at the port."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        pretend(aws, taken.getsockname()[1])
        one_sentence(aws, BUCKET, TryAgain, "cannot be reached")


def test_server_that_never_answers(aws):
    """A server that accepts the connection but does not answer is tried only once."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        pretend(aws, silent.getsockname()[1])
        aws.setattr("openimager.package.objects._PATIENCE", 0.3)
        with pytest.raises(TryAgain, match="cannot be reached"):
            registry.check(BUCKET)
        silent.accept()
        silent.setblocking(False)
        with pytest.raises(BlockingIOError):
            silent.accept()


def test_address_that_is_none(aws):
    """The endpoint is not a URL."""
    pretend(aws, 1)
    aws.setenv("AWS_ENDPOINT_URL_S3", "not an address")
    one_sentence(aws, BUCKET, BadInput, "not an address")


def pretend(aws, port):
    """Point boto3 at a local port, with some keys."""
    aws.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
    aws.setenv("AWS_ACCESS_KEY_ID", "key")
    aws.setenv("AWS_SECRET_ACCESS_KEY", "secret")
