"""Deep features of real networks: each pooling against NumPy, on TensorFlow and on OpenVINO."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from imgsearch_es import ImageIndex
from imgsearch_es.analysis.analyzer import Analyzer
from imgsearch_es.analysis.configuration import DeepFeature
from imgsearch_es.analysis.models import create_model
from imgsearch_es.analysis.models.networks import (
    center_weights,
    interpolation,
    layer_shapes,
    regions,
    with_deep_feature,
)
from imgsearch_es.analysis.models.runtime import (
    OpenVINORuntime,
    TensorFlowRuntime,
    convert,
    import_keras,
)
from imgsearch_es.analysis.models.runtime_choice import TOLERANCE, differences, probe_pictures
from imgsearch_es.errors import AnalyzerError
from imgsearch_es.pictures.demo import make_photos

pytestmark = pytest.mark.model
LAST = {"avg": {}, "max": {}, "gem": {"p": 4.0}, "rmac": {"levels": 2}, "spoc": {}}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return make_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def network():
    return made(20, 28)


def made(height, width):
    """A small network with parts inside parts, and the same random weights for every size."""
    keras = import_keras()
    keras.utils.set_random_seed(1)
    layers = keras.layers
    block = keras.Sequential(
        [keras.Input((None, None, 6)), layers.Conv2D(6, 3, padding="same", name="inner")]
    )
    pixels = keras.Input((height, width, 3))
    x = layers.Conv2D(6, 3, strides=2, padding="same", activation="relu", name="first")(pixels)
    x = layers.BatchNormalization(name="last")(block(x) + x)
    pooled = layers.GlobalAveragePooling2D()(x)
    scores = layers.Dense(5, activation="softmax", name="scores")(pooled)
    inside = keras.Model(pixels, [scores, pooled])
    outer = keras.Input((height, width, 3))
    return keras.Model(outer, inside(layers.Rescaling(1 / 255)(outer)))


@pytest.fixture(scope="module")
def pixels():
    return probe_pictures(3, (20, 28))


def run(network, pixels, **options):
    feature = DeepFeature.from_config(options)
    return TensorFlowRuntime(with_deep_feature(network, feature))(pixels)


def activation(network, pixels, layer):
    """The activation itself, by the network's own parts."""
    keras = import_keras()
    inside = network.layers[-1]
    body = keras.Model(inside.inputs[0], inside.get_layer(layer).output)
    return np.asarray(body(network.layers[1](pixels.astype(np.float32))))


def pooled(values, pooling, p=3.0, levels=3):
    if pooling == "max":
        return values.max(axis=(1, 2))
    if pooling == "gem":
        return (np.maximum(values, 1e-6) ** p).mean(axis=(1, 2)) ** (1 / p)
    if pooling == "spoc":
        return (values * center_weights(*values.shape[1:3])).sum(axis=(1, 2))
    if pooling == "rmac":
        parts = [values[:, t : t + s, x : x + s].max(axis=(1, 2)) for t, x, s in
                 regions(*values.shape[1:3], levels)]  # fmt: skip
        return sum(part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts)
    return values.mean(axis=(1, 2))


@pytest.mark.parametrize("pooling", LAST)
def test_each_pooling_is_its_formula(network, pixels, pooling):
    before = TensorFlowRuntime(network)(pixels)
    posterior, vector = run(network, pixels, pooling=pooling, **LAST[pooling])
    wanted = pooled(activation(network, pixels, "last"), pooling, **LAST[pooling])
    assert vector == pytest.approx(wanted, rel=1e-4, abs=1e-6)
    assert (posterior == before[0]).all()


def test_layers_by_name_also_inside_others(network, pixels):
    names = layer_shapes(network)
    assert {"first", "inner", "last"} <= set(names)
    assert names["first"] == (None, 10, 14, 6)
    _, vector = run(network, pixels, layer="first", pooling="max")
    assert vector == pytest.approx(activation(network, pixels, "first").max(axis=(1, 2)), rel=1e-5)
    posterior, vector = run(network, pixels, layer="scores")
    assert (vector == posterior).all()


