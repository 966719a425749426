"""What a notebook in git is: tidy, executed as committed, small, and linked to its neighbours."""

import ast
import hashlib
import re
import tempfile
from pathlib import Path

import nbformat

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
MAX_BYTES = 500_000
MAX_LINES = 15
BULLETS = 3

_WIDGET = "application/vnd.jupyter.widget-view+json"
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_BAR = re.compile(r".*(\d+%\|.*\||\d+[a-zA-Z]* ?\[\d+:\d\d).*")
_ELSEWHERE = re.compile(
    r"(?<![\w.~])(/(home|root|Users|tmp|var|opt|usr|mnt|srv|private)/|[A-Za-z]:\\\\?\w)"
)


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


def read(path):
    """Return a notebook in the newest version of format 4."""
    return nbformat.read(path, as_version=4)


def write(notebook, path):
    """Write a notebook as UTF-8 with ``\\n`` line ends, whole or not at all."""
    with replacing(path) as part, open(part, "w", encoding="utf-8", newline="\n") as stream:
        nbformat.write(notebook, stream)


def code_cells(notebook):
    """Return the code cells that hold any code, in order."""
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def code_hash(notebook):
    """Return the SHA256 (hex) of the code cells; prose and links may change without a new run."""
    text = "\0".join(cell.source for cell in code_cells(notebook))
    return hashlib.sha256(text.encode()).hexdigest()


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
                lines = [line for line in lines if not _BAR.fullmatch(ANSI.sub("", line))]
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


def troubles(path, folder=FOLDER):
    """Return what is wrong with a committed notebook, one sentence each.

    Parameters
    ----------
    path : path-like
        The notebook.
    folder : path-like
        Where its neighbours are.
    """
    path = Path(path)
    notebook = read(path)
    cells = code_cells(notebook)
    found = [f"code cell {i} {what}" for i, cell in enumerate(cells, 1) for what in _in_code(cell)]
    found += warnings_in(notebook)
    if (size := path.stat().st_size) > MAX_BYTES:
        found.append(f"it has {size:,} bytes; at most {MAX_BYTES:,} are allowed")
    if [cell.execution_count for cell in cells] != list(range(1, len(cells) + 1)):
        found.append("its cells are not numbered 1 to n: run it from the top")
    if notebook.metadata.get("openimager", {}).get("executed") != code_hash(notebook):
        found.append("its code has changed since it was executed as committed")
    try:
        parameters_cell(notebook)
    except BadInput as error:
        found.append(str(error))
    opening, closing = bullets(notebook)
    if len(opening) != BULLETS or opening != closing:
        found.append(f"it does not open and close with the same {BULLETS} bullets")
    if _linked(notebook, path, folder) != notebook.cells:
        found.append("its links to its neighbours are missing or old: run links")
    found += [f"'{name}' is a path of one machine" for name in sorted(_paths(notebook))]
    return found


def _in_code(cell):
    """Yield what is wrong with one code cell."""
    if (lines := len(cell.source.splitlines())) > MAX_LINES:
        yield f"has {lines} lines; at most {MAX_LINES} are allowed"
    try:
        ast.parse(cell.source)
    except SyntaxError:
        yield "is not plain Python (no magic, no shell)"
    # Another Python, started from a list of arguments, is no shell.
    if re.search(r"\b(get_ipython|os\.system|shell\s*=\s*True)\b", cell.source):
        yield "calls a shell"
    if any(output.output_type == "error" for output in cell.outputs):
        yield "ended with an error"


def _paths(notebook):
    """Return the absolute paths in sources and in the text of outputs, as far as recognised."""
    texts = [cell.source for cell in notebook.cells]
    for cell in code_cells(notebook):
        for output in cell.outputs:
            _map_text(output, lambda text: texts.append(text) or text)
    words = re.findall(r"[^\s\"'<>()]+", "\n".join(texts))
    return {word for word in words if _ELSEWHERE.search(word)}


def bullets(notebook):
    """Return the first and the last list of a notebook's prose, each a list of strings.

    The first stands before all code, the last after it; a missing one is empty.
    """
    code = [i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"] or [0]
    before = "\n\n".join(cell.source for cell in notebook.cells[: code[0]])
    after = "\n\n".join(cell.source for cell in notebook.cells[code[-1] + 1 :])
    opening, closing = _lists(before), _lists(after)
    return (opening[0] if opening else []), (closing[-1] if closing else [])


def _lists(text):
    """Split prose into its bullet lists.

    >>> _lists("Do:\\n\\n- a\\n- b,\\n  c\\n\\nThen\\n- d")
    [['a', 'b, c'], ['d']]
    """
    lists, inside = [], False
    for line in text.splitlines():
        if match := re.match(r"[-*] +(.*)", line):
            if not inside:
                lists.append([])
            lists[-1].append(match[1].strip())
        elif inside and line.startswith("  "):
            lists[-1][-1] += " " + line.strip()
        inside = bool(match) or (inside and line.startswith("  "))
    return lists


def link(folder=FOLDER):
    """Write the cells that link each notebook to its neighbours; return the changed paths."""
    changed = []
    for path in find(folder=folder):
        notebook = read(path)
        cells = _linked(notebook, path, folder)
        if cells != notebook.cells:
            notebook.cells = cells
            write(notebook, path)
            changed.append(path)
    return changed


def _linked(notebook, path, folder):
    """Return the cells of a notebook with a line of links second and last."""
    paths = [other.name for other in find(folder=folder)]
    at = paths.index(Path(path).name)
    parts = []
    if at > 0:
        parts.append(f"Previous: {_link_to(Path(folder) / paths[at - 1])}")
    if at + 1 < len(paths):
        parts.append(f"Next: {_link_to(Path(folder) / paths[at + 1])}")
    rest = [c for c in notebook.cells if "navigation" not in c.metadata.get("tags", ())]
    if not parts:
        return rest
    cells = []
    for name in ("links-top", "links-end"):
        cell = nbformat.v4.new_markdown_cell(" | ".join(parts), metadata={"tags": ["navigation"]})
        cell["id"] = name
        cells.append(cell)
    return [*rest[:1], cells[0], *rest[1:], cells[1]]


def _link_to(path):
    heading = re.search(r"^# +(.+)$", "\n".join(c.source for c in read(path).cells), re.MULTILINE)
    return f"[{heading[1].strip() if heading else path.stem}]({path.name})"
