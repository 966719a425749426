"""The drawn sample has the properties of Open Images, and its server acts like a web server."""

import base64
import contextlib
import csv
import hashlib
import http.client
import io
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import defaultdict
from random import Random
from urllib.parse import urlsplit

import numpy as np
import pytest
import requests
from builders import (
    BOX_COLUMNS,
    BOX_TABLES,
    FLAGS,
    PHOTO_COLUMNS,
    PHOTO_TABLES,
    jpeg,
    photo_row,
    put_photos,
    write_site,
)
from builders import SPLITS as SUBSETS
from PIL import Image, ImageOps

from openimager import sample
from openimager.errors import BadInput
from openimager_sample import site as drawing
from openimager_sample.plans import plans_for
from openimager_sample.site import MIDS, box_rows, draw

CATEGORIES = ("Cat", "Dog", "Hamburger", "Sandwich")
CLASSES = "class-descriptions-boxable.csv"
HIERARCHY = "bbox_labels_600_hierarchy.json"


def rows(site, kind, subset):
    """Return the header and the rows of a table as dictionaries of strings."""
    labels = f"{subset}/{subset}-annotations-human-imagelabels-boxable.csv"
    path = {"boxes": BOX_TABLES[subset], "photos": PHOTO_TABLES[subset], "labels": labels}[kind]
    with open(site / path, encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        return reader.fieldnames, list(reader)


def every(site, kind):
    """Return the rows of all three subsets."""
    return [row for subset in SUBSETS for row in rows(site, kind, subset)[1]]


def photo_path(site, row):
    """Return the path of the photo of a row."""
    return site / row["OriginalURL"]


@pytest.fixture(scope="module")
def base(site):
    """Serve the site for all tests of this file; tests do not request the same photos."""
    with sample.serve(site) as url:
        yield url


# ------------------------------------------------------------------------------------- the tables


def test_layout(site):
    """Tables have the names and columns of V4; the class table has no header."""
    assert site.name == "2018_04"
    for subset in SUBSETS:
        assert rows(site, "boxes", subset)[0] == BOX_COLUMNS
        assert rows(site, "photos", subset)[0] == PHOTO_COLUMNS
        assert rows(site, "labels", subset)[0] == ["ImageID", "Source", "LabelName", "Confidence"]
    first = (site / CLASSES).read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("/m/") and first.count(",") == 1


def test_order_of_rows(site):
    """Boxes are sorted by ImageID and photos are not, as in Open Images."""
    boxes = [row["ImageID"] for row in rows(site, "boxes", "train")[1]]
    photos = [row["ImageID"] for row in rows(site, "photos", "train")[1]]
    assert boxes == sorted(boxes)
    assert photos != sorted(photos) and len(set(photos)) == len(photos)


def test_categories_in_every_subset(site):
    """Even a small site has all four categories in all subsets."""
    for subset in SUBSETS:
        found = {row["LabelName"] for row in rows(site, "boxes", subset)[1]}
        assert {MIDS[name] for name in CATEGORIES} <= found


def test_boxes_and_photos_belong_together(site):
    """Each photo has a box in the same subset, and each box has a photo."""
    for subset in SUBSETS:
        boxed = {row["ImageID"] for row in rows(site, "boxes", subset)[1]}
        photos = rows(site, "photos", subset)[1]
        assert boxed == {row["ImageID"] for row in photos}
        assert {row["Subset"] for row in photos} == {subset}


def test_hierarchy(site):
    """A hamburger is a kind of sandwich, parts are not kinds, and every node has a name."""
    tree = json.loads((site / HIERARCHY).read_text(encoding="utf-8"))
    kinds, parts, seen = defaultdict(set), defaultdict(set), set()

    def walk(node):
        seen.add(node["LabelName"])
        for edge, children in (("Subcategory", kinds), ("Part", parts)):
            for child in node.get(edge, []):
                children[node["LabelName"]].add(child["LabelName"])
                walk(child)

    walk(tree)
    assert tree["LabelName"] == "/m/0bl9f"
    assert {"/m/0cdn1", "/m/06pcq"} <= kinds["/m/0l515"]
    assert parts and not any(parts[mid] & kinds[mid] for mid in list(parts))
    assert seen - {"/m/0bl9f"} <= set(MIDS.values())


def test_size_and_md5_are_true(site):
    """OriginalSize and OriginalMD5 match the files on disk."""
    there = 0
    for row in every(site, "photos"):
        if photo_path(site, row).exists():
            content = photo_path(site, row).read_bytes()
            assert len(content) == int(row["OriginalSize"])
            digest = base64.b64encode(hashlib.md5(content).digest()).decode()
            assert digest == row["OriginalMD5"]
            there += 1
    assert there >= 55


def test_boxes_are_inside(site):
    """Boxes are fractions between 0 and 1 with a minimum size."""
    for row in every(site, "boxes"):
        xmin, xmax, ymin, ymax = (float(row[name]) for name in ("XMin", "XMax", "YMin", "YMax"))
        assert 0 <= xmin < xmax - 0.005 and xmax <= 1
        assert 0 <= ymin < ymax - 0.005 and ymax <= 1


def test_flags_have_three_values(site):
    """Every flag takes the values 0, 1 and -1; if one flag is -1, all five are."""
    boxes = every(site, "boxes")
    for flag in FLAGS:
        assert {row[flag] for row in boxes} == {"-1", "0", "1"}
    unknown = [row for row in boxes if "-1" in (row[flag] for flag in FLAGS)]
    assert all(row[flag] == "-1" for row in unknown for flag in FLAGS)


def test_sources(site):
    """There are all three sources of boxes, and activemil only in train."""
    assert {row["Source"] for row in every(site, "boxes")} == {"xclick", "freeform", "activemil"}
    tested = rows(site, "boxes", "test")[1] + rows(site, "boxes", "validation")[1]
    assert "activemil" not in {row["Source"] for row in tested}


def test_two_categories_and_several_boxes_in_a_photo(site):
    """There are photos with two of the four categories, and with several boxes of one."""
    mids = {MIDS[name] for name in CATEGORIES}
    found = defaultdict(list)
    for row in every(site, "boxes"):
        if row["LabelName"] in mids:
            found[row["ImageID"]].append(row["LabelName"])
    assert any(len(set(labels)) == 2 for labels in found.values())
    assert any(len(set(labels)) < len(labels) for labels in found.values())


def test_credits_are_hard_to_read(site):
    """Authors and titles contain commas, quotes, non-ASCII characters and HTML entities."""
    text = [row["Author"] + row["Title"] for row in every(site, "photos")]
    for mark in (",", '"', "&#x27;", "&amp;"):
        assert any(mark in credit for credit in text)
    assert not all(credit.isascii() for credit in text)


def test_labels_are_positive_and_negative(site):
    """Image labels of cats and dogs agree with the boxes."""
    boxed = {(row["ImageID"], row["LabelName"]) for row in every(site, "boxes")}
    labels = every(site, "labels")
    assert {row["Confidence"] for row in labels} == {"0", "1"}
    for row in labels:
        if row["LabelName"] in (MIDS["Cat"], MIDS["Dog"]):
            assert (row["Confidence"] == "1") == ((row["ImageID"], row["LabelName"]) in boxed)


# --------------------------------------------------------------------------------- the pictures


def test_turned_photos(site):
    """EXIF and Rotation give the same upright photo; all three rotations occur."""
    turned = [row for row in every(site, "photos") if row["Rotation"] not in ("", "0.0")]
    assert {row["Rotation"] for row in turned} == {"90.0", "180.0", "270.0"}
    assert "" in {row["Rotation"] for row in every(site, "photos")}
    for row in turned:
        if photo_path(site, row).exists():
            with Image.open(photo_path(site, row)) as photo:
                by_exif = ImageOps.exif_transpose(photo)
                by_rotation = photo.rotate(float(row["Rotation"]), expand=True)
            assert np.array_equal(np.asarray(by_exif), np.asarray(by_rotation))


def test_boxes_hold_for_the_stored_pixels():
    """Crops from the stored pixels, rotated afterwards, equal crops from the upright photo."""
    plan = next(plan for plan in plans_for(0, 60) if plan.thumbnail and not plan.grey)
    crops = {}
    for plan.rotation in (0, 90, 180, 270):
        data, _, boxes, size = draw(plan)
        row = box_rows(Random(1), plan, boxes, size)[-1]
        xmin, xmax, ymin, ymax = (float(edge) for edge in row[4:8])
        with Image.open(io.BytesIO(data)) as stored:
            width, height = stored.size
            box = (xmin * width, ymin * height, xmax * width, ymax * height)
            crop = stored.crop(tuple(round(edge) for edge in box))
        crops[plan.rotation] = np.asarray(crop.rotate(plan.rotation, expand=True), dtype=float)
    for crop in crops.values():
        assert crop.shape == crops[0].shape
        assert np.abs(crop - crops[0]).mean() < 8


def test_grey_photo(site):
    """Some photos are grey, with one channel."""
    modes = set()
    for path in (site.parent / "photos").glob("*_o.jpg"):
        with Image.open(path) as photo:
            modes.add(photo.mode)
    assert modes == {"RGB", "L"}


def test_near_duplicates(site):
    """There are bursts of photos by one author, some of them in two subsets."""
    plans = plans_for(0, 60)
    takes = defaultdict(list)
    for plan in plans:
        takes[plan.seed].append(plan)
    bursts = [burst for burst in takes.values() if len(burst) > 1]
    assert any(len({plan.subset for plan in burst}) > 1 for burst in bursts)
    assert any(len({plan.subset for plan in burst}) == 1 for burst in bursts)
    author = {row["ImageID"]: row["Author"] for row in every(site, "photos")}
    for burst in bursts:
        assert len({author[plan.image_id] for plan in burst}) == 1


def test_equal_seeds_equal_bytes(tmp_path):
    """The same seed gives the same bytes, another seed gives others."""

    def content(name, seed):
        root = sample.build(tmp_path / name, seed=seed, photos=12).parent
        files = sorted(path for path in root.rglob("*") if path.is_file())
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}

    first, again, other = content("a", 0), content("b", 0), content("c", 1)
    assert first == again
    assert not set(first) & {name for name in other if name.startswith("photos/") and "_o" in name}


