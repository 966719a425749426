"""The run that turns photos and boxes into labelled folders of crops."""

import functools
import math
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Executor

import pandas as pd
from tqdm.auto import tqdm

from openimager import cluster, partitions
from openimager.crops import cut, split, tables
from openimager.crops.cut import FORMATS, MISSING, SMALL, Options, crop_rows, hash_rows
from openimager.crops.folders import folder_names, tidy
from openimager.errors import BadInput, explained_os_errors
from openimager.selection import drop_flags, without_flags
from openimager.store import CROP_COLUMNS, PIXELS, Store

# What is counted besides crops that are there, and how the report says it.
_LEFT_OUT = {
    "failed": "could not be cropped; see Error in crops.csv",
    "repeats": "left out: the photo repeats one of a later subset",
    "small": "left out: too few pixels",
    "dropped": "left out for their flags",
    "excluded": "left out of train and validation because exclude lists them",
    "disputed": "listed by exclude but kept, because they are in the test split",
    "removed": "crops removed that no longer belong",
}
COUNTS = ("made", "remade", "kept", "moved", *_LEFT_OUT)
_REPEATS = "The photo repeats one of a later subset."
_EXCLUDED = "Excluded from train and validation on request."
# Photos per partition: about a second of work on one core.
_PARTITION = 64


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
    padding : float
        Grow each box on each side by this share of its width and height, within the photo.
    keep_aspect : bool
        Fit the box into the square, centred on black, instead of stretching it.
    min_pixels : int
        Leave out boxes with fewer pixels than this along a side of the photo on disk.
    drop, drop_unknown
        Leave out boxes by their flags, as `openimager.selection.Query` does.
    shares : sequence of three float
        Of train, validation and test, where all photos come from one subset.
    workers : int, optional
        Threads in all; by default one per core, and one per partition with `executor`.
    quiet : bool
        Print nothing.
    format : str
        "jpeg", "png" (lossless) or "webp" (which Keras does not read).
    exclude : path-like, optional
        CSV with ImageID and n of crops to leave out of train and validation; in test they stay.
    processes, executor
        Processes to start; or a `concurrent.futures.Executor`, which is not shut down, and how
        many partitions to keep in flight there.

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
    store = Store(data_dir)
    threads = workers or (1 if executor else os.cpu_count() * (1 if store.is_local else 4))
    threads = threads if executor else max(1, threads // processes)
    options = Options(size, quality, padding, bool(keep_aspect), format, min_pixels, threads)
    _check(options, shares)
    photos, boxes = tables.photos_and_boxes(store)
    rows = without_flags(boxes, drop_flags(drop), drop_unknown).reset_index(drop=True)
    folders = folder_names(sorted(boxes["Category"].unique()))
    rows["Folder"] = rows["Category"].map(folders)
    rows["Excluded"] = tables.listed(exclude, rows) if exclude is not None else 0

    def run(task, rows: pd.DataFrame, what: str) -> pd.DataFrame:
        work = functools.partial(task, store=store, options=options)
        in_flight = processes if processes > 1 else None
        jobs = partitions.run(work, _divided(rows, slots), processes, executor, in_flight)
        outcomes, total = [pd.DataFrame()], rows["ImageID"].nunique()
        with tqdm(total=total, desc=what, unit="photo", disable=quiet or None) as progress:
            for partition, done in jobs:
                outcomes.append(done)
                progress.update(partition["ImageID"].nunique())
        return pd.concat(outcomes)

    slots = cluster.slots(executor) if executor else processes
    with explained_os_errors("Whole crops"), store.lock("crops"):
        cluster.check(executor, store)
        before = tables.records(store)
        rows = _with_existing(store, rows, before, options)
        facts = _facts(store, rows, run)
        rows = rows.join(facts[["Width", "Height", "Stage", "Error"]], on="ImageID")
        groups = split.group(facts["Hash"].to_dict())
        splits = split.assign_splits(groups, photos.set_index("ImageID")["Subset"], shares)
        rows["DuplicateGroup"] = rows["ImageID"].map(groups)
        rows["Subset"] = rows["ImageID"].map(splits)
        columns = ["CropPath", "Error", *PIXELS]
        decided = [_decided(row, options) for row in rows.itertuples()]
        rows[columns] = pd.DataFrame(decided, rows.index, columns)
        todo = (rows["CropPath"] != "") & (rows["CropPath"] != rows["Existing"])
        done = run(crop_rows, rows[todo], "Cropping")
        if len(done):
            rows.loc[done.index, [*tables.OUTCOME]] = done
        absent = rows["CropPath"] == ""
        rows.loc[absent, ["SHA256", "Key", "Subset"]] = ""
        rows.loc[absent, [*PIXELS, "Bytes"]] = pd.NA
        counts = _counted(rows) + Counter(dropped=len(boxes) - len(rows))
        rows = rows[(rows["Error"] != SMALL)].reset_index(drop=True)[list(CROP_COLUMNS)]
        counts["removed"] = tidy(store, {*rows["CropPath"]}, folders.values()) - counts["moved"]
        store.write_table(rows, "crops.csv")
        tables.clear(store)
    moved = _moved(before, rows)
    rows.attrs.update(counts={name: counts[name] for name in COUNTS}, moved=moved)
    if not quiet:
        print(_report(counts, moved))
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
        ("format", options.format, options.format in FORMATS, ", ".join(FORMATS)),
        ("shares", shares, triple, "for train, validation and test, such as (70, 15, 15)"),
    ):
        if not fine:
            raise BadInput(f"{name} {value!r} cannot be used. Allowed: {allowed}.")


