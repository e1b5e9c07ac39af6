"""Runs the notebook about Elasticsearch and Kibana on a real node."""

from __future__ import annotations

import re

import pytest

from imgsearch_es.interfaces.kibana import PANELS, saved_objects
from tests.notebooks.test_notebooks import FOLDER, Run

NOTEBOOK = FOLDER / "06_elasticsearch_and_kibana.ipynb"

pytestmark = [pytest.mark.node, pytest.mark.scripts, pytest.mark.model]


def test_on_a_node(tmp_path, elasticsearch_url, fresh_index_name, monkeypatch):
    monkeypatch.setenv("IMGSEARCH_INDEX", f"{elasticsearch_url}/{fresh_index_name}")
    run = Run(NOTEBOOK, tmp_path)
    assert run.stderr() == ""
    assert run.printed("setup") == "76 added, 0 updated, 0 unchanged, 1 rejected\n"
    for line in run.printed("send").splitlines():
        raw, script, impact, _ = line.split()
        assert raw == script == impact
    by_hand, search = re.findall(r"\d+\.\d+", run.printed("explain-hit").splitlines()[-1])
    assert float(by_hand) == pytest.approx(float(search), abs=2e-6)
    assert len(run.printed("dsl-query").splitlines()) > 3
    assert len(run.printed("answers").splitlines()) == len(PANELS)
    assert run.shown("draw", "image/png")
    titles = [f"{item.type:<14}" for item in saved_objects(fresh_index_name)]
    shown = run.printed("objects").splitlines()
    assert [line[:14] for line in shown] == titles
