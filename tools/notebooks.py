"""Run the notebooks in order, check what is committed of them, and link each to the next.

    python tools/notebooks.py run [NAME ...] [--set NAME=JSON ...] [--output-dir DIR | --in-place]
    python tools/notebooks.py check [NAME ...]
    python tools/notebooks.py links

A NAME is a short name (exploration, dataset, model, evaluation, distribution), a file stem or a
path. A notebook runs in the Python that runs this script, with its own folder as the working
directory; only the assignments in the cell tagged `parameters` can be replaced from outside.
"""

import argparse
import ast
import hashlib
import json
import re
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from jupyter_client import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from tqdm import tqdm

from openimager.errors import BadInput
from openimager.files import replacing

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
ORDER = {
    "exploration": "initial-exploration",
    "dataset": "build-dataset",
    "model": "build-model",
    "evaluation": "evaluate-model",
    "distribution": "distribute-model",
}
CELL_SECONDS = 3600
MAX_BYTES = 500_000
MAX_LINES = 15

_WIDGET = "application/vnd.jupyter.widget-view+json"
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_BAR = re.compile(r".*(\d+%\|.*\||\d+[a-zA-Z]* ?\[\d+:\d\d).*")
_ELSEWHERE = re.compile(
    r"(?<![\w.~])(/(home|root|Users|tmp|var|opt|usr|mnt|srv|private)/|[A-Za-z]:\\\\?\w)"
)


class Failed(RuntimeError):
    """A notebook did not run to its end; the message names notebook, cell and error."""


class _OwnPython(AsyncKernelManager):
    """Starts kernels in this very Python, whatever a kernel spec of the user's says."""

    def format_kernel_cmd(self, extra_arguments=None):
        command = super().format_kernel_cmd(extra_arguments)
        # The kernel warns that its loopback connection is not encrypted; nothing to be done here.
        return [sys.executable, *command[1:], "--log-level=ERROR"]


def find(names=(), folder=FOLDER):
    """Return the paths of the named notebooks in reading order; of all that exist for no name.

    Raises
    ------
    BadInput
        If there is no such notebook.
    """
    folder = Path(folder)
    known = [folder / f"{stem}.ipynb" for stem in ORDER.values()]
    if not names:
        return [path for path in known if path.exists()]
    paths = []
    for name in names:
        path = Path(name) if name.endswith(".ipynb") else folder / f"{ORDER.get(name, name)}.ipynb"
        if not path.exists():
            raise BadInput(f"There is no notebook '{name}'. There are: {', '.join(ORDER)}.")
        paths.append(path.resolve())
    return sorted(paths, key=lambda path: known.index(path) if path in known else len(known))


def code_cells(notebook):
    """Return the code cells that hold any code, in order."""
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def code_hash(notebook):
    """Return the SHA256 (hex) of the code cells; prose and links may change without a new run."""
    text = "\0".join(cell.source for cell in code_cells(notebook))
    return hashlib.sha256(text.encode()).hexdigest()


def parameters_cell(notebook):
    """Return the one code cell that is tagged ``parameters``.

    Raises
    ------
    BadInput
        If there is none, or more than one.
    """
    cells = [cell for cell in code_cells(notebook) if "parameters" in cell.metadata.get("tags", ())]
    if len(cells) != 1:
        raise BadInput(f"{len(cells)} cells are tagged 'parameters'; there must be one.")
    return cells[0]


def assigned(source):
    """Return the value node of each ``NAME = value`` statement of some code, by name.

    >>> list(assigned("import os\\nSEED = 0\\nSIZE: int = 128"))
    ['SEED', 'SIZE']
    """
    values = {}
    for node in ast.parse(source).body:
        targets = getattr(node, "targets", None) or [getattr(node, "target", None)]
        if len(targets) == 1 and isinstance(targets[0], ast.Name):
            values[targets[0].id] = node.value
    return values


def replace_values(source, parameters):
    """Return some code with the values of its ``NAME = value`` statements replaced.

    Names that the code does not assign are left alone; comments stay where they are.

    >>> print(replace_values("SEED = 0  # any number\\nSIZE = (1,\\n  2)", {"SEED": 1, "SIZE": 3}))
    SEED = 1  # any number
    SIZE = 3
    """
    lines = source.encode().splitlines(keepends=True)
    starts = [sum(map(len, lines[:i])) for i in range(len(lines))]
    code = source.encode()
    # From the last to the first, so that the offsets of those still to come hold.
    for name, node in reversed(assigned(source).items()):
        if name in parameters:
            begin = starts[node.lineno - 1] + node.col_offset
            end = starts[node.end_lineno - 1] + node.end_col_offset
            code = code[:begin] + repr(parameters[name]).encode() + code[end:]
    return code.decode()


