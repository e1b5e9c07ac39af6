"""Any words: a tiny CLIP, trained here, from its pictures to words, ranking and free text."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from imgsearch_es import ImageIndex
from imgsearch_es.analysis.analyzer import Analyzer
from imgsearch_es.errors import AnalyzerError, ConfigurationError, QueryError, WeightsError
from tests import tiny_clip
from tests.integration import NUMPY_2
from tests.tiny_clip import PAIRS, UNSEEN

pytestmark = [pytest.mark.model, pytest.mark.long, NUMPY_2]

EACH = 8
"""Pictures of each pair that training left out."""


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip") / "tiny"
    tiny_clip.train(folder)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder, random = tmp_path_factory.mktemp("photos"), np.random.default_rng(99)
    for color, shape in UNSEEN:
        for number in range(EACH):
            name = folder / f"{color}-{shape}-{number}.png"
            tiny_clip.render(color, shape, random).save(name)
    return folder


@pytest.fixture(scope="module")
def index(preset, photos, tmp_path_factory):
    words = tmp_path_factory.mktemp("words") / "words.txt"
    words.write_text("\n".join(" ".join(pair) for pair in PAIRS))
    place = tmp_path_factory.mktemp("index") / "shapes.duckdb"
    with ImageIndex(place, model=f"zeroshot:{preset}", words=words) as made:
        made.add(photos)
    with ImageIndex(place) as opened:  # as it is stored, without the file of words
        yield opened


def said(filename: str) -> str:
    return " ".join(filename.split("-")[:2])


def test_unseen_pairs_are_found_by_words_and_by_free_text(index):
    documents = list(index.store.documents())
    assert len(documents) == EACH * len(UNSEEN)
    best = [index.vocabulary[one.terms[0].key].name == said(one.filename) for one in documents]
    right = Counter()
    for pair in UNSEEN:
        name = " ".join(pair)
        by_word = index.search(text=f'"{name}"', k=EACH)
        by_text = index.search(text=f"a photo of a {name}", strategy="dense-cosine", k=EACH)
        right["word"] += sum(said(hit.filename) == name for hit in by_word)
        right["text"] += sum(said(hit.filename) == name for hit in by_text)
    accuracy = {way: count / len(documents) for way, count in right.items()} | {
        "best": float(np.mean(best))
    }
    print(json.dumps(accuracy))
    assert min(accuracy.values()) >= 0.9, accuracy


def test_the_deep_feature_is_what_texts_are_compared_with(index):
    model = index.analyzer.model
    for one in list(index.store.documents())[:5]:
        assert np.linalg.norm(one.embedding) == pytest.approx(1, abs=1e-5)
        logits = one.embedding @ model.class_weights()
        best = index.vocabulary.keys[int(logits.argmax())]
        assert best == one.terms[0].key
    hits = index.search(text="a photo of a red circle filename:red*", strategy="dense-dot", k=3)
    vector = model.text_features(["a photo of a red circle"])[0]
    again = index.search(
        vector=vector, where={"filename": {"wildcard": "red*"}}, strategy="dense-dot", k=3
    )
    assert [(hit.id, hit.score) for hit in hits] == [(hit.id, hit.score) for hit in again]
    assert hits.query.text == "a photo of a red circle"


def test_wnids_among_the_words_have_hypernyms_and_mistakes_one_sentence(preset, index):
    analyzer = Analyzer(f"zeroshot:{preset}", words=["n02084071", "n02121620", "red ring"])
    assert analyzer.vocabulary.keys == ("dog", "cat", "red_ring")
    assert analyzer.vocabulary.resolve("animal").keys == ("dog", "cat")
    assert len(Analyzer(f"zeroshot:{preset}").vocabulary) > 1150
    assert Analyzer(analyzer.config).config == analyzer.config
    with pytest.raises(AnalyzerError, match="name a preset"):
        Analyzer("zeroshot:")
    with pytest.raises(WeightsError, match="cannot be had by keras-hub"):
        Analyzer("zeroshot:no_such_preset")
    with pytest.raises(ConfigurationError, match="one deep feature only"):
        Analyzer({"model": f"zeroshot:{preset}", "embedding": {"pooling": "max"}})
    with pytest.raises(QueryError, match="no signs"):
        index.search(text="ring -red", strategy="dense-cosine")
