"""A shallow network in parallel, with TensorFlow: what it learns, and its use in an analyzer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from imgsearch_es import ImageIndex
from imgsearch_es.analysis.analyzer import Analyzer
from imgsearch_es.analysis.configuration import DeepFeature, Parallel, fingerprint
from imgsearch_es.analysis.models.networks import with_deep_feature
from imgsearch_es.analysis.models.runtime import TensorFlowRuntime, import_keras
from imgsearch_es.analysis.models.runtime_choice import TOLERANCE
from imgsearch_es.errors import AnalyzerError, ConfigurationError, WeightsError
from imgsearch_es.interfaces.cli import app
from imgsearch_es.learning import (
    TrainingOptions,
    apply_head,
    build_head,
    load_head,
    make_groups,
    train,
    train_head,
)
from imgsearch_es.learning.examples import Pictures
from imgsearch_es.learning.head import on_whole_pictures, save_head, start_shortcut
from imgsearch_es.pictures.demo import make_photos
from tests.integration import NUMPY_2

pytestmark = [pytest.mark.model, NUMPY_2]

OBJECTS, SIZE = 40, (32, 40)
OPTIONS = TrainingOptions(
    layers=(32, 16), dropout=0.1, shallow=True, learning_rate=3e-3, epochs=8, objects=8,
    patience=30, validation=0.3,
)  # fmt: skip


@pytest.fixture(scope="module")
def examples() -> tuple[np.ndarray, list[int], np.ndarray]:
    """Forty objects of four: the features say little of them, and the colors much."""
    rng = np.random.default_rng(4)
    signal = np.repeat(rng.standard_normal((OBJECTS, 6)), 4, axis=0)
    features = signal + 1.5 * rng.standard_normal((4 * OBJECTS, 6))
    colors = np.repeat(rng.integers(40, 216, (OBJECTS, 1, 1, 3)), 4, axis=0)
    noise = rng.integers(-40, 41, (4 * OBJECTS, *SIZE, 3))
    pixels = np.clip(colors + noise, 0, 255).astype(np.uint8)
    return features.astype(np.float32), np.repeat(np.arange(OBJECTS), 4).tolist(), pixels


@pytest.fixture(scope="module")
def trained(examples, tmp_path_factory):
    """A trained head and its report."""
    features, groups, pixels = examples
    path = tmp_path_factory.mktemp("head") / "head.keras"
    return path, train_head(features, groups, path, pixels=pixels, options=OPTIONS)


def test_it_begins_as_the_head_without_it(examples):
    features, _, pixels = examples
    plain, beside = build_head(6, (8, 4), seed=3), build_head(6, (8, 4), small=(8, 10), seed=3)
    for head in (plain, beside):
        start_shortcut(head, features)
    small = Pictures.of(pixels).small
    assert (apply_head(beside, features, small) == apply_head(plain, features)).all()


def test_it_learns_what_the_features_do_not_say(examples, trained, tmp_path):
    features, groups, _ = examples
    options = TrainingOptions(**{**trained[1].options, "shallow": False})
    without = train_head(features, groups, tmp_path / "head.keras", options=options)
    assert trained[1].start_score == without.start_score
    assert trained[1].best_score > without.best_score + 0.5
    assert trained[1].options["shallow"]


def test_the_file_takes_whole_pictures(examples, trained):
    features, groups, pixels = examples
    head = load_head(trained[0])
    assert [tensor.shape[1:] for tensor in head.inputs] == [(6,), (*SIZE, 3)]
    embeddings = apply_head(head, features, pixels)
    assert np.linalg.norm(embeddings, axis=1) == pytest.approx(np.ones(len(groups)), abs=1e-5)
    core = next(layer for layer in head.layers if layer.name == "head")
    assert (apply_head(core, features, Pictures.of(pixels).small) == embeddings).all()
    assert (apply_head(head, features, pixels[::-1]) != embeddings).any()
    with pytest.raises(ConfigurationError, match="takes pixels as well"):
        apply_head(head, features)
    with pytest.raises(ConfigurationError, match="no shallow network"):
        apply_head(build_head(6, (4,)), features, pixels)


def test_a_gray_picture_has_an_embedding_and_a_finite_slope():
    """All numbers of a path are 0 there, and so is its length."""
    import tensorflow as tf

    head = build_head(4, (3,), shortcut=False, dropout=0, small=(2, 2))
    gray = tf.fill((1, 2, 2, 3), 127.5)
    with tf.GradientTape() as tape:
        found = tf.reduce_sum(head([tf.ones((1, 4)), gray]))
    slopes = tape.gradient(found, [variable.value for variable in head.trainable_variables])
    assert np.isfinite(found)
    assert all(np.isfinite(slope).all() for slope in slopes)


def test_one_seed_gives_one_file_interrupted_or_not(examples, trained, tmp_path):
    features, groups, pixels = examples
    path = tmp_path / "head.keras"

    def stop(epoch, report):  # as a kill would, between two epochs
        if epoch.number == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train_head(features, groups, path, pixels=pixels, options=OPTIONS, progress=stop)
    with pytest.raises(ConfigurationError, match="other features or options"):
        train_head(features, groups, path, pixels=pixels // 2, options=OPTIONS)
    seen: list[int] = []
    note = lambda epoch, _: seen.append(epoch.number)  # noqa: E731
    train_head(features, groups, path, pixels=pixels, options=OPTIONS, progress=note)
    assert seen == [4, 5, 6, 7, 8]
    assert fingerprint(path, "") == fingerprint(trained[0], "")


def test_what_a_program_sets_for_its_own_networks_changes_no_training(examples, trained, tmp_path):
    features, groups, pixels = examples
    settings = (("dtype_policy", "mixed_bfloat16"), ("image_data_format", "channels_first"))
    config, path = import_keras().config, tmp_path / "head.keras"
    before = [getattr(config, name)() for name, _ in settings]
    try:
        for name, value in settings:
            getattr(config, f"set_{name}")(value)
        train_head(features, groups, path, pixels=pixels, options=OPTIONS)
    finally:
        for (name, _), value in zip(settings, before, strict=True):
            getattr(config, f"set_{name}")(value)
    assert fingerprint(path, "") == fingerprint(trained[0], "")


# --- files that do not fit ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network():
    """A classifier of pictures of 32 x 40 pixels with deep features of 6 dimensions."""
    keras = import_keras()
    keras.utils.set_random_seed(1)
    pixels = keras.Input((*SIZE, 3))
    x = keras.layers.Conv2D(6, 3, strides=2, activation="relu", name="conv")(pixels)
    feature = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(pixels, [keras.layers.Dense(5, activation="softmax")(feature), feature])


def whole_head(path: Path, dimensions: int = 6, size: tuple[int, int] = SIZE) -> str:
    small = (size[0] // 4, size[1] // 4)
    save_head(on_whole_pictures(build_head(dimensions, (8, 4), small=small), size), path)
    return str(path)


def beside(network, path: str, **options: object):
    return with_deep_feature(network, DeepFeature(parallel=Parallel(path), **options))


def test_it_takes_what_the_other_options_give(network, examples, tmp_path):
    path, pixels = whole_head(tmp_path / "head.keras"), examples[2][:3]
    head = load_head(path)
    for options in ({}, {"pooling": "max"}, {"flip": True, "scales": (0.5, 1.0)}):
        before = TensorFlowRuntime(with_deep_feature(network, DeepFeature(**options)))(pixels)
        after = TensorFlowRuntime(beside(network, path, **options))(pixels)
        assert (after[0] == before[0]).all()
        assert after[1] == pytest.approx(apply_head(head, before[1], pixels), abs=1e-6)


def test_heads_of_other_features_or_pictures_are_refused(network, tmp_path):
    other = whole_head(tmp_path / "features.keras", dimensions=7)
    with pytest.raises(AnalyzerError, match=r"takes feature of shape \(7,\), not \(6,\)"):
        beside(network, other)
    other = whole_head(tmp_path / "size.keras", size=(64, 80))
    with pytest.raises(AnalyzerError, match=r"takes pixels of shape \(64, 80, 3\), not \(32"):
        beside(network, other)


def test_each_head_has_its_place(network, tmp_path):
    save_head(build_head(6, (8, 4)), tmp_path / "plain.keras")
    with pytest.raises(AnalyzerError, match="without a shallow network is an embedding filter"):
        beside(network, str(tmp_path / "plain.keras"))
    path = whole_head(tmp_path / "head.keras", dimensions=1280, size=(224, 224))
    filters = [{"name": "head", "path": path}]
    analyzer = {"model": "efficientnet-lite0", "embedding_filters": filters}
    with pytest.raises(AnalyzerError, match=r"has a shallow network.*\[embedding\] parallel"):
        _ = Analyzer(analyzer, runtime="tensorflow").embedding_dimensions


def test_files_that_are_none_or_were_replaced_are_refused(network, tmp_path):
    (tmp_path / "text.keras").write_text("no network")
    with pytest.raises(WeightsError, match="not a model saved by Keras"):
        beside(network, str(tmp_path / "text.keras"))
    parallel = Parallel(whole_head(tmp_path / "head.keras"))
    whole_head(tmp_path / "head.keras", size=(64, 80))
    with pytest.raises(WeightsError, match="not the file that was recorded"):
        with_deep_feature(network, DeepFeature(parallel=parallel))


# --- the whole way, with a real model on real photos ----------------------------------------------


@pytest.fixture(scope="module")
def groups(tmp_path_factory):
    """Groups of four, made from eight of the demo's photos."""
    photos = make_photos(tmp_path_factory.mktemp("photos"))
    names = ("astronaut", "camera", "chelsea", "coffee", "coins", "grass", "page", "rocket")
    folder = tmp_path_factory.mktemp("made") / "groups"
    make_groups([photos / f"{name}.jpg" for name in names], folder)
    return folder


