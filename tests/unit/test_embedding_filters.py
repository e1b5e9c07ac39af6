"""What deep features pass through: made-up vectors, files that fit and files that do not."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from imgsearch_es import ImageIndex
from imgsearch_es.analysis.analyzer import Analyzer
from imgsearch_es.analysis.configuration import describe, is_same_analyzer
from imgsearch_es.analysis.embedding_filters import (
    L2Normalize,
    PCAWhiten,
    read_whitening,
    run_embedding_filters,
    write_whitening,
)
from imgsearch_es.errors import (
    AnalyzerError,
    AnalyzerMismatchError,
    ConfigurationError,
    WeightsError,
)

VECTORS = np.random.default_rng(1).random((5, 16), dtype=np.float32)


@pytest.fixture
def whitening(tmp_path):
    path = tmp_path / "pca.npz"
    numbers = np.random.default_rng(2)
    write_whitening(path, numbers.random(16), numbers.random((16, 4)))
    return path


def config(path, **more):
    filters = [{"name": "pca_whiten", "path": str(path), **more}, {"name": "l2_normalize"}]
    return {"model": "fake", "embedding_filters": filters}


def test_l2_normalize_gives_length_one_and_leaves_zero():
    vectors = np.concatenate([VECTORS, np.zeros((1, 16), np.float32)])
    found = L2Normalize()(vectors)
    assert found.dtype == np.float32
    assert np.linalg.norm(found, axis=1) == pytest.approx([1] * 5 + [0])


def test_pca_whiten_computes_what_the_file_says(whitening):
    learnt = read_whitening(whitening)
    part = PCAWhiten(str(whitening))
    assert part.dimensions(16) == 4
    wanted = (VECTORS - learnt["mean"]) @ learnt["components"]
    assert part(VECTORS) == pytest.approx(wanted, rel=1e-6)
    alone = np.concatenate([part(row[np.newaxis]) for row in VECTORS])
    assert (alone == part(VECTORS)).all()


def test_a_relative_path_begins_in_the_folder_of_the_toml_file(fake_model, whitening):
    named = f'name = "pca_whiten"\npath = "{whitening.name}"\n'
    toml = whitening.with_name("analyzer.toml")
    toml.write_text(f'model = "fake"\n[[embedding_filters]]\n{named}')
    assert Analyzer(toml).config["embedding_filters"][0]["path"] == str(whitening)


def test_an_analyzer_runs_them_in_order_and_says_so(fake_model, whitening, cat):
    analyzer = Analyzer(config(whitening))
    embedding = analyzer.analyze(analyzer.open(cat).image).embedding
    assert embedding.shape == (4,)
    assert embedding.dtype == np.float32
    assert np.linalg.norm(embedding) == pytest.approx(1)
    assert analyzer.embedding_dimensions == 4
    assert "pca_whiten" in describe(analyzer.config)
    assert Analyzer(analyzer.config).config == analyzer.config


def test_the_defaults_leave_the_configuration_as_it_was(fake_model):
    for given in ({}, {"embedding": True}, {"embedding": {}}, {"embedding": {"pooling": "avg"}}):
        stored = Analyzer({"model": "fake", **given, "embedding_filters": []}).config
        parts = ["model", "image_filters", "term_filters", "embedding", "query_terms"]
        assert list(stored) == parts
        assert stored["embedding"] is True
    assert Analyzer({"model": "fake", "embedding": False}).config["embedding"] is False


def test_a_moved_file_is_the_same_analyzer_and_another_file_is_not(
    fake_model, whitening, photos, tmp_path
):
    with ImageIndex(tmp_path / "a.duckdb", analyzer=config(whitening)) as index:
        index.add(photos)
        assert index.store.settings().embedding_dimensions == 4
    moved = tmp_path / "elsewhere" / "w.npz"
    moved.parent.mkdir()
    shutil.move(whitening, moved)
    with ImageIndex(tmp_path / "a.duckdb", analyzer=config(moved)) as index:
        assert index.add(photos).unchanged == 12
    write_whitening(whitening, np.zeros(16), np.eye(16)[:, :4])
    with (
        ImageIndex(tmp_path / "a.duckdb", analyzer=config(whitening)) as index,
        pytest.raises(AnalyzerMismatchError),
    ):
        index.add(photos)
    with (
        ImageIndex(tmp_path / "a.duckdb") as index,
        pytest.raises(WeightsError, match="not the file that was recorded"),
    ):
        _ = index.analyzer


def test_words_are_searched_although_the_file_is_gone(fake_model, whitening, photos, tmp_path):
    with ImageIndex(tmp_path / "a.duckdb", analyzer=config(whitening)) as index:
        index.add(photos)
        word = next(index.store.documents()).terms[0].key
    whitening.unlink()
    with ImageIndex(tmp_path / "a.duckdb") as index:
        assert index.search(text=f'"{word}"'.replace("_", " ")).total > 0
        with pytest.raises(WeightsError, match="does not exist"):
            _ = index.analyzer


def test_analyzers_without_filters_are_those_of_older_indexes(fake_model):
    old = {k: v for k, v in Analyzer("fake").config.items() if k != "embedding_filters"}
    assert is_same_analyzer(old, "w", Analyzer({"model": "fake", "embedding": {}}).config, "w")
    other = Analyzer({"model": "fake", "embedding_filters": [{"name": "l2_normalize"}]}).config
    assert not is_same_analyzer(old, "w", other, "w")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"embedding": "gem"}, "embedding is true, false, or options"),
        ({"embedding": {"pooling": "gem"}}, "one deep feature only"),
        ({"embedding": {"pool": "gem"}}, "no option 'pool'"),
        ({"embedding_filters": [{"name": "l2_norm"}]}, "Did you mean 'l2_normalize'"),
        ({"embedding_filters": ["l2_normalize"]}, "is written"),
        ({"embedding_filters": [{"name": "pca_whiten"}]}, "cannot be built"),
        ({"embedding_filters": [{"name": "pca_whiten", "path": "no.npz"}]}, "does not exist"),
        ({"embedding": False, "embedding_filters": [{"name": "l2_normalize"}]}, "is false"),
    ],
)
def test_wrong_options_are_clear_errors(fake_model, given, message):
    with pytest.raises((ConfigurationError, AnalyzerError), match=message):
        Analyzer({"model": "fake", **given})


def test_a_file_of_other_dimensions_is_refused_when_the_index_is_made(fake_model, tmp_path):
    path = tmp_path / "pca.npz"
    write_whitening(path, np.zeros(9), np.eye(9))
    with pytest.raises(AnalyzerError, match="takes deep features of 9 dimensions, not 16"):
        ImageIndex(tmp_path / "a.duckdb", analyzer=config(path)).create()
    assert not (tmp_path / "a.duckdb").exists()


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


@pytest.mark.parametrize("kind", ["text", "pickle", "other arrays", "shapes", "nan", "cut"])
def test_files_that_are_no_whitening_are_refused(kind, whitening, tmp_path):
    path = tmp_path / "bad.npz"
    if kind == "text":
        path.write_text("no zip")
    elif kind == "pickle":
        np.savez(path, mean=np.array([Trap()], dtype=object), components=np.eye(2))
    elif kind == "other arrays":
        np.savez(path, a=np.zeros(2))
    elif kind == "shapes":
        np.savez(path, mean=np.zeros(3), components=np.eye(2))
    elif kind == "nan":
        np.savez(path, mean=np.full(2, np.nan), components=np.eye(2))
    else:
        path.write_bytes(whitening.read_bytes()[:200])
    with pytest.raises(WeightsError, match="no file of pca_whiten"):
        PCAWhiten(str(path))(np.zeros((1, 2), np.float32))


def test_a_filter_that_breaks_its_promise_is_named():
    class Short:
        def dimensions(self, given):
            return given

        def __call__(self, vectors):
            return vectors[:, 1:]

    with pytest.raises(AnalyzerError, match="Short gives shape"):
        run_embedding_filters((Short(),), VECTORS)
