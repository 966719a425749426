"""A small web server on loopback for a site in the V4 layout."""

import collections
import contextlib
import email.utils
import json
import os
import re
import socket
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from openimager.errors import BadInput

TYPES = {
    ".csv": "text/csv; charset=utf-8",
    ".json": "application/json",
    ".jpg": "image/jpeg",
    ".png": "image/png",
}
RESPONSES = "responses.json"
PLACEHOLDER = "photos/photo_unavailable.png"

_CLASSES = "class-descriptions-boxable.csv"
_BOXES = "*/*-annotations-bbox.csv"
_BLOCK = 1 << 16


def tables_folder(directory: str | os.PathLike) -> Path:
    """Return the folder of the tables of a site: `directory` itself, or one right below it.

    Parameters
    ----------
    directory : path-like
        The root of a site, or its folder of tables (``.../2018_04``, whatever its name).

    Raises
    ------
    BadInput
        If there is no such folder, or more than one and none of them is called ``2018_04``.
    """
    given = Path(directory)
    directory = given.resolve()
    if not directory.is_dir():
        raise BadInput(f"There is no folder {str(given)!r}.")
    if _has_tables(directory):
        return directory
    found = sorted(folder for folder in directory.iterdir() if _has_tables(folder))
    named = [folder for folder in found if folder.name == "2018_04"]
    if len(found) == 1 or named:
        return (named or found)[0]
    if found:
        names = ", ".join(repr(folder.name) for folder in found)
        raise BadInput(f"{str(given)!r} has several folders of tables, name one of them: {names}.")
    raise BadInput(
        f"{str(given)!r} is no site in the layout of Open Images V4: neither it nor a folder in it "
        f"holds {_CLASSES} or train/train-annotations-bbox.csv."
    )


def _has_tables(folder: Path) -> bool:
    return folder.is_dir() and ((folder / _CLASSES).is_file() or any(folder.glob(_BOXES)))


class Server(ThreadingHTTPServer):
    """Serves one site on 127.0.0.1, a thread for each connection.

    Attributes
    ----------
    base_url : str
        Address of the folder of the tables, with the slash at its end.
    requests : collections.deque of (str, str, int)
        Method, path and status of the requests answered so far (the last 100,000 of them).
    """

    daemon_threads = True
    request_queue_size = 256
    # On Windows this option would let two servers share one port instead of telling the second.
    allow_reuse_address = os.name != "nt"

    def __init__(self, directory: str | os.PathLike, port: int = 0):
        tables = tables_folder(directory)
        self.root = tables.parent
        self.responses = _read_responses(self.root / RESPONSES)
        self.requests = collections.deque(maxlen=100_000)
        self._answered: set[str] = set()
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()
        super().__init__(("127.0.0.1", port), _Handler)
        self.base_url = f"http://127.0.0.1:{self.server_port}/{quote(tables.name)}/"

    def is_first(self, path: str) -> bool:
        """Whether `path` is asked about for the first time."""
        with self._guard:
            first = path not in self._answered
            self._answered.add(path)
            return first

    def get_request(self):
        connection, address = super().get_request()
        with self._guard:
            self._open.add(connection)
        return connection, address

    def shutdown_request(self, request):
        with self._guard:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request, client_address):
        """Say nothing: a client that went away is no trouble of the server's."""

    def stop(self) -> None:
        """Take no more connections, and close those that clients have kept open."""
        self.shutdown()
        self.server_close()
        with self._guard:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def running(directory: str | os.PathLike, port: int = 0) -> Iterator[Server]:
    """Serve the site in `directory` while the block runs; port 0 takes a free one.

    Raises
    ------
    BadInput
        If `directory` is not a site, or if the port is taken.
    """
    try:
        server = Server(directory, port)
    except OSError as error:
        raise BadInput(
            f"Port {port} can't be used on this machine ({error.strerror}). "
            "Name another one, or none to be given a free one."
        ) from None
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join()


