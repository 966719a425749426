"""The gallery in a real browser: what it shows and counts, and its protection against hostile data.

OPENIMAGER_SCREENSHOTS names a folder for pictures of both views, light and dark, wide and narrow.
"""

import functools
import http.server
import io
import json
import os
import shutil
import threading
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import browser
import numpy as np
import pandas as pd
import pytest
from builders import DataDir, jpeg, scene, write_csv
from PIL import Image

import openimager
from openimager import cli, gallery
from openimager.errors import BadInput

GREY, RED = (120, 120, 120), (220, 30, 30)
HOSTILE = {
    "script": "</script><script>window.hit = 1</script>",
    "image": "\"'><img src=x onerror='window.hit = 1'>",
    "template": "{{ 7 * 7 }}{% raw %}${window.hit = 1}",
    "separators": "a\u2028b\u2029c <!--<script>",
    "right to left": "\u202eאבג \u2067דה 123",
}


@pytest.fixture(scope="module")
def chromium():
    with browser.chromium() as started:
        yield started


@pytest.fixture
def page(chromium):
    page = browser.new_page(chromium, viewport={"width": 1280, "height": 900})
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    yield page
    page.close()
    assert page.errors == [] and page.outside == []


def visit(page, data_dir, fragment="", **options):
    """Write the gallery and open it from its folder."""
    path = gallery.write_gallery(data_dir, **options)
    page.goto(f"{path.absolute().as_uri()}#{fragment}")
    return page


def status(page):
    return page.text_content("#status")


def counts(page, facet):
    """Return the counts beside the values of a filter."""
    labels = page.locator(f'fieldset[name="{facet}"] label')
    return {
        label.locator("bdi").text_content(): int(
            label.locator(".count").text_content().replace(",", "")
        )
        for label in labels.all()
        if label.evaluate("node => !node.hidden")
    }


def choose(page, facet, *values):
    for value in values:
        page.check(f'fieldset[name="{facet}"] input[value="{value}"]', force=True)


def tiles(page):
    """Return the ImageIDs of the photos in the grid, in order."""
    page.wait_for_selector("#grid li, #nothing")
    alts = page.eval_on_selector_all("#grid img", "all => all.map((image) => image.alt)")
    return [alt.split()[-1] for alt in alts]


def pixels(page, selector):
    """Return a screenshot of an element as an array."""
    shot = page.locator(selector).screenshot()
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"), dtype=int)


