"""Which runtime a network gets: with made-up runtimes, so neither TensorFlow nor OpenVINO runs."""

from __future__ import annotations

import errno
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from imgsearch_es import ImageIndex
from imgsearch_es.analysis.analyzer import Analyzer
from imgsearch_es.analysis.models import runtime, runtime_choice
from imgsearch_es.analysis.models.base import NetworkModel
from imgsearch_es.analysis.models.runtime_choice import differences, known_choices, probe_pictures
from imgsearch_es.errors import AnalyzerError, ConfigurationError, MissingDependencyError


class Network(NetworkModel):
    def __init__(self, name="network", weights="one"):
        super().__init__(name, {"weights": weights}, (8, 12))

    def fingerprint(self):
        return f"sha256:{self.config['weights']}"

    def build_network(self):
        raise ValueError("Exception encountered: no such layer.")


class Fake:
    """A runtime that computes something of the pixels, with an error of its own."""

    def __init__(self, name, *, error=0.0):
        self.name, self.error = name, error

    def __call__(self, pixels):
        mean = pixels.mean(axis=(1, 2)).astype(np.float32) / 255
        return mean + np.float32(self.error), mean * 10


@pytest.fixture
def world(monkeypatch, tmp_path):
    """A machine with OpenVINO, an empty cache, and runtimes that can be exchanged."""

    class World:
        tensorflow = Fake("tensorflow")
        openvino = Fake("openvino", error=1e-6)
        processor = "fast one"
        has_gpu = False

    def open_tensorflow(model):
        World.opened.append("tensorflow")
        return World.tensorflow

    def open_openvino(reference, place):
        World.opened.append("converted")
        if isinstance(World.openvino, Exception):
            raise World.openvino
        if place:
            (place / "network.xml").write_text("<net/>")
        return World.openvino

    def read(folder):
        World.opened.append("openvino")
        if not (folder / "network.xml").exists():
            raise AnalyzerError(f"cannot read {folder}")
        return World.openvino

    World.opened = []
    monkeypatch.setenv("IMGSEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("IMGSEARCH_RUNTIME", raising=False)
    monkeypatch.setattr(runtime_choice, "has_gpu", lambda: World.has_gpu)
    monkeypatch.setattr(runtime_choice, "is_installed", lambda: True)
    monkeypatch.setattr(runtime_choice, "import_openvino", lambda: None)
    monkeypatch.setattr(runtime_choice, "processor", lambda: World.processor)
    monkeypatch.setattr(runtime_choice, "read", read)
    monkeypatch.setattr(runtime_choice, "OpenVINORuntime", lambda network, folder: network)
    monkeypatch.setattr(runtime_choice, "_tensorflow", open_tensorflow)
    monkeypatch.setattr(runtime_choice, "_openvino", open_openvino)
    return World


def runtime_of(model):
    model.predict(np.zeros((2, 8, 12, 3), np.uint8))
    return model._runtime


def test_openvino_is_taken_where_it_agrees_and_remembered(world):
    model = Network()
    assert runtime_of(model) is world.openvino
    assert world.opened == ["tensorflow", "converted"]
    assert model.choice.runtime == "openvino"
    assert model.choice.differences["posterior"] == pytest.approx(1e-6, rel=0.2)
    assert "differs from TensorFlow by 1.0e-06 in scores" in model.choice.reason

    world.opened.clear()
    again = Network()
    assert runtime_of(again) is world.openvino
    assert world.opened == ["openvino"]  # without TensorFlow
    assert again.choice == model.choice
    assert known_choices() == [model.choice]
    world.processor = "slow one"  # of another machine
    assert known_choices() == []


def test_what_another_process_made_meanwhile_stays(world, monkeypatch):
    model, convert, made = Network(), runtime_choice._openvino, []

    def with_another(reference, place):
        if not made:
            made.append(True)
            runtime_of(Network())
            made.append(runtime_choice.folder_of(model).stat().st_ino)
        return convert(reference, place)

    monkeypatch.setattr(runtime_choice, "_openvino", with_another)
    assert runtime_of(model) is world.openvino
    folder = runtime_choice.folder_of(model)
    assert made == [True, folder.stat().st_ino]
    assert list(folder.parent.iterdir()) == [folder]
    assert world.openvino.folder == folder  # and not the draft, which would be made again


def test_on_a_gpu_it_is_tensorflow_unless_openvino_is_asked_for(world):
    world.has_gpu = True
    assert runtime_of(Network()) is world.tensorflow
    world.opened.clear()
    model = Network()
    assert runtime_of(model) is world.tensorflow
    assert world.opened == ["tensorflow"]
    assert model.choice.reason.startswith("it has a GPU; OpenVINO differs")
    model.use_runtime("openvino")
    assert runtime_of(model) is world.openvino


@pytest.mark.parametrize("error", [2e-4, np.nan])
def test_one_that_disagrees_is_refused_with_a_warning(world, error, caplog):
    world.openvino.error = error
    model = Network()
    assert runtime_of(model) is world.tensorflow
    assert "network runs on TensorFlow: OpenVINO differs" in caplog.text
    assert "more than 1e-04" in model.choice.reason
    assert not model.choice.agrees
    (kept,) = runtime_choice.cache_folder().iterdir()
    assert {file.name for file in kept.iterdir()} == {"choice.json", "checksums.json"}
    asked = Network()
    asked.use_runtime("openvino")
    with pytest.raises(AnalyzerError, match="network cannot use the runtime openvino: OpenVINO di"):
        runtime_of(asked)


def test_one_that_cannot_be_made_is_refused_with_a_warning(world, caplog):
    world.openvino = AnalyzerError("OpenVINO cannot convert the network: no such operation")
    assert runtime_of(Network()) is world.tensorflow
    assert "no such operation" in caplog.text
    world.opened.clear()
    assert runtime_of(Network()) is world.tensorflow
    assert world.opened == ["tensorflow"]  # it is not tried again


def test_one_may_be_asked_for(world, monkeypatch):
    model = Network()
    model.use_runtime("tensorflow")
    assert runtime_of(model) is world.tensorflow
    assert world.opened == ["tensorflow"]
    model.use_runtime("openvino")
    assert runtime_of(model) is world.openvino
    monkeypatch.setenv("IMGSEARCH_RUNTIME", "tensorflow")
    assert runtime_of(Network()) is world.tensorflow
    monkeypatch.setenv("IMGSEARCH_RUNTIME", "theano")
    with pytest.raises(ConfigurationError, match=r"no runtime 'theano': .*auto, tensorflow, openv"):
        runtime_of(Network())


def test_without_openvino_all_is_as_before(world, monkeypatch):
    def missing():
        raise MissingDependencyError("OpenVINO is not installed")

    monkeypatch.setattr(runtime_choice, "import_openvino", missing)
    monkeypatch.setattr(runtime_choice, "is_installed", lambda: False)
    model = Network()
    assert runtime_of(model) is world.tensorflow
    assert "not installed" in model.choice.reason
    assert not runtime_choice.cache_folder().exists()
    assert known_choices() == []
    model.use_runtime("openvino")
    with pytest.raises(MissingDependencyError, match="OpenVINO is not installed"):
        runtime_of(model)


def test_what_the_decision_depends_on(world, monkeypatch):
    folder = runtime_choice.folder_of(Network())
    assert folder == runtime_choice.folder_of(Network())
    assert folder.name.startswith("network-")
    others = [runtime_choice.folder_of(Network(weights="two"))]
    world.processor = "slow one"
    others.append(runtime_choice.folder_of(Network()))
    world.processor = "fast one"
    for name, found in (("installed_version", "3"), ("version_of", "3")):
        monkeypatch.setattr(runtime_choice, name, lambda *names, found=found: found)
        others.append(runtime_choice.folder_of(Network()))
    monkeypatch.setattr(runtime_choice, "NETWORKS", 2)
    others.append(runtime_choice.folder_of(Network()))
    monkeypatch.undo()
    assert len({folder, *others}) == 6


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("<nex/>")])
def test_a_damaged_cache_is_made_again(world, caplog, damage):
    runtime_of(Network())
    (folder,) = runtime_choice.cache_folder().iterdir()
    (folder / "not recorded.blob").touch()
    world.opened.clear()
    assert runtime_of(Network()) is world.openvino
    assert world.opened == ["openvino"]
    assert not (folder / "not recorded.blob").exists()
    damage(folder / "network.xml")
    world.opened.clear()
    assert runtime_of(Network()) is world.openvino
    assert world.opened == ["tensorflow", "converted"]
    assert "measuring again" in caplog.text
    assert (folder / "network.xml").read_text() == "<net/>"
    (folder / "choice.json").write_text('{"runtime": ')
    assert runtime_of(Network()) is world.openvino
    assert json.loads((folder / "choice.json").read_text())["runtime"] == "openvino"
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def is_full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("moment", ["tempfile.mkdtemp", "record_files"])
def test_a_cache_that_cannot_be_written(world, monkeypatch, caplog, moment):
    monkeypatch.setattr(f"{runtime_choice.__name__}.{moment}", is_full)
    assert runtime_of(Network()) is world.openvino
    assert "nothing is kept for the next start" in caplog.text