def _with_existing(store: Store, rows: pd.DataFrame, before: pd.DataFrame, options: Options):
    """Add Key, Name, Old (a file of that name exists) and, of a crop with that key, Existing."""
    same, sizes = ["ImageID", "n", "Key"], store.sizes(store.crops)
    whole = before["Bytes"] == before["CropPath"].str.removeprefix("data/crops/").map(sizes)
    before = before.loc[whole, [*same, "CropPath", "SHA256", "Bytes"]]
    keys = [cut.key(row, options) for row in rows.itertuples()]
    rows["Key"] = pd.Series(keys, rows.index, dtype=str)
    rows = rows.merge(before.rename(columns={"CropPath": "Existing"}), how="left", on=same)
    names = [f"{row.Folder}/{row.ImageID}_{row.n}" for row in rows.itertuples()]
    rows["Name"] = pd.Series(names, rows.index, dtype=str) + f".{FORMATS[options.format]}"
    rows["Old"] = rows["Name"].isin({path.partition("/")[2] for path in sizes})
    return rows.fillna({"Existing": "", "SHA256": ""})


def _facts(store: Store, rows: pd.DataFrame, run) -> pd.DataFrame:
    """Return the facts about the photo of every row, by ImageID; hash those that are new."""
    photos = rows.drop_duplicates("ImageID")[["ImageID", "Rotation", "PhotoBytes"]]
    facts = photos.merge(tables.facts(store), on=[*photos])[[*tables.FACTS]]
    new = rows[~rows["ImageID"].isin(facts["ImageID"]) & (rows["PhotoBytes"] >= 0)]
    if len(new):
        facts = pd.concat([facts, run(hash_rows, new, "Decoding")])
        store.write_table(facts, ".openimager/photos.csv")
    facts = facts.set_index("ImageID").reindex(photos["ImageID"])
    return facts.fillna({"Error": MISSING, "Hash": "", "Stage": ""})


def _decided(row, options: Options) -> tuple:
    """Return the CropPath that a row is to have, or "" and the reason, and its pixels."""
    pixels, error = None, row.Error
    if not row.Subset:
        error = _REPEATS
    elif row.Excluded and row.Subset != "test":
        error = _EXCLUDED
    elif not error:
        pixels, error = cut.judge(row, (row.Width, row.Height), options)
    path = "" if error else f"data/crops/{row.Subset}/{row.Name}"
    return path, error, *(pixels or [pd.NA] * len(PIXELS))


def _counted(rows: pd.DataFrame) -> Counter:
    """Count what became of the rows."""
    names = {_REPEATS: "repeats", _EXCLUDED: "excluded", SMALL: "small", "": ""}
    counts = Counter()
    for row in rows.itertuples():
        done = names.get(row.Error, "failed")
        if not done and row.Existing:
            done = "kept" if row.Existing == row.CropPath else "moved"
        counts[done or ("remade" if row.Old else "made")] += 1
        counts["disputed"] += row.Excluded and row.Subset == "test"
    return counts


def _divided(rows: pd.DataFrame, slots: int) -> Iterator[pd.DataFrame]:
    """Yield the rows of at most `_PARTITION` photos at a time."""
    place = rows.groupby("ImageID", sort=False).ngroup()
    end = 0
    for size in partitions.sizes(rows["ImageID"].nunique(), slots, _PARTITION, least=8):
        start, end = end, end + size
        yield rows.iloc[place.searchsorted(start) : place.searchsorted(end)]


def _moved(before: pd.DataFrame, rows: pd.DataFrame) -> list[str]:
    """Return the photos that the run before had in another split."""
    splits = before["CropPath"].str.split("/").str[2]
    old = rows["ImageID"].map(dict(zip(before["ImageID"], splits, strict=True)))
    moved = (rows["CropPath"] != "") & old.notna() & (old != rows["Subset"])
    return sorted({*rows.loc[moved, "ImageID"]})


def _report(counts: Counter, moved: list[str]) -> str:
    """Return what happened, one line per fact that is not nothing."""
    kept = counts["kept"] + counts["moved"]
    lines = [
        f"{counts['made'] + counts['remade'] + kept:,} crops: {counts['made']:,} made, "
        f"{counts['remade']:,} remade because the options, the box or the photo changed, "
        f"{kept:,} kept."
    ]
    lines += [f"{counts[name]:,} {text}." for name, text in _LEFT_OUT.items() if counts[name]]
    if moved:
        some = ", ".join(moved[:5]) + (", ..." if len(moved) > 5 else "")
        lines.append(f"{len(moved):,} photos changed their split: {some}")
    return "\n".join(lines)