def execute(path, parameters=None, out=None, cwd=None, timeout=CELL_SECONDS, progress=False):
    """Run a notebook in a fresh kernel and return it with its outputs, tidied for reading.

    Parameters
    ----------
    path : path-like
        The notebook; it is not changed unless it is `out` as well.
    parameters : dict of str to object, optional
        New values for assignments in the cell tagged ``parameters``.
    out : path-like, optional
        Where to write the executed notebook. After a failure it holds what ran, unless it is
        `path` itself, which is then left as it was.
    cwd : path-like, optional
        The kernel's working directory; by default the notebook's folder.
    timeout : float
        Seconds that one cell may take.
    progress : bool
        Show a bar over the cells when standard error is a terminal.

    Raises
    ------
    BadInput
        If the parameters cell does not assign one of the `parameters`.
    Failed
        If a cell raises or takes too long, or the kernel dies.
    """
    path = Path(path).resolve()
    notebook = nbformat.read(path, as_version=4)
    if parameters:
        cell = parameters_cell(notebook)
        known = assigned(cell.source)
        if unknown := sorted(set(parameters) - set(known)):
            raise BadInput(
                f"{path.name} has no parameter {', '.join(unknown)}. It has: {', '.join(known)}."
            )
        cell.source = replace_values(cell.source, parameters)
    notebook.metadata.pop("openimager", None)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    bar = tqdm(
        total=len(code_cells(notebook)), desc=path.stem, leave=False, disable=not progress or None
    )
    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        kernel_manager_class=_OwnPython,
        resources={"metadata": {"path": str(cwd or path.parent)}},
        record_timing=False,
        store_widget_state=False,
        on_cell_executed=lambda **_: bar.update(),
    )
    failure = None
    with bar:
        try:
            client.execute()
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            failure = Failed(f"{path.name}: {_describe(notebook, error)}")
    tidy(notebook, path.parent.parent)
    if not parameters and failure is None:
        notebook.metadata["openimager"] = {"executed": code_hash(notebook)}
    if out is not None and (failure is None or Path(out).resolve() != path):
        write(notebook, out)
    if failure:
        raise failure
    return notebook


def write(notebook, path):
    """Write a notebook as UTF-8 with ``\\n`` line ends, whole or not at all."""
    with replacing(path) as part, open(part, "w", encoding="utf-8", newline="\n") as stream:
        nbformat.write(notebook, stream)


def _describe(notebook, error):
    """Return what a person needs to know of a failed run: which cell, which error, last lines."""
    if isinstance(error, DeadKernelError):
        return "the kernel died (out of memory?)."
    cells = code_cells(notebook)
    # nbclient numbers a cell only when it has ended, so the last one begun is the one that failed.
    number = max((i for i, cell in enumerate(cells, 1) if cell.execution_count), default=0)
    if isinstance(error, CellTimeoutError):
        return f"code cell {min(number + 1, len(cells))} took too long."
    trace = [line for line in _ANSI.sub("", error.traceback).splitlines() if line.strip("- ")]
    return "\n    ".join([f"code cell {number}: {error.ename}: {error.evalue}", *trace[-10:-1]])


def tidy(notebook, root):
    """Take out of a notebook what differs between machines and runs; changes it in place.

    Progress bars go (live they are widgets, of which a reader would see an empty one), and so
    do timings, widget states, addresses of objects, and the paths of this machine.

    Parameters
    ----------
    notebook : nbformat.NotebookNode
    root : Path
        The clone; its absolute path becomes ``..``, as seen from notebooks/.
    """
    notebook.metadata.pop("widgets", None)
    notebook.metadata["kernelspec"] = {
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
        "name": "python3",
    }
    notebook.metadata["language_info"] = {"name": "python", "file_extension": ".py"}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = _merged(_shown(_merged(cell.outputs)))
            for output in cell.outputs:
                _map_text(output, lambda text: _clean(text, root))


def _merged(outputs):
    """Join neighbouring pieces of one stream."""
    merged = []
    for output in outputs:
        last = merged[-1] if merged else None
        if output.output_type == "stream" and last and last.get("name") == output.name:
            last["text"] += output.text
        elif _WIDGET not in output.get("data", {}):
            merged.append(output)
    return merged


