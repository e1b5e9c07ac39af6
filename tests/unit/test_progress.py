"""Progress: what is shown while pictures are indexed, and where."""

from __future__ import annotations

import copy
import io
import pickle
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console

from imgsearch_es import ImageIndex
from imgsearch_es.indexing import IndexReport, Rejected
from imgsearch_es.indexing import report as progress
from imgsearch_es.indexing.report import (
    Lines,
    NotebookBar,
    TerminalBar,
    duration,
    in_notebook,
    shown,
)


class Clock:
    """Seconds that pass when a test says so."""

    now = 100.0

    def __call__(self):
        return self.now


class Notebook:
    """What a cell shows: each output with all that it was replaced by."""

    def __init__(self):
        self.outputs = []

    def __call__(self, bundle, *, raw, display_id):
        assert raw
        assert display_id
        states = [bundle]
        self.outputs.append(states)
        return SimpleNamespace(update=lambda bundle, raw: states.append(bundle))


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def cell(monkeypatch):
    """What a notebook's cell shows."""
    shown_there = Notebook()
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=shown_there))
    return shown_there


@pytest.fixture
def notebook(monkeypatch, cell):
    """Makes this process a notebook's kernel."""
    kernel = SimpleNamespace(kernel="a kernel")
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: kernel))
    monkeypatch.setattr(progress, "DELAY_SECONDS", 0.0)
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.0)
    return cell


def report(analyzed=0, decoded=0, **counts):
    made = IndexReport(**counts)
    made.stages.add("analyze", 1.0, analyzed)
    made.stages.add("decode", 1.0, decoded)
    return made


def test_a_report_comes_back_from_another_process():
    made = report(analyzed=2, decoded=3, added=2)
    for again in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):  # noqa: S301
        assert again == made
        assert again.to_dict() == made.to_dict()
        again.stages.add("decode", 5.0, 1)
    assert made.stages.pictures["decode"] == 3


def test_rate_and_time_left(clock):
    meter = Lines(clock=clock)
    clock.now += 2
    reading = meter.read(report(analyzed=64, decoded=80), 364)
    assert (reading.done, reading.total) == (64, 364)
    assert reading.head == "64 of 364 · 32 pictures/s, 9.4 s left"


def test_the_rate_is_a_recent_one(clock):
    meter = Lines(clock=clock)
    for done in range(0, 1000, 100):
        clock.now += 1
        meter.read(report(analyzed=done), None)
    for _ in range(30):
        clock.now += 1
        reading = meter.read(report(analyzed=900), None)
    assert reading.head == "900 of ? · 0.0 pictures/s"


def test_unchanged_and_rejected_pictures_are_done(clock):
    rejected = [Rejected("/a.jpg", "broken")]
    reading = Lines(clock=clock).read(report(analyzed=3, unchanged=5, rejected=rejected), 10)
    assert reading.done == 9
    assert reading.counts.endswith("0 written, 5 unchanged")
    assert reading.failures == "1 rejected"
    written = Lines(clock=clock).read(report(analyzed=1, added=4), 4)
    assert written.done == 4  # three of them had the same content


def test_durations():
    found = [duration(seconds) for seconds in (0.04, 9.94, 12.4, 185, 3729)]
    assert found == ["0.0 s", "9.9 s", "12 s", "3:05", "1:02:09"]


def test_a_notebooks_bar_is_redrawn_in_place_and_stays(clock, cell):
    bar = NotebookBar(clock)
    with bar:
        bar(report(analyzed=1), None)
        assert cell.outputs == []  # a short run shows none
        for second in range(1, 4):
            clock.now += 1
            bar(report(analyzed=10 * second, decoded=12 * second), 40)
            bar(report(analyzed=10 * second, decoded=12 * second), 40)  # not each time
        bar(report(analyzed=40, decoded=40, added=40, seconds=4.0), 40)
    ((*drawn, last),) = cell.outputs
    assert len(drawn) == 3
    assert drawn[0]["text/plain"].startswith("10 of 40 · 10 pictures/s, 3.0 s left · 12 decoded")
    assert '<progress style="' in drawn[0]["text/html"]
    assert 'max="40" value="10"' in drawn[0]["text/html"]
    assert last["text/plain"] == (
        "Indexed 40 pictures in 4.0 s, 10 pictures/s · 40 decoded, 40 analyzed, 40 written"
    )


def test_a_bar_has_no_end_while_pictures_are_found_and_says_that_a_run_was_stopped(clock, cell):
    bar = NotebookBar(clock)
    clock.now += 1
    bar(report(analyzed=7, added=7, seconds=1.0), None)
    bar.__exit__(KeyboardInterrupt)
    first, last = cell.outputs[0]
    assert "value=" not in first["text/html"]
    assert "7 of ?" in first["text/plain"]
    assert last["text/plain"].startswith("Stopped after 7 pictures in 1.0 s")


def test_a_terminals_bar_fits_80_columns():
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    rejected = [Rejected("/a.jpg", "broken")]
    with TerminalBar(console) as bar:
        bar(report(analyzed=1024, decoded=1100, rejected=rejected), 25_000)
        bar._bar.refresh()
    printed = console.file.getvalue()
    assert "1,025 of 25,000" in printed
    assert "1 rejected" in printed
    assert "pictures/s" in printed


def test_lines_come_now_and_then(clock):
    said = []
    with Lines(said.append, clock) as lines:
        for second in range(25):
            clock.now += 1
            lines(report(analyzed=second), 100)
    assert said == [
        "9 of 100 pictures: 0 decoded, 9 analyzed, 0 written (0.9 pictures/s, 1:41 left)",
        "19 of 100 pictures: 0 decoded, 19 analyzed, 0 written (0.9 pictures/s, 1:25 left)",
    ]


def test_a_script_prints_nothing_unless_asked(index, photos, capsys, monkeypatch):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    index.add(photos, retry=True)
    assert capsys.readouterr() == ("", "")
    index.add(photos, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith("12 of 12 pictures: 0 decoded, 0 analyzed, 0 written")
    index.add(photos, progress=False)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("terminal", "kind"), [("xterm", TerminalBar), ("dumb", Lines)])
def test_on_a_terminal_that_can_draw_one_there_is_a_bar_when_asked(monkeypatch, terminal, kind):
    monkeypatch.setenv("TERM", terminal)
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(isatty=lambda: True, write=len, flush=list))
    with shown(True) as display:
        assert isinstance(display, kind)


def test_indexing_in_a_notebook_shows_a_bar(fake_model, photos, tmp_path, notebook):
    with ImageIndex(tmp_path / "new.duckdb", model="fake") as index:
        index.add(photos)
        ((*_, last),) = notebook.outputs
        assert last["text/plain"].startswith("Indexed 12 pictures in ")
        assert last["text/plain"].endswith("· 12 decoded, 12 analyzed, 12 written")
        index.add(photos, progress=False)
        assert len(notebook.outputs) == 1


def test_rebuilding_in_a_notebook_shows_no_bar_for_each_of_its_runs(index, notebook):
    index.reindex(model="fake")
    assert notebook.outputs == []


def test_only_a_kernel_is_a_notebook(monkeypatch, notebook):
    assert in_notebook()
    for shell in (None, object()):
        module = SimpleNamespace(get_ipython=lambda shell=shell: shell)
        monkeypatch.setitem(sys.modules, "IPython", module)
        assert not in_notebook()
    monkeypatch.delitem(sys.modules, "IPython")
    assert not in_notebook()
