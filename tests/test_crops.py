"""Cropping: geometry, orientation, crops that are left out, second runs."""

import io
import math
import pickle
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from builders import DataDir, counts, jpeg, scene
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from openimager import crops
from openimager.crops import box_to_pixels, crop_box, crop_path, cut, folder_name, rotate_box, write
from openimager.crops.geometry import draft_scale
from openimager.errors import BadInput, TryAgain
from openimager.files import Busy, lock
from openimager.store import CROP_COLUMNS, PIXELS, Store

settings.register_profile("unhurried", deadline=None)  # CI machines are slow now and then
settings.load_profile("unhurried")

MIRROR = Path(__file__).resolve().parents[2] / "shared" / "mirror"

fractions = st.floats(0, 1)
anywhere = st.floats(-3, 4)
sides = st.integers(1, 5000)


@st.composite
def boxes(draw, coordinate=fractions):
    """Draw XMin, XMax, YMin, YMax, each Min at most its Max."""
    (x_min, x_max), (y_min, y_max) = (
        sorted((draw(coordinate), draw(coordinate))) for _ in range(2)
    )
    return x_min, x_max, y_min, y_max


# -- geometry ---------------------------------------------------------------------------------


@given(boxes(anywhere), sides, sides)
def test_pixels_are_inside_and_not_empty(box, width, height):
    """For any box, the pixels are integers, inside the picture, and at least one."""
    left, upper, right, lower = pixels = box_to_pixels(box, width, height)
    assert all(isinstance(edge, int) for edge in pixels)
    assert 0 <= left < right <= width and 0 <= upper < lower <= height


@given(boxes(), sides, sides)
def test_pixels_cover_the_box_and_no_more(box, width, height):
    """Left and upper are floored, right and lower ceiled; at least one pixel is left."""
    left, upper, right, lower = box_to_pixels(box, width, height)
    assert left == min(math.floor(box[0] * width), width - 1)
    assert upper == min(math.floor(box[2] * height), height - 1)
    assert right == max(math.ceil(box[1] * width), left + 1)
    assert lower == max(math.ceil(box[3] * height), upper + 1)


@given(boxes(), st.sampled_from([0, 90, 180, 270]))
def test_turning_on_to_a_full_circle_brings_a_box_back(box, rotation):
    """A box rotated by an angle and back is unchanged."""
    turned = rotate_box(rotate_box(box, rotation), (360 - rotation) % 360)
    assert turned == pytest.approx(box, abs=1e-12)


@given(boxes(), st.integers(0, 3))
def test_quarter_turns_add_up(box, quarters):
    """A Rotation of n x 90 degrees equals n rotations by 90."""
    turned = box
    for _ in range(quarters):
        turned = rotate_box(turned, 90)
    assert turned == pytest.approx(rotate_box(box, 90 * quarters), abs=1e-12)


@given(boxes(), sides, sides, st.sampled_from([90, 180, 270]))
def test_a_turned_box_covers_the_turned_pixels(box, width, height, rotation):
    """Cropping then rotating equals rotating then cropping, up to one pixel at the edges."""
    left, upper, right, lower = box_to_pixels(box, width, height)
    stored = (left / width, right / width, upper / height, lower / height)
    size = (height, width) if rotation in (90, 270) else (width, height)
    turned = np.array(box_to_pixels(rotate_box(box, rotation), *size))
    x_min, x_max, y_min, y_max = rotate_box(stored, rotation)
    expected = np.array([x_min * size[0], y_min * size[1], x_max * size[0], y_max * size[1]])
    assert np.abs(turned - expected).max() <= 1 + 1e-6


@given(boxes(st.floats(0.4, 0.6)), st.floats(0, 2))
def test_padding_grows_a_box_around_its_centre(box, padding):
    """A padded box has the same centre and is (1 + 2 x padding) times as wide and high."""
    side = 10**8  # so large that rounding to pixels is negligible
    left, upper, right, lower = (edge / side for edge in box_to_pixels(box, side, side, padding))
    assert left + right == pytest.approx(box[0] + box[1], abs=1e-7)
    assert lower - upper == pytest.approx((box[3] - box[2]) * (1 + 2 * padding), abs=1e-7)


