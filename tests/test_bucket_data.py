"""A data directory in a bucket: same results as in a folder, locks, errors, local copies."""

import contextlib
import http.server
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import seaweed
from builders import DataDir, image_id, jpeg, photo_row, put_photos, scene, write_site

import openimager
from openimager import bucket, crops
from openimager.errors import BadInput, TryAgain
from openimager.files import Busy
from openimager.store import Store

FRUIT = Path(__file__).resolve().parents[2] / "shared" / "mirror" / "fruit" / "2018_04"

pytest.importorskip("s3fs", reason="the tests of buckets need openimager[s3]")


@pytest.fixture
def s3(s3_server, tmp_path, monkeypatch):
    """Return a function that gives URLs under a prefix for this test only."""
    use(monkeypatch, s3_server)
    monkeypatch.setenv("OPENIMAGER_CACHE", str(tmp_path / "cache"))
    return lambda name="data": f"s3://unversioned/{tmp_path.name}/{name}"


def use(monkeypatch, environment):
    """Set the environment of a server and drop the cached connections to others."""
    import s3fs

    seaweed.use(monkeypatch, environment)
    s3fs.S3FileSystem.clear_instance_cache()


def upload(folder, url):
    """Copy a local data directory into a bucket."""
    store = Store(url)
    for path in folder.rglob("*"):
        if path.is_file():
            store.write(store.path(path.relative_to(folder).as_posix()), path.read_bytes())
    return store


def contents(data_dir):
    """Return the contents of all files of a data directory, except its state, by name."""
    store = Store(data_dir)
    names = [name for name in store.sizes(store.root) if not name.startswith(".openimager/")]
    return {name: store.read(store.path(name)) for name in names}


def photos(folder, count=12):
    """Make a data directory of photos with two boxes each."""
    site = DataDir(folder)
    for seed in range(count):
        image_id = site.photo(scene(seed=seed))
        site.box(image_id)
        site.box(image_id, (0, 0.5, 0.1, 0.7), "Dog")
    site.write()
    return folder


def test_crops_in_a_bucket_are_those_of_a_folder(s3, tmp_path):
    """Files and tables are the same; a second run makes nothing and leaves no state."""
    folder = photos(tmp_path / "data")
    store = upload(folder, s3())
    made = openimager.write_crops(s3(), quiet=True)
    assert made.equals(openimager.write_crops(folder, quiet=True))
    assert contents(s3()) == contents(folder) and len(made) == 24
    again = openimager.write_crops(s3(), quiet=True)
    assert again.attrs["counts"]["kept"] == 24
    assert set(store.sizes(store.state)) == {"photos.csv"}
    without = openimager.write_crops(s3(), drop="depiction", min_pixels=150, quiet=True)
    assert without.attrs["counts"]["removed"] == 24 - len(without) > 0
    assert len(store.sizes(store.crops)) == len(without)


@pytest.mark.skipif(not FRUIT.is_dir(), reason="../shared/mirror with real photos is not here")
def test_real_photos_in_a_bucket_are_those_of_a_folder(s3, tmp_path):
    """Photos, crops, tables and credits are the same; a second run changes nothing."""
    wanted = {"categories": ["Apple", "Orange"], "subset": "all", "limit": 15, "base_url": FRUIT}
    for data_dir in (s3(), tmp_path / "data"):
        openimager.download(data_dir=data_dir, quiet=True, **wanted)
        openimager.write_crops(data_dir, quiet=True)
    found = contents(s3())
    assert found == contents(tmp_path / "data") and len(found) > 60
    before = Store(s3()).root.fs.find(Store(s3()).images.path, detail=True)
    openimager.download(data_dir=s3(), quiet=True, **wanted)
    assert Store(s3()).root.fs.find(Store(s3()).images.path, detail=True) == before


KILLED = """
import os, signal, sys
from openimager import download
from openimager.store import Store

real, left = Store.write, [9]
def write(store, path, data):
    left[0] -= path.suffix == ".jpg"
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    real(store, path, data)
Store.write = write
download("Cat", sys.argv[1], base_url=sys.argv[2], quiet=True, workers=1)
"""


