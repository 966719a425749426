"""The run that turns photos and boxes into labelled folders of crops."""

import contextlib
import functools
import math
import os
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Executor

import pandas as pd
from tqdm.auto import tqdm

from openimager import cluster, partitions
from openimager.crops import duplicates, split, state
from openimager.crops.cut import (
    FORMATS,
    MISSING,
    SMALL,
    Options,
    crop_rows,
    hash_rows,
    judge,
    key,
)
from openimager.crops.folders import folder_names, tidy
from openimager.errors import BadInput, TryAgain
from openimager.selection import drop_flags, without_flags
from openimager.store import COORDINATES, CROP_COLUMNS, FLAGS, IMAGE_ID, PIXELS, SUBSETS, Store

COUNTS = (
    *("made", "remade", "kept", "moved", "failed", "repeats", "small", "dropped", "excluded"),
    *("disputed", "removed"),
)
_SAME = ["ImageID", "n", "Key"]
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
        The data directory: a folder, or a URL such as ``"s3://bucket/pets"``.
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
    drop : str or sequence of str
        Leave out boxes with these flags: "occluded", "truncated", "group", "depiction", "inside".
    drop_unknown : bool
        Leave out boxes whose flags are unknown.
    shares : sequence of three float
        Of train, validation and test, where all photos come from one subset.
    workers : int, optional
        Threads in all; by default one per core, and one per partition with `executor`.
    quiet : bool
        Show no progress and do not print the report.
    format : str
        "jpeg", "png" (lossless) or "webp" (which Keras does not read).
    exclude : path-like, optional
        CSV with the columns ImageID and n of crops to leave out of train and validation. Those of
        the test split stay, and are counted.
    processes : int
        Processes to run in, or partitions to keep in flight with `executor`.
    executor : concurrent.futures.Executor, optional
        Runs partitions of photos in place of this process; it is not shut down.

    Returns
    -------
    pandas.DataFrame
        The contents of crops.csv, sorted by ImageID and n. Left, Upper, Right, Lower are pixels of
        the stored photo (padding included). A box that could not be cropped, is excluded, or whose
        photo repeats one of a later subset, has the reason in Error, and no Subset, CropPath,
        pixels or SHA256. Excluded is 1 for boxes that `exclude` lists.
        ``attrs["counts"]`` counts crops: made, remade (changed options, box or photo), kept,
        failed, repeats, small, dropped, excluded, disputed (excluded ones that stay because they
        are in test), removed. ``attrs["moved"]`` lists photos whose split is another than before.

    Raises
    ------
    BadInput
        If an option or a table cannot be used.
    TryAgain
        If another run crops here (`openimager.store.Busy`), or a crop cannot be written.
    """
    _check(size, quality, padding, min_pixels, shares, format)
    flags = drop_flags(drop)
    store = Store(data_dir)
    threads = workers or (1 if executor else os.cpu_count() * (1 if store.is_local else 4))
    if executor is None:
        threads = max(1, threads // processes)
    options = Options(size, quality, padding, bool(keep_aspect), format, min_pixels, threads)
    photos, boxes = _photos_and_boxes(store)
    rows = without_flags(boxes, flags, drop_unknown).reset_index(drop=True)
    folders = folder_names(sorted(boxes["Category"].unique()))
    rows["Folder"] = rows["Category"].map(folders)
    rows["Excluded"] = _listed(exclude, rows) if exclude is not None else 0

    def run(task, rows: pd.DataFrame, kind: str, what: str) -> pd.DataFrame:
        work = functools.partial(_partition, task=task, kind=kind, store=store, options=options)
        in_flight = processes if processes > 1 else None
        outcomes = [pd.DataFrame()]
        total = rows["ImageID"].nunique()
        with tqdm(total=total, desc=what, unit="photo", disable=quiet or None) as progress:
            for partition, done in partitions.run(
                work, _divided(rows, slots), processes, executor, in_flight
            ):
                outcomes.append(done)
                progress.update(partition["ImageID"].nunique())
        return pd.concat(outcomes)

    slots = cluster.slots(executor) if executor else processes
    with _os_errors_explained(store), store.lock("crops"):
        cluster.check(executor, store)
        before = state.records(store)
        rows = _with_existing(store, rows, before, options)
        facts = _facts(store, rows, run)
        rows = rows.join(facts[["Width", "Height", "Stage", "Error"]], on="ImageID")
        groups = duplicates.group(facts["Hash"].to_dict())
        splits = split.assign_splits(groups, photos.set_index("ImageID")["Subset"], shares)
        rows["DuplicateGroup"] = rows["ImageID"].map(groups)
        rows["Subset"] = rows["ImageID"].map(splits)
        columns = ["CropPath", "Error", *PIXELS]
        decided = [_decided(row, options) for row in rows.itertuples()]
        rows[columns] = pd.DataFrame(decided, rows.index, columns)
        todo = (rows["CropPath"] != "") & (rows["CropPath"] != rows["Existing"])
        done = run(crop_rows, rows[todo], "crops", "Cropping")
        if len(done):
            rows.loc[done.index, [*state.OUTCOME]] = done
        rows.loc[rows["CropPath"] == "", ["SHA256", "Key", "Subset"]] = ""
        counts = _counted(rows) + Counter(dropped=len(boxes) - len(rows))
        rows = rows[(rows["Error"] != SMALL)].reset_index(drop=True)[list(CROP_COLUMNS)]
        counts["removed"] = tidy(store, {*rows["CropPath"]}, folders.values()) - counts["moved"]
        store.write_table(rows, "crops.csv")
        state.clear(store)
    moved = _moved(before, rows)
    rows.attrs.update(counts={name: counts[name] for name in COUNTS}, moved=moved)
    if not quiet:
        print(_report(counts, moved))
    return rows


def read_crops(data_dir: str | os.PathLike | Store = "data") -> pd.DataFrame:
    """Return crops.csv as `write_crops` returned it: empty text is "", not NaN."""
    return Store(data_dir).read_table("crops.csv", CROP_COLUMNS)


@contextlib.contextmanager
def _os_errors_explained(store: Store) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TryAgain(
            f"{error.filename or store.root}: {error.strerror or error}. Everything complete is "
            "kept; free space or repair it, and run again for the rest."
        ) from error


def _check(size, quality, padding, min_pixels, shares, format) -> None:
    """Raise BadInput for the first option that cannot be used."""
    if size is not None and not (isinstance(size, int) and 1 <= size <= 10_000):
        raise BadInput(f"size {size!r} cannot be used: a side of 1 to 10000 pixels, or None.")
    if not (isinstance(quality, int) and 1 <= quality <= 100):
        raise BadInput(f"quality {quality!r} cannot be used: a whole number from 1 to 100.")
    if not 0 <= padding < math.inf:
        raise BadInput(f"padding {padding!r} cannot be used: 0 for none, 0.1 for a tenth, ...")
    if not (isinstance(min_pixels, int) and min_pixels >= 1):
        raise BadInput(f"min_pixels {min_pixels!r} cannot be used: a whole number from 1 on.")
    if len(shares) != 3 or min(shares) < 0 or not 0 < sum(shares) < math.inf:
        raise BadInput(
            f"shares {shares!r} cannot be used: three numbers for train, validation and test, "
            "none below 0 and not all 0, such as (70, 15, 15)."
        )
    if format not in FORMATS:
        raise BadInput(f"format {format!r} cannot be used. Allowed: {', '.join(FORMATS)}.")


def _photos_and_boxes(store: Store) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the photos that are on disk and their boxes, sorted by ImageID and n."""
    photos = store.read_table("images.csv", ("ImageID", "Subset", "Rotation", "Status"))
    boxes = store.read_table("boxes.csv", ("ImageID", "Source", "Category", *COORDINATES, *FLAGS))
    photos = photos[photos["Status"] == "ok"].copy()
    if len(twice := photos.loc[photos["ImageID"].duplicated(), "ImageID"]):
        raise BadInput(f"images.csv has photo {twice.iloc[0]} more than once.")
    if len(strange := photos.loc[~photos["ImageID"].str.fullmatch(IMAGE_ID), "ImageID"]):
        raise BadInput(f"'{strange.iloc[0]}' in images.csv is not an ImageID: 16 hex digits.")
    if len(strange := photos[~photos["Subset"].isin(SUBSETS)]):
        raise BadInput(
            f"Photo {strange.iloc[0]['ImageID']} in images.csv has the subset "
            f"'{strange.iloc[0]['Subset']}'. Allowed: {', '.join(SUBSETS)}."
        )
    sizes = store.sizes(store.images)
    photos["PhotoBytes"] = [sizes.get(f"{image_id}.jpg", -1) for image_id in photos["ImageID"]]
    boxes["n"] = boxes.groupby("ImageID").cumcount()
    boxes = boxes.merge(photos[["ImageID", "Rotation", "PhotoBytes"]], on="ImageID")
    if len(boxes) and (boxes["PhotoBytes"] < 0).all():
        # Crops may have come without photos, in a package; they must not be removed.
        raise BadInput(
            f"None of the photos of images.csv is in {store.images}: download them first."
        )
    return photos, boxes.sort_values(["ImageID", "n"])


