"""PyTerrier's own operators, experiments and contracts on an index of pictures."""

from __future__ import annotations

import json
import tarfile

import pandas as pd
import pyterrier as pt
import pytest
from lz4.frame import LZ4FrameFile
from PIL import Image

from imgsearch_es import ImageIndex, evaluate, folder_label
from imgsearch_es.errors import ConfigurationError, QueryError
from imgsearch_es.pyterrier import Index
from tests.fakes import noise

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

SYSTEMS = ("auto", "bm25:k1=1.5", "auto+dense-cosine:rrf")


@pytest.fixture
def images(index) -> Index:
    """An index that was made without docnos."""
    index.close()
    with Index(index.location).images as opened:
        found = Index(index.location)
        found.images = opened
        yield found


def test_an_experiment_has_the_figures_of_evaluate(images):
    data = images.dataset("labels")
    systems = [images.retriever(name, exclude_self=True) for name in SYSTEMS]
    table = pt.Experiment(
        systems, data.get_topics(), data.get_qrels(), ["P_10", "map", "ndcg_cut_10"],
        names=list(SYSTEMS),
    ).set_index("name")  # fmt: skip
    ours = evaluate(images.images, "labels", SYSTEMS, "P@10,AP,nDCG@10")
    for name in SYSTEMS:
        for theirs, measure in {"P_10": "P@10", "map": "AP", "ndcg_cut_10": "nDCG@10"}.items():
            expected = ours.mean(name, measure).mean
            assert table.loc[name, theirs] == pytest.approx(expected, abs=1e-6)
    assert images.dataset("labels", sample=3).get_topics().shape == (3, 2)


def test_pipelines(images, cat):
    document = images.images.get(cat)
    word = document.terms[0].key
    sqrt, dense = images.retriever("sqrt", k=12), images.retriever("dense-cosine")
    found = (sqrt % 3 >> images.text_loader()).search(word)
    hits = images.images.search(text=word, strategy="sqrt", k=3)
    assert found.docno.tolist() == [hit.id for hit in hits]
    assert found["rank"].tolist() == [0, 1, 2]
    assert found.path.tolist() == hits.uris
    assert found.label.tolist() == [" ".join(hit.labels) for hit in hits]
    assert found.terms[0][0] == images.images.vocabulary[hits[0].synsets[0].key].name
    assert found.thumbnail[0].startswith(b"\xff\xd8")
    asked = pd.DataFrame({"qid": ["1", "2"], "image": [str(cat), document.id]})
    both = (sqrt + dense)(asked)
    alone = {(row.qid, row.docno): row.score for row in sqrt(asked).itertuples()}
    assert {q: d for q, d, s in zip(both.qid, both.docno, both["rank"], strict=True) if s == 0} == {
        "1": document.id, "2": document.id,
    }  # fmt: skip
    assert len(both) == 24
    features = (sqrt >> (sqrt**dense))(asked)
    assert len(features) == len(alone)
    for row in features.itertuples():
        assert row.features[0] == pytest.approx(alone[row.qid, row.docno])
    assert (sqrt | dense)(asked).groupby("qid").docno.nunique().tolist() == [12, 12]
    again = (sqrt % 5 >> dense)(asked)  # the five best are ranked again
    best = {(row.qid, row.docno) for row in (sqrt % 5)(asked).itertuples()}
    assert {(row.qid, row.docno) for row in again.itertuples()} == best
    everything = {(row.qid, row.docno): row.score for row in dense(asked).itertuples()}
    assert all(row.score == everything[row.qid, row.docno] for row in again.itertuples())
    told = (sqrt % 5 >> (sqrt**dense) >> images.text_loader() >> dense)(asked)
    assert told.path.tolist() == [images.images.get(docno).uri for docno in told.docno]
    assert [row.features[1] for row in told.itertuples()] == pytest.approx(told.score)
    others = sqrt % 5 >> images.retriever("sqrt", exclude_self=True)
    assert others(asked).groupby("qid").size().tolist() == [4, 4]
    assert document.id not in set(others(asked).docno)
    pictures = pd.DataFrame({"qid": ["p"], "image": [Image.open(cat)]})
    assert sqrt(pictures).docno[0] == document.id
    assert sqrt(asked[:0]).columns.tolist() == ["qid", "image", "docno", "score", "rank"]
    assert repr(dense) == "imgsearch_es(dense-cosine)"


def test_terms_as_learned_sparse_retrieval_takes_them(images, cat):
    analyzer, retriever = images.analyzer(), images.retriever("auto", k=12)
    asked = pd.DataFrame({"qid": ["1"], "image": [str(cat)]})
    query = analyzer(asked).query_toks[0]
    assert query == {t.key.lower(): t.score for t in images.images.query(image=cat).terms}
    by_terms = retriever(pd.DataFrame({"qid": ["1"], "query_toks": [query]}))
    by_picture = retriever(asked)
    assert by_terms.docno.tolist() == by_picture.docno.tolist()
    assert by_terms.score.tolist() == by_picture.score.tolist()
    documents = {row["docno"]: row["toks"] for row in images.get_corpus_iter()}
    assert len(documents) == 12
    document = images.images.get(cat)
    analyzed = analyzer(pd.DataFrame({"docno": ["x"], "image": [str(cat)]}))
    assert analyzed.toks[0] == documents[document.id]
    score = sum(weight * documents[document.id].get(key, 0) for key, weight in query.items())
    assert by_picture.score[0] == pytest.approx(score, rel=1e-6)
    with pytest.raises(QueryError, match="dense-cosine takes no query_toks"):
        images.retriever("dense-cosine")(pd.DataFrame({"qid": ["1"], "query_toks": [query]}))
    both = pd.DataFrame({"qid": ["1", "2"], "query_toks": [query, {}]})
    with pytest.warns(UserWarning, match="no answer to 2: nothing to search for"):
        assert retriever(both).docno.tolist() == by_terms.docno.tolist()
    again = (retriever % 2 >> analyzer)(asked)  # found for queries: their weights, and not toks
    assert again.query_toks.tolist() == [query, query]


