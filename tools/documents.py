"""Reading, writing and checking the notebooks in git, and removing traces of the machine."""

import ast
import hashlib
import re
import tempfile
from pathlib import Path

from openimager.errors import BadInput

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
ORDER = {
    "exploration": "initial-exploration",
    "dataset": "build-dataset",
    "model": "build-model",
    "evaluation": "evaluate-model",
    "distribution": "distribute-model",
}
MAX_BYTES, MAX_LINES, BULLETS = 500_000, 15, 3

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_WIDGET = "application/vnd.jupyter.widget-view+json"
_BAR = re.compile(r".*(\d+%.*\|.*\||\d+[a-zA-Z]* ?\[\d+:\d\d).*")
_ABSOLUTE = re.compile(
    r"(?<![\w.~])(/(home|root|Users|tmp|var|opt|usr|mnt|srv|private)/|[A-Za-z]:\\\\?\w)"
)


def find(names=(), folder=FOLDER):
    """Return the paths of the named notebooks in reading order, or of all."""
    known = {short: Path(folder) / f"{stem}.ipynb" for short, stem in ORDER.items()}
    known |= {path.stem: path for path in known.values()}
    if unknown := [name for name in names if name not in known]:
        raise BadInput(f"There is no notebook '{unknown[0]}'. There are: {', '.join(ORDER)}.")
    wanted = [known[name] for name in names] or known.values()
    return [path for path in dict.fromkeys(known.values()) if path in wanted and path.exists()]


def read(path):
    """Return a notebook in the newest version of format 4."""
    import nbformat  # slow to import, and `find` does not need it

    return nbformat.read(path, as_version=4)


def write(notebook, path):
    r"""Write a notebook as UTF-8 with ``\n`` line ends."""
    import nbformat

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8", newline="\n")


def code_cells(notebook):
    """Return the code cells that are not empty, in order."""
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def code_hash(notebook):
    """Return the SHA256 (hex) of the code cells; changes of prose do not need a new run."""
    text = "\0".join(cell.source for cell in code_cells(notebook))
    return hashlib.sha256(text.encode()).hexdigest()


def assigned(source):
    """Return the statement for each ``NAME = value`` of some code, by name.

    >>> list(assigned("import os\\nSEED = 0\\nSIZE: int = 128"))
    ['SEED', 'SIZE']
    """
    statements = {}
    for node in ast.parse(source).body:
        targets = getattr(node, "targets", None) or [getattr(node, "target", None)]
        if len(targets) == 1 and isinstance(targets[0], ast.Name):
            statements[targets[0].id] = node
    return statements


def replace_values(source, parameters):
    """Return some code with the values of its ``NAME = value`` statements replaced.

    Names that the code does not assign are ignored; comments stay.

    >>> print(replace_values("SEED = 0  # any number\\nSIZE = (1,\\n  2)", {"SEED": 1, "SIZE": 3}))
    SEED = 1  # any number
    SIZE = 3
    """
    lines = source.splitlines()
    for name, node in reversed(assigned(source).items()):
        if name in parameters:
            comment = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode()
            line = f"{name} = {parameters[name]!r}{comment}"
            lines[node.lineno - 1 : node.end_lineno] = [line]
    return "\n".join(lines)


def parameters_cell(notebook):
    """Return the one code cell that is tagged ``parameters``."""
    cells = [cell for cell in code_cells(notebook) if "parameters" in cell.metadata.get("tags", ())]
    if len(cells) != 1:
        raise BadInput(f"{len(cells)} cells are tagged 'parameters'; there must be one.")
    return cells[0]


def tidy(notebook, root):
    """Remove from a notebook, in place, what differs between machines and runs.

    These are progress bars (in JupyterLab they are widgets, which would be shown empty),
    timings, addresses of objects, and paths: the clone `root` becomes ``..``.
    """
    import nbformat

    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    language = {"name": "python", "file_extension": ".py"}
    notebook.metadata = nbformat.from_dict({"kernelspec": kernel, "language_info": language})
    places = {str(root): "..", tempfile.gettempdir(): "<temp>", str(Path.home()): "~"}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in list(cell.get("outputs", ())):
            _change_text(output, lambda text: _without_places(text, places))
            if output.get("name") == "stderr":
                lines = ANSI.sub("", output.text).split("\n")
                output.text = "\n".join(line for line in lines if not _BAR.fullmatch(line)).strip()
            if output.get("text") == "" or _WIDGET in output.get("data", ()):
                cell.outputs.remove(output)


