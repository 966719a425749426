"""The run that turns photos and boxes into labelled folders of crops."""

import functools
import itertools
import math
import os
import warnings
from collections import Counter
from concurrent.futures import Executor

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from openimager import cluster
from openimager.crops import cut, files, split
from openimager.crops.cut import MISSING, SMALL, Options, crop_rows, hash_rows
from openimager.crops.files import FORMATS
from openimager.errors import BadInput, explained_os_errors
from openimager.query import without_flags
from openimager.store import COORDINATES, CROP_COLUMNS, FLAGS, IMAGE_ID, PIXELS, SUBSETS, Store

# What is counted besides crops that exist, and how the report says it.
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
_COUNTED = {_REPEATS: "repeats", _EXCLUDED: "excluded", SMALL: "small"}  # other errors: "failed"
_PARTITION = 64  # photos: about a second of work on one core


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
        Grow each box on each side by this share of its width and height, within the photo; fit it
        into the square, centred on black, instead of stretching it.
    min_pixels : int
        Leave out boxes with fewer pixels than this along a side of the photo on disk.
    drop, drop_unknown
        Leave out boxes by their flags, as `openimager.query.Query` does.
    shares : sequence of three float
        Of train, validation and test, where all photos come from one subset.
    workers, quiet : int and bool
        Threads in all, by default one per core (with `executor`: threads per partition, by default
        one); and whether to print nothing.
    format : str
        "jpeg", "png" (lossless) or "webp" (which Keras does not read).
    exclude : path-like, optional
        CSV with ImageID and n of crops to leave out of train and validation; in test they stay.
    processes, executor : int and concurrent.futures.Executor
        Processes to start; or an executor that runs the partitions instead and is not shut down
        (`processes` above 1 is then the number of partitions in flight).

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
    photos, boxes = _photos_and_boxes(store)
    rows = without_flags(boxes, drop, drop_unknown).reset_index(drop=True)
    folders = files.folder_names(sorted(boxes["Category"].unique()))
    rows["Excluded"] = _listed(exclude, rows) if exclude is not None else 0
    slots = cluster.slots(executor) if executor else processes

    def run(task, rows: pd.DataFrame, what: str) -> pd.DataFrame:
        work = functools.partial(task, store=store, options=options)
        starts = np.append(np.flatnonzero(~rows["ImageID"].duplicated()), len(rows))  # of photos
        count = len(starts) - 1
        edges = starts[np.cumsum([0, *cluster.sizes(count, slots, _PARTITION, least=8)])]
        parts = (rows.iloc[start:end] for start, end in itertools.pairwise(edges))
        in_flight = processes if processes > 1 else None
        outcomes = [pd.DataFrame()]
        with tqdm(total=count, desc=what, unit="photo", disable=quiet or None) as progress:
            for part, done in cluster.run(work, parts, processes, executor, in_flight):
                outcomes.append(done)
                progress.update(part["ImageID"].nunique())
        return pd.concat(outcomes)

    with explained_os_errors("Whole crops"), store.lock("crops"):
        cluster.check(executor, store)
        before = files.known(store, "crops.csv")
        rows = _with_existing(store, rows, folders, before, options)
        facts = _facts(store, rows, run)
        facts["DuplicateGroup"] = split.group(facts["Hash"])
        official = photos.set_index("ImageID")["Subset"]
        facts["Subset"] = split.assign_splits(facts["DuplicateGroup"], official, shares)
        rows = rows.join(facts.drop(columns=["Rotation", "PhotoBytes", "Hash"]), on="ImageID")
        decided = [_decided(row, options) for row in rows.itertuples()]
        columns = ["CropPath", "Error", *PIXELS]
        rows[columns] = pd.DataFrame(decided, rows.index, columns)
        todo = (rows["CropPath"] != "") & (rows["CropPath"] != rows["Existing"])
        if len(done := run(crop_rows, rows[todo], "Cropping")):
            rows.loc[done.index, [*done]] = done
        absent = rows["CropPath"] == ""
        rows.loc[absent, ["SHA256", "Key", "Subset"]] = ""
        rows.loc[absent, [*PIXELS, "Bytes"]] = pd.NA
        counts, moved = _counted(rows, before)
        counts["dropped"] = len(boxes) - len(rows)
        rows = rows[rows["Error"] != SMALL].reset_index(drop=True)[list(CROP_COLUMNS)]
        removed = files.tidy(store, {*rows["CropPath"]}, folders.values())
        counts["removed"] = removed - counts["moved"]
        store.write_table(rows, "crops.csv")
        files.clear(store)
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
        ("format", options.format, options.format in FORMATS, ", ".join(FORMATS)),
        ("shares", shares, triple, "for train, validation and test, such as (70, 15, 15)"),
    ):
        if not fine:
            raise BadInput(f"{name} {value!r} cannot be used. Allowed: {allowed}.")


