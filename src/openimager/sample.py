"""A small Open Images of drawn pictures, served on this machine.

It has what the real thing has, so that everything can be tried offline: turned and grey photos,
groups, drawings of things, unknown flags, a burst of almost equal photos, photos that are gone.
The pictures are drawn and their credits invented; numbers measured on them say nothing of photos.

    python -m openimager.sample [DIRECTORY] [--port P]

serves the sample (or the site in DIRECTORY) until it is interrupted.
"""

import argparse
import base64
import contextlib
import csv
import hashlib
import io
import json
import os
import secrets
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random

from openimager import server
from openimager.errors import BadInput
from openimager.files import lock

TABLES = "2018_04"

# MIDs as in Open Images; Entity, the root, is left out of its table of names.
CLASSES = {
    "/m/0jbk": "Animal",
    "/m/09728": "Bread",
    "/m/018xm": "Ball",
    "/m/0bt_c3": "Book",
    "/m/04dr76w": "Bottle",
    "/m/01lrl": "Carnivore",
    "/m/01yrx": "Cat",
    "/m/02p5f1q": "Coffee cup",
    "/m/0bt9lr": "Dog",
    "/m/0271t": "Drink",
    "/m/01_bhs": "Fast food",
    "/m/02wbm": "Food",
    "/m/02y6n": "French fries",
    "/m/0cdn1": "Hamburger",
    "/m/01b9xk": "Hot dog",
    "/m/03fp41": "Houseplant",
    "/m/02p0tk3": "Human body",
    "/m/014sv8": "Human eye",
    "/m/04hgtk": "Human head",
    "/m/04rky": "Mammal",
    "/m/01g317": "Person",
    "/m/06z37_": "Picture frame",
    "/m/05s2s": "Plant",
    "/m/0l515": "Sandwich",
    "/m/06pcq": "Submarine sandwich",
    "/m/0138tl": "Toy",
}
MIDS = {name: mid for mid, name in CLASSES.items()}

# (name, kinds, parts); a class may stand at more than one node, as in Open Images.
_TREE = (
    "/m/0bl9f",
    [
        ("Animal", [("Mammal", [("Carnivore", [("Cat",), ("Dog",)]), ("Person",)])]),
        (
            "Food",
            [
                ("Bread",),
                ("Fast food", [("French fries",), ("Hamburger",), ("Hot dog",), ("Sandwich",)]),
                ("Sandwich", [("Hamburger",), ("Submarine sandwich",)]),
                ("Drink",),
            ],
        ),
        ("Person", [], [("Human body", [], [("Human head",), ("Human eye",)])]),
        ("Plant", [("Houseplant",)]),
        ("Toy", [("Ball",)]),
        ("Ball",),
        ("Book",),
        ("Bottle",),
        ("Coffee cup",),
        ("Picture frame",),
    ],
)

_MAIN = ("Cat", "Dog", "Hamburger", "Sandwich")
_RIVAL = {"Cat": "Dog", "Dog": "Cat", "Hamburger": "Sandwich", "Sandwich": "Hamburger"}
# Read from the left for each category: its first three photos already fill all three subsets.
_SUBSETS = "trn tst val trn trn tst trn trn trn tst trn val trn trn trn tst trn trn trn trn".split()
_SUBSET_NAMES = {"trn": "train", "tst": "test", "val": "validation"}

_AUTHORS = (
    "Ada Okonkwo", "Bj&ouml;rn &Aring;kesson", "Chlo&eacute; Lef&egrave;vre", "D. O&#x27;Shea, Jr.",
    "Érica Conceição", "Fatima al-Zahra", "Gudrun \"Gudi\" Weiß", "Hoàng Thị Mai", "Ines, Jo &amp; Kim",
    "Jiří Dvořák", "Кира Волкова", "李小龙 (Lee)", "Мой фотоальбом", "Nnamdi Eze", "山田 花子",
    "Ólafur Þórsson", "Pets &amp; Plates", "Quentin Marlowe", "R2 \"the camera\", D2", "Søren Ågård",
)  # fmt: skip
_TITLES = (
    "{0}", "IMG_{1}", "{0}, at home", "My {0} &amp; me", "\"{0}\", it said", "{0} No. {1}",
    "Sunday's {0}, again", "Le {0} d&#x27;Anna", "{0} – été", "ein schönes {0}", "{0} &quot;posing&quot;",
    "{0}; {1}; light, shadow", "#{0} #drawn #openimager", "看这里: {0}", "",
)  # fmt: skip


