"""Running, tidying and checking notebooks, and the committed notebooks themselves."""

import json

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from openimager.errors import BadInput
from openimager.store import Store
from tools import documents, notebooks

BULLETS = "- one\n- two\n- three"
PARAMETERS = 'SEED = 0  # any number\nNAMES = ["Cat", "Dog"]'


def make(folder, *sources, name="initial-exploration", title="Look"):
    """Write a notebook with these code cells after its parameters; return its path."""
    cells = [
        new_markdown_cell(f"# {title}\n\nWhy?\n\n{BULLETS}"),
        new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
        *map(new_code_cell, sources),
        new_markdown_cell(f"Done:\n\n{BULLETS}"),
    ]
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.ipynb"
    documents.write(new_notebook(cells=cells), path)
    return path


def mark_as_run(path):
    """Number the cells and record the hash, as if the notebook had been run."""
    notebook = documents.read(path)
    for number, cell in enumerate(documents.code_cells(notebook), 1):
        cell.execution_count = number
    notebook.metadata["openimager"] = {"executed": documents.code_hash(notebook)}
    documents.write(notebook, path)
    return path


def printed(notebook):
    """Return what a notebook wrote to standard output."""
    return "".join(
        out.text
        for cell in documents.code_cells(notebook)
        for out in cell.outputs
        if out.get("name") == "stdout"
    )


@pytest.fixture
def folder(tmp_path):
    """A folder for notebooks inside a temporary clone."""
    return tmp_path / "notebooks"


@pytest.mark.slow
def test_execute_replaces_parameters_and_only_these(folder):
    """The given parameter is replaced for the run; other parameters and the file are unchanged."""
    path = make(folder, "print(SEED, NAMES)")
    before = path.read_bytes()
    notebook = notebooks.execute(path, {"NAMES": ["Apple"]}, out=folder / "out.ipynb")
    assert printed(notebook) == "0 ['Apple']\n"
    assert path.read_bytes() == before
    assert "SEED = 0  # any number" in documents.parameters_cell(notebook).source
    assert "executed" not in documents.read(folder / "out.ipynb").metadata.get("openimager", {})


def test_execute_refuses_unknown_parameter(folder):
    """A parameter that the cell does not assign is refused before a kernel starts."""
    with pytest.raises(BadInput, match=r"no parameter SIZE.*SEED, NAMES"):
        notebooks.execute(make(folder, "1"), {"SIZE": 1})


@pytest.mark.slow
def test_executed_notebook_is_tidy_and_passes_the_check(folder):
    """Progress bars, widgets, addresses and local paths are removed; the hash is recorded."""
    path = make(
        folder,
        "import os, sys, warnings\nfrom tqdm.auto import tqdm as auto\nfrom tqdm import tqdm",
        "for _ in auto(range(2)):\n    pass\nfor _ in tqdm(range(2)):\n    print(os.getcwd())",
        "print(object())\nprint('half\\rwhole')",
        "os.path.abspath('a.csv')",
    )
    before = documents.read(path)
    before.metadata["widgets"] = {"state": 1}
    before.cells[1].metadata["execution"] = {"iopub.status.busy": "2018-04-01T00:00:00Z"}
    documents.write(before, path)
    notebook = notebooks.execute(path, out=path)
    text = path.read_text(encoding="utf-8")
    assert str(folder.parent) not in text
    assert not [word for word in ("it/s", "widget", "2018-04", "iopub") if word in text]
    assert printed(notebook) == "../notebooks\n" * 2 + "<object object at 0x...>\nwhole\n"
    assert documents.problems(path, folder) == []
    assert notebooks.main(["check", "--folder", str(folder)]) == 0


