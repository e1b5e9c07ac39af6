"""Real networks: EfficientNet-Lite with real weights, the others with random ones."""

from __future__ import annotations

import functools
import json
import zipfile
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgsearch_es.analysis.models.applications import APPLICATIONS, ApplicationModel
from imgsearch_es.analysis.models.efficientnet_lite import EfficientNetLite
from imgsearch_es.analysis.models.keras_file import KerasFileModel
from imgsearch_es.analysis.models.runtime import import_keras
from imgsearch_es.errors import AnalyzerError, WeightsError
from tests.conftest import python
from tests.integration import NUMPY_2

pytestmark = [pytest.mark.model, NUMPY_2]

PHOTOS = Path(find_spec("skimage").submodule_search_locations[0], "data")
CATS = {"tabby", "tiger_cat", "Egyptian_cat", "Persian_cat", "Siamese_cat", "lynx"}


def photo(name):
    return Image.open(PHOTOS / name).convert("RGB")


def nearest(name, height, width=None):
    image = photo(name).resize((width or height, height), Image.Resampling.NEAREST)
    return np.asarray(image)


def middle(name, size=224):
    image = photo(name)
    scale = (size + 32) / min(image.size)
    width, height = (round(side * scale) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image.crop((left, top, left + size, top + size)))


@pytest.fixture(scope="module", autouse=True)
def on_tensorflow():
    """What is tested here are networks; test_runtimes.py compares the runtimes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGSEARCH_RUNTIME", "tensorflow")
        yield


@pytest.fixture(scope="module")
def lites():
    return functools.cache(EfficientNetLite)


@pytest.fixture(scope="module")
def lite0(lites):
    return lites("efficientnet-lite0")


@pytest.fixture(scope="module")
def keras():
    return import_keras()


# --- EfficientNet-Lite -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "model", ["efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"]
)
def test_lite_sees_what_is_there(lites, model):
    lite = lites(model)
    seen = {"chelsea.png": CATS, "coffee.png": {"espresso", "cup", "coffee_mug"}}
    side = lite.image_filters[-1]["height"]
    posterior = lite.predict(np.stack([middle(name, side) for name in seen])).posterior
    for scores, expected in zip(posterior, seen.values(), strict=True):
        assert lite.vocabulary.keys[int(scores.argmax())] in expected


def test_lite0_in_batches_of_any_length(lite0):
    pixels = np.stack([middle(name) for name in ("chelsea.png", "coffee.png", "rocket.jpg")])
    batch = lite0.predict(pixels)
    assert batch.posterior.shape == (3, 1000)
    assert batch.embedding.shape == (3, 1280)
    assert batch.posterior.dtype == batch.embedding.dtype == np.float32
    np.testing.assert_allclose(batch.posterior.sum(axis=1), 1, atol=1e-5)
    for i in range(3):
        single = lite0.predict(pixels[i : i + 1])
        np.testing.assert_allclose(single.posterior[0], batch.posterior[i], atol=1e-5)
        np.testing.assert_allclose(single.embedding[0], batch.embedding[i], atol=1e-4)
    many = lite0.predict(np.repeat(pixels, 12, axis=0))
    np.testing.assert_allclose(many.posterior, np.repeat(batch.posterior, 12, axis=0), atol=1e-5)
    none = lite0.predict(pixels[:0])
    assert none.posterior.shape == (0, 1000)
    assert none.embedding.shape == (0, 1280)


def test_lite0_is_built_once_by_many_threads(monkeypatch):
    model, built, build = EfficientNetLite(), [], EfficientNetLite.build_network
    monkeypatch.setattr(
        EfficientNetLite, "build_network", lambda self: (built.append(1), build(self))[1]
    )
    with ThreadPoolExecutor(4) as threads:
        first, *_, last = threads.map(model.predict, [middle("chelsea.png")[np.newaxis]] * 4)
    assert len(built) == 1
    np.testing.assert_allclose(first.posterior, last.posterior, atol=1e-6)


def test_lite0_from_a_file_and_a_file_that_does_not_fit(lite0, tmp_path):
    content = lite0._path().read_bytes()
    copy = tmp_path / "copy.pth"
    copy.write_bytes(content)
    model = EfficientNetLite(weights=copy)
    assert model.fingerprint() == lite0.fingerprint()
    copy.write_bytes(content.replace(b"_conv_head", b"_conv_tail"))
    assert model.fingerprint() != lite0.fingerprint()
    with pytest.raises(WeightsError, match=r"copy\.pth does not fit efficientnet-lite0: _conv_he"):
        model.predict(middle("chelsea.png")[np.newaxis])


def test_lite0_in_a_process_of_its_own_is_quiet_and_lazy():
    program = """
