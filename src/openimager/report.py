"""What the command line prints: the forecast of --dry-run, and the outcome of a download."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from openimager.errors import megabytes

if TYPE_CHECKING:
    import pandas as pd

# What a forecast assumes: our own rate for Flickr, the mean size of CVDF's copies, 100 Mbit/s.
_RATE, _COPY, _BANDWIDTH = 10.0, 294_000, 12.5e6
_KINDS = {"flickr": "originals", "cvdf": "copies of at most 1,024 px", "thumbnail": "thumbnails"}
_MEANINGS = {
    **{"ok": "on disk", "gone": "gone for good"},
    "failed": "not fetched; run again to try them again",
}


def outcome(photos: "pd.DataFrame") -> Iterator[str]:
    """Yield lines on how many photos came from each source, and why others did not."""
    skipped = photos.attrs.get("skipped", {})
    for status, meaning in _MEANINGS.items():
        rows = photos[photos["Status"] == status]
        yield f"{status:<7}{len(rows):>7}  {meaning}"
        if status != "ok":
            yield from (f"{n:>14,}  {why}" for why, n in _top(dict(rows["Error"].value_counts())))
            continue
        for source, count in rows["Source"].value_counts().items():
            kind = _KINDS.get(source, "as served" if source else "of unknown source")
            why = "; ".join(f"{reason} ({n:,})" for reason, n in _top(skipped.get(source, {})))
            yield f"{count:>14,}  {source}: {kind}{', because ' if why else ''}{why}"
    # `rows` are those that failed.
    if rows["Error"].str.contains("(?:answered|after) 429").any():
        yield (
            "A source answered 429 (too many requests), and more requests now would prolong that. "
            "Run the same command later for the rest, or with --source flickr --source cvdf to "
            "take copies of at most 1,024 px meanwhile."
        )


def _top(reasons: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(reasons.items(), key=lambda item: -item[1])[:3]


def forecast(counts: Mapping[str, Mapping], rate: float | None = None) -> Iterator[str]:
    """Yield lines on what a download would take, from `Selector.describe` and ``--rate``."""
    flags = [key for key in counts["in all"] if key.startswith("Is")]
    rows = [["", "photos", "boxes", *(flag[2:].lower() for flag in flags)]]
    rows[0] += ["unknown", "MB", "licences"]
    for name, of in counts.items():
        numbers = [f"{of[key]:,}" for key in ("photos", "boxes", *flags, "unknown")]
        licences = ", ".join(f"{word or 'none'} {n:,}" for word, n in of["licences"].items())
        rows.append([name, *numbers, f"{of['bytes'] / 1e6:,.1f}", licences])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    yield from ("  ".join(map(str.rjust, row, widths)) for row in rows)
    photos, size, unsized = (counts["in all"][key] for key in ("photos", "bytes", "unsized"))
    if unsized:
        yield f"{unsized:,} photos have no size in the table; MB counts the others."
    rate = _RATE if rate is None else rate
    times = {"100 Mbit/s": size / _BANDWIDTH}
    if rate > 0:
        times[f"{rate:g} photos per second"] = photos / rate
    bound = max(times, key=times.get)
    yield f"originals from Flickr: {megabytes(size)}, about {_duration(times[bound])} at {bound}"
    copies = photos * _COPY
    time = _duration(copies / _BANDWIDTH)
    yield f"or copies from the mirror: about {megabytes(copies)}, about {time} at 100 Mbit/s"


def _duration(seconds: float) -> str:
    """Return a duration in the unit that a person would use.

    >>> _duration(40), _duration(750), _duration(9000)
    ('40 s', '12 min', '2.5 h')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:,.1f} h"
