"""Photos on disk, their boxes and their credits, and one row of outcome for each."""

import contextlib
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from openimager import files, selection
from openimager.errors import BadInput, TryAgain
from openimager.web import sources
from openimager.web.client import DiskTrouble, Settings
from openimager.web.outcomes import STATE, Outcomes
from openimager.web.run import Run
from openimager.web.traffic import Patience

if TYPE_CHECKING:
    import pandas as pd


def download(
    categories: str | Iterable[str],
    data_dir: str | os.PathLike = "data",
    subset: str | Sequence[str] | None = None,
    limit: int | None = None,
    seed: int = 0,
    source: str | Sequence[str] | None = None,
    with_children: bool = False,
    drop: str | Sequence[str] = (),
    drop_unknown: bool = False,
    workers: int = 32,
    rate: float | None = None,
    base_url: str | os.PathLike | None = None,
    cache_dir: str | os.PathLike | None = None,
    class_names: str | os.PathLike | None = None,
    boxes: str | os.PathLike | None = None,
    photos: str | os.PathLike | None = None,
    sample: bool = False,
    retry_gone: bool = False,
    quiet: bool = False,
    release: str | None = None,
    image_ids: str | os.PathLike | Iterable[str] | None = None,
    without: str | Iterable[str] = (),
    merge: Mapping[str, Iterable[str]] | Iterable[str] = (),
    *,
    class_names_fp: str | os.PathLike | None = None,
    train_boxed_fp: str | os.PathLike | None = None,
    image_ids_fp: str | os.PathLike | None = None,
    settings: Settings | None = None,
    patience: Patience | None = None,
) -> "pd.DataFrame":
    """Download the photos, boxes and credits of categories of Open Images V4.

    Photos go to ``images/<ImageID>.jpg`` below `data_dir`, the tables that describe this
    selection to ``images.csv`` and ``boxes.csv``, the credits of every photo on disk to
    ``ATTRIBUTION.csv``. What is on disk and whole is not asked for again.

    Parameters
    ----------
    categories : str or iterable of str
        Names, in any case, or MIDs.
    data_dir : path-like
        Where everything goes.
    subset : str or sequence of str, optional
        ``"train"`` (the default), ``"validation"``, ``"test"`` or ``"all"``.
    limit : int, optional
        Photos on disk for each category, over all subsets; one with two of the categories counts
        for both. A photo that is gone is replaced by the next one; one that failed keeps its
        place for the next run.
    seed : int
        Decides, with the ImageID alone, the order in which a limit takes photos.
    source : str or sequence of str, optional
        ``"flickr"``, ``"cvdf"``, ``"thumbnail"`` or a URL with V4 column names in it, tried in
        order for each photo. By default Flickr, then CVDF for photos that came from Flickr.
    with_children : bool
        Count kinds of a category as that category.
    drop : str or sequence of str
        Leave out boxes marked ``"occluded"``, ``"truncated"``, ``"group"``, ``"depiction"`` or
        ``"inside"``.
    drop_unknown : bool
        Leave out boxes whose flags are unknown.
    workers : int
        Requests under way at once.
    rate : float, optional
        Requests a second for each registered domain, 0 for no cap. By default 10, and no cap for
        addresses of this machine itself.
    base_url : str or path-like
        URL or directory that ends in the folder of the tables.
    cache_dir : path-like, optional
        Where fetched tables are kept, in place of the per-user cache.
    class_names, boxes, photos : path-like, optional
        Tables already on disk; also under the names that they had in 2018: `class_names_fp`,
        `train_boxed_fp`, `image_ids_fp`.
    sample : bool
        Short for ``release="sample"``, the drawn sample.
    retry_gone : bool
        Ask again for photos that were gone.
    quiet : bool
        Say nothing and show no progress.
    release : str, optional
        ``"v4"`` (the default), ``"v5"``, ``"v6"``, ``"v7"`` or ``"sample"``.
    image_ids : path-like or iterable of str, optional
        Only these photos: ImageIDs, alone or as ``subset/ImageID``, or a file with one per line.
    without : str or iterable of str
        Leave out photos with a box of these categories.
    merge : mapping of str to iterable of str
        Several categories under one name, such as ``{"Pet": ["Cat", "Dog"]}``.
    settings, patience : Settings and Patience, optional
        Time-outs, bounds, retries: for tests and unusual networks.

    Returns
    -------
    pandas.DataFrame
        What ``images.csv`` holds: one row a photo, the V4 columns and Status (``"ok"``,
        ``"gone"`` or ``"failed"``), Source, Width and Height in pixels as stored, Bytes, Error.

    Raises
    ------
    BadInput
        If a category, option or table cannot be used.
    TryAgain
        If the tables cannot be fetched, the disk is full or another run is at work in
        `data_dir`. Whole photos are kept.
    """
    data_dir = Path(data_dir)
    if data_dir.exists() and not data_dir.is_dir():
        raise BadInput(f"'{data_dir}' is a file; the data directory must be a folder or not exist.")
    source = sources.checked(source)
    _check_numbers(workers, rate)
    query, site = selection.ask(
        categories,
        subset,
        sample,
        release,
        base_url=base_url,
        cache_dir=cache_dir,
        class_names=class_names or class_names_fp,
        boxes=boxes or train_boxed_fp,
        photos=photos or image_ids_fp,
        quiet=quiet,
        limit=limit,
        seed=seed,
        with_children=with_children,
        drop=drop,
        drop_unknown=drop_unknown,
        image_ids=image_ids,
        without=without,
        merge=merge,
    )
    base_url = site.base
    with _disk_trouble_told(), _claimed(data_dir):
        found = selection.Selector(replace(query, limit=None), site).take()
        settings = settings or Settings(connections=workers)
        patience = patience or Patience(rate=rate)
        with Outcomes(data_dir) as outcomes:
            run = Run(data_dir, found, limit, source, base_url, outcomes, settings, quiet)
            return run.all(workers, patience, retry_gone)


def _check_numbers(workers: int, rate: float | None) -> None:
    if workers < 1:
        raise BadInput(f"The number of workers is {workers}; it must be at least 1.")
    if rate is not None and not (rate >= 0 and math.isfinite(rate)):
        raise BadInput(f"The rate is {rate} a second; it must be 0 (no cap) or more.")


@contextlib.contextmanager
def _claimed(data_dir: Path) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(files.lock(data_dir / STATE / "lock", wait=False))
        except files.Busy:
            raise TryAgain(
                f"Another run is at work in {data_dir}. Wait for its end, or give another "
                "--data-dir."
            ) from None
        yield


@contextlib.contextmanager
def _disk_trouble_told() -> Iterator[None]:
    try:
        yield
    except DiskTrouble as trouble:
        path, error = trouble.path, trouble.error
    except OSError as trouble:
        path, error = trouble.filename, trouble
    else:
        return
    where = f" ({path})" if path else ""
    raise TryAgain(
        f"The disk does not take what is written: {error.strerror or error}{where}. What is whole "
        "is kept; make room or mend it, and run again for the rest."
    ) from error
