"""The run that turns photos and boxes into labelled folders of crops."""

import functools
import itertools
import math
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Executor

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from openimager import cluster
from openimager.crops import files, plan, split
from openimager.crops.cut import SMALL, Options, crop_rows, hash_rows
from openimager.errors import BadInput, explained_os_errors, first_of
from openimager.query import without_flags
from openimager.store import COORDINATES, CROP_COLUMNS, PIXELS, Store

# What is counted besides crops that exist, and how the report says it.
_LEFT_OUT = {
    "failed": "could not be cropped; see Error in crops.csv",
    "repeats": "left out: the photo repeats one of a later subset (validation or test)",
    "small": "left out: too few pixels",
    "dropped": "left out for their flags",
    "excluded": "left out of train and validation because exclude lists them",
    "disputed": "listed by exclude but kept, because they are in the test split",
    "removed": "crops removed that no longer belong",
}
COUNTS = ("made", "remade", "kept", "moved", *_LEFT_OUT)
_COUNTED = {plan.REPEATS: "repeats", plan.EXCLUDED: "excluded", SMALL: "small"}  # or "failed"
_PARTITION = 64  # photos: about a second of work on one core
_CUT_FROM = ("ImageID", "n", "Rotation", *COORDINATES, "Key", "CropPath", "Stage")


