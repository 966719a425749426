"""environment.yml is valid for conda and agrees with setup.py."""

import runpy
from pathlib import Path

import pytest
import setuptools
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "environment.yml").read_text(encoding="utf-8")
# Packages with another name on conda-forge than on PyPI.
PYPI = {"python-duckdb": "duckdb"}

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
rattler = pytest.importorskip("rattler", reason="py-rattler is not installed")


@pytest.fixture(scope="module")
def environment():
    return yaml.safe_load(TEXT)


@pytest.fixture
def setup(monkeypatch):
    """The arguments that setup.py passes to setuptools."""
    given = {}
    monkeypatch.setattr(setuptools, "setup", given.update)
    monkeypatch.chdir(ROOT)
    runpy.run_path("setup.py")
    return given


def conda_specs(environment):
    """Return (name, versions) of each line for conda."""
    lines = [line for line in environment["dependencies"] if isinstance(line, str)]
    specs = [rattler.MatchSpec(line, strict=True) for line in lines]
    return [(spec.name.normalized, str(spec.version or "")) for spec in specs]


def pip_lines(environment):
    (last,) = [line for line in environment["dependencies"] if not isinstance(line, str)]
    assert list(last) == ["pip"]
    return last["pip"]


def parts(versions):
    """Return the parts of a version specifier, without order and spaces."""
    return {part.strip() for part in str(versions).split(",") if part.strip()}


def test_keys_and_channels(environment):
    """There are only keys that conda knows, the documented name, and one channel."""
    assert set(environment) == {"name", "channels", "dependencies"}
    assert environment["name"] == "openimager"
    assert environment["channels"] == ["conda-forge"]


def test_each_spec_is_read_by_conda_and_pip(environment):
    """Every line can be parsed, no package is listed twice, and pip is listed."""
    lines = pip_lines(environment)
    assert lines[-1] == "--editable ."
    names = [name for name, _ in conda_specs(environment)]
    assert "pip" in names
    names += [canonicalize_name(Requirement(line).name) for line in lines[:-1]]
    assert len(names) == len(set(names))


def test_agrees_with_setup(environment, setup):
    """Packages and versions are those of setup.py, for the module and the notebooks."""
    wanted = [*setup["install_requires"], *setup["extras_require"]["notebooks"]]
    wanted = {canonicalize_name(r.name): parts(r.specifier) for r in map(Requirement, wanted)}
    here = {PYPI.get(name, name): parts(v) for name, v in conda_specs(environment)}
    for requirement in map(Requirement, pip_lines(environment)[:-1]):
        here[canonicalize_name(requirement.name)] = parts(requirement.specifier)
    assert here.pop("python") == parts(setup["python_requires"])
    assert here.pop("pip") == set()
    assert here == wanted


def test_every_direct_dependency_has_a_lower_bound(setup):
    """CI installs the lowest versions that setup.py allows, so each needs a lower bound."""
    extras = setup["extras_require"]
    named = [*setup["install_requires"], *(r for n in extras if n != "test" for r in extras[n])]
    unbounded = [r for r in named if ">=" not in r]
    assert unbounded == []
