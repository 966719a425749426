"""Requests for one photo: which files are accepted, and what each server fault means."""

import asyncio
import io
import ssl
from base64 import b64encode
from hashlib import md5
from http.server import BaseHTTPRequestHandler

import pytest
from builders import bomb, jpeg
from PIL import Image
from web import (
    body,
    chunked,
    closed_port,
    cut,
    drip,
    endless,
    hang,
    noise,
    redirect,
    status,
    unframed,
    web,
)

from openimager.errors import BadInput
from openimager.photos import check
from openimager.photos.client import Client
from openimager.photos.photo import Settings, Source, checked_sources, sources_of

QUICK = Settings(connect=5.0, read=1.0, whole=1.5, most_bytes=1 << 20)
PHOTO = jpeg(1)
HTML = b"<!doctype html><p>Sign in</p>"


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


def source(url, size=None, md5=None):
    return Source("flickr", url, url, size=size, md5=md5)


def asked(*sources):
    """Return the answers to requests of one client, one after another."""

    async def answers():
        async with Client(QUICK) as client:
            return [await client.request(one) for one in sources]

    return asyncio.run(answers())


@pytest.fixture
def ask(server):
    def ask(page, size=None, md5=None, path="/photo.jpg"):
        server.pages = {path: page}
        return asked(source(server.url + path, size, md5))[0]

    return ask


def test_whole_photo(ask):
    """The recorded photo is kept byte for byte, with its width and height."""
    answer = ask(PHOTO, *recorded(PHOTO))
    assert (answer.kind, answer.width, answer.height, answer.data) == ("ok", 96, 64, PHOTO)


@pytest.mark.parametrize("page", [unframed(PHOTO), chunked(PHOTO)])
def test_whole_photo_without_length(ask, page):
    """A response without Content-Length is accepted."""
    assert ask(page, *recorded(PHOTO)).kind == "ok"


