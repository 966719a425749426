"""Prediction with a saved model that measures brightness in the upper left quarter."""

import csv
import importlib.util
import io
import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from builders import DataDir, jpeg, scene
from PIL import Image

import openimager
from openimager import files, metrics
from openimager.errors import BadInput
from openimager.store import Store

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("keras") is None, reason="models need the extra 'notebooks'"
)

SIDE = 8
CATEGORIES = {"Cat": "Cat", "Hot_dog": "Hot dog"}
# Rotates an upright picture so that the EXIF orientation with this number undoes it.
TURNS = {
    1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270,
}  # fmt: skip


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A file latest.keras: the whiter the upper left quarter, the more probable is "Hot dog"."""
    from openimager import predict

    keras = predict.import_keras()
    weights = np.zeros((SIDE, SIDE, 3, 2), "float32")
    weights[: SIDE // 2, : SIDE // 2, :, 1] = 8 / (3 * (SIDE // 2) ** 2)
    inputs = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
    dense = keras.layers.Dense(2, activation="softmax")
    model = keras.Model(inputs, dense(x))
    dense.set_weights([weights.reshape(-1, 2), np.array([4, 0], "float32")])
    folder = tmp_path_factory.mktemp("saved")
    crops = {"padding": 0, "keep_aspect": False}
    digest = predict.save_model(model, folder / "latest.keras", CATEGORIES, **crops)
    assert digest == files.sha256(folder / "latest.keras")
    assert [path.name for path in folder.iterdir()] == ["latest.keras"]
    return folder / "latest.keras"


@pytest.fixture
def models(saved, tmp_path, monkeypatch):
    """The folder models/ with metrics.json, in an otherwise empty working directory."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "latest.keras").write_bytes(saved.read_bytes())
    monkeypatch.chdir(tmp_path)
    write_metrics(files.sha256(saved))
    return tmp_path / "models"


def write_metrics(digest, **changes):
    report = {"model_sha256": digest, "temperature": 2.0, "threshold": 0.6} | changes
    files.Path("models/metrics.json").write_text(json.dumps(report), encoding="utf-8")


