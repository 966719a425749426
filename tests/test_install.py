"""Installing a package from a folder or S3: files are verified, complete, and never overwritten."""

import shutil
from pathlib import Path

import boto3
import mlcroissant
import pytest
import seaweed
from builders import files_below
from package_tree import METADATA, NAME, check_yolo, make_tree, write_model

import openimager
from openimager import install, registry
from openimager.errors import BadInput, TryAgain
from openimager.export import write_coco, write_croissant, write_yolo
from openimager.package import cards, contents
from openimager.store import Store

pytestmark = [
    pytest.mark.filterwarnings("ignore:(read|open)_text is deprecated"),
    pytest.mark.usefixtures("quilt_home"),
]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A clone and a registry with its package; tests change neither."""
    root = tmp_path_factory.mktemp("original")
    make_tree(root / "clone")
    write_croissant(root / "clone" / "data")
    return push(root / "clone", root / "registry"), root


@pytest.fixture
def place(original, tmp_path):
    """A copy of the registry; its manifests still have the original's addresses."""
    shutil.copytree(original[1] / "registry", tmp_path / "registry")
    return tmp_path / "registry"


def push(tree, place, name=NAME):
    files = contents.collect(tree, tree / "data", tree / "models")
    return registry.push(files, name, place, METADATA, "first")


def files_of(tree):
    """Return the files that the package has of a tree's data/ and models/, by path."""
    files = contents.collect(tree, tree / "data", tree / "models")
    parts = ("data/", "models/")
    return {path: file.read_bytes() for path, file in files.items() if path.startswith(parts)}


def refused(word, *arguments, kind=BadInput, **options):
    """Check that an installation fails with a one-line error that contains this word."""
    with pytest.raises(kind, match=word) as caught:
        install.install_package(*arguments, **options)
    assert "\n" not in str(caught.value)


def test_installs_data_and_models(original, place, tmp_path):
    """All files of data/ and models/ are installed; a second installation writes none."""
    pushed, root = original
    found = openimager.install_package(place, tmp_path / "new")
    wanted = files_of(root / "clone")
    assert files_below(tmp_path / "new") == wanted
    assert (found.name, found.top_hash, found.files) == (NAME, pushed.top_hash, len(wanted))
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "new").rglob("*")}
    again = openimager.install_package(place, tmp_path / "new")
    assert (again.files, again.size, again.kept) == (0, 0, len(wanted))
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "new").rglob("*")} == before


def test_moved_and_read_only_registry_installs(original, place, tmp_path):
    """A moved registry installs without re-pointing, and is not changed."""
    moved = place.rename(tmp_path / "a stick #1")
    before = files_below(moved)
    for path in moved.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    openimager.install_package(moved, tmp_path / "new", parts="models")
    assert files_below(moved) == before
    assert (tmp_path / "new" / "models" / "latest.keras").is_file()
    assert not (tmp_path / "new" / "data").exists()


def test_installed_crops_are_read_by_mlcroissant(place, tmp_path):
    """Croissant's hashes equal those of the installed tables, and its crops exist."""
    openimager.install_package(place, tmp_path / "new", "data")
    dataset = mlcroissant.Dataset(tmp_path / "new" / "data" / "croissant.json")
    assert [row["crops/image"].size for row in dataset.records("crops")] == 6 * [(32, 32)]
    assert len(list(dataset.records("crop-table"))) >= 6


def test_a_deeper_part(place, tmp_path):
    """A part may be a folder inside data/, as with quilt3's --path."""
    openimager.install_package(place, tmp_path, "data/crops/train")
    assert len(list((tmp_path / "data").rglob("*.jpg"))) == 3


def test_files_that_differ_are_kept(original, place, tmp_path):
    """Without overwrite nothing is written, and the error names the files that differ."""
    own = tmp_path / "new" / "data" / "crops.csv"
    own.parent.mkdir(parents=True)
    own.write_text("mine", encoding="utf-8")
    refused(r"differ.*were kept: data/crops.csv.*--overwrite", place, tmp_path / "new")
    assert files_below(tmp_path / "new") == {"data/crops.csv": b"mine"}
    openimager.install_package(place, tmp_path / "new", overwrite=True)
    assert files_below(tmp_path / "new") == files_of(original[1] / "clone")