@given(boxes(), st.floats(0, 2), sides, sides)
def test_padding_stays_within_the_photo(box, padding, width, height):
    """A padded box stays inside the photo and contains the box without padding."""
    inner = box_to_pixels(box, width, height)
    outer = box_to_pixels(box, width, height, padding)
    assert 0 <= outer[0] <= inner[0] < inner[2] <= outer[2] <= width
    assert 0 <= outer[1] <= inner[1] < inner[3] <= outer[3] <= height


@pytest.mark.parametrize("box", [(0.5, 0.4, 0, 1), (0, 1, float("nan"), 1), (0, 1, 1, 0)])
def test_what_is_no_box_is_refused(box):
    """A reversed box, or one with a missing number, is refused."""
    with pytest.raises(BadInput, match="is not one"):
        box_to_pixels(box, 10, 10)


def test_a_draft_gives_the_crop_of_the_whole_photo():
    """A photo decoded at an eighth of its size gives nearly the same crop."""
    data = jpeg(scene(1603, 1201))
    whole, draft = Image.open(io.BytesIO(data)), Image.open(io.BytesIO(data))
    draft.draft(None, (200, 150))
    draft.load()
    assert draft.size == (201, 151)
    box = (0.111, 0.909, 0.07, 0.933)
    got = np.asarray(crop_box(draft, box, 64, stored=whole.size), dtype=float)
    want = np.asarray(crop_box(whole, box, 64), dtype=float)
    # An error of half a pixel, as from a scale of rounded sizes, would lower this by 10 dB.
    assert 10 * np.log10(255**2 / ((got - want) ** 2).mean()) > 47


def test_nothing_outside_the_box_gets_into_the_crop():
    """Resizing does not mix in pixels from outside the box."""
    photo = Image.new("RGB", (400, 400), "red")
    photo.paste((0, 0, 255), (100, 100, 300, 300))
    crop = crop_box(photo, (0.25, 0.75, 0.25, 0.75), 32)
    assert np.asarray(crop).reshape(-1, 3).tolist() == [[0, 0, 255]] * 32 * 32


def test_the_aspect_is_kept_on_request():
    """Crops are stretched by default; keep_aspect fits them into the square, on black."""
    photo = Image.new("RGB", (100, 50), "white")
    assert np.asarray(crop_box(photo, (0, 1, 0, 1), 64)).min() == 255
    fitted = np.asarray(crop_box(photo, (0, 1, 0, 1), 64, keep_aspect=True))
    assert fitted.shape == (64, 64, 3)
    assert fitted[16:48].min() == 255 and fitted[:16].max() == 0 and fitted[48:].max() == 0
    turned = np.asarray(crop_box(photo, (0, 1, 0, 1), 64, rotation=90, keep_aspect=True))
    assert turned[:, 16:48].min() == 255 and turned[:, :16].max() == 0


# -- folders ----------------------------------------------------------------------------------


PORTS = [f"{port}{number}" for port in ("COM", "LPT") for number in range(10)]
DEVICES = ["CON", "PRN", "AUX", "NUL", *PORTS]


@given(st.text(max_size=200) | st.sampled_from([*DEVICES, *map(str.lower, DEVICES)]))
def test_folder_names_are_safe(category):
    """Any category gets a folder name that is valid on every file system."""
    name = folder_name(category)
    assert name and len(name) <= 100 and not set(name) & set('<>:"/\\|?*\0\n')
    assert name not in (".", "..") and name == name.strip(" .")
    assert name.upper() not in DEVICES


def test_ordinary_names_stay_and_others_do_not_collide():
    """Ordinary names are unchanged; names that are replaced do not collide."""
    assert folder_name("Hot dog") == "Hot dog"
    names = ["Salt/pepper", "Salt:pepper", "Salt_pepper", "CON", "CON_", "..", "", "a ", "a"]
    assert len({folder_name(name) for name in names}) == len(names)


# -- complete runs ----------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path):
    """An empty data directory."""
    return DataDir(tmp_path / "anywhere")