def wait_for_images(page):
    page.evaluate("Promise.all([...document.images].map((i) => i.decode()))")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A data directory of 12 photos with boxes of all kinds, crops and predictions."""
    folder = tmp_path_factory.mktemp("small")
    data = DataDir(folder / "data")
    for n in range(12):
        subset = ("train", "train", "validation", "test")[n % 4]
        source = "cvdf" if n % 3 == 0 else "flickr"
        photo = data.photo(
            scene(200 + 10 * n, 150, seed=n), subset=subset, rotation=90.0 * (n % 3), Source=source
        )
        wide = (0.1, 0.9, 0.05, 0.95) if n % 2 else (0.1, 0.3, 0.2, 0.6)
        data.box(photo, wide, "Cat" if n % 2 else "Dog", IsOccluded=(1, 0, -1)[n % 3])
        if n % 4 == 3:
            data.box(photo, (0.4, 0.45, 0.5, 0.6), "Dog", IsGroupOf=1, Source="activemil")
    data.photo(b"", status="gone", Source="", Error="flickr: answered 404")
    data.photo(b"", status="failed", Source="", Error="cvdf: timed out")
    crops = data.crop()
    test = crops[crops["Subset"] == "test"]
    rows = []
    for n, crop in enumerate(test.itertuples()):
        wrong, sure = n % 2 == 0, round(0.6 + 0.05 * n, 3)
        other = {"Cat": "Dog", "Dog": "Cat"}[crop.Category]
        rows.append(
            {"ImageID": crop.ImageID, "n": crop.n, "Subset": "test", "Category": crop.Category}
            | {"Predicted": other if wrong else crop.Category, "Probability": sure}
            | {"P(Cat)": sure, "P(Dog)": 1 - sure, "Suspect": int(wrong and sure > 0.7)}
        )
    write_csv(folder / "models" / "predictions.csv", rows)
    return data.data_dir


# Filters and counts


def test_filters_and_counts(page, small):
    """A filter counts the rows that pass the others; the URL fragment holds the filters."""
    boxes = pd.read_csv(small / "boxes.csv", dtype={"ImageID": str})
    photos = pd.read_csv(small / "images.csv", dtype={"ImageID": str})
    visit(page, small)
    assert status(page) == f"14 of 14 photos, {len(boxes)} boxes"
    per_photo = boxes.drop_duplicates(["ImageID", "Category"])["Category"].value_counts()
    assert counts(page, "category") == per_photo.to_dict()
    assert counts(page, "outcome") == {"ok": 12, "gone": 1, "failed": 1}
    assert counts(page, "subset") == photos["Subset"].value_counts().to_dict()
    assert counts(page, "source") == {"cvdf": 4, "flickr": 8}
    flags = boxes.assign(Flag=boxes["IsOccluded"].map({0: "no", 1: "yes", -1: "unknown"}))
    per_flag = flags.drop_duplicates(["ImageID", "Flag"])["Flag"].value_counts().to_dict()
    assert counts(page, "occluded") == per_flag
    assert counts(page, "truncated") == {"yes": 0, "no": 12, "unknown": 0}

    choose(page, "category", "Cat")
    cats = boxes[boxes["Category"] == "Cat"]
    assert status(page) == f"{cats['ImageID'].nunique()} of 14 photos, {len(cats)} boxes"
    assert counts(page, "category") == per_photo.to_dict()
    assert counts(page, "groupof") == {"yes": 0, "no": len(cats), "unknown": 0}
    choose(page, "subset", "train")
    shown = photos[photos["ImageID"].isin(cats["ImageID"]) & (photos["Subset"] == "train")]
    assert sorted(tiles(page)) == sorted(shown["ImageID"])
    assert page.locator("#grid .box").count() == len(shown)
    train = boxes[boxes["ImageID"].isin(photos.loc[photos["Subset"] == "train", "ImageID"])]
    per_photo_in_train = train.drop_duplicates(["ImageID", "Category"])["Category"].value_counts()
    assert counts(page, "category") == per_photo_in_train.to_dict()
    fragment = parse_qs(urlsplit(page.url).fragment)
    assert fragment == {"category": ["Cat"], "subset": ["train"]}

    address = page.url
    page.goto("about:blank")
    page.goto(address)
    assert sorted(tiles(page)) == sorted(shown["ImageID"])
    page.click("#clear")
    assert status(page).startswith("14 of 14 photos") and urlsplit(page.url).fragment == ""


def test_two_filters_ask_for_one_box(page, small):
    """Two filters must match the same box: a cat beside a group of dogs is not a group of cats."""
    visit(page, small, "category=Cat&groupof=yes")
    assert status(page).startswith("0 of 14 photos") and page.is_visible("#nothing")
    visit(page, small, "category=Dog&groupof=yes")
    assert status(page).startswith("3 of 14 photos, 3 boxes")


def test_box_size_source_and_split(page, small):
    """Box sizes are shares of the photo; splits are those of the crops."""
    boxes = pd.read_csv(small / "boxes.csv", dtype={"ImageID": str})
    share = (boxes["XMax"] - boxes["XMin"]) * (boxes["YMax"] - boxes["YMin"])
    visit(page, small, "view=crops")
    assert counts(page, "boxsize") == {
        "under 1 %": int((share < 0.01).sum()),
        "1 to 10 %": int(((share >= 0.01) & (share < 0.1)).sum()),
        "over 50 %": int((share >= 0.5).sum()),
    }
    assert counts(page, "boxsource") == {"activemil": 3, "xclick": 12}
    splits = pd.read_csv(small / "crops.csv")["Subset"].value_counts().to_dict()
    assert counts(page, "split") == splits


def test_gone_and_failed_photos_say_why(page, small):
    visit(page, small, "outcome=gone&outcome=failed")
    texts = page.locator("#grid .absent").all_text_contents()
    assert texts == ["gone flickr: answered 404", "failed cvdf: timed out"]
    assert page.locator("#grid img").count() == 0


def test_nothing_to_show(page, tmp_path):
    """A selection without boxes, or with all photos gone, still gives a working page."""
    data = DataDir(tmp_path)
    visit(page, data.write())
    assert status(page) == "0 of 0 photos, 0 boxes" and page.is_visible("#nothing")
    data.photo(b"", status="gone", Error="flickr: answered 404")
    visit(page, data.write())
    page.reload()
    assert status(page) == "1 of 1 photos, 0 boxes"
    page.click("#grid button")
    assert "flickr: answered 404" in page.inner_text("#stage") and "0 boxes" in page.inner_text(
        "#facts"
    )


def test_near_duplicates(page, tmp_path):
    """The filter, or a link at one of the photos, shows all photos of a group."""
    data = DataDir(tmp_path / "data")
    for seed in (1, 1, 2, 3):
        data.box(data.photo(scene(300, 200, seed=seed)))
    data.crop()
    visit(page, data.data_dir)
    assert counts(page, "duplicates") == {"some": 2, "none": 2}
    page.click("#grid li:first-child button")
    page.click("text=show them")
    assert tiles(page) == list(data.photos)[:2]
    assert status(page).startswith("2 of 4 photos")


def test_photo_shows_its_facts(page, small):
    """A click shows the photo with its boxes, flags, size, source, credits and links."""
    visit(page, small)
    page.click("#grid li:nth-child(4) button")
    facts = page.inner_text("#facts")
    for text in ("No. 0", "A. Painter", "230 \u00d7 150 pixels", "on disk, from cvdf", "2 boxes"):
        assert text in facts
    assert "GroupOf" in facts and "box source activemil" in facts and "split test" in facts
    assert page.locator("#stage .box").count() == 2
    links = page.eval_on_selector_all("#facts a", "all => all.map((a) => [a.href, a.rel])")
    assert ["https://creativecommons.org/licenses/by/2.0/", "noopener noreferrer"] in links
    assert page.url.endswith(f"open={4:016x}")


def test_photos_that_are_not_there(page, small, tmp_path):
    """Photos missing from disk are marked as missing."""
    for name in ("images.csv", "boxes.csv"):
        (tmp_path / name).write_bytes((small / name).read_bytes())
    visit(page, tmp_path)
    page.wait_for_selector("#grid .absent")
    assert "The file is not beside this page." in page.inner_text("#grid li:first-child")
    assert page.is_hidden(".in-crops") and status(page).startswith("14 of 14")


# Position of boxes


def turned_photos(folder, rotations=lambda orientation: (0, 90, 180, 270)):
    """Write grey photos with a red object in the box, for every EXIF orientation and Rotation."""
    data = DataDir(folder)
    for orientation in range(1, 9):
        for rotation in rotations(orientation):
            picture = Image.new("RGB", (320, 200), GREY)
            picture.paste(RED, (36, 26, 164, 66))
            exif = Image.Exif()
            exif[0x0112] = orientation
            file = jpeg(picture, quality=95, subsampling=0, exif=exif)
            size = {"Width": 320, "Height": 200}
            photo = data.photo(file, rotation=float(rotation), Title="turned", **size)
            data.box(photo, (36 / 320, 164 / 320, 26 / 200, 66 / 200))
    return data.write(), data


def check_corners(page, rotation):
    """Compare the colours inside and outside each corner of the box with the expected ones."""
    stored = np.zeros((200, 320), bool)
    stored[26:66, 36:164] = True
    rows, columns = np.nonzero(np.rot90(stored, rotation // 90))
    page.evaluate("document.querySelector('#stage .box bdi').hidden = true")
    shot = pixels(page, "#stage .frame")
    height, width = np.rot90(stored, rotation // 90).shape
    assert abs(shot.shape[1] / shot.shape[0] - width / height) < 0.02
    scale = shot.shape[1] / width
    box = page.locator("#stage .box").bounding_box()
    frame = page.locator("#stage .frame").bounding_box()
    ends = [columns.min(), columns.max() + 1], [rows.min(), rows.max() + 1]
    found = [box["x"] - frame["x"], box["x"] + box["width"] - frame["x"]]
    assert np.allclose(found, np.multiply(ends[0], scale), atol=2)
    for x, inward_x in zip(ends[0], (1, -1), strict=True):
        for y, inward_y in zip(ends[1], (1, -1), strict=True):
            for step, colour in ((6, RED), (-6, GREY)):
                at = int(y * scale + step * inward_y), int(x * scale + step * inward_x)
                assert np.abs(shot[at] - colour).max() < 40, (rotation, at)


@pytest.mark.parametrize("served", [False, True], ids=["folder", "server"])
def test_boxes_coincide_with_objects(page, tmp_path, served):
    """Boxes fit the objects for all orientations: Rotation is applied, EXIF is not."""
    # The page is the same, so that not all pairs are needed twice.
    few = {"rotations": lambda orientation: [90 * (orientation % 4)]} if served else {}
    data_dir, data = turned_photos(tmp_path / "data", **few)
    path = gallery.write_gallery(data_dir)
    with serving(data_dir) as base:
        page.goto(f"{base}/gallery.html" if served else path.as_uri())
        page.click("#grid li:first-child button")
        for photo in data.photos.values():
            assert page.get_attribute("#stage img", "alt").endswith(photo["ImageID"])
            wait_for_images(page)
            check_corners(page, int(photo["Rotation"]))
            page.keyboard.press("ArrowRight")


def test_boxes_on_the_sample(page, site, tmp_path):
    """On the sample, the pixels at the corners of boxes equal those that Pillow finds."""
    data_dir = tmp_path / "data"
    photos = openimager.download(
        ["Cat", "Dog"], base_url=site, subset="all", data_dir=data_dir, quiet=True
    )
    boxes = pd.read_csv(data_dir / "boxes.csv", dtype={"ImageID": str})
    photos = photos[photos["Status"] == "ok"].set_index("ImageID")
    turned = photos.index[photos["Rotation"].isin([90, 180, 270])]
    assert len(turned) >= 4
    visit(page, data_dir, "boxes=off")
    for image_id in turned[:8]:
        page.evaluate(f"location.hash = 'boxes=off&open={image_id}'")
        page.wait_for_selector(f'#stage img[alt$="{image_id}"]')
        wait_for_images(page)
        shot = pixels(page, "#stage .frame")
        height, width = shot.shape[:2]
        with Image.open(data_dir / "images" / f"{image_id}.jpg") as stored:
            upright = stored.convert("RGB").rotate(photos.loc[image_id, "Rotation"], expand=True)
        upright = np.asarray(upright.resize((width, height)), dtype=int)
        assert np.abs(shot - upright).mean() < 8
        places = "all => all.map(({ style: s }) => [s.left, s.top, s.right, s.bottom])"
        outlines = page.eval_on_selector_all("#stage .box", places)
        assert len(outlines) == (boxes["ImageID"] == image_id).sum()
        for sides in outlines:
            left, top, right, bottom = (float(side.rstrip("%")) / 100 for side in sides)
            for x in (left, 1 - right):
                for y in (top, 1 - bottom):
                    row, column = min(int(y * height), height - 4), min(int(x * width), width - 4)
                    around = np.s_[max(row - 3, 0) : row + 4, max(column - 3, 0) : column + 4]
                    assert np.abs(shot[around] - upright[around]).mean() < 30


class serving:
    """Serve a folder on loopback during a with block, which gets the base URL."""

    def __init__(self, folder):
        handler = functools.partial(Quiet, directory=str(folder))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_port}"

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


# Hostile data


def hostile(folder):
    """Write a data directory with texts that contain markup."""
    data = DataDir(folder / "data")
    for title in HOSTILE.values():
        links = {"AuthorProfileURL": "javascript:window.hit=1", "License": "data:text/html,x"}
        links["OriginalLandingURL"] = "JavaScript://example.org/%0Awindow.hit=1"
        photo = data.photo(scene(), Title=title, Author=f"{title} & Söhne", **links)
        data.box(photo, category=title, Source=title)
    data.photo(b"", status="gone", Error=HOSTILE["image"], Title="&lt;b&gt;Tom &amp; Ida&lt;/b&gt;")
    return data


def test_hostile_text(page, tmp_path):
    """Titles, authors, categories and errors are shown as text and never run as markup."""
    data = hostile(tmp_path)
    rows = data.crop()[["ImageID", "n", "Category"]]
    rows = rows.assign(Subset="test", Predicted=HOSTILE["image"], Probability=0.9)
    write_csv(tmp_path / "models" / "predictions.csv", rows.to_dict("records"))
    visit(page, data.data_dir)
    parts = {
        tag: page.locator(tag).count() for tag in ("script", "style", "form", "dialog", "meta")
    }
    assert parts == {"script": 2, "style": 1, "form": 1, "dialog": 1, "meta": 5}
    assert set(counts(page, "category")) == set(HOSTILE.values())
    assert HOSTILE["image"] in page.text_content("#grid")
    page.click("#grid li:first-child button")
    for title in HOSTILE.values():
        facts = page.locator("#facts dd").all_text_contents()
        assert facts[:3] == [title, f"{title} & Söhne", "data:text/html,x"]
        assert page.locator("#facts a").count() == 0
        page.keyboard.press("ArrowRight")
    assert page.locator("#facts dd").first.text_content() == "<b>Tom & Ida</b>"
    page.keyboard.press("Escape")
    page.check('input[value="crops"]', force=True)
    page.wait_for_selector("#grid .caption")
    assert f"→ {HOSTILE['image']} 90 %" in page.text_content("#grid")
    assert page.evaluate("window.hit") is None
    assert page.locator("main img").count() == page.locator("main img[alt^=Crop]").count() == 5


def test_right_to_left_text_is_isolated(page, tmp_path):
    """Right-to-left text does not change the direction of the text around it."""
    data = hostile(tmp_path)
    title, photo = HOSTILE["right to left"], data.photos[f"{5:016x}"]
    photo |= {"Subset": title, "Source": title, "Status": title, "Error": title}
    visit(page, data.write(), f"open={5:016x}")
    page.wait_for_selector("#facts dt")
    bidi = page.eval_on_selector_all(
        "bdi", "all => all.map((b) => getComputedStyle(b).unicodeBidi)"
    )
    assert set(bidi) == {"isolate"}
    outside = page.evaluate("""() => {
        const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        const found = [];
        while (walk.nextNode()) {
            const { parentNode: node, data } = walk.currentNode;
            if (/[\u202e\u05d0]/.test(data) && !node.closest('bdi, script')) found.push(data);
        }
        return found;
    }""")
    assert outside == []


def test_policy(page, small):
    """The policy blocks scripts, styles and requests that are not part of the page."""
    visit(page, small)
    refused = page.evaluate("""async () => {
        const refused = [];
        const note = (event) => refused.push(event.effectiveDirective);
        document.addEventListener('securitypolicyviolation', note);
        const script = document.createElement('script');
        try { script.textContent = 'window.hit = 1'; } catch { refused.push('sink'); }
        document.head.append(script);
        try { document.body.innerHTML += '<p>'; } catch { refused.push('sink'); }
        const style = document.createElement('style');
        style.textContent = 'body { color: red }';
        document.head.append(style);
        new Image().src = 'http://127.0.0.1:9/x.png';
        await fetch('http://127.0.0.1:9/').catch(() => refused.push('fetch'));
        await new Promise((done) => setTimeout(done, 100));
        return refused;
    }""")
    assert {"sink", "style-src-elem", "img-src", "connect-src", "fetch"} <= set(refused)
    assert page.evaluate("window.hit") is None


def test_data_cannot_leave_its_script(tmp_path):
    """The data equal the tables and contain no character that could end the script element."""
    data = hostile(tmp_path)
    html = gallery.write_gallery(data.write()).read_text(encoding="utf-8")
    text = html.partition('<script type="application/json" id="data">')[2].partition("</script>")[0]
    assert not set(text) & set("<>&")
    found = json.loads(text)
    assert set(found["categories"]) == set(HOSTILE.values())
    titles = found["photos"]["Title"]
    assert [titles["values"][code] for code in titles["codes"][:5]] == list(HOSTILE.values())


# Crops, mistakes and marks


def test_crops_after_an_evaluation(page, small):
    """Confident errors are first; each crop shows its label, prediction and probability."""
    predictions = pd.read_csv(small.parent / "models" / "predictions.csv", dtype={"ImageID": str})
    wrong = predictions[predictions["Predicted"] != predictions["Category"]]
    visit(page, small, "view=crops")
    crops = pd.read_csv(small / "crops.csv")
    assert status(page) == f"{len(crops)} of {len(crops)} crops, {len(wrong)} predicted wrongly"
    first = wrong.sort_values("Probability", ascending=False)
    assert tiles(page)[: len(wrong)] == list(first["ImageID"] + "_" + first["n"].astype(str))
    top = first.iloc[0]
    caption = page.text_content("#grid li:first-child .caption")
    assert caption == f"{top.Category}→ {top.Predicted} {100 * top.Probability:.0f} %"
    assert counts(page, "prediction") == {
        "wrong": len(wrong),
        "right": len(predictions) - len(wrong),
        "none": len(crops) - len(predictions),
    }
    choose(page, "prediction", "right")
    assert page.locator("#grid li .right").count() == len(predictions) - len(wrong)
    choose(page, "prediction", "wrong")
    choose(page, "suspect", "yes")
    assert len(tiles(page)) == int(predictions["Suspect"].sum()) > 0
    wait_for_images(page)


def test_predictions_name_classes_by_folder(page, tmp_path):
    """Predictions name folders; a category that differs from its folder's name is still right."""
    data = DataDir(tmp_path / "data")
    data.box(data.photo(scene(), subset="test"), category="Salt/pepper")
    crop = data.crop().iloc[0]
    row = {"ImageID": crop["ImageID"], "n": 0, "Subset": "test", "Category": "Salt/pepper"}
    row |= {"Predicted": crop["CropPath"].split("/")[3], "Probability": 0.8}
    write_csv(tmp_path / "other" / "predictions.csv", [row])
    visit(page, data.data_dir, "view=crops", models_dir=tmp_path / "other")
    assert counts(page, "prediction") == {"right": 1}
    assert page.text_content("#grid .caption") == "Salt/pepper→ Salt/pepper 80 %"
    wait_for_images(page)


