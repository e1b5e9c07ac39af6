"""Random operations and queries: a few here, as many as asked by `differential.py`."""

from __future__ import annotations

import pytest

from tests.conformance.differential import run


@pytest.mark.scripts
@pytest.mark.parametrize("count", [2_000, pytest.param(500_000, marks=pytest.mark.long)])
def test_every_answer_is_that_of_numpy(place, tmp_path, monkeypatch, count):
    monkeypatch.setattr("imgsearch_es.stores.elastic.aliased._LAST_SEARCHES_SECONDS", 0.0)
    assert run(count, 1, {"store": place()}, tmp_path) >= count
