"""The command line: parse, one call, say what happened."""

import argparse
import contextlib
import sys
from collections.abc import Sequence

from openimager import __version__
from openimager.errors import BadInput, exit_status
from openimager.tables.catalogue import RELEASES

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
_OPTIONS = {
    "which photos": {
        "--release RELEASE": f"one of {', '.join(RELEASES)} (default: v4)",
        "--gallery": "afterwards open a page to look at the photos",
        "--sample": "the drawn sample, offline; short for --release sample",
        "--subset SUBSET": "train, validation, test or all; repeatable (default: train)",
        "--limit N": "N photos of each category, all subsets together; more if photos chosen for "
        "another category show it, too",
        "--seed N": "seed for choosing photos under --limit (default: 0)",
        "--with-children": "also count boxes of subcategories (a hamburger is a sandwich)",
        "--drop FLAG": "leave out boxes marked occluded, truncated, group, depiction or inside; "
        "repeatable",
        "--drop-unknown": "leave out boxes whose flags are unknown",
        "--without NAME": "leave out photos with a box of this category; repeatable",
        "--merge NAME=A,B": 'several categories under one name, such as "Pet=Cat,Dog"; repeatable',
        "--image-ids FILE": "only these photos: an ImageID or SUBSET/ImageID on each line",
    },
    "from where, to where": {
        "--data-dir DIR": "the data directory (default: data)",
        "--source SOURCE": "flickr (originals), cvdf (the mirror), thumbnail (small copies on "
        "Flickr), or a URL with columns of the table of photos in it, such as "
        "https://host/{Subset}/{ImageID}.jpg; repeatable, tried in the given order (default: "
        "flickr, then cvdf)",
        "--base-url URL": "read the tables from this URL or directory: for v4 the folder of "
        "the tables (2018_04/), for v5 to v7 the folder that holds 2018_04/, v5/, v6/ and v7/",
        "--replace": "continue even if this leaves out categories or photos of the last query",
        "--cache-dir DIR": "where the tables are kept (default: a per-user cache)",
        "--class-names FILE": "class descriptions already on disk",
        "--boxes FILE": "a table of boxes already on disk",
        "--photos FILE": "a table of photos already on disk",
    },
    "how": {
        "--workers N": "requests in flight in all (default: 32); each process has 1 to 1,000",
        "--rate N": "requests per second for all hosts of a domain together; 0 for no limit "
        "(default: 10, but no limit for a server on this machine). CVDF's mirror has no limit",
        "--processes N": "processes that share workers and rate; only one of them asks Flickr at "
        "a time (default: 1). With --dask, N above 1 is the number of partitions in flight",
        "--dask ADDRESS": "run on the workers of this Dask scheduler, such as tcp://host:8786. "
        "More machines speed up the mirror (--source cvdf), not Flickr, whose photos are all on "
        "one domain",
        "--retry-gone": "request again photos that were gone",
        "--quiet": "no progress and no counts; errors still show",
    },
}
# Options with a value: those that may be repeated, whose result is a list, and numbers.
_REPEATABLE = {"--subset", "--drop", "--without", "--merge", "--source"}
_NUMBERS = {"--limit": int, "--seed": int, "--workers": int, "--processes": int, "--rate": float}
# Options that are no keywords of `query.ask`.
_OF_FETCHING = {"source", "workers", "rate", "processes"}
_OF_A_RUN = {"list", "dry_run", "gallery", "dask", "data_dir", "replace", "retry_gone"}


def parser() -> argparse.ArgumentParser:
    """Return the parser. Its result has only the options given, mostly keywords of `download`."""
    made = argparse.ArgumentParser(
        prog="openimager",
        description="Download the photos, boxes and credits of categories of Open Images.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    add, name = made.add_argument, 'a name, such as "Cat", or a MID, such as "/m/01yrx"'
    add("categories", nargs="*", default=[], metavar="CATEGORY", help=name)
    add("--version", action="version", version=f"openimager {__version__}")
    add("--list", nargs="?", const="", metavar="TEXT", help="list categories that contain TEXT")
    add("--dry-run", action="store_true", help="say what it would take; fetch no photo")
    for title, options in _OPTIONS.items():
        group = made.add_argument_group(title)
        for words, text in options.items():
            flag, _, metavar = words.partition(" ")
            how = {"action": "append" if flag in _REPEATABLE else "store", "metavar": metavar}
            how = how | {"type": _NUMBERS.get(flag, str)} if metavar else {"action": "store_true"}
            group.add_argument(flag, help=text, **how)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status, which the help text explains."""
    given = vars(parser().parse_args(argv))
    run = _list if "list" in given else _dry_run if "dry_run" in given else _download
    return exit_status(lambda: run(given))


def _download(given: dict) -> int:
    from openimager import cluster, report
    from openimager.photos.download import download

    dask, with_gallery = given.pop("dask", None), given.pop("gallery", False)
    with cluster.connected(dask) if dask else contextlib.nullcontext() as executor:
        photos = download(executor=executor, **given)
    if not given.get("quiet"):
        print("\n".join(report.outcome(photos)), file=sys.stderr, flush=True)
    if with_gallery:
        from openimager import gallery

        gallery.show(given.get("data_dir", "data"))
    statuses = set(photos["Status"])
    return 0 if "ok" in statuses and "failed" not in statuses else 1


def _list(given: dict) -> None:
    from openimager.tables import categories

    several = "--list takes one text, in quotes if it has several words: --list 'polar bear'"
    if given["categories"]:
        raise BadInput(several)
    _, site = _query_and_site(given)
    classes, hierarchy = site.classes(), site.hierarchy()
    text = given["list"].strip().casefold()
    hits = [(name, mid) for mid, name in classes.items() if text in name.casefold() or text == mid]
    if not hits:
        # Raises the error for an unknown category, which suggests the nearest names.
        categories.resolve(given["list"].split(","), classes)
        raise BadInput(several)
    for name, mid in sorted(hits):
        kinds = hierarchy.children(mid) if hierarchy else ()
        print(f"{mid}\t{name}\t{', '.join(sorted(classes.get(kind, kind) for kind in kinds))}")


def _dry_run(given: dict) -> None:
    from openimager import report, selection
    from openimager.photos.photo import Settings, checked

    checked(Settings(), **{name: given[name] for name in given.keys() & _OF_FETCHING})
    counts = selection.Selector(*_query_and_site(given)).describe()
    print("\n".join(report.forecast(counts, given.get("rate"))))


def _query_and_site(given: dict):
    from openimager.query import ask

    return ask(**{name: given[name] for name in given.keys() - _OF_A_RUN - _OF_FETCHING})