def _shown(outputs):
    """Keep of each line what a terminal would show at the end, and no progress bar."""
    for output in outputs:
        if output.output_type == "stream":
            lines = output.text.replace("\b", "").replace("\r\n", "\n").split("\n")
            lines = [line.rstrip("\r").rpartition("\r")[2] for line in lines]
            if output.name == "stderr":
                lines = [line for line in lines if not _BAR.fullmatch(_ANSI.sub("", line))]
            output["text"] = "\n".join(lines)
    return [out for out in outputs if out.output_type != "stream" or out.text.strip()]


def _map_text(output, change):
    """Apply `change` to every text that an output holds; pictures are left alone."""
    if output.output_type == "stream":
        output["text"] = change(output.text)
    for kind, data in output.get("data", {}).items():
        if kind.startswith("text/") and isinstance(data, str):
            output["data"][kind] = change(data)


def _clean(text, root):
    places = {str(root): "..", tempfile.gettempdir(): "<temp>", str(Path.home()): "~"}
    for place, short in sorted(places.items(), key=lambda item: -len(item[0])):
        for form in {place, Path(place).as_posix(), place.replace("\\", "\\\\")}:
            if len(form) > 3:
                text = re.sub(rf"(?<![\w.]){re.escape(form)}(?![\w.-])", lambda _, s=short: s, text)
    text = re.sub(r"<temp>[/\\]ipykernel_\d+[/\\]\d+\.py", "<cell>", text)
    return re.sub(r" at 0x[0-9a-fA-F]{6,}", " at 0x...", text)


def warnings_in(notebook):
    """Return what the code cells left on standard error, one line for each cell that did.

    Progress bars are taken out by `tidy`, so what is left is a warning or a log line.
    """
    found = []
    for number, cell in enumerate(code_cells(notebook), 1):
        text = "".join(out.text for out in cell.outputs if out.get("name") == "stderr").strip()
        if text:
            found.append(f"code cell {number} wrote on standard error: {text.splitlines()[0]}")
    return found


def run(names=(), parameters=None, output_dir=None, in_place=False, strict=False, folder=FOLDER):
    """Execute notebooks in order, saying how long each took; stop at the first that fails."""
    paths = find(names, folder)
    parameters = parameters or {}
    here = {path: _parameters_of(path) for path in paths}
    if unknown := sorted(set(parameters).difference(*here.values())):
        every = ", ".join(sorted(set().union(*here.values()))) or "none"
        raise BadInput(f"No notebook has a parameter {', '.join(unknown)}. There are: {every}.")
    for path in paths:
        began = time.monotonic()
        out = path if in_place else Path(output_dir) / path.name if output_dir else None
        own = {name: value for name, value in parameters.items() if name in here[path]}
        notebook = execute(path, own, out, progress=True)
        if strict and (found := warnings_in(notebook)):
            raise Failed(f"{path.name}: {'; '.join(found)}")
        seconds = time.monotonic() - began
        print(f"{path.stem}: {len(code_cells(notebook))} cells in {seconds:.0f} s", flush=True)


def _parameters_of(path):
    return set(assigned(parameters_cell(nbformat.read(path, as_version=4)).source))


def _setting(text):
    name, found, value = text.partition("=")
    try:
        if not (found and name.isidentifier()):
            raise ValueError
        return name, json.loads(value)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"""'{text}' is not NAME=JSON, such as 'EPOCHS=3' or 'CATEGORIES=["Apple"]'."""
        ) from None


def main(argv=None):
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=FOLDER, help="the folder of the notebooks")
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("run", help="execute notebooks in order")
    runs.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(ORDER)} (all)")
    runs.add_argument(
        "--set", dest="sets", type=_setting, action="append", default=[], metavar="NAME=JSON",
        help="replace an assignment in the parameters cell, wherever it exists",
    )  # fmt: skip
    where = runs.add_mutually_exclusive_group()
    where.add_argument("--in-place", action="store_true", help="keep the outputs in the notebooks")
    where.add_argument("--output-dir", type=Path, help="write the executed notebooks here")
    runs.add_argument("--strict", action="store_true", help="fail on a warning, too")
    args = parser.parse_args(argv)
    try:
        if args.in_place and args.sets:
            raise BadInput("--in-place keeps the committed parameters; use --output-dir with --set")
        run(args.names, dict(args.sets), args.output_dir, args.in_place, args.strict, args.folder)
    except (BadInput, Failed) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, BadInput) else 1
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
