"""OpenVINO beside TensorFlow, with real weights on real photos."""

from __future__ import annotations

import gc
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgsearch_es import ImageIndex
from imgsearch_es.analysis.analyzer import Analyzer
from imgsearch_es.analysis.models import runtime, runtime_choice
from imgsearch_es.analysis.models.applications import ApplicationModel
from imgsearch_es.analysis.models.runtime import TensorFlowRuntime
from imgsearch_es.analysis.models.runtime_choice import (
    TOLERANCE,
    differences,
    folder_of,
    probe_pictures,
)
from imgsearch_es.errors import AnalyzerError, ConfigurationError
from imgsearch_es.pictures.demo import make_photos
from tests.conftest import python

pytestmark = pytest.mark.model

PHOTOS = Path(find_spec("skimage").submodule_search_locations[0], "data")
NAMES = ("chelsea.png", "coffee.png", "rocket.jpg", "astronaut.png", "motorcycle_left.png")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("IMGSEARCH_CACHE", str(folder))
        patch.delenv("IMGSEARCH_RUNTIME", raising=False)
        yield folder


@pytest.fixture(scope="module")
def analyzers(cache):
    names = ("tensorflow", "openvino")
    return {name: Analyzer("efficientnet-lite0", runtime=name) for name in names}


@pytest.fixture(scope="module")
def pixels(analyzers):
    images = [Image.open(PHOTOS / name).convert("RGB") for name in NAMES]
    return np.stack([analyzers["openvino"].prepare(image) for image in images])


def predict(analyzer, pixels):
    prediction = analyzer.model.predict(pixels)
    return prediction.posterior, prediction.embedding


def test_openvino_gives_tensorflows_scores_and_features(analyzers, pixels):
    reference = predict(analyzers["tensorflow"], pixels)
    other = predict(analyzers["openvino"], pixels)
    assert [output.shape for output in other] == [(5, 1000), (5, 1280)]
    assert [output.dtype for output in other] == [np.float32, np.float32]
    assert max(differences(reference, other).values()) < TOLERANCE
    assert (reference[0].argmax(axis=1) == other[0].argmax(axis=1)).all()
    assert analyzers["openvino"].model.choice.agrees


@pytest.mark.parametrize("name", ["tensorflow", "openvino"])
def test_what_a_program_sets_for_its_own_networks_changes_nothing(
    analyzers, pixels, monkeypatch, name
):
    expected = predict(analyzers[name], pixels)
    monkeypatch.setenv("ONEDNN_DEFAULT_FPMATH_MODE", "BF16")  # as containers of clouds have it
    program = f"""
import random, sys
import keras, numpy as np
from imgsearch_es.analysis.analyzer import Analyzer
keras.config.set_dtype_policy("mixed_bfloat16")
keras.config.set_floatx("float16")
keras.config.set_image_data_format("channels_first")
numbers = random.getstate()
pixels = np.frombuffer(bytearray(sys.stdin.buffer.read()), np.uint8).reshape({pixels.shape})
found = Analyzer("efficientnet-lite0", runtime={name!r}).model.predict(pixels)
sys.stdout.buffer.write(found.posterior.tobytes() + found.embedding.tobytes())
assert keras.config.dtype_policy().name == "mixed_bfloat16"
assert (keras.config.floatx(), keras.config.image_data_format()) == ("float16", "channels_first")
assert random.getstate() == numbers
"""
    done = subprocess.run(
        [sys.executable, "-c", program], input=pixels.tobytes(), capture_output=True, check=True
    )
    assert done.stdout == b"".join(output.tobytes() for output in expected)


def test_what_would_change_tensorflows_scores_is_refused(analyzers, pixels):
    import tensorflow as tf

    set_options, option = tf.config.optimizer.set_experimental_options, "auto_mixed_precision"
    set_options({option: True})
    try:
        with pytest.raises(ConfigurationError, match=f"scores would be others: set '{option}'"):
            predict(analyzers["tensorflow"], pixels)
    finally:
        set_options({option: False})
    with pytest.raises(ConfigurationError, match="graphs of TensorFlow 1"), tf.Graph().as_default():
        predict(analyzers["tensorflow"], pixels)


def test_a_picture_scores_the_same_alone_and_among_others(analyzers, pixels):
    together = predict(analyzers["openvino"], np.concatenate([pixels] * 9))  # more than a batch
    for row in range(len(pixels)):
        alone = predict(analyzers["openvino"], pixels[row : row + 1])
        assert max(differences([o[row : row + 1] for o in together], alone).values()) < 1e-6
    none = predict(analyzers["openvino"], pixels[:0])
    assert [output.shape for output in none] == [(0, 1000), (0, 1280)]


def test_batches_of_several_threads_do_not_mix(analyzers, pixels):
    orders = [np.random.default_rng(seed).permutation(len(pixels)) for seed in range(4)]
    expected = predict(analyzers["openvino"], pixels)
    with ThreadPoolExecutor(len(orders)) as threads:
        for _ in range(3):
            found = threads.map(lambda order: predict(analyzers["openvino"], pixels[order]), orders)
            for order, outputs in zip(orders, found, strict=True):
                for output, right in zip(outputs, expected, strict=True):
                    assert np.array_equal(output, right[order])


