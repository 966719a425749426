"""Tables are fetched once, two at a time, resumed, checked, and never half there."""

import os
import signal
import threading
import time

import pytest
from web import body, closed_port, cut, photo_row, status, web, write_site

from openimager import fetching, files, metadata
from openimager.errors import BadInput, TryAgain

BOXES = metadata.table_path("boxes", "train")
PHOTOS = metadata.table_path("photos", "train")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks so small that a part of a small file is whole blocks."""
    monkeypatch.setattr(fetching, "_BLOCK", 64)


@pytest.fixture
def site(tmp_path):
    """The tables of a site of forty photos."""
    rows = [photo_row(n, f"../photos/{n}_o.jpg") for n in range(40)]
    return write_site(tmp_path / "site", rows)


@pytest.fixture
def server(site, monkeypatch):
    """A server of these tables that counts as a distant one: its tables go into the cache."""
    monkeypatch.setattr(metadata, "is_loopback", lambda url: False)
    with web() as running:
        for path in site.rglob("*.*"):
            running.pages[f"/2018_04/{path.relative_to(site).as_posix()}"] = body(path.read_bytes())
        yield running


def with_ranges(data, etag, keep=None):
    """Serve `data` with Range and If-Range as RFC 9110 has it; cut off the first answer."""

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


def fetch(url, target, check=lambda part: "", stop=None):
    """Fetch one file without a pause between tries."""
    fetching.fetch_file(url, target, check, stop or threading.Event(), quiet=True, backoff=0.001)


def test_fetched_once(site, server, tmp_path):
    """A second fetch takes the tables from the cache, byte for byte as served."""
    base = server.url + "/2018_04"
    for _ in range(2):
        paths = metadata.fetch([BOXES, PHOTOS], base, tmp_path / "cache", quiet=True)
    assert [path.read_bytes() for path in paths] == [
        (site / BOXES).read_bytes(),
        (site / PHOTOS).read_bytes(),
    ]
    assert len(server.asked) == 2


def test_two_at_a_time(server, tmp_path):
    """Two tables are under way at once, and not more."""
    together, most = [], []

    def slow(data):
        def answer(handler, times):
            together.append(1)
            most.append(len(together))
            time.sleep(0.1)
            body(data)(handler, times)
            together.pop()

        return answer

    columns = ",".join(metadata.BOX_COLUMNS).encode()
    paths = [metadata.table_path("boxes", subset) for subset in metadata.SUBSETS]
    server.pages |= {f"/2018_04/{path}": slow(columns) for path in paths}
    metadata.fetch(paths, server.url + "/2018_04", tmp_path, quiet=True)
    assert max(most) == 2


def test_each_base_url_has_its_folder(server, tmp_path):
    """Tables of two sites do not mix in the cache."""
    server.pages[f"/other/{BOXES}"] = server.pages[f"/2018_04/{BOXES}"]
    one = metadata.fetch([BOXES], server.url + "/2018_04/", tmp_path, quiet=True)
    two = metadata.fetch([BOXES], server.url + "/other/", tmp_path, quiet=True)
    assert one != two


def test_loopback_is_fetched_anew(site, tmp_path):
    """Another site at the same loopback address is not mistaken for the earlier one."""
    with web() as server:
        for size in (1, 2):
            server.pages[f"/2018_04/{BOXES}"] = (site / BOXES).read_bytes() * size
            [path] = metadata.fetch([BOXES], server.url + "/2018_04", tmp_path, quiet=True)
            assert path.stat().st_size == size * (site / BOXES).stat().st_size
    assert not path.is_relative_to(tmp_path)


def test_directory_is_read_in_place(site):
    """A directory's tables are neither copied nor fetched."""
    assert metadata.fetch([BOXES], site) == [site / BOXES]
    with pytest.raises(metadata.MissingTable, match=r"labels-boxable\.csv"):
        metadata.fetch([metadata.table_path("labels", "train")], site)


