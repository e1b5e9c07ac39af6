"""PCA whitening: learnt on an index, used by an analyzer, and what the numbers promise."""

from __future__ import annotations

import json

import numpy as np
import pytest

from imgsearch_es import ImageIndex
from imgsearch_es.analysis.embedding_filters import PCAWhiten
from imgsearch_es.errors import ConfigurationError, ExchangeError
from imgsearch_es.indexing.whitening import Moments, principal_components
from imgsearch_es.learning import features_and_groups

VECTORS = np.random.default_rng(5).random((300, 7), dtype=np.float32) @ np.diag(
    np.arange(1, 8, dtype=np.float32)
)


def moments(*blocks):
    found = Moments(7)
    for block in blocks:
        found.add(block)
    return found


def test_moments_are_those_of_all_blocks_together():
    found = moments(VECTORS[:5], VECTORS[5:6], VECTORS[6:])
    wide = VECTORS.astype(np.float64)
    assert found.mean == pytest.approx(wide.mean(axis=0))
    assert found.covariance() == pytest.approx(np.cov(wide.T))


def test_whitened_features_have_variance_one_and_no_correlation():
    found = moments(VECTORS)
    components, share = principal_components(found, 4, "here")
    whitened = (VECTORS - found.mean) @ components
    assert np.cov(whitened.T) == pytest.approx(np.eye(4), abs=1e-6)
    assert 0.8 < share < 1
    assert principal_components(found, None, "here")[1] == pytest.approx(1)


@pytest.mark.parametrize(
    ("vectors", "wanted"),
    [(VECTORS, 8), (VECTORS[:3], 3), (VECTORS[:1], None), (VECTORS[[0] * 9], 1), (VECTORS, 0)],
)
def test_more_than_what_varies_is_refused(vectors, wanted):
    with pytest.raises(ConfigurationError, match=r"vary in|dimensions are"):
        principal_components(moments(vectors), wanted, "here")


def test_an_index_learns_and_another_is_made_with_it(index, photos, cat, tmp_path):
    learnt = index.learn_whitening(tmp_path / "pca.npz", dimensions=5)
    assert (learnt.pictures, learnt.dimensions, learnt.components) == (12, 16, 5)
    part = {"name": "pca_whiten", "path": str(tmp_path / "pca.npz"), "sha256": learnt.sha256}
    config = {"model": "fake", "embedding_filters": [part]}
    with ImageIndex(tmp_path / "white.duckdb", analyzer=config) as white:
        white.add(photos)
        stored = {d.uri: d for d in index.store.documents()}
        whiten = PCAWhiten(part["path"])
        for document in white.store.documents():
            before = stored[document.uri]
            assert (document.embedding == whiten(before.embedding[np.newaxis])[0]).all()
            assert document.terms == before.terms
        assert white.search(image=cat, strategy="dense-cosine")[0].path == cat
    index.reindex(analyzer=config)
    assert index.store.settings().embedding_dimensions == 5


def test_the_command_writes_once_and_the_toml_it_prints_works(run, asked, place, photos, tmp_path):
    out = tmp_path / "pca.npz"
    printed = run("whiten", "--index", place, "--out", out, "--dimensions", 3).stdout
    assert "16 -> 3 dimensions" in printed
    toml = 'model = "fake"\n' + printed[printed.index("[[embedding_filters]]") :]
    (tmp_path / "white.toml").write_text(toml)
    white = tmp_path / "white.duckdb"
    run("index", photos, "--index", white, "--analyzer", tmp_path / "white.toml")
    stats = asked("stats", "--index", white)
    assert stats["analyzer"]["embedding_filters"][0]["name"] == "pca_whiten"
    assert "exists" in run("whiten", "--index", place, "--out", out, code=1).stderr
    again = run("whiten", "--index", place, "--out", out, "--force", "--json").stdout
    assert json.loads(again)["components"] == 11
    assert "in .npz" in run("whiten", "--index", place, "--out", "pca.bin", code=1).stderr
    nowhere = run("whiten", "--index", place, "-d", 99, "--out", tmp_path / "no" / "a.npz", code=1)
    assert "is no folder to write to" in nowhere.stderr  # before the work


def test_an_index_without_deep_features_has_nothing_to_learn(fake_model, photos, tmp_path):
    config = {"model": "fake", "embedding": False}
    with ImageIndex(tmp_path / "a.duckdb", analyzer=config) as index:
        index.add(photos)
        with pytest.raises(ConfigurationError, match="no deep features"):
            index.learn_whitening(tmp_path / "pca.npz")
        with pytest.raises(ExchangeError, match="no deep features"):
            index.export_features(tmp_path / "f.csv")
        with pytest.raises(ConfigurationError, match="12 of 12 judged pictures have no deep"):
            features_and_groups(index, "folder")
