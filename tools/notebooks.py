"""Run the notebooks in order, check what is committed of them, and link each to the next.

    python tools/notebooks.py run [NAME ...] [--set NAME=JSON ...] [--output-dir DIR | --in-place]
    python tools/notebooks.py check [NAME ...]
    python tools/notebooks.py links

A NAME is a short name (exploration, dataset, model, evaluation, distribution), a file stem or a
path. A notebook runs in the Python that runs this script, with its own folder as the working
directory; only the assignments in the cell tagged `parameters` can be replaced from outside.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from jupyter_client import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from tqdm import tqdm

from openimager.errors import BadInput

# As a script this file finds its neighbour only from the clone's root.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.documents import (
    ANSI,
    FOLDER,
    ORDER,
    assigned,
    code_cells,
    code_hash,
    find,
    link,
    parameters_cell,
    read,
    tidy,
    troubles,
    warnings_in,
    write,
)

CELL_SECONDS = 3600


class Failed(RuntimeError):
    """A notebook did not run to its end; the message names notebook, cell and error."""


class _OwnPython(AsyncKernelManager):
    """Starts kernels in this very Python, whatever a kernel spec of the user's says."""

    def format_kernel_cmd(self, extra_arguments=None):
        command = super().format_kernel_cmd(extra_arguments)
        # The kernel warns that its loopback connection is not encrypted; nothing to be done here.
        return [sys.executable, *command[1:], "--log-level=ERROR"]


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
    notebook = read(path)
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


def _describe(notebook, error):
    """Return what a person needs to know of a failed run: which cell, which error, last lines."""
    if isinstance(error, DeadKernelError):
        return "the kernel died (out of memory?)."
    cells = code_cells(notebook)
    errors = [
        (number, output)
        for number, cell in enumerate(cells, 1)
        for output in cell.outputs
        if output.output_type == "error"
    ]
    if errors and isinstance(error, CellExecutionError):
        number, output = errors[0]
        trace = ANSI.sub("", "\n".join(output.traceback)).splitlines()
        what = f"code cell {number}: {output.ename}: {output.evalue}"
        return "\n    ".join([what, *[line for line in trace if line.strip("- ")][-8:]])
    # The cell that was stopped has an error of its own, or no number yet.
    done = sum(1 for cell in cells if cell.execution_count)
    return f"code cell {errors[0][0] if errors else min(done + 1, len(cells))} took too long."


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
    return set(assigned(parameters_cell(read(path)).source))


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
    checks = commands.add_parser("check", help="say what is wrong with the committed notebooks")
    checks.add_argument("names", nargs="*", metavar="NAME", help="(all)")
    commands.add_parser("links", help="write the links between neighbours")
    args = parser.parse_args(argv)
    try:
        return _act(args)
    except (BadInput, Failed) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, BadInput) else 1
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130


def _act(args):
    """Do what the command line asks for; return the exit status."""
    if args.command == "links":
        for path in link(args.folder):
            print(f"{path.stem}: links written")
    elif args.command == "check":
        found = {path: troubles(path, args.folder) for path in find(args.names, args.folder)}
        for path, sentences in found.items():
            for sentence in sentences:
                print(f"{path.stem}: {sentence}")
        return 1 if any(found.values()) else 0
    elif args.in_place and args.sets:
        raise BadInput("--in-place keeps the committed parameters; use --output-dir with --set.")
    else:
        settings = dict(args.sets)
        run(args.names, settings, args.output_dir, args.in_place, args.strict, args.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