@pytest.mark.parametrize("rotation, orientation", [(0, 1), (90, 8), (180, 3), (270, 6)])
@pytest.mark.parametrize("tagged", [True, False])
def test_turned_photos_give_upright_crops(site, rotation, orientation, tagged):
    """Rotation is applied once, in the right direction; EXIF is neither applied nor kept."""
    upright = scene()
    # Stored rotated back, so that Rotation makes it upright.
    stored = upright.rotate(-rotation, expand=True)
    exif = Image.Exif()
    exif[0x0112] = orientation if tagged else 1
    upright_box = (0.2, 0.9, 0.1, 0.7)
    image_id = site.photo(jpeg(stored, exif=exif, subsampling=0), rotation=float(rotation))
    site.box(image_id, rotate_box(upright_box, (360 - rotation) % 360))
    frame = site.crop(quality=100)
    with Image.open(crop_path(site.data_dir, frame["CropPath"][0])) as crop:
        assert crop.size == (128, 128) and not crop.getexif() and "exif" not in crop.info
        got = np.asarray(crop, dtype=float)
    left, upper, right, lower = box_to_pixels(upright_box, *upright.size)
    want = upright.crop((left, upper, right, lower)).resize((128, 128), Image.Resampling.BICUBIC)
    assert np.abs(got - np.asarray(want, dtype=float)).mean() < 4


@pytest.mark.parametrize("name", ["fruit", "pets"])
def test_real_turned_photos_give_upright_crops(site, name):
    """Crops of real rotated photos equal those cut after rotating the photo and the box."""
    tables = MIRROR / name / "2018_04" / "train"
    if not tables.is_dir():
        pytest.skip("../shared/mirror with real photos is not here")
    photos = pd.read_csv(tables / "train-images-boxable-with-rotation.csv")
    photos = photos[photos["Rotation"].isin([90, 180, 270])].set_index("ImageID")
    boxes = pd.read_csv(tables / "train-annotations-bbox.csv")
    boxes = boxes[boxes["ImageID"].isin(photos.index)]
    for image_id, row in photos.iterrows():
        data = (tables.parent / row["OriginalURL"]).read_bytes()
        site.photo(data, image_id, rotation=row["Rotation"])
    for row in boxes.itertuples():
        site.box(row.ImageID, (row.XMin, row.XMax, row.YMin, row.YMax))
    frame = site.crop(quality=100)
    assert len(frame) == len(boxes) > 10 and (frame["Error"] == "").all()
    for row in frame.itertuples():
        with Image.open(site.data_dir / "images" / f"{row.ImageID}.jpg") as photo:
            turned = photo.convert("RGB").rotate(row.Rotation, expand=True)
        box = rotate_box((row.XMin, row.XMax, row.YMin, row.YMax), row.Rotation)
        want = turned.crop(box_to_pixels(box, *turned.size)).resize((128, 128))
        with Image.open(crop_path(site.data_dir, row.CropPath)) as got:
            difference = np.asarray(got, dtype=float) - np.asarray(want, dtype=float)
        # JPEG halves the resolution of colour; a wrong rotation would differ by tens of levels.
        assert np.abs(difference).mean() < 8


def test_a_rotation_that_is_not_recorded_counts_as_none(site):
    """A photo without a recorded Rotation is not rotated."""
    for rotation in (0.0, float("nan")):
        site.box(site.photo(scene(), rotation=rotation, image_id=f"{rotation != 0:016x}"))
    frame = site.crop()
    first, second = (crop_path(site.data_dir, path) for path in frame["CropPath"])
    assert np.array_equal(np.asarray(Image.open(first)), np.asarray(Image.open(second)))


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "RGBA", "LA", "1", "I;16"])
def test_every_kind_of_photo_becomes_rgb(site, mode):
    """Grey, CMYK, palette and transparent photos give RGB crops of the right brightness."""
    picture = Image.new("RGB", (200, 200), (200, 200, 200))
    picture.paste((40, 40, 40), (50, 50, 150, 150))
    stream = io.BytesIO()
    if mode == "I;16":
        levels = np.asarray(picture.convert("L")).astype(np.uint16) * 257
        Image.fromarray(levels).save(stream, "PNG")
    else:
        picture.convert(mode).save(stream, "JPEG" if mode in ("L", "CMYK") else "PNG")
    site.box(site.photo(stream.getvalue()), (0.3, 0.7, 0.3, 0.7))
    frame = site.crop()
    with Image.open(crop_path(site.data_dir, frame["CropPath"][0])) as crop:
        assert crop.mode == "RGB" and crop.format == "JPEG"
        assert abs(np.asarray(crop).mean() - 40) < (8 if mode == "1" else 3)  # "1" is dithered