def test_build_is_kept_in_the_cache(tmp_path, monkeypatch):
    """A cached sample is not drawn again, and no partial folder is left."""
    monkeypatch.setenv("OPENIMAGER_CACHE", str(tmp_path))
    first = sample.build(photos=12)
    monkeypatch.setattr(drawing, "draw", None)
    assert sample.build(photos=12) == first
    assert not list(tmp_path.glob("*.part"))


def test_build_refuses(tmp_path):
    """A folder that is not empty is refused and unchanged; too few photos are refused."""
    (tmp_path / "letter.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(BadInput, match="not empty"):
        sample.build(tmp_path, photos=12)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
    with pytest.raises(BadInput, match="at least 12"):
        sample.build(tmp_path / "new", photos=11)


def test_interrupted_build_leaves_nothing(tmp_path, monkeypatch):
    """An interrupted build leaves no files."""
    monkeypatch.setattr(drawing, "_photo_row", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        sample.build(tmp_path / "site", photos=12)
    assert not list(tmp_path.iterdir())


# ----------------------------------------------------------------------------------- the server


def test_serves_what_is_on_disk(base, site):
    """Photos and tables are served byte for byte; relative OriginalURLs lead to the photos."""
    odd = json.loads((site.parent / "responses.json").read_text(encoding="utf-8"))
    row = next(r for r in every(site, "photos") if r["OriginalURL"].removeprefix("../") not in odd)
    url = requests.compat.urljoin(base, row["OriginalURL"])
    assert requests.get(url).content == photo_path(site, row).read_bytes()
    answer = requests.get(base + CLASSES)
    assert answer.content == (site / CLASSES).read_bytes()
    assert answer.headers["Content-Type"].startswith("text/csv")


def test_head(base, site):
    """HEAD returns the length of a file without its content."""
    answer = requests.head(base + HIERARCHY)
    size = (site / HIERARCHY).stat().st_size
    assert answer.headers["Content-Length"] == str(size)
    place = urlsplit(base)
    with socket.create_connection((place.hostname, place.port), timeout=5) as connection:
        ask = f"HEAD {place.path}{HIERARCHY} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        connection.sendall(ask.encode())
        sent = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert sent.startswith(b"HTTP/1.1 200") and sent.endswith(b"\r\n\r\n")


def test_connection_is_kept(base):
    """Several requests use one connection, even after a 404."""
    place = urlsplit(base)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=5)
    statuses, sockets = [], set()
    for path in (CLASSES, "none.csv", CLASSES):
        connection.request("GET", place.path + path)
        answer = connection.getresponse()
        answer.read()
        statuses.append(answer.status)
        sockets.add(id(connection.sock))
    connection.close()
    assert statuses == [200, 404, 200] and len(sockets) == 1 and None not in sockets


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.csv",
        "/2018_04/../../secret.csv",
        "/2018_04/%2e%2e/%2e%2e/secret.csv",
        "/..%2fsecret.csv",
        "/2018_04/..%5c..%5csecret.csv",
        "//secret.csv",
        "/.hidden.jpg",
        "/notes.csv",
        "/notes.json",
        "/holiday.jpg",
        "/2018_04/private.csv",
        "/2018_04/train/private.csv",
        "/outside.jpg",
        "/link.jpg",
        "/2018_04/class-descriptions-boxable.csv/",
        "/2018_04/",
        "/",
        "/%00",
    ],
)
def test_only_the_site_is_served(tmp_path, path):
    """Only tables of the layout and photos listed in the tables are served."""
    root, secret = tmp_path / "root", jpeg(9)
    urls = ("../photos/a.jpg", "../link.jpg", "../../secret.jpg", "../notes.csv", "..//etc/passwd")
    tables = write_site(root, [photo_row(n, url) for n, url in enumerate(urls)])
    names = ("notes.csv", "notes.json", "holiday.jpg", ".hidden.jpg")
    names += ("2018_04/private.csv", "2018_04/train/private.csv", "photos/a.jpg")
    put_photos(tables, dict.fromkeys((*names, "../secret.csv", "../secret.jpg"), secret))
    with contextlib.suppress(OSError):
        (root / "link.jpg").symlink_to(tmp_path / "secret.jpg")
        (root / "outside.jpg").symlink_to(tmp_path / "secret.jpg")
    with sample.serve(root) as url:
        # http.client, because requests and urllib normalize paths before they send them.
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=5)
        connection.request("GET", path)
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (404, b"")
        connection.request("GET", "/photos/a.jpg")
        assert connection.getresponse().read() == secret
        connection.close()


