"""A small Open Images of drawn pictures, and a local server for it, or for tables like these.

The sample has what Open Images has, so that everything can be tried offline: rotated and grey
photos, groups, depictions, unknown flags, bursts of near-duplicates, photos that are gone. The
pictures are drawn and their credits invented; numbers measured on them say nothing about photos.
"""

import argparse
import contextlib
import csv
import functools
import hashlib
import json
import os
import posixpath
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from openimager.errors import BadInput, exit_status
from openimager.files import cache_folder, lock
from openimager.tables import catalogue

TABLES = "2018_04"
_FILES = {file["path"] for file in catalogue.FILES if "sample" in file["releases"].split()}
[_CLASSES] = catalogue.table_paths("sample", "classes")
_PICTURES = (".jpg", ".jpeg", ".png")
_PLACEHOLDER = "photos/photo_unavailable.png"


def build(directory: str | os.PathLike | None = None, seed: int = 0, photos: int = 400) -> Path:
    """Draw the sample, unless it exists already; return its folder of tables, ``.../2018_04``.

    `directory` is a new or empty folder for the site, by default one in the per-user cache. Equal
    seeds give equal pictures and tables. `photos` is at least 12: one of each category in each
    subset. BadInput if it is less, or if the folder holds something else.
    """
    import PIL

    if photos < 12:
        raise BadInput(f"The sample needs at least 12 photos, not {photos}.")
    # The code that draws is part of the name, so that a sample in the cache is never an older one.
    files = Path(str(resources.files("openimager_sample"))).glob("*.py")
    code = PIL.__version__ + "".join(path.read_text("utf-8") for path in sorted(files))
    name = f"sample-{seed}-{photos}-{hashlib.sha256(code.encode()).hexdigest()[:12]}"
    site = Path(directory or cache_folder() / name)
    mark = site / "sample.txt"
    with lock(cache_folder() / f".{name}.lock"):  # not in a user's folder, where `site` may be
        if site.exists():
            if directory is None or (mark.is_file() and mark.read_text(encoding="utf-8") == name):
                return site / TABLES
            if not site.is_dir() or any(site.iterdir()):
                other = "is not empty and holds no sample of this seed and size"
                raise BadInput(f"'{site}' {other}. Give a new folder, or remove that one.")
            site.rmdir()
        from openimager_sample.site import draw_site

        site.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(".part", f".{site.name}.", site.parent) as part:
            drawn = Path(part, "site")
            draw_site(drawn, seed, photos)
            (drawn / mark.name).write_text(name, encoding="utf-8")
            os.replace(drawn, site)
    return site / TABLES


@contextlib.contextmanager
def serve(directory: str | os.PathLike | None = None, port: int = 0) -> Iterator[str]:
    """Serve a site on this machine while the block runs, and yield its base URL.

    `directory` is the root of a site in the layout of V4, or its folder of tables; by default the
    sample. Of its files, only the tables of that layout are served, and photos that they name by
    relative addresses. Port 0 takes a free one; BadInput if the port is taken or there is no site.
    """
    tables = _tables(build() if directory is None else directory)
    try:
        server = _Server(tables, port)
    except (OSError, OverflowError) as error:
        raise BadInput(f"Port {port} cannot be used ({error}). Give another one.") from None
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/{quote(server.tables.name)}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _tables(directory: str | os.PathLike) -> Path:
    """Return the folder of the tables of a site: `directory` itself, or one directly in it."""
    root = Path(directory).resolve()
    if not root.is_dir():
        raise BadInput(f"There is no folder {str(directory)!r}.")
    for folder in (root / TABLES, root, *sorted(filter(Path.is_dir, root.iterdir()))):
        if (folder / _CLASSES).is_file() or any(folder.glob("*/*-annotations-bbox.csv")):
            return folder
    raise BadInput(
        f"{str(directory)!r} is not a site in the layout of Open Images: neither it nor a folder "
        f"in it holds {_CLASSES} or train/train-annotations-bbox.csv."
    )


class _Server(ThreadingHTTPServer):
    """Serves one site on 127.0.0.1, one thread per connection."""

    request_queue_size = 256

    def __init__(self, tables: Path, port: int):
        self.tables, self.root = tables, tables.parent
        path = self.root / "responses.json"
        try:
            self.responses = dict(json.loads(path.read_text("utf-8"))) if path.is_file() else {}
        except (ValueError, TypeError):
            raise BadInput(f"{path} is no JSON object of paths and responses.") from None
        handler = functools.partial(_Handler, directory=self.root)
        super().__init__(("127.0.0.1", port), handler)

    @functools.cached_property
    def photos(self) -> set[str]:
        """The photos that the tables name by relative addresses, as paths below the root."""
        names = {_PLACEHOLDER}
        for path in self.tables.glob("*/*-with-rotation.csv"):
            with open(path, encoding="utf-8", newline="") as stream:
                for row in csv.DictReader(stream):
                    urls = row.get("OriginalURL") or "", row.get("Thumbnail300KURL") or ""
                    relative = (unquote(url) for url in urls if "://" not in url)
                    names |= {posixpath.normpath(f"{self.tables.name}/{url}") for url in relative}
        return {name for name in names if Path(name).suffix.lower() in _PICTURES}

    def has(self, name: str) -> bool:
        """Tell whether a path below the root is a file of the site."""
        folder, _, rest = name.partition("/")
        listed = (folder == self.tables.name and rest in _FILES) or name in self.photos
        path = self.root / name
        # A link may point anywhere.
        return listed and path.is_file() and path.resolve().is_relative_to(self.root)

    def handle_error(self, *args):
        """Ignore errors, which are nearly always clients that disconnect."""


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Header and body are separate packets; Nagle's algorithm would delay the second by 40 ms.
    disable_nagle_algorithm = True
    timeout = 60

    def send_head(self):
        """Answer what is not a file of the site; the parent class sends those that are."""
        name = unquote(urlsplit(self.path).path).removeprefix("/")
        response = self.server.responses.get(name)
        if response == "placeholder":
            return self._answer(302, "Location", f"/{_PLACEHOLDER}")
        if response == "busy-once" and self.server.responses.pop(name, None):
            return self._answer(429, "Retry-After", "1")
        if response == "gone" or not self.server.has(name):
            return self._answer(404)
        return super().send_head()

    def _answer(self, status: int, header: str = "", value: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        if header:
            self.send_header(header, value)
        self.end_headers()

    def log_message(self, *args):
        """Keep quiet: standard error belongs to the user."""


def main(argv: list[str] | None = None) -> int:
    """Serve the sample or a directory until interrupted; stdout's first line is the base URL."""
    about = "Serve the drawn sample, or your own tables and photos, on this machine until Ctrl-C."
    parser = argparse.ArgumentParser(prog="python -m openimager.sample", description=about)
    text = "a folder laid out like Open Images V4, or its folder of tables (default: the sample)"
    parser.add_argument("directory", nargs="?", metavar="DIRECTORY", help=text)
    parser.add_argument("--port", type=int, default=0, metavar="P", help="default: a free one")
    options = vars(parser.parse_args(argv))

    def work() -> None:
        with contextlib.suppress(KeyboardInterrupt), serve(**options) as base_url:
            print(base_url, flush=True)
            command = f"python -m openimager NAME --base-url {base_url}"
            print(f"In another shell:  {command}\nCtrl-C stops it.", file=sys.stderr, flush=True)
            while True:
                time.sleep(0.5)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    return exit_status(work)


if __name__ == "__main__":
    sys.exit(main())