import sys
import numpy as np
from imgsearch_es.analysis.models.efficientnet_lite import EfficientNetLite
model = EfficientNetLite()
assert model.fingerprint().startswith("sha256:")
assert "tensorflow" not in sys.modules and "keras" not in sys.modules
print(model.predict(np.zeros((1, 224, 224, 3), np.uint8)).posterior.shape)
assert not any(name.startswith("torch") or name.startswith("efficientnet_") for name in sys.modules)
"""
    done = python("-c", program)
    assert (done.returncode, done.stdout, done.stderr) == (0, "(1, 1000)\n", "")


# --- keras.applications -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["vgg16", "mobilenet_v2", "efficientnet_v2_b0"])
def test_an_application_is_keras_own_path(name, keras):
    application = APPLICATIONS[name]
    size = application.size
    model = ApplicationModel(name, weights="random", seed=1)
    prediction = model.predict(nearest("chelsea.png", size)[np.newaxis])

    network = model.build_network()  # the same weights again, for they are seeded
    classifier = next(layer for layer in network.layers if isinstance(layer, keras.Model))
    image = keras.utils.load_img(PHOTOS / "chelsea.png", target_size=(size, size))
    pixels = keras.utils.img_to_array(image)[np.newaxis]
    preprocess = getattr(keras.applications, application.module).preprocess_input
    posterior, embedding = classifier(preprocess(pixels), training=False)
    np.testing.assert_allclose(prediction.posterior, posterior, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(prediction.embedding, embedding, rtol=1e-3, atol=1e-4)
    assert prediction.posterior.std() > 0
    assert prediction.embedding.shape == (1, 512 if name == "vgg16" else 1280)


@pytest.mark.parametrize("name", ["resnet50", "convnext_tiny"])
def test_the_deep_feature_of_an_application_is_its_own_pool(name, keras):
    network = ApplicationModel(name, weights="random").build_network()
    posterior, embedding = network.outputs
    assert posterior.shape == (None, 1000)
    assert embedding.shape == (None, {"resnet50": 2048, "convnext_tiny": 768}[name])


def test_weights_of_an_application_from_a_file(tmp_path, keras):
    original = ApplicationModel("mobilenet_v2", weights="random", seed=3)
    pixels = nearest("coffee.png", 224)[np.newaxis]
    expected = original.predict(pixels).posterior
    both = next(x for x in original.build_network().layers if isinstance(x, keras.Model))
    classifier = keras.Model(both.inputs[0], both.outputs[0])
    for file in ("whole.h5", "only.weights.h5", "whole.keras"):
        path, other = tmp_path / file, tmp_path / f"other-{file}"
        for network, place in ((classifier, path), (tiny(keras, 3), other)):
            (network.save_weights if "weights" in file else network.save)(place)
        model = ApplicationModel("mobilenet_v2", weights=path)
        np.testing.assert_allclose(model.predict(pixels).posterior, expected, atol=1e-6)
        with pytest.raises(WeightsError, match=rf"other-{file} does not fit mobilenet_v2: "):
            ApplicationModel("mobilenet_v2", weights=other).predict(pixels)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(WeightsError, match=r"whole\.keras does not fit mobilenet_v2: "):
        ApplicationModel("mobilenet_v2", weights=path).predict(pixels)


# --- keras:PATH -------------------------------------------------------------------------------


def tiny(keras, outputs, *, activation="softmax", size=(16, 24), top=()):
    keras.utils.set_random_seed(0)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((*size, 3)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(5, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten() if None not in size else layers.GlobalMaxPooling2D(),
            layers.Dense(7, activation="relu"),
            layers.Dense(outputs, activation=activation),
            *top,
        ]
    )


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_ones_own_classifier(suffix, keras, tmp_path):
    classifier = tiny(keras, 3)
    path = tmp_path / f"mine{suffix}"
    classifier.save(path)
    (tmp_path / "mine.labels.txt").write_text("cat\ncup of coffee\nrocket\n")
    model = KerasFileModel(f"keras:{path}")
    assert [synset.name for synset in model.vocabulary] == ["cat", "cup of coffee", "rocket"]
    pixels = np.stack([nearest(name, 16, 24) for name in ("chelsea.png", "rocket.jpg")])
    prediction = model.predict(pixels)
    np.testing.assert_allclose(prediction.posterior, classifier(pixels.astype("f4")), atol=1e-6)
    pooled = keras.Sequential(classifier.layers[:3])(pixels.astype("f4")).numpy().mean(axis=(1, 2))
    np.testing.assert_allclose(prediction.embedding, pooled, atol=1e-6)


@pytest.mark.parametrize("inside", [False, True])
def test_the_usual_names_of_layers_do_not_collide(inside, keras, tmp_path):
    """A file saved by one process and read by another has the names that Keras would choose."""
    keras.utils.clear_session()
    layers = keras.layers
    pixels = keras.Input((16, 24, 3))
    pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(5, 3)(pixels))
    scores = layers.Activation("linear")(layers.Dense(3)(pooled))
    classifier = keras.Model(pixels, scores)
    if inside:
        classifier = keras.Sequential([classifier, layers.Softmax()])
    path = tmp_path / "mine.keras"
    classifier.save(path)
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    keras.utils.clear_session()
    prediction = KerasFileModel(f"keras:{path}").predict(np.zeros((2, 16, 24, 3), np.uint8))
    assert (prediction.posterior.shape, prediction.embedding.shape) == ((2, 3), (2, 5))


def save(classifier, tmp_path, **options):
    path = tmp_path / "mine.keras"
    classifier.save(path)
    return KerasFileModel(f"keras:{path}", **{"labels": ["no", "yes"]} | options)


def test_logits_become_scores(keras, tmp_path):
    pixels = nearest("chelsea.png", 16, 24)[np.newaxis]
    classifier = tiny(keras, 2, activation=None)
    logits = classifier(pixels.astype("f4")).numpy()
    for activation, expected in [
        ("auto", np.exp(logits) / np.exp(logits).sum()),
        ("none", logits),
        ("sigmoid", 1 / (1 + np.exp(-logits))),
    ]:
        model = save(classifier, tmp_path, activation=activation)
        np.testing.assert_allclose(model.predict(pixels).posterior, expected, atol=1e-6)


@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_one_output_with_two_labels_is_binary(activation, keras, tmp_path):
    classifier = tiny(keras, 1, activation=activation)
    pixels = nearest("chelsea.png", 16, 24)[np.newaxis]
    yes = classifier(pixels.astype("f4")).numpy()
    yes = yes if activation else 1 / (1 + np.exp(-yes))
    posterior = save(classifier, tmp_path).predict(pixels).posterior
    np.testing.assert_allclose(posterior, np.concatenate([1 - yes, yes], axis=1), atol=1e-6)


def test_rescaling_and_an_input_of_any_size(keras, tmp_path):
    classifier = tiny(keras, 2, size=(None, None))
    pixels = nearest("chelsea.png", 20, 30)[np.newaxis]
    for rescale, scaled in [
        ("0..1", pixels / np.float32(255)),
        ("-1..1", pixels / np.float32(127.5) - 1),
        ("mobilenet_v2", pixels / np.float32(127.5) - 1),
    ]:
        model = save(classifier, tmp_path, height=20, width=30, rescale=rescale)
        np.testing.assert_allclose(model.predict(pixels).posterior, classifier(scaled), atol=1e-5)


@pytest.mark.parametrize("softmax", [True, False])
def test_a_classifier_within_a_classifier(softmax, keras, tmp_path):
    inner = tiny(keras, 2, activation=None)
    classifier = keras.Sequential([inner, *[keras.layers.Softmax()] * softmax])
    classifier.build((None, 16, 24, 3))
    prediction = save(classifier, tmp_path).predict(nearest("chelsea.png", 16, 24)[np.newaxis])
    assert prediction.posterior.sum() == pytest.approx(1, abs=1e-5)
    assert prediction.embedding.shape == (1, 5)


def test_without_convolutions_the_deep_feature_is_the_last_dense_layers_input(keras, tmp_path):
    layers = keras.layers
    parts = [layers.Flatten(), layers.Dense(6), layers.Dense(2, activation="softmax")]
    classifier = keras.Sequential([keras.Input((4, 4, 3)), *parts])
    prediction = save(classifier, tmp_path).predict(nearest("chelsea.png", 4)[np.newaxis])
    assert prediction.embedding.shape == (1, 6)


def test_labels_must_be_as_many_as_outputs(keras, tmp_path):
    model = save(tiny(keras, 3), tmp_path)
    with pytest.raises(AnalyzerError, match=r"mine\.keras has 3 outputs and there are 2 labels"):
        model.predict(nearest("chelsea.png", 16, 24)[np.newaxis])


def test_a_lambda_layer_is_refused(keras, tmp_path):
    classifier = tiny(keras, 2, top=[keras.layers.Lambda(lambda x: x)])
    for file in ("mine.keras", "mine.h5"):
        classifier.save(tmp_path / file)
        with pytest.raises(WeightsError, match="Lambda"):
            KerasFileModel(f"keras:{tmp_path / file}", labels=["no", "yes"])


def test_layers_that_are_not_known_here(keras, tmp_path):
    model = save(tiny(keras, 2), tmp_path)
    with zipfile.ZipFile(model.path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(files["config.json"])
    config["config"]["layers"][1] |= {"class_name": "Mine", "module": "m", "registered_name": "m>M"}
    with zipfile.ZipFile(model.path, "w") as archive:
        for name, content in (files | {"config.json": json.dumps(config)}).items():
            archive.writestr(name, content)
    with pytest.raises(WeightsError, match=r"Keras cannot load .*mine\.keras: .*Mine"):
        model.predict(nearest("chelsea.png", 16, 24)[np.newaxis])