def test_marks_are_saved_as_csv(page, small, tmp_path):
    """Crops marked by mouse or keyboard are saved as ImageID and n, and marks survive a reload."""
    visit(page, small, "view=crops")
    page.click("#unmark", force=True)
    order = tiles(page)
    page.check("#grid li:nth-child(2) .mark input", force=True)
    page.focus("#grid li:nth-child(4) button")
    page.locator("#grid li").nth(0).locator("button").focus()
    page.keyboard.press("x")
    assert page.text_content("#marked") == "2 marked as wrong"
    page.click("#grid li:nth-child(3) button")
    page.check("#facts .chosen .mark input")
    page.keyboard.press("Escape")
    page.uncheck("#grid li:nth-child(2) .mark input", force=True)
    page.reload()
    assert page.text_content("#marked") == "2 marked as wrong"
    assert counts(page, "marked") == {"yes": 2, "no": len(order) - 2}
    with page.expect_download() as download:
        page.click("#save")
    assert download.value.suggested_filename == "exclude.csv"
    saved = pd.read_csv(download.value.path(), dtype={"ImageID": str})
    assert list(saved.columns) == ["ImageID", "n"]
    assert set(saved["ImageID"] + "_" + saved["n"].astype(str)) == {order[0], order[2]}


@pytest.mark.filterwarnings("error")
def test_marks_exclude_crops(page, chromium, small, tmp_path):
    """write_crops(exclude=...) leaves out the saved crops; they are marked in a new page."""
    data_dir = tmp_path / "data"
    shutil.copytree(small, data_dir)
    visit(page, data_dir, "view=crops&split=train")
    for n in (1, 3):
        page.check(f"#grid li:nth-child({n}) .mark input", force=True)
    choose(page, "split", "test")
    page.uncheck('input[name="split"][value="train"]', force=True)
    page.focus("#grid li:nth-child(1) button")
    page.keyboard.press("x")
    saved = save(page)
    crops = openimager.write_crops(data_dir, exclude=saved, quiet=True)
    assert crops.attrs["counts"]["excluded"] == 2 and crops.attrs["counts"]["disputed"] == 1
    listed = crops[crops["Excluded"] == 1]
    keys = list(listed["ImageID"] + "," + listed["n"].astype(str))
    assert saved.read_text(encoding="utf-8") == "\n".join(["ImageID,n", *sorted(keys), ""])

    with chromium.new_context() as elsewhere:
        other = visit(elsewhere.new_page(), data_dir, "view=crops&marked=yes")
        assert status(other).startswith("3 of 15 crops")
        assert other.locator("text=Excluded from train and validation").count() == 2
        other.uncheck("#grid .mark input >> nth=0", force=True)
        assert len(save(other).read_text().splitlines()) == 3
        other.reload()
        assert status(other).startswith("2 of 15 crops")


