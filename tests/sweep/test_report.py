"""The report in a real browser, and the command line around it; times are the double's."""

from __future__ import annotations

import json
import re

import pytest

import kgen.sweep.conduct
from kgen.cli.main import main
from kgen.dispatch import load_table
from kgen.dispatch.check import check
from kgen.errors import ToolchainError
from kgen.sweep.worker import WorkerPlan
from tests.sweep.browser import find
from tests.sweep.fakes import FakePlan

pytestmark = pytest.mark.hipcc
ARCH = "gfx1151"
AXES = ["YTILE=1,2", "WvPrGrp=4,8", "A_CHUNK=8", "UNRL=1,2", "STAGING=lds"]
FAKE = FakePlan(torch_us=2.2, extra={"YTILE1_WvPrGrp8": 0.8}, cliff_k=3072)
PROBE = """<script>
const box = e => { const b = e.getBoundingClientRect(); return [b.width, b.height]; };
const out = {
  title: document.title, svgs: [...document.querySelectorAll("svg")].map(box),
  texts: [...document.querySelectorAll("svg text")].length, sections: [...document.querySelectorAll("h2")].map(e => e.id),
  wide: document.documentElement.scrollWidth > window.innerWidth, loaded: performance.getEntriesByType("resource").map(e => e.name),
  problems: document.querySelectorAll("#problems ~ .wide table")[0].rows.length - 1,
  cliffs: [...document.querySelectorAll("#cliffs li")].map(e => e.textContent), kind: document.querySelector("#kind").textContent,
  added: [...document.querySelectorAll("pre .new")].map(e => e.textContent), colour: getComputedStyle(document.querySelector("pre .new")).color,
};
document.body.innerHTML = "<pre id=probe></pre>"; document.querySelector("#probe").textContent = JSON.stringify(out);
</script>"""


def sweep(out, *more: str) -> int:
    words = ["sweep", "wvsplitk", "--arch", ARCH, "--shape", "1024x1024:5120:1024", "-N", "1,2", "--out", str(out)]
    axes = [word for axis in AXES for word in ("--axes", axis)]
    return main([*words, *axes, "--tables", str(out / "tables"), *more])


@pytest.fixture(scope="module")
def out(tmp_path_factory, real_tools):
    folder = tmp_path_factory.mktemp("report")
    patch = pytest.MonkeyPatch()
    patch.setattr(kgen.sweep.conduct, "worker_plans", lambda request: [WorkerPlan(FAKE, "double")])
    patch.setattr(kgen.sweep.farm, "cache_dir", lambda: folder / "locks")
    yield folder
    patch.undo()


@pytest.fixture(scope="module")
def swept(out):
    assert sweep(out) == 0
    return out


def test_a_dry_run_shows_the_diff_and_leaves_the_table(out, capsys):
    assert sweep(out / "dry", "--dry-run", "--shape", "2048x1024") == 0
    said = capsys.readouterr().out
    assert re.search(r'^\+use = "wvsplitk_bf16_N1_THRDS32_YTILE1_WvPrGrp8', said, re.M)
    assert "not written (--dry-run)" in said
    assert not (out / "dry" / "tables").exists()


def test_the_promoted_table_passes_its_check(swept):
    table = load_table("wvsplitk", ARCH, swept / "tables" / ARCH / "wvsplitk.toml")
    assert [f for f in check(table).findings if f.severity == "error" or f.kind == "stale"] == []
    new = [row for row in table.rows if row.because.kind == "measured"]
    assert new
    assert {"torch", *(row.use for row in new if "YTILE1_WvPrGrp8" in row.use)} == {row.use for row in new}, (
        "torch's time does not grow"
    )


def test_the_same_command_again_finds_all_of_it_done(swept, capsys):
    capsys.readouterr()
    assert sweep(swept, "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert data["run"]["compiled"] == 0
    assert data["counts"]["stale"] == 0
    assert {"counts", "promoted", "store"} <= data.keys()
    assert data["promoted"] == [], "what was promoted is the pick now: nothing is faster"
    assert data["run"]["checks"] == 0
    assert data["run"]["timings"] <= 10, "at most the finals of what is best beside the new picks"


def test_the_report_is_one_file_that_a_browser_shows(swept, tmp_path):
    try:
        browser = find()
    except ToolchainError as error:
        pytest.skip(f"no browser to look with: {error}")
    assert sweep(swept / "fresh") == 0
    html = (swept / "fresh" / ARCH / "wvsplitk.html").read_text(encoding="utf-8")
    assert "<script" not in html
    assert not re.search(r'(src|href)="(?!#)', html)
    page = tmp_path / "page.html"
    page.write_text(html.replace("</body>", PROBE + "</body>"), encoding="utf-8")
    dom = browser.run("--window-size=1280,900", "--dump-dom", page.as_uri(), folder=tmp_path)
    seen = json.loads(_unescaped(re.search(r'<pre id="probe">(.*?)</pre>', dom, re.S)[1]))
    assert seen["title"] == f"kgen sweep: wvsplitk on {ARCH}"
    assert len(seen["svgs"]) == 5, "times, roofline, axes, sizes, torch"
    assert all(width > 400 and height > 80 for width, height in seen["svgs"])
    assert seen["texts"] > 50, "labels are text, not outlines"
    assert seen["sections"] == ["change", "problems", "axes", "sizes", "torch", "failed", "diff", "origin"]
    assert not seen["wide"], "nothing sticks out of the page"
    assert seen["loaded"] == []
    assert seen["problems"] == 10
    assert "measured" in seen["kind"]
    assert len(seen["cliffs"]) == 2
    assert all("K3072" in words for words in seen["cliffs"])
    assert any("YTILE1_WvPrGrp8" in line for line in seen["added"])
    assert seen["colour"] == "rgb(19, 115, 51)"


def test_the_report_has_ink_where_the_plots_are(swept, tmp_path):
    from PIL import Image

    try:
        browser = find()
    except ToolchainError as error:
        pytest.skip(f"no browser to look with: {error}")
    page = (swept / ARCH / "wvsplitk.html").as_uri()
    browser.run(f"--screenshot={tmp_path / 'page.png'}", "--window-size=1280,2400", page, folder=tmp_path)
    with Image.open(tmp_path / "page.png") as image:
        assert image.size == (1280, 2400)
        colours = image.convert("RGB").resize((640, 1200)).getcolors(1 << 22)
    assert len(colours) > 200
    assert max(count for count, _ in colours) < 0.97 * 640 * 1200


def test_words_on_the_command_line_that_make_no_sense_are_refused(capsys):
    for words in (
        ["--budget", "soon"],
        ["-N", "one"],
        ["--search", "luck"],
        ["--axes", "YTIL=1"],
        ["--shapes", "nobody"],
    ):
        assert main(["sweep", "wvsplitk", "--arch", ARCH, "--plan", *words]) == 1
    assert main(["sweep", "nofamily", "--arch", ARCH, "--plan"]) == 1
    assert "unknown kernel family" in capsys.readouterr().err


def test_a_plan_says_what_would_be_built(capsys):
    assert main(["sweep", "wvsplitk", "--arch", ARCH, "--shapes", "qwen3-8b", "--plan", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["points"] == data["alive"] + data["pruned"]
    assert sum(data["reasons"].values()) == data["pruned"]


def _unescaped(text: str) -> str:
    import html

    return html.unescape(text)