def test_responses_are_acted_out(site):
    """Gone photos give 404, placeholders a redirect to a PNG, busy ones first a 429."""
    responses = json.loads((site.parent / "responses.json").read_text(encoding="utf-8"))
    by_kind = {kind: name for name, kind in responses.items()}
    assert set(by_kind) == {"gone", "placeholder", "busy-once"}
    with sample.serve(site) as url:
        root = url.removesuffix("2018_04/")
        assert requests.get(root + by_kind["gone"]).status_code == 404
        moved = requests.get(root + by_kind["placeholder"], allow_redirects=False)
        assert moved.status_code == 302 and moved.headers["Location"].endswith(
            "photo_unavailable.png"
        )
        followed = requests.get(root + by_kind["placeholder"])
        assert Image.open(io.BytesIO(followed.content)).format == "PNG"
        busy = requests.get(root + by_kind["busy-once"])
        assert busy.status_code == 429 and busy.headers["Retry-After"] == "1"
        again = requests.get(root + by_kind["busy-once"])
        assert again.content == (site.parent / by_kind["busy-once"]).read_bytes()


def test_many_connections(site):
    """Thirty-two simultaneous connections all receive complete files."""
    wrong = []

    def ask(session, url, size):
        for _ in range(3):
            if len(session.get(url).content) != size:
                wrong.append(url)

    with sample.serve(site) as url:
        paths = list((site.parent / "photos").glob("*_o.jpg"))
        root = url.removesuffix("2018_04/") + "photos/"
        responses = json.loads((site.parent / "responses.json").read_text(encoding="utf-8"))
        paths = [path for path in paths if f"photos/{path.name}" not in responses]
        threads = [
            threading.Thread(target=ask, args=(requests.Session(), root + p.name, p.stat().st_size))
            for p in itertools.islice(itertools.cycle(paths), 32)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_any_folder_of_tables(tmp_path):
    """The folder of the tables may have any name; the base URL ends with that name."""
    (tmp_path / "my tables" / "train").mkdir(parents=True)
    (tmp_path / "my tables" / "train" / "train-annotations-bbox.csv").write_text("x", "utf-8")
    for directory in (tmp_path, tmp_path / "my tables"):
        with sample.serve(directory) as url:
            assert url.endswith("/my%20tables/")
            assert requests.get(url + "train/train-annotations-bbox.csv").text == "x"


def test_not_a_site(tmp_path):
    """A folder without tables, or a missing one, is refused with what was looked for."""
    with pytest.raises(BadInput, match=r"class-descriptions-boxable\.csv"), sample.serve(tmp_path):
        pass
    with pytest.raises(BadInput, match="no folder"), sample.serve(tmp_path / "none"):
        pass


@pytest.mark.parametrize("text", ["{", "[1]", "\xff"])
def test_broken_responses(tmp_path, text):
    """A responses.json that is no JSON object is refused by its name."""
    (tmp_path / "2018_04").mkdir()
    (tmp_path / "2018_04" / CLASSES).write_text("x", encoding="utf-8")
    (tmp_path / "responses.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(BadInput, match=r"responses\.json"), sample.serve(tmp_path):
        pass


def test_end_of_serving(site):
    """After the with block, the server no longer answers."""
    with sample.serve(site) as url:
        assert requests.get(url + CLASSES).ok
    with pytest.raises(requests.ConnectionError):
        requests.get(url + CLASSES, timeout=2)


# ------------------------------------------------------------------------------------ the shell


def start(*arguments):
    """Start ``python -m openimager.sample`` and return the process."""
    return subprocess.Popen(
        [sys.executable, "-m", "openimager.sample", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send to another process")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_shell(site, number):
    """The first line is the base URL; a signal ends the server with status 0."""
    process = start(site.parent)
    try:
        url = process.stdout.readline().strip()
        assert requests.get(url + CLASSES, timeout=5).ok
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
    finally:
        process.kill()
    assert process.returncode == 0
    assert out == "" and "--base-url" in err and "Traceback" not in err


def test_shell_port_in_use(site):
    """If the port is in use, the error is one line and the status is 2."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = start(site.parent, "--port", taken.getsockname()[1])
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (2, "")
    assert err.count("\n") == 1 and "Traceback" not in err


def test_shell_not_a_site(tmp_path):
    """For a folder without tables, the error is one line and the status is 2."""
    process = start(tmp_path)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (2, "")
    assert err.count("\n") == 1 and "class-descriptions-boxable.csv" in err


def test_shell_cache_that_is_a_file(tmp_path, monkeypatch):
    """If the sample cannot be drawn, the error names the folder and not the port."""
    (tmp_path / "file").write_text("x", encoding="utf-8")
    monkeypatch.setenv("OPENIMAGER_CACHE", str(tmp_path / "file"))
    process = start()
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (1, "")
    assert str(tmp_path / "file") in err and "Port" not in err and "Traceback" not in err
