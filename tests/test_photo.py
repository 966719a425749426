"""One photo: what a file must be, and what each answer of a hostile server means."""

import io
import pickle
from base64 import b64encode
from hashlib import md5

import pytest
from PIL import Image
from web import (
    body,
    bomb,
    chunked,
    closed_port,
    cut,
    drip,
    endless,
    hang,
    jpeg,
    redirect,
    status,
    unframed,
    web,
)

from openimager.errors import BadInput
from openimager.web import photo, sources
from openimager.web.client import Client, DiskTrouble, Request, Settings

QUICK = Settings(connect=5.0, read=1.0, whole=1.5, most_bytes=1 << 20)
PHOTO = jpeg(1)


def recorded(data):
    return len(data), b64encode(md5(data).digest()).decode()


def as_format(name, seed=1):
    stream = io.BytesIO()
    Image.open(io.BytesIO(jpeg(seed))).save(stream, name)
    return stream.getvalue()


@pytest.fixture(scope="module")
def server():
    with web() as running:
        yield running


@pytest.fixture(scope="module")
def client():
    client = Client(QUICK)
    yield client
    client.close()


@pytest.fixture
def ask(server, client, tmp_path):
    def ask(page, size=None, md5=None, path="/photo.jpg"):
        server.pages = {path: page}
        return client.ask(Request(server.url + path, tmp_path / "photo.part", size, md5))

    return ask


def test_whole_photo(ask, tmp_path):
    """A photo that is the recorded one is kept, byte for byte, and measured."""
    answer = ask(PHOTO, *recorded(PHOTO))
    assert (answer.kind, answer.width, answer.height, answer.size) == ("ok", 96, 64, len(PHOTO))
    assert (tmp_path / "photo.part").read_bytes() == PHOTO


@pytest.mark.parametrize("page", [unframed(PHOTO), chunked(PHOTO)])
def test_whole_photo_without_length(ask, page):
    """A photo needs no Content-Length."""
    assert ask(page, *recorded(PHOTO)).kind == "ok"


def test_compressed_on_the_way(ask):
    """A server that compresses although it was asked not to is understood."""
    import gzip

    page = body(gzip.compress(PHOTO), Content_Encoding="gzip")
    assert ask(page, *recorded(PHOTO)).kind == "ok"