def test_the_next_process_needs_no_tensorflow_and_reports_to_nobody(analyzers, pixels):
    predict(analyzers["openvino"], pixels)
    program = f"""
import sys
from PIL import Image
from imgsearch_es.analysis.analyzer import Analyzer
analyzer = Analyzer("efficientnet-lite0", runtime="openvino")
analysis = analyzer.analyze(Image.open({str(PHOTOS / "chelsea.png")!r}).convert("RGB"))
loaded = {{"tensorflow", "keras", "openvino_telemetry"}} & sys.modules.keys()
print(analysis.terms[0].key, sorted(loaded))
"""
    done = python("-c", program)
    expected = analyzers["openvino"].analyze(Image.open(PHOTOS / "chelsea.png").convert("RGB"))
    assert (done.stdout, done.stderr) == (f"{expected.terms[0].key} []\n", "")


def test_a_fork_of_a_process_that_analyzed_analyzes_the_same(analyzers, pixels, tmp_path):
    np.save(tmp_path / "pixels.npy", pixels)
    program = f"""
import os, signal
import numpy as np
from imgsearch_es.analysis.analyzer import Analyzer
model = Analyzer("efficientnet-lite0", runtime="openvino").model
pixels = np.load({str(tmp_path / "pixels.npy")!r})
def found():
    return [model.predict(some).posterior.tolist() for some in (pixels, pixels[:1])]
before = found()
if not os.fork():
    signal.alarm(60)
    os._exit(found() != before)
print(os.wait()[1])
"""
    assert python("-c", program).stdout == "0\n"


def test_it_computes_with_float32_whatever_the_processor_offers(analyzers, pixels):
    predict(analyzers["openvino"], pixels[:1])
    predict(analyzers["openvino"], pixels)
    runtime = analyzers["openvino"].model._runtime
    kinds = [
        compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        for each in runtime._compiled.values()
        for compiled in (each.single, each.many)
    ]
    assert kinds == ["f32", "f32"]


def test_an_index_is_the_same_with_either(cache, tmp_path):
    photos = make_photos(tmp_path / "photos")
    for name in ("tensorflow", "openvino"):
        place = tmp_path / f"{name}.duckdb"
        with ImageIndex(place, model="efficientnet-lite0", runtime=name) as index:
            index.add(sorted(photos.glob("c*.jpg")))
    rankings = []
    for made, asked in product(("tensorflow", "openvino"), repeat=2):
        with ImageIndex(tmp_path / f"{made}.duckdb", runtime=asked) as index:
            rankings.append(index.search(PHOTOS / "chelsea.png", k=5))
    for hits in rankings:
        assert [hit.filename for hit in hits] == [hit.filename for hit in rankings[0]]
        scores = [hit.score for hit in rankings[0]]
        assert [hit.score for hit in hits] == pytest.approx(scores, abs=TOLERANCE)


def test_a_network_that_openvino_gets_wrong_stays_on_tensorflow(cache, monkeypatch, caplog):
    convert = runtime.convert
    other = ApplicationModel("mobilenet_v2", weights="random", seed=7).checked_network()
    wrong = TensorFlowRuntime(other).function
    monkeypatch.setattr(runtime_choice, "convert", lambda function: convert(wrong))
    model = ApplicationModel("mobilenet_v2", weights="random", seed=5)
    model.predict(probe_pictures(1, model.size))
    assert isinstance(model._runtime, TensorFlowRuntime)
    assert "mobilenet_v2 runs on TensorFlow: OpenVINO differs" in caplog.text
    kept = sorted(file.name for file in folder_of(model).iterdir())
    assert kept == ["checksums.json", "choice.json"]


def test_a_damaged_network_in_the_cache(cache, caplog):
    model = ApplicationModel("mobilenet_v2", weights="random", seed=6)
    assert runtime_choice.measure(model).agrees
    (folder_of(model) / runtime.NETWORK).write_text("<net")
    with pytest.raises(AnalyzerError, match=r"cannot read .*network\.xml"):
        runtime.read(folder_of(model))
    model.use_runtime("openvino")
    model.predict(probe_pictures(1, model.size))
    assert "measuring again" in caplog.text
    assert folder_of(model).parent == runtime_choice.cache_folder()


def test_a_network_that_cannot_be_kept_has_weights_of_its_own(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("IMGSEARCH_CACHE", str(tmp_path / "file" / "cache"))
    pixels = probe_pictures(8, (224, 224))
    reference = predict(Analyzer("efficientnet-lite0", runtime="tensorflow"), pixels)
    analyzer = Analyzer("efficientnet-lite0", runtime="openvino")
    predict(analyzer, pixels[:1])
    gc.collect()  # TensorFlow's network is used no more
    others = [np.full((1000, 1000), np.nan, np.float32) for _ in range(40)]
    assert max(differences(reference, predict(analyzer, pixels)).values()) < TOLERANCE
    del others