def _change_text(output, change):
    """Apply `change` to every text in an output; leave pictures unchanged."""
    if output.output_type == "stream":
        output.text = change(output.text)
    for kind, data in output.get("data", {}).items():
        if kind.startswith("text/") and isinstance(data, str):
            output.data[kind] = change(data)


def _without_places(text, places):
    for place in sorted(places, key=len, reverse=True):
        for form in {place, Path(place).as_posix(), place.replace("\\", "\\\\")}:
            pattern = rf"(?<![\w.]){re.escape(form)}(?![\w.-])"
            text = re.sub(pattern, places[place], text) if len(form) > 3 else text
    text = re.sub(r"<temp>[/\\]ipykernel_\d+[/\\]\d+\.py", "<cell>", text)
    return re.sub(r" at 0x[0-9a-fA-F]{6,}", " at 0x...", text)


def warnings_in(notebook):
    """Return what the code cells wrote to standard error, one line per cell."""
    return [
        f"code cell {number} wrote on standard error: {out.text.strip().splitlines()[0]}"
        for number, cell in enumerate(code_cells(notebook), 1)
        for out in cell.outputs
        if out.get("name") == "stderr" and out.text.strip()
    ]


def problems(path, folder=FOLDER):
    """Return the problems of a committed notebook, one sentence each."""
    notebook = read(path)
    cells = code_cells(notebook)
    found = [f"code cell {i} {what}" for i, cell in enumerate(cells, 1) for what in _in_code(cell)]
    found += warnings_in(notebook)
    if (size := Path(path).stat().st_size) > MAX_BYTES:
        found.append(f"it has {size:,} bytes; at most {MAX_BYTES:,} are allowed")
    if [cell.execution_count for cell in cells] != list(range(1, len(cells) + 1)):
        found.append("its cells are not numbered 1 to n: run it from the top")
    if notebook.metadata.get("openimager", {}).get("executed") != code_hash(notebook):
        found.append("its code has changed since it was executed as committed")
    try:
        parameters_cell(notebook)
    except BadInput as error:
        found.append(str(error))
    prose = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    bullets = re.findall(r"^- ((?:.|\n(?=  ))+)", "\n\n".join(prose), re.M)
    if len(bullets) < 2 * BULLETS or bullets[:BULLETS] != bullets[-BULLETS:]:
        found.append(f"it does not open and close with the same {BULLETS} bullets")
    paths = find(folder=folder)
    at = [other.name for other in paths].index(Path(path).name)
    for other in (*paths[max(0, at - 1) : at], *paths[at + 1 : at + 2]):
        if sum(f"({other.name})" in text for text in prose) < 2:
            found.append(f"it does not link to {other.name} at both ends")
    texts = [cell.source for cell in notebook.cells]
    for cell in cells:
        for output in cell.outputs:
            _change_text(output, lambda text: texts.append(text) or text)
    words = set(re.findall(r"[^\s\"'<>()]+", "\n".join(texts)))
    return found + [f"'{w}' is a path of one machine" for w in sorted(words) if _ABSOLUTE.search(w)]


def _in_code(cell):
    """Yield the problems of one code cell."""
    if (lines := len(cell.source.splitlines())) > MAX_LINES:
        yield f"has {lines} lines; at most {MAX_LINES} are allowed"
    try:
        ast.parse(cell.source)
    except SyntaxError:
        yield "is not plain Python (no magic, no shell)"
    if re.search(r"\b(get_ipython|os\.system|shell\s*=\s*True)\b", cell.source):
        yield "calls a shell"
    if any(output.output_type == "error" for output in cell.outputs):
        yield "ended with an error"