def test_transparent_parts_are_white(site):
    """Transparent pixels become white, whatever colour they store."""
    stream = io.BytesIO()
    Image.new("RGBA", (100, 100), (255, 0, 0, 0)).save(stream, "PNG")
    site.box(site.photo(stream.getvalue()))
    frame = site.crop()
    assert np.asarray(Image.open(crop_path(site.data_dir, frame["CropPath"][0]))).min() > 250


def test_crop_that_fails_is_a_row_with_its_reason(site):
    """Truncated, missing or invalid photos and boxes each get a row with the reason."""
    good = site.photo(scene())
    short = site.photo(jpeg(scene(seed=1))[:5000])
    missing = site.photo(scene(seed=2))
    text = site.photo(b"<html>")
    turned = site.photo(scene(seed=3), rotation=45.0)
    for image_id in (good, short, missing, text, turned):
        site.box(image_id)
    site.box(good, (0.5, 0.5, 0.1, 0.9))
    site.box(good, (1.2, 1.5, 0.1, 0.9))
    site.box(good, (0.5, float("nan"), 0.1, 0.9))
    site.box(good, (0.5, 1.4, -0.2, 0.9))
    (site.data_dir / "images" / f"{missing}.jpg").unlink()
    frame = site.crop()
    assert counts(frame, "made", "failed") == (2, 7)
    errors = dict(zip(zip(frame["ImageID"], frame["n"], strict=True), frame["Error"], strict=True))
    assert "truncated" in errors[short, 0] and "not on disk" in errors[missing, 0]
    assert "format" in errors[text, 0] and "Rotation 45" in errors[turned, 0]
    assert "no width" in errors[good, 1] and "outside" in errors[good, 2]
    assert "lacks" in errors[good, 3] and errors[good, 0] == errors[good, 4] == ""
    bad = frame[frame["Error"] != ""]
    assert (bad[["CropPath", "SHA256", "Subset"]] == "").all(axis=None)
    assert bad["Left"].isna().all()
    assert frame.loc[frame["n"] == 4, "Right"].tolist() == [320]
    assert len(site.files()) == 2
    # crops.csv contains no path of this machine.
    assert str(site.data_dir) not in (site.data_dir / "crops.csv").read_text(encoding="utf-8")


def test_the_table_is_what_was_promised_and_reads_back(site):
    """crops.csv is sorted, counts n per photo, has the hashes of files, and reads back equal."""
    first, second = site.photo(scene(), "f" * 16), site.photo(scene(seed=1), "1" * 16, rotation=90)
    site.box(first, IsGroupOf=1)
    site.box(second, category="Hot dog")
    site.box(first, (0, 0.5, 0, 0.5), category="Salt/pepper", IsOccluded=-1)
    frame = site.crop(drop="group")
    assert list(frame) == list(CROP_COLUMNS)
    assert frame["ImageID"].tolist() == [second, first] and frame["n"].tolist() == [0, 1]
    assert frame["Category"].tolist() == ["Hot dog", "Salt/pepper"]
    assert frame["CropPath"].str.startswith("data/crops/").all()
    assert "/Hot dog/" in frame["CropPath"][0] and "/Salt_pepper-" in frame["CropPath"][1]
    assert frame.loc[1, [*PIXELS]].tolist() == [0, 0, 160, 120]
    for row in frame.itertuples():
        data = crop_path(site.data_dir, row.CropPath).read_bytes()
        assert cut.hashlib.sha256(data).hexdigest() == row.SHA256
    pd.testing.assert_frame_equal(frame, crops.read_crops(site.data_dir), check_dtype=False)
    assert counts(frame, "made", "dropped") == (2, 1)


def test_the_second_run_decodes_and_writes_nothing(site, monkeypatch):
    """A second run decodes no photo, changes no file and writes the same table."""
    for seed in range(5):
        image_id = site.photo(scene(seed=seed))
        site.box(image_id)
        site.box(image_id, (0, 0.001, 0, 1))  # too small: neither cropped nor decoded again
    site.crop(min_pixels=10)
    table = (site.data_dir / "crops.csv").read_bytes()
    before = {path: path.stat().st_mtime_ns for path in site.data_dir.rglob("*_0.jpg")}
    monkeypatch.setattr(cut, "decode", lambda *_: pytest.fail("a photo was decoded"))
    frame = site.crop(min_pixels=10)
    assert counts(frame, "made", "remade", "kept", "small", "removed") == (0, 0, 5, 5, 0)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert (site.data_dir / "crops.csv").read_bytes() == table


