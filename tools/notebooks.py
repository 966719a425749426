"""Run the notebooks in order, or check the committed notebooks.

    python tools/notebooks.py run [NAME ...] [--set NAME=JSON ...] [--output-dir DIR | --in-place]
    python tools/notebooks.py check [NAME ...]

A NAME is exploration, dataset, model, evaluation or distribution. A notebook runs in the Python
of this script, in its own folder; --set replaces assignments in the cell tagged `parameters`.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from jupyter_client import AsyncKernelManager
from tqdm import tqdm

# Run as a script, this file can import its neighbour only if the root is in sys.path.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from openimager.errors import BadInput
from openimager.store import Store
from tools import documents
from tools.documents import ANSI, FOLDER, ORDER, code_cells, find, problems, replace_values


class Failed(RuntimeError):
    """A notebook did not run to the end."""


class _SamePython(AsyncKernelManager):
    """Starts kernels in this Python, regardless of the user's kernel spec."""

    def format_kernel_cmd(self, extra_arguments=None):
        command = super().format_kernel_cmd(extra_arguments)
        # The kernel warns that its loopback connection is not encrypted.
        return [sys.executable, *command[1:], "--log-level=ERROR"]


def execute(path, parameters=None, out=None, timeout=3600):
    """Run a notebook in a fresh kernel and return it with its outputs, tidied.

    `parameters` replace assignments in the cell tagged ``parameters``. The executed notebook is
    written to `out`; after a failure `out` holds what ran, unless it is `path` itself. One cell
    may take `timeout` seconds. Raises `BadInput` for an unknown parameter, `Failed` if a cell
    raises or takes too long or the kernel dies.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    path, notebook = Path(path).resolve(), documents.read(path)
    if parameters:
        cell = documents.parameters_cell(notebook)
        known = documents.assigned(cell.source)
        if unknown := sorted(set(parameters) - set(known)):
            names = ", ".join(known)
            raise BadInput(f"{path.name} has no parameter {', '.join(unknown)}. It has: {names}.")
        cell.source = replace_values(cell.source, parameters)
    cells, started = code_cells(notebook), []
    bar = tqdm(total=len(cells), desc=path.stem, leave=False, disable=None)
    client = NotebookClient(
        notebook, timeout=timeout, kernel_name="python3", kernel_manager_class=_SamePython,
        resources={"metadata": {"path": str(path.parent)}}, record_timing=False,
        store_widget_state=False, coalesce_streams=True, on_cell_executed=lambda **_: bar.update(),
        on_cell_start=lambda cell, **_: started.append(cell),
    )  # fmt: skip
    failure = None
    with bar:
        try:
            client.execute()
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            cell = f"code cell {cells.index(started[-1]) + 1}"
            failure = Failed(f"{path.name}: {cell}{_describe(error)}")
    documents.tidy(notebook, path.parent.parent)
    if not parameters and failure is None:
        notebook.metadata["openimager"] = {"executed": documents.code_hash(notebook)}
    if out is not None and (failure is None or Path(out).resolve() != path):
        documents.write(notebook, out)
    if failure:
        raise failure
    return notebook


def _describe(error):
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    if not isinstance(error, CellExecutionError):
        dead = isinstance(error, DeadKernelError)
        return ": the kernel died (out of memory?)." if dead else " took too long."
    trace = ANSI.sub("", error.traceback).splitlines()
    last = [line for line in trace if line.strip("- ")][-8:]
    return "\n    ".join([f": {error.ename}: {error.evalue}", *last])


def run(names=(), parameters=None, output_dir=None, in_place=False, strict=False, folder=FOLDER):
    """Execute notebooks in order and print how long each took; stop at the first failure."""
    paths, parameters = find(names, folder), parameters or {}
    cells = {path: documents.parameters_cell(documents.read(path)) for path in paths}
    known = {path: set(documents.assigned(cell.source)) for path, cell in cells.items()}
    if unknown := sorted(set(parameters).difference(*known.values())):
        every = ", ".join(sorted(set().union(*known.values())))
        raise BadInput(f"No notebook has a parameter {', '.join(unknown)}. There are: {every}.")
    for path in paths:
        began = time.monotonic()
        out = path if in_place else Path(output_dir) / path.name if output_dir else None
        own = {name: value for name, value in parameters.items() if name in known[path]}
        notebook = execute(path, own, out)
        if strict and (found := documents.warnings_in(notebook)):
            raise Failed(f"{path.name}: {'; '.join(found)}")
        print(f"{path.stem}: {time.monotonic() - began:.0f} s", flush=True)


def _release(root):
    return (Store(root / "data").read_json("query.json") or {}).get("release", "sample")


def _setting(text):
    name, found, value = text.partition("=")
    try:
        if not (found and name.isidentifier()):
            raise ValueError
        return name, json.loads(value)
    except ValueError:
        message = f"""'{text}' is not NAME=JSON, such as 'EPOCHS=3' or 'CATEGORIES=["Apple"]'."""
        raise argparse.ArgumentTypeError(message) from None


def main(argv=None):
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("command", choices=("run", "check"))
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(ORDER)} (all)")
    parser.add_argument("--set", dest="sets", type=_setting, action="append", default=[])
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--in-place", action="store_true", help="keep the outputs in the notebooks")
    where.add_argument("--output-dir", type=Path, help="write the executed notebooks here")
    parser.add_argument("--strict", action="store_true", help="fail on warnings, too")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="the folder of the notebooks")
    args = parser.parse_intermixed_args(argv)
    try:
        if args.command == "check":
            paths = find(args.names, args.folder)
            found = [f"{p.stem}: {what}" for p in paths for what in problems(p, args.folder)]
            print("\n".join(found) or "The notebooks are as they should be.")
            return int(bool(found))
        if args.in_place and args.sets:
            raise BadInput(
                "--in-place keeps the committed parameters; use --output-dir with --set."
            )
        if args.in_place and _release(args.folder.parent) != "sample":
            raise BadInput("data/ is not of the sample: --in-place would commit other outputs.")
        run(args.names, dict(args.sets), args.output_dir, args.in_place, args.strict, args.folder)
    except (BadInput, Failed) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, BadInput) else 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
