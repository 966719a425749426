"""Contents of the package, their consistency, and the data and model cards."""

import json
import shutil

import pandas as pd
import pytest
import yaml
from builders import digest, jpeg
from huggingface_hub import DatasetCard, ModelCard
from package_tree import (
    GONE,
    IDS,
    NAME,
    QUERY,
    datasets_says,
    make_tree,
    write_data,
    write_model,
)

from openimager.errors import BadInput
from openimager.export import write_coco, write_croissant
from openimager.package import cards, contents
from openimager.store import Store
from tools.documents import FOLDER

# From the Hub's documentation of the front matter: the values we use and similar ones.
HUB = {
    "license": {"apache-2.0", "mit", "cc-by-2.0", "cc-by-4.0", "cc0-1.0", "other"},
    "task_categories": {"image-classification", "object-detection", "image-segmentation"},
    "size_categories": {"n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M"},
    "library_name": {"keras", "transformers", "timm", "sklearn"},
    "pipeline_tag": {"image-classification", "object-detection"},
}


@pytest.fixture
def tree(tmp_path):
    return make_tree(tmp_path / "clone")


def collect(tree, **options):
    return contents.collect(tree, tree / "data", tree / "models", **options)


def describe(tree, **options):
    return contents.describe(tree / "data", tree / "models", tree, **options)


def edit(tree, name, change, folder="data"):
    """Rewrite a table of a data directory."""
    store = Store(tree / folder)
    store.write_table(change(store.read_table(name)), name)


def test_package_holds_the_documented_tree(tree):
    """The package has images, crops, tables, credits, query, models, summaries and README.md."""
    write_coco(tree / "data")
    write_croissant(tree / "data")
    paths = list(collect(tree))
    photos = [path for path in paths if path.startswith("data/images/")]
    assert photos == [f"data/images/{i}.jpg" for i in IDS]
    assert len([path for path in paths if path.startswith("data/crops/")]) == 6
    wanted = "README.md quilt_summarize.json summaries/top-image-labels.vl.json data/images.csv "
    wanted += "data/boxes.csv data/crops.csv data/ATTRIBUTION.csv data/query.json "
    wanted += "data/boxes.coco.json data/croissant.json data/summaries/top-image-labels.csv "
    wanted += "models/latest.keras models/original.keras models/history.json models/metrics.json "
    wanted += "models/predictions.csv models/trained_on.txt"
    assert set(wanted.split()) <= set(paths)
    assert all(file.is_file() for file in collect(tree).values())


def test_folders_of_other_names_keep_the_paths(tree):
    """Whatever the folders are called here, their paths in the package are data/ and models/."""
    (tree / "data").rename(tree / "cats")
    (tree / "models").rename(tree / "best")
    files = contents.collect(tree, tree / "cats", tree / "best")
    assert files["data/crops.csv"] == tree / "cats" / "crops.csv"
    assert files["models/latest.keras"] == tree / "best" / "latest.keras"


def test_state_of_this_machine_stays_out(tree):
    """Hidden, partial and unrelated files and data/yolo/ are not packaged."""
    before = set(collect(tree))
    for path in ("data/.openimager/journal", "models/.resume/a.keras", "data/yolo/data.yaml"):
        (tree / path).parent.mkdir(exist_ok=True)
        (tree / path).write_text("state", encoding="utf-8")
    (tree / "data" / "my-notes.docx").write_text("notes", encoding="utf-8")
    (tree / "data" / "crops" / "train" / "Cat" / f".{IDS[0]}_1.jpg").write_bytes(b"half")
    assert set(collect(tree)) == before


def test_photos_can_be_left_out(tree):
    """Without photos, crops, tables and model remain, and the folder images/ may be missing."""
    photos = {f"data/images/{i}.jpg" for i in IDS}
    assert set(collect(tree)) - set(collect(tree, with_photos=False)) == photos
    shutil.rmtree(tree / "data" / "images")
    assert len(collect(tree, with_photos=False)) > 10
    assert describe(tree, with_photos=False)["with_photos"] is False


def test_only_the_current_selection_goes_in(tree):
    """Photos of earlier selections stay on disk with their credits, but are not packaged."""
    old = 15 * "0" + "e"
    (tree / "data" / "images" / f"{old}.jpg").write_bytes(jpeg(9))
    edit(tree, "ATTRIBUTION.csv", lambda t: pd.concat([t, t[:1].assign(ImageID=old)]))
    files = collect(tree)
    assert f"data/images/{old}.jpg" not in files
    credits = pd.read_csv(files["data/ATTRIBUTION.csv"], dtype=str)
    assert list(credits["ImageID"]) == IDS
    assert old in (tree / "data" / "ATTRIBUTION.csv").read_text(encoding="utf-8")


