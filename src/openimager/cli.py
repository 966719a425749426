"""The command line: parse, one call, say what happened."""

import argparse
import contextlib
import sys
import warnings
from collections.abc import Iterator, Sequence

from openimager import __version__, metadata
from openimager.errors import BadInput, TryAgain

# What the hours of --dry-run reckon with: the downloader's own default.
_RATE = 10.0

_EXAMPLES = """\
examples:
  openimager Cat Dog                      the real Open Images V4: tables, then photos from Flickr
  openimager Cat Dog --sample             the same on the drawn sample, offline, in seconds
  openimager Cat Dog --dry-run            what it would take, without fetching a photo
  openimager --list sand                  categories whose name holds "sand"

exit status:
  0  every selected photo is on disk or gone for good, and at least one is on disk
  1  running again could fetch more, or nothing is on disk
  2  bad use or bad input
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; README.md shows its help text."""
    made = argparse.ArgumentParser(
        prog="openimager",
        description="Download the photos, boxes and credits of categories of Open Images V4.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = made.add_argument
    add("categories", nargs="*", metavar="CATEGORY", help='a name, such as "Cat", or a MID')
    add("--version", action="version", version=f"openimager {__version__}")
    add("--list", nargs="?", const="", metavar="TEXT", help="list categories that hold TEXT")
    add("--dry-run", action="store_true", help="say what it would take; fetch no photo")
    add("--sample", action="store_true", help="use the drawn sample, offline")

    what = made.add_argument_group("which photos")
    add = what.add_argument
    add(
        "--subset",
        action="append",
        metavar="SUBSET",
        help="train, validation, test or all (train; repeatable)",
    )
    add("--limit", type=int, metavar="N", help="photos per category, over all subsets")
    add("--seed", type=int, default=0, metavar="N", help="which ones a limit takes (0)")
    add("--with-children", action="store_true", help="count kinds of a category as the category")
    add(
        "--drop",
        action="append",
        default=[],
        metavar="FLAG",
        help="leave out boxes marked occluded, truncated, group, depiction or inside (repeatable)",
    )
    add("--drop-unknown", action="store_true", help="leave out boxes whose flags are unknown")

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
        default=metadata.BASE_URL,
        metavar="URL",
        help="URL or directory that ends in the folder of the tables (%(default)s)",
    )
    add("--cache-dir", metavar="DIR", help="where the tables are kept (a per-user cache)")
    add("--class-names", metavar="FILE", help="class descriptions already on disk")
    add("--boxes", metavar="FILE", help="a table of boxes already on disk")
    add("--photos", metavar="FILE", help="a table of photos already on disk")

    how = made.add_argument_group("how")
    add = how.add_argument
    add("--workers", type=int, default=32, metavar="N", help="photos at a time (%(default)s)")
    add(
        "--rate",
        type=float,
        metavar="N",
        help="requests a second for each registered domain; 0 for no cap (10; none on loopback)",
    )
    add("--retry-gone", action="store_true", help="ask again for photos known to be gone")
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
        except OSError as error:
            return _complain(f"{error.strerror or error}: {error.filename or 'no file named'}.", 1)
        except KeyboardInterrupt:
            return _complain("Interrupted. What is whole is kept; run again for the rest.", 1)


def _download(options: argparse.Namespace) -> int:
    from openimager.photos.download import download

    keywords = dict(vars(options))
    for name in ("list", "dry_run"):
        del keywords[name]
    given = {name: value for name, value in keywords.items() if value is not None}
    photos = download(given.pop("categories"), **given)
    counts = photos["Status"].value_counts()
    if not options.quiet:
        _say_counts(photos)
    return 0 if counts.get("ok", 0) and not counts.get("failed", 0) else 1


def _say_counts(photos) -> None:
    meanings = {
        "ok": "on disk",
        "gone": "gone for good",
        "failed": "not fetched; run again to try them again",
    }
    for status, meaning in meanings.items():
        rows = photos[photos["Status"] == status]
        sources = rows.loc[rows["Source"].fillna("") != "", "Source"].value_counts()
        named = ", ".join(f"{name} {count}" for name, count in sources.sort_index().items())
        by_source = f" ({named})" if status == "ok" and named else ""
        _say(f"{status:<7}{len(rows):>7}  {meaning}{by_source}")


def _list(options: argparse.Namespace) -> int:
    from openimager import categories

    base = _base(options)
    paths = [metadata.table_path(kind) for kind in ("classes", "hierarchy")]
    found = metadata.fetch(paths, base, options.cache_dir, options.quiet)
    classes = categories.read_classes(options.class_names or found[0])
    hierarchy = categories.read_hierarchy(found[1])
    hits = categories.search(options.list, classes)
    if not hits:
        # Says what an unknown category says, with the nearest names.
        categories.resolve([options.list], classes)
    for mid, name in hits.items():
        children = sorted(classes.get(kind, kind) for kind in hierarchy.children(mid))
        print(f"{mid}\t{name}\t{', '.join(children)}")
    return 0


def _dry_run(options: argparse.Namespace) -> int:
    from openimager import selection

    found = selection.find(
        options.categories,
        subset=options.subset,
        seed=options.seed,
        with_children=options.with_children,
        drop=options.drop,
        drop_unknown=options.drop_unknown,
        base_url=_base(options),
        cache_dir=options.cache_dir,
        class_names=options.class_names,
        boxes=options.boxes,
        photos=options.photos,
        quiet=options.quiet,
    )
    counts = selection.describe(selection.take(found, options.limit))
    rate = _RATE if options.rate is None else options.rate
    counts["hours"] = counts["photos"] / rate / 3600 if rate > 0 else 0.0
    print(_as_text(counts))
    print(f"(hours: at {rate:g} photos a second)" if rate > 0 else "(hours: no cap on the rate)")
    return 0


def _as_text(counts) -> str:
    shown = counts.rename(columns={flag: flag[2:].lower() for flag in metadata.FLAGS})
    shown = shown.drop(columns="unsized").rename(columns={"Unknown": "unknown", "bytes": "MB"})
    shown["MB"] /= 1e6
    formats = {name: "{:,.0f}".format for name in shown.columns[:-2]}
    text = shown.to_string(
        formatters=formats | {"MB": "{:,.1f}".format, "hours": "{:.2f}".format, "licences": str}
    )
    if unsized := int(counts.loc["in all", "unsized"]):
        text += f"\n{unsized:,} photos have no size in the table; MB counts the others."
    return text


def _base(options: argparse.Namespace):
    if not options.sample:
        return options.base_url
    from openimager import sample

    return sample.build()


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