def test_each_photo_is_decoded_once(site, monkeypatch):
    """A photo with three boxes is decoded only once, for its crops and its hash."""
    image_id = site.photo(scene())
    for left in (0.1, 0.2, 0.3):
        site.box(image_id, (left, left + 0.5, 0, 1))
    decoded = []
    real = cut.decode
    monkeypatch.setattr(cut, "decode", lambda *a: decoded.append(a) or real(*a))
    assert counts(site.crop(), "made") == (3,) and len(decoded) == 1


@pytest.mark.parametrize(
    "options",
    [{"size": 64}, {"size": None}, {"quality": 50}, {"padding": 0.2}, {"keep_aspect": True}],
)
def test_changed_options_are_noticed(site, options):
    """Changed options recreate the crops; the earlier options give the same bytes again."""
    site.box(site.photo(scene()))
    site.crop()
    before = site.files()
    assert counts(site.crop(**options), "remade", "kept") == (1, 0)
    assert site.files() != before
    assert counts(site.crop(), "remade", "kept") == (1, 0)
    assert site.files() == before


def test_a_changed_box_or_photo_is_noticed(site):
    """A crop is recreated if its box moved or its photo was replaced."""
    first, second = site.photo(scene()), site.photo(scene(seed=1))
    site.box(first)
    site.box(second)
    site.crop()
    site.rows[0]["XMin"] = 0.0
    assert counts(site.crop(), "remade", "kept") == (1, 1)
    site.photo(scene(160, 120, seed=1), second)
    assert counts(site.crop(), "remade", "kept") == (1, 1)


def test_a_damaged_crop_is_made_anew(site):
    """A crop that is truncated on disk is recreated."""
    site.box(site.photo(scene()))
    path = crop_path(site.data_dir, site.crop()["CropPath"][0])
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    assert counts(site.crop(), "remade") == (1,) and path.read_bytes() == whole


def test_categories_no_longer_selected_are_removed(site):
    """Crops and folders of such categories are removed; all other crops and files stay."""
    image_id = site.photo(scene())
    site.box(image_id, category="Cat")
    site.box(image_id, category="Dog")
    site.crop()
    note = site.data_dir / "crops" / "train" / "mine.txt"
    note.write_text("mine", encoding="utf-8")
    stale = next((site.data_dir / "crops").rglob("*_0.jpg"))
    stale.with_name(f".{stale.name}.0a1b2c3d.part").write_bytes(b"half")
    site.rows = [row for row in site.rows if row["Category"] == "Dog"]
    frame = site.crop()
    # The dog's n is now 0, so its file is moved.
    assert counts(frame, "removed", "kept", "moved", "made") == (1, 0, 1, 0)
    left = [path for path in site.files() if path != "train/mine.txt"]
    assert len(left) == 1 and "/Dog/" in left[0] and note.exists()
    assert not list((site.data_dir / "crops").glob("*/Cat"))


def test_every_part_has_a_folder_for_every_category(site):
    """Keras takes classes from folders, so each split has the same folders, even empty ones."""
    site.box(site.photo(scene()), category="Cat")
    site.box(site.photo(scene(seed=1)), category="Dog")
    site.crop()
    folders = {path.parent.name for path in (site.data_dir / "crops").glob("*/Cat")}
    assert folders == {"train", "validation", "test"}
    assert len(list((site.data_dir / "crops").glob("*/*"))) == 6


def test_an_interrupted_run_is_resumed(site, monkeypatch):
    """No partial file is left, and the next run decodes no photo again."""
    monkeypatch.setattr(write, "_PARTITION", 2)
    for seed in range(12):
        site.box(site.photo(scene(seed=seed)))
    real, calls = Store.write, []

    def stopping(self, path, data):
        calls.extend([path] * (path.suffix == ".jpg"))
        if len(calls) > 5:
            raise KeyboardInterrupt
        real(self, path, data)

    monkeypatch.setattr(Store, "write", stopping)
    with pytest.raises(KeyboardInterrupt):
        site.crop(workers=1)
    assert len(site.files()) == 5 and not list(site.data_dir.rglob("*.part"))
    assert not (site.data_dir / "crops.csv").exists()
    monkeypatch.setattr(Store, "write", real)
    monkeypatch.setattr(cut, "decode", lambda *_: pytest.fail("a photo was decoded"))
    assert counts(site.crop(), "kept", "made") == (4, 8)
    assert not list((site.data_dir / ".openimager" / "crops").iterdir())