@pytest.fixture(scope="module")
def place(groups, tmp_path_factory):
    """An index of them, without a head; its runtimes and what they are made of are kept for all."""
    folder = tmp_path_factory.mktemp("index")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGSEARCH_CACHE", str(folder / "cache"))
        patch.setenv("IMGSEARCH_RUNTIME", "openvino")
        with ImageIndex(folder / "plain.duckdb", model="efficientnet-lite0") as index:
            index.add(groups, labels=lambda uri: uri.rsplit("/", 2)[1])
        yield folder / "plain.duckdb"


@pytest.fixture(scope="module")
def by_command(place):
    """What `imgsearch train --shallow` printed, and the analyzer's file that it says to write."""
    path = place.parent / "head.keras"
    command = ["train", "-i", str(place), "--shallow", "--out", str(path), "--validation", "0.3"]
    result = CliRunner().invoke(
        app, [*command, "--layers", "64,32", "--epochs", "5"], env={"COLUMNS": "200"}
    )
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    start = next(i for i, line in enumerate(lines) if line.strip() == "[embedding]")
    toml = place.parent / "head.toml"
    text = "\n".join(line.strip() for line in lines[start:])
    toml.write_text(f'model = {{ name = "efficientnet-lite0" }}\n{text}\n')
    return result, toml


