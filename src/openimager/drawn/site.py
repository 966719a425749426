"""The sample's files: photos, their rows in the tables, names and hierarchy."""

import base64
import csv
import hashlib
import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

from PIL import Image
from tqdm.auto import tqdm

from openimager import server
from openimager.drawn import scenes
from openimager.drawn.plans import MAIN, Plan, plans_for
from openimager.metadata import table_path
from openimager.store import BOX_COLUMNS, PHOTO_COLUMNS, SUBSETS

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

_AUTHORS = (
    "Ada Okonkwo", "Bj&ouml;rn &Aring;kesson", "Chlo&eacute; Lef&egrave;vre", "D. O&#x27;Shea, Jr.",
    "Érica Conceição", "Fatima al-Zahra", "Gudrun \"Gudi\" Weiß", "Hoàng Thị Mai",
    "Ines, Jo &amp; Kim", "Jiří Dvořák", "Кира Волкова", "李小明", "Мой фотоальбом", "Nnamdi Eze",
    "山田 花子", "Ólafur Þórsson", "Pets &amp; Plates", "Quentin Marlowe",
    "R2 \"the camera\", D2", "Søren Ågård",
)  # fmt: skip
_TITLES = (
    "{0}", "IMG_{1}", "{0}, at home", "My {0} &amp; me", "\"{0}\", it said", "{0} No. {1}",
    "Sunday's {0}, again", "Le {0} d&#x27;Anna", "{0}: été", "ein schönes {0}",
    "{0} &quot;posing&quot;", "{0}; {1}; light, shadow", "#{0} #drawn #openimager",
    "看这里: {0}", "",
)  # fmt: skip


def draw(plan: Plan):
    """Draw one photo.

    Returns
    -------
    jpeg : bytes
    thumbnail : bytes or None
    things : list of openimager.drawn.scenes.Thing
    size : tuple of int
        Width and height of the upright photo, to which the things' boxes refer.
    """
    rng = Random(plan.seed)
    long = rng.randint(400, 640)
    size = (long, round(long * rng.choice((0.667, 0.75, 0.75, 0.8, 1))))
    if rng.random() < 0.35:
        size = size[::-1]
    image, things = scenes.scene(rng, plan.wanted, plan.situation, size)
    image = scenes.photograph(rng, image)
    if plan.take:
        # A moment later: the camera has moved a little, a cloud has come or gone.
        image, things = _nudged(image, things, 2 * plan.take)
        image = image.point([min(255, round(v * (1 + 0.05 * plan.take))) for v in range(256)] * 3)
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
    moved = [
        scenes.Thing(
            thing.category, tuple(max(0, edge - pixels) for edge in thing.box), thing.flags
        )
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


def draw_site(tables: Path, seed: int, photos: int) -> None:
    """Write the tables into the new folder `tables`, and the photos beside it."""
    root = tables.parent
    folder = root / "photos"
    folder.mkdir(parents=True)
    boxes, rows, labels = ({subset: [] for subset in SUBSETS} for _ in range(3))
    plans = plans_for(seed, photos)
    # Pillow lets go of the interpreter while it works on pixels, so that two threads pay.
    with ThreadPoolExecutor(2) as pool:
        drawn = tqdm(
            zip(plans, pool.map(draw, plans), strict=True),
            desc="Drawing the sample", total=photos, unit="photo", disable=None,
        )  # fmt: skip
        for plan, (jpeg, thumbnail, things, size) in drawn:
            if plan.response in (None, "busy-once"):
                (folder / f"{plan.name}_o.jpg").write_bytes(jpeg)
            if thumbnail:
                (folder / f"{plan.name}_z.jpg").write_bytes(thumbnail)
            rng = Random(f"rows {plan.image_id}")
            boxes[plan.subset] += box_rows(rng, plan, things, size)
            rows[plan.subset].append(_photo_row(rng, plan, jpeg))
            labels[plan.subset] += _label_rows(rng, plan, {thing.category for thing in things})
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


def box_rows(rng: Random, plan: Plan, things: list, size: tuple[int, int]) -> list[tuple]:
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


def _photo_row(rng: Random, plan: Plan, jpeg: bytes) -> tuple:
    number = plan.author % len(_AUTHORS)
    author, person = _AUTHORS[number], f"{number:02d}@N00"
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


def _label_rows(rng: Random, plan: Plan, seen: set[str]) -> list[tuple]:
    """Return what people said of the whole photo: what is on it, and what they were sure is not."""
    asked = seen | set(rng.sample(MAIN, 2))
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
    Image.new("RGB", (500, 374), (218, 218, 218)).save(path)
