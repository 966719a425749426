"""A server on loopback with configurable faults; `builders` makes the pages it serves."""

import contextlib
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Web(ThreadingHTTPServer):
    """Serves `pages`: path to bytes, or to a function of handler and number of the request.

    `asked` lists (path, seconds) of all requests.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.pages, self.asked, self.over = {}, [], threading.Event()
        self.agents, self.guard = set(), threading.Lock()

    def times(self, path):
        """Return how often `path` was requested."""
        return sum(asked == path for asked, _ in self.asked)

    def handle_error(self, request, client_address):
        """Ignore clients that disconnect, because many tests do this on purpose."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        with self.server.guard:
            before = self.server.times(self.path)
            self.server.asked.append((self.path, time.monotonic()))
            self.server.agents.add(self.headers.get("User-Agent", ""))
        page = self.server.pages.get(self.path, status(404))
        if isinstance(page, bytes):
            page = body(page)
        page(self, before + 1)

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def web():
    """Yield a running `Web`."""
    server = Web()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()


def _send(handler, code, data=b"", framed=True, **headers):
    handler.send_response(code)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    if framed:
        handler.send_header("Content-Length", str(len(data)))
    else:
        handler.send_header("Connection", "close")
    handler.end_headers()
    handler.wfile.write(data)


def body(data, code=200, **headers):
    """Answer 200, or another `code`, with `data`."""
    return lambda handler, times: _send(handler, code, data, **headers)


def status(code, **headers):
    """Answer with a status and a short body."""
    return lambda handler, times: _send(handler, code, b"no", **headers)


def redirect(location, code=302):
    """Redirect the client."""
    return status(code, Location=location)


def once(fault, data):
    """Return the page `fault` for the first request and `data` for later ones."""
    return lambda handler, times: (fault if times == 1 else body(data))(handler, times)


def cut(data, keep=0.5):
    """Announce the length of `data`, but close the connection after a part of it."""

    def answer(handler, times):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[: int(len(data) * keep)])
        handler.close_connection = True

    return answer


def unframed(data):
    """Answer with `data` without a length, so that only closing the connection ends it."""
    return lambda handler, times: _send(handler, 200, data, framed=False)


def chunked(data, whole=True):
    """Answer with `data` in chunks; if not `whole`, without the last chunk."""

    def answer(handler, times):
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for start in range(0, len(data), 1000):
            part = data[start : start + 1000]
            handler.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
        if whole:
            handler.wfile.write(b"0\r\n\r\n")
        handler.close_connection = not whole

    return answer


def hang(handler, times):
    """Accept the request and send nothing."""
    handler.server.over.wait(20)
    handler.close_connection = True


def noise(handler, times):
    """Answer with bytes that are not HTTP."""
    handler.wfile.write(b"\x00\x01\r\n\r\n")
    handler.close_connection = True


def drip(data):
    """Send single bytes with short pauses, so that the response never ends."""

    def answer(handler, times):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        for byte in data:
            handler.wfile.write(bytes([byte]))
            if handler.server.over.wait(0.03):
                return

    return answer


def endless(data, most=64 << 20):
    """Send `data` and then zeros, until the client disconnects or `most` bytes are sent."""

    def answer(handler, times):
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(data)
        for _ in range(most >> 16):
            handler.wfile.write(bytes(1 << 16))
        handler.server.pages["drunk to the end"] = b""

    return answer


def closed_port():
    """Return a port at which no server listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