HOSTILE = {
    "404": (status(404), "gone", "answered 404"),
    "410": (status(410), "gone", "answered 410"),
    "403": (status(403), "gone", "answered 403"),
    "429": (status(429, Retry_After="7"), "busy", "answered 429"),
    "500": (status(500), "failed", "answered 500"),
    "503": (status(503), "failed", "answered 503"),
    "408": (status(408), "failed", "answered 408"),
    "204": (status(204), "failed", "answered 204"),
    "cut": (cut(PHOTO), "failed", "cut short"),
    "cut by a byte": (cut(PHOTO, 0.9999), "failed", "cut short"),
    "cut without length": (unframed(PHOTO[: len(PHOTO) // 2]), "failed", "cut short"),
    "cut chunks": (chunked(PHOTO, whole=False), "failed", "cut short"),
    "nothing without length": (unframed(b""), "failed", "cut short"),
    "hang": (hang, "failed", "timed out"),
    "drip": (drip(PHOTO), "failed", "not whole after 1.5 s"),
    "html": (body(b"<!doctype html><p>Sign in</p>"), "gone", "no photo"),
    "html without length": (unframed(b"<!doctype html><p>Sign in</p>"), "gone", "no photo"),
    "empty": (body(b""), "gone", "no photo"),
    "damaged": (body(PHOTO[:-900]), "gone", "does not decode to its end"),
    "png": (body(as_format("PNG")), "gone", "no JPEG but a PNG"),
    "bomb": (body(bomb()), "gone", "too many pixels: 60,000 x 60,000"),
    "endless": (endless(PHOTO), "gone", "larger than 1,048,576 bytes"),
    "too long, as told": (body(PHOTO + bytes(1 << 20)), "gone", "larger than 1,048,576 bytes"),
    "file:": (redirect("file:///etc/passwd"), "gone", "neither http nor https"),
    "ftp:": (redirect("ftp://127.0.0.1/a.jpg"), "gone", "neither http nor https"),
    "nowhere": (redirect("http://[::1/"), "gone", "neither http nor https"),
    "placeholder by redirect": (
        redirect("https://s.yimg.com/pw/images/en-us/photo_unavailable_l.png"),
        "gone",
        "placeholder",
    ),
    "placeholder by size": (body(jpeg(2)[:1500] + bytes(551)), "gone", "placeholder"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_server(ask, tmp_path, name):
    """Each kind of trouble is gone or failed as it should be, in stable words, leaving no file."""
    page, kind, words = HOSTILE[name]
    answer = ask(page)
    assert (answer.kind, words in answer.error) == (kind, True), answer
    assert list(tmp_path.iterdir()) == []


def test_endless_body_is_not_drunk_to_the_end(ask, server):
    """The connection is dropped once the bound is passed."""
    ask(endless(PHOTO, most=256 << 20), size=len(PHOTO))
    assert "drunk to the end" not in server.pages


def test_endless_body_is_bounded_by_the_recorded_size(ask):
    """One byte more than recorded is enough to know that it is another photo."""
    answer = ask(endless(PHOTO), *recorded(PHOTO))
    assert (answer.kind, f"more than the {len(PHOTO):,} bytes" in answer.error) == ("gone", True)


def test_retry_after_is_passed_on(ask):
    """What the server asks for reaches whoever decides when to ask again."""
    assert ask(status(429, Retry_After="7")).after == 7.0


@pytest.mark.parametrize("location", ["/b.jpg", "b.jpg", "//127.0.0.1/b.jpg"])
def test_redirect_is_not_followed_but_resolved(ask, server, location):
    """One request is one request; the place to go to is told, resolved as a browser would."""
    answer = ask(redirect(location))
    host = "http://127.0.0.1" if location.startswith("//") else server.url
    assert (answer.kind, answer.location) == ("moved", f"{host}/b.jpg")


def test_connection_refused(client, tmp_path):
    """A refused connection is failed: the host may be back tomorrow."""
    answer = client.ask(Request(f"http://127.0.0.1:{closed_port()}/a.jpg", tmp_path / "a.part"))
    assert (answer.kind, answer.error, answer.heard) == ("failed", "connection refused", False)


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999/a", "http://a..b/a", "http://%/a"])
def test_address_that_is_no_url(client, tmp_path, url):
    """An address that no request can be made of is gone, whatever the library raises on it."""
    assert client.ask(Request(url, tmp_path / "a.part")).kind == "gone"


@pytest.mark.parametrize("page", [body(jpeg(2)), unframed(jpeg(2)), body(PHOTO[:-900])])
def test_another_size(ask, page):
    """A whole photo, or a framed body, of another size is another photo."""
    size, digest = recorded(PHOTO + bytes(5000))
    for known in (None, digest):
        answer = ask(page, size, known)
        assert (answer.kind, "another photo" in answer.error) == ("gone", True)


def test_another_md5(ask):
    """A photo of the recorded size with another MD5 is another photo."""
    other = jpeg(2)
    answer = ask(other, len(other), recorded(PHOTO)[1])
    assert (answer.kind, "MD5" in answer.error) == ("gone", True)


def test_recorded_photo_may_be_a_png(ask):
    """Flickr keeps PNGs as originals: one with the recorded MD5 is the photo."""
    png = as_format("PNG")
    assert ask(png, *recorded(png)).kind == "ok"


@pytest.mark.parametrize("name", ["PNG", "GIF", "WEBP"])
def test_damaged_recorded_photo(ask, name):
    """What is recorded but does not decode is gone: no browser could show it either."""
    data = as_format(name)[:-500]
    answer = ask(data, *recorded(data))
    assert (answer.kind, answer.error) == ("gone", photo.DAMAGED)


def test_recorded_photo_of_the_placeholders_size(ask):
    """A photo that happens to have 2,051 bytes is a photo if the table says so."""
    data = jpeg(3, size=(8, 8))
    data += bytes(2051 - len(data))
    assert ask(data, *recorded(data)).kind == "ok"
    assert ask(data, size=2051).kind == "ok"
    assert ask(data).kind == "gone"


def test_placeholder_by_hash(monkeypatch, tmp_path):
    """A known copy of the placeholder is known by its MD5, whatever its size."""
    (tmp_path / "a").write_bytes(PHOTO)
    monkeypatch.setattr(photo, "_PLACEHOLDER_MD5", md5(PHOTO).hexdigest())
    assert photo.judge(tmp_path / "a").fault == photo.PLACEHOLDER


def test_grey_photo_is_a_photo(ask):
    """A grey photo has one channel and is no placeholder."""
    stream = io.BytesIO()
    Image.open(io.BytesIO(PHOTO)).convert("L").save(stream, "JPEG")
    assert ask(stream.getvalue()).kind == "ok"


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
@pytest.mark.parametrize("lost", [3, 10, 100, 1000])
def test_cut_in_the_last_row(tmp_path, options, lost):
    """Decoding to an eighth still notices that the last bytes of the last row are missing."""
    data = jpeg(1, size=(200, 136), **options)
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    assert photo.decode(path, photo.MOST_PIXELS) == (200, 136, "")
    path.write_bytes(data[:-lost])
    assert photo.decode(path, photo.MOST_PIXELS)[2] == photo.DAMAGED


def test_recorded_size_beyond_the_bound(ask, server):
    """A table cannot ask for a photo larger than any: nothing is requested."""
    before = len(server.asked)
    assert ask(PHOTO, size=10**18).kind == "gone"
    assert len(server.asked) == before


def test_disk_trouble_is_no_trouble_of_the_photo(server, client, tmp_path):
    """A file that cannot be written ends the run; it says nothing of the photo."""
    server.pages = {"/photo.jpg": PHOTO}
    with pytest.raises(DiskTrouble):
        client.ask(Request(f"{server.url}/photo.jpg", tmp_path / "missing" / "photo.part"))


def test_connection_is_kept(server, tmp_path):
    """Photos, redirects and short refusals share a connection."""
    from http.server import BaseHTTPRequestHandler

    seen = set()
    original = BaseHTTPRequestHandler.setup

    def setup(self):
        seen.add(self.client_address)
        original(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseHTTPRequestHandler, "setup", setup)
        fresh = Client(QUICK)
        for page in (PHOTO, redirect("/b.jpg"), status(404), status(429), PHOTO):
            server.pages = {"/photo.jpg": page}
            fresh.ask(Request(f"{server.url}/photo.jpg", tmp_path / "a.part"))
        fresh.close()
    assert len(seen) == 1


def test_client_says_what_it_is(server, ask):
    """The User-Agent names this program, and nothing that it is not."""
    ask(PHOTO)
    assert all(agent.startswith("openimager/") for agent in server.agents)


def test_pickled_client_works(server, client, tmp_path):
    """The unit of work can be sent to another process: settings travel, connections do not."""
    server.pages = {"/photo.jpg": PHOTO}
    request = Request(f"{server.url}/photo.jpg", tmp_path / "a.part", *recorded(PHOTO))
    ask, request = pickle.loads(pickle.dumps((client.ask, request)))
    answer = pickle.loads(pickle.dumps(ask(request)))
    assert answer.kind == "ok"


def test_one_list_of_authorities(monkeypatch):
    """All connections share one TLS context; none reads the list of authorities again."""
    client = Client(QUICK)
    adapter = client._session.get_adapter("https://example.org/")
    pool = adapter.poolmanager.connection_from_url("https://example.org/")
    adapter.cert_verify(pool, "https://example.org/", True, None)
    connection = pool._new_conn()
    assert (
        connection.ssl_context.get_ca_certs() or connection.ssl_context.cert_store_stats()["x509"]
    )
    assert (pool.cert_reqs, pool.ca_certs, pool.ca_cert_dir) == ("CERT_REQUIRED", None, None)
    client.close()


ROW = {
    "ImageID": "0123456789abcdef",
    "Subset": "train",
    "OriginalURL": "https://farm1.staticflickr.com/1/2_o.jpg",
    "Thumbnail300KURL": "",
    "OriginalSize": 7,
    "OriginalMD5": "x",
    "Title": "a/../b & c",
}


def places(source, base="http://127.0.0.1:1/2018_04/", **fields):
    found = sources.of_photo(ROW | fields, sources.checked(source), base)
    return [(place.name, place.url) for place in found]


def test_default_sources():
    """CVDF mirrors what came from Flickr; by default no other photo is looked for there."""
    cvdf = "https://open-images-dataset.s3.amazonaws.com/train/0123456789abcdef.jpg"
    assert places(None) == [("flickr", ROW["OriginalURL"]), ("cvdf", cvdf)]
    relative = places(None, OriginalURL="../photos/a.jpg")
    assert relative == [("flickr", "http://127.0.0.1:1/photos/a.jpg")]
    assert places("cvdf", OriginalURL="../photos/a.jpg") == [("cvdf", cvdf)]


def test_template_cannot_climb():
    """Fields are quoted, so that a title cannot change where an address leads."""
    assert places("https://host/{Title}.jpg")[0][1] == "https://host/a%2F..%2Fb%20%26%20c.jpg"


def test_only_originals_are_compared():
    """Size and MD5 are those of the Flickr original and of nothing else."""
    found = sources.of_photo(ROW, ("flickr", "cvdf", "http://h/{ImageID}"), "http://h/")
    assert [(place.size, place.md5) for place in found] == [(7, "x"), (None, None), (None, None)]


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://h/a", "http://[a", ""])
def test_addresses_that_lead_nowhere(url):
    """Only http and https are ever asked."""
    assert places("flickr", OriginalURL=url) == [("flickr", "")]


BAD_SOURCES = [
    "flicker",
    "https://host/{Image}.jpg",
    "https://host/{ImageID!r}",
    "https://host/{ImageID[0]}",
    "https://host/a.jpg",
    "https://host/{",
    "{OriginalURL}",
    (),
]


@pytest.mark.parametrize("source", BAD_SOURCES)
def test_bad_sources(source):
    """A source that is neither a name nor a template is refused, with what is allowed."""
    with pytest.raises(BadInput, match=r"Allowed|is no template"):
        sources.checked(source)
