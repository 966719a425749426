"""The journal: the outcome of every photo, appended as it happens and replayed by the next run."""

import contextlib
import html
import io
import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from openimager.photos.photo import CHANGES, Outcome
from openimager.store import CREDIT_COLUMNS, Store

_COMPACT = "journal.jsonl"  # replayed first; the names of the others begin with it


@contextlib.contextmanager
def recording(store: Store, name: str = "") -> Iterator[Callable]:
    """Yield a function that records an outcome and, if that is "ok", the photo's credits.

    A local file gets each record at once; a bucket, which cannot append, all at the end in one PUT.
    """
    path, stream = store.state / (name or new_name()), io.BytesIO()
    if store.is_local:
        store.state.mkdir(parents=True, exist_ok=True)
        stream = open(path, "ab", buffering=0)  # noqa: SIM115

    def record(outcome, row: Mapping) -> None:
        more = {"Credit": credits_of(row, outcome)} if outcome.Status == "ok" else {}
        line = memoryview(_line(outcome, **more))
        # A full disk may take part of the line; writing the rest then raises.
        while line:
            line = line[stream.write(line) :]

    with stream:
        try:
            yield record
        finally:
            if not store.is_local and stream.tell():
                store.write(path, stream.getvalue())


def new_name() -> str:
    """Return the name of a new journal, which is replayed after all earlier ones."""
    return f"{_COMPACT}-{time.time_ns():020d}-{secrets.token_hex(4)}"


def replay(store: Store) -> Iterator[dict]:
    """Yield the records of all journals, oldest first; lines that are torn are skipped."""
    with ThreadPoolExecutor(1 if store.is_local else 16) as pool:
        for data in pool.map(store.read, _paths(store)):
            for line in io.BytesIO(data):
                with contextlib.suppress(ValueError):
                    record = json.loads(line)
                    if isinstance(record, dict) and isinstance(record.get("ImageID"), str):
                        yield record


def outcomes(store: Store) -> Iterator[Outcome]:
    """Yield the outcomes of all journals, oldest first."""
    for record in replay(store):
        fields = {name: record[name] for name in Outcome._fields if name in record}
        yield Outcome(**{"Status": "failed"} | fields)


def compact(store: Store, outcomes: Iterable[Outcome]) -> None:
    """Replace all journals by one with the given outcomes; the credits are in ATTRIBUTION.csv."""
    if old := [path for path in _paths(store) if path.name != _COMPACT]:
        with store.replacing(store.state / _COMPACT) as part, open(part, "wb") as stream:
            stream.writelines(map(_line, outcomes))
        store.remove(*old)


def _paths(store: Store) -> list:
    names = [name for name in store.sizes(store.state) if name.startswith("journal")]
    return [store.state / name for name in sorted(names)]


def _line(outcome, **more) -> bytes:
    record = {name: value for name, value in outcome._asdict().items() if value} | more
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def credits_of(row: Mapping, outcome: Outcome) -> list[str]:
    """Return a photo's row of ATTRIBUTION.csv, with the entities of its texts decoded."""
    source = outcome.Source
    changes = CHANGES.get(source, f"as served by {source}" if source else "not known")
    return [row["ImageID"], *(html.unescape(row[name]) for name in CREDIT_COLUMNS[1:-1]), changes]