def test_other_files_stay(place, tmp_path):
    """Files that are not in the package are left alone."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine.keras").write_bytes(b"mine")
    openimager.install_package(place, tmp_path, "models", overwrite=True)
    assert (tmp_path / "models" / "mine.keras").read_bytes() == b"mine"


def test_damaged_and_missing_bytes_are_noticed(place, tmp_path):
    """A changed or missing object in the registry is an error before the file is written."""
    (model,) = (place / "objects").rglob("*.txt")
    content = model.read_bytes()
    model.write_bytes(content[:-1] + b"x")
    refused("trained_on.txt.*not what was pushed", place, tmp_path / "new", kind=TryAgain)
    assert not (tmp_path / "new" / "models" / "trained_on.txt").exists()
    model.unlink()
    refused("lacks the bytes of models/trained_on.txt", place, tmp_path / "new")


def test_old_revision_by_its_top_hash(original, place, tmp_path):
    """A top hash, or its first digits, selects the revision; the default is the latest."""
    pushed, root = original
    shutil.copytree(root / "clone", tmp_path / "clone")
    (tmp_path / "clone" / "data" / "summaries" / "top-image-labels.csv").write_text("other")
    new = push(tmp_path / "clone", place).top_hash
    path = Path("data", "summaries", "top-image-labels.csv")
    assert openimager.install_package(place, tmp_path / "a").top_hash == new
    openimager.install_package(place, tmp_path / "b", top_hash=pushed.top_hash[:8])
    assert (tmp_path / "a" / path).read_text() == "other" != (tmp_path / "b" / path).read_text()
    refused(f"no revision '{'0' * 64}'. It has: ", place, tmp_path / "c", top_hash=64 * "0")
    refused("no revision '12'", place, tmp_path / "c", top_hash="12")


def test_wrong_addresses_and_names(original, place, tmp_path):
    """If the registry, package or part is missing, the error lists what exists."""
    refused("no registry", tmp_path / "nothing", tmp_path)
    refused("no registry", original[1] / "clone", tmp_path)
    refused("give a folder or s3://bucket", "ftp://host/x", tmp_path)
    refused(f"packages: {NAME}. None is named 'quilt/other'", place, tmp_path, name="quilt/other")
    refused("None is named 'other'", place, tmp_path, name="other")
    refused("no part 'photos'. It has: README.md, data", place, tmp_path, parts="photos")
    push(original[1] / "clone", place, "quilt/second")
    refused(f"{NAME}, quilt/second. Choose one with --name", place, tmp_path)
    assert openimager.install_package(place, tmp_path / "new", name=NAME).name == NAME


def test_path_tricks_in_a_manifest(place, tmp_path):
    """A manifest with a path outside the folder is refused."""
    (manifest,) = (place / ".quilt" / "packages").iterdir()
    text = manifest.read_text(encoding="utf-8")
    manifest.write_text(text.replace("models/latest.keras", "models/../../x"), encoding="utf-8")
    refused("outside of it", place, tmp_path / "new")
    assert not (tmp_path / "x").exists() and not (tmp_path / "new").exists()


def test_command_line(place, tmp_path, monkeypatch, capsys):
    """Success gives status 0 and the top hash; differing files give status 2 and one line."""
    monkeypatch.chdir(tmp_path)
    assert install.main([str(place), "--part", "models"]) == 0
    said = capsys.readouterr()
    assert "top hash" in said.out and said.err == ""
    assert sorted(p.name for p in tmp_path.iterdir()) == ["models", "registry"]
    (tmp_path / "models" / "metrics.json").write_text("mine", encoding="utf-8")
    assert install.main([str(place)]) == 2
    said = capsys.readouterr().err
    assert "models/metrics.json" in said
    assert len(said.splitlines()) == 1 and not (tmp_path / "data").exists()


def test_interrupted_installation_goes_on(place, tmp_path, monkeypatch):
    """After Ctrl-C all files on disk are complete; the same call installs the rest."""
    count = []

    def stop(*arguments):
        count.append(1)
        if len(count) > 5:
            raise KeyboardInterrupt
        return content(*arguments)

    content = install._content
    monkeypatch.setattr(install, "_content", stop)
    with pytest.raises(KeyboardInterrupt):
        openimager.install_package(place, tmp_path / "new")
    monkeypatch.undo()
    there = files_below(tmp_path / "new")
    assert len(there) == 5 and not [path for path in there if path.endswith(".part")]
    assert openimager.install_package(place, tmp_path / "new").kept == 5


FRUIT = Path(__file__).resolve().parents[2] / "shared" / "mirror" / "fruit" / "2018_04"


@pytest.mark.slow
@pytest.mark.parametrize("site", ["sample", "fruit"])
def test_stranger_gets_a_whole_site(site, tmp_path):
    """After download, cropping and push, the installed crops and boxes equal the original."""
    if site == "fruit" and not FRUIT.is_dir():
        pytest.skip("../shared/mirror with real photos is not here")
    names = ["Apple", "Banana", "Orange"] if site == "fruit" else ["Cat", "Dog"]
    where = {"base_url": FRUIT} if site == "fruit" else {"release": "sample"}
    data, models = tmp_path / "clone" / "data", tmp_path / "clone" / "models"
    openimager.download(names, data_dir=data, subset="all", limit=12, quiet=True, **where)
    openimager.write_crops(data, quiet=True)
    write_model(tmp_path / "clone")
    write_coco(data)
    write_croissant(data)
    about = contents.describe(data, models, tmp_path / "clone")
    name = contents.default_name(about)
    assert name == ("quilt/apple_banana_orange" if site == "fruit" else NAME)
    assert about["drawn"] is (site == "sample")
    cards.write_data_card(data, about, name)
    cards.write_model_card(models, about, name)
    card = (data / "README.md").read_text(encoding="utf-8")
    assert "| limit | 12 |" in card
    assert f"| base_url | {FRUIT.as_posix() if site == 'fruit' else 'drawn on this'}" in card
    files = contents.collect(tmp_path / "clone", data, models)
    registry.push(files, name, tmp_path / "registry", about, "first")
    there = tmp_path / "new"
    openimager.install_package(tmp_path / "registry", there)
    assert files_below(there) == {
        path: file.read_bytes() for path, file in files.items() if path[0] in "dm"
    }
    store = Store(there / "data")
    crops = store.read_table("crops.csv").query("CropPath != ''")
    records = list(mlcroissant.Dataset(there / "data" / "croissant.json").records("crops"))
    assert {f"data/{row['crops/path'].decode()}" for row in records} == set(crops["CropPath"])
    write_yolo(store, quiet=True)
    check_yolo(store)


@pytest.fixture
def s3(s3_server, monkeypatch):
    seaweed.use(monkeypatch, s3_server)
    return monkeypatch


def test_installs_from_s3_with_the_right_to_read(original, s3, tmp_path):
    """A user with read rights can install, but not push; the error is one sentence."""
    tree = original[1] / "clone"
    push(tree, "s3://versioned", "quilt/readable")
    s3.setenv("AWS_ACCESS_KEY_ID", seaweed.READER)
    found = openimager.install_package("s3://versioned", tmp_path / "new", name="quilt/readable")
    assert files_below(tmp_path / "new") == files_of(tree) and found.files > 20
    with pytest.raises(BadInput, match=r"s3://versioned.*access was refused for \w+") as caught:
        push(tree, "s3://versioned", "quilt/mine")
    assert "installing a package needs the right to read" in str(caught.value) and "\n" not in str(
        caught.value
    )


def test_bucket_without_packages(s3, tmp_path):
    """The error says that the bucket has no package."""
    boto3.client("s3").create_bucket(Bucket="empty")
    refused("has these packages: none", "s3://empty", tmp_path)
