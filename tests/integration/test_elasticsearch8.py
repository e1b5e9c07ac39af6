"""Elasticsearch 8.19: the conformance suite under a client 8, and what a client 9 is told."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from imgsearch_es.errors import UnsupportedServerError
from imgsearch_es.stores import open_store

pytestmark = pytest.mark.node


def test_conformance_of_all_that_needs_no_script(
    elasticsearch8_url: str,
    python_with_client8: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
):
    """Elastic's own build for integration tests has no Painless, so the script strategies wait."""
    monkeypatch.setitem(os.environ, "IMGSEARCH_ES_URL", elasticsearch8_url)
    monkeypatch.setitem(os.environ, "IMGSEARCH_TEST_STRATEGIES", "auto,impact")
    chosen = "elasticsearch and not two_hundred and not formulas"
    output = python_with_client8(
        "-m", "pytest", "tests/conformance", "-q", "-p", "no:cacheprovider", "-k", chosen
    )
    assert " passed" in output
    assert "failed" not in output


def test_a_client_of_another_version_is_told(elasticsearch8_url: str):
    with pytest.raises(UnsupportedServerError, match="elasticsearch<9"):
        open_store(f"{elasticsearch8_url}/pets").settings()