def _listed(exclude: str | os.PathLike, rows: pd.DataFrame) -> list[int]:
    """Return 1 for each row that a CSV lists, else 0; warn of what it lists in vain."""
    try:
        listed = pd.read_csv(exclude, dtype=str, usecols=["ImageID", "n"])
        listed = set(zip(listed["ImageID"], listed["n"].astype(int), strict=True))
    except (OSError, ValueError) as error:
        raise BadInput(
            f"exclude '{exclude}' cannot be used: a CSV file with the columns ImageID and n "
            f"(a whole number) is needed. {error}"
        ) from None
    boxes = list(zip(rows["ImageID"], rows["n"], strict=True))
    if unknown := sorted(listed - {*boxes}):
        some = ", ".join(f"{image_id} {n}" for image_id, n in unknown[:3])
        warnings.warn(
            f"{len(unknown)} of the crops in {exclude} do not exist, such as {some}.", stacklevel=3
        )
    return [int(box in listed) for box in boxes]


def _with_existing(store: Store, rows: pd.DataFrame, before: pd.DataFrame, options: Options):
    """Add Key, Name and, where a crop with that key exists, its path as Existing, SHA256, Bytes.

    Old tells whether a file of that name exists, however it was made.
    """
    sizes = store.sizes(store.crops)
    found = [sizes.get(path.removeprefix("data/crops/"), -1) for path in before["CropPath"]]
    before = before.loc[before["Bytes"].eq(found), [*_SAME, "CropPath", "SHA256", "Bytes"]]
    keys = [key(row, row.PhotoBytes, options) for row in rows.itertuples()]
    rows["Key"] = pd.Series(keys, rows.index, dtype=str)
    rows = rows.merge(before.rename(columns={"CropPath": "Existing"}), how="left", on=_SAME)
    ending = FORMATS[options.format]
    names = [f"{row.Folder}/{row.ImageID}_{row.n}.{ending}" for row in rows.itertuples()]
    rows["Name"] = pd.Series(names, rows.index, dtype=str)
    rows["Old"] = rows["Name"].isin({path.partition("/")[2] for path in sizes})
    return rows.fillna({"Existing": "", "SHA256": ""})