def test_compressed_on_the_way(ask):
    """A compressed response is decoded, although compression was not requested."""
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
    "204": (body(b"", code=204), "failed", "answered 204"),
    "cut": (cut(PHOTO), "failed", "cut short"),
    "cut by a byte": (cut(PHOTO, 0.9999), "failed", "cut short"),
    "cut without length": (unframed(PHOTO[: len(PHOTO) // 2]), "failed", "cut short"),
    "cut chunks": (chunked(PHOTO, whole=False), "failed", "cut short"),
    "nothing without length": (unframed(b""), "failed", "cut short"),
    "hang": (hang, "failed", "timed out"),
    "not HTTP": (noise, "failed", "not valid HTTP"),
    "drip": (drip(PHOTO), "failed", "not whole after 1.5 s"),
    "html": (body(b"<!doctype html><p>Sign in</p>"), "gone", "not a photo"),
    "html without length": (unframed(b"<!doctype html><p>Sign in</p>"), "gone", "not a photo"),
    "empty": (body(b""), "gone", "not a photo"),
    "damaged": (body(PHOTO[:-900]), "gone", "does not decode to its end"),
    "png": (body(as_format("PNG")), "gone", "not a JPEG but a PNG"),
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
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_server(ask, name):
    """Each fault gives the expected kind and error message."""
    page, kind, words = HOSTILE[name]
    answer = ask(page)
    assert (answer.kind, words in answer.error, answer.data) == (kind, True, b""), answer


def test_endless_body_is_not_drunk_to_the_end(ask, server):
    """The connection is closed as soon as the limit of bytes is exceeded."""
    ask(endless(PHOTO, most=256 << 20), size=len(PHOTO))
    assert "drunk to the end" not in server.pages


def test_endless_body_is_bounded_by_the_recorded_size(ask):
    """A response of more bytes than recorded is another photo, so reading stops."""
    answer = ask(endless(PHOTO), *recorded(PHOTO))
    assert (answer.kind, f"more than the {len(PHOTO):,} bytes" in answer.error) == ("gone", True)


def test_retry_after_is_passed_on(ask):
    """The answer has the seconds of Retry-After."""
    assert ask(status(429, Retry_After="7")).after == 7.0


@pytest.mark.parametrize("location", ["/b.jpg", "b.jpg", "//127.0.0.1/b.jpg"])
def test_redirect_is_not_followed_but_resolved(ask, server, location):
    """The client does not follow a redirect; it returns the resolved address."""
    answer = ask(redirect(location))
    host = "http://127.0.0.1" if location.startswith("//") else server.url
    assert (answer.kind, answer.location) == ("moved", f"{host}/b.jpg")


def test_connection_refused():
    """A refused connection is failed, not gone, because the host may return."""
    [answer] = asked(source(f"http://127.0.0.1:{closed_port()}/a.jpg"))
    assert (answer.kind, answer.error, answer.received) == ("failed", "connection refused", False)


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999/a", "http://a..b/a"])
def test_address_that_is_no_url(url):
    """An invalid address is gone, whatever error the library raises."""
    assert asked(source(url))[0].kind == "gone"


@pytest.mark.parametrize("page", [body(jpeg(2)), unframed(jpeg(2)), body(PHOTO[:-900])])
def test_another_size(ask, page):
    """A whole response of another size than recorded is another photo."""
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
    """Flickr keeps PNGs as originals, so a PNG with the recorded MD5 is accepted."""
    png = as_format("PNG")
    assert ask(png, *recorded(png)).kind == "ok"


def test_recorded_photo_is_not_decoded(ask, monkeypatch):
    """With the recorded MD5, only format and dimensions are checked, without decoding."""
    monkeypatch.setattr(check.JpegImagePlugin.JpegImageFile, "load", None)
    answer = ask(PHOTO, *recorded(PHOTO))
    assert (answer.kind, answer.width, answer.height) == ("ok", 96, 64)
    assert ask(HTML, *recorded(HTML)).error == check.NO_PHOTO
    assert "too many pixels" in ask(bomb(), *recorded(bomb())).error


def test_etag_replaces_the_decode_alone(ask, monkeypatch):
    """If the ETag is the MD5 of the bytes, the photo is not decoded; otherwise it is."""
    cut_off = PHOTO[:-900]
    etag = f'"{md5(cut_off).hexdigest()}"'
    assert ask(body(cut_off, ETag=etag)).kind == "ok"
    for other in (f'"{md5(PHOTO).hexdigest()}"', f'"{md5(cut_off).hexdigest()}-2"', "W/" + etag):
        assert ask(body(cut_off, ETag=other)).error == check.DAMAGED
        assert ask(body(PHOTO, ETag=other)).kind == "ok"
    for data in (HTML, as_format("PNG"), bomb()):
        assert ask(body(data, ETag=f'"{md5(data).hexdigest()}"')).kind == "gone"


def test_photo_of_the_placeholders_size(ask):
    """A photo of 2,051 bytes, the placeholder's size, is accepted."""
    data = jpeg(3, size=(8, 8))
    data += bytes(2051 - len(data))
    for known in (recorded(data), (2051, None), (None, None)):
        assert ask(data, *known).kind == "ok"
    assert ask(data, 2050).kind == "gone"


def test_placeholder_by_hash(monkeypatch):
    """The placeholder is recognised by its MD5, unless the table records that MD5."""
    data = PHOTO + bytes(50)
    monkeypatch.setattr(check, "_PLACEHOLDER_MD5", md5(data).hexdigest())
    monkeypatch.setattr(check, "_PLACEHOLDER_SIZE", len(data))
    assert check.look(data).fault == check.PLACEHOLDER
    assert check.look(data, *recorded(data)).fault == ""


def test_grey_photo_is_a_photo(ask):
    """A grey photo is accepted, although it has only one channel."""
    stream = io.BytesIO()
    Image.open(io.BytesIO(PHOTO)).convert("L").save(stream, "JPEG")
    assert ask(stream.getvalue()).kind == "ok"


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
@pytest.mark.parametrize("lost", [3, 10, 100, 1000])
def test_cut_in_the_last_row(options, lost):
    """Decoding at an eighth detects that bytes of the last row are missing."""
    data = jpeg(1, size=(200, 136), **options)
    assert check.look(data)[:3] == (200, 136, "")
    assert check.look(data[:-lost]).fault == check.DAMAGED


def test_recorded_size_beyond_the_bound(server):
    """A recorded size above the limit makes the photo gone, without a request."""
    before = len(server.asked)
    answer = asyncio.run(Client(QUICK).fetch(source(f"{server.url}/photo.jpg", size=10**18)))
    assert (answer.kind, len(server.asked)) == ("gone", before)


def test_connection_is_kept(server, monkeypatch):
    """Photos, redirects and short error responses share one connection."""
    seen = set()
    original = BaseHTTPRequestHandler.setup

    def setup(self):
        seen.add(self.client_address)
        original(self)

    monkeypatch.setattr(BaseHTTPRequestHandler, "setup", setup)
    pages = (PHOTO, redirect("/b.jpg"), status(404), status(429), PHOTO)
    server.pages = {f"/{number}": page for number, page in enumerate(pages)}
    asked(*(source(server.url + path) for path in server.pages))
    assert len(seen) == 1


def test_client_says_what_it_is(server, ask):
    """The User-Agent begins with openimager/."""
    ask(PHOTO)
    assert all(agent.startswith("openimager/") for agent in server.agents)


def test_one_tls_context():
    """All connections share one TLS context, so certificates are read only once."""
    client = Client(QUICK)
    contexts = {client._route(f"https://example.{end}/")["ssl"] for end in ("org", "com")}
    assert len(contexts) == 1
    [context] = contexts
    assert context.cert_store_stats()["x509"] and context.verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize(
    ("url", "proxied"),
    [
        ("http://example.org/a.jpg", True),
        ("http://inside.example.org/a.jpg", False),
        ("http://127.0.0.1:1/a.jpg", False),
    ],
)
def test_proxy_of_the_environment(server, monkeypatch, url, proxied):
    """HTTP_PROXY is used, with its password, except for NO_PROXY and loopback."""
    proxy = server.url.replace("//", "//user:p%40ss@")
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.setenv("no_proxy", "inside.example.org")
    logins = []

    def page(handler, times):
        logins.append(handler.headers["Proxy-Authorization"])
        body(PHOTO)(handler, times)

    server.pages = {"http://example.org/a.jpg": page}
    assert Client(QUICK)._route(url)["proxy"] == (proxy if proxied else None)
    if proxied:
        assert asked(source(url))[0].kind == "ok"
        assert logins == ["Basic dXNlcjpwQHNz"]


ROW = {
    "ImageID": "0123456789abcdef",
    "Subset": "train",
    "OriginalURL": "https://farm1.staticflickr.com/1/2_o.jpg",
    "Thumbnail300KURL": "",
    "OriginalSize": 7,
    "OriginalMD5": "x",
    "Title": "a/../b & c",
}


def places(name, base="http://127.0.0.1:1/2018_04/", **fields):
    found = sources_of(ROW | fields, Settings(sources=checked_sources(name), base=base))
    return [(place.name, place.url) for place in found]


def test_default_sources():
    """By default, only photos from Flickr are also looked for on CVDF."""
    cvdf = "https://open-images-dataset.s3.amazonaws.com/train/0123456789abcdef.jpg"
    assert places(None) == [("flickr", ROW["OriginalURL"]), ("cvdf", cvdf)]
    relative = places(None, OriginalURL="../photos/a.jpg")
    assert relative == [("flickr", "http://127.0.0.1:1/photos/a.jpg")]
    assert places("cvdf", OriginalURL="../photos/a.jpg") == [("cvdf", cvdf)]


def test_template_cannot_climb():
    """Fields are quoted, so that a title cannot change the path of an address."""
    assert places("https://host/{Title}.jpg")[0][1] == "https://host/a%2F..%2Fb%20%26%20c.jpg"


def test_only_originals_are_compared():
    """Only the Flickr original has a size and an MD5 to compare."""
    found = sources_of(ROW, Settings(sources=("flickr", "cvdf", "http://h/{ImageID}")))
    assert [(place.size, place.md5) for place in found] == [(7, "x"), (None, None), (None, None)]


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://h/a", "http://[a", ""])
def test_addresses_that_lead_nowhere(url):
    """Addresses other than http and https are not used."""
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
    """A source that is neither a name nor a valid template is refused."""
    with pytest.raises(BadInput, match=r"Allowed|is not a valid template"):
        checked_sources(source)