def test_changes_say_cropped_where_crops_are_packaged(tree):
    """For photos with crops in the package, "cropped" is appended to Changes."""
    edit(
        tree, "ATTRIBUTION.csv", lambda t: t.assign(Changes=["none", "scaled down"] + 4 * ["none"])
    )
    edit(tree, "crops.csv", lambda t: t)
    changes = pd.read_csv(collect(tree)["data/ATTRIBUTION.csv"], dtype=str)["Changes"]
    assert list(changes) == ["cropped", "scaled down; cropped"] + 4 * ["cropped"]


def test_photo_without_credit_stops_and_is_named(tree):
    """A photo without a row in ATTRIBUTION.csv is an error that names its ImageID."""
    edit(tree, "ATTRIBUTION.csv", lambda t: t[t["ImageID"] != IDS[3]])
    with pytest.raises(BadInput, match=IDS[3]):
        collect(tree)
    # Its crop is part of the photo, so leaving out the photo does not help.
    with pytest.raises(BadInput, match=IDS[3]):
        collect(tree, with_photos=False)


def test_stray_photo_without_credit_is_named(tree):
    """An unlisted picture among the photos is an error that names it."""
    (tree / "data" / "images" / "my-holiday.jpg").write_bytes(jpeg(8))
    with pytest.raises(BadInput, match="my-holiday"):
        collect(tree)


def test_photos_of_other_categories_come_with_credits(tree):
    """data/unknown/ is packaged if it exists, with its own credits."""
    write_data(tree / "other")
    shutil.move(tree / "other" / "data", tree / "data" / "unknown")
    files = collect(tree)
    assert f"data/unknown/images/{IDS[0]}.jpg" in files and "data/unknown/crops.csv" in files
    assert len([p for p in files if p.startswith("data/unknown/crops/")]) == 6
    credits = pd.read_csv(files["data/unknown/ATTRIBUTION.csv"], dtype=str)
    assert len(credits) == 6 and set(credits["Changes"]) == {"cropped"}
    edit(tree, "ATTRIBUTION.csv", lambda t: t[1:], "data/unknown")
    with pytest.raises(BadInput, match=IDS[0]):
        collect(tree)


@pytest.mark.parametrize(
    ("path", "notebook"),
    [
        ("data/crops.csv", "build-dataset"),
        ("models/latest.keras", "build-model"),
        ("models/metrics.json", "evaluate-model"),
    ],
)
def test_missing_part_names_the_notebook_that_makes_it(tree, path, notebook):
    """If a file is missing, the error names the notebook that makes it."""
    (tree / path).unlink()
    with pytest.raises(BadInput, match=rf"{path}: run {notebook}"):
        collect(tree)


def test_require_after_installing_only_the_model(tree):
    """The files that are there are accepted; missing crops are reported."""
    where = {"data_dir": tree / "data", "models_dir": tree / "models"}
    contents.require("data/crops", "data/crops.csv", "models/latest.keras", **where)
    shutil.rmtree(tree / "data")
    contents.require("models/latest.keras", **where)
    with pytest.raises(BadInput, match=r"no data/crops: run build-dataset.*--part data"):
        contents.require("models/latest.keras", "data/crops", **where)


# Each of these functions makes a tree inconsistent, in a way that happens in practice.


def retrained(tree):
    """Train again and do not run evaluate-model."""
    scores = {name: (tree / "models" / name).read_bytes() for name in SCORES}
    write_model(tree, b"another model")
    for name, content in scores.items():
        (tree / "models" / name).write_bytes(content)


SCORES = ("metrics.json", "predictions.csv")


def replaced_model(tree):
    """Put another model into models/."""
    (tree / "models" / "latest.keras").write_bytes(b"another model")


def another_task(tree):
    """Download other categories without cropping."""
    edit(tree, "boxes.csv", lambda t: t.assign(Category="Apple", LabelName="/m/014j1m"))
    query = {**QUERY, "categories": ["Apple"], "downloaded": True}
    (tree / "data" / "query.json").write_text(json.dumps(query), encoding="utf-8")


def interrupted_download(tree):
    """Start to download other categories."""
    query = {**QUERY, "categories": ["Cat", "Dog"], "downloaded": False}
    (tree / "data" / "query.json").write_text(json.dumps(query), encoding="utf-8")


def another_query(tree):
    """Change only the query."""
    query = {**QUERY, "categories": ["Cat", "Dog"], "downloaded": True}
    (tree / "data" / "query.json").write_text(json.dumps(query), encoding="utf-8")


