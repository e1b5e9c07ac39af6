"""The engine ray on a cluster of this machine: the same documents as the local engine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from imgsearch_es import ImageIndex, PictureList
from imgsearch_es.errors import AnalyzerError, ConfigurationError
from imgsearch_es.indexing import folder_label
from imgsearch_es.pictures.files import Limits
from tests.conftest import ROOT
from tests.fakes import installed as make_package
from tests.fakes import register
from tests.faults.conftest import PICTURES, content, folder  # noqa: F401 - 120 and three broken
from tests.faults.test_interruptions import ended
from tests.unit.conftest import photos, stage  # noqa: F401 - twelve small pictures

ALL = PICTURES + 3
BATCH = 8
POINTS = """
[imgsearch_es.models]
fake = tests.fakes:FakeModel
slow = slow_model:SlowModel
"""
SLOW = """
import os, pathlib, time
from tests.fakes import FakeModel

class SlowModel(FakeModel):
    def predict(self, pixels):
        pathlib.Path(os.environ["AT_WORK"], str(os.getpid())).touch()
        time.sleep(0.2)
        return super().predict(pixels)
"""

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # of Ray's sockets and files
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),  # of its own making
]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An installed package with models, which processes that are started find, too."""
    package = make_package(tmp_path_factory.mktemp("packages"), POINTS, "slow_model", SLOW)
    with pytest.MonkeyPatch.context() as patch:
        paths = [str(ROOT), package, os.environ.get("PYTHONPATH", "")]
        patch.setenv("AT_WORK", str(tmp_path_factory.mktemp("at_work")))
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
        patch.syspath_prepend(package)
        register(patch)
        register(patch, "slow", "slow_model:SlowModel")
        yield


@pytest.fixture(scope="module")
def cluster(installed: None) -> Iterator[None]:
    """Ray with room for several actors, whatever this machine has."""
    import ray  # takes a second, which no other test shall wait for

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()
    del os.environ["RAY_USAGE_STATS_ENABLED"]


@pytest.fixture(scope="module")
def undisturbed(installed, folder, tmp_path_factory) -> dict:  # noqa: F811
    """What an index holds after a run of the local engine."""
    location = str(tmp_path_factory.mktemp("local") / "index.duckdb")
    with ImageIndex(location, model="slow") as index:
        assert index.add(folder, batch_size=BATCH, labels=folder_label).found == ALL
    return content(location)