def test_marks_stay_with_their_box(page, tmp_path):
    """A mark follows its box to another n, and is dropped with it; it marks no other box."""
    data = DataDir(tmp_path / "data")
    photo = data.photo(scene(200, 150))
    data.box(photo, (0.1, 0.4, 0.1, 0.9), "Cat")
    data.box(photo, (0.5, 0.9, 0.1, 0.9), "Cat")
    data.crop()
    visit(page, data.data_dir, "view=crops")
    for n in (1, 2):
        page.check(f"#grid li:nth-child({n}) .mark input", force=True)
    data.rows.pop(0)
    data.box(photo, (0.1, 0.4, 0.1, 0.9), "Dog")
    data.rows.reverse()
    data.crop()
    visit(page, data.data_dir, "view=crops")
    page.reload()
    assert save(page).read_text(encoding="utf-8").split() == ["ImageID,n", f"{photo},1"]
    page.uncheck(".mark input:checked", force=True)
    assert list(page.evaluate("JSON.parse(Object.values(localStorage)[0])").values()) == ["no"]


def save(page):
    """Click on the button that saves the marks; return the path of the file."""
    with page.expect_download() as download:
        page.click("#save")
    return download.value.path()


def test_crops_of_other_formats(page, tmp_path):
    data = DataDir(tmp_path / "data")
    data.box(data.photo(scene()), category="A #1 100% dog?")
    data.crop(format="png")
    visit(page, data.data_dir, "view=crops")
    wait_for_images(page)
    assert page.locator("#grid img").count() == 1