def another_release(tree):
    """Mix photos of two releases."""
    edit(tree, "images.csv", lambda t: t.assign(Release="v7"))


def unlisted_photo(tree):
    """Remove a photo without crops from images.csv."""
    edit(tree, "images.csv", lambda t: t[t["ImageID"] != GONE])
    edit(tree, "boxes.csv", lambda t: pd.concat([t, t[:1].assign(ImageID=GONE)]))


def larger_selection(tree):
    """Download one more photo without cropping."""
    new = 15 * "0" + "b"
    (tree / "data" / "images" / f"{new}.jpg").write_bytes(jpeg(7, (60, 40)))
    for name in ("images.csv", "boxes.csv", "ATTRIBUTION.csv"):
        edit(tree, name, lambda t: pd.concat([t, t[:1].assign(ImageID=new)]))
    size = (tree / "data" / "images" / f"{new}.jpg").stat().st_size
    edit(tree, "images.csv", lambda t: t.assign(Bytes=t["Bytes"].mask(t["ImageID"] == new, size)))


def smaller_selection(tree):
    """Download with a smaller limit, without cropping."""
    edit(tree, "images.csv", lambda t: t[t["ImageID"] != IDS[0]])
    edit(tree, "boxes.csv", lambda t: t[t["ImageID"] != IDS[0]])


def lost_box(tree):
    """Remove a row of boxes.csv."""
    edit(tree, "boxes.csv", lambda t: t[t["ImageID"] != IDS[4]])


def lost_photo(tree):
    """Delete a photo that images.csv lists."""
    (tree / "data" / "images" / f"{IDS[2]}.jpg").unlink()


def changed_crop(tree):
    """Change a byte of a crop."""
    path = next((tree / "data" / "crops" / "test").rglob("*.jpg"))
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def foreign_crop(tree):
    """Add a crop that no table lists."""
    (tree / "data" / "crops" / "train" / "Cat" / f"{IDS[1]}_7.jpg").write_bytes(jpeg())


def new_split(tree):
    """Crop again with another split, without training."""
    edit(tree, "crops.csv", lambda t: t.assign(DuplicateGroup="other"))


def trained_on_test(tree):
    """Train on the test crops."""
    crops = Store(tree / "data").read_table("crops.csv")
    (tree / "models" / "trained_on.txt").write_text("\n".join(crops["SHA256"]), encoding="utf-8")


def old_croissant(tree):
    """Write croissant.json, then change a table."""
    write_croissant(tree / "data")
    edit(tree, "images.csv", lambda t: t.assign(Title="another"))


def old_predictions(tree):
    """Keep the predictions of fewer crops."""
    path = tree / "models" / "predictions.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]), encoding="utf-8")


