"""The README's commands work as written, and its generated part is what the code says."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from openimager import cli
from tools.readme import with_help

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines()]


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="argparse's layout differs by version")
def test_help():
    """The options in the README are those of --help."""
    assert with_help(README) == README, "run tools/readme.py"


def test_first_block_is_two_make_targets():
    """The first commands are the two that CI runs, and the Makefile has them."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = [line.removeprefix("make ") for line in BLOCKS[0].splitlines()]
    assert targets == ["demo", "test"]
    for target in re.findall(r"`make ([a-z]+)`", README) + targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


@pytest.mark.parametrize("line", [c for c in COMMANDS if c.startswith("openimager ")])
def test_openimager_commands(line, tmp_path, monkeypatch, capsys):
    """Each line does what it says when the sample stands in for Open Images."""
    monkeypatch.chdir(tmp_path)
    assert cli.main([*shlex.split(line)[1:], "--sample", "--quiet"]) == 0
    assert bool(capsys.readouterr().out) == ("--list" in line or "--dry-run" in line)


@pytest.mark.parametrize("line", [c for c in COMMANDS if c.startswith("quilt3 ")])
def test_quilt_commands(line):
    """quilt3 knows the options; test_registry runs such lines on a registry."""
    quilt_main = pytest.importorskip("quilt3.main")
    words = [word.replace("REGISTRY", "s3://bucket") for word in shlex.split(line, comments=True)]
    assert quilt_main.create_parser().parse_args(words[1:])


def test_files_and_links():
    """Every file of the repository that the README names is there."""
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
    for path in re.findall(r"\b(?:tools|benchmarks|notebooks|src)/[\w./-]+\.\w+", README):
        assert (ROOT / path).exists(), path