@pytest.mark.slow
def test_failing_cell_names_itself_and_keeps_the_notebook(folder, tmp_path, capsys):
    """The error names cell and exception, the status is 1, and the notebook is unchanged."""
    path = make(folder, "print(SEED)", "NAMES[7]")
    before = path.read_bytes()
    base = ["run", "exploration", "--folder", str(folder)]
    assert notebooks.main([*base, "--in-place"]) == 1
    said = capsys.readouterr().err
    assert "initial-exploration.ipynb: code cell 3: IndexError: list index out of range" in said
    assert "NAMES[7]" in said and len(said.splitlines()) < 15
    assert path.read_bytes() == before
    assert notebooks.main([*base, "--output-dir", str(tmp_path / "out")]) == 1
    assert printed(documents.read(tmp_path / "out" / path.name)) == "0\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import os\nos._exit(1)", "the kernel died"),
        ("import time\ntime.sleep(60)", "code cell 2 took too long"),
    ],
)
def test_dead_or_stuck_kernel_is_reported(folder, source, message):
    """A kernel that dies and a cell that does not end are reported as failures."""
    with pytest.raises(notebooks.Failed, match=message):
        notebooks.execute(make(folder, source), timeout=2)


@pytest.mark.slow
def test_run_goes_in_reading_order_and_sets_where_it_fits(folder, tmp_path, capsys):
    """Notebooks run in reading order; a parameter is set in each notebook that has it."""
    make(folder, "print(SEED)", name="build-dataset")
    path = make(folder, "print(SEED)")
    notebook = documents.read(path)
    notebook.cells[1].source = "SEED = 1\nTOP = 3"
    documents.write(notebook, path)
    command = ["run", "dataset", "exploration", "--set", "SEED=5", "--set", "TOP=4"]
    command += ["--output-dir", str(tmp_path / "out")]
    assert notebooks.main([*command, "--folder", str(folder)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in said] == ["initial-exploration", "build-dataset"]
    for name in ("initial-exploration", "build-dataset"):
        assert printed(documents.read(tmp_path / "out" / f"{name}.ipynb")) == "5\n"


@pytest.mark.slow
def test_strict_run_fails_on_a_warning_but_not_on_a_bar(folder, capsys):
    """With --strict, output on standard error is a failure, except for progress bars."""
    make(folder, "from tqdm import tqdm\nfor _ in tqdm(range(2)):\n    pass")
    command = ["run", "--strict", "--folder", str(folder)]
    assert notebooks.main(command) == 0
    make(folder, "import warnings\nwarnings.warn('old way')")
    assert notebooks.main(command) == 1
    assert "code cell 2 wrote on standard error" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--strict", "explore"], "no notebook 'explore'"),
        (["run", "--set", "SIZE=1"], "SIZE"),
        (["run", "--in-place", "--set", "SEED=1"], "--output-dir"),
    ],
)
def test_bad_input_exits_with_2(folder, capsys, arguments, message):
    """Bad input is reported in one line, without a traceback."""
    make(folder, "1")
    assert notebooks.main([*arguments, "--folder", str(folder)]) == 2
    said = capsys.readouterr().err
    assert message in said and len(said.splitlines()) == 1


def test_outputs_of_real_data_do_not_replace_those_of_the_sample(folder, capsys):
    """The committed outputs are of the sample, so --in-place refuses to run on other data."""
    path = make(folder, "1")
    before = path.read_bytes()
    Store(folder.parent / "data").write_json("query.json", {"release": "v4"})
    assert notebooks.main(["run", "--in-place", "--folder", str(folder)]) == 2
    assert "data/ is not of the sample" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_value_that_is_no_json_is_refused(capsys):
    """The error of --set shows the format of a value."""
    with pytest.raises(SystemExit) as ended:
        notebooks.main(["run", "--set", "NAMES=Apple"])
    assert ended.value.code == 2
    assert "NAME=JSON, such as" in capsys.readouterr().err


def break_source(notebook):
    """Change the code without running it."""
    notebook.cells[2].source += "\nSEED = 3"


def break_numbers(notebook):
    """Give a cell another number, as running cells by hand does."""
    notebook.cells[2].execution_count = 9


def break_lines(notebook):
    """Make a cell of 16 lines."""
    notebook.cells[2].source = "\n".join("abcdefghijklmnop")