@dataclass
class _Plan:
    """What one photo is to be; the drawing follows from it alone."""

    image_id: str
    name: str
    subset: str
    wanted: list[str]
    situation: str
    seed: str
    author: int
    take: int = 0
    rotation: int | None = 0
    grey: bool = False
    thumbnail: bool = False
    response: str | None = None


def build(directory: str | os.PathLike | None = None, seed: int = 0, photos: int = 400) -> Path:
    """Draw the sample, unless it is there already, and return its folder of tables.

    Parameters
    ----------
    directory : path-like, optional
        Where the site is to stand; a new or an empty folder. By default it is kept in the
        per-user cache (``OPENIMAGER_CACHE`` moves it) and drawn only once.
    seed : int
        Equal seeds give equal pictures and tables.
    photos : int
        Number of photos, at least 12: one of each category in each subset.

    Returns
    -------
    Path
        The folder of the tables, ``.../2018_04``; the photos lie beside it.

    Raises
    ------
    BadInput
        If `photos` is too small, or `directory` holds something else.
    """
    if photos < 3 * len(_MAIN):
        raise BadInput(f"The sample can't be made of {photos} photos, it takes at least 12.")
    made_by = {"seed": seed, "photos": photos, "drawn by": _source_hash()}
    if directory is None:
        directory = _cache() / f"sample-{seed}-{photos}-{made_by['drawn by'][:12]}"
    directory = Path(directory)
    mark = directory / "sample.json"
    text = json.dumps(made_by)
    with lock(directory.with_name(f".{directory.name}.lock")):
        if mark.is_file() and mark.read_text(encoding="utf-8") == text:
            return directory / TABLES
        if directory.exists():
            if not directory.is_dir() or any(directory.iterdir()):
                raise BadInput(
                    f"{str(directory)!r} is not empty and holds no sample of this seed and size. "
                    "Name a new folder, or remove that one."
                )
            directory.rmdir()
        part = directory.with_name(f".{directory.name}.{secrets.token_hex(4)}.part")
        try:
            _draw_site(part, seed, photos)
            (part / "sample.json").write_text(text, encoding="utf-8", newline="\n")
            os.replace(part, directory)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return directory / TABLES


@contextlib.contextmanager
def serve(directory: str | os.PathLike | None = None) -> Iterator[str]:
    """Serve a site on this machine while the block runs, and yield its base URL.

    Parameters
    ----------
    directory : path-like, optional
        The root of a site in the V4 layout, or its folder of tables; the sample by default.

    Yields
    ------
    str
        ``http://127.0.0.1:PORT/2018_04/``, ending in the name of the folder of the tables.

    Raises
    ------
    BadInput
        If `directory` is not such a site.
    """
    with server.running(build() if directory is None else directory) as running:
        yield running.base_url


def _cache() -> Path:
    if folder := os.environ.get("OPENIMAGER_CACHE"):
        return Path(folder)
    import platformdirs

    return Path(platformdirs.user_cache_dir("openimager", appauthor=False))


