"""Tables are downloaded once, resumed, checked, converted, and never left incomplete."""

import base64
import contextlib
import hashlib
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pytest
from builders import photo_row, table_path, write_site
from web import body, closed_port, cut, once, status, web

from openimager import files
from openimager.errors import BadInput, TryAgain
from openimager.store import BOX_COLUMNS, SUBSETS
from openimager.tables import cache, catalogue, fetch, views

BOX, PHOTO = ("boxes", "train"), ("photos", "train")
BOXES, PHOTOS = (table_path(*one) for one in (BOX, PHOTO))


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Use small blocks, so that part of a small file still has several of them."""
    monkeypatch.setattr(fetch, "_BLOCK", 64)


@pytest.fixture
def site(tmp_path):
    """The tables of a site of forty photos."""
    rows = [photo_row(n, f"../photos/{n}_o.jpg") for n in range(40)]
    return write_site(tmp_path / "site", rows)


@pytest.fixture
def server(site, monkeypatch):
    """Serve these tables as if from a remote host, so that they go into the cache."""
    monkeypatch.setattr(catalogue, "is_loopback", lambda url: False)
    with web() as running:
        for path in site.rglob("*.*"):
            running.pages[f"/2018_04/{path.relative_to(site).as_posix()}"] = body(path.read_bytes())
        yield running


def with_ranges(data, etag, keep=None):
    """Serve `data` with Range and If-Range as in RFC 9110; cut off the first response."""

    def answer(handler, times):
        wanted = handler.headers.get("Range")
        start = 0
        if wanted and handler.headers.get("If-Range") == etag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        handler.server.starts = [*getattr(handler.server, "starts", []), start]
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        handler.send_header("ETag", etag)
        handler.send_header("Content-Length", str(len(data) - start))
        handler.end_headers()
        stop = int(len(data) * keep) if keep and times == 1 else len(data)
        handler.wfile.write(data[start:stop])
        handler.close_connection = True

    return answer


def local(wanted, base, folder=None, release="v4"):
    """Return tables of a site as local files."""
    return cache.Site(release, base, folder, quiet=True).local(*wanted)


def rows(path, kind="boxes"):
    """Read a table as published."""
    with contextlib.closing(duckdb.connect()) as con:
        return con.execute(views.source(path, kind)).fetchall()


def fetch_one(url, target, check=lambda part: None, stop=None):
    """Download one file, with hardly any pause between tries."""
    stop = stop or threading.Event()
    fetch.fetch_file(url, target, {}, check, stop, quiet=True, backoff=0.001)


def test_fetched_once(site, server, tmp_path):
    """A second run takes the tables from the cache, where they are Parquet instead of CSV."""
    base = server.url + "/2018_04"
    for _ in range(2):
        paths = local([BOX, PHOTO], base, tmp_path / "cache")
    assert len(server.asked) == 2
    for path, kind in zip(paths, ("boxes", "photos"), strict=True):
        assert path.suffix == ".parquet" and not path.with_suffix(".csv").exists()
        published = site / table_path(kind, "train")
        assert rows(path, kind) == rows(published, kind)


def test_two_at_a_time(server, tmp_path):
    """At most two tables are downloaded at the same time."""
    together, most = [], []

    def slow(data):
        def answer(handler, times):
            together.append(1)
            most.append(len(together))
            time.sleep(0.1)
            body(data)(handler, times)
            together.pop()

        return answer

    columns = ",".join(BOX_COLUMNS).encode()
    paths = [table_path("boxes", subset) for subset in SUBSETS]
    server.pages |= {f"/2018_04/{path}": slow(columns) for path in paths}
    local([("boxes", subset) for subset in SUBSETS], server.url + "/2018_04", tmp_path)
    assert max(most) == 2


def test_each_base_url_has_its_folder(server, tmp_path):
    """Tables of two sites are kept apart in the cache."""
    server.pages[f"/other/{BOXES}"] = server.pages[f"/2018_04/{BOXES}"]
    one = local([BOX], server.url + "/2018_04/", tmp_path)
    two = local([BOX], server.url + "/other/", tmp_path)
    assert one != two


def test_loopback_is_fetched_anew(site, tmp_path):
    """Tables from a loopback address are not reused by later runs."""
    with web() as server:
        for size in (1, 2):
            lines = (site / BOXES).read_bytes().splitlines(keepends=True)
            server.pages[f"/2018_04/{BOXES}"] = b"".join(lines[: 1 + size])
            [path] = local([BOX], server.url + "/2018_04", tmp_path)
            assert len(rows(path)) == size
    assert not path.is_relative_to(tmp_path)


def test_directory_is_read_in_place(site):
    """Tables of a local directory are neither copied nor downloaded."""
    assert local([BOX], site) == [site / BOXES]
    with pytest.raises(cache.MissingTable, match=r"labels-boxable\.csv"):
        local([("labels", "train")], site)


def test_directory_with_parquet(site):
    """A directory may have Parquet files instead of CSV files."""
    parquet = (site / BOXES).with_suffix(".parquet")
    views.convert(
        site / BOXES,
        parquet,
        "boxes",
        cache.Site(cache_dir=site / "cache", quiet=True),
        threading.Event(),
    )
    (site / BOXES).unlink()
    assert local([BOX], site) == [parquet] and len(rows(parquet)) == 40


def test_resumed_where_it_broke_off(tmp_path):
    """After an interruption, only the missing bytes are requested."""
    data = bytes(range(256)) * 40
    with web() as server:
        server.pages["/a"] = with_ranges(data, '"one"', keep=0.5)
        fetch_one(server.url + "/a", tmp_path / "a")
        assert server.starts == [0, len(data) // 2]
    assert (tmp_path / "a").read_bytes() == data
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_resumed_by_a_later_run(tmp_path, monkeypatch):
    """A later run resumes the partial file of a run that gave up."""
    data = b"0123456789" * 1000
    with web() as server:
        monkeypatch.setattr(fetch, "_TRIES", 1)
        server_down = with_ranges(data, '"one"', keep=0.32)
        server.pages["/a"] = lambda handler, times: (
            server_down(handler, 1) if times == 1 else status(503)(handler, times)
        )
        with pytest.raises(TryAgain, match="503"):
            fetch_one(server.url + "/a", tmp_path / "a")
        assert not (tmp_path / "a").exists()
        server.pages["/a"] = with_ranges(data, '"one"')
        fetch_one(server.url + "/a", tmp_path / "a")
        assert server.starts == [0, 3200]
    assert (tmp_path / "a").read_bytes() == data


def test_changed_meanwhile(tmp_path):
    """A file that changed on the server between two tries is downloaded from the start."""
    old, new = b"o" * 10_000, b"n" * 10_000
    with web() as server:
        server.pages["/a"] = lambda handler, times: (
            with_ranges(old, '"old"', keep=0.5) if times == 1 else with_ranges(new, '"new"')
        )(handler, times)
        fetch_one(server.url + "/a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == new


def test_cut_without_ranges(tmp_path):
    """If the server does not support ranges, the file is downloaded again from the start."""
    data = b"x" * 10_000
    with web() as server:
        server.pages["/a"] = lambda handler, times: (cut(data) if times == 1 else body(data))(
            handler, times
        )
        fetch_one(server.url + "/a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == data


def test_failing_the_check(tmp_path):
    """A file that fails its check never appears under its final name."""

    def refuse(part):
        raise BadInput("it is no table")

    with web() as server:
        server.pages["/a"] = b"wrong"
        with pytest.raises(TryAgain, match="it is no table"):
            fetch_one(server.url + "/a", tmp_path / "a", check=refuse)
    assert not list(tmp_path.iterdir())


def test_known_sizes_and_hashes(tmp_path, monkeypatch):
    """Tables of Open Images are checked against their recorded size and hash."""
    data = (",".join(BOX_COLUMNS) + "\n").encode()
    with web() as server:
        base = server.url + "/2018_04/"
        server.pages[f"/2018_04/{BOXES}"] = data
        for known, word in [
            ({"bytes": str(len(data) + 1)}, "bytes"),
            ({"bytes": str(len(data)), "sha256": "0" * 64}, "sha256"),
        ]:
            monkeypatch.setitem(catalogue.KNOWN, base + BOXES, known)
            with pytest.raises(TryAgain, match=word):
                local([BOX], base, tmp_path)


def test_ranges_that_end_early(tmp_path):
    """If a range ends early, requests continue until the file has its full length."""
    data = b"0123456789"

    def some(handler, times):
        start = int(handler.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        part = data[start : start + 4]
        span = f"bytes {start}-{start + len(part) - 1}/{len(data)}"
        handler.send_response(206)
        handler.send_header("Content-Range", span)
        handler.send_header("Content-Length", str(len(part)))
        handler.end_headers()
        handler.wfile.write(part)

    (tmp_path / "a.part").write_bytes(data[:1])
    (tmp_path / "a.part.tag").write_text('"one"', encoding="utf-8")
    with web() as server:
        server.pages["/a"] = some
        fetch_one(server.url + "/a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == data


def test_announced_md5(tmp_path):
    """Without a published hash, the MD5 in the server's headers is checked."""
    data = b"0123456789"
    for digest, fails in [(hashlib.md5(data).digest(), False), (bytes(16), True)]:
        md5 = base64.b64encode(digest).decode()
        with web() as server:
            server.pages["/a"] = body(data, x_goog_hash=f"crc32c=AAAAAA==,md5={md5}")
            (tmp_path / "a").unlink(missing_ok=True)
            with pytest.raises(TryAgain, match="md5") if fails else contextlib.nullcontext():
                fetch_one(server.url + "/a", tmp_path / "a")
        assert (tmp_path / "a").exists() != fails


