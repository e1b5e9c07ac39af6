"""A shallow network in parallel, without TensorFlow: pictures, configurations, what is refused."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from imgsearch_es import ImageIndex
from imgsearch_es.analysis.analyzer import Analyzer
from imgsearch_es.analysis.configuration import describe, is_same_analyzer
from imgsearch_es.analysis.models.runtime_choice import folder_of
from imgsearch_es.errors import (
    AnalyzerError,
    AnalyzerMismatchError,
    ConfigurationError,
    WeightsError,
)
from imgsearch_es.learning import TrainingOptions, train, train_head
from imgsearch_es.learning.examples import Examples, Pictures, read_again

SHALLOW = TrainingOptions(shallow=True)


def pixels(count: int, height: int = 16, width: int = 24) -> np.ndarray:
    shape = (count, height, width, 3)
    return np.random.default_rng(6).integers(0, 256, shape, dtype=np.uint8)


def small_picture(index: ImageIndex, uri: object) -> np.ndarray:
    prepared = index.analyzer.prepare(index.analyzer.open(uri).image)
    return Pictures.of(prepared[np.newaxis]).small[0]


# --- pictures ---------------------------------------------------------------------------------


def test_a_small_picture_has_the_means_of_four_by_four_pixels():
    picture = pixels(2, 18, 27)
    small = Pictures.of(picture).small
    assert small.shape == (2, 4, 6, 3)
    assert small.dtype == np.float32
    assert (small[1, 2, 3] == picture[1, 8:12, 12:16].mean(axis=(0, 1))).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (pixels(2).astype(np.float32), r"pixels are float32 of shape \(2, 16, 24, 3\)"),
        (pixels(2)[0], r"shape \(16, 24, 3\)"),
        (pixels(2, 7, 30), "30 x 7 pixels are too small"),
    ],
)
def test_pixels_that_are_no_pictures_are_refused(given, message):
    with pytest.raises(ConfigurationError, match=message):
        Pictures.of(given)


def test_the_pictures_of_an_index_are_read_as_they_were_for_it(index):
    documents = list(index.store.documents())
    read: list[tuple[int, int]] = []
    found, kept, unread = read_again(index.analyzer, documents, lambda *counts: read.append(counts))
    assert (kept, unread) == (list(range(12)), [])
    assert found.size == (8, 8)
    assert read == [(i, 12) for i in range(1, 13)]
    for document, small in zip(documents, found.small, strict=True):
        assert (small == small_picture(index, document.uri)).all()


def test_pictures_that_are_gone_or_others_are_left_out_and_named(index, photos):
    cats = photos / "cats"
    index.add((cats / "cat.4.png").read_bytes() + b"other")
    (cats / "cat.0.png").unlink()
    shutil.copy(cats / "cat.2.png", cats / "cat.1.png")
    (cats / "cat.3.png").write_text("no picture")
    documents = sorted(index.store.documents(), key=lambda document: document.uri)
    found, places, unread = read_again(index.analyzer, documents)
    reasons = {uri.rpartition("/")[2]: reason for uri, reason in unread}
    assert "no such file" in reasons.pop("cat.0.png")
    assert reasons.pop("cat.1.png") == "has changed since it was indexed"
    assert "not a picture" in reasons.pop("cat.3.png")
    assert list(reasons.values()) == ["came from memory and cannot be read again"]
    kept = [documents[place].filename for place in places]
    assert kept == ["cat.2.png", "cat.4.png", "cat.5.png", *(f"dog.{i}.png" for i in range(6))]
    assert (found.small[0] == small_picture(index, cats / "cat.2.png")).all()
    assert len(found.small) == 9


def test_without_any_picture_there_is_nothing_to_learn(index, photos):
    documents = list(index.store.documents())
    shutil.rmtree(photos)
    with pytest.raises(ConfigurationError, match="none of the 12 judged ones can be read again"):
        read_again(index.analyzer, [each for each in documents if each.uri.startswith("/")])


def test_parts_of_examples_share_the_pictures_and_find_their_own():
    whole = pixels(40)
    features = whole[:, :4, :4].mean(axis=(1, 2))  # so that a feature tells its picture
    pictures = Pictures.of(whole)
    names = [f"object {i // 4}" for i in range(40)]
    names[7] = "alone"
    for part in Examples.of(features, names, pictures).divide(0.4, seed=1):
        assert part.pictures is pictures
        vectors, small = part.inputs(np.arange(3, len(part)))
        assert len(vectors) == len(part) - 3
        assert small[:, 0, 0] == pytest.approx(vectors, rel=1e-6)
    (alone,) = Examples.of(features, names).inputs()
    assert len(alone) == 39


# --- what is refused ----------------------------------------------------------------------------


def test_pixels_and_the_option_go_together(tmp_path):
    features, groups = np.zeros((8, 2), np.float32), [0, 0, 1, 1, 2, 2, 3, 3]
    for given in ({"options": SHALLOW}, {"pixels": pixels(8)}):
        with pytest.raises(ConfigurationError, match="go together"):
            train_head(features, groups, tmp_path / "head.keras", **given)
    with pytest.raises(ConfigurationError, match="pixels of 7 pictures and features of 8"):
        train_head(features, groups, tmp_path / "head.keras", pixels=pixels(7), options=SHALLOW)


def test_features_that_the_network_did_not_give(fake_model, photos, tmp_path):
    analyzer = {"model": "fake", "embedding_filters": [{"name": "l2_normalize"}]}
    with ImageIndex(tmp_path / "filtered.duckdb", analyzer=analyzer) as index:
        index.add(photos)
        with pytest.raises(ConfigurationError, match="have passed through embedding_filters"):
            train(index, tmp_path / "head.keras", "folder", options=SHALLOW)
        index.export_features(tmp_path / "features.csv")
    with ImageIndex(tmp_path / "imported.duckdb") as index:
        index.import_features(tmp_path / "features.csv")
        with pytest.raises(ConfigurationError, match="12 of 12 judged pictures have imported"):
            train(index, tmp_path / "head.keras", "folder", options=SHALLOW)


def test_a_head_that_exists_is_noticed_before_pictures_are_read(index, photos, tmp_path):
    shutil.rmtree(photos)
    (tmp_path / "head.keras").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="exists"):
        train(index, tmp_path / "head.keras", "folder", options=SHALLOW)


# --- in an analyzer's configuration ---------------------------------------------------------------


@pytest.fixture
def head(tmp_path):
    """A file; it is read when the network is built, and it is not built here."""
    path = tmp_path / "head.keras"
    path.write_bytes(b"some weights")
    return path


def analyzer(path, **more):
    return Analyzer({"model": "efficientnet-lite0", "embedding": {"parallel": path, **more}})


def test_the_configuration_records_the_file_and_is_read_again(head, monkeypatch):
    monkeypatch.chdir(head.parent)
    made = analyzer("head.keras", pooling="gem")
    stored = made.config["embedding"]
    assert stored == {
        "pooling": "gem",
        "p": 3.0,
        "parallel": {"path": str(head), "sha256": stored["parallel"]["sha256"]},
    }
    assert len(stored["parallel"]["sha256"]) == 64
    assert Analyzer(made.config).config == made.config
    assert f"deep feature: gem(p=3.0) -> parallel(path={head}" in describe(made.config)
    head.unlink()
    assert "parallel(path=" in describe(made.config)


def test_a_moved_file_is_the_same_analyzer_and_another_file_is_not(head, tmp_path):
    first = analyzer(head)
    moved = analyzer(head.rename(tmp_path / "moved.keras"))
    assert moved.config != first.config
    assert is_same_analyzer(first.config, "w", moved.config, "w")
    assert folder_of(first.model) == folder_of(moved.model)
    moved.check_is(first.config, moved.fingerprint(), "pets.duckdb")
    head.write_bytes(b"other weights")
    other = analyzer(head)
    assert not is_same_analyzer(first.config, "w", other.config, "w")
    assert folder_of(first.model) != folder_of(other.model)
    with pytest.raises(AnalyzerMismatchError, match="was built with"):
        other.check_is(first.config, other.fingerprint(), "pets.duckdb")
    with pytest.raises(WeightsError, match="not the file that was recorded"):
        Analyzer(first.config)


def test_it_does_not_go_the_short_way_of_embedding_filters(head):
    plain = Analyzer("efficientnet-lite0")
    weights = plain.fingerprint()
    assert analyzer(head).filters_added_to(plain.config, weights) is None
    more = {**analyzer(head).config, "embedding_filters": [{"name": "l2_normalize"}]}
    assert Analyzer(more).filters_added_to(plain.config, weights) is None
    added = Analyzer(more).filters_added_to(analyzer(head).config, weights)
    assert len(added) == 1, "of what passed through the network in parallel already"


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (3, AnalyzerError, "parallel is the path of a head"),
        ({}, AnalyzerError, "parallel is the path of a head"),
        ({"path": "a.keras", "file": "b"}, AnalyzerError, "parallel is the path of a head"),
        ({"path": 3}, AnalyzerError, "needs path"),
        ("missing.keras", WeightsError, "a network in parallel does not exist: .*missing.keras"),
    ],
)
def test_wrong_values_are_clear_errors(given, error, message):
    with pytest.raises(error, match=message):
        analyzer(given)