# Keyboard, accessibility, size


def focused(page):
    return page.evaluate("document.activeElement.closest('li')?.ariaPosInSet")


def test_keyboard(page, small):
    """Tab enters the grid once; arrows move, Enter opens, Escape closes."""
    visit(page, small)
    page.focus("[name=boxes]")
    page.keyboard.press("Tab")
    assert focused(page) == "1"
    page.keyboard.press("Tab")
    assert focused(page) is None
    page.keyboard.press("Shift+Tab")
    assert focused(page) == "1"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert focused(page) == "3"
    page.keyboard.press("ArrowDown")
    below = int(focused(page))
    assert below > 4
    page.keyboard.press("ArrowUp")
    assert focused(page) == "3"
    page.keyboard.press("End")
    assert focused(page) == "14"
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    assert page.text_content("#photo-title") == "1 of 14 photos"
    page.keyboard.press("ArrowRight")
    assert page.text_content("#photo-title") == "2 of 14 photos"
    page.keyboard.press("Escape")
    page.wait_for_selector("#grid li:nth-child(2) button:focus")
    assert page.is_hidden("#photo") and focused(page) == "2"
    page.keyboard.press("b")
    assert page.locator("#grid .box").first.is_hidden()
    page.keyboard.press("/")
    page.keyboard.type("no. 0")
    assert status(page).startswith("14 of 14 photos")
    page.keyboard.type("x")
    assert status(page).startswith("0 of 14 photos")
    assert page.evaluate("document.activeElement.name") == "q"


