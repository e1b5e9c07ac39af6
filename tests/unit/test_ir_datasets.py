"""Collections by ir_datasets itself: a folder that we write, and touche-image."""

from __future__ import annotations

import json
import shutil
from zipfile import ZipFile

import ir_datasets
import numpy as np
import pytest
import yaml

from imgsearch_es import ImageIndex, Topic, evaluate
from imgsearch_es.errors import EvaluationError
from imgsearch_es.evaluation import Collection
from imgsearch_es.evaluation.sharing import documents, read_terms, write_collection
from imgsearch_es.indexing import folder_label
from imgsearch_es.ir_datasets import load
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


def test_copies_are_called_as_the_pictures_are(photos, fake_model, tmp_path):
    """So that they are found by their names where they are indexed again."""
    shutil.copytree(photos, tmp_path / "odd")
    for number, path in enumerate(sorted((tmp_path / "odd" / "cats").iterdir())):
        path.rename(path.with_name(f"IMG ({number}), #1 it's 5%.png"))
    with ImageIndex(tmp_path / "odd.duckdb", model="fake") as made:
        made.add(tmp_path / "odd", labels=folder_label)
        before = figures(evaluate(made, "labels", "sqrt", MEASURES))
        folder = write_collection(made, "labels", tmp_path / "c")
    with ImageIndex(tmp_path / "again.duckdb", model="fake") as again:
        again.add(folder / "images")
        found = evaluate(again, f"ir_datasets:{folder}", "sqrt", MEASURES)
    assert figures(found) == pytest.approx(before)


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
    (folder / "doc" / "doc-embeddings.npz").write_bytes(b"PK\3\4, cut off")
    with pytest.raises(EvaluationError, match="holds no terms of lsr-benchmark"):
        read_terms(folder)


def test_what_is_judged_below_zero_is_not_junk(index, cat, tmp_path):
    ids = [hit.id for hit in index.search(cat, strategy="sqrt", k=3, exclude_self=False)]
    judgements = {ids[0]: {ids[1]: -1, ids[2]: 1}}
    before = evaluate(index, judgements, "sqrt", "RR")
    folder = write_collection(index, judgements, tmp_path / "c", pictures=False)
    again = evaluate(index, f"ir_datasets:{folder}", "sqrt", "RR")
    assert figures(again) == figures(before) == {"RR": 0.5}


TOUCHE = "touche-image/2022-06-13/touche-2022-task-3"
TOPIC = (
    "<topic><number>{}</number><title>{}</title><description>d</description>"
    "<narrative>n</narrative></topic>"
)


@pytest.fixture
def touche(photos, tmp_path, monkeypatch):
    """ir_datasets' own touche-image, reading files of its form in place of a download."""
    dataset = ir_datasets.load(TOUCHE)
    docs = dataset.docs_handler()
    with ZipFile(tmp_path / "main.zip", "w") as main, ZipFile(tmp_path / "png.zip", "w") as png:
        for number, path in enumerate(sorted(photos.rglob("*.png"))):
            folder = f"images/I00/I{number:016x}/"
            main.writestr(folder, "")
            for name in ("image-url.txt", "image-phash.txt"):
                main.writestr(folder + name, path.stem)
            main.writestr(folder + "image.webp", b"not read: the png comes first")
            png.writestr(folder + "image.png", path.read_bytes())
    ZipFile(tmp_path / "nodes.zip", "w").close()
    handlers = (dataset.queries_handler(), "queries.xml"), (dataset.qrels_handler(), "qrels")
    for handler, file in handlers:
        monkeypatch.setattr(handler._source, "_path", tmp_path / file)
    for field, file in (("", "main.zip"), ("_nodes", "nodes.zip"), ("_png", "png.zip")):
        monkeypatch.setattr(getattr(docs, f"_source{field}"), "_path", tmp_path / file)
    return dataset


def test_touche_image_is_read_as_ir_datasets_has_it(touche, fake_model, tmp_path):
    ids = {doc.url: doc.doc_id for doc in touche.docs_iter()}
    assert len(ids) == 12
    index = Index(tmp_path / "t.duckdb", model="fake").index(documents(TOUCHE))
    with index.images as images:
        word = next(d for d in images.store.documents() if d.metadata["docno"] == ids["cat.1"])
        topics = [TOPIC.format(n, word.terms[n].key) for n in (0, 1)]
        (tmp_path / "queries.xml").write_text(f"<topics>{''.join(topics)}</topics>")
        rows = [("0", "ONTOPIC", "cat.1", 1), ("0", "CON", "cat.1", 0), ("0", "PRO", "dog.1", 0)]
        rows += [("1", "PRO", "dog.2", 1)]
        lines = (f"{query} {stance} {ids[name]} {grade}\n" for query, stance, name, grade in rows)
        (tmp_path / "qrels").write_text("".join(lines))
        found = evaluate(images, f"ir_datasets:{TOUCHE}", "auto", "RR")
        assert len(found.task.judgements) == 2
        assert found.notes == ()
        asked = {query.query_id: query.default_text() for query in touche.queries_iter()}
        ranking = images.run(asked, k=12).documents("0")
        docnos = [images.get(key).metadata["docno"] for key in ranking]
        expected = 1 / (1 + docnos.index(ids["cat.1"]))  # relevant by one stance of two
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
        ("queries.jsonl", json.dumps({"query_id": "q", "text": ["x"], "image": "", "region": None}),
         "the query q: a query's picture and words are texts"),
        ("queries.jsonl", json.dumps({"query_id": "q", "text": "x", "image": "", "region": [[]]}),
         "the query q: a region is four numbers"),
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