def break_magic(notebook):
    """Call the shell with a magic."""
    notebook.cells[2].source = "!ls"


def break_shell(notebook):
    """Call the shell with a function."""
    notebook.cells[2].source = "import os\nos.system('ls')"


def break_bullets(notebook):
    """Change the bullets at the end."""
    notebook.cells[-1].source = "- one\n- two\n- four"


def break_tag(notebook):
    """Remove the tag of the parameters."""
    del notebook.cells[1].metadata["tags"]


def break_output(notebook):
    """Keep an output with an error."""
    notebook.cells[2].outputs = [new_output("error", ename="E", evalue="e", traceback=["t"])]


def break_warning(notebook):
    """Keep an output with a warning."""
    notebook.cells[2].outputs = [new_output("stream", name="stderr", text="a.py:1: W: old\n")]


def break_path(notebook):
    """Keep an output with a path of one machine."""
    notebook.cells[2].outputs = [new_output("stream", text="from file:///Users/me/data/a.jpg\n")]


def break_windows_path(notebook):
    """Use a Windows path of one machine in the code."""
    notebook.cells[2].source = 'DATA = "C:\\\\Users\\\\me"'


def break_size(notebook):
    """Keep an output that is too large."""
    notebook.cells[2].outputs = [new_output("stream", text="x" * 500_000)]


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (break_source, "changed since"),
        (break_numbers, "not numbered"),
        (break_lines, "16 lines"),
        (break_magic, "plain Python"),
        (break_shell, "calls a shell"),
        (break_bullets, "same 3 bullets"),
        (break_tag, "tagged 'parameters'"),
        (break_output, "ended with an error"),
        (break_warning, "wrote on standard error"),
        (break_path, "'file:///Users/me/data/a.jpg' is a path"),
        (break_windows_path, "is a path of one machine"),
        (break_size, "at most 500,000"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_check_notices(folder, damage, word):
    """Each problem of a committed notebook is found and described."""
    path = mark_as_run(make(folder, "1 + 1"))
    assert documents.problems(path, folder) == []
    notebook = documents.read(path)
    damage(notebook)
    documents.write(notebook, path)
    assert any(word in sentence for sentence in documents.problems(path, folder))


def test_check_allows_addresses_and_mids(folder):
    """URLs with a folder named home, and MIDs, are not taken for local paths."""
    path = make(folder, 'A = "https://example.org/home/x"\nB = "/m/01yrx"\nC = "../data"')
    assert documents.problems(mark_as_run(path), folder) == []


def test_missing_links_are_noticed(folder):
    """A notebook must link to its neighbours at both ends."""
    first = mark_as_run(make(folder, "1"))
    mark_as_run(make(folder, "2", name="build-dataset"))
    assert documents.problems(first, folder) == [
        "it does not link to build-dataset.ipynb at both ends"
    ]
    notebook = documents.read(first)
    for at in (1, len(notebook.cells)):
        notebook.cells.insert(at, new_markdown_cell("Next: [Build](build-dataset.ipynb)"))
    documents.write(notebook, first)
    assert documents.problems(first, folder) == []


def test_written_notebook_is_valid(folder):
    """A written notebook is valid JSON of version 4.5 and ends with a line end."""
    path = mark_as_run(make(folder, "1"))
    content = json.loads(path.read_text(encoding="utf-8"))
    nbformat.validate(content)
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    assert path.read_bytes().endswith(b"}\n")


def test_all_notebooks_are_there_and_no_other():
    """The five notebooks are found in the order of reading, and there is no other."""
    found = documents.find()
    assert [path.stem for path in found] == list(documents.ORDER.values())
    assert set(found) == set(documents.FOLDER.glob("*.ipynb"))


@pytest.mark.parametrize("path", documents.find(), ids=lambda path: path.stem)
def test_committed_notebook(path):
    """Each committed notebook passes the check."""
    assert documents.problems(path) == []
