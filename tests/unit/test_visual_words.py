"""Visual words: what they are, what they are called, and indexes that get them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from imgsearch_es import ImageIndex
from imgsearch_es.analysis.analyzer import Analyzer
from imgsearch_es.analysis.configuration import describe
from imgsearch_es.analysis.terms import (
    DEFAULT_WORDS,
    to_word_count,
    visual_words,
    word_number,
    word_vector,
    words_of,
)
from imgsearch_es.errors import AnalyzerError, ConfigurationError, QueryError
from imgsearch_es.vocabulary.synsets import imagenet


def test_the_largest_numbers_by_size_ties_by_place():
    vector = np.array([0.0, 3.0, -4.0, 3.0, 1e-9, np.nan], np.float32)
    assert words_of(vector, 2) == [(8, pytest.approx(0.8)), (1, pytest.approx(0.6))]
    length = np.sqrt(34)
    wanted = [(8, 4 / length), (1, 3 / length), (3, 3 / length)]  # 1e-9 is too small for a word
    assert words_of(vector, 6) == [(word, float(np.float32(weight))) for word, weight in wanted]
    assert words_of(np.zeros(4, np.float32), 3) == []


def test_words_do_not_depend_on_the_block():
    vectors = np.random.default_rng(1).normal(size=(50, 40)).astype(np.float32)
    words, weights = visual_words(vectors, 9)
    assert words.shape == weights.shape == (50, 9)
    for row, vector in enumerate(vectors):
        assert words_of(vector, 9) == list(
            zip(words[row].tolist(), weights[row].tolist(), strict=True)
        )
    np.testing.assert_allclose(np.square(weights.astype(float)).sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("wanted", [0, 1025, -1, 1.5, "many"])
def test_how_many_words(wanted):
    assert to_word_count(True) == DEFAULT_WORDS
    assert to_word_count(False) == 0
    with pytest.raises(ConfigurationError, match="1 to 1024"):
        to_word_count(wanted)


def test_names_of_words():
    assert word_number("vw412") == 412
    for key in ("412", "vw", "vw-1", "tabby", "vw²"):
        with pytest.raises(QueryError, match="no visual word"):
            word_number(key)
    assert word_vector("vw5", 4).tolist() == [0, -1, 0, 0]
    with pytest.raises(QueryError, match="vw0 to vw7"):
        word_vector("vw8", 4)
    with pytest.raises(QueryError, match="this index has none"):
        word_vector("vw0", 0)


class _Named:
    """A model whose classes draw from its feature as these weights say."""

    def class_weights(self):
        weights = np.zeros((3, 1000), np.float32)
        for weight, key in ((3, "tabby"), (2, "tiger_cat"), (1, "lynx"), (-5, "sofa")):
            names = [synset.name for synset in imagenet()]
            weights[1, names.index("studio_couch" if key == "sofa" else key)] = weight
        return weights


def test_the_synsets_that_draw_most_from_a_number(fake_model):
    config = {"model": "fake", "visual_words": 5}
    assert Analyzer(config).word_name("vw1") == "vw1"
    analyzer = Analyzer(config)
    analyzer.model.class_weights = _Named().class_weights
    name = analyzer.word_name("vw1")
    assert name == analyzer.word_name(name) == "vw1: tabby, tiger cat, lynx"
    assert analyzer.word_name("vw4").startswith("vw4: studio couch, ")
    assert analyzer.word_name("vw6") == "vw6"


def test_the_analyzer_says_that_it_has_words(fake_model):
    analyzer = Analyzer({"model": "fake", "visual_words": True})
    assert analyzer.config["visual_words"] == analyzer.visual_words == DEFAULT_WORDS
    assert "128 visual words" in describe(analyzer.config)
    assert "visual_words" not in Analyzer("fake").config
    with pytest.raises(AnalyzerError, match="embedding is false"):
        Analyzer({"model": "fake", "embedding": False, "visual_words": True})


def ranked(hits):
    return [(hit.id, hit.score) for hit in hits]


def test_an_index_gets_words_without_reading_a_picture(index, photos, cat, tmp_path, monkeypatch):
    with pytest.raises(QueryError, match="reindex --visual-words"):
        index.search(cat, strategy="visual-words")
    with pytest.raises(ConfigurationError, match="has no visual words"):
        ImageIndex(index.location, visual_words=True).count()
    with monkeypatch.context() as patch:
        patch.setattr("imgsearch_es.indexing.reindexing.Rebuild._read_again", None)
        assert index.reindex(visual_words=6).copied == 12
    assert ImageIndex(index.location, visual_words=True).add(photos).added == 0
    with pytest.raises(ConfigurationError, match="has 6 visual words"):
        ImageIndex(index.location, visual_words=7).count()
    with ImageIndex(tmp_path / "direct.duckdb", model="fake", visual_words=6) as direct:
        direct.add(photos)
        found = ranked(index.search(cat, strategy="visual-words"))
        assert found == ranked(direct.search(cat, strategy="visual-words"))
    assert found[0][1] == pytest.approx(1)
    assert index.verify().is_whole
    three = {**index.analyzer.config, "visual_words": 3}
    for asked, kept in (({"analyzer": three}, 3), ({}, 3), ({"visual_words": False}, None)):
        assert index.reindex(**asked).copied == 12
        assert index.stats()["analyzer"].get("visual_words") == kept


def test_words_have_no_visual_words_and_feedback_has(fake_model, photos, tmp_path):
    with ImageIndex(tmp_path / "a.duckdb", model="fake", visual_words=True) as index:
        index.add(photos)
        picture = next(iter(index.store.documents())).uri
        with pytest.raises(QueryError, match="words have no deep feature"):
            index.search(text="tabby", strategy="visual-words")
        hits = index.search(picture, strategy="visual-words", feedback=2)
        assert len(hits.refine(like=0, dislike=1))
        explained = hits.explain(0)
        assert explained.total == hits[0].score
        shown = explained.named(lambda key: f"{key}: name")
        assert all(row.key.endswith(": name") for row in shown.rows)
        assert json.dumps(shown.to_dict())
        key = explained.rows[0].key
        most = index.word(key, k=3)
        weights = [
            dict(words_of(index.get(hit.uri).embedding, 128))[word_number(key)] for hit in most
        ]
        assert [hit.score for hit in most] == weights == sorted(weights, reverse=True)
        assert key in str(most.query)


def test_an_index_of_features_alone_has_words(tmp_path):
    vectors = np.random.default_rng(2).random((20, 30)).astype(np.float32)
    (tmp_path / "features").mkdir()
    np.save(tmp_path / "features" / "filenames.npy", [f"/p/{i}.jpg" for i in range(20)])
    np.save(tmp_path / "features" / "vectors.npy", vectors)
    with ImageIndex(tmp_path / "a.duckdb", visual_words=8) as index:
        index.import_features(tmp_path / "features")
        hits = index.search(vector=vectors[4], strategy="visual-words", k=3)
        assert hits[0].uri == "/p/4.jpg"
        assert index.word_name("vw3") == "vw3"
        assert len(index.word("vw3"))
        assert index.verify().is_whole
        index.reindex(visual_words=False)
        assert index.search(vector=vectors[4])[0].uri == "/p/4.jpg"