def write_crops(
    data_dir: str | os.PathLike = "data",
    size: int | None = 128,
    quality: int = 95,
    padding: float = 0,
    keep_aspect: bool = False,
    min_pixels: int = 1,
    drop=(),
    drop_unknown: bool = False,
    shares=split.SHARES,
    workers: int | None = None,
    quiet: bool = False,
    format: str = "jpeg",
    exclude: str | os.PathLike | None = None,
    processes: int = 1,
    executor: Executor | None = None,
) -> pd.DataFrame:
    """Cut the boxes of the selected photos out into ``crops/<split>/<category>/``.

    Reads images.csv (Status "ok"), boxes.csv and the photos; writes the crops and crops.csv. A
    crop that exists and was made in the same way stays; one that no longer belongs is removed.

    Parameters
    ----------
    data_dir : path-like
        A folder, or a URL such as ``"s3://bucket/pets"``.
    size : int or None
        Side of the square crops in pixels; None keeps each box's own size.
    quality : int
        Of JPEG and WebP, 1 to 100.
    padding, keep_aspect : float and bool
        `padding`: grow each box on each side by this share of its width and height, within the
        photo. `keep_aspect`: fit it into the square, centred on black, instead of stretching it.
    min_pixels : int
        Leave out boxes that are narrower or lower than this in the photo on disk.
    drop, drop_unknown
        Leave out boxes by their flags, as `openimager.query.Query` does.
    shares : sequence of three float
        Of train, validation and test, where all photos come from one subset.
    workers, quiet : int and bool
        `workers`: threads in all, by default one per core, for a bucket four (with `executor`:
        threads per partition, by default one). `quiet`: print nothing.
    format : str
        "jpeg", "png" (lossless) or "webp" (which Keras does not read).
    exclude : path-like, optional
        CSV with ImageID and n of crops to leave out of train and validation; in test they stay.
    processes, executor : int and concurrent.futures.Executor
        Processes to start; or an executor that runs the partitions instead and is not shut down
        (`processes` above 1 is then how many are in flight).

    Returns
    -------
    pandas.DataFrame
        The contents of crops.csv, sorted by ImageID and n. Left, Upper, Right, Lower are pixels of
        the stored photo (padding included). A row without a crop has the reason in Error, and no
        Subset, CropPath, pixels or SHA256. Excluded is 1 for boxes that `exclude` lists.
        ``attrs["counts"]`` has `COUNTS`, ``attrs["moved"]`` the photos whose split has changed.

    Raises
    ------
    BadInput, TryAgain
        If an option or a table cannot be used; if another run crops here or the disk is full.
    """
    cluster.check_counts(1 if workers is None else workers, processes, executor)
    store = Store(data_dir)
    threads = workers or (1 if executor else os.cpu_count() * (1 if store.is_local else 4))
    threads = threads if executor else max(1, threads // processes)
    options = Options(size, quality, padding, bool(keep_aspect), format, min_pixels, threads)
    _check(options, shares)
    photos, boxes = plan.photos_and_boxes(store)
    rows = without_flags(boxes, drop, drop_unknown).reset_index(drop=True)
    folders = files.folder_names(sorted(boxes["Category"].unique()))
    rows["Excluded"] = plan.excluded(exclude, rows) if exclude is not None else 0

    def run(task, rows: pd.DataFrame, what: str) -> pd.DataFrame:
        work = functools.partial(task, store=store, options=options)
        parts = _partitions(rows[list(_CUT_FROM)], cluster.slots(processes, executor))
        outcomes, total = [], rows["ImageID"].nunique()
        with tqdm(total=total, desc=what, unit="photo", disable=quiet or None) as progress:
            for part, done in cluster.run(work, parts, processes, executor):
                progress.update(part["ImageID"].nunique())
                outcomes.append(done)
        return pd.concat(outcomes)

    with explained_os_errors("Whole crops"), store.lock("crops"):
        cluster.check(executor, store)
        there = store.sizes(store.crops)
        rows = plan.with_known(rows, *files.known(store), there, options)
        unread = (rows["Width"] == 0) & (rows["Error"] == "")
        if unread.any():
            seen = ["Error", *files.SEEN]
            found = run(hash_rows, rows[unread], "Decoding").set_index("ImageID")[seen]
            ids = rows.loc[unread, "ImageID"]
            rows.loc[unread, seen] = found.loc[ids].set_axis(ids.index)
        official = photos.set_index("ImageID")["Subset"]
        wanted = plan.planned(rows, official, shares, folders, options)
        todo = (wanted["CropPath"] != "") & (wanted["CropPath"] != wanted["Kept"])
        stale = files.stale(there, {*wanted["CropPath"]})
        # Crops change only from here on, the stale ones first, so that near-duplicates are never
        # in two splits; crops.csv is set aside until it is true again.
        if stale or todo.any():
            files.set_aside(store)
        files.tidy(store, stale, folders.values())
        if todo.any():
            made = ["Error", *files.MADE]
            paths = wanted.loc[todo, "CropPath"]
            wanted.loc[todo, made] = run(crop_rows, wanted[todo], "Cropping")[made]
            store.remove(*map(store.crop, {*paths} - {*wanted["CropPath"]}))
        absent = wanted["CropPath"] == ""
        wanted.loc[absent, ["SHA256", "Key", "Subset"]] = ""
        wanted.loc[absent, [*PIXELS, "Bytes"]] = pd.NA
        counts, moved = _counted(wanted)
        counts["dropped"] = len(boxes) - len(wanted)
        rows = wanted[wanted["Error"] != SMALL].reset_index(drop=True)[list(CROP_COLUMNS)]
        removed = [path for path in stale if not path.endswith(".part")]
        counts["removed"] = len(removed) - counts["moved"]
        store.write_table(rows, "crops.csv")
        files.keep(store, wanted[wanted["Width"] > 0])
    rows.attrs.update(counts={name: counts[name] for name in COUNTS}, moved=moved)
    if not quiet:
        print(_report(**rows.attrs))
    return rows


def read_crops(data_dir: str | os.PathLike | Store = "data") -> pd.DataFrame:
    """Return crops.csv as `write_crops` returned it: empty text is "", not NaN."""
    return Store(data_dir).read_table("crops.csv", CROP_COLUMNS)


def _check(options: Options, shares) -> None:
    """Raise BadInput for the first option that cannot be used."""
    size, quality, least = options.size, options.quality, options.min_pixels
    whole = isinstance(size, int) and 1 <= size <= 10_000
    triple = len(shares) == 3 and min(shares) >= 0 and 0 < sum(shares) < math.inf
    for name, value, fine, allowed in (
        ("size", size, size is None or whole, "a side of 1 to 10000 pixels, or None"),
        ("quality", quality, quality in range(1, 101), "a whole number from 1 to 100"),
        ("padding", options.padding, 0 <= options.padding < math.inf, "0 for none, 0.1, ..."),
        ("min_pixels", least, isinstance(least, int) and least >= 1, "a whole number from 1 on"),
        ("format", options.format, options.format in files.FORMATS, ", ".join(files.FORMATS)),
        ("shares", shares, triple, "for train, validation and test, such as (70, 15, 15)"),
    ):
        if not fine:
            raise BadInput(f"{name} {value!r} cannot be used. Allowed: {allowed}.")


def _partitions(rows: pd.DataFrame, slots: int) -> Iterator[pd.DataFrame]:
    """Return the rows of some photos at a time, in the sizes of `cluster.sizes`."""
    starts = np.append(np.flatnonzero(~rows["ImageID"].duplicated()), len(rows))  # of photos
    least = 8 if slots > 1 else _PARTITION  # a single worker waits for no other
    edges = starts[np.cumsum([0, *cluster.sizes(len(starts) - 1, slots, _PARTITION, least)])]
    return (rows.iloc[start:end] for start, end in itertools.pairwise(edges))


def _counted(rows: pd.DataFrame) -> tuple[Counter, list[str]]:
    """Count what became of the rows; return also the photos that had another split before."""
    before, kept, path = rows["Before"], rows["Kept"], rows["CropPath"]
    done = np.select(
        [rows["Error"] != "", kept == path, kept != "", before != ""],
        [rows["Error"].map(_COUNTED).fillna("failed"), "kept", "moved", "remade"],
        "made",
    )
    counts = Counter(done)
    counts["disputed"] = int(((rows["Excluded"] == 1) & (rows["Subset"] == "test")).sum())
    elsewhere = (before != "") & (before.str.split("/").str[2] != rows["Subset"])
    return counts, sorted({*rows.loc[elsewhere & (path != ""), "ImageID"]})


def _report(counts: dict[str, int], moved: list[str]) -> str:
    """Return what happened, one line per count above zero."""
    made, remade, kept = counts["made"], counts["remade"], counts["kept"] + counts["moved"]
    lines = [
        f"{made + remade + kept:,} crops: {made:,} made, {remade:,} remade (missing, damaged or "
        f"outdated), {kept:,} kept."
    ]
    lines += [f"{counts[name]:,} {text}." for name, text in _LEFT_OUT.items() if counts[name]]
    if moved:
        lines.append(f"{len(moved):,} photos changed their split: {first_of(moved, 5)}.")
    return "\n".join(lines)
