"""A small Open Images of drawn pictures, served on this machine.

It has what the real thing has, so that everything can be tried offline: turned and grey photos,
groups, drawings of things, unknown flags, a burst of almost equal photos, photos that are gone.
The pictures are drawn and their credits invented; numbers measured on them say nothing of photos.

    python -m openimager.sample [DIRECTORY] [--port P]

serves the sample (or the site in DIRECTORY) until it is interrupted.
"""

import argparse
import contextlib
import hashlib
import json
import os
import secrets
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from openimager import server
from openimager.errors import BadInput
from openimager.files import lock
from openimager.tables.cache import cache_folder

TABLES = "2018_04"
LEAST = 12


def build(directory: str | os.PathLike | None = None, seed: int = 0, photos: int = 400) -> Path:
    """Draw the sample, unless it is there already, and return its folder of tables.

    Parameters
    ----------
    directory : path-like, optional
        Where the site is to stand; a new or an empty folder. By default it is kept in the
        per-user cache (``OPENIMAGER_CACHE`` moves it) and drawn only once.
    seed : int
        Equal seeds give equal pictures and tables.
    photos : int
        Number of photos, at least 12: one of each category in each subset.

    Returns
    -------
    Path
        The folder of the tables, ``.../2018_04``; the photos lie beside it.

    Raises
    ------
    BadInput
        If `photos` is too small, or `directory` holds something else.
    """
    if photos < LEAST:
        raise BadInput(f"The sample can't be made of {photos} photos, it takes at least {LEAST}.")
    made_by = {"seed": seed, "photos": photos, "drawn by": _source_hash()}
    if directory is None:
        directory = cache_folder() / f"sample-{seed}-{photos}-{made_by['drawn by'][:12]}"
        turn = lock(directory.with_name(f".{directory.name}.lock"))
    else:
        # No lock file of ours in somebody's folder; the rename at the end is safe by itself.
        directory, turn = Path(directory), contextlib.nullcontext()
    mark = directory / "sample.json"
    text = json.dumps(made_by)
    with turn:
        if mark.is_file() and mark.read_text(encoding="utf-8") == text:
            return directory / TABLES
        if directory.exists():
            if not directory.is_dir() or any(directory.iterdir()):
                raise BadInput(
                    f"{str(directory)!r} is not empty and holds no sample of this seed and size. "
                    "Name a new folder, or remove that one."
                )
            directory.rmdir()
        part = directory.with_name(f".{directory.name}.{secrets.token_hex(4)}.part")
        try:
            from openimager.drawn.site import draw_site

            draw_site(part / TABLES, seed, photos)
            (part / "sample.json").write_text(text, encoding="utf-8", newline="\n")
            os.replace(part, directory)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return directory / TABLES


@contextlib.contextmanager
def serve(directory: str | os.PathLike | None = None) -> Iterator[str]:
    """Serve a site on this machine while the block runs, and yield its base URL.

    Parameters
    ----------
    directory : path-like, optional
        The root of a site in the V4 layout, or its folder of tables; the sample by default.

    Yields
    ------
    str
        ``http://127.0.0.1:PORT/2018_04/``, ending in the name of the folder of the tables.

    Raises
    ------
    BadInput
        If `directory` is not such a site.
    """
    with server.running(build() if directory is None else directory) as running:
        yield running.base_url


def _source_hash() -> str:
    """Return a hash of the code that draws, so that a cached sample is never of an older one."""
    import PIL

    digest = hashlib.sha256(PIL.__version__.encode())
    here = Path(__file__)
    for path in (here, *sorted(here.with_name("drawn").glob("*.py"))):
        digest.update(path.read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()


def main(argv: list[str] | None = None) -> int:
    """Serve the sample or a directory until interrupted; the base URL is stdout's first line."""
    parser = argparse.ArgumentParser(
        prog="python -m openimager.sample",
        description="Serve a small Open Images on this machine until Ctrl-C.",
    )
    parser.add_argument(
        "directory", nargs="?", metavar="DIRECTORY",
        help="a site in the V4 layout, or its folder of tables (default: the drawn sample)",
    )  # fmt: skip
    parser.add_argument("--port", type=_port, default=0, metavar="P", help="default: a free one")
    given = parser.parse_args(argv)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        directory = build() if given.directory is None else given.directory
        with server.running(directory, given.port) as site:
            print(site.base_url, flush=True)
            names = '"Cat" "Dog"' if given.directory is None else '"NAME"'
            print(
                f"In another shell:  python -m openimager {names} --base-url {site.base_url}\n"
                "Ctrl-C ends this.",
                file=sys.stderr,
                flush=True,
            )
            # Waiting in short pieces, because on Windows one long wait can't be interrupted.
            while not stop.wait(0.5):
                pass
    except BadInput as error:
        print(f"openimager.sample: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
    return 0


def _interrupt(number, frame):
    raise KeyboardInterrupt


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port, a number from 0 to 65535")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
