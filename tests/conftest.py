"""Fixtures of every test: a real Elasticsearch, which is started by the first test that asks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So it is for jobs in the background of a shell; processes that tests interrupt inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

import elasticsearch_node  # noqa: E402
from elasticsearch_provision import cached  # noqa: E402

hypothesis.settings.register_profile("tests", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("tests")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Parallel workers: one has the node and all that needs it, the others take file by file."""
    for item in items:
        group = "node" if item.get_closest_marker("node") else item.path.stem
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def elasticsearch_url() -> Iterator[str]:
    """The URL of an Elasticsearch 9; where none can be had the test fails, it is not skipped."""
    with elasticsearch_node.node("9") as url:
        yield url


@pytest.fixture(scope="session")
def elasticsearch8_url() -> Iterator[str]:
    """The URL of an Elasticsearch 8.19 without scripts; it takes a client 8."""
    with elasticsearch_node.node("8", heap="512m") as url:
        yield url


@pytest.fixture
def fresh_index_name(elasticsearch_url: str) -> Iterator[str]:
    """A name that no index has; indices whose names begin with it are deleted afterwards."""
    yield from _fresh_index_name(elasticsearch_url)


@pytest.fixture
def fresh_index_name8(elasticsearch8_url: str) -> Iterator[str]:
    """The same on the Elasticsearch 8."""
    yield from _fresh_index_name(elasticsearch8_url)


def _fresh_index_name(url: str) -> Iterator[str]:
    name = f"test-{uuid.uuid4().hex[:12]}"
    yield name
    found = elasticsearch_node.request(url, f"/_cat/indices/{name}*?format=json&h=index")
    for row in json.loads(found):
        elasticsearch_node.request(url, f"/{row['index']}", method="DELETE")


@pytest.fixture(scope="session")
def python_with_client8() -> Callable[..., str]:
    """Runs this Python with an elasticsearch client 8: ``python("-c", code)`` is what it prints.

    Keywords are environment variables.
    """

    def install(folder: Path) -> None:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder)]
        subprocess.run([*command, "elasticsearch>=8.15,<9"], check=True)

    client = cached("elasticsearch-client-8", install)
    path = {"PYTHONPATH": os.pathsep.join([str(client), str(ROOT)])}

    def python(*arguments: str, **variables: str) -> str:
        run = subprocess.run(
            [sys.executable, *arguments],
            env={**os.environ, **path, **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stdout + run.stderr
        return run.stdout

    return python
