"""Training a head with TensorFlow: what it learns, that it goes on, and its use in an analyzer."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from imgsearch_es import ImageIndex
from imgsearch_es.errors import AnalyzerError, ConfigurationError, WeightsError
from imgsearch_es.learning import TrainingOptions, build_head, load_head, train_head, training
from imgsearch_es.learning.head import apply_head, save_head
from imgsearch_es.learning.learner import mean_loss
from imgsearch_es.learning.training import score
from tests.fakes import pictures as made_pictures
from tests.fakes import register
from tests.integration import NUMPY_2

pytestmark = [pytest.mark.model, NUMPY_2]

OPTIONS = TrainingOptions(
    layers=(32, 16), dropout=0.1, learning_rate=3e-3, epochs=20, objects=8, patience=30,
    validation=0.3,
)  # fmt: skip


@pytest.fixture(scope="module")
def pictures() -> tuple[np.ndarray, list[int]]:
    """Sixty objects of four: each has a signal in few dimensions, and much noise in others."""
    rng = np.random.default_rng(4)
    signal = np.repeat(rng.standard_normal((60, 6)), 4, axis=0)
    signal += 0.1 * rng.standard_normal((240, 6))
    noise = 1.2 * rng.standard_normal((240, 18))
    turn, _ = np.linalg.qr(rng.standard_normal((24, 24)))
    mixed = np.concatenate([signal, noise], axis=1) @ turn
    return mixed.astype(np.float32), np.repeat(np.arange(60), 4).tolist()


@pytest.fixture(scope="module")
def head(pictures, tmp_path_factory):
    """A trained head and its report."""
    path = tmp_path_factory.mktemp("head") / "head.keras"
    return path, train_head(*pictures, path, options=OPTIONS)


def test_the_score_of_held_out_objects_rises(head, pictures):
    path, report = head
    assert report.helps
    assert report.best_score > report.raw_score + 0.2
    assert report.objects == (24, 18, 18)
    assert list(report.tested) == ["as they are", "pca_whiten", "start", "head"]
    mean = report.tested["head"].mean - report.tested[report.rival].mean
    assert report.gain.mean == pytest.approx(mean)
    assert report.gain.low < mean < report.gain.high
    assert report.helps == (report.gain.low > 0)
    assert "objects on which nothing was chosen" in str(report)
    assert report.history[-1].loss < report.history[0].loss
    assert json.loads(path.with_name("head.keras.json").read_text())["best"] == report.best
    assert [other.name for other in sorted(path.parent.iterdir())] == [
        "head.keras", "head.keras.json",
    ]  # fmt: skip


def test_of_many_held_out_objects_some_choose(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "_MEASURED", 20)
    report = train_head(*pictures, tmp_path / "head.keras", options=replace(OPTIONS, epochs=1))
    assert report.objects == (24, 5, 18)
    assert report.pictures == (96, 20, 72)
    assert "which 5 others chose" in str(report)


def test_the_file_gives_the_best_embeddings(head, pictures):
    path, _ = head
    features, groups = pictures
    network = load_head(path)
    embeddings = apply_head(network, features)
    assert embeddings.shape == (240, 16)
    assert np.linalg.norm(embeddings, axis=1) == pytest.approx(np.ones(240), abs=1e-5)
    assert score(embeddings, np.array(groups)) > score(features, np.array(groups))
    assert (apply_head(network, -features) != embeddings).any()  # signs count


def test_the_file_does_not_depend_on_where_things_are_in_memory(head):
    """Keras says by addresses which parts share an object; in another process they are others."""
    with zipfile.ZipFile(head[0]) as archive:
        found = re.findall(r'"shared_object_id": (\d+)', archive.read("config.json").decode())
    assert found
    assert {int(number) for number in found} == set(range(1, len(set(found)) + 1))


def test_training_ends_when_the_score_stops_rising(pictures, tmp_path):
    options = TrainingOptions(layers=(8,), epochs=400, patience=3, learning_rate=3e-3)
    report = train_head(*pictures, tmp_path / "head.keras", options=options)
    assert report.stopped_early
    assert len(report.history) == report.best + 3


def test_a_learning_rate_that_is_too_high_is_named(pictures, tmp_path):
    options = replace(OPTIONS, learning_rate=1e38)
    with pytest.raises(ConfigurationError, match="is not finite: use a lower learning rate"):
        train_head(*pictures, tmp_path / "head.keras", options=options)


@pytest.mark.parametrize("name", ["triplet", "contrastive"])
@pytest.mark.parametrize("mining", ["semi-hard", "random"])
def test_losses_and_minings_learn(pictures, tmp_path, name, mining):
    options = TrainingOptions(
        layers=(16,), shortcut=False, dropout=0, loss=name, mining=mining, epochs=8,
        learning_rate=3e-3, objects=8,
    )  # fmt: skip
    report = train_head(*pictures, tmp_path / "head.keras", options=options)
    assert report.history[-1].loss < report.history[0].loss


def test_losses_are_their_formulas():
    embeddings = np.array([[0.0, 0.0], [0.6, 0.0], [0.0, 1.0]], dtype=np.float32)
    triplets = np.array([[0, 1, 2], [1, 0, 2]])
    # squared distances: positive 0.36 twice; negative 1 and 1.36
    found = float(mean_loss("triplet", embeddings, triplets, 1.0))
    assert found == pytest.approx(((0.36 - 1 + 1) + (0.36 - 1.36 + 1)) / 2)
    found = float(mean_loss("contrastive", embeddings, triplets, 1.1))
    second = max(0, 1.1 - 1.36**0.5) ** 2
    assert found == pytest.approx((0.36 + (0.1**2 + second) / 2) / 2)


def test_the_plot_shows_both_curves(head, tmp_path):
    _, report = head
    report.save_plot(tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as drawn:
        assert drawn.width > drawn.height
    labels = [text.get_text() for axes in report.plot().axes for text in axes.get_legend().texts]
    assert labels == ["learned from", "held out", "head", "features as they are"]


# --- as a part of an analyzer -----------------------------------------------------------------


@pytest.fixture
def photos(tmp_path):
    return made_pictures(tmp_path / "photos", 6)


@pytest.fixture
def small_head(tmp_path):
    """A head for the features of the fake model."""
    path = tmp_path / "small.keras"
    save_head(build_head(16, (8, 4), seed=3), path)
    return path


def analyzer(path):
    return {"model": "fake", "embedding_filters": [{"name": "head", "path": str(path)}]}


def test_reindexing_sends_features_through_the_head(monkeypatch, photos, small_head, tmp_path):
    register(monkeypatch)
    with ImageIndex(tmp_path / "fresh.duckdb", analyzer=analyzer(small_head)) as fresh:
        fresh.add(photos)
        wanted = {d.id: d.embedding for d in fresh.store.documents()}
    with ImageIndex(tmp_path / "plain.duckdb", model="fake") as index:
        index.add(photos, labels="thing")
        shutil.rmtree(photos)  # no picture is read
        report = index.reindex(analyzer=analyzer(small_head))
        assert (report.copied, report.analyzed, report.missing) == (6, 0, [])
        found = {d.id: d.embedding for d in index.store.documents()}
        assert found.keys() == wanted.keys()
        for key, vector in found.items():
            assert vector.shape == (4,)
            assert (vector == wanted[key]).all()
        hits = index.search(next(iter(found)), strategy="dense-cosine", k=6)
        assert hits[0].score == pytest.approx(1)
        assert index.get(hits[0].id).labels == ("thing",)


def test_a_head_of_other_features_is_refused(monkeypatch, photos, head, tmp_path):
    register(monkeypatch)
    with (
        ImageIndex(tmp_path / "wrong.duckdb", analyzer=analyzer(head[0])) as index,
        pytest.raises(AnalyzerError, match="deep features of 24 dimensions, not 16"),
    ):
        index.add(photos)


def test_a_file_with_code_is_not_loaded(tmp_path):
    import keras

    feature = keras.Input((4,))
    network = keras.Model(feature, keras.layers.Lambda(lambda x: x)(feature))
    network.save(tmp_path / "code.keras")
    with pytest.raises(WeightsError, match="Lambda"):
        load_head(tmp_path / "code.keras")


def test_a_file_that_is_no_head_is_refused(tmp_path):
    import keras

    picture = keras.Input((8, 8, 3))
    keras.Model(picture, keras.layers.Flatten()(picture)).save(tmp_path / "picture.keras")
    with pytest.raises(AnalyzerError, match="a head takes one vector"):
        load_head(tmp_path / "picture.keras")
    with zipfile.ZipFile(tmp_path / "broken.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(WeightsError, match="Keras cannot load"):
        load_head(tmp_path / "broken.keras")
    with pytest.raises(WeightsError, match="does not exist"):
        load_head(tmp_path / "missing.keras")