def _read_responses(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    try:
        responses = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise BadInput(f"{str(path)!r} can't be read as a JSON object: {error}.") from None
    allowed = ("gone", "placeholder", "busy-once")
    for name, response in responses.items():
        if response not in allowed:
            raise BadInput(
                f"{str(path)!r} has {response!r} for {name!r}; allowed are {', '.join(allowed)}."
            )
    return responses


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """Return the bytes [start, stop) that a Range header asks for, of a file of `size` bytes.

    None stands for the whole file: several ranges or an unknown unit may be ignored (RFC 9110,
    section 14.2). An empty span (start == stop) cannot be satisfied.

    Examples
    --------
    >>> parse_range("bytes=2-5", 10), parse_range("bytes=7-", 10), parse_range("bytes=-3", 10)
    ((2, 6), (7, 10), (7, 10))
    >>> parse_range("bytes=10-", 10), parse_range("bytes=1-2,4-5", 10)
    ((10, 10), None)
    """
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", header.replace(" ", ""))
    if not match or match.group() == "bytes=-":
        return None
    first, last = match.groups()
    if not first:
        return max(0, size - int(last)), size
    if last and int(last) < int(first):
        return None
    start = min(int(first), size)
    return start, max(start, min(int(last) + 1, size)) if last else size


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Header and body leave in separate packets; Nagle's algorithm would hold the second for 40 ms.
    disable_nagle_algorithm = True
    timeout = 60

    def do_GET(self):
        name = self._name()
        response = self.server.responses.get(name)
        path = self._file(name)
        if response == "gone":
            self._empty(HTTPStatus.NOT_FOUND)
        elif response == "placeholder":
            self._empty(HTTPStatus.FOUND, ("Location", f"/{PLACEHOLDER}"))
        elif response == "busy-once" and self.server.is_first(name):
            self._empty(HTTPStatus.TOO_MANY_REQUESTS, ("Retry-After", "1"))
        elif path is None:
            self._empty(HTTPStatus.NOT_FOUND)
        else:
            self._send(path)

    do_HEAD = do_GET

    def _name(self) -> str:
        return unquote(urlsplit(self.path).path).removeprefix("/")

    def _file(self, name: str) -> Path | None:
        """Return the file that `name` stands for, or None if there is none to be shown."""
        parts = name.split("/")
        # A part that begins with a dot is hidden or climbs; the rest is what Windows reads
        # as a separator, a drive or a stream.
        if any(not part or part.startswith(".") or set(part) & set("\\:\0") for part in parts):
            return None
        path = self.server.root.joinpath(*parts)
        if path.suffix.lower() not in TYPES or not path.is_file():
            return None
        # A link may point anywhere.
        return path if path.resolve().is_relative_to(self.server.root) else None

    def _empty(self, status: HTTPStatus, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for header in headers:
            self.send_header(*header)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, path: Path) -> None:
        with open(path, "rb") as stream:
            stat = os.fstat(stream.fileno())
            size = stat.st_size
            tag = f'"{size:x}-{stat.st_mtime_ns:x}"'
            modified = email.utils.formatdate(stat.st_mtime, usegmt=True)
            span = None
            if self.headers.get("If-Range", tag) in (tag, modified):
                span = parse_range(self.headers.get("Range", ""), size)
            start, stop = span or (0, size)
            if span and start == stop:
                return self._empty(
                    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, ("Content-Range", f"bytes */{size}")
                )
            self.send_response(HTTPStatus.PARTIAL_CONTENT if span else HTTPStatus.OK)
            self.send_header("Content-Type", TYPES[path.suffix.lower()])
            self.send_header("Content-Length", str(stop - start))
            if span:
                self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("ETag", tag)
            self.send_header("Last-Modified", modified)
            self.end_headers()
            if self.command == "GET":
                self._copy(stream, start, stop)

    def _copy(self, stream, start: int, stop: int) -> None:
        stream.seek(start)
        while start < stop and (block := stream.read(min(_BLOCK, stop - start))):
            self.wfile.write(block)
            start += len(block)
        # A file that shrank under us: the promised length can't be kept, so the line is cut.
        if start < stop:
            self.close_connection = True

    def log_request(self, code="-", size="-"):
        self.server.requests.append((self.command, self.path, int(code)))

    def log_message(self, format, *args):
        """Stay quiet: standard error is the user's."""