def test_the_command_trains_and_says_how_to_use_the_head(by_command, place):
    result, toml = by_command
    assert f'parallel = "{place.parent / "head.keras"}"' in toml.read_text()
    assert "objects on which nothing was chosen, with 95% intervals by object:" in result.stdout
    report = json.loads((place.parent / "head.keras.json").read_text())
    assert report["options"]["shallow"] is True
    assert (report["unread"], report["pictures"]) == ([], [16, 8, 8])


def test_both_runtimes_agree(by_command, groups):
    pictures = sorted(groups.rglob("*.jpg"))[:8]
    found = []
    for runtime in ("tensorflow", "openvino"):
        analyzer = Analyzer(by_command[1], runtime=runtime)
        pixels = [analyzer.prepare(analyzer.open(picture).image) for picture in pictures]
        found.append(analyzer.model.predict(np.stack(pixels)))
    one, other = found
    assert one.embedding.shape == (8, 32)
    assert np.abs(one.embedding - other.embedding).max() < TOLERANCE
    assert np.abs(one.posterior - other.posterior).max() < TOLERANCE


def test_reindexing_reads_the_pictures_again_and_each_finds_itself(by_command, place, groups):
    copy = place.with_name("copy.duckdb")
    shutil.copy(place, copy)
    with ImageIndex(copy) as index:
        report = index.reindex(analyzer=by_command[1])
        assert (report.analyzed, report.copied, report.missing) == (32, 0, [])
        assert index.stats()["analyzer"]["embedding"]["parallel"]["sha256"]
        picture = next(groups.glob("coffee-*/2.jpg"))
        assert index.get(picture).labels == (picture.parent.name,)
        with ImageIndex(copy) as again:
            hits = again.search(picture.read_bytes(), strategy="dense-cosine", k=4)
        assert hits[0].uri == str(picture)
        assert hits[0].score == pytest.approx(1, abs=1e-5)
        with pytest.raises(ConfigurationError, match="passed through a network in parallel"):
            train(index, copy.with_name("other.keras"), options=OPTIONS)


def test_a_picture_that_is_gone_is_left_out_and_named(place, groups, tmp_path):
    gone, aside = next(groups.glob("page-*/3.jpg")), tmp_path / "3.jpg"
    command = ["train", "-i", str(place), "--shallow", "--out", str(tmp_path / "head.keras")]
    gone.rename(aside)
    try:
        result = CliRunner().invoke(app, [*command, "--epochs", "1", "--layers", "8"])
    finally:
        aside.rename(gone)
    assert result.exit_code == 0, result.output
    assert "could not be read again and are left out: 1; the first is" in result.stderr
    assert str(gone) in result.stderr
    report = json.loads((tmp_path / "head.keras.json").read_text())
    assert [item["uri"] for item in report["unread"]] == [str(gone)]
    assert sum(report["pictures"]) == 31