@pytest.mark.parametrize("changed", [True, False])
def test_stopped_at_any_moment(site, monkeypatch, changed):
    """Near-duplicates are never in two splits, and crops.csv never lists a missing file."""
    monkeypatch.setattr(write, "_PARTITION", 1)
    kept, early, late = (f"{n:016x}" for n in (1, 2, 3))
    site.box(site.photo(scene(seed=1), kept))
    site.box(site.photo(scene(seed=2), early))
    site.crop()
    old = site.data_dir.with_name("old")
    if changed:
        site.box(site.photo(scene(seed=2), late, "test"))
    site.write()
    shutil.copytree(site.data_dir, old)
    site.crop()
    whole = {path: (site.data_dir / "crops" / path).read_bytes() for path in site.files()}
    table = (site.data_dir / "crops.csv").read_bytes()
    assert len(whole) == 2 and any(late in path for path in whole) == changed

    calls, limit = [], 0

    def stopping(real):
        def step(*args):
            if len(calls) == limit:
                raise OSError(28, "No space left on device")
            calls.append(args)
            return real(*args)

        return step

    for name in ("write", "write_table", "remove"):
        monkeypatch.setattr(Store, name, stopping(getattr(Store, name)))
    while True:
        shutil.rmtree(site.data_dir)
        shutil.copytree(old, site.data_dir)
        calls.clear()
        try:
            site.crop()
            break
        except TryAgain:
            pass
        there = site.files()
        assert not {early, late} <= {Path(path).name[:16] for path in there}
        assert any(kept in path for path in there)
        if (site.data_dir / "crops.csv").exists():
            listed = crops.read_crops(site.data_dir)["CropPath"]
            assert {*listed[listed != ""]} == {f"data/crops/{path}" for path in there}
        else:
            assert changed
        calls.clear()
        limit, stop = 99, limit
        assert counts(site.crop(), "kept")[0] >= 1
        assert (site.data_dir / "crops.csv").read_bytes() == table
        assert {path: (site.data_dir / "crops" / path).read_bytes() for path in whole} == whole
        assert len(site.files()) == len(whole)
        limit = stop + 1
    assert limit >= (10 if changed else 3)