def test_a_killed_download_is_resumed(s3, tmp_path, monkeypatch):
    """After `kill -9`, the same command finds, checks and keeps photos without a record."""
    monkeypatch.setattr(bucket, "_LEASE", 0.5)  # nobody holds the lock any more
    files = {f"photos/{number}.jpg": jpeg(number) for number in range(20)}
    rows = [photo_row(n, f"../photos/{n}.jpg", jpeg(n)) for n in range(20)]
    tables = write_site(tmp_path, rows)
    put_photos(tables, files)
    killed = subprocess.run([sys.executable, "-c", KILLED, s3(), str(tables)], timeout=120)
    assert killed.returncode == -signal.SIGKILL
    store = Store(s3())
    kept = store.sizes(store.images)
    assert len(kept) == 8 and "images.csv" not in store.sizes(store.root)
    store.write(store.photo(image_id(30)), b"not a photo of this selection")
    broken = sorted(kept)[0]
    store.write(store.images / broken, store.read(store.images / broken)[:-500])
    images = openimager.download("Cat", s3(), base_url=tables, quiet=True)
    assert set(images["Status"]) == {"ok"} and set(images["Source"]) == {"flickr"}
    for number in range(20):
        assert store.read(store.photo(image_id(number))) == files[f"photos/{number}.jpg"]
    assert len(store.read_table("ATTRIBUTION.csv")) == 20


def test_two_downloads_at_once(s3, tmp_path, monkeypatch):
    """The second run stops with an error and changes nothing."""
    monkeypatch.setattr(bucket, "_BEAT", 0.3)
    tables = write_site(tmp_path, [photo_row(1, "../photos/1.jpg", jpeg(1))])
    store = Store(s3())
    with store.lock("lock"), pytest.raises(TryAgain, match="Another run is at work"):
        openimager.download("Cat", s3(), base_url=tables, quiet=True)
    assert not store.sizes(store.root)


def test_the_command_line_says_it_in_one_line(s3, s3_server, tmp_path):
    """Wrong credentials give status 2 and one line on stderr, without the credentials."""
    tables = write_site(tmp_path, [photo_row(1, "../photos/1.jpg", jpeg(1))])
    environment = {**os.environ, **s3_server, "AWS_SECRET_ACCESS_KEY": "sesame-wrong"}
    command = [sys.executable, "-m", "openimager", "Cat", "--data-dir", s3(), "--base-url", tables]
    done = subprocess.run(
        [str(word) for word in command], env=environment, capture_output=True, text=True, timeout=99
    )
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and "credentials" in done.stderr
    assert "sesame" not in done.stderr


def test_one_missing_file_does_not_keep_the_others():
    """On any file system of fsspec, all files that exist are removed."""
    store = Store("memory://removed")
    paths = [store.path(name) for name in ("a", "b", "c")]
    for path in (paths[0], paths[2]):
        store.write(path, b"x")
    store.remove(*paths)
    assert store.sizes(store.root) == {}


def test_a_store_of_a_bucket_is_picklable(s3):
    """Stores are pickled for processes and clusters."""
    store = pickle.loads(pickle.dumps(Store(s3())))
    store.write_json("query.json", {"limit": 3})
    assert Store(s3()).read_json("query.json") == {"limit": 3}
    assert Store(s3()).read_json("other.json") is None
    store.remove(store.path("query.json"), store.path("missing.json"))
    assert store.sizes(store.root) == {}


def test_crops_in_a_bucket_from_several_processes(s3, tmp_path, monkeypatch):
    """Worker processes write through the store; table and files are the same."""
    from openimager.crops import write

    monkeypatch.setattr(write, "_PARTITION", 4)
    folder = photos(tmp_path / "data")
    upload(folder, s3())
    made = openimager.write_crops(s3(), processes=2, quiet=True)
    assert made.equals(openimager.write_crops(folder, quiet=True))
    assert contents(s3()) == contents(folder)


