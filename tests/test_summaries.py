"""The charts of the Quilt catalogue, drawn from the data that the first notebook writes."""

import copy
import io
import json
import posixpath
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from openimager import query, sample
from openimager.store import Store
from tools import documents
from tools.notebooks import execute

SUMMARIES = Path(__file__).resolve().parent.parent / "summaries"
COMMON = SUMMARIES / "top-image-labels.vl.json"
HIERARCHY = SUMMARIES / "hierarchy.vg.json"
FRUIT = SUMMARIES.parent.parent / "shared" / "mirror" / "fruit" / "2018_04"
BLUE = (0x00, 0x72, 0xB2)
NODE = {"depth": 1, "edge": "kind", "LabelName": "/m/0", "places": 1, "boxes": 5, "chosen": False}
NODES = [
    {**NODE, "id": 0, "parent": -1, "depth": 0, "edge": "root", "Category": "Entity"},
    {**NODE, "id": 1, "parent": 0, "Category": "Sandwich", "chosen": True},
    {**NODE, "id": 2, "parent": 1, "depth": 2, "Category": "Hamburger"},
    {**NODE, "id": 3, "parent": 0, "edge": "part", "Category": "Bread", "boxes": 0},
]
TABLE = "Category,LabelName,Boxes\nCat,/m/01yrx,40\nDog,/m/0bt9lr,1200\n"


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


def source(spec):
    """Return the part of a chart that has the address of its data."""
    return spec["data"][0] if isinstance(spec["data"], list) else spec["data"]


def with_data(path, values):
    """Return a chart with its data in place of their address."""
    spec = copy.deepcopy(load(path))
    part = source(spec)
    del part["url"]
    part["values"] = values
    return spec


def texts(svg):
    return re.findall(r"<text[^>]*>([^<]+)</text>", svg)


@pytest.fixture(scope="module")
def convert():
    return pytest.importorskip("vl_convert", reason="vl-convert-python is not installed")


@pytest.mark.parametrize(
    ("path", "target", "kind"),
    [
        (COMMON, "data/summaries/top-image-labels.csv", "csv"),
        (HIERARCHY, "data/summaries/hierarchy.json", "json"),
    ],
    ids=lambda value: getattr(value, "stem", None),
)
def test_chart_says_where_its_data_are(path, target, kind):
    """The data's address is relative to the chart, as the catalogue needs it.

    The catalogue resolves a relative address in `data` (not deeper) against the chart's own path
    in the package, and signs it; a signed address has no ending, so the format must be named.
    """
    spec = load(path)
    part = source(spec)
    assert posixpath.normpath(posixpath.join("summaries", part["url"])) == target
    assert part["format"]["type"] == kind
    assert re.fullmatch(r"https://vega\.github\.io/schema/vega(-lite)?/v5\.json", spec["$schema"])
    assert "url" not in json.dumps({key: spec[key] for key in spec if key != "data"})


def test_common_categories_are_bars_with_numbers(convert):
    """Each row of the table is a bar with name and number; the longest is first."""
    spec = with_data(COMMON, TABLE)
    shown = texts(convert.vegalite_to_svg(spec))
    assert shown.index("Dog") < shown.index("Cat")
    assert {"40", "1,200", "The most common categories", "boxes (all subsets)"} <= set(shown)
    picture = Image.open(io.BytesIO(convert.vegalite_to_png(spec))).convert("RGB")
    blue = (np.asarray(picture) == BLUE).all(axis=2).sum(axis=1)
    lengths = sorted(set(blue[blue > 5]))
    assert lengths[-1] / lengths[0] == pytest.approx(1200 / 40, rel=0.1)