def test_killed_during_the_check(tmp_path):
    """A complete file whose check was interrupted is not downloaded again."""
    data = b"0123456789" * 1000
    (tmp_path / "a.part").write_bytes(data)
    (tmp_path / "a.part.tag").write_text('"one"', encoding="utf-8")
    with web() as server:
        server.pages["/a"] = lambda handler, times: (
            status(416, Content_Range=f"bytes */{len(data)}")
            if handler.headers.get("Range") == f"bytes={len(data)}-"
            else body(b"again")
        )(handler, times)
        fetch_one(server.url + "/a", tmp_path / "a")
        assert server.times("/a") == 1
    assert (tmp_path / "a").read_bytes() == data
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_killed_during_the_conversion(server, tmp_path, monkeypatch):
    """After an interrupted conversion the next run converts the CSV, and downloads nothing."""

    def killed(*args, **options):
        raise KeyboardInterrupt

    base, folder = server.url + "/2018_04/", tmp_path / "cache"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(views, "warn_of_bad_rows", killed)
        local([BOX], base, folder)
    assert not list(folder.rglob("*.parquet")) and not list(folder.rglob("*.part"))
    assert len(rows(local([BOX], base, folder)[0])) == 40
    assert len(server.asked) == 1 and not list(folder.rglob("*.csv"))


