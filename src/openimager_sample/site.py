"""The files of the sample: photos, their rows in the tables, names and hierarchy."""

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

from openimager.crops.geometry import rotate_box
from openimager.store import BOX_COLUMNS, PHOTO_COLUMNS, SUBSETS
from openimager_sample import scenes
from openimager_sample.plans import MAIN, Plan, plans_for

# Entity, the root, has no name in the table of names.
MIDS = {
    "Animal": "/m/0jbk", "Ball": "/m/018xm", "Book": "/m/0bt_c3", "Bottle": "/m/04dr76w",
    "Bread": "/m/09728", "Carnivore": "/m/01lrl", "Cat": "/m/01yrx", "Coffee cup": "/m/02p5f1q",
    "Dog": "/m/0bt9lr", "Drink": "/m/0271t", "Fast food": "/m/01_bhs", "Food": "/m/02wbm",
    "French fries": "/m/02y6n", "Hamburger": "/m/0cdn1", "Hot dog": "/m/01b9xk",
    "Houseplant": "/m/03fp41", "Human body": "/m/02p0tk3", "Human eye": "/m/014sv8",
    "Human head": "/m/04hgtk", "Mammal": "/m/04rky", "Person": "/m/01g317",
    "Picture frame": "/m/06z37_", "Plant": "/m/05s2s", "Sandwich": "/m/0l515",
    "Submarine sandwich": "/m/06pcq", "Toy": "/m/0138tl", "Entity": "/m/0bl9f",
}  # fmt: skip
# A name and its kinds (or, after "Part", its parts); a class may be at more than one node.
TREE = [
    "Entity",
    ["Animal", ["Mammal", ["Carnivore", ["Cat"], ["Dog"]], ["Person"]]],
    [
        "Food",
        *(["Bread"], ["Drink"], ["Sandwich", ["Hamburger"], ["Submarine sandwich"]]),
        ["Fast food", ["French fries"], ["Hamburger"], ["Hot dog"], ["Sandwich"]],
    ],
    ["Person", "Part", ["Human body", "Part", ["Human head"], ["Human eye"]]],
    *(["Plant", ["Houseplant"]], ["Toy", ["Ball"]], ["Ball"], ["Book"], ["Bottle"]),
    *(["Coffee cup"], ["Picture frame"]),
]
AUTHORS = (
    "Ada Okonkwo", "Bj&ouml;rn &Aring;kesson", "Chlo&eacute; Lef&egrave;vre", "D. O&#x27;Shea, Jr.",
    "Érica Conceição", "Fatima al-Zahra", "Gudrun \"Gudi\" Weiß", "Hoàng Thị Mai",
    "Ines, Jo &amp; Kim", "Jiří Dvořák", "Кира Волкова", "李小明", "Nnamdi Eze", "山田 花子",
)  # fmt: skip
TITLES = (
    "{0}", "IMG_{1}", "{0}, at home", "My {0} &amp; me", "\"{0}\", it said", "Le {0} d&#x27;Anna",
    "{0}: été", "{0} &quot;posing&quot;", "#{0} #drawn #openimager", "看这里: {0}", "",
)  # fmt: skip
# What a camera held sideways writes for each Rotation: 6 asks for a quarter turn clockwise, which
# is 270 degrees counter-clockwise; 8 asks for a quarter turn counter-clockwise.
_ORIENTATION = {0: 1, 90: 8, 180: 3, 270: 6}


def draw_site(root: Path, seed: int, photos: int) -> None:
    """Write a site into the new folder `root`: photos/, and the tables in 2018_04/."""
    tables, folder = root / "2018_04", root / "photos"
    folder.mkdir(parents=True)
    boxes, rows, labels = ({subset: [] for subset in SUBSETS} for _ in range(3))
    plans = plans_for(seed, photos)
    # Pillow releases the interpreter lock while it works on pixels, so two threads are faster.
    with ThreadPoolExecutor(2) as pool:
        drawn = zip(plans, pool.map(draw, plans), strict=True)
        options = {"desc": "Drawing the sample", "total": photos, "unit": "photo", "disable": None}
        for plan, (jpeg, thumbnail, found, size) in tqdm(drawn, **options):
            if plan.response in (None, "busy-once"):
                (folder / f"{plan.name}_o.jpg").write_bytes(jpeg)
            if thumbnail:
                (folder / f"{plan.name}_z.jpg").write_bytes(thumbnail)
            rng = Random(f"rows {plan.image_id}")
            boxes[plan.subset] += box_rows(rng, plan, found, size)
            rows[plan.subset].append(_photo_row(rng, plan, jpeg))
            labels[plan.subset] += _label_rows(rng, plan, {category for category, *_ in found})
    for subset in SUBSETS:
        Random(f"order {seed} {subset}").shuffle(rows[subset])
        (tables / subset).mkdir(parents=True)
        start, boxable = tables / subset / subset, "-boxable" * (subset == "train")
        header = ("ImageID", "Source", "LabelName", "Confidence")
        _write(f"{start}-annotations-bbox.csv", [BOX_COLUMNS, *sorted(boxes[subset])])
        _write(f"{start}-images{boxable}-with-rotation.csv", [PHOTO_COLUMNS, *rows[subset]])
        path = f"{start}-annotations-human-imagelabels-boxable.csv"
        _write(path, [header, *sorted(labels[subset])])
    names = sorted((mid, name) for name, mid in MIDS.items() if name != "Entity")
    _write(tables / "class-descriptions-boxable.csv", names)
    text = json.dumps(_node(*TREE), indent=1)
    (tables / "bbox_labels_600_hierarchy.json").write_text(text, encoding="utf-8", newline="\n")
    responses = {f"photos/{plan.name}_o.jpg": plan.response for plan in plans if plan.response}
    (root / "responses.json").write_text(json.dumps(responses, indent=1), encoding="utf-8")
    # What Flickr sends in place of a photo that is gone: a grey picture.
    Image.new("RGB", (500, 374), (218, 218, 218)).save(folder / "photo_unavailable.png")


