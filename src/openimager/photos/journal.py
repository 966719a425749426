"""The journal: the outcome of every photo, appended as it happens and replayed by the next run."""

import contextlib
import functools
import html
import json
import os
import secrets
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from openimager.photos.sources import CHANGES
from openimager.store import CREDIT_COLUMNS, Store

_BEGIN, _END = "journal", ".jsonl"


class Journal:
    """Records of one call of `fetch_rows`, in a file of its own.

    A bucket cannot append, so there the records are written at the end, in one PUT.

    Parameters
    ----------
    store : Store
    name : str
        As `new_name` returns it.
    """

    def __init__(self, store: Store, name: str = ""):
        self._store = store
        self._path = store.state / (name or new_name())
        self._file: int | None = None
        self._lines: list[bytes] = []
        self._guard = threading.Lock()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_) -> None:
        if self._file is not None:
            os.close(self._file)
        if self._lines:
            self._store.write(self._path, b"".join(self._lines))

    def append(self, outcome, row: Mapping) -> None:
        """Record an outcome and, for a photo on disk, its credits; a local file has it at once."""
        credit = {"Credit": credits_of(row, outcome.Source)} if outcome.Status == "ok" else {}
        line = _line(_record(outcome) | credit)
        with self._guard:
            if not self._store.is_local:
                self._lines.append(line)
                return
            if self._file is None:
                self._store.state.mkdir(parents=True, exist_ok=True)
                self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            written = os.write(self._file, line)
            if written < len(line):
                # The disk is full; the rest of the line would say so.
                os.write(self._file, line[written:])


def new_name() -> str:
    """Return the name of a new journal, which is replayed after all earlier ones."""
    return f"{_BEGIN}-{time.time_ns():020d}-{secrets.token_hex(4)}{_END}"


def begun_before(store: Store, name: str) -> bool:
    """Tell whether a journal exists; if not, begin it."""
    try:
        store.read(store.state / name)
    except FileNotFoundError:
        store.write(store.state / name, b"")
        return False
    return True


def replay(store: Store) -> Iterator[dict]:
    """Yield the records of all journals, oldest first; lines that are torn are skipped."""
    with ThreadPoolExecutor(1 if store.is_local else 16) as pool:
        for data in pool.map(functools.partial(_data, store), _paths(store)):
            for line in data.splitlines():
                with contextlib.suppress(ValueError):
                    record = json.loads(line)
                    if isinstance(record, dict) and isinstance(record.get("ImageID"), str):
                        yield record


def _data(store: Store, path) -> bytes:
    try:
        return store.read(path)
    except FileNotFoundError:
        return b""


def compact(store: Store, outcomes: Iterable) -> None:
    """Replace all journals by one with the given outcomes; the credits are in ATTRIBUTION.csv."""
    old = [path for path in _paths(store) if path.name != _BEGIN + _END]
    if not old:
        return
    store.write(store.state / (_BEGIN + _END), b"".join(map(_line, map(_record, outcomes))))
    store.remove(*old)


def _paths(store: Store) -> list:
    names = [n for n in store.sizes(store.state) if n.startswith(_BEGIN) and n.endswith(_END)]
    # "journal.jsonl", the compacted one, is the oldest.
    return [store.state / name for name in sorted(names, key=lambda name: (len(name) > 14, name))]


def _record(outcome) -> dict:
    return {name: value for name, value in outcome._asdict().items() if value}


def _line(record: dict) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def credits_of(row: Mapping, source: str) -> list[str]:
    """Return a photo's row of ATTRIBUTION.csv.

    Examples
    --------
    >>> row = dict.fromkeys(CREDIT_COLUMNS, "") | {"ImageID": "0" * 16, "Title": "Salt &amp; more"}
    >>> credits_of(row, "cvdf")[1], credits_of(row, "cvdf")[-1]
    ('Salt & more', 'scaled down to at most 1,024 pixels (CVDF)')
    """
    changes = CHANGES.get(source, f"as served by {source}" if source else "not known")
    fields = [row[name] if isinstance(row[name], str) else "" for name in CREDIT_COLUMNS[1:-1]]
    return [row["ImageID"], *map(html.unescape, fields), changes]