def _source_hash() -> str:
    """Return a hash of the code that draws, so that a cached sample is never of an older one."""
    import PIL

    digest = hashlib.sha256(PIL.__version__.encode())
    here = Path(__file__)
    for path in (here, *sorted(here.with_name("drawn").glob("*.py"))):
        digest.update(path.read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()


# ------------------------------------------------------------------------------------------ plans


def _plans(seed: int, photos: int) -> list[_Plan]:
    """Decide what each photo is to be: everything that is rare is dealt out, not left to chance."""
    rng = Random(f"plans {seed}")
    plans = []
    for index in range(photos):
        category = _MAIN[index % len(_MAIN)]
        digest = hashlib.sha256(f"{seed} {index}".encode()).hexdigest()
        subset = _SUBSET_NAMES[_SUBSETS[index // len(_MAIN) % len(_SUBSETS)]]
        wanted = [category] * rng.choice((1, 1, 2, 2, 3))
        name = f"{int(digest[16:24], 16):010d}_{digest[24:34]}"
        plans.append(
            _Plan(digest[:16], name, subset, wanted, "plain", digest, rng.randrange(len(_AUTHORS)))
        )
    deck = _Deck(rng, photos)
    for situation, share in (
        ("occluded", 0.15), ("truncated", 0.1), ("depiction", 0.07), ("group", 0.04), ("inside", 0.04)
    ):  # fmt: skip
        for index in deck.deal(share):
            plans[index].situation = situation
            if situation == "group":
                plans[index].wanted = plans[index].wanted[:1]
    for number, index in enumerate(_Deck(rng, photos).deal(0.16, least=4)):
        wanted = plans[index].wanted
        other = (
            _RIVAL[wanted[0]] if number % 2 else rng.choice([c for c in _MAIN if c != wanted[0]])
        )
        plans[index].wanted = [wanted[0], other]
    deck = _Deck(rng, photos)
    for number, index in enumerate(deck.deal(0.1, least=3)):
        plans[index].rotation = (90, 270, 180)[number % 3]
    for index in deck.deal(0.04):
        plans[index].rotation = None
    for index in deck.deal(0.03):
        plans[index].grey = True
    for index in deck.deal(0.33):
        plans[index].thumbnail = True
    _bursts(rng, plans)
    # Gone photos are train photos, so that a small sample keeps some of all in each subset.
    train = [plan for plan in plans if plan.subset == "train"]
    deck = _Deck(rng, len(train))
    for response, share in (("gone", 0.02), ("placeholder", 0.02), ("busy-once", 0.02)):
        for index in deck.deal(share):
            train[index].response = response
    return plans


class _Deck:
    """Deals out the numbers below `count`, each at most once."""

    def __init__(self, rng: Random, count: int):
        self._count = count
        self._left = rng.sample(range(count), count)

    def deal(self, share: float, least: int = 1) -> list[int]:
        """Return about `share` of all numbers."""
        number = max(least, round(share * self._count))
        dealt, self._left = self._left[:number], self._left[number:]
        return dealt


def _bursts(rng: Random, plans: list[_Plan]) -> None:
    """Let some photos be another take of one by the same author, now and then in another subset."""
    later = len(_MAIN)
    train = [i for i in range(len(plans) - 2 * later) if plans[i].subset == "train"]
    for number, index in enumerate(rng.sample(train, max(2, len(plans) // 60))):
        first = plans[index]
        twins = [p for p in plans[index + later :: later] if p.subset == "train" and not p.take]
        if number % 2:
            twins = [p for p in plans[index % later :: later] if p.subset == "test" and not p.take]
        if first.take:
            continue
        for take, plan in enumerate(twins[: 1 + (number % 4 == 0)], start=1):
            plan.take, plan.seed, plan.author = take, first.seed, first.author
            plan.wanted, plan.situation = first.wanted, first.situation
            plan.rotation, plan.grey = first.rotation, first.grey


# --------------------------------------------------------------------------------------- pictures


def _draw(plan: _Plan):
    """Draw one photo.

    Returns
    -------
    jpeg : bytes
    thumbnail : bytes or None
    things : list of openimager.drawn.scenes.Thing
    size : tuple of int
        Width and height of the upright photo, to which the things' boxes refer.
    """
    from PIL import Image

    from openimager.drawn import scenes

    rng = Random(plan.seed)
    long = rng.randint(400, 640)
    size = (long, round(long * rng.choice((0.667, 0.75, 0.75, 0.8, 1))))
    if rng.random() < 0.35:
        size = size[::-1]
    image, things = scenes.scene(rng, plan.wanted, plan.situation, size)
    if plan.take:
        # A moment later: the camera has moved a little, the light is another.
        image, things = _nudged(image, things, 2 * plan.take)
        rng = Random(f"{plan.seed} {plan.take}")
    image = scenes.photograph(rng, image)
    stored = image.transpose(_STORED[plan.rotation]) if plan.rotation else image
    if plan.grey:
        stored = stored.convert("L")
    quality = rng.randint(76, 88)
    exif = Image.Exif()
    if plan.rotation is not None:
        exif[0x0112] = _ORIENTATION[plan.rotation]
        exif[0x010F] = "openimager"
    jpeg = _jpeg(stored, quality, exif)
    thumbnail = None
    if plan.thumbnail:
        small = stored.copy()
        small.thumbnail((320, 320))
        thumbnail = _jpeg(small, 80, exif)
    return jpeg, thumbnail, things, image.size


# What a camera that was held turned writes: tag 6 asks for a quarter turn clockwise, which is 270
# degrees counter-clockwise, tag 8 for one counter-clockwise.
_ORIENTATION = {0: 1, 90: 8, 180: 3, 270: 6}
# Values of Image.Transpose: the turn that Rotation undoes.
_STORED = {90: 4, 180: 3, 270: 2}


def _jpeg(image, quality: int, exif) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality, exif=exif)
    return stream.getvalue()


def _nudged(image, things: list, pixels: int):
    """Cut `pixels` off the left and upper edges, and move the boxes accordingly."""
    from openimager.drawn.scenes import Thing

    moved = [
        Thing(thing.category, tuple(max(0, edge - pixels) for edge in thing.box), thing.flags)
        for thing in things
    ]
    return image.crop((pixels, pixels, *image.size)), moved


def turned_box(box: tuple[float, ...], rotation: int) -> tuple[float, ...]:
    """Return (XMin, XMax, YMin, YMax) after turning the picture counter-clockwise.

    Examples
    --------
    >>> turned_box((0.0, 0.25, 0.0, 0.5), 90)
    (0.0, 0.5, 0.75, 1.0)
    """
    xmin, xmax, ymin, ymax = box
    return {
        0: box,
        90: (ymin, ymax, 1 - xmax, 1 - xmin),
        180: (1 - xmax, 1 - xmin, 1 - ymax, 1 - ymin),
        270: (1 - ymax, 1 - ymin, xmin, xmax),
    }[rotation]


# ----------------------------------------------------------------------------------------- tables


def _draw_site(root: Path, seed: int, photos: int) -> None:
    """Write the whole site into the new folder `root`."""
    from tqdm.auto import tqdm

    from openimager.metadata import BOX_COLUMNS, PHOTO_COLUMNS, SUBSETS, table_path

    folder = root / "photos"
    folder.mkdir(parents=True)
    boxes, rows, labels = ({subset: [] for subset in SUBSETS} for _ in range(3))
    plans = _plans(seed, photos)
    # Pillow lets go of the interpreter while it works on pixels, so that two threads pay.
    with ThreadPoolExecutor(2) as pool:
        drawn = tqdm(
            zip(plans, pool.map(_draw, plans), strict=True),
            desc="Drawing the sample", total=photos, unit="photo", disable=None,
        )  # fmt: skip
        for plan, (jpeg, thumbnail, things, size) in drawn:
            if plan.response in (None, "busy-once"):
                (folder / f"{plan.name}_o.jpg").write_bytes(jpeg)
            if thumbnail:
                (folder / f"{plan.name}_z.jpg").write_bytes(thumbnail)
            rng = Random(f"rows {plan.image_id}")
            boxes[plan.subset] += _box_rows(rng, plan, things, size)
            rows[plan.subset].append(_photo_row(rng, plan, jpeg))
            labels[plan.subset] += _label_rows(rng, plan, {thing.category for thing in things})
    tables = root / TABLES
    for subset in SUBSETS:
        Random(f"order {seed} {subset}").shuffle(rows[subset])
        _write(tables / table_path("boxes", subset), BOX_COLUMNS, sorted(boxes[subset]))
        _write(tables / table_path("photos", subset), PHOTO_COLUMNS, rows[subset])
        _write(
            tables / table_path("labels", subset),
            ("ImageID", "Source", "LabelName", "Confidence"),
            sorted(labels[subset]),
        )
    _write(tables / table_path("classes"), None, sorted(CLASSES.items()))
    root_node = {"LabelName": _TREE[0], "Subcategory": [_node(*child) for child in _TREE[1]]}
    _write_json(tables / table_path("hierarchy"), root_node)
    _write_json(
        root / server.RESPONSES,
        {f"photos/{plan.name}_o.jpg": plan.response for plan in plans if plan.response},
    )
    _placeholder(root / server.PLACEHOLDER)


def _box_rows(rng: Random, plan: _Plan, things: list, size: tuple[int, int]) -> list[tuple]:
    width, height = size
    rows = []
    for thing in things:
        left, upper, right, lower = thing.box
        by_hand = plan.subset != "train" or rng.random() < 0.85
        source = rng.choice(("xclick", "xclick", "xclick", "freeform")) if by_hand else "activemil"
        if not by_hand:
            # A machine's boxes are loose; three per cent a side keep the overlap above 0.7.
            wide, high = right - left, lower - upper
            left, right = left - rng.uniform(0, 0.03) * wide, right + rng.uniform(0, 0.03) * wide
            upper, lower = upper - rng.uniform(0, 0.03) * high, lower + rng.uniform(0, 0.03) * high
        box = (left / width, right / width, upper / height, lower / height)
        box = tuple(min(1.0, max(0.0, edge)) for edge in box)
        # The stored picture is the upright one turned back.
        box = turned_box(box, (360 - (plan.rotation or 0)) % 360)
        flags = list(thing.flags.values())
        if rng.random() < 0.06:
            flags = [-1] * 5
        rows.append(
            (plan.image_id, source, MIDS[thing.category], 1, *(f"{e:.6f}" for e in box), *flags)
        )
    return rows


def _photo_row(rng: Random, plan: _Plan, jpeg: bytes) -> tuple:
    author = _AUTHORS[plan.author]
    person = f"{plan.author:02d}@N00"
    title = rng.choice(_TITLES).format(plan.wanted[0].lower(), rng.randint(1000, 9999))
    return (
        plan.image_id,
        plan.subset,
        f"../photos/{plan.name}_o.jpg",
        f"https://example.org/photos/{person}/{plan.name.partition('_')[0]}",
        "https://creativecommons.org/licenses/by/2.0/",
        f"https://example.org/people/{person}/",
        author,
        title,
        len(jpeg),
        base64.b64encode(hashlib.md5(jpeg, usedforsecurity=False).digest()).decode(),
        f"../photos/{plan.name}_z.jpg" if plan.thumbnail else "",
        "" if plan.rotation is None else f"{plan.rotation}.0",
    )


def _label_rows(rng: Random, plan: _Plan, seen: set[str]) -> list[tuple]:
    """Return what people said of the whole photo: what is on it, and what they were sure is not."""
    asked = seen | set(rng.sample(_MAIN, 2))
    asked |= {"Animal" if seen & {"Cat", "Dog"} else "Person"}
    truth = seen | ({"Animal"} if seen & {"Cat", "Dog"} else set())
    sources = ("verification", "verification", "verification", "crowdsource-verification")
    return [
        (plan.image_id, rng.choice(sources), MIDS[name], int(name in truth))
        for name in sorted(asked)
    ]


def _node(name: str, kinds=(), parts=()) -> dict:
    node = {"LabelName": MIDS[name]}
    for edge, children in (("Subcategory", kinds), ("Part", parts)):
        if children:
            node[edge] = [_node(*child) for child in children]
    return node


def _write(path: Path, header, rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        if header:
            writer.writerow(header)
        writer.writerows(rows)


def _write_json(path: Path, value) -> None:
    path.write_text(json.dumps(value, indent=4) + "\n", encoding="utf-8", newline="\n")


def _placeholder(path: Path) -> None:
    """Draw what stands in for a photo that is gone: a grey picture of one colour."""
    from PIL import Image

    Image.new("RGB", (500, 374), (218, 218, 218)).save(path)


# ------------------------------------------------------------------------------------------ shell


def main(argv: list[str] | None = None) -> int:
    """Serve the sample or a directory until interrupted; the base URL is stdout's first line."""
    parser = argparse.ArgumentParser(
        prog="python -m openimager.sample",
        description="Serve a small Open Images on this machine until Ctrl-C.",
    )
    parser.add_argument(
        "directory", nargs="?", metavar="DIRECTORY",
        help="a site in the V4 layout, or its folder of tables (default: the drawn sample)",
    )  # fmt: skip
    parser.add_argument("--port", type=_port, default=0, metavar="P", help="default: a free one")
    given = parser.parse_args(argv)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        directory = build() if given.directory is None else given.directory
        with server.running(directory, given.port) as site:
            print(site.base_url, flush=True)
            names = '"Cat" "Dog"' if given.directory is None else '"NAME"'
            print(
                f"In another shell:  python -m openimager {names} --base-url {site.base_url}\n"
                "Ctrl-C ends this.",
                file=sys.stderr,
                flush=True,
            )
            # Waiting in short pieces, because on Windows one long wait can't be interrupted.
            while not stop.wait(0.5):
                pass
    except BadInput as error:
        print(f"openimager.sample: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
    return 0


def _interrupt(number, frame):
    raise KeyboardInterrupt


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port, a number from 0 to 65535")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
