"""The command line: its output on stdout and stderr, and its exit status."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from builders import jpeg, photo_row, write_site
from web import body, status, web

from openimager import cli, report
from openimager.photos import download
from openimager.photos.photo import Settings

ROOT = Path(__file__).parents[1]


def process(*arguments, cwd, program=("-m", "openimager")):
    """Run the command in a process; it must never print a traceback."""
    done = subprocess.run(
        [sys.executable, *program, *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True, timeout=60, encoding="utf-8",
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Return a function that runs the command in this process, in a temporary folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(download, "_DEFAULTS", Settings(backoff=0.01))

    def run(*arguments):
        try:
            code = cli.main([*map(str, arguments)])
        except SystemExit as ended:  # from argparse
            code = ended.code
        said = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, code, said.out, said.err)

    return run


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Serve three photos of cats, the second one gone; yield tables and server."""
    with web() as server:
        photos = [jpeg(n) for n in range(3)]
        urls = [f"{server.url}/{n}_o.jpg" for n in range(3)]
        rows = [photo_row(n, urls[n], photos[n]) for n in range(3)]
        server.pages |= {f"/{n}_o.jpg": body(photos[n]) for n in (0, 2)}
        yield write_site(tmp_path_factory.mktemp("site"), rows), server


def test_a_download(site, tmp_path):
    """Photos and tables are written, counts go to stderr, stdout is empty, the status is 0."""
    tables, _ = site
    done = process("cat", "--base-url", tables, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert any(line.split()[:2] == ["ok", "2"] for line in lines)
    assert any(line.split()[:2] == ["gone", "1"] for line in lines)
    names = {path.name for path in (tmp_path / "data").iterdir() if path.name[0] != "."}
    assert names == {"images", "images.csv", "boxes.csv", "ATTRIBUTION.csv", "query.json"}
    assert len(list((tmp_path / "data" / "images").iterdir())) == 2


def test_as_a_folder(site, tmp_path):
    """`python src/openimager` does the same as `python -m openimager`."""
    tables, _ = site
    program = (ROOT / "src" / "openimager",)
    done = process("Cat", "--base-url", tables, "--quiet", cwd=tmp_path, program=program)
    assert (done.returncode, done.stderr) == (0, "")


def test_something_failed(run, tmp_path):
    """If a photo may still be downloaded later, the status is 1."""
    with web() as server:
        server.pages["/a_o.jpg"] = jpeg(0)
        server.pages["/b_o.jpg"] = status(500)
        rows = [photo_row(n, f"{server.url}/{name}_o.jpg") for n, name in enumerate("ab")]
        tables = write_site(tmp_path, rows)
        done = run("Cat", "--base-url", tables)
    assert done.returncode == 1
    assert "run again" in done.stderr


def test_report(run, tmp_path):
    """The report lists sources, and why some failed; 429 in a path is no answer of 429."""
    with web() as server:
        rows = []
        for number in range(12):
            rows.append(photo_row(number, f"{server.url}/{number}_o.jpg", jpeg(number)))
            server.pages[f"/{number}_o.jpg"] = jpeg(number) if number < 6 else status(404)
            server.pages[f"/copies429/{number:016x}"] = jpeg(number) if number < 8 else status(500)
        server.pages |= {f"/copies429/{number:016x}": status(404) for number in (8, 9)}
        tables = write_site(tmp_path, rows)
        template = f"{server.url}/copies429/{{ImageID}}"
        done = run("Cat", "--base-url", tables, "--source", "flickr", "--source", template)
    assert done.returncode == 1 and done.stdout == ""
    lines = [" ".join(line.split()) for line in done.stderr.splitlines()]
    assert lines[1:] == [
        "ok 8 on disk",
        "6 flickr: originals",
        f"2 {template}: as served, because flickr: answered 404 (2)",
        "gone 2 gone for good",
        f"2 flickr: answered 404; {template}: answered 404",
        "failed 2 not fetched; run again to try them again",
        f"2 flickr: answered 404; {template}: answered 500",
    ]


def test_three_reasons_at_most():
    """Only the three most common reasons are listed, the most common first."""
    errors = [f"reason {n}" for n in range(5) for _ in range(n + 1)]
    photos = pd.DataFrame({"Status": "gone", "Source": "", "Error": errors})
    lines = [" ".join(line.split()) for line in report.outcome(photos)]
    reasons = ["5 reason 4", "4 reason 3", "3 reason 2"]
    assert lines[1:-1] == ["gone 15 gone for good", *reasons]


def test_options_are_keywords():
    """Only given options are passed on; repeatable options are lists."""
    names = ("subset", "drop", "without", "merge", "source")
    words = [word for name in names for value in "ab" for word in (f"--{name}", value)]
    found = vars(cli.parser().parse_args([*words, "--limit", "3", "--rate", "0.5"]))
    expected = {key: ["a", "b"] for key in names} | {"categories": [], "limit": 3, "rate": 0.5}
    assert found == expected


def test_forecast():
    """Durations are in seconds, minutes or hours; a copy is estimated at 294 kB."""
    counts = {"in all": {"photos": 9000, "boxes": 1, "unknown": 0, "bytes": 30e9, "unsized": 0}}
    counts["in all"]["licences"] = {}
    lines = list(report.forecast(counts))
    assert lines[-2] == "originals from Flickr: 30.0 GB, about 40 min at 100 Mbit/s"
    assert lines[-1] == "or copies from the mirror: about 2.6 GB, about 4 min at 100 Mbit/s"
    assert "about 2.5 h at 1 photos" in list(report.forecast(counts, 1.0))[-2]


def test_nothing_on_disk(run, tmp_path):
    """If all photos are gone, nothing is on disk and the status is 1."""
    with web() as server:
        tables = write_site(tmp_path, [photo_row(0, f"{server.url}/a_o.jpg")])
        assert run("Cat", "--base-url", tables).returncode == 1


def test_dry_run(run, site, tmp_path):
    """The counts go to stdout, and no photo is requested."""
    tables, server = site
    before = len(server.asked)
    done = run("Cat", "Dog", "--dry-run", "--base-url", tables)
    assert done.returncode == 0 and len(server.asked) == before
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[0][:2] == ["photos", "boxes"]
    assert rows[1][:3] == ["Cat", "3", "3"] and rows[2][:3] == ["Dog", "0", "0"]
    assert "warning: There is no photo of Dog in train." in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_list(run, site, tmp_path):
    """Matches go to stdout, one per line: MID, name, children."""
    tables, _ = site
    done = run("--list", "OG", "--base-url", tables)
    assert (done.returncode, done.stdout) == (0, "/m/0bt9lr\tDog\t\n")
    others = ["--dry-run", "--workers", "2", "--source", "cvdf", "--data-dir", "none", "--quiet"]
    listed = run("--list", *others, "--base-url", tables)
    assert len(listed.stdout.splitlines()) == 2 and not (tmp_path / "none").exists()


def test_list_of_names_on_disk(run, tmp_path):
    """With --class-names, neither the class table nor the hierarchy is needed."""
    (tmp_path / "mine.csv").write_text("/m/01yrx,Moggy\n", encoding="utf-8")
    with web() as server:
        done = run("--list", "--class-names", "mine.csv", "--base-url", server.url)
        assert done.stdout == "/m/01yrx\tMoggy\t\n"
        assert not server.times("/class-descriptions-boxable.csv")


def test_reader_that_hangs_up(tmp_path):
    """`openimager --list | head` ends without an error."""
    rows = "".join(f"/m/0{n},{'Cat' * 100} {n}\n" for n in range(2000))
    (tmp_path / "mine.csv").write_text(rows, encoding="utf-8")
    tables = write_site(tmp_path, [])
    command = [sys.executable, "-m", "openimager", "--list", "--class-names", "mine.csv"]
    process = subprocess.Popen(
        [*command, "--base-url", tables], cwd=tmp_path, stdout=-1, stderr=-1, text=True
    )
    process.stdout.readline()
    process.stdout.close()
    assert (process.stderr.read(), process.wait(60)) == ("", 0)
    process.stderr.close()


def test_merged_and_without(run, site, tmp_path):
    """--merge and --without change the selection."""
    tables, _ = site
    words = ["--dry-run", "--merge", "Pet=Cat,Dog", "--without", "Dog", "--base-url", tables]
    done = run("Cat", *words)
    assert "'Dog' is both wanted and excluded" in done.stderr
    done = run(*words[:3], *words[5:])
    assert done.stdout.splitlines()[1].split()[:3] == ["Pet", "3", "3"]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["Catt"], "Unknown category 'Catt'. Did you mean 'Cat'?"),
        ([], "No category was given"),
        (["Cat", "--subset", "trian"], "'trian'. Allowed: train, validation, test, all"),
        (["Cat", "--limit", "0"], "at least 1"),
        (["Cat", "--limit", "many"], "invalid int value: 'many'"),
        (["Cat", "--workers", "0"], "workers is 0"),
        (["Cat", "--boxes", "none.csv"], "none.csv"),
        (["Cat", "--no-such-option"], "no-such-option"),
        (["--list", "burgr"], "Unknown category 'burgr'"),
        (["Cat", "--dry-run", "--limit", "-3"], "at least 1"),
        (["Cat", "--dry-run", "--workers", "0"], "workers is 0"),
        (["Cat", "--dry-run", "--processes", "0"], "processes is 0"),
        (["Cat", "--dry-run", "--rate", "-5"], "rate is -5.0"),
        (["Cat", "--dry-run", "--source", "nonsense"], "Unknown source 'nonsense'"),
        (["Dog"], "There is no photo of Dog in train: nothing is selected"),
        (["cat,dog"], "separate them by spaces: cat dog"),
        (["--list", "cat", "dog"], "--list takes one text, in quotes if it has several words"),
        (["cat", "--list"], "--list takes one text, in quotes if it has several words"),
        (["--list", "cat,dog"], "--list takes one text, in quotes if it has several words"),
        (["--list", "cat,burgr"], "Unknown category 'burgr'"),
        (["Cat", "--sample"], "leave out --base-url or --sample"),
        (["Cat", "--sample", "--release", "v5"], "leave out --release v5"),
        (["Cat", "--release", "v8"], "'v8'. Allowed: v4, v5, v6, v7, sample"),
    ],
)
def test_bad_input(run, site, tmp_path, arguments, word):
    """Bad input gives an error with the value and status 2, and changes no file."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "images.csv").write_text("mine", encoding="utf-8")
    tables, _ = site
    done = run(*arguments, "--base-url", tables)
    assert done.returncode == 2
    assert word in done.stderr
    assert (tmp_path / "data" / "images.csv").read_text(encoding="utf-8") == "mine"


def test_bad_places(run, tmp_path):
    """A base URL that is a missing folder, or one without tables, is bad input."""
    done = run("Cat", "--base-url", tmp_path / "none")
    assert done.returncode == 2 and "There is no directory" in done.stderr
    done = run("Cat", "--base-url", tmp_path)
    assert done.returncode == 2 and "There is no table" in done.stderr


def test_data_dir_is_a_file(run, site, tmp_path):
    """A data directory that is a file is bad input, and the file is unchanged."""
    tables, _ = site
    (tmp_path / "data").write_text("mine", encoding="utf-8")
    done = run("Cat", "--base-url", tables)
    assert done.returncode == 2 and "data" in done.stderr
    assert (tmp_path / "data").read_text(encoding="utf-8") == "mine"


def test_warnings_are_plain_lines(run, site, tmp_path):
    """Warnings are printed as one line, without file and line number."""
    tables, _ = site
    broken = tmp_path / "boxes.csv"
    lines = (tables / "train/train-annotations-bbox.csv").read_text(encoding="utf-8").splitlines()
    broken.write_text("\n".join([*lines, lines[1].replace("0.9", "7")]), encoding="utf-8")
    done = run("Cat", "--dry-run", "--base-url", tables, "--boxes", broken)
    assert done.returncode == 0
    assert done.stderr.startswith("warning: ") and len(done.stderr.splitlines()) == 1


def test_import_is_light():
    """Neither importing openimager nor --help loads heavy packages."""
    code = (
        "import sys; from openimager import cli; cli.parser().format_help(); "
        "print(sorted({'pandas', 'numpy', 'requests', 'keras'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]"