def test_processes_that_start_at_once_compile_in_turn(monkeypatch, tmp_path):
    """OpenVINO maps what another may just be writing: a bus error ended it."""
    inside, most = [], []

    def compile_model(*_: object) -> str:
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.05)
        inside.pop()
        return "compiled"

    monkeypatch.setattr(runtime, "core", lambda: SimpleNamespace(compile_model=compile_model))
    part = SimpleNamespace(partial_shape=[1, 2, 2, 3], shape=[1, 4])
    network = SimpleNamespace(inputs=[part], outputs=[part, part], reshape=lambda shape: None)
    of_each = [runtime.OpenVINORuntime(network, tmp_path) for _ in range(3)]
    with ThreadPoolExecutor(3) as threads:
        done = threads.map(lambda one: one._compile("LATENCY", 1), of_each)
    assert list(done) == ["compiled"] * 3
    assert most == [1, 1, 1]


def test_measuring_replaces_the_decision(world):
    runtime_of(Network())
    world.openvino.error = 1.0
    assert runtime_choice.measure(Network()).runtime == "tensorflow"
    assert runtime_of(Network()) is world.tensorflow


def test_the_runtime_is_no_part_of_the_configuration(world, fake_model, tmp_path):
    chosen = Analyzer("efficientnet-lite0", runtime="tensorflow")
    assert Analyzer("efficientnet-lite0").config == chosen.config
    assert chosen.model._wanted == "tensorflow"
    with pytest.raises(ConfigurationError, match="no runtime 'cuda'"):
        Analyzer("efficientnet-lite0", runtime="cuda")
    with pytest.raises(ConfigurationError, match="the model fake runs in its own way, not on open"):
        Analyzer("fake", runtime="openvino")
    with pytest.raises(ConfigurationError, match=r"Analyzer\(\.\.\., runtime=\.\.\.\)"):
        ImageIndex(tmp_path / "x.duckdb", analyzer=chosen, runtime="openvino")
    index = ImageIndex(tmp_path / "x.duckdb", model="efficientnet-lite0", runtime="openvino")
    assert index.analyzer.model._wanted == "openvino"


