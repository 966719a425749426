"""From photos and boxes to labelled folders of crops."""

import contextlib
import math
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby, islice
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from openimager.cropping import duplicates, split
from openimager.cropping.cutting import Cut, Facts, Job, Options, Result, cut_photo
from openimager.cropping.folders import crop_path, csv_path, folder_name, folder_names, lying, tidy
from openimager.cropping.geometry import box_to_pixels, crop_box, rotate_box
from openimager.cropping.tables import (
    COLUMNS,
    INTEGERS,
    PIXELS,
    photo_path,
    photos_and_boxes,
    read_crops,
    remember,
    remembered,
)
from openimager.errors import BadInput, TryAgain
from openimager.files import lock, write_table
from openimager.selection import drop_flags, without_flags

__all__ = [
    "box_to_pixels",
    "crop_box",
    "crop_path",
    "folder_name",
    "read_crops",
    "rotate_box",
    "write_crops",
]

COUNTS = ("made", "remade", "kept", "failed", "repeats", "small", "dropped", "removed")
# Photos that are cropped before what was learnt of them is written down.
_BATCH = 256


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
) -> pd.DataFrame:
    """Cut every box of the selected photos out into ``crops/<part>/<category>/``.

    Reads images.csv (Status "ok"), boxes.csv and the photos; writes the crops and crops.csv. A
    crop that is there and was made in the same way stays; one that no longer belongs is removed.

    Parameters
    ----------
    data_dir : path-like
        The data directory.
    size : int or None
        Side of the square crops in pixels; None keeps each box's own size.
    quality : int
        Of the JPEG, 1 to 100.
    padding : float
        Grow each box on each side by this share of its width and height, as far as the photo goes.
    keep_aspect : bool
        Fit the box into the square, centred on black, instead of stretching it.
    min_pixels : int
        Leave out boxes with fewer pixels than this along a side of the photo on disk.
    drop : str or sequence of str
        Leave out boxes with these flags: "occluded", "truncated", "group", "depiction", "inside".
    drop_unknown : bool
        Leave out boxes whose flags are unknown.
    shares : sequence of three float
        What train, validation and test get where all photos come from one subset.
    workers : int, optional
        Threads; if not given, one for each core.
    quiet : bool
        Show no progress and do not print what happened.

    Returns
    -------
    pandas.DataFrame
        What crops.csv holds, sorted by ImageID and n. Left, Upper, Right, Lower are pixels of the
        stored photo (padding included). A box that could not be cropped, or whose photo repeats
        one of a later subset, has the reason in Error, and no Subset, CropPath, pixels or SHA256.
        ``attrs["counts"]`` counts crops: made, remade (other options, box or photo), kept,
        failed, repeats, small, dropped, removed. ``attrs["moved"]`` lists the photos that are not
        in the part in which they were before.

    Raises
    ------
    BadInput
        If an option or a table cannot be used, or imagehash is not installed.
    TryAgain
        If another run crops here (`openimager.files.Busy`), or a crop cannot be written.
    """
    _check(size, quality, padding, min_pixels, shares)
    options = Options(size, quality, float(padding), bool(keep_aspect), min_pixels)
    flags = drop_flags(drop)
    duplicates.require()
    data_dir = Path(data_dir)
    photos, boxes = photos_and_boxes(data_dir)
    if len(boxes) and not any(photo_path(data_dir, i).is_file() for i in boxes["ImageID"]):
        # Crops may have come without photos, in a package; they must not be tidied away.
        raise BadInput(
            f"None of the photos of images.csv is in {data_dir / 'images'}: download them first."
        )
    rows = without_flags(boxes, flags, drop_unknown).reset_index(drop=True)
    counts = Counter(dropped=len(boxes) - len(rows))
    folders = folder_names(sorted(boxes["Category"].unique()))
    subset = photos.set_index("ImageID")["Subset"]

    def parting() -> tuple[pd.Series, pd.Series]:
        hashes = {i: facts[i].Hash if i in facts else "" for i in rows["ImageID"].unique()}
        groups = duplicates.group(hashes)
        if subset.nunique() > 1:
            return groups, split.official(groups, subset)
        return groups, split.by_hash(groups, shares)

    with _trouble_told(data_dir), lock(data_dir / ".openimager" / "crops.lock", wait=False):
        facts = remembered(data_dir, photos)
        # What is known of the photos already puts most crops where they will stay.
        groups, parts = parting()
        known = dict(facts)
        jobs = _jobs(data_dir, rows, parts, folders, facts, options)
        results = _work(jobs, len(parts), facts, data_dir, workers, quiet)
        if facts != known:
            groups, parts = parting()
        rows["DuplicateGroup"] = rows["ImageID"].map(groups)
        rows["Subset"] = rows["ImageID"].map(parts)
        rows, outcomes = _placed(data_dir, rows, results, folders)
        counts.update(outcomes)
        belong = {crop_path(data_dir, path) for path in rows["CropPath"] if path}
        counts["removed"] = tidy(data_dir, belong, folders.values())
        moved = _moved(data_dir, rows)
        write_table(rows, data_dir / "crops.csv")
    rows.attrs.update(counts={key: counts[key] for key in COUNTS}, moved=moved)
    if not quiet:
        print(_report(counts, moved))
    return rows


