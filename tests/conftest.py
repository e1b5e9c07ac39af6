"""What all tests share: a real Elasticsearch, which is started by the first test that asks."""

from __future__ import annotations

import gc
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 60.0
"""Seconds to wait for what comes at once, but on a busy machine. What holds others up waits for its
end twice as long."""
sys.path.insert(0, str(ROOT / "tools"))
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So it is for jobs in the background of a shell; processes that tests interrupt inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

import elasticsearch_node  # noqa: E402
from elasticsearch_provision import cached  # noqa: E402

hypothesis.settings.register_profile("tests", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("tests")


gc.disable()  # while four thousand tests are collected, which takes a fifth longer with it


def pytest_collection_finish() -> None:
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """A worker more than processors: many tests wait, for a process or for the node."""
    return min((os.cpu_count() or 1) + 1, 4)


LONGEST_FIRST = ("notebooks", "integration", "faults", "conformance", "browser", "unit")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Folders with long files come first, so that no worker has one left when others are done."""
    items.sort(key=lambda item: LONGEST_FIRST.index(item.path.relative_to(ROOT / "tests").parts[0]))


class SharedNode:
    """A node for all parallel workers, which run in processes of their own.

    This process starts it when a worker asks for it by a file, and answers by another.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="imgsearch-es-tests-"))
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not (self.folder / "wanted").exists():
            if self._end.wait(0.1):
                return
        try:
            with elasticsearch_node.node("9") as url:
                self._answer(url)
                self._end.wait()
        except (elasticsearch_node.NodeError, OSError) as error:
            self._answer(f"no node: {error}")

    def _answer(self, text: str) -> None:
        (self.folder / "new").write_text(text)
        (self.folder / "new").rename(self.folder / "answer")

    def stop(self) -> None:
        self._end.set()
        self._thread.join()
        shutil.rmtree(self.folder)

    @staticmethod
    def ask(folder: Path) -> str:
        """The URL of the node; what this process, a worker, calls."""
        try:
            (folder / "wanted").touch()
            while not (folder / "answer").exists():
                (folder / "wanted").stat()
                time.sleep(0.1)
            answer = (folder / "answer").read_text()
        except OSError as error:
            pytest.fail(f"no node: the process that starts it has ended ({error})")
        if answer.startswith("no node"):
            pytest.fail(answer)
        return answer


class Controller:
    """What the process does that has parallel workers."""

    node: SharedNode | None = None

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        self.node = self.node or SharedNode()
        node.workerinput["node"] = str(self.node.folder)

    def pytest_unconfigure(self) -> None:
        if self.node:
            self.node.stop()


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Controller())


@pytest.fixture(scope="session", autouse=True)
def snapshots_at_once() -> Iterator[None]:
    """On a busy machine even a small one takes long to make, after which the next would wait."""
    from imgsearch_es.stores.embedded import store as embedded

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedded, "_LONG", math.inf)
        yield


@pytest.fixture(scope="session")
def elasticsearch_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of an Elasticsearch 9; where none can be had the test fails, it is not skipped."""
    if folder := getattr(request.config, "workerinput", {}).get("node"):
        yield SharedNode.ask(Path(folder))
        return
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
    name = f"test-{uuid.uuid4().hex[:12]}"
    yield name
    found = elasticsearch_node.request(
        elasticsearch_url, f"/_cat/indices/{name}*?format=json&h=index"
    )
    for row in json.loads(found):
        elasticsearch_node.request(elasticsearch_url, f"/{row['index']}", method="DELETE")


def wait_for(happened: Callable[[], object]) -> None:
    """Wait until it has happened, however busy the machine is."""
    until = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.02)


def trace_instructions(trace: Callable[..., Any]) -> None:
    """Trace this thread, where frames are to be traced by instructions."""
    ended = (lambda: sys._getframe())()
    ended.f_trace_opcodes = True  # Python 3.12 asks only once, before it begins
    sys.settrace(trace)


def python(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run this Python with these arguments in the root of the repository, and keep what it says."""
    command, given = [sys.executable, *map(str, arguments)], {"cwd": ROOT, **options}
    return subprocess.run(command, capture_output=True, text=True, check=False, **given)


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

    def with_client8(*arguments: str, **variables: str) -> str:
        run = python(*arguments, env={**os.environ, **path, **variables})
        assert run.returncode == 0, run.stdout + run.stderr
        return run.stdout

    return with_client8
