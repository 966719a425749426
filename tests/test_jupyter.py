"""The notebooks in JupyterLab, opened in headless Chromium.

Skipped where Playwright or a Chromium is missing, but never in CI. OPENIMAGER_SCREENSHOTS names a
folder for pictures of the whole pages; OPENIMAGER_CHROMIUM the browser, where it is not found.
"""

import base64
import io
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import browser
import matplotlib
import pytest
import requests
from PIL import Image

from openimager.files import cache_folder
from tools import documents
from tools.notebooks import replace_values

ROOT = Path(__file__).resolve().parent.parent
NAMES = [path.stem for path in documents.find()]
# Small values for the parameters: enough to draw each figure, not to learn anything.
SMALL = {"LIMIT": 20, "EPOCHS": 2, "BASELINE_EPOCHS": 1, "IMAGE_SIZE": 48, "BACKBONE": None}
WITH_BARS = {"build-dataset", "distribute-model"}
NOTEBOOK_SECONDS = 240
NOT_COPIED = (".*", "data", "models", "registry", "build", "dist", "__pycache__", "*.egg-info")

# What a user sees: the numbers of code cells, red outputs (errors and warnings look the same
# in JupyterLab), dialogs and progress bars.
LOOK = """() => {
    const all = (css) => [...document.querySelectorAll('.jp-Notebook ' + css)];
    const prompts = all('.jp-CodeCell .jp-InputPrompt').map((p) => p.textContent.trim());
    const outputs = all('.jp-OutputArea-output');
    return {
        cells: prompts.length,
        numbered: prompts.filter((p) => /^\\[\\d+\\]:?$/.test(p)).length,
        red: outputs.filter((o) => /[.](error|stderr)$/.test(o.dataset.mimeType || ''))
            .map((o) => o.textContent.slice(-600)),
        dialogs: [...document.querySelectorAll('.jp-Dialog')].map((d) => d.textContent),
        broken: outputs.filter((o) => /(Loading|Error displaying) widget/.test(o.textContent))
            .length,
        bars: all('.jp-OutputArea .progress-bar').map((b) => b.getBoundingClientRect().width),
    };
}"""
PICTURES = """() => [...document.querySelectorAll('.jp-Notebook .jp-RenderedImage img')]
    .map((i) => [i.src.split(',')[1], i.getBoundingClientRect().width])"""