def old_metrics(tree):
    """Keep the metrics of other crops."""
    path = tree / "models" / "metrics.json"
    metrics = json.loads(path.read_text(encoding="utf-8")) | {"crops_csv_sha256": "0" * 64}
    path.write_text(json.dumps(metrics), encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (retrained, "metrics.json has the scores of another model.*run evaluate-model"),
        (replaced_model, "history.json is of another model.*run build-model"),
        (another_task, "crops.csv has crops of boxes.*run build-dataset"),
        (interrupted_download, "of different downloads: run build-dataset"),
        (another_query, r"categories that query.json lacks \(Hot dog\).*run build-dataset"),
        (another_release, "another release than query.json.*run build-dataset"),
        (unlisted_photo, "boxes of photos that images.csv does not.*run build-dataset"),
        (larger_selection, "never cropped.*run build-dataset"),
        (smaller_selection, "crops.csv has crops of boxes.*run build-dataset"),
        (old_croissant, "croissant.json describes another images.csv.*run distribute-model"),
        (old_predictions, "predictions.csv are about other crops.*run evaluate-model"),
        (lost_box, "no box in boxes.csv.*run build-dataset"),
        (lost_photo, f"images/ lacks.*{IDS[2]}.*run build-dataset"),
        (changed_crop, "another content than crops.csv records.*run build-dataset"),
        (foreign_crop, "crops/ has other files than crops.csv lists.*run build-dataset"),
        (new_split, "trained on other crops.*run build-model"),
        (trained_on_test, "trained on other crops.*run build-model"),
        (old_metrics, "predictions.csv are about other crops.*run evaluate-model"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_parts_that_do_not_belong_together_are_refused(tree, damage, sentence):
    """The error is one line with the inconsistency and the notebook to run again."""
    collect(tree)
    damage(tree)
    with pytest.raises(BadInput, match=sentence) as caught:
        collect(tree)
    assert "\n" not in str(caught.value)


def test_boxes_left_out_by_an_option_are_no_mismatch(tree):
    """Photos whose only box was dropped or too small need no crop."""
    edit(tree, "crops.csv", lambda t: t[t["ImageID"] != IDS[2]])
    (tree / "data" / "crops" / "train" / "Cat" / f"{IDS[2]}_0.jpg").unlink()
    write_model(tree)
    assert f"data/images/{IDS[2]}.jpg" in collect(tree)


def test_metadata_says_what_there_is(tree):
    """Categories, subsets, counts, licence, query, options, metrics and hashes are correct."""
    said = describe(tree)
    assert said["categories"] == ["Cat", "Hot dog"]
    assert said["subsets"] == ["train", "validation", "test"]
    assert said["counts"]["photos"] == 6 and said["counts"]["boxes"] == 7
    assert said["counts"]["crops_by_subset"]["train"] == {"Cat": 2, "Hot dog": 1}
    assert said["licence"]["photos"] == ["CC BY 2.0 (https://creativecommons.org/licenses/by/2.0/)"]
    assert said["options"]["EPOCHS"] == 3 and said["query"] == QUERY
    assert said["metrics"]["accuracy"] == 0.5 and said["drawn"] is True
    assert said["metrics"]["baselines"]["majority"]["accuracy"] == 0.25
    assert said["versions"]["pandas"] == pd.__version__ and "keras" in said["versions"]
    assert said["tables"]["crops.csv"] == digest(tree / "data" / "crops.csv")
    assert describe(tree) == json.loads(json.dumps(said))


def test_name_is_made_from_the_categories():
    """The sample has a fixed name; other packages are named by their categories."""
    validate = pytest.importorskip("quilt3.util").validate_package_name
    lists = [["Apple", "Banana"], ["Café", "Salt/pepper"], ["犬"], ["猫"], ["Cafe"], ["Café"]]
    lists += [["Salt", "pepper"], ["Salt pepper"], ["Salt_pepper"], ["Salt-pepper"]]
    lists += [[f"Category number {i}" for i in range(count)] for count in (40, 41)]
    names = [contents.default_name({"drawn": False, "categories": each}) for each in lists]
    for name in names:
        validate(name)
        assert len(name) < 70
    assert len({*names}) == len(lists)
    assert contents.default_name({"drawn": False, "categories": ["Cafe"]}) == "quilt/cafe"
    assert contents.default_name({"drawn": True, "categories": ["Cat"]}) == "quilt/open_images"


def test_catalogue_shows_files_that_are_in_the_package(tree):
    """Every file that quilt_summarize.json names is in the package."""
    root = FOLDER.parent
    rows = json.loads((root / "quilt_summarize.json").read_text(encoding="utf-8"))
    cells = [cell for row in rows for cell in (row if isinstance(row, list) else [row])]
    named = {cell["path"] for cell in cells}
    assert {"data/README.md", "models/README.md", "models/confusion-matrix.png"} < named
    for path in named:
        if path.startswith("summaries/"):
            assert (root / path).is_file()
        (tree / path).write_text("{}", encoding="utf-8")
    assert named <= set(collect(tree))


def test_code_outside_of_git_is_of_unknown_revision(tmp_path, monkeypatch):
    """Without git or a repository, the revision is "unknown" and no error."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert contents.code_revision(tmp_path) == "unknown"


def test_data_card_is_what_the_hub_reads(tree):
    """huggingface_hub loads the card; its values are valid and its text fits the tables."""
    card = DatasetCard.load(cards.write_data_card(tree / "data", describe(tree), NAME))
    said = card.data.to_dict()
    assert said["license"] == "apache-2.0" and said["license"] in HUB["license"]
    for key in ("task_categories", "size_categories"):
        assert said[key] and set(said[key]) <= HUB[key]
    assert said["size_categories"] == ["n<1K"] and "open-images" in said["tags"]
    (config,) = said["configs"]
    assert [part["split"] for part in config["data_files"]] == ["train", "validation", "test"]
    text = card.text
    assert "| Cat | 2 | 0 | 1 |" in text and "drawn and their credits invented" in text
    assert "0.500 (0.100 to 0.900) on 2 test crops of 2 drawn pictures" in text
    for about_photos in ("Flickr", "CC BY", "Google", "checked by people"):
        assert about_photos not in text.partition("## Citation")[0]
    for option in ("| limit | 3 |", "| seed | 7 |", "| release | v4 |", QUERY["base_url"]):
        assert option in text
    assert f"quilt3 install {NAME} --registry REGISTRY --dest ." in text
    edit(tree, "images.csv", lambda t: t.assign(OriginalLandingURL="https://www.flickr.com/a/1"))
    card = DatasetCard.load(cards.write_data_card(tree / "data", describe(tree), NAME))
    assert card.data.to_dict()["license"] == "cc-by-2.0"
    text = card.text
    assert "drawn" not in text.replace("Boxes were drawn", "") and "Open Images V4" in text
    assert "CC BY 2.0 (https://creativecommons.org/licenses/by/2.0/)" in text


def test_data_card_has_merged_categories_as_they_are_given(tree):
    """Merged categories read like the option --merge."""
    store = Store(tree / "data")
    merge = [["Pet", ["Cat", "Dog"]], ["Meal", ["Hamburger"]]]
    store.write_json("query.json", QUERY | {"merge": merge, "downloaded": True})
    card = cards.write_data_card(tree / "data", describe(tree), NAME)
    assert "| merge | Pet=Cat,Dog; Meal=Hamburger |" in card.read_text(encoding="utf-8")


@pytest.mark.parametrize("table", ["images.csv", "boxes.csv", "crops.csv", "ATTRIBUTION.csv"])
def test_table_without_a_column_is_named(tree, table):
    """The package is not made or described from a table that lacks a column."""
    edit(tree, table, lambda t: t.drop(columns=t.columns[-1]))
    with pytest.raises(BadInput, match=f"{table} lacks the columns"):
        collect(tree)
    if table != "ATTRIBUTION.csv":
        with pytest.raises(BadInput, match=f"{table} lacks the columns"):
            describe(tree)


def test_data_card_names_a_licence_that_the_hub_does_not_know(tree):
    """The licence is then "other", with a link to it."""
    photo = {"License": "https://example.org/licence", "OriginalLandingURL": "https://flickr.com/"}
    edit(tree, "images.csv", lambda t: t.assign(**photo))
    card = DatasetCard.load(cards.write_data_card(tree / "data", describe(tree), NAME))
    said = card.data.to_dict()
    assert said["license"] == "other" and said["license_link"] == "https://example.org/licence"


@pytest.mark.slow
def test_datasets_loads_the_data_directory_by_its_card(tree, tmp_path):
    """load_dataset("data") finds the splits and labels named in the card."""
    cards.write_data_card(tree / "data", describe(tree), NAME)
    assert datasets_says(tmp_path / "hf", str(tree / "data")) == [
        "{'train': 3, 'validation': 1, 'test': 2}",
        "['Cat', 'Hot dog'] (32, 32)",
    ]


def test_model_card_is_what_the_hub_reads(tree):
    """huggingface_hub loads the accuracy; the text has slices, baselines and intervals."""
    card = ModelCard.load(cards.write_model_card(tree / "models", describe(tree), NAME))
    for key in ("library_name", "license", "pipeline_tag"):
        assert getattr(card.data, key) in HUB[key]
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value) == ("accuracy", 0.5)
    assert (result.task_type, result.dataset_type) == ("image-classification", NAME)
    text = card.text
    row = "| always the most common category | 0.250 (0.000 to 0.750) | +0.250 (-0.500 to +0.750) |"
    assert row in text and "0.500 (0.100 to 0.900) on 2 test crops of 2 drawn pictures" in text
    assert "| IsOccluded | yes | 2 | 0.500 | 0.100 | 0.900 |" in text
    assert "temperature 1.250; below the threshold 0.600" in text
    assert "Flickr" not in text
    trained = tree / "models" / "trained_on.txt"
    trained.write_text("\n".join(trained.read_text("utf-8").split()[:-1]), encoding="utf-8")
    text = ModelCard.load(cards.write_model_card(tree / "models", describe(tree), NAME)).text
    assert "trained on 2 crops" in text and "2 of the 3 train crops of the package" in text
    for heading in ("Intended use", "Training data", "Evaluation", "Limitations", "How to load it"):
        assert f"\n## {heading}\n" in text
    assert yaml.safe_load(card.content.split("---")[1])["model-index"][0]["name"] == "small_cnn"


def test_gone_photos_are_in_the_table_alone(tree):
    """Gone photos are in images.csv, but have no image file and no credit in the package."""
    files = collect(tree)
    assert GONE in files["data/images.csv"].read_text(encoding="utf-8")
    assert GONE not in files["data/ATTRIBUTION.csv"].read_text(encoding="utf-8")
    assert f"data/images/{GONE}.jpg" not in files