def test_flips_and_scales_are_averaged(network, pixels):
    one, mirrored = run(network, pixels)[1], run(network, pixels[:, :, ::-1])[1]
    both = run(network, pixels, flip=True)[1]
    assert both == pytest.approx((one + mirrored) / 2, rel=1e-5, abs=1e-6)
    posterior, vector = run(network, pixels, scales=[0.5])
    assert (posterior == run(network, pixels)[0]).all()  # always of the whole picture
    small = np.einsum("ay,nyxc->naxc", interpolation(20, 10), pixels.astype(np.float32))
    small = np.einsum("bx,naxc->nabc", interpolation(28, 14), small)
    wanted = activation(made(10, 14), small, "last").mean(axis=(1, 2))
    assert vector == pytest.approx(wanted, rel=1e-4, abs=1e-5)
    several = run(network, pixels, scales=[0.5, 1])[1]
    assert several == pytest.approx((vector + one) / 2, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": "frist"}, "no layer 'frist'; it has first"),
        ({"layer": "scores", "pooling": "gem"}, "without positions for pooling"),
    ],
)
def test_what_cannot_be_is_said(network, options, message):
    with pytest.raises(AnalyzerError, match=message):
        with_deep_feature(network, DeepFeature.from_config(options))


def test_a_layer_behind_a_fixed_number_of_inputs_has_one_size():
    keras = import_keras()
    pixels = keras.Input((8, 8, 3))
    x = keras.layers.Flatten()(keras.layers.Conv2D(2, 3)(pixels))
    x = keras.layers.Dense(4, name="fixed")(x)
    network = keras.Model(pixels, [keras.layers.Softmax()(x), x])
    with pytest.raises(AnalyzerError, match="does not run on pictures of 4 x 4"):
        with_deep_feature(network, DeepFeature(layer="fixed", scales=(0.5,)))


def test_an_application_has_its_layers():
    model = create_model({"name": "mobilenet_v2", "weights": "random"})
    model.use_deep_feature(DeepFeature(layer="block_3_expand_relu", pooling="gem"))
    model.use_runtime("tensorflow")
    found = model.predict(probe_pictures(1, model.size)).embedding
    assert model.layers()["block_3_expand_relu"] == (None, 56, 56, 144)
    assert found.shape == (1, 144)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("pooling", LAST)
def test_openvino_gives_the_same(network, pixels, pooling):
    config = {"pooling": pooling, "flip": True, "scales": [0.6, 1.0, 1.3], **LAST[pooling]}
    reference = TensorFlowRuntime(with_deep_feature(network, DeepFeature.from_config(config)))
    other = OpenVINORuntime(convert(reference.function))
    assert max(differences(reference(pixels), other(pixels)).values()) < TOLERANCE


def test_the_default_is_the_network_as_it_was():
    """Bit by bit, and with no more layers."""
    pixels = probe_pictures(2, (224, 224))
    model = create_model("efficientnet-lite0")
    model.use_runtime("tensorflow")
    found = model.predict(pixels)
    plain = TensorFlowRuntime(create_model("efficientnet-lite0").build_network())(pixels)
    assert (found.posterior == plain[0]).all()
    assert (found.embedding == plain[1]).all()
    analyzer = Analyzer({"model": "efficientnet-lite0", "embedding": {"pooling": "avg"}})
    assert analyzer.model.deep_feature.is_default


def test_an_index_with_another_feature_finds_the_variants_of_a_photo(photos, tmp_path):
    config = {
        "model": "efficientnet-lite0",
        "embedding": {"pooling": "gem", "flip": True},
        "embedding_filters": [{"name": "l2_normalize"}],
    }
    with ImageIndex(tmp_path / "a.duckdb", analyzer=config, runtime="tensorflow") as index:
        index.add(sorted(photos.glob("c*.jpg")))
        hits = index.search(image=photos / "chelsea.jpg", strategy="dense-dot", k=3)
        assert {hit.filename.partition(".")[0] for hit in hits} == {
            "chelsea", "chelsea-mirrored", "chelsea-cropped",
        }  # fmt: skip
        assert hits[1].score > 0.99  # the mirror image, as flips are averaged
        with Image.open(photos / "chelsea.jpg") as picture:
            again = index.analyze(picture).embedding
        assert np.linalg.norm(again) == pytest.approx(1)