def test_only_tiles_near_the_window_are_in_the_page(page, tmp_path):
    data = DataDir(tmp_path)
    for _ in range(2000):
        data.photo(b"", status="gone", Error="flickr: answered 404")
    data.box(f"{1:016x}")
    visit(page, data.write())
    assert page.locator("#grid li").count() < 120
    for share in (0.2, 0.4, 0.6, 0.8, 1):
        page.evaluate(f"scrollTo(0, {share} * (document.body.scrollHeight - innerHeight))")
        at = "Number(document.querySelector('#grid li:last-child').ariaPosInSet)"
        for _ in range(200):  # wait_for_function would need eval, which the page forbids
            if page.evaluate(at) >= share * 1990:
                break
            page.wait_for_timeout(50)
        assert page.evaluate(at) >= share * 1990
        assert page.locator("#grid li").count() < 120
    page.keyboard.press("Home")
    assert focused(page) == "1" and page.evaluate("scrollY") < 200


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_access(chromium, small, scheme, width):
    """axe-core finds no serious violation in either view or in an open photo."""
    try:
        from axe_playwright_python.sync_playwright import Axe
    except ImportError:
        browser.missing("axe-core (pip install axe-playwright-python)")
    size = {"width": width, "height": 800}
    page = browser.new_page(chromium, viewport=size, color_scheme=scheme)
    views = {"photos": "", "crops": "view=crops", "photo": f"open={4:016x}"}
    for name, fragment in views.items():
        visit(page, small, fragment)
        page.wait_for_selector("#facts dt" if name == "photo" else "#grid li")
        wait_for_images(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        found = Axe().run(page).response["violations"]
        serious = [v for v in found if v["impact"] in ("serious", "critical")]
        assert serious == [], json.dumps(serious, indent=1)[:3000]
        if folder := os.environ.get("OPENIMAGER_SCREENSHOTS"):
            page.screenshot(path=Path(folder) / f"gallery-{name}-{scheme}-{width}.png")
    page.close()


def test_filters_on_a_phone(page, small):
    """On a phone's width, the filters are hidden until they are opened."""
    page.set_viewport_size({"width": 390, "height": 800})
    visit(page, small)
    assert page.is_hidden("#filters")
    page.click("#filters-toggle")
    assert page.is_visible("#filters")
    page.click('fieldset[name="category"] label >> nth=0')
    assert status(page) == "6 of 14 photos, 6 boxes"


# Writing the page


def test_page_in_a_bucket(small):
    """The page in a bucket equals the page in a folder, and its URL is returned."""
    pytest.importorskip("upath")
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(str(small), "/pets/data", recursive=True)
    memory.put(str(small.parent / "models"), "/pets/models", recursive=True)
    path = gallery.write_gallery("memory://pets/data")
    assert str(path) == "memory://pets/data/gallery.html"
    assert path.read_bytes() == gallery.write_gallery(small).read_bytes()


def test_orientations_are_read_in_a_bucket(tmp_path):
    pytest.importorskip("upath")
    import fsspec

    data_dir, data = turned_photos(tmp_path / "data")
    fsspec.filesystem("memory").put(str(data_dir), "/turned", recursive=True)
    store = gallery.Store("memory://turned")
    expected = [orientation for orientation in range(1, 9) for _ in range(4)]
    assert list(gallery.orientations(store, list(data.photos))) == expected


@pytest.mark.parametrize(
    ("terminal", "environment", "opened"),
    [
        (True, {"DISPLAY": ":0"}, True),
        (False, {"DISPLAY": ":0"}, False),
        (True, {"DISPLAY": ":0", "SSH_CONNECTION": "10.0.0.1 1 10.0.0.2 22"}, False),
        (True, {}, False),
    ],
    ids=["terminal", "piped", "over SSH", "no display"],
)
def test_browser_is_opened(small, monkeypatch, capsys, terminal, environment, opened):
    """The page's path is printed, and from a terminal the page opens in the default browser."""
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    asked = []
    monkeypatch.setattr(gallery.webbrowser, "open", asked.append)
    monkeypatch.setattr(gallery.sys, "platform", "linux")
    monkeypatch.setattr(gallery.sys.stdout, "isatty", lambda: terminal, raising=False)
    assert gallery.main([str(small)]) == 0
    assert capsys.readouterr().out == f"{small / 'gallery.html'}\n"
    assert asked == ([(small / "gallery.html").as_uri()] if opened else [])


def test_errors_are_for_people(tmp_path, capsys, monkeypatch):
    assert gallery.main([str(tmp_path)]) == 2
    assert "images.csv" in capsys.readouterr().err
    DataDir(tmp_path).write()
    write_csv(tmp_path / "boxes.csv", [{"ImageID": "0" * 16}])
    with pytest.raises(BadInput, match="Category"):
        gallery.write_gallery(tmp_path)
    monkeypatch.setitem(gallery.sys.modules, "jinja2", None)
    with pytest.raises(BadInput, match="pip install jinja2"):
        gallery.write_gallery(tmp_path)


def test_command_line(tmp_path, capsys):
    """--gallery writes the page after a download and prints its path."""
    data = tmp_path / "data"
    words = ["Cat", "--sample", "--limit", "3", "--quiet", "--data-dir", str(data), "--gallery"]
    assert cli.main(words) == 0
    assert capsys.readouterr().out == f"{data / 'gallery.html'}\n"
    assert (data / "gallery.html").exists()
