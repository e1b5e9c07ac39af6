"""Elasticsearch 8.19: the conformance suite under a client 8, and what a client 9 is told."""

from __future__ import annotations

import pytest

from imgsearch_es.errors import UnsupportedServerError
from imgsearch_es.stores import open_store

pytestmark = pytest.mark.node


def test_it_is_the_old_server_and_the_old_client(elasticsearch8_url, python_with_client8):
    code = "from imgsearch_es.stores import open_store; print(open_store(URL).features()['store'])"
    url = repr(f"{elasticsearch8_url}/none")
    store = python_with_client8("-c", code.replace("URL", url))
    assert "Elasticsearch 8.19" in store
    assert "client 8." in store


@pytest.mark.parametrize(
    "files", [("pages", "ranking", "store"), pytest.param(("",), marks=pytest.mark.long)], ids=str
)
def test_conformance_of_what_needs_no_script(elasticsearch8_url, python_with_client8, files):
    """Elastic's own build for integration tests has no Painless: what scores by scripts waits."""
    paths = [f"tests/conformance/{f'test_{name}.py' if name else ''}" for name in files]
    output = python_with_client8(
        *("-m", "pytest", *paths, "-q", "-p", "no:cacheprovider"),
        *("-k", "elasticsearch", "-m", "not scripts and not long"),
        IMGSEARCH_ES_URL=elasticsearch8_url,
        IMGSEARCH_TEST_STRATEGIES="auto,impact",
    )
    assert " passed" in output


def test_a_client_of_another_version_is_told(elasticsearch8_url):
    with pytest.raises(UnsupportedServerError, match="elasticsearch<9"):
        open_store(f"{elasticsearch8_url}/pets").settings()
