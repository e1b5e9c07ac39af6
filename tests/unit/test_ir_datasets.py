"""Collections by ir_datasets itself: a folder that we write, and a dataset of others."""

from __future__ import annotations

import json
from typing import NamedTuple

import ir_datasets
import numpy as np
import pytest
import yaml
from ir_datasets.formats import BaseDocs, BaseQueries, GenericQuery, TrecQrels
from ir_datasets.util import LocalDownload

from imgsearch_es import ImageIndex, Topic, evaluate
from imgsearch_es.errors import EvaluationError
from imgsearch_es.evaluation import Collection
from imgsearch_es.ir_datasets import documents, load, read_terms, write_collection
from imgsearch_es.pyterrier import Index

MEASURES = "AP,nDCG@10,P@3"


def figures(found):
    return {m: found.mean("sqrt", m).mean for m in found.plan.measures}


@pytest.mark.parametrize("copies", [True, False])
def test_a_folder_gives_the_same_figures_on_another_index(
    index, cat, photos, fake_model, tmp_path, copies
):
    before = figures(evaluate(index, "labels", "sqrt", MEASURES))
    folder = write_collection(index, "labels", tmp_path / "pets", pictures=copies)
    dataset = load(folder)
    docs = {doc.doc_id: doc for doc in dataset.docs_iter()}
    assert len(docs) == 12
    assert docs["cats/cat.0.png"].label == ["cats"]
    place = folder / "images" / "cats" if copies else photos / "cats"
    assert docs["cats/cat.0.png"].image == str(place / "cat.0.png")
    assert dataset.docs_store().get("dogs/dog.1.png") == docs["dogs/dog.1.png"]
    assert {q.query_id: q.image for q in dataset.queries_iter()} == {name: name for name in docs}
    assert {(q.query_id, q.doc_id): q.relevance for q in dataset.qrels_iter()}[
        "cats/cat.0.png", "cats/cat.0.png"
    ] == -1  # its own picture is junk
    known = yaml.safe_load((folder / "collection.yaml").read_text())
    assert (known["name"], known["docs"]["count"], known["queries"]["count"]) == ("labels", 12, 12)
    # elsewhere: by name, and by PyTerrier under the documents' ids
    with ImageIndex(tmp_path / "named.duckdb", model="fake") as other:
        other.add(folder / "images" if copies else photos)
        found = evaluate(other, f"ir_datasets:{folder}", "sqrt", MEASURES)
        assert figures(found) == pytest.approx(before)
        assert found.task.name == "labels"
    elsewhere = Index(tmp_path / "docnos.duckdb", model="fake").index(documents(folder))
    with elsewhere.images as other:
        assert other.facets(fields="label")["label"][0]["count"] == 6
        assert figures(evaluate(other, f"ir_datasets:{folder}", "sqrt", MEASURES)) == before
    with pytest.raises(EvaluationError, match="pets exists: name a new folder"):
        write_collection(index, "labels", folder)