def _facts(store: Store, rows: pd.DataFrame, run) -> pd.DataFrame:
    """Return the facts about the photo of every row, by ImageID; hash those that are new."""
    photos = rows.drop_duplicates("ImageID")[["ImageID", "Rotation", "PhotoBytes"]]
    facts = photos.merge(state.facts(store), on="ImageID", suffixes=(" now", ""))
    same = facts["Rotation"].astype(str) == facts["Rotation now"].astype(str)  # NaN is NaN
    facts = facts.loc[same & facts["Bytes"].eq(facts["PhotoBytes"]), [*state.FACTS]]
    new = rows[~rows["ImageID"].isin(facts["ImageID"]) & (rows["PhotoBytes"] >= 0)]
    if len(new):
        facts = pd.concat([facts, run(hash_rows, new, "photos", "Decoding")])
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
        pixels, error = judge(row, (row.Width, row.Height), options)
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
    """Yield rows of at most `_PARTITION` photos, together where their crops are staged together."""
    stages = rows["Stage"] if "Stage" in rows else pd.Series("", rows.index)
    for stage, own in rows.groupby(stages, sort=False):
        place = own.groupby("ImageID", sort=False).ngroup()
        count, end = int(place.iloc[-1]) + 1, 0
        for size in [count] if stage else partitions.sizes(count, slots, _PARTITION, least=8):
            start, end = end, end + size
            yield own.iloc[place.searchsorted(start) : place.searchsorted(end)]


def _partition(rows: pd.DataFrame, task, kind: str, store: Store, options: Options):
    """Run one partition, where it runs, and write its outcomes to the journal."""
    outcomes = task(rows, store, options)
    state.note(store, kind, outcomes)
    return outcomes


def _moved(before: pd.DataFrame, rows: pd.DataFrame) -> list[str]:
    """Return the photos that the run before had in another split."""
    old, new = (
        frame[frame["CropPath"] != ""].drop_duplicates("ImageID").set_index("ImageID")["CropPath"]
        for frame in (before, rows)
    )
    old = old.reindex(new.index, fill_value="")
    old, new = (paths.str.split("/").str[2] for paths in (old, new))
    return sorted(new.index[old.notna() & (old != new)])


def _report(counts: Counter, moved: list[str]) -> str:
    """Return what happened, one line per fact that is not nothing."""
    there = sum(counts[name] for name in ("made", "remade", "kept", "moved"))
    lines = [
        f"{there:,} crops: {counts['made']:,} made, {counts['remade']:,} remade because the "
        f"options, the box or the photo changed, {counts['kept'] + counts['moved']:,} kept."
    ]
    for name, text in {
        "failed": "could not be cropped; see Error in crops.csv",
        "repeats": "left out: the photo repeats one of a later subset",
        "small": "left out: too few pixels",
        "dropped": "left out for their flags",
        "excluded": "left out of train and validation because exclude lists them",
        "disputed": "listed by exclude but kept, because they are in the test split",
        "removed": "crops removed that no longer belong",
    }.items():
        if counts[name]:
            lines.append(f"{counts[name]:,} {text}.")
    if moved:
        some = ", ".join(moved[:5]) + (", ..." if len(moved) > 5 else "")
        lines.append(f"{len(moved):,} photos changed their split: {some}")
    return "\n".join(lines)