def quarter(width=60, height=40, white=255):
    """A black picture whose upper left quarter has the given brightness."""
    picture = Image.new("RGB", (width, height))
    picture.paste((white,) * 3, (0, 0, width // 2, height // 2))
    return picture


def run(capsys, *arguments):
    """Run the command; return its exit status, its rows and its standard error."""
    from openimager import predict

    status = predict.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return status, list(csv.DictReader(io.StringIO(out))), err


def sure(logit, temperature=2.0):
    return 1 / (1 + np.exp(-logit / temperature))


def test_photos_by_path_folder_and_picture(models, tmp_path):
    """Photos are in order, with calibrated probabilities; given pictures are not changed."""
    (tmp_path / "photos" / "more").mkdir(parents=True)
    quarter().save(tmp_path / "photos" / "b.png")
    quarter(white=0).save(tmp_path / "photos" / "more" / "a.png")
    for name in ("notes.txt", "menu.pdf"):  # Pillow can write PDF, but not read it
        (tmp_path / "photos" / name).write_text("not a picture", encoding="utf-8")
    given = quarter()
    table = openimager.load_model().predict([tmp_path / "photos", given], quiet=True)
    names = [str(tmp_path / "photos" / "b.png"), str(tmp_path / "photos" / "more" / "a.png")]
    assert table["Photo"].tolist()[:2] == names
    assert table["Category"].tolist() == ["Hot dog", "Cat", "Hot dog"]
    assert table["P(Hot dog)"].tolist() == pytest.approx([sure(4), sure(-4), sure(4)], abs=0.02)
    assert table["Probability"].tolist() == pytest.approx([sure(4)] * 3, abs=0.02)
    assert given.size == (60, 40) and (table["Error"] == "").all()
    assert list(table) == [
        "Photo", "Category", "Probability", "P(Cat)", "P(Hot dog)", "Error",
    ]  # fmt: skip


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_turned_photos_come_out_right(models, tmp_path, suffix):
    """With any of the eight EXIF orientations, the prediction is that of the upright photo."""
    photos = []
    for tag, turn in TURNS.items():
        picture = quarter(160, 96)
        picture = picture.transpose(turn) if turn is not None else picture
        exif = picture.getexif()
        exif[0x0112] = tag
        photos.append(tmp_path / f"{tag}.{suffix}")
        picture.save(photos[-1], exif=exif)
    model = openimager.load_model()
    table = model.predict(photos, quiet=True)
    assert table["P(Hot dog)"].tolist() == pytest.approx([sure(4)] * 8, abs=0.02)
    # In pixels of the upright photo: the black lower right quarter.
    boxed = [model.predict(photo, box=(80, 48, 160, 96)) for photo in photos]
    assert [one["Category"][0] for one in boxed] == ["Cat"] * 8
    # Opened by the caller, who may have turned it already.
    with Image.open(photos[5]) as opened:
        size = opened.size
        assert model.predict([opened])["Category"][0] == "Hot dog"
        assert opened.size == size


def test_box_is_cut_to_the_pixel(models):
    """Exactly the pixels of the box are used, even if its fractions are rounded."""
    picture = Image.new("RGB", (49, 49))
    picture.paste((255, 255, 255), (1, 1, 9, 9))
    model = openimager.load_model()
    pixels = [(model.pixels(picture, (k, k, k + 8, k + 8)) > 0).all() for k in range(3)]
    assert pixels == [False, True, False]


def test_a_box_gives_the_pixels_of_its_crop(models, tmp_path):
    """A box of a photo gives the same pixels as its crop."""
    site = DataDir(tmp_path / "data")
    image_id = site.photo(jpeg(scene(2400, 1800)))
    site.box(image_id, (600 / 2400, 700 / 2400, 900 / 1800, 1000 / 1800))
    frame = site.crop(size=SIDE, format="png")
    photo = site.data_dir / "images" / f"{image_id}.jpg"
    crop = Store(site.data_dir).crop(frame["CropPath"][0])
    pixels = openimager.load_model().pixels(photo, (600, 900, 700, 1000))
    assert np.array_equal(pixels, np.asarray(Image.open(crop)))


def test_same_probabilities_as_the_model_gives(models, tmp_path):
    """Probabilities equal those of the model on the pixels, before and after scaling."""
    pixels = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3)).astype("uint8")
    Image.fromarray(pixels).save(tmp_path / "crop.png")
    model = openimager.load_model()
    theirs = model.model.predict(pixels[None].astype("float32"), verbose=0)
    assert model.probabilities([tmp_path / "crop.png"]) == pytest.approx(theirs)
    assert model.probabilities(pixels[None]) == pytest.approx(theirs)
    ours = model.predict(tmp_path / "crop.png")[["P(Cat)", "P(Hot dog)"]].to_numpy()
    assert ours == pytest.approx(metrics.scale(theirs, 2.0))
    assert model.probabilities([]).shape == (0, 2)


def test_whole_photo_keeps_its_proportions_if_the_crops_did(saved, tmp_path):
    """If the crops kept their aspect, whole photos are fitted into a black square too."""
    from openimager import predict

    model = openimager.load_model(saved.parent / "latest.keras").model
    path, crops = tmp_path / "wide.keras", {"padding": 0, "keep_aspect": True}
    predict.save_model(model, path, CATEGORIES, **crops)
    with pytest.warns(UserWarning, match="missing or incomplete"):
        pixels = openimager.load_model(path).pixels(Image.new("RGB", (80, 40), "white"))
    assert (pixels[:2] == 0).all() and (pixels[2:6] == 255).all() and (pixels[6:] == 0).all()


def test_command_prints_csv(models, capsys, tmp_path):
    """Each photo gives one CSV row; below the threshold it says "none of these"."""
    quarter().save(tmp_path / "a.png")
    quarter(white=132).save(tmp_path / "b.png")
    status, rows, err = run(capsys, tmp_path / "a.png", tmp_path / "b.png")
    assert (status, err) == (0, "")
    assert [row["Category"] for row in rows] == ["Hot dog", "none of these"]
    assert float(rows[1]["Probability"]) < 0.6
    assert float(rows[0]["P(Cat)"]) + float(rows[0]["P(Hot dog)"]) == pytest.approx(1)
    status, rows, _ = run(capsys, tmp_path / "a.png", "--box", "31,21,60,40")
    assert status == 0 and rows[0]["Category"] == "Cat"