def test_what_cannot_be_answered_is_said_and_the_rest_is(images, cat):
    retriever = images.retriever(k=3)
    asked = pd.DataFrame({"qid": ["1", "2"], "image": [str(cat), None], "query": [None, "glorb"]})
    with pytest.warns(UserWarning, match=r"imgsearch_es\(auto\) has no answer to 2: no synset"):
        assert retriever(asked).qid.tolist() == ["1"] * 3
    with pytest.raises(QueryError, match="no synset is named 'glorb'"):
        retriever.search("glorb")
    two = pd.DataFrame({"qid": ["1", "2"], "query": [images.images.get(cat).terms[0].key, "glorb"]})
    with pytest.warns(UserWarning, match="has no answer to 2: no synset"):
        assert [len(toks) for toks in images.analyzer()(two).query_toks] == [1, 0]
    with pytest.raises(QueryError, match="no synset is named 'glorb'"):
        images.analyzer().search("glorb")
    many = pd.DataFrame({"qid": range(65), "image": [str(cat)] * 64 + [None], "query": "glorb"})
    many.loc[:63, "query"] = None
    with pytest.warns(UserWarning, match="has no answer to 64: no synset"):
        assert len(retriever(many)) == 3 * 64
    with pytest.raises(ConfigurationError, match="no field color; there are path, label"):
        images.text_loader(["path", "color"])
    with pytest.raises(QueryError, match="has no picture nobody"):
        images.text_loader("path")(pd.DataFrame({"docno": ["nobody"]}))


def test_documents_keep_their_docnos(fake_model, photos, tmp_path):
    paths = sorted(photos.rglob("*.png"))
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    rows = [{"docno": f"d{i}", "image": path, "label": "x"} for i, path in enumerate(paths[:4])]
    rows += [{"docno": "memory", "image": noise(7)}, {"docno": "broken", "image": broken}]
    index = Index(tmp_path / "new.duckdb", model="fake")
    with pytest.warns(UserWarning, match="1 pictures could not be indexed, such as .*broken.png"):
        assert index.index(iter(rows)) is index
    with index.images:
        asked = pd.DataFrame({"qid": ["1", "2"], "image": [str(paths[2]), noise(7)]})
        found = index.retriever("dense-cosine", k=1)(asked)
        assert found.docno.tolist() == ["d2", "memory"]
        assert index.text_loader("label")(found).label.tolist() == ["x", ""]
        assert {row["docno"] for row in index.get_corpus_iter()} == {
            "d0",
            "d1",
            "d2",
            "d3",
            "memory",
        }
        index.index(pd.DataFrame({"docno": ["late"], "image": [str(paths[5])]}))
        late = index.text_loader("path")(pd.DataFrame({"docno": ["late"]}))
        assert late.path[0] == str(paths[5])
        twice = [{"docno": docno, "image": paths[0]} for docno in "ab"]
        for wrong, message in (
            ([{"docno": "a"}], "needs docno and image, not"),
            (twice, "same picture"),
            ([{"docno": "a", "image": path} for path in paths[:2]], "same docno"),
        ):
            with pytest.raises(ConfigurationError, match=message):
                index.index(wrong)


def test_docnos_that_a_table_has_as_numbers(fake_model, photos, tmp_path):
    paths = sorted(photos.rglob("*.png"))
    index = Index(tmp_path / "new.duckdb", model="fake")
    with index.index({"docno": i, "image": path} for i, path in enumerate(paths[:4])).images:
        asked = pd.DataFrame({"qid": ["1"] * 2, "image": [str(paths[2])] * 2, "docno": [1, 2]})
        for strategy in ("sqrt", "dense-cosine"):
            found = index.retriever(strategy)(asked)
            assert found.docno.tolist() == ["2", "1"]
            assert found.score[0] > found.score[1] > 0


def test_an_artifact_is_packed_and_loaded(stage, fake_model, tmp_path):
    Index(stage / "pets.duckdb").build_package(str(tmp_path / "pets.tar.lz4"))
    folder = tmp_path / "unpacked"  # as PyTerrier's cache has it
    with LZ4FrameFile(tmp_path / "pets.tar.lz4") as data, tarfile.open(fileobj=data) as archive:
        archive.extractall(folder, filter="data")
    assert json.loads((folder / "pt_meta.json").read_text())["type"] == "image_index"
    loaded = Index.load(str(folder))
    with loaded.images:
        assert loaded.images.count() == 12


def test_a_folder_is_indexed_as_by_add(fake_model, photos, tmp_path):
    index = Index(tmp_path / "new.duckdb", model="fake").index(photos, labels=folder_label)
    with ImageIndex(index.images.location) as images:
        assert images.facets(fields=["label"])["label"][0]["count"] == 6