def test_words_pictures_regions_and_terms(index, cat, tmp_path):
    word = index.get(cat).terms[0].key
    outside = tmp_path / "outside.png"
    outside.write_bytes(cat.read_bytes())
    queries = {
        "words": word, "outside": outside, "part": Topic(str(cat), word, (0, 0, 20, 20)),
    }  # fmt: skip
    judgements = {name: {"cat.0.png": 2, "dog.1.png": 1, "dog.2.png": 0} for name in queries}
    before = evaluate(index, judgements, "sqrt", "nDCG@10", queries=queries)
    folder = write_collection(index, judgements, tmp_path / "c", queries=queries, terms=True)
    asked = {query.query_id: query for query in load(folder).queries_iter()}
    assert (asked["words"].text, asked["words"].image) == (word, "")
    assert (folder / asked["outside"].image).read_bytes() == cat.read_bytes()
    assert asked["part"].region == [0, 0, 20, 20]
    again = evaluate(index, f"ir_datasets:{folder}", "sqrt", "nDCG@10")
    assert again.runs["sqrt"].to_dict() == before.runs["sqrt"].to_dict()
    assert figures(again) == figures(before)
    # as lsr_benchmark.irds.embeddings reads it
    stored = {d.id: d.terms for d in index.store.documents()}
    name = Collection.of(index).name
    expected = {
        name(key): [(t.key.lower(), t.score) for t in terms] for key, terms in stored.items()
    }
    file = np.load(folder / "doc" / "doc-embeddings.npz")
    ids = (folder / "doc" / "doc-ids.txt").read_text().strip().split("\n")
    start = 0
    for key, end in zip(ids, file["indptr"][1:], strict=True):
        terms, weights = file["indices"].astype("U30")[start:end], file["data"][start:end]
        assert list(zip(terms.tolist(), weights.tolist(), strict=True)) == expected[key]
        start = end
    assert read_terms(folder) == {key: dict(terms) for key, terms in expected.items()}
    assert read_terms(folder, "query")["words"] == {word.lower(): 1.0}
    np.savez(folder / "doc" / "doc-embeddings.npz", data=[1.0], indices=["x"], indptr=[0, 1])
    with pytest.raises(EvaluationError, match="not of the same docs"):
        read_terms(folder)


class Picture(NamedTuple):
    """As ir_datasets' own touche-image has them: bytes, not paths."""

    doc_id: str
    png: bytes


def test_a_dataset_of_others_is_asked_by_its_name(photos, fake_model, tmp_path):
    class Docs(BaseDocs):
        def docs_iter(self):
            for path in sorted(photos.rglob("*.png")):
                yield Picture(f"I{path.stem}", path.read_bytes())

    asked = []

    class Queries(BaseQueries):
        def queries_iter(self):
            yield from asked

    (tmp_path / "qrels").write_text("51 0 Icat.1 2\n51 0 Idog.1 -2\n52 0 Idog.2 1\n")
    grades = TrecQrels(LocalDownload(tmp_path / "qrels"), {})
    name = f"imgsearch-test/{tmp_path.name}"
    dataset = ir_datasets.datasets.base.Dataset(Docs(), Queries(), grades)
    ir_datasets.registry.register(name, dataset)
    index = Index(tmp_path / "t.duckdb", model="fake").index(documents(name))
    with index.images as images:
        word = next(d for d in images.store.documents() if d.metadata["docno"] == "Icat.1")
        asked += [GenericQuery("51", word.terms[0].key), GenericQuery("52", word.terms[1].key)]
        found = evaluate(images, f"ir_datasets:{name}", "auto", "RR")
        assert len(found.task.judgements) == 2
        assert found.notes == ()
        ranking = images.run({"51": word.terms[0].key}, k=12).documents("51")
        docnos = [images.get(key).metadata["docno"] for key in ranking]
        expected = 1 / (1 + docnos.index("Icat.1"))
        assert found.scores["auto"].values["RR"][0] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("collection.yaml", "a: [", "is no YAML"),
        ("collection.yaml", "a: 2001-99-99", "is no YAML"),
        ("collection.yaml", "imgsearch_es_collection: 9", "no collection of this version"),
        ("collection.yaml", "imgsearch_es_collection: 1\nmeasures: 5", "measures is a list"),
        ("queries.jsonl", "{", "its queries cannot be read"),
        ("qrels.txt", "q 0 a x\n", "its judgements cannot be read"),
        ("queries.jsonl", json.dumps({"query_id": "q", "text": "", "image": "", "region": None}),
         "the query q: a query needs"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_folder_is_said(index, tmp_path, name, text, message):
    word = next(iter(index.store.documents())).terms[0].key
    folder = write_collection(
        index, {"q": {"cat.0.png": 1}}, tmp_path / "c", queries={"q": word}, pictures=False
    )
    (folder / name).write_text(text)
    with pytest.raises(EvaluationError, match=message):
        evaluate(index, f"ir_datasets:{folder}", "auto", "RR")
    with pytest.raises(EvaluationError, match="neither a folder nor a dataset"):
        load("no/such")