def test_resumed_where_it_broke_off(tmp_path):
    """What has arrived is not asked for again."""
    data = bytes(range(256)) * 40
    with web() as server:
        server.pages["/a"] = with_ranges(data, '"one"', keep=0.5)
        fetch(server.url + "/a", tmp_path / "a")
        assert server.starts == [0, len(data) // 2]
    assert (tmp_path / "a").read_bytes() == data
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == ["a"]


def test_resumed_by_a_later_run(tmp_path, monkeypatch):
    """A run that gave up leaves what arrived, and the next one goes on from there."""
    data = b"0123456789" * 1000
    with web() as server:
        monkeypatch.setattr(fetching, "_TRIES", 1)
        server_down = with_ranges(data, '"one"', keep=0.32)
        server.pages["/a"] = lambda handler, times: (
            server_down(handler, 1) if times == 1 else status(503)(handler, times)
        )
        with pytest.raises(TryAgain, match="503"):
            fetch(server.url + "/a", tmp_path / "a")
        assert not (tmp_path / "a").exists()
        server.pages["/a"] = with_ranges(data, '"one"')
        fetch(server.url + "/a", tmp_path / "a")
        assert server.starts == [0, 3200]
    assert (tmp_path / "a").read_bytes() == data


def test_changed_meanwhile(tmp_path):
    """A file that changed on the server between two tries is begun anew, never mixed."""
    old, new = b"o" * 10_000, b"n" * 10_000
    with web() as server:
        server.pages["/a"] = lambda handler, times: (
            with_ranges(old, '"old"', keep=0.5) if times == 1 else with_ranges(new, '"new"')
        )(handler, times)
        fetch(server.url + "/a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == new


def test_cut_without_ranges(tmp_path):
    """A server that knows no ranges is asked for the whole again."""
    data = b"x" * 10_000
    with web() as server:
        server.pages["/a"] = lambda handler, times: (cut(data) if times == 1 else body(data))(
            handler, times
        )
        fetch(server.url + "/a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == data


def test_failing_the_check(tmp_path):
    """A file that fails its check is tried once more and never takes its name."""
    with web() as server:
        server.pages["/a"] = b"wrong"
        with pytest.raises(TryAgain, match="its size is off"):
            fetch(server.url + "/a", tmp_path / "a", check=lambda part: "its size is off")
        assert server.times("/a") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["a.lock"]


def test_known_sizes_and_hashes(tmp_path, monkeypatch):
    """What claims to be a table of Open Images has its recorded size and hash."""
    data = (",".join(metadata.BOX_COLUMNS) + "\n").encode()
    with web() as server:
        base = server.url + "/2018_04/"
        monkeypatch.setattr(metadata, "BASE_URL", base)
        monkeypatch.setattr(fetching, "_TRIES", 1)
        server.pages[f"/2018_04/{BOXES}"] = data
        for known, word in [
            (metadata._Known(len(data) + 1), "bytes"),
            (metadata._Known(len(data), "sha256", "0" * 64), "sha256"),
        ]:
            monkeypatch.setitem(metadata._KNOWN, BOXES, known)
            with pytest.raises(TryAgain, match=word):
                metadata.fetch([BOXES], base, tmp_path, quiet=True)


def test_a_page_is_no_table(server, tmp_path):
    """A page with status 200 in place of a table is refused by its missing columns."""
    server.pages[f"/2018_04/{BOXES}"] = b"<html>Please log in</html>"
    with pytest.raises(TryAgain, match="lacks the columns Confidence"):
        metadata.fetch([BOXES], server.url + "/2018_04", tmp_path / "cache", quiet=True)
    assert not list((tmp_path / "cache").rglob("*.csv"))


def test_missing_on_the_site(server, tmp_path):
    """A 404 says that the base URL may be the wrong folder, and is not tried again."""
    with pytest.raises(metadata.MissingTable, match="base URL ends in the folder"):
        metadata.fetch([BOXES], server.url + "/elsewhere", tmp_path, quiet=True)
    assert len(server.asked) == 1


def test_nobody_there(tmp_path):
    """A site that can't be reached is a matter of trying again."""
    with pytest.raises(TryAgain, match="can't be reached"):
        fetch(f"http://127.0.0.1:{closed_port()}/a", tmp_path / "a")


def test_stopped(tmp_path):
    """A fetch that is told to stop ends soon and keeps what has arrived."""
    stop = threading.Event()
    stop.set()
    with web() as server:
        server.pages["/a"] = with_ranges(b"x" * 10_000, '"one"')
        with pytest.raises(fetching.Stopped):
            fetch(server.url + "/a", tmp_path / "a", stop=stop)
    assert not (tmp_path / "a").exists()


def test_interrupted_while_another_run_fetches(server, tmp_path):
    """Ctrl-C ends the wait for a table that another process is fetching."""
    base = f"{server.url}/2018_04/"
    target = metadata._folder_of(base, tmp_path / "cache") / BOXES
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    with files.lock(target.with_name(target.name + ".lock")):
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            metadata.fetch([BOXES], base, tmp_path / "cache", quiet=True)

def test_two_runs_share_the_cache(tmp_path):
    """Of two fetches of one file at once, one asks and both have it."""
    with web() as server:

        def slow(handler, times):
            time.sleep(0.2)
            body(b"data")(handler, times)

        server.pages["/a"] = slow
        threads = [
            threading.Thread(target=fetch, args=(server.url + "/a", tmp_path / "a"))
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert server.times("/a") == 1
    assert (tmp_path / "a").read_bytes() == b"data"


@pytest.mark.parametrize("base", ["ftp://host/2018_04", "http:///2018_04", "no/such/folder"])
def test_what_is_no_base(base):
    """A base that is neither a web address nor a directory is bad input."""
    with pytest.raises(BadInput, match=r"http://|directory"):
        metadata.fetch([BOXES], base)
