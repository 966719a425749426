"""A Quilt registry in a folder, and its use by others with quilt3 on the command line."""

import errno
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from builders import files_below
from package_tree import METADATA, NAME, everything, make_tree, push, quilt

from openimager import install_package, registry
from openimager.errors import BadInput, TryAgain
from openimager.package import objects
from openimager.package.objects import Registry, content_hash, import_quilt
from openimager.package.workflow import write_workflow

# How quilt3 reads its own schema, on Python 3.11 and 3.12.
pytestmark = [
    pytest.mark.filterwarnings("ignore:(read|open)_text is deprecated"),
    pytest.mark.usefixtures("quilt_home"),
]


@pytest.fixture
def tree(tmp_path):
    return make_tree(tmp_path / "clone")


@pytest.fixture
def place(tmp_path):
    return tmp_path / "registry"


def install(place, folder, top_hash=None):
    """Fetch a revision into `folder`, in this process."""
    found = import_quilt().Package.browse(NAME, str(place), top_hash)
    found.fetch(str(folder))
    return found


@pytest.mark.slow
def test_stranger_installs_and_verifies(tree, place, tmp_path):
    """The README's commands work as written with a relative path; a changed byte is found."""
    pushed = push(tree, place)
    clone = make_tree(tmp_path / "fresh" / "clone")
    shutil.rmtree(clone / "data")
    shutil.rmtree(clone / "models")
    place.rename(clone.parent / "registry")
    line = [
        sys.executable,
        "-W",
        "ignore::SyntaxWarning",
        "-m",
        "openimager.registry",
        "../registry",
    ]
    done = subprocess.run(line, cwd=clone, capture_output=True, text=True, timeout=180)
    assert (done.returncode, done.stderr) == (0, "") and "re-pointed" in done.stdout
    there = ("--registry", "../registry")
    status, said = quilt("install", NAME, *there, "--dest", ".", cwd=clone)
    assert status == 0, said
    assert files_below(clone) == files_below(tree)
    verify = (
        "verify",
        NAME,
        *there,
        "--top-hash",
        pushed.top_hash,
        "--dir",
        ".",
        "--extra-files-ok",
    )
    (clone / "another file").write_text("of the clone", encoding="utf-8")
    assert quilt(*verify, cwd=clone)[0] == 0
    photo = next((clone / "data" / "images").iterdir())
    damaged = bytearray(photo.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    photo.write_bytes(damaged)
    status, said = quilt(*verify, cwd=clone)
    assert status == 1 and "failed" in said


@pytest.mark.slow
def test_stranger_installs_only_the_model(tree, place, tmp_path):
    """--path models --dest models installs only the models; quilt3 has its own process here."""
    push(tree, place)
    line = [shutil.which("quilt3", path=str(Path(sys.executable).parent)), "install", NAME]
    line += ["--registry", str(place), "--path", "models", "--dest", "models"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    assert files_below(tmp_path / "models") == files_below(tree / "models")
    assert not (tmp_path / "data").exists()


def test_bytes_are_in_the_registry(tree, place, tmp_path):
    """The registry does not depend on the files that it was pushed from."""
    push(tree, place)
    before = files_below(tree)
    shutil.rmtree(tree)
    install(place, tmp_path / "out")
    assert files_below(tmp_path / "out") == before


def test_second_push_copies_and_adds_nothing(tree, place):
    """Pushing the same files again leaves the registry unchanged."""
    first = push(tree, place)
    assert first.new and first.copied_files > 0 and first.copied_size > 0
    before = {p: p.stat().st_mtime_ns for p in place.rglob("*") if p.is_file()}
    second = push(tree, place, "again")
    assert (second.new, second.copied_files, second.copied_size) == (False, 0, 0)
    assert second.top_hash == first.top_hash
    assert {p: p.stat().st_mtime_ns for p in place.rglob("*") if p.is_file()} == before


def test_one_changed_file_is_one_copy(tree, place):
    """Only changed files are copied."""
    push(tree, place)
    (tree / "models" / "latest.keras").write_bytes(b"a better model")
    pushed = push(tree, place, "better")
    assert (pushed.copied_files, pushed.copied_size) == (1, len(b"a better model"))


def test_old_revision_stays_whole(tree, place, tmp_path):
    """After a new revision, the old one still installs with its original bytes."""
    old = push(tree, place).top_hash
    before = files_below(tree)
    for path in ("data/crops.csv", "models/latest.keras"):
        (tree / path).write_bytes(b"other bytes entirely")
    shutil.rmtree(tree / "data" / "images")
    (tree / "data" / "images").mkdir()
    new = push(tree, place, "second").top_hash
    found = install(place, tmp_path / "old", old)
    assert files_below(tmp_path / "old") == before
    assert found.verify(str(tmp_path / "old"))
    assert registry.revisions(NAME, place)["TopHash"].tolist() == [old, new]


def test_revisions_within_one_second_are_all_listed(tree, place):
    """Three fast pushes give three rows with their messages; only the last is Latest."""
    for number in range(3):
        (tree / "README.md").write_text(f"# {number}\n", encoding="utf-8")
        push(tree, place, f"number {number}")
    found = registry.revisions(NAME, place)
    assert found["Message"].tolist() == ["number 0", "number 1", "number 2"]
    assert found["Latest"].tolist() == [False, False, True]
    assert found["TopHash"].nunique() == 3


def test_moved_registry_is_re_pointed(tree, place, tmp_path):
    """After a move, every revision installs from the new folder under its top hash."""
    old = push(tree, place).top_hash
    first = files_below(tree)
    (tree / "README.md").write_text("# changed\n", encoding="utf-8")
    new = push(tree, place, "second").top_hash
    elsewhere = tmp_path / "a shared drive #1" / "registry"
    elsewhere.parent.mkdir()
    shutil.move(place, elsewhere)
    shutil.rmtree(tree / "data")
    assert registry.repoint(elsewhere) > 0
    assert registry.repoint(elsewhere) == 0
    assert str(place) not in (elsewhere / ".quilt/workflows/config.yml").read_text("utf-8")
    for top_hash in (old, new):
        assert import_quilt().Package.browse(NAME, str(elsewhere), top_hash).top_hash == top_hash
    install(elsewhere, tmp_path / "out", old)
    assert files_below(tmp_path / "out") == first


def test_moved_registry_takes_new_revisions(tree, place, tmp_path):
    """Pushes after re-pointing join the history; pushing the same files adds nothing."""
    old = push(tree, place).top_hash
    moved = place.rename(tmp_path / "moved")
    registry.repoint(moved)
    assert push(tree, moved, "again").top_hash == old
    (tree / "README.md").write_text("# changed\n", encoding="utf-8")
    push(tree, moved, "second")
    assert registry.revisions(NAME, moved)["Message"].tolist() == ["first", "second"]


def test_re_pointing_an_incomplete_copy_changes_nothing(tree, place, tmp_path, capsys):
    """A registry with a missing file is refused with the file's name and left unchanged."""
    hashes = []
    for text in ("# one\n", "# two\n"):
        (tree / "README.md").write_text(text, encoding="utf-8")
        hashes.append(push(tree, place, text).top_hash)
    # The missing file belongs to the manifest that is read last.
    found = import_quilt().Package.browse(NAME, str(place), max(hashes))
    lost = Path(found["README.md"].physical_key.path)
    lost.unlink()
    moved = place.rename(tmp_path / "moved")
    before = files_below(moved)
    assert registry.main([str(moved)]) == 2
    assert lost.name in capsys.readouterr().err
    assert files_below(moved) == before


def test_rolling_back_brings_the_old_bytes(tree, place, tmp_path):
    """After a rollback, installing without a top hash installs the earlier revision."""
    old = push(tree, place).top_hash
    before = files_below(tree)
    (tree / "models" / "latest.keras").write_bytes(b"a worse model")
    push(tree, place, "a mistake")
    import_quilt().Package.rollback(NAME, str(place), old)
    install(place, tmp_path / "out")
    assert files_below(tmp_path / "out") == before


@pytest.mark.parametrize("lacking", ["categories", "licence", "metrics"])
def test_workflow_refuses_what_says_too_little(tree, place, lacking):
    """Without categories, licence or metrics, the push is refused before any copy."""
    metadata = {name: value for name, value in METADATA.items() if name != lacking}
    with pytest.raises(BadInput, match=lacking):
        registry.push(everything(tree), NAME, place, metadata, "too little")
    assert not (place / "objects").exists()


def test_registry_holds_others_to_the_rules_too(tree, place):
    """quilt3 itself cannot add a revision without the required metadata either."""
    push(tree, place)
    quilt3 = import_quilt()
    with pytest.raises(quilt3.util.QuiltException, match="'categories' is a required"):
        quilt3.Package().build("someone/else", str(place), message="mine")


def test_a_registry_s_own_workflows_stay(tree, place):
    """Our workflow is added to the existing ones, and their default is kept."""
    config = place / ".quilt" / "workflows" / "config.yml"
    config.parent.mkdir(parents=True)
    theirs = "version: '1'\ndefault_workflow: theirs\nworkflows:\n  theirs: {name: Theirs}\n"
    config.write_text(theirs, encoding="utf-8")
    push(tree, place)
    text = config.read_text(encoding="utf-8")
    assert "default_workflow: theirs" in text and "name: Theirs" in text and "openimager:" in text


def test_schemas_of_others_move_with_the_registry(place):
    """Addresses of schemas inside the registry are updated; other addresses are kept."""
    config = place / ".quilt" / "workflows" / "config.yml"
    config.parent.mkdir(parents=True)
    text = "version: '1'\nworkflows: {}\nschemas:\n"
    text += "  theirs: {url: 'file:///old/.quilt/workflows/a.json'}\n"
    config.write_text(text + "  far: {url: 's3://other/b.json'}\n", encoding="utf-8")
    there = Registry(place)
    assert write_workflow(there) == 2 and write_workflow(there) == 0
    text = config.read_text(encoding="utf-8")
    assert f"{place.as_uri()}/.quilt/workflows/a.json" in text and "s3://other/b.json" in text


def test_bars_count_all_bytes(tree, place, monkeypatch):
    """The bars of pushing and installing count all bytes."""
    shown = []

    class Bar(objects.tqdm):
        def __init__(self, **options):
            super().__init__(**options | {"disable": False})

        def __exit__(self, *error):
            shown.append((self.desc.removesuffix(": "), self.n, self.total, self.unit))
            super().__exit__(*error)

    monkeypatch.setattr(objects, "tqdm", Bar)
    push(tree, place)
    install_package(place, tree.parent / "new", ("data", "models"))
    size = sum(len(content) for content in files_below(tree).values())
    parts = sum(len(c) for path, c in files_below(tree).items() if path[0] in "dm")
    bars = [("Copying", size), ("Comparing", 0), ("Installing", parts)]
    assert shown == [(label, size, size, "B") for label, size in bars]


def test_file_address_is_the_folder(tree, place):
    """A file:// URL and the plain path are the same registry."""
    push(tree, place)
    assert not push(tree, place.as_uri()).new
    assert registry.check(place.as_uri()) == registry.check(place)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_registry_that_may_only_be_read(tree, place, monkeypatch, number):
    """A push into a read-only folder gives a one-line error that names the folder."""

    def refuse(*_, **__):
        raise OSError(number, os.strerror(number), str(place / "objects"))

    monkeypatch.setattr("openimager.files.write", refuse)
    with pytest.raises(BadInput, match="installing only needs to read") as caught:
        push(tree, place)
    assert str(place) in str(caught.value) and "\n" not in str(caught.value)


def test_full_disk(tree, small_disk):
    """A push onto a full file system says so and names the registry; nothing is half written."""
    (tree / "data" / "large.bin").write_bytes(bytes(1_000_000))
    with pytest.raises(TryAgain, match="disk is full") as caught:
        push(tree, small_disk / "registry")
    assert str(small_disk) in str(caught.value) and "\n" not in str(caught.value)
    written = files_below(small_disk / "registry" / "objects").values()
    assert set(written) <= set(files_below(tree).values())


def test_addresses_that_are_no_registry(tmp_path):
    """A missing folder, a file, a path in a bucket and other schemes have their own errors."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    cases = {
        tmp_path / "no" / "drive": "no folder",
        tmp_path / "file": "is a file",
        "s3://bucket/some/path": "nothing more",
        "https://example.org/registry": "give a folder or s3://bucket",
    }
    for address, word in cases.items():
        with pytest.raises(BadInput, match=word) as caught:
            registry.check(address)
        assert "\n" not in str(caught.value)


def test_command_line_says_what_is_wrong(tmp_path, capsys):
    """A folder without manifests gives status 2 and one line."""
    assert registry.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("size", [0, 1, (8 << 20) - 1, 8 << 20, (17 << 20) + 5])
def test_hash_is_quilt_s_own(size):
    """Our hash equals quilt3's, also near its chunk size of 8 MiB."""
    import_quilt()
    from quilt3.checksums import calculate_multipart_checksum_bytes

    content = (hashlib.sha256(b"seed").digest() * (size // 32 + 1))[:size]
    expected = calculate_multipart_checksum_bytes(content, checksum_type="sha2-256-chunked")
    assert content_hash(content) == expected


@pytest.mark.slow
def test_no_usage_statistics():
    """Importing quilt3 through openimager turns off its usage statistics."""
    script = "from openimager.package.objects import import_quilt; import_quilt();"
    script += "from quilt3.telemetry import ApiTelemetry; print(ApiTelemetry.telemetry_disabled)"
    environment = {k: v for k, v in os.environ.items() if k != "QUILT_DISABLE_USAGE_METRICS"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=180
    )
    assert done.stdout.strip() == "True", done.stderr
