"""The command line: parse, one call, say what happened."""

import argparse
import contextlib
import os
import sys
import warnings
from collections.abc import Iterator, Sequence

from openimager import __version__
from openimager.errors import BadInput, TryAgain

_EXAMPLES = """\
examples:
  openimager Cat Dog                      the real Open Images V4: tables, then photos from Flickr
  openimager Cat Dog --sample             the same on the drawn sample, offline, in seconds
  openimager Cat Dog --dry-run            what it would take, without fetching a photo
  openimager "Polar bear" --release v7    quotes round a name of several words; another release
  openimager --list sand                  categories whose name contains "sand"

exit status:
  0  every selected photo is on disk or gone for good, and at least one is on disk
  1  running again could fetch more, or nothing is on disk
  2  bad use or bad input
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; README.md shows its help text."""
    made = argparse.ArgumentParser(
        prog="openimager",
        description="Download the photos, boxes and credits of categories of Open Images.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = made.add_argument
    add("categories", nargs="*", metavar="CATEGORY", help='a name, such as "Cat", or a MID')
    add("--version", action="version", version=f"openimager {__version__}")
    add("--list", nargs="?", const="", metavar="TEXT", help="list categories that contain TEXT")
    add("--dry-run", action="store_true", help="say what it would take; fetch no photo")

    what = made.add_argument_group("which photos")
    add = what.add_argument
    add("--release", metavar="RELEASE", help="v4, v5, v6, v7 or sample (v4)")
    add("--gallery", action="store_true", help="afterwards open a page to look at the photos")
    add("--sample", action="store_true", help="the drawn sample, offline: --release sample")
    add(
        "--subset",
        action="append",
        metavar="SUBSET",
        help="train, validation, test or all (train; repeatable)",
    )
    add("--limit", type=int, metavar="N", help="photos per category, over all subsets")
    add("--seed", type=int, default=0, metavar="N", help="seed for choosing under a limit (0)")
    add("--with-children", action="store_true", help="count kinds of a category as the category")
    add(
        "--drop",
        action="append",
        default=[],
        metavar="FLAG",
        help="leave out boxes marked occluded, truncated, group, depiction or inside (repeatable)",
    )
    add("--drop-unknown", action="store_true", help="leave out boxes whose flags are unknown")
    add(
        "--without",
        action="append",
        default=[],
        metavar="NAME",
        help="leave out photos with a box of this category (repeatable)",
    )
    add(
        "--merge",
        action="append",
        default=[],
        metavar="NAME=A,B",
        help='several categories under one name, such as "Pet=Cat,Dog" (repeatable)',
    )
    add(
        "--image-ids",
        metavar="FILE",
        help="only these photos: an ImageID or SUBSET/ImageID on each line",
    )

    where = made.add_argument_group("from where, to where")
    add = where.add_argument
    add("--data-dir", default="data", metavar="DIR", help="where everything goes (data)")
    add(
        "--source",
        action="append",
        metavar="SOURCE",
        help="flickr, cvdf, thumbnail or a URL with V4 column names, such as "
        "https://host/{Subset}/{ImageID}.jpg (repeatable, tried in order; flickr, then cvdf)",
    )
    add(
        "--base-url",
        metavar="URL",
        help="URL or directory in place of the release's own: for v4 the folder of the tables "
        "(2018_04/), for v5 to v7 the folder that holds 2018_04/, v5/, v6/ and v7/",
    )
    add("--replace", action="store_true", help="drop categories and photos of the last selection")
    add("--cache-dir", metavar="DIR", help="where the tables are kept (a per-user cache)")
    add("--class-names", metavar="FILE", help="class descriptions already on disk")
    add("--boxes", metavar="FILE", help="a table of boxes already on disk")
    add("--photos", metavar="FILE", help="a table of photos already on disk")

    how = made.add_argument_group("how")
    add = how.add_argument
    add(
        "--workers",
        type=int,
        default=32,
        metavar="N",
        help="requests in flight, 1 to 1,000 (%(default)s)",
    )
    add(
        "--rate",
        type=float,
        metavar="N",
        help="requests per second for each registered domain; 0 for no cap (10; CVDF's mirror "
        "has none, nor by default this machine)",
    )
    add(
        "--processes",
        type=int,
        default=1,
        metavar="N",
        help="processes that share workers and rate (%(default)s); one at a time asks Flickr",
    )
    add(
        "--dask",
        metavar="ADDRESS",
        help="run on the workers of this Dask scheduler, such as tcp://host:8786. More machines "
        "speed up the mirror (--source cvdf), not Flickr, whose photos are all on one domain",
    )
    add("--retry-gone", action="store_true", help="request photos again that were gone")
    add("--quiet", action="store_true", help="no progress and no counts; errors still show")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns
    -------
    int
        The exit status: 0, 1 or 2, as the help text has it.
    """
    options = parser().parse_args(argv)
    with _plain_warnings():
        try:
            if options.list is not None:
                return _list(options)
            if options.dry_run:
                return _dry_run(options)
            return _download(options)
        except BadInput as error:
            return _complain(error, 2)
        except TryAgain as error:
            return _complain(error, 1)
        except BrokenPipeError:
            # The reader, such as head, has enough. What is still buffered goes nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except OSError as error:
            return _complain(f"{error.strerror or error}: {error.filename or 'no file named'}.", 1)
        except KeyboardInterrupt:
            return _complain("Interrupted. What is whole is kept; run again for the rest.", 1)


def _download(options: argparse.Namespace) -> int:
    from openimager import cluster, report
    from openimager.photos.download import download

    keywords = dict(vars(options))
    for name in ("list", "dry_run", "dask", "gallery"):
        del keywords[name]
    given = {name: value for name, value in keywords.items() if value is not None}
    if options.dask and options.processes > 1:
        given["partitions"] = options.processes
    with cluster.connected(options.dask) if options.dask else contextlib.nullcontext() as executor:
        photos = download(given.pop("categories"), executor=executor, **given)
    counts = photos["Status"].value_counts()
    if not options.quiet:
        for line in report.outcome(photos):
            _say(line)
    if options.gallery:
        from openimager import gallery

        gallery.show(options.data_dir)
    return 0 if counts.get("ok", 0) and not counts.get("failed", 0) else 1


def _list(options: argparse.Namespace) -> int:
    from openimager.tables import categories

    if options.categories:
        text = " ".join([options.list, *options.categories])
        raise BadInput(f"--list takes one text; put several words in quotes: --list '{text}'")
    _, site = _ask(options)
    classes, hierarchy = site.classes(), site.hierarchy()
    hits = categories.search(options.list, classes)
    if not hits:
        # Says what an unknown category says, with the nearest names.
        categories.resolve([options.list], classes)
    for mid, name in hits.items():
        kinds = hierarchy.children(mid) if hierarchy else ()
        print(f"{mid}\t{name}\t{', '.join(sorted(classes.get(kind, kind) for kind in kinds))}")
    sys.stdout.flush()
    return 0


def _dry_run(options: argparse.Namespace) -> int:
    from openimager import report, selection

    counts = selection.Selector(*_ask(options)).describe()
    print("\n".join(report.forecast(counts, options.rate)))
    sys.stdout.flush()
    return 0


_ASKED = (
    *("subset", "release", "sample", "base_url", "cache_dir", "class_names", "boxes", "photos"),
    *("quiet", "limit", "seed", "with_children", "drop", "drop_unknown"),
    *("image_ids", "without", "merge"),
)


def _ask(options: argparse.Namespace):
    from openimager import selection

    return selection.ask(options.categories, **{name: getattr(options, name) for name in _ASKED})


@contextlib.contextmanager
def _plain_warnings() -> Iterator[None]:
    """Show a warning as one line for a person, without the place in the code."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = lambda message, *_args, **_more: _say(f"warning: {message}")
        yield


def _complain(error, status: int) -> int:
    for line in str(error).splitlines():
        _say(f"openimager: {line}")
    return status


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