def test_a_killed_cropping_is_taken_over(s3, tmp_path, monkeypatch):
    """After `kill -9`, the same command takes over the lock and keeps recorded crops."""
    from openimager.crops import write

    monkeypatch.setattr(write, "_PARTITION", 3)
    monkeypatch.setattr(bucket, "_LEASE", 0.5)  # nobody holds the lock any more
    folder = photos(tmp_path / "data", 18)
    store = upload(folder, s3())
    code = (
        "import sys; from openimager.crops import write; write._PARTITION = 3; "
        "write.write_crops(sys.argv[1], workers=1, quiet=True)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, s3()])
    deadline = time.monotonic() + 60
    while len(store.sizes(store.crops)) < 14 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert ".openimager/crops.lock" in store.sizes(store.root)
    made = openimager.write_crops(s3(), quiet=True)
    assert made.attrs["counts"]["kept"] >= 6
    openimager.write_crops(folder, quiet=True)
    assert contents(s3()) == contents(folder)


def test_the_second_of_two_runs_says_so(s3, monkeypatch):
    """A lock in use is refused; a released lock, or one of a dead process, is not."""
    monkeypatch.setattr(bucket, "_BEAT", 0.3)
    store = Store(s3())
    with (
        store.lock("crops"),
        pytest.raises(Busy, match="Another run is at work"),
        store.lock("crops"),
    ):
        pass
    assert not store.sizes(store.root)
    dead = store.state / "crops.lock"
    store.write(dead, b"whoever 7")
    monkeypatch.setattr(bucket, "_LEASE", 0.5)
    with store.lock("crops"):
        assert not store.read(dead).startswith(b"whoever")


def test_only_what_changed_is_copied_to_local_disk(s3, tmp_path):
    """Only the named files are copied with their folders, and again only if they changed."""
    upload(photos(tmp_path / "data", 4), s3())
    store, made = Store(s3()), openimager.write_crops(s3(), quiet=True)
    names = ["crops.csv", *made["CropPath"]]
    local = store.local_copy(names, quiet=True)
    for path in made["CropPath"]:
        assert crops.crop_path(local, path).read_bytes() == store.read(store.crop(path))
    assert {path.name for path in (local / "crops" / "test").iterdir()} == {"Cat", "Dog"}
    first, second = (crops.crop_path(local, path) for path in made["CropPath"][:2])
    before = second.stat().st_mtime_ns
    first.unlink()
    store.local_copy(names, quiet=True)
    assert first.exists() and second.stat().st_mtime_ns == before
    size = store.sizes(store.crops)[made["CropPath"][0].removeprefix("data/crops/")]
    store.write(store.crop(made["CropPath"][0]), b"x" * size)
    store.local_copy(names[:-1], quiet=True)
    assert first.read_bytes() == b"x" * size
    assert not crops.crop_path(local, made["CropPath"].iloc[-1]).exists()
    with pytest.raises(BadInput, match="missing"):
        store.local_copy(["other.csv"], quiet=True)
    folder = Store(tmp_path / "data")
    assert folder.local_copy(names) == folder.root


BAD = {
    "wrong secret": ({"AWS_SECRET_ACCESS_KEY": "sesame-wrong"}, "SignatureDoesNotMatch"),
    "unknown key": ({"AWS_ACCESS_KEY_ID": "sesame-nobody"}, "InvalidAccessKeyId"),
    "read only": ({"AWS_ACCESS_KEY_ID": seaweed.READER}, "access was refused"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bucket_that_refuses_says_so_in_one_sentence(s3, s3_server, tmp_path, monkeypatch, name):
    """Wrong credentials or missing rights give one clear line without secrets; no data is lost."""
    store = upload(photos(tmp_path / "data", 1), s3())
    before = contents(s3())
    changed, words = BAD[name]
    use(monkeypatch, {**s3_server, **changed})
    with pytest.raises(BadInput, match=words) as caught:
        openimager.write_crops(s3(), quiet=True)
    text = str(caught.value)
    assert "\n" not in text and "sesame" not in text and seaweed.SECRET not in text
    assert caught.value.__suppress_context__  # nor in a traceback
    use(monkeypatch, s3_server)
    assert contents(s3()) == before and not store.sizes(store.state)


def test_files_that_may_not_be_read_are_not_missing(s3, s3_server, tmp_path, monkeypatch):
    """Refused credentials are an error, also for files that may be missing or broken."""
    store = upload(photos(tmp_path / "data", 1), s3())
    use(monkeypatch, {**s3_server, "AWS_SECRET_ACCESS_KEY": "sesame-wrong"})
    with pytest.raises(BadInput, match="credentials"):
        Store(s3()).read_json("query.json")
    with pytest.raises(BadInput, match="credentials"):
        list(Store(s3()).read_rows("images.csv", ["ImageID"]))
    use(monkeypatch, s3_server)
    assert len(list(store.read_rows("images.csv", ["Status", "ImageID"]))) == 1
    assert list(store.read_rows("images.csv", ["Category"])) == []


def test_a_bucket_that_may_not_be_created(s3, s3_server, monkeypatch):
    """Creating a bucket without the right to do so is refused."""
    use(monkeypatch, {**s3_server, "AWS_ACCESS_KEY_ID": seaweed.LIMITED})
    with pytest.raises(BadInput, match="access was refused"), Store("s3://nowhere/x").lock("lock"):
        pass


def test_without_credentials(s3, monkeypatch, s3_server):
    """Without credentials, the error names the environment variables."""
    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    use(monkeypatch, {name: value for name, value in s3_server.items() if name not in keys})
    with pytest.raises(BadInput, match="AWS_ACCESS_KEY_ID"):
        Store(s3()).read_table("images.csv")


@contextlib.contextmanager
def answering(status, code):
    """Run a server that answers every request with one S3 error."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # clients wait for "100 Continue"

        def do_GET(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_PUT = do_HEAD = do_DELETE = do_POST = do_GET

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as one:
        threading.Thread(target=one.serve_forever, daemon=True).start()
        yield {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{one.server_port}"}
        one.shutdown()


def test_no_such_bucket(s3, s3_server, monkeypatch):
    """A bucket that does not exist is bad input."""
    with answering(404, "NoSuchBucket") as there:
        use(monkeypatch, {**s3_server, **there})
        with pytest.raises(BadInput, match="no such bucket"), Store(s3()).lock("crops"):
            pass


def test_a_server_without_conditional_writes_has_no_lock(s3, s3_server, monkeypatch):
    """Without conditional writes runs go on, but without a lock, so that two run at once."""
    inside = []
    with answering(501, "NotImplemented") as there:
        use(monkeypatch, {**s3_server, **there})
        with Store(s3()).lock("crops"), Store(s3()).lock("crops"):
            inside.append("both")
    assert inside == ["both"]


def test_a_server_that_is_not_there_may_be_tried_again(s3, s3_server, monkeypatch):
    """If the server does not answer, the error says to try again."""
    nowhere = {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1", "AWS_MAX_ATTEMPTS": "1"}
    use(monkeypatch, {**s3_server, **nowhere})
    with pytest.raises(TryAgain, match="cannot be reached"):
        Store(s3()).read(Store(s3()).path("images.csv"))


@pytest.mark.parametrize(
    "url, words",
    [
        ("s3://key:sesame@unversioned/x", "without credentials"),
        ("nosuch://unversioned/x", "'nosuch' is not a known protocol"),
    ],
)
def test_urls_that_cannot_be_used(url, words):
    """Unknown protocols are refused, and credentials, which would appear in tables and logs."""
    with pytest.raises(BadInput, match=words) as caught:
        Store(url)
    assert "sesame" not in str(caught.value)


def test_other_file_systems_that_fsspec_opens(tmp_path):
    """Other file systems of fsspec work too, such as the one in memory."""
    folder = photos(tmp_path / "data", 3)
    url = f"memory://{tmp_path.name}"
    upload(folder, url)
    openimager.write_crops(url, quiet=True)
    openimager.write_crops(folder, quiet=True)
    assert contents(url) == contents(folder)
    shutil.rmtree(folder)