@pytest.fixture(scope="module")
def page():
    """A page of headless Chromium that records requests to other machines."""
    with browser.chromium() as chromium:
        yield browser.new_page(chromium, viewport={"width": 1200, "height": 1000})


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A copy of the clone without outputs of runs; its notebooks use a few photos."""
    folder = tmp_path_factory.mktemp("jupyter")
    clone = folder / "clone"
    shutil.copytree(ROOT, clone, ignore=shutil.ignore_patterns(*NOT_COPIED))
    for path in documents.find(folder=clone / "notebooks"):
        notebook = documents.read(path)
        cell = documents.parameters_cell(notebook)
        cell.source = replace_values(cell.source, SMALL)
        for cell in documents.code_cells(notebook):
            cell.outputs, cell.execution_count = [], None
        documents.write(notebook, path)
    return clone


@pytest.fixture(scope="module")
def lab(clone, page):
    """Run JupyterLab on the copy; yield its address and the headers for authentication.

    Its home, settings and caches are in the temporary folder. It depends on the browser, so that
    nothing is started where there is none.
    """
    home = clone.parent / "home"
    # Keep every cell in the page, so that all can be inspected; fetch no news.
    for plugin, values in {
        "notebook-extension/tracker": {"windowingMode": "none"},
        "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    }.items():
        settings = home / "settings" / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
        settings.parent.mkdir(parents=True)
        settings.write_text(json.dumps(values), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--ServerApp.port={port}"]
    command += ["--ServerApp.ip=127.0.0.1", "--ServerApp.port_retries=0"]
    command += [f"--ServerApp.root_dir={clone}", f"--IdentityProvider.token={token}"]
    command += ["--LabApp.extension_manager=readonly", "--LabApp.news_url="]
    command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    places = ["JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"]
    places += ["MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_DATA_HOME"]
    environment = {**os.environ, **{name: str(home / name.lower()) for name in places}}
    # The list of fonts takes seconds to make.
    (home / "mplconfigdir").mkdir()
    for fonts in Path(matplotlib.get_cachedir()).glob("fontlist-*.json"):
        shutil.copy(fonts, home / "mplconfigdir")
    # The sample is drawn once for all tests.
    environment["OPENIMAGER_CACHE"] = str(cache_folder())
    environment |= {"HOME": str(home), "USERPROFILE": str(home)}
    environment["JUPYTERLAB_SETTINGS_DIR"] = str(home / "settings")
    environment["JUPYTERLAB_WORKSPACES_DIR"] = str(home / "workspaces")
    log = home / "lab.log"
    with open(log, "wb") as stream:
        server = subprocess.Popen(command, env=environment, stdout=stream, stderr=stream, cwd=home)
    base, headers = f"http://127.0.0.1:{port}", {"Authorization": f"token {token}"}
    try:
        wait_for_server(server, base, headers, log)
        page.goto(f"{base}/lab?token={token}")
        yield base, headers
    finally:
        stop(server, base, headers)


def wait_for_server(server, base, headers, log):
    """Wait until JupyterLab answers; show its log if it does not."""
    until = time.monotonic() + 90
    while time.monotonic() < until and server.poll() is None:
        try:
            if requests.get(f"{base}/api/status", headers=headers, timeout=5).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.3)
    pytest.fail("JupyterLab did not start:\n" + log.read_text(encoding="utf-8")[-3000:])


def stop(server, base, headers):
    """Shut down the server and its kernels; kill it if it does not react."""
    try:
        requests.post(f"{base}/api/shutdown", headers=headers, timeout=10)
        server.wait(15)
    except (requests.RequestException, subprocess.TimeoutExpired):
        server.kill()
        server.wait(15)


def wait_for_kernel(page, base, headers, name):
    """Wait until the notebook's kernel is idle.

    The page's own mark says idle before there is a kernel at all, so the server is asked, too.
    """
    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=60_000)
    until = time.monotonic() + 90
    while time.monotonic() < until:
        sessions = requests.get(f"{base}/api/sessions", headers=headers, timeout=10).json()
        kernels = [s["kernel"] for s in sessions if s["path"] == f"notebooks/{name}.ipynb"]
        if any(k["execution_state"] == "idle" and k["connections"] for k in kernels):
            page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]')
            return
        if page.query_selector(".jp-Dialog"):
            break
        page.wait_for_timeout(200)
    pytest.fail(f"No kernel became idle: {kernels}")


def run_all_cells(page, base, headers, name):
    """Open a notebook, choose "Run All Cells" and return what the page shows."""
    page.goto(f"{base}/lab/tree/notebooks/{name}.ipynb?reset")
    wait_for_kernel(page, base, headers, name)
    page.click('.lm-MenuBar-itemLabel:text-is("Run")')
    page.click('.lm-Menu-itemLabel:text-is("Run All Cells")')
    until = time.monotonic() + NOTEBOOK_SECONDS
    seen = page.evaluate(LOOK)
    while seen["numbered"] < seen["cells"] and time.monotonic() < until:
        page.wait_for_timeout(300)
        seen = page.evaluate(LOOK)
        if seen["red"] or seen["dialogs"]:
            break
    page.wait_for_timeout(500)
    return page.evaluate(LOOK)


def take_screenshot(page, name):
    """Save a picture of the whole notebook to the folder OPENIMAGER_SCREENSHOTS, if set."""
    if folder := os.environ.get("OPENIMAGER_SCREENSHOTS"):
        css = ".jp-NotebookPanel .jp-WindowedPanel-outer"
        height = page.eval_on_selector(css, "panel => panel.scrollHeight")
        page.set_viewport_size({"width": 1200, "height": min(height + 200, 16_000)})
        page.eval_on_selector(css, "panel => panel.scrollTo(0, 0)")
        page.wait_for_timeout(1000)
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png")
        page.set_viewport_size({"width": 1200, "height": 1000})


def is_drawn(data, width):
    """Return whether a picture is visible in the page and has more than a few colours."""
    picture = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")
    return width > 50 and picture.resize((64, 64)).getcolors(8) is None


@pytest.mark.parametrize("name", NAMES)
def test_notebook_in_browser(lab, page, clone, name):
    """All cells run without errors; figures and progress bars are visible."""
    base, headers = lab
    for before in NAMES[: NAMES.index(name)]:
        if not (clone / f"{before}.ran").exists():
            pytest.fail(f"{before} must run before {name}.")
    seen = run_all_cells(page, base, headers, name)
    take_screenshot(page, name)
    for kernel in requests.get(f"{base}/api/kernels", headers=headers, timeout=10).json():
        requests.delete(f"{base}/api/kernels/{kernel['id']}", headers=headers, timeout=30)
    assert seen["red"] == [] and seen["dialogs"] == []
    committed = documents.read(ROOT / "notebooks" / f"{name}.ipynb")
    cells = documents.code_cells(committed)
    assert seen["numbered"] == seen["cells"] == len(cells) > 0
    (clone / f"{name}.ran").touch()
    assert seen["broken"] == 0
    if name in WITH_BARS:
        assert max(seen["bars"], default=0) > 10
    kinds = {kind for cell in cells for out in cell.outputs for kind in out.get("data", {})}
    if any(kind.startswith("image/") for kind in kinds):
        pictures = page.evaluate(PICTURES)
        assert pictures and all(is_drawn(*picture) for picture in pictures)
    assert page.outside == []
