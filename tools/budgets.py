"""Check the size of the code and the direction of its imports.

python tools/budgets.py prints each exceeded budget or wrong import, and then exits with 1.
"""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINES = {"src/openimager": 6600, "src/openimager_sample": 1100}
FILE_LINES = 300
# Data flows from left to right, and a module imports only modules to its left. The sample is not
# listed, because it is imported only when it is used.
FLOW = (
    *("errors", "files", "imports", "bucket", "store", "tables", "query", "selection", "cluster"),
    *("photos", "crops", "metrics", "predict", "plots", "gallery", "export"),
    *("package", "registry", "install", "report", "cli", "__init__", "__main__"),
)


def lines(path: Path) -> int:
    """Return the number of lines of a file."""
    return path.read_text(encoding="utf-8").count("\n")


def imported(path: Path) -> set[str]:
    """Return the modules of openimager that a file imports, in any scope."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("openimager.")}
    return found & set(FLOW)


def problems() -> list[str]:
    """Return one line for each exceeded budget or wrong import."""
    found = []
    for folder, most in LINES.items():
        total = sum(lines(path) for path in (ROOT / folder).rglob("*.py"))
        if total > most:
            found.append(f"{folder}: {total:,} lines of {most:,}")
    for path in sorted(
        p for name in ("src", "tools", "benchmarks") for p in (ROOT / name).rglob("*")
    ):
        if path.suffix == ".py" and lines(path) > FILE_LINES:
            found.append(f"{path.relative_to(ROOT)}: {lines(path)} lines of {FILE_LINES}")
    package = ROOT / "src" / "openimager"
    for path in sorted(package.rglob("*.py")):
        part = path.relative_to(package).parts[0].removesuffix(".py")
        against = [n for n in imported(path) if part in FLOW and FLOW.index(n) > FLOW.index(part)]
        found += [f"{path.relative_to(ROOT)}: imports {name}" for name in sorted(against)]
    return found


if __name__ == "__main__":
    print("\n".join(problems()) or "All budgets hold.")
    sys.exit(bool(problems()))
