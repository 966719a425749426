"""environment.yml: read by conda's rules, and in agreement with setup.py."""

import re
import runpy
from pathlib import Path

import pytest
import setuptools
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "environment.yml").read_text(encoding="utf-8")
IMPORTS = {"pillow": "PIL", "scikit-learn": "sklearn"}

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
rattler = pytest.importorskip("rattler", reason="py-rattler is not installed")


@pytest.fixture(scope="module")
def environment():
    return yaml.safe_load(TEXT)


@pytest.fixture
def setup(monkeypatch):
    """What setup.py hands to setuptools."""
    given = {}
    monkeypatch.setattr(setuptools, "setup", given.update)
    monkeypatch.chdir(ROOT)
    runpy.run_path("setup.py")
    return given


def conda_specs(environment):
    """Return (name, versions) for each line that conda reads."""
    lines = [line for line in environment["dependencies"] if isinstance(line, str)]
    specs = [rattler.MatchSpec(line, strict=True) for line in lines]
    return [(spec.name.normalized, str(spec.version or "")) for spec in specs]


def pip_lines(environment):
    (last,) = [line for line in environment["dependencies"] if not isinstance(line, str)]
    assert list(last) == ["pip"]
    return last["pip"]


def parts(versions):
    """Return a version specifier's parts: their order and spaces mean nothing."""
    return {part.strip() for part in str(versions).split(",") if part.strip()}


def test_keys_and_channels(environment):
    """Only keys that conda knows; the name that the README says; one channel."""
    assert set(environment) == {"name", "channels", "dependencies"}
    assert environment["name"] == "openimager"
    assert environment["channels"] == ["conda-forge"]


def test_each_spec_is_read_by_conda_and_pip(environment):
    """Every line parses, no package stands twice, and pip itself is asked for."""
    lines = pip_lines(environment)
    assert lines[-1] == "--editable ."
    names = [name for name, _ in conda_specs(environment)]
    assert "pip" in names
    names += [canonicalize_name(Requirement(line).name) for line in lines[:-1]]
    assert len(names) == len(set(names))


def test_agrees_with_setup(environment, setup):
    """The same packages and versions as setup.py, for the module and the notebooks."""
    wanted = [*setup["install_requires"], *setup["extras_require"]["notebooks"]]
    wanted = {canonicalize_name(r.name): parts(r.specifier) for r in map(Requirement, wanted)}
    here = {name: parts(version) for name, version in conda_specs(environment)}
    for requirement in map(Requirement, pip_lines(environment)[:-1]):
        here[canonicalize_name(requirement.name)] = parts(requirement.specifier)
    assert here.pop("python") == parts(setup["python_requires"])
    assert here.pop("pip") == set()
    assert here == wanted


def test_each_line_says_what_uses_it():
    """A line names what uses it, and a file that it names does import the package."""
    lines = [line for line in TEXT.splitlines() if re.match(r" +- (?!conda-forge|pip:)", line)]
    assert len(lines) > 10
    for line in lines:
        package, _, comment = line.strip("- ").partition("  # ")
        assert comment, f"'{line.strip()}' does not say what uses it"
        name = re.split(r"[ <>=!~]", package)[0]
        for path in re.findall(r"[\w/-]+\.(?:py|ipynb)", comment):
            text = (ROOT / path).read_text(encoding="utf-8")
            assert re.search(rf"\b(import|from) {IMPORTS.get(name, name)}\b", text), (name, path)