def test_unreadable_lines_are_reported_when_converted(server, tmp_path):
    """Lines left out of the Parquet file are counted and listed with their numbers."""
    page = f"/2018_04/{BOXES}"
    lines = [",".join(BOX_COLUMNS), "0000000000000001,xclick"]
    server.pages[page] = "\n".join(lines).encode()
    with pytest.warns(UserWarning, match=r"bbox.csv: 1 row .* \(line 2: missing columns\)"):
        local([BOX], server.url + "/2018_04/", tmp_path / "cache")


def test_releases_share_tables(tmp_path, monkeypatch):
    """V7 reuses the photo tables that V4 cached, but downloads its own boxes and classes."""
    monkeypatch.setattr(catalogue, "is_loopback", lambda url: False)
    tables = write_site(tmp_path, [photo_row(n, "a.jpg", subset="test") for n in range(3)])
    with web() as server:
        for path in tables.rglob("*.*"):
            name = path.relative_to(tmp_path).as_posix()
            server.pages[f"/{name}"] = path.read_bytes()
        photos = "/2018_04/test/test-images-with-rotation.csv"
        server.pages["/v5/test-annotations-bbox.csv"] = server.pages[
            "/2018_04/test/test-annotations-bbox.csv"
        ]
        local([("photos", "test")], server.url + "/2018_04/", tmp_path / "cache")
        wanted = [("photos", "test"), ("boxes", "test"), ("classes", None)]
        found = local(wanted, server.url, tmp_path / "cache", "v7")
        assert server.times(photos) == server.times("/v5/test-annotations-bbox.csv") == 1
        assert found[2].name == "class-descriptions-boxable.csv"
        with pytest.raises(cache.MissingTable, match="holds 2018_04/, v5/, v6/ and v7/"):
            local(wanted, server.url + "/2018_04/", tmp_path / "cache", "v7")