def analysts() -> list[int]:
    """The processes of the actors."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            title = path.read_bytes()
        except OSError:
            continue  # it has just ended
        if title.startswith(b"ray::") and b"Analyst" in title:
            found.append(int(path.parent.name))
    return found


def kill_one(killed: list[int]) -> None:
    """Kill an actor in the first of its forward passes; a partition has four of them."""
    at_work = Path(os.environ["AT_WORK"])
    give_up = time.monotonic() + 300
    while not killed and time.monotonic() < give_up:
        time.sleep(0.02)
        killed += [pid for pid in analysts() if (at_work / str(pid)).exists()][:1]
    for process in killed:
        os.kill(process, signal.SIGKILL)


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(
    "store",
    ["embedded", pytest.param("elasticsearch", marks=[pytest.mark.node, pytest.mark.long])],
)
def test_the_same_although_a_worker_is_killed(store, request, tmp_path, folder, undisturbed):  # noqa: F811
    killed, location = list[int](), str(tmp_path / "index.duckdb")
    if store == "elasticsearch":
        url, name = map(request.getfixturevalue, ("elasticsearch_url", "fresh_index_name"))
        location = f"{url}/{name}"
    killer = threading.Thread(target=kill_one, args=(killed,))
    killer.start()
    with ImageIndex(location, model="slow") as index:
        options = {"engine": "ray", "workers": 3, "batch_size": BATCH, "labels": folder_label}
        report = index.add(folder, **options)
        killer.join()
        assert killed
        counts = (report.added, report.updated, report.unchanged, len(report.rejected))
        assert counts == (PICTURES, 0, 0, 3)
        assert content(location) == undisturbed
        again = index.add(folder, **options)
        assert (again.unchanged, again.as_before, again.found) == (PICTURES, 3, ALL)
    assert content(location) == undisturbed


@pytest.mark.usefixtures("cluster")
def test_what_changes_between_runs(tmp_path, photos):  # noqa: F811
    with ImageIndex(tmp_path / "index.duckdb", model="fake") as index:
        # Ray warns of more actors than there are partitions.
        index.add(photos, engine="ray", workers=2, labels="pet", metadata={"a": 1})
        before = index.get(photos / "cats" / "cat.1.png")
        (photos / "cats" / "cat.1.png").rename(photos / "moved.png")
        (photos / "cats" / "cat.2.png").write_bytes((photos / "dogs" / "dog.2.png").read_bytes())
        (photos / "new.png").write_bytes((photos / "dogs" / "dog.3.png").read_bytes())
        (photos / "link.png").symlink_to("nowhere.png")
        report = index.add(photos, engine="ray", prune=True)
        assert (report.added, report.moved, report.removed) == (2, 1, 0)
        assert (report.updated, report.unchanged) == (1, 10)
        assert [entry.reason for entry in report.rejected] == [
            "broken link: no such file or directory"
        ]
        moved = index.get(photos / "moved.png")
        assert (moved.labels, moved.metadata) == (before.labels, before.metadata)
        assert moved.terms == before.terms
        assert index.get(photos / "new.png").labels == ()


@pytest.mark.usefixtures("cluster")
def test_lists_and_limits(tmp_path, photos):  # noqa: F811
    rows = [f"{photos}/cats/cat.{i}.png,c{i},{i}" for i in range(3)]
    (tmp_path / "list.csv").write_text("\n".join(["path,label,metadata.n", *rows]))
    with ImageIndex(tmp_path / "index.duckdb", model="fake") as index:
        index.add(PictureList(tmp_path / "list.csv"), engine="ray")
        found = index.get(photos / "cats" / "cat.2.png")
        assert (found.labels, found.metadata) == (("c2",), {"n": 2})
        report = index.add(photos, engine="ray", limits=Limits(max_pixels=10))
        assert (report.unchanged, len(report.rejected)) == (3, 9)


@pytest.mark.parametrize(
    ("resources", "asked", "expected"),
    [
        ({"CPU": 2.0}, None, (1, 2, 0)),
        ({"CPU": 64.0, "memory": 1e9}, None, (16, 4, 0)),
        ({"CPU": 8.0}, 3, (3, 2, 0)),
        ({"CPU": 96.0, "GPU": 8.0}, None, (8, 4, 1.0)),
        ({"CPU": 16.0, "GPU": 1.0}, 4, (4, 4, 0.25)),
    ],
)
def test_the_cluster_is_divided(resources, asked, expected):
    from imgsearch_es.indexing.ray_engine import share

    assert share(resources, asked) == expected


@pytest.mark.usefixtures("cluster")
def test_mistakes(tmp_path, photos, monkeypatch):  # noqa: F811
    with ImageIndex(tmp_path / "index.duckdb", model="fake") as index:
        with pytest.raises(ConfigurationError, match="in memory cannot be analyzed on a cluster"):
            index.add((photos / "cats" / "cat.0.png").read_bytes(), engine="ray")
        with pytest.raises(ConfigurationError, match="9 actors need as many processors"):
            index.add(photos, engine="ray", workers=9)
        with pytest.raises(ConfigurationError, match="a URL with a password is not analyzed"):
            index.add("https://ann:secret@example.org/a.png", engine="ray")
        # The actors' own file of weights differs from the driver's.
        monkeypatch.setattr(type(index.analyzer.model), "fingerprint", lambda self: "sha256:other")
        with pytest.raises(AnalyzerError, match=r"was built with .*not sha256:"):
            index.add(photos, engine="ray")


@pytest.mark.usefixtures("cluster")
def test_a_ray_that_does_not_start_is_said_in_one_sentence(tmp_path, photos, monkeypatch):  # noqa: F811
    def slow(**_: object) -> None:  # it raises no other kind then
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", slow)
    said = r"Ray does not start on .*: The current node"
    index = ImageIndex(tmp_path / "index.duckdb", model="fake")
    with pytest.raises(ConfigurationError, match=said):
        index.add(photos, engine="ray")


@pytest.mark.model
@pytest.mark.usefixtures("cluster")
def test_a_real_model(tmp_path):
    import skimage.data

    three = [Path(skimage.data.data_dir) / n for n in ("chelsea.png", "coffee.png", "rocket.jpg")]
    local, far = (
        ImageIndex(tmp_path / f"{name}.duckdb", model="efficientnet-lite0", runtime="tensorflow")
        for name in ("local", "far")
    )
    local.add(three, batch_size=8)
    far.add(three, batch_size=8, engine="ray", workers=1)
    for photo in three:
        one, two = local.get(photo), far.get(photo)
        assert one.terms == two.terms
        assert np.array_equal(one.embedding, two.embedding)
    local.close()
    far.close()


@pytest.mark.long
def test_the_command_line_is_quiet_and_ctrl_c_ends_it(installed, folder, tmp_path, undisturbed):  # noqa: F811
    location = tmp_path / "index.duckdb"
    command = [sys.executable, "-m", "imgsearch_es", "index", str(folder), "-i", str(location)]
    command += ["-m", "slow", "--engine", "ray", "--batch-size", "2", "--label-from-folder"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as child:
        give_up = time.monotonic() + 300
        while not location.exists() and child.poll() is None and time.monotonic() < give_up:
            time.sleep(0.2)
        time.sleep(3)
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert err == ("imgsearch: stopped; what was done is stored, run the command again to go on\n")
    assert all(map(ended, analysts()))
    done = subprocess.run(
        [*command, "--batch-size", "8", "--json"], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    report = json.loads(done.stdout)
    assert report["found"] == ALL
    assert report["unchanged"] > 0
    assert content(str(location)) == undisturbed


@pytest.mark.usefixtures("cluster")
def test_views_on_a_cluster(tmp_path, photos):  # noqa: F811
    found = []
    for engine in ("local", "ray"):
        with ImageIndex(tmp_path / f"{engine}.duckdb", model="fake", views="tiles") as index:
            index.add(photos, engine=engine)
            found.append({one.id: one.terms for one in index.store.documents()})
    assert found[0] == found[1]
    assert all(term.view is not None for terms in found[1].values() for term in terms)