def test_what_is_no_picture_is_a_row(models, capsys, tmp_path):
    """Text, truncated JPEGs and missing files give rows with errors, and status 1."""
    quarter(400, 400).save(tmp_path / "good.jpg")
    whole = (tmp_path / "good.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("no picture", encoding="utf-8")
    names = ["text.jpg", "good.jpg", "cut.jpg", "missing.jpg"]
    status, rows, _ = run(capsys, *(tmp_path / name for name in names))
    assert status == 1
    assert [row["Category"] for row in rows] == ["", "Hot dog", "", ""]
    assert [bool(row["Error"]) for row in rows] == [True, False, True, True]
    assert "cannot identify image" in rows[0]["Error"] and "No such file" in rows[3]["Error"]
    assert rows[0]["Probability"] == rows[0]["P(Cat)"] == ""


def test_numbers_of_another_model_are_not_used(models, capsys, tmp_path):
    """If metrics.json is missing or of another model, it is not used, with a warning."""
    Image.new("RGB", (20, 20), (132,) * 3).save(tmp_path / "b.png")
    write_metrics("0" * 64)
    status, rows, err = run(capsys, tmp_path / "b.png")
    assert status == 0 and "describes another model" in err
    assert rows[0]["Category"] == "Hot dog"
    assert float(rows[0]["Probability"]) == pytest.approx(sure(8 * 132 / 255 - 4, 1), abs=1e-4)
    (models / "metrics.json").unlink()
    assert "missing or incomplete" in run(capsys, tmp_path / "b.png")[2]
    write_metrics(files.sha256(models / "latest.keras"), threshold=None)
    assert "missing or incomplete" in run(capsys, tmp_path / "b.png")[2]


def test_bad_input_is_told_in_a_sentence(models, capsys, tmp_path):
    """The status is 2; a box outside of the photo is a row with an error, and status 1."""
    quarter().save(tmp_path / "a.png")
    (tmp_path / "empty").mkdir()
    status, rows, err = run(capsys, tmp_path / "a.png", "--models", tmp_path / "none")
    assert (status, rows) == (2, []) and "There is no model at" in err
    two = [tmp_path / "a.png"] * 2
    status, _, err = run(capsys, *two, "--box", "0,0,4,4")
    assert status == 2 and "one photo only" in err
    status, _, err = run(capsys, tmp_path / "empty")
    assert status == 2 and "no picture in the folder" in err
    for box in ("5,0,5,9", "0,0,61,40"):
        status, rows, _ = run(capsys, tmp_path / "a.png", "--box", box)
        assert status == 1 and f"The box {box} is not" in rows[0]["Error"]
    for box in ("1,2,3", "a,b,c,d"):
        with pytest.raises(SystemExit) as ended:
            run(capsys, tmp_path / "a.png", "--box", box)
        assert ended.value.code == 2 and f"'{box}' is not LEFT,UPPER" in capsys.readouterr().err
    with zipfile.ZipFile(models / "latest.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    status, _, err = run(capsys, tmp_path / "a.png")
    assert status == 2 and "not a model saved by build-model" in err
    with pytest.raises(BadInput, match="There is no model"):
        openimager.load_model(tmp_path / "none")


def test_categories_survive_in_the_file_alone(saved, tmp_path):
    """A copied model file with another name still has its categories, in safe mode."""
    (tmp_path / "moved.keras").write_bytes(saved.read_bytes())
    with pytest.warns(UserWarning, match="not calibrated"):
        model = openimager.load_model(tmp_path / "moved.keras")
    assert (model.folders, model.categories) == (["Cat", "Hot_dog"], ["Cat", "Hot dog"])
    assert (model.temperature, model.threshold) == (1, 0)


def test_help_needs_no_keras():
    """The help loads no Keras, and says that probabilities are calibrated on crops."""
    command = [sys.executable, "-X", "importtime", "-m", "openimager.predict", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "calibrated on crops" in " ".join(done.stdout.split())
    assert "tensorflow" not in done.stderr and "keras" not in done.stderr