def test_a_network_that_cannot_be_built(monkeypatch):
    monkeypatch.setattr("imgsearch_es.analysis.models.base.in_float32", nullcontext)
    with pytest.raises(AnalyzerError, match="network of network cannot be built: no such layer"):
        Network().checked_network()


def test_tensorflow_is_refused_in_a_fork_where_it_would_wait_for_ever(monkeypatch):
    monkeypatch.setattr(runtime, "_import_keras", lambda: (None, os.getppid()))
    with pytest.raises(AnalyzerError, match='start processes by "spawn"'):
        runtime.import_keras()


def test_differences():
    ones = np.ones((2, 3), np.float32)
    features = np.array([[0, 2, 4], [0, 0, 0]], np.float32)
    other = features + np.float32(0.01) * (features > 3)
    found = differences((ones, features), (ones * np.float32(1.5), other))
    assert found == {"posterior": 0.5, "embedding": pytest.approx(0.0025, rel=1e-3)}
    same = differences((ones, features), (ones, features))
    assert same == {"posterior": 0.0, "embedding": 0.0}


def test_probe_pictures_are_always_the_same_and_of_any_size():
    pictures = probe_pictures(3, (40, 61))
    assert pictures.shape == (3, 40, 61, 3)
    assert pictures.dtype == np.uint8
    assert (pictures == probe_pictures(3, (40, 61))).all()
    assert (pictures[0] != pictures[1]).any()
    assert probe_pictures(1, (1, 1)).shape == (1, 1, 1, 3)
    gray = pictures.mean(axis=3)
    beside = np.corrcoef(gray[:, :, 1:].ravel(), gray[:, :, :-1].ravel())[0, 1]
    assert beside > 0.8  # neighbors are alike, as in photos and unlike noise