def test_a_killed_run_leaves_only_whole_crops(site, monkeypatch):
    """After `kill -9`, every crop on disk is complete; the next run keeps those in the journal."""
    monkeypatch.setattr(write, "_PARTITION", 5)
    for seed in range(30):
        site.box(site.photo(scene(800, 600, seed=seed)))
    code = (
        "import sys; from openimager import write_crops; from openimager.crops import write; "
        "write._PARTITION = 5; write_crops(sys.argv[1], workers=1)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(site.write())])
    try:
        deadline = time.monotonic() + 30
        while len(list(site.data_dir.rglob("*_0.jpg"))) < 7 and time.monotonic() < deadline:
            time.sleep(0.002)
    finally:
        process.kill()
        process.wait()
    whole = [path for path in site.files() if not path.endswith(".part")]
    assert len(whole) >= 7
    for path in whole:
        Image.open(site.data_dir / "crops" / path).load()
    kept, made = counts(site.crop(), "kept", "made")
    assert kept >= 5 and kept + made == 30
    assert len(site.files()) == 30 and not list(site.data_dir.rglob("*.part"))


def test_a_full_disk_says_so(small_disk):
    """If a crop cannot be written, the run stops with a clear error; each crop is old or new."""
    site = DataDir(small_disk / "data")
    for seed in range(8):
        site.box(site.photo(jpeg(scene(seed=seed), quality=50)), (0, 1, 0, 1))
    site.crop()
    with pytest.raises(TryAgain, match="No space left"):
        site.crop(size=512, quality=100)
    crops_on_disk = [Image.open(site.data_dir / "crops" / path) for path in site.files()]
    assert {crop.size for crop in crops_on_disk} == {(128, 128), (512, 512)}
    assert len([crop.load() for crop in crops_on_disk]) == 8


def test_two_runs_at_once(site):
    """The second run reports that another run is active, and stops."""
    site.box(site.photo(scene()))
    site.write()
    with lock(site.data_dir / ".openimager" / "crops.lock"), pytest.raises(Busy):
        site.crop()


@pytest.mark.parametrize(
    "options, word",
    [
        ({"size": 0}, "size 0"),
        ({"quality": 101}, "quality 101"),
        ({"padding": -0.1}, "padding -0.1"),
        ({"min_pixels": 0}, "min_pixels 0"),
        ({"workers": 0}, "workers is 0; allowed are 1 to 1,000"),
        ({"processes": 0}, "processes is 0"),
        ({"drop": "blurred"}, "'blurred'"),
        ({"shares": (1, 2)}, r"shares \(1, 2\)"),
        ({"shares": (0, 0, 0)}, "shares"),
    ],
)
def test_bad_options_are_named(site, options, word):
    """Invalid options are refused by name before anything is written."""
    site.box(site.photo(scene()))
    with pytest.raises(BadInput, match=word):
        site.crop(**options)
    assert not site.files()


def test_bad_tables_are_refused(site, tmp_path):
    """Missing tables, missing columns and invalid or repeated photos are refused."""
    with pytest.raises(BadInput, match=r"no images\.csv"):
        crops.write_crops(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    image_id = site.photo(scene())
    site.box(image_id)
    (site.write() / "boxes.csv").write_text("ImageID,XMin\n", encoding="utf-8")
    with pytest.raises(BadInput, match=r"lacks the columns? .*Source"):
        crops.write_crops(site.data_dir)
    site.photos["x"] = {**site.photos[image_id], "ImageID": "../../../evil"}
    with pytest.raises(BadInput, match="evil"):
        site.crop()
    site.photos["x"] = site.photos[image_id]
    with pytest.raises(BadInput, match=f"'{image_id}'.* not more than once"):
        site.crop()
    site.photos["x"] = {**site.photos[image_id], "ImageID": "0" * 16, "Subset": "holiday"}
    with pytest.raises(BadInput, match="'holiday'"):
        site.crop()


def test_crops_that_came_without_photos_are_let_be(site):
    """If the files of all photos are missing, the run is refused and existing crops are kept."""
    image_id = site.photo(scene())
    site.box(image_id)
    site.crop()
    before = site.files()
    (site.data_dir / "images" / f"{image_id}.jpg").unlink()
    with pytest.raises(BadInput, match="download them first"):
        site.crop()
    assert site.files() == before and before


def test_a_package_without_notes_is_known_all_the_same(site):
    """Installed crops are kept even if the notes of earlier runs were not installed."""
    site.box(site.photo(scene()))
    site.crop()
    (site.data_dir / ".openimager" / "photos.csv").unlink()
    assert counts(site.crop(), "kept", "made", "remade") == (1, 0, 0)


def test_names_that_differ_in_capitals_only_are_refused(site):
    """On Windows and macOS they would share a folder, so they are refused everywhere."""
    image_id = site.photo(scene())
    site.box(image_id, category="Turkey")
    site.box(image_id, category="turkey")
    with pytest.raises(BadInput, match=r"'Turkey' and 'turkey'"):
        site.crop()


def test_nothing_selected_gives_an_empty_table(site):
    """If all selected photos are gone, the table has its columns but no rows."""
    site.box(site.photo(scene(), status="gone"))
    frame = site.crop()
    assert frame.empty and list(crops.read_crops(site.data_dir)) == list(CROP_COLUMNS)


def test_what_happened_is_told_unless_quiet(site, capsys):
    """Each kind of outcome is reported on one line if it occurred, unless quiet."""
    site.box(site.photo(scene()))
    site.box(site.photo(b"no picture"))
    crops.write_crops(site.write())
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and "1 made" in lines[0] and "1 could not be cropped" in lines[1]
    crops.write_crops(site.data_dir, quiet=True)
    assert capsys.readouterr() == ("", "")


# -- options and tables -----------------------------------------------------------------------


@pytest.mark.parametrize("kind, ending", [("png", "png"), ("webp", "webp"), ("jpeg", "jpg")])
def test_the_format_is_an_option(site, kind, ending):
    """Crops have the chosen format and no metadata; another format replaces the files."""
    site.box(site.photo(jpeg(scene(), comment=b"secret", icc_profile=b"x" * 200)))
    frame = site.crop()
    frame = site.crop(format=kind)
    assert counts(frame, "kept", "removed") == ((1, 0) if kind == "jpeg" else (0, 1))
    path = crop_path(site.data_dir, frame["CropPath"][0])
    with Image.open(path) as crop:
        assert path.suffix == f".{ending}" and crop.format == kind.upper()
        assert not {"comment", "icc_profile", "exif"} & set(crop.info)
    assert len(site.files()) == 1


def test_excluded_crops_leave_train_and_validation_but_not_test(site, tmp_path):
    """Listed crops are left out of train and validation; in test they are only counted."""
    ids = [
        site.photo(scene(seed=k), subset=s) for k, s in enumerate(("train", "validation", "test"))
    ]
    for image_id in ids:
        site.box(image_id)
        site.box(image_id, (0, 0.5, 0, 0.5))
    listed = pd.DataFrame({"ImageID": [*ids, "f" * 16], "n": 1, "Category": "Cat"})
    listed.to_csv(tmp_path / "wrong.csv", index=False)
    site.crop()
    with pytest.warns(UserWarning, match=f"1 of the crops .* do not exist, such as {'f' * 16} 1"):
        frame = site.crop(exclude=tmp_path / "wrong.csv")
    assert counts(frame, "excluded", "disputed", "kept", "removed") == (2, 1, 4, 2)
    assert frame.loc[frame["Excluded"] == 1, "CropPath"].str.contains("/test/").tolist() == [
        0,
        0,
        1,
    ]
    assert frame.loc[frame["CropPath"] == "", "Error"].str.contains("Excluded").all()
    assert counts(site.crop(), "made", "kept", "excluded") == (2, 4, 0)
    for name, text in (
        ("none.csv", None),
        ("bad.csv", "ImageID\n1\n"),
        ("worse.csv", "ImageID,n\n1,x\n"),
    ):
        if text:
            (tmp_path / name).write_text(text, encoding="utf-8")
        with pytest.raises(BadInput, match=name):
            site.crop(exclude=tmp_path / name)


def test_an_executor_gives_the_same(site, monkeypatch):
    """Partitions can run on any executor, and the table and files stay the same."""
    monkeypatch.setattr(write, "_PARTITION", 3)
    for seed in range(10):
        site.box(site.photo(scene(seed=seed)))
    alone = site.crop()
    before = site.files()
    shutil.rmtree(site.data_dir / "crops")
    with ThreadPoolExecutor(3) as pool:
        assert site.crop(executor=pool).equals(alone)
    assert site.files() == before


def test_a_script_without_a_main_guard_gets_a_sentence(site, tmp_path):
    """In a script without a main guard, processes=2 ends with an error that names the guard."""
    site.box(site.photo(scene()))
    code = "import sys; from openimager import write_crops; write_crops(sys.argv[1], processes=2)"
    (tmp_path / "script.py").write_text(code, encoding="utf-8")
    command = [sys.executable, str(tmp_path / "script.py"), str(site.write())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=99)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("openimager.errors.TryAgain") and 'if __name__ == "__main__":' in last


def test_tables_in_and_outcomes_out(site):
    """hash_rows and crop_rows are picklable and take one table; errors are rows."""
    site.box(site.photo(scene()))
    site.box(site.photo(b"no picture"))
    store = Store(site.write())
    rows = store.read_table("boxes.csv").assign(n=0, Rotation=0.0, Key="k")
    seen = pickle.loads(pickle.dumps(crops.hash_rows))(rows, store)
    assert seen["Hash"].str.len().tolist() == [64, 0] and seen["Width"].tolist() == [320, 0]
    assert not site.files()
    rows["CropPath"] = [f"data/crops/train/Cat/{i}_0.jpg" for i in rows["ImageID"]]
    done = pickle.loads(pickle.dumps(crops.crop_rows))(rows, store, crops.Options(size=32))
    assert list(done.index) == list(rows.index)
    assert done["CropPath"].tolist() == [rows["CropPath"][0], ""]
    assert len(site.files()) == 1 and "format" in done["Error"][1]


def test_only_originals_of_cameras_are_decoded_coarsely():
    """Large originals are decoded at 1.5 times the needed size or more, copies at twice or more."""
    cut = (0, 0, 800, 800)
    assert draft_scale(cut, 128, False, (1024, 768)) == 2
    assert draft_scale(cut, 128, False, (3000, 2000)) == 4