def _photos_and_boxes(store: Store) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the photos that are on disk and their boxes, sorted by ImageID and n."""
    photos = store.read_table("images.csv", ("ImageID", "Subset", "Rotation", "Status"))
    boxes = store.read_table("boxes.csv", ("ImageID", "Source", "Category", *COORDINATES, *FLAGS))
    photos = photos[photos["Status"] == "ok"].copy()
    for problem, wrong in (
        ("has photo {ImageID} more than once", photos["ImageID"].duplicated()),
        (
            "has the ImageID '{ImageID}', not 16 hex digits",
            ~photos["ImageID"].str.fullmatch(IMAGE_ID),
        ),
        (
            "has the Subset '{Subset}', not train, validation or test",
            ~photos["Subset"].isin(SUBSETS),
        ),
    ):
        if wrong.any():
            raise BadInput(f"images.csv {problem.format(**photos[wrong].iloc[0])}.")
    sizes = store.sizes(store.images)
    photos["PhotoBytes"] = [sizes.get(f"{image_id}.jpg", -1) for image_id in photos["ImageID"]]
    boxes["n"] = boxes.groupby("ImageID").cumcount()
    boxes = boxes.merge(photos[["ImageID", "Rotation", "PhotoBytes"]], on="ImageID")
    if len(boxes) and (boxes["PhotoBytes"] < 0).all():
        # Crops may have come without photos, in a package; they must not be removed.
        raise BadInput(f"No photo of images.csv is in {store.images}: download them first.")
    return photos, boxes.sort_values(["ImageID", "n"])


def _listed(exclude: str | os.PathLike, rows: pd.DataFrame) -> np.ndarray:
    """Return 1 for each row that a CSV lists, else 0; warn of listed crops that do not exist."""
    box = ["ImageID", "n"]
    try:
        table = pd.read_csv(exclude, dtype={"ImageID": str, "n": int}, usecols=box)
    except (OSError, ValueError) as error:
        needed = "a CSV file with the columns ImageID and n (a whole number) is needed"
        raise BadInput(f"exclude '{exclude}' cannot be used: {needed}. {error}") from None
    wanted, boxes = (pd.MultiIndex.from_frame(frame[box]) for frame in (table, rows))
    if len(unknown := wanted.difference(boxes)):
        some = f"such as {', '.join(f'{image_id} {n}' for image_id, n in unknown[:3])}"
        message = f"{len(unknown)} of the crops in {exclude} do not exist, {some}."
        warnings.warn(message, stacklevel=3)
    return boxes.isin(wanted).astype(int)


def _with_existing(store: Store, rows: pd.DataFrame, folders, before: pd.DataFrame, options):
    """Add Key, Name, Old (a file of that name exists) and, of a crop with that key, Existing."""
    same, sizes = ["ImageID", "n", "Key"], store.sizes(store.crops)
    whole = before["Bytes"] == before["CropPath"].str.removeprefix("data/crops/").map(sizes)
    before = before.loc[whole, [*same, "CropPath", "SHA256", "Bytes"]]
    keys = [cut.key(row, options) for row in rows.itertuples()]
    rows["Key"] = pd.Series(keys, rows.index, dtype=str)
    rows = rows.merge(before.rename(columns={"CropPath": "Existing"}), how="left", on=same)
    names = rows["ImageID"] + "_" + rows["n"].astype(str) + f".{FORMATS[options.format]}"
    rows["Name"] = rows["Category"].map(folders).astype(str) + "/" + names
    rows["Old"] = rows["Name"].isin({path.partition("/")[2] for path in sizes})
    return rows.fillna({"Existing": "", "SHA256": ""})


def _facts(store: Store, rows: pd.DataFrame, run) -> pd.DataFrame:
    """Return the facts about the photo of every row, by ImageID; hash those that are new."""
    photos = rows.drop_duplicates("ImageID")[["ImageID", "Rotation", "PhotoBytes"]]
    known = files.known(store, ".openimager/photos.csv")
    facts = photos.merge(known, on=[*photos])[[*known]]
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


def _counted(rows: pd.DataFrame, before: pd.DataFrame) -> tuple[Counter, list[str]]:
    """Count what became of the rows; return also the photos that had another split before."""
    existing, path = rows["Existing"], rows["CropPath"]
    done = np.select(
        [rows["Error"] != "", existing == path, existing != "", rows["Old"]],
        [rows["Error"].map(_COUNTED).fillna("failed"), "kept", "moved", "remade"],
        "made",
    )
    counts = Counter(done)
    counts["disputed"] = int(((rows["Excluded"] == 1) & (rows["Subset"] == "test")).sum())
    splits = dict(zip(before["ImageID"], before["CropPath"].str.split("/").str[2], strict=True))
    old = rows["ImageID"].map(splits)
    return counts, sorted(
        {*rows.loc[(path != "") & old.notna() & (old != rows["Subset"]), "ImageID"]}
    )


def _report(counts: dict[str, int], moved: list[str]) -> str:
    """Return what happened, one line per count above zero."""
    made, remade, kept = counts["made"], counts["remade"], counts["kept"] + counts["moved"]
    changed = "the options, the box or the photo changed"
    lines = [
        f"{made + remade + kept:,} crops: {made:,} made, {remade:,} remade because {changed}, "
        f"{kept:,} kept."
    ]
    lines += [f"{counts[name]:,} {text}." for name, text in _LEFT_OUT.items() if counts[name]]
    if moved:
        some = ", ".join(moved[:5]) + (", ..." if len(moved) > 5 else "")
        lines.append(f"{len(moved):,} photos changed their split: {some}")
    return "\n".join(lines)
