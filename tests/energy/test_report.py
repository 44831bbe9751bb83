"""The figures, the words, and the report as a browser shows it."""

import json
import re
import shutil
import subprocess

import pytest
from matplotlib.figure import Figure

from spikeclip.energy import figures, load_conventions
from spikeclip.energy.account import account
from spikeclip.energy.figures import Epoch, Point
from spikeclip.energy.measure import measure
from spikeclip.energy.report import training_epochs, write_report
from spikeclip.energy.words import amount, break_even, summary
from spikeclip.errors import InputError
from spikeclip.graph.inputs import picture_batches

LOG = (
    '{"stage": "finetune", "step": 0, "rate": 0.02, "rates": {"image.a": 0.2, "image.b": 0.4, "text.c": 9}}\n'
    '{"stage": "finetune", "step": 1, "epoch": 1, "val_acc1": 0.5}\n'
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def report(accounted, graphs, images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    (folder / "metrics.jsonl").write_text(LOG)
    write_report(
        accounted, folder / "report.html", graphs.image, images[0], folder / "metrics.jsonl", "Energy"
    )
    return folder / "report.html"


def browse(page):
    """Open a page in headless Chromium; return its DOM, what it asks of a network, and what its console says."""
    log = page.with_suffix(".netlog")
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--enable-logging=stderr",
    ]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={page.parent / 'profile'}"]
    command += [f"--log-net-log={log}", "--dump-dom", "--virtual-time-budget=10000", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    parameters = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    # What the browser asks for itself has no origin.
    asked = [
        p["url"] for p in parameters if "url" in p and p.get("initiator", "not an origin") != "not an origin"
    ]
    return done.stdout, asked, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: `make browser` installs it")
def test_the_report_in_a_browser(report):
    """Every figure is drawn, no request leaves the page and its console is silent; a page that does both is caught."""
    page = report.with_name("probed.html")
    probe = "<script>document.body.dataset.widths = [...document.images].map(i => i.naturalWidth).join(' ')</script>"
    page.write_text(report.read_text().replace("</body>", f"{probe}</body>"))
    dom, asked, console = browse(page)
    assert console == []
    assert [url for url in asked if not url.startswith("data:")] == []
    widths = [int(w) for w in re.search(r'data-widths="([^"]*)"', dom).group(1).split()]
    assert len(widths) == 6
    assert min(widths) > 300
    assert "break-even" in dom

    bad = report.with_name("bad.html")
    bad.write_text('<img src="http://example.invalid/x.png"><script>console.error("heard")</script>')
    _, asked, console = browse(bad)
    assert "http://example.invalid/x.png" in asked
    assert any("heard" in line for line in console)


def test_the_report_names_no_address(report):
    """Nothing in it is loaded from elsewhere."""
    page = report.read_text()
    assert all(source.startswith("data:") for source in re.findall(r'(?:src|href)="([^"]*)"', page))
    assert "<script" not in page


def test_figures(accounted, graphs, images):
    picture = next(picture_batches(graphs.image, images[:1]))
    for figure in (
        figures.levels_figure(accounted),
        figures.layers_figure(accounted, "L1", "text"),
        figures.kinds_figure(accounted),
        figures.rates_figure(accounted),
    ):
        assert isinstance(figure, Figure)
    raster = figures.raster_figure(graphs.image, picture, ["groups.1"], neurons=10)
    (image,) = raster.axes[0].images
    assert image.get_array().shape == (10, 6)  # neurons, 2 steps of 3 sub-steps
    with pytest.raises(InputError, match="'conv' is no layer of neurons; there are whiten_spike"):
        figures.raster_figure(graphs.image, picture, ["conv"])


def test_the_front_holds_what_none_beats():
    points = [Point("a", 0.8, 2.0), Point("b", 0.9, 3.0), Point("c", 0.85, 4.0), Point("d", 0.7, 2.0)]
    assert [p.name for p in figures.pareto(points)] == ["a", "b"]
    figure = figures.tradeoff_figure([*points, Point("twin", 0.95, 9.0, spiking=False)], "µJ", "log")
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == [
        "a",
        "b",
        "c",
        "d",
        "twin",
    ]
    with pytest.raises(InputError, match="no networks"):
        figures.tradeoff_figure([], "µJ")


def test_every_network_of_a_tradeoff_is_told_apart():
    """Ten networks have ten colours, two on one place one mark with both names, and bars end at 100 %."""
    points = [Point(f"network {i}", 0.5 + i / 100, 1.0 + i) for i in range(10)]
    figure = figures.tradeoff_figure([*points, Point("same", 0.5, 1.0)], "µJ")
    marks = [bars.lines[0] for bars in figure.axes[0].containers]
    assert len({mark.get_color() for mark in marks}) == 10
    names = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert names == ["network 0\nsame", *(f"network {i}" for i in range(1, 10))]
    (bars,) = figures.tradeoff_figure([Point("a", 0.99, 1.0, interval=0.05)], "µJ").axes[0].containers
    assert bars.lines[2][0].get_segments()[0][:, 1].tolist() == [pytest.approx(94), 100]


def test_equal_epochs_are_drawn_beside_each_other():
    epochs = [Epoch("align_image", 0.5, 0.3)] * 5 + [Epoch("finetune", 0.6, 0.3)]
    figure = figures.epochs_figure(epochs)
    assert [list(line.get_xdata()) for line in figure.axes[0].lines] == [[1, 2, 3, 4, 5], [6]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["align_image", "finetune"]
    with pytest.raises(InputError, match="no epochs"):
        figures.epochs_figure([])


def test_epochs_of_a_run(tmp_path):
    log = tmp_path / "metrics.jsonl"
    assert training_epochs(log) == []
    log.write_text(LOG + '{"stage": "finetune", "st')  # a kill cut the last line
    assert training_epochs(log) == [Epoch("finetune", 0.5, pytest.approx(0.3))]


def test_the_summary_says_who_wins(accounted):
    lines = summary(accounted)
    total, intervals = (accounted["energy"]["total"][key] for key in ("joules", "intervals"))
    own = "spiking, int8 weights"
    wins = total[own]["L1"] < total["ANN twin, int8"]["L1"]
    verdict = next(part for part in lines[0].split("; at ") if "L1 " in part)
    words = {"loses" if "loses" in side else "wins": side for side in verdict.split(" and ")}
    assert "int8" in words["wins" if wins else "loses"]
    for level in ("L1", "L2 tiled", "L2 no reuse"):
        cost = amount(total[own][level], intervals[own][level])
        (line,) = (line for line in lines if line.startswith(f"{level}, "))
        assert f"Spiking, int8 weights: {cost} a picture" in line
    assert lines[-1] == "L4, wall time and joules, was not measured in this run."


def test_an_accuracy_comes_with_its_interval_and_its_twin_on_as_many_pictures(accounted):
    found = {**accounted, "metrics": {"acc1": 0.88}, "twin": {"acc1": 0.89, "pictures": 60}}
    (line,) = (line for line in summary(found) if line.startswith("It recognises"))
    assert "88.0 ± 8.2 % of 60 pictures" in line  # 1.96 sqrt(0.88 x 0.12 / 60)
    assert "89.0 %: 1.0 points below it" in line
    found["twin"] = {"acc1": 0.89, "pictures": 10_000}
    (line,) = (line for line in summary(found) if line.startswith("It recognises"))
    assert line.endswith("89.0 % of 10,000 pictures.")


def test_the_teacher_is_the_runs_own_or_none(accounted, graphs, tokenizer, shapes):
    assert not any("teacher" in line for line in summary(accounted))
    teacher = {"name": "small CLIP", "image_macs": 10**9, "text_macs": 0}
    found = account(graphs, tokenizer, shapes, load_conventions(teacher=teacher))
    (line,) = (line for line in summary(found) if "teacher" in line)
    assert line.startswith("The teacher, small CLIP, needs 4.6 mJ a picture")


def test_a_rate_that_neurons_cannot_reach_is_no_limit():
    even = {"spiking": {"L1": {"dear": 5.0, "equal": 2.0, "cheap": None}}}
    energy = {"image": {"break_even": even, "highest_rate": 4}}
    said = [break_even(energy, "spiking", twin, "L1") for twin in ("dear", "equal", "cheap")]
    assert said == ["always", "2", "never"]


def test_amounts():
    assert [amount(j) for j in (2.0, 2e-3, 4.567e-5, 3e-9, 5e-12)] == [
        "2 J",
        "2 mJ",
        "45.7 µJ",
        "3 nJ",
        "5 pJ",
    ]
    assert amount(4.567e-5, 2.34e-7) == "45.7 ± 0.2 µJ"
    assert amount(4.567e-5, 0.0) == "45.7 µJ"


def test_joules_are_counted_where_a_counter_can_be_read_and_the_reason_given_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr("spikeclip.energy.measure._nvml", dict)
    monkeypatch.setattr("spikeclip.energy.measure.POWERCAP", tmp_path)
    found = measure(lambda: None, 4, seconds=0.01)
    assert found["joules"] == {}
    assert "RAPL" in found["why_no_joules"]
    assert found["seconds"] * found["inputs_per_second"] == pytest.approx(1)
    for zone, name in (("intel-rapl:0", "package-0"), ("intel-rapl:0:0", "core")):
        (tmp_path / zone).mkdir()
        (tmp_path / zone / "name").write_text(f"{name}\n")
        (tmp_path / zone / "energy_uj").write_text("1000000\n")
    runs = []

    def run():  # every run takes 4 J
        runs.append(None)
        (tmp_path / "intel-rapl:0" / "energy_uj").write_text(str(1_000_000 + 4_000_000 * len(runs)))

    found = measure(run, 4, seconds=0.01)
    assert found["joules"] == {"RAPL package-0": pytest.approx(1.0)}
    assert found["why_no_joules"] is None