def draw(plan: Plan):
    """Draw one photo; return its JPEG, its thumbnail (or b""), its boxes and its upright size."""
    rng = Random(plan.seed)
    long, shape = rng.randint(400, 640), rng.choice((0.667, 0.75, 0.75, 0.8, 1))
    size = (long, round(long * shape))[:: rng.choice((1, 1, -1))]
    image, boxes = scenes.scene(rng, plan.wanted, plan.situation, size)
    image = scenes.photograph(rng, image)
    if plan.take:
        # A moment later the camera has moved a little, and a cloud has passed: it is brighter.
        moved = 2 * plan.take
        image = image.crop((moved, moved, *image.size))
        image = image.point([min(255, round(v * (1 + 0.05 * plan.take))) for v in range(256)] * 3)
        boxes = [(name, tuple(max(0, e - moved) for e in box), flags) for name, box, flags in boxes]
    # Stored as the camera held it: the upright photo turned back by Rotation.
    stored = image.rotate(-(plan.rotation or 0), expand=True)
    stored = stored.convert("L") if plan.grey else stored
    exif, files = Image.Exif(), (io.BytesIO(), io.BytesIO())
    if plan.rotation is not None:
        exif[0x0112] = _ORIENTATION[plan.rotation]
    stored.save(files[0], "JPEG", quality=rng.randint(76, 88), exif=exif)
    if plan.thumbnail:
        stored.thumbnail((320, 320))
        stored.save(files[1], "JPEG", quality=80, exif=exif)
    return *(file.getvalue() for file in files), boxes, image.size


def box_rows(rng: Random, plan: Plan, boxes: list[tuple], size: tuple[int, int]) -> list[tuple]:
    """Return the rows of the box table for one photo, as fractions of the stored picture."""
    rows = []
    for category, box, flags in boxes:
        source, loose = rng.choice(("xclick", "xclick", "xclick", "freeform")), 0.0
        if plan.subset == "train" and rng.random() < 0.15:
            # Boxes drawn by machine are loose; 3 % on each side keep the overlap above 0.7.
            source, loose = "activemil", 0.03
        edges = []
        for low, high, whole in ((box[0], box[2], size[0]), (box[1], box[3], size[1])):
            below, above = (rng.uniform(0, loose) * (high - low) for _ in range(2))
            edges += [max(0.0, (low - below) / whole), min(1.0, (high + above) / whole)]
        edges = rotate_box(edges, (360 - (plan.rotation or 0)) % 360)
        flags = [-1] * 5 if rng.random() < 0.06 else flags.values()
        edges = [f"{edge:.6f}" for edge in edges]
        rows.append((plan.image_id, source, MIDS[category], 1, *edges, *flags))
    return rows


def _photo_row(rng: Random, plan: Plan, jpeg: bytes) -> tuple:
    # Takes of a burst share their seed, and so their author.
    number = int(plan.seed[:4], 16) % len(AUTHORS)
    title = rng.choice(TITLES).format(plan.wanted[0].lower(), rng.randint(1000, 9999))
    md5 = hashlib.md5(jpeg, usedforsecurity=False).digest()
    return (
        *(plan.image_id, plan.subset, f"../photos/{plan.name}_o.jpg"),
        f"https://example.org/photos/{number:02d}@N00/{plan.name.partition('_')[0]}",
        "https://creativecommons.org/licenses/by/2.0/",
        *(f"https://example.org/people/{number:02d}@N00/", AUTHORS[number], title),
        *(len(jpeg), base64.b64encode(md5).decode()),
        f"../photos/{plan.name}_z.jpg" if plan.thumbnail else "",
        "" if plan.rotation is None else f"{plan.rotation}.0",
    )


def _label_rows(rng: Random, plan: Plan, seen: set[str]) -> list[tuple]:
    """Return what people said about the whole photo: what is in it and what is not."""
    animals = {"Animal"} if seen & {"Cat", "Dog"} else set()
    asked = seen | set(rng.sample(MAIN, 2)) | (animals or {"Person"})
    sources = ("verification", "verification", "verification", "crowdsource-verification")
    return [
        (plan.image_id, rng.choice(sources), MIDS[name], int(name in seen | animals))
        for name in sorted(asked)
    ]


def _node(name: str, *children) -> dict:
    edge = "Part" if "Part" in children else "Subcategory"
    below = [_node(*child) for child in children if child != "Part"]
    return {"LabelName": MIDS[name]} | ({edge: below} if below else {})


def _write(path, rows) -> None:
    with open(path, "w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)