def test_hierarchy_is_an_outline(convert):
    """Each node is a line of text, indented by its depth; chosen nodes are bold."""
    svg = convert.vega_to_svg(with_data(HIERARCHY, NODES))
    shown = texts(svg)
    assert [name for name in shown if name in {node["Category"] for node in NODES}] == [
        node["Category"] for node in NODES
    ]
    left = [float(re.search(rf"translate\(([\d.]+),[^>]*>{name}<", svg)[1]) for name in shown[:4]]
    steps = [node["depth"] for node in NODES]
    assert left == [left[0] + step * (left[1] - left[0]) for step in steps] and left[1] > left[0]
    bold = re.findall(r'<text[^>]*font-weight="bold"[^>]*>([^<]+)<', svg)
    assert "Sandwich" in bold and "Hamburger" not in bold


def test_whole_hierarchy_is_drawn_without_overlap(convert):
    """848 nodes, as many as in Open Images, are inside the picture and do not overlap."""
    nodes = [{**NODE, "id": i, "parent": 0, "Category": f"Category {i}"} for i in range(848)]
    svg = convert.vega_to_svg(with_data(HIERARCHY, nodes))
    width, height = (
        float(re.search(rf'{name}="([\d.]+)"', svg)[1]) for name in ("width", "height")
    )
    places = re.findall(r"translate\(([\d.]+),([\d.]+)\)[^>]*>Category \d+<", svg)
    places = [(float(x), float(y)) for x, y in places]
    assert len(set(places)) == 848
    assert all(x < width - 60 and y < height for x, y in places)
    rows = sorted({y for _, y in places})
    assert min(np.diff(rows)) >= 9.9


@pytest.fixture(scope="module", params=["sample", "fruit"])
def explored(request, tmp_path_factory):
    """Run the first notebook on the recorded query, with the sample and with real tables."""
    folder = tmp_path_factory.mktemp("explored")
    if request.param == "sample":
        tables, names = sample.build(folder / "site", photos=12), ["dog", "Cat"]
    else:
        tables, names = FRUIT, ["Apple", "Banana", "Orange"]
        if not FRUIT.is_dir():
            pytest.skip("../shared/mirror/fruit is not there")
    # Recorded as by the command line, with the base URL of the tables.
    asked, data = query.Query(tuple(names), "v4", "all"), Store(folder)
    data.write_json(query.NAME, asked.to_json())
    data.write_json(query.SITE, {"base_url": str(tables)})
    path = SUMMARIES.parent / "notebooks" / "initial-exploration.ipynb"
    notebook = execute(path, {"DATA_DIR": str(folder)})
    assert documents.warnings_in(notebook) == []
    outputs = [out for cell in documents.code_cells(notebook) for out in cell.outputs]
    printed = "".join(out.get("text", "") for out in outputs)
    return request.param, folder / "summaries", printed


def test_first_notebook_says_what_the_tables_hold(explored):
    """Numbers are those of the site's tables; a missing table of labels is reported."""
    site, _, printed = explored
    assert f"release v4: {dict(sample=26, fruit=601)[site]} categories" in printed
    if site == "fruit":
        assert "190 of 601 categories have more than one" in printed
        assert "There is no table of human-verified labels here" in printed
    else:
        assert "labels in all" in printed


def test_charts_draw_what_the_first_notebook_writes(explored, convert):
    """Both charts show the categories of the written files; no other files are written."""
    site, written, _ = explored
    assert sorted(path.name for path in written.iterdir()) == [
        "hierarchy.json",
        "top-image-labels.csv",
    ]
    table = (written / "top-image-labels.csv").read_text(encoding="utf-8")
    shown = texts(convert.vegalite_to_svg(with_data(COMMON, table)))
    names = [line.split(",")[0] for line in table.splitlines()[1:]]
    assert [text for text in shown if text in names] == names
    svg = convert.vega_to_svg(with_data(HIERARCHY, load(written / "hierarchy.json")))
    bold = re.findall(r'<text[^>]*font-weight="bold"[^>]*fill="#0072B2"[^>]*>([^<]+)<', svg)
    chosen = {"sample": {"Cat", "Dog"}, "fruit": {"Apple", "Banana", "Orange"}}[site]
    assert set(bold) == chosen
    assert {"Entity", "Sandwich", "Hamburger"} <= set(texts(svg))