@pytest.mark.parametrize("page", [b"<html>Please log in</html>", bytes(100)], ids=["html", "zeros"])
def test_a_page_is_no_table(server, tmp_path, page):
    """A page or file instead of a table is refused, because columns are missing."""
    server.pages[f"/2018_04/{BOXES}"] = page
    with pytest.raises(TryAgain, match=r"lacks the columns .*Confidence.*[^.]\. It was not kept"):
        local([BOX], server.url + "/2018_04", tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.csv"))


def test_missing_on_the_site(server, tmp_path):
    """After a 404, the error says that the base URL may be wrong; there is no retry."""
    with pytest.raises(cache.MissingTable, match="For v4 it ends in the folder"):
        local([BOX], server.url + "/elsewhere", tmp_path)
    assert len(server.asked) == 1


def test_missing_table_ends_other_downloads(server, tmp_path):
    """If one table is missing, the download of another one stops at once."""
    missing, sent = threading.Event(), []

    def slow(handler, times):
        handler.send_response(200)
        handler.send_header("Content-Length", "200000")
        handler.end_headers()
        missing.wait(20)
        for _ in range(200):
            handler.wfile.write(bytes(1000))
            sent.append(1000)
            time.sleep(0.05)

    def absent(handler, times):
        status(404)(handler, times)
        missing.set()

    server.pages |= {f"/2018_04/{BOXES}": slow, f"/2018_04/{PHOTOS}": absent}
    with pytest.raises(cache.MissingTable, match="train-images"):
        local([BOX, PHOTO], server.url + "/2018_04", tmp_path)
    assert len(sent) < 200


class Recorded(threading.Event):
    """An event that records for how long it is waited for, and does not wait."""

    def __init__(self):
        super().__init__()
        self.waits = []

    def wait(self, timeout=None):
        self.waits.append(timeout)
        return False


@pytest.mark.parametrize("wait", ["90", "599"])
def test_retry_after(tmp_path, wait):
    """The next try comes when the server asks for it, not earlier."""
    stop = Recorded()
    with web() as server:
        server.pages["/a"] = once(status(503, Retry_After=wait), b"data")
        fetch_one(server.url + "/a", tmp_path / "a", stop=stop)
    assert stop.waits == [float(wait)]


def test_retry_after_that_is_too_long(tmp_path):
    """A server that asks to wait for more than ten minutes ends the run, which says how long."""
    stop = Recorded()
    with web() as server:
        server.pages["/a"] = once(status(503, Retry_After="3600"), b"data")
        with pytest.raises(TryAgain, match="answers 503 and asks to wait 3600 s"):
            fetch_one(server.url + "/a", tmp_path / "a", stop=stop)
        assert len(server.asked) == 1 and not stop.waits


def test_nobody_there(tmp_path):
    """If the site cannot be reached, the error says to try again."""
    with pytest.raises(TryAgain, match="can't be reached"):
        fetch_one(f"http://127.0.0.1:{closed_port()}/a", tmp_path / "a")


def test_stopped(tmp_path):
    """A stopped download ends at its next block; a later run requests only the missing bytes."""
    looks = []

    class Stop(threading.Event):
        def is_set(self):
            looks.append(1)
            return len(looks) > 3

    data = bytes(range(250)) * 40
    with web() as server:
        server.pages["/a"] = with_ranges(data, '"one"')
        with pytest.raises(TryAgain, match="interrupted"):
            fetch_one(server.url + "/a", tmp_path / "a", stop=Stop())
        assert not (tmp_path / "a").exists()
        fetch_one(server.url + "/a", tmp_path / "a")
        assert server.starts == [0, 3 * 64]
    assert (tmp_path / "a").read_bytes() == data


def test_interrupted_while_another_run_fetches(server, tmp_path):
    """Ctrl-C ends the wait for a table that another process is downloading."""
    base = f"{server.url}/2018_04/"
    target = cache.folder_of(base, tmp_path / "cache") / BOXES
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    held, ended = threading.Event(), threading.Event()

    def hold():
        with files.lock(target.with_name(target.name + ".lock")):
            held.set()
            return ended.wait(30)

    # Without the time limit, a wait that ignores Ctrl-C would never end.
    with ThreadPoolExecutor(1) as pool:
        in_time = pool.submit(hold)
        assert held.wait(30)
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            local([BOX], base, tmp_path / "cache")
        ended.set()
        assert in_time.result(), "the lock was given up before the wait for it ended"


def test_two_runs_share_the_cache(server, tmp_path):
    """If two runs need the same table, it is downloaded once."""
    page = server.pages[f"/2018_04/{BOXES}"]
    server.pages[f"/2018_04/{BOXES}"] = lambda handler, times: (
        time.sleep(0.2),
        page(handler, times),
    )
    with ThreadPoolExecutor(2) as pool:
        base, cache_dir = f"{server.url}/2018_04/", tmp_path / "cache"
        jobs = [pool.submit(local, [BOX], base, cache_dir) for _ in range(2)]
        assert [len(rows(job.result()[0])) for job in jobs] == [40, 40]
    assert len(server.asked) == 1


@pytest.mark.parametrize("base", ["ftp://host/2018_04", "http:///2018_04", "no/such/folder"])
def test_what_is_no_base(base):
    """A base that is neither a URL nor a directory is bad input."""
    with pytest.raises(BadInput, match=r"http://|directory"):
        local([BOX], base)


def test_boxes_and_photos_arrive_together(server, tmp_path):
    """The two tables of a subset are downloaded at the same time."""
    meet = threading.Barrier(2, timeout=20)
    for path in (BOXES, PHOTOS):
        page = server.pages[f"/2018_04/{path}"]
        server.pages[f"/2018_04/{path}"] = lambda handler, times, page=page: (
            meet.wait(),
            page(handler, times),
        )
    site = cache.Site("v4", server.url + "/2018_04/", tmp_path / "cache", quiet=True)
    found = site.tables(["train"], "photos", "boxes")
    assert [len(found[kind]) for kind in ("boxes", "photos")] == [1, 1]


def test_tables_that_the_user_gave():
    """A given table is used as it is, once for all subsets."""
    given = cache.Site(boxes="b.csv", photos="p.csv").tables(SUBSETS, "photos", "boxes")
    assert given == {"photos": [Path("p.csv")], "boxes": [Path("b.csv")]}