@contextlib.contextmanager
def _trouble_told(data_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TryAgain(
            f"{error.filename or data_dir}: {error.strerror or error}. What is whole is kept; make "
            "room or mend it, and run again for the rest."
        ) from error


def _check(size, quality, padding, min_pixels, shares) -> None:
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


def _jobs(data_dir, rows, parts, folders, facts, options) -> Iterator[tuple[str, Job | int]]:
    """Yield each photo's ImageID and its job; for one that is left out, how many boxes it has."""
    there = lying(data_dir)
    for image_id, boxes in groupby(rows.itertuples(), key=lambda row: row.ImageID):
        boxes = list(boxes)
        if not parts[image_id]:
            yield image_id, len(boxes)
            continue
        cuts = []
        for row in boxes:
            folder = folders[row.Category]
            path = crop_path(data_dir, csv_path(parts[image_id], folder, image_id, row.n))
            box = (row.XMin, row.XMax, row.YMin, row.YMax)
            cuts.append(Cut(box, path, there.get((folder, path.name), ())))
        photo = photo_path(data_dir, image_id)
        yield image_id, Job(photo, row.Rotation, tuple(cuts), options, facts.get(image_id))


def _work(jobs, photos: int, facts, data_dir: Path, workers, quiet: bool) -> list[Result]:
    """Run the jobs on threads; return one result for each box, and add to `facts` as they come."""
    results = []
    pool = ThreadPoolExecutor(workers or os.cpu_count())
    progress = tqdm(total=photos, desc="Cropping", unit="photo", disable=quiet or None)
    try:
        # In batches: neither waiting jobs nor done ones pile up, and little is learnt twice.
        while batch := list(islice(jobs, _BATCH)):
            before = len(facts)
            ids, todo = zip(*batch, strict=True)
            for image_id, (fact, done) in zip(ids, pool.map(_one, todo), strict=True):
                if fact:
                    facts[image_id] = fact
                results.extend(done)
                progress.update()
            if len(facts) > before:
                remember(data_dir, facts)
    except BaseException:
        with contextlib.suppress(OSError):  # the disk may be what is full
            remember(data_dir, facts)
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        progress.close()
    return results


def _one(job: Job | int) -> tuple[Facts | None, list[Result]]:
    return (None, [Result("repeats")] * job) if isinstance(job, int) else cut_photo(job)


def _placed(data_dir: Path, rows: pd.DataFrame, results, folders) -> tuple[pd.DataFrame, Counter]:
    """Move crops whose part was not known before; return the rows of crops.csv and counts."""
    outcomes, filled = Counter(), []
    for row, result in zip(rows.itertuples(), results, strict=True):
        if not row.Subset:
            if result.path:
                result.path.unlink()
            result = Result("repeats", error="The photo repeats one of a later subset.")
        outcomes[result.outcome] += 1
        path = ""
        if result.path:
            path = csv_path(row.Subset, folders[row.Category], row.ImageID, row.n)
            target = crop_path(data_dir, path)
            if result.path != target:
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(result.path, target)
        filled.append((path, *(result.pixels or [pd.NA] * 4), result.sha256, result.error))
    columns = ["CropPath", *PIXELS, "SHA256", "Error"]
    rows = rows.join(pd.DataFrame(filled, columns=columns, index=rows.index))
    rows = rows.astype(dict.fromkeys(INTEGERS, "Int64"))
    rows.loc[rows["CropPath"] == "", "Subset"] = ""
    rows = rows[(rows["CropPath"] != "") | (rows["Error"] != "")].reset_index(drop=True)
    return rows[list(COLUMNS)], outcomes


def _moved(data_dir: Path, rows: pd.DataFrame) -> list[str]:
    """Return the photos that crops.csv, written by the run before, has in another part."""
    try:
        before = read_crops(data_dir)
    except BadInput:
        return []
    old, new = (
        frame[frame["Subset"] != ""].drop_duplicates("ImageID").set_index("ImageID")["Subset"]
        for frame in (before, rows)
    )
    old = old.reindex(new.index)
    return sorted(new.index[old.notna() & (old != new)])


def _report(counts: Counter, moved: list[str]) -> str:
    """Return what happened, one line a fact that is not nothing."""
    there = counts["made"] + counts["remade"] + counts["kept"]
    lines = [
        f"{there:,} crops: {counts['made']:,} made, {counts['remade']:,} made anew because the "
        f"options, the box or the photo changed, {counts['kept']:,} there already."
    ]
    for key, text in {
        "failed": "could not be cropped; crops.csv says why",
        "repeats": "left out: the photo repeats one of a later subset",
        "small": "left out: too few pixels",
        "dropped": "left out for their flags",
        "removed": "crops removed that no longer belong",
    }.items():
        if counts[key]:
            lines.append(f"{counts[key]:,} {text}.")
    if moved:
        some = ", ".join(moved[:5]) + (", ..." if len(moved) > 5 else "")
        lines.append(f"{len(moved):,} photos changed their part: {some}")
    return "\n".join(lines)
