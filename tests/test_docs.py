"""README, CONTRIBUTING, CHANGELOG and docs/: links, commands and the generated page."""

import doctest
import importlib.util
import re
import shlex
import sys
from pathlib import Path

import pytest

from openimager import cli
from tools import docs

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def blocks(path):
    """Return the shell blocks of a page, each as a list of commands without comments."""
    text = path.read_text(encoding="utf-8")
    found = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = (block.replace("\\\n", " ").splitlines() for block in found)
    return [[line.strip() for line in block if line.strip(" #")] for block in lines]


def commands(start):
    """Return the arguments of each command in the pages that begins with `start`."""
    found = []
    for path in PAGES:
        for line in (line for block in blocks(path) for line in block):
            for part in line.split(" && "):
                words = shlex.split(part.replace(".venv/bin/", ""), comments=True)
                if words[: len(start)] == start:
                    name = f"{path.stem}: {part}"[:70]
                    found.append(pytest.param(words[len(start) :], id=name))
    return found


def anchors(path):
    """Return the anchors that GitHub makes for a page's headings."""
    heads = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="argparse's layout differs by version")
def test_options_page():
    """docs/options.md has the current --help texts."""
    page = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    assert docs.options() == page, "run: .venv/bin/python tools/docs.py"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links(path):
    """Every link inside the repository leads to an existing file and heading."""
    for target in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", path.read_text("utf-8")):
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        assert file.exists() and file.is_relative_to(ROOT), target
        assert not anchor or anchor in anchors(file), target


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_files(path):
    """Every repository file named in a page exists."""
    text = re.sub(r"https?://\S+", "", path.read_text(encoding="utf-8"))
    for name in re.findall(r"\b(?:tools|benchmarks|notebooks|src|docs|tests)/[\w./-]+\.\w+", text):
        assert (ROOT / name).exists(), name


def examples():
    """Return the Python blocks of the pages that call connect()."""
    found = []
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        for start, block in re.findall(r"^```(python|pycon)\n(.*?)^```", text, re.M | re.S):
            if "connect(" in block:
                parts = doctest.DocTestParser().get_doctest(block, {}, path.name, str(path), 0)
                found.append(pytest.param(parts, block, id=f"{path.stem}: {start} {len(found)}"))
    return found


@pytest.mark.parametrize(("test", "block"), examples())
def test_questions_in_sql(test, block):
    """Each query gives the result shown in the page, and each has a prompt."""
    failed, asked = doctest.DocTestRunner(verbose=False).run(test)
    assert not failed and asked >= block.count("SELECT") >= 1


def test_every_question_is_run():
    """connect() is only shown in Python blocks, which are run; the README has three queries."""
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        outside = re.sub(r"^```(python|pycon)\n.*?^```", "", text, flags=re.M | re.S)
        assert not re.search(r"\.connect\([^)]", outside), path.name
    [readme] = [p.values[0] for p in examples() if p.values[0].name == "README.md"]
    assert sum("SELECT" in one.source for one in readme.examples) == 3


def test_readme_begins_with_what_ci_runs():
    """The README's first block begins with the make targets that CI runs."""
    first = blocks(ROOT / "README.md")[0]
    assert first[:2] == ["make demo", "make test"]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_make_targets(path):
    """Every make target named in a page is in the Makefile."""
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"(?:`|^ {4}|^)make ([a-z-]+)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), target


@pytest.mark.parametrize("words", commands(["openimager"]))
def test_openimager_commands(words, tmp_path, monkeypatch, capsys):
    """Each command runs without error, on the sample instead of real data."""
    monkeypatch.chdir(tmp_path)
    for option in ("--release", "--source", "--base-url", "--data-dir", "--dask"):
        while option in words:
            at = words.index(option)
            words = words[:at] + words[at + 2 :]
    assert cli.main([*(word for word in words if word != "--sample"), "--sample", "--quiet"]) == 0
    assert bool(capsys.readouterr().out) == ("--list" in words or "--dry-run" in words)


@pytest.mark.parametrize("words", commands(["quilt3"]))
def test_quilt_commands(words):
    """quilt3 accepts the options; test_registry runs such commands on a registry."""
    quilt_main = pytest.importorskip("quilt3.main")
    assert quilt_main.create_parser().parse_args([w.replace("REGISTRY", "s3://b") for w in words])


@pytest.mark.parametrize("words", commands(["python", "-m"]))
def test_modules(words):
    """The modules exist, and their help has the options used."""
    assert importlib.util.find_spec(words[0]), words[0]
    if f"python -m {words[0]}" in docs.COMMANDS:
        text = docs.help_of(docs.COMMANDS[f"python -m {words[0]}"][0])
        assert [w for w in words[1:] if w.startswith("--") and w.split("=")[0] not in text] == []
