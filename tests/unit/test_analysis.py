"""Analyzers: image filters, model, term filters."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from imgsearch_es.analysis.analyzer import Analyzer, Term
from imgsearch_es.analysis.configuration import describe
from imgsearch_es.analysis.models.base import Prediction
from imgsearch_es.errors import AnalyzerError, ConfigurationError
from tests.fakes import noise

FULL_CONFIG = {
    "model": {"name": "fake", "weights": "one"},
    "image_filters": [{"name": "resize", "height": 8, "width": 8, "interpolation": "nearest"}],
    "term_filters": [{"name": "top_k", "k": 50}],
    "embedding": True,
    "query_terms": 10,
}


def test_a_models_name_is_a_whole_analyzer(fake_model):
    assert Analyzer("fake").config == FULL_CONFIG
    assert Analyzer({"model": {"name": "fake"}}).config == FULL_CONFIG


def test_its_configuration_makes_it_again(fake_model):
    config = {"model": "fake", "term_filters": [{"name": "hypernyms"}, {"name": "top_k", "k": 3}]}
    first = Analyzer(config)
    again = Analyzer(first.config)
    assert again.config == first.config
    assert again.vocabulary == first.vocabulary
    assert again.analyze(noise(0)).terms == first.analyze(noise(0)).terms


def test_toml(fake_model, tmp_path):
    path = tmp_path / "analyzer.toml"
    path.write_text('model = "fake"\n[[term_filters]]\nname = "top_k"\nk = 3\n')
    for source in (path, str(path)):
        analyzer = Analyzer(source)
        assert analyzer.config["term_filters"] == [{"name": "top_k", "k": 3}]
        assert len(analyzer.analyze(noise(0)).terms) == 3


def test_a_wrong_toml_file_is_named(fake_model, tmp_path):
    with pytest.raises(ConfigurationError, match=r"nowhere\.toml: No such file"):
        Analyzer(tmp_path / "nowhere.toml")
    (tmp_path / "bad.toml").write_text("model = = 1")
    with pytest.raises(ConfigurationError, match=r"bad\.toml is not valid TOML"):
        Analyzer(tmp_path / "bad.toml")
    for content in (b"model = '\xff'", b"model = " + b"[" * 100_000):
        (tmp_path / "bad.toml").write_bytes(content)
        with pytest.raises(ConfigurationError, match=r"bad\.toml is not valid TOML"):
            Analyzer(tmp_path / "bad.toml")
    for model in ("3", "['fake']"):
        (tmp_path / "bad.toml").write_text(f"model = {model}")
        with pytest.raises(AnalyzerError, match="this model has no name"):
            Analyzer(tmp_path / "bad.toml")
    (tmp_path / "good.toml").write_text('\ufeffmodel = "fake"\r\n')  # as Windows writes it
    assert Analyzer(tmp_path / "good.toml").config["model"]["name"] == "fake"


def test_an_unknown_option_is_named():
    with pytest.raises(ConfigurationError, match="'filters'; known are embedding, "):
        Analyzer({"model": "fake", "filters": []})


def test_terms_are_the_best_first_and_float32(fake_model):
    terms = Analyzer("fake").analyze(noise(0)).terms
    scores = [term.score for term in terms]
    assert len(terms) == 50
    assert scores == sorted(scores, reverse=True)
    assert all(score == float(np.float32(score)) and score > 0 for score in scores)


def test_one_by_one_is_as_in_a_batch(fake_model):
    pictures = [noise(i, 20, 10 + i) for i in range(5)]
    analyzer = Analyzer("fake")
    together = analyzer.analyze_batch(pictures)
    assert fake_model.calls == 1
    for alone, batched in zip(map(analyzer.analyze, pictures), together, strict=True):
        assert [t.key for t in alone.terms] == [t.key for t in batched.terms]
        np.testing.assert_allclose(alone.embedding, batched.embedding)


def test_making_one_and_its_fingerprint_run_nothing(fake_model):
    assert Analyzer("fake").fingerprint().startswith("sha256:")
    assert Analyzer("fake").analyze_batch([]) == []
    assert fake_model.calls == 0


def test_embedding(fake_model):
    analyzer = Analyzer("fake")
    assert analyzer.embedding_dimensions == 16
    assert analyzer.analyze(noise(0)).embedding.shape == (16,)
    without = Analyzer({"model": "fake", "embedding": False})
    assert without.embedding_dimensions == 0
    assert without.analyze(noise(0)).embedding is None
    assert fake_model.calls == 3


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf, 1e-39])
def test_a_score_that_is_no_weight_is_no_term(fake_model, monkeypatch, bad):
    posterior = np.zeros((1, 1000), dtype=np.float32)
    posterior[0, :3] = 0.25, bad, 0.5
    prediction = Prediction(posterior, np.zeros((1, 2), dtype=np.float32))
    monkeypatch.setattr(fake_model, "predict", lambda self, pixels: prediction)
    analyzer = Analyzer({"model": "fake", "term_filters": []})
    keys = analyzer.vocabulary.keys
    assert analyzer.analyze(noise(0)).terms == (Term(keys[2], 0.5), Term(keys[0], 0.25))


def test_equal_scores_keep_the_vocabularys_order(fake_model, monkeypatch):
    posterior = np.zeros((1, 1000), dtype=np.float32)
    posterior[0, [7, 3, 900]] = 0.25
    prediction = Prediction(posterior, np.zeros((1, 2), dtype=np.float32))
    monkeypatch.setattr(fake_model, "predict", lambda self, pixels: prediction)
    analyzer = Analyzer("fake")
    keys = [term.key for term in analyzer.analyze(noise(0)).terms]
    assert keys == [analyzer.vocabulary.keys[i] for i in (3, 7, 900)]


def test_it_is_shown_as_its_parts_in_order(fake_model):
    shown = "resize(height=8, width=8, interpolation=nearest) -> fake(weights=one) -> top_k(k=50)"
    shown += "; a query picture asks with 10"
    assert describe(FULL_CONFIG) == shown
    assert repr(Analyzer("fake")) == f"Analyzer({shown})"


def test_filters_that_leave_pictures_of_different_sizes(fake_model):
    filters = [{"name": "resize", "shorter_side": 8}]
    analyzer = Analyzer({"model": "fake", "image_filters": filters})
    pictures = [Image.new("RGB", size) for size in ((20, 10), (10, 20))]
    with pytest.raises(AnalyzerError, match="different sizes"):
        analyzer.analyze_batch(pictures)
