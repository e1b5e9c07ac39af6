"""Runs and judgements as tables and dictionaries, and what other programs make of them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import ir_measures
import numpy as np
import pandas as pd
import pytest
import pytrec_eval
import yaml

from imgsearch_es import Judgements, Run, Topic, evaluate, judge
from imgsearch_es.errors import EvaluationError, QueryError
from imgsearch_es.evaluation import manifest

JUDGED = {"q1": {"a": 1, "b": 0}, "q2": {"c": 2}}
RUN = Run("mine", {"q1": [("b", 1.0), ("a", 1.0)], "q2": [], "q3": [("c", 0.5)]})


def test_runs_come_back_from_tables_and_files(tmp_path):
    frame = RUN.to_frame()
    assert frame.columns.tolist() == ["qid", "docno", "rank", "score"]
    assert frame[["qid", "docno", "rank"]].to_numpy().tolist() == [
        ["q1", "b", 0], ["q1", "a", 1], ["q3", "c", 0],
    ]  # fmt: skip
    theirs = frame.rename(columns={"qid": "query_id", "docno": "doc_id"}).sample(frac=1)
    RUN.to_trec(tmp_path / "run.gz")
    for again in (
        Run.from_frame(frame),
        Run.from_frame(theirs),
        Run.from_trec(tmp_path / "run.gz"),
    ):
        assert again.fingerprint == Run("x", {q: RUN.rankings[q] for q in ("q1", "q3")}).fingerprint
    assert Run("none", {}).to_frame().columns.tolist() == frame.columns.tolist()
    with pytest.raises(EvaluationError, match="no column score; it has qid"):
        Run.from_frame(frame.drop(columns="score"))
    with pytest.raises(EvaluationError, match="'much' is no number"):
        Run.from_frame(frame.assign(score="much"))


def test_judgements_come_back_from_tables():
    judgements = Judgements(JUDGED)
    frame = judgements.to_frame()
    assert frame.to_numpy().tolist() == [["q1", "a", 1], ["q1", "b", 0], ["q2", "c", 2]]
    assert Judgements.from_frame(frame).fingerprint == judgements.fingerprint
    theirs = frame.rename(columns={"qid": "query_id", "docno": "doc_id", "label": "relevance"})
    assert Judgements.from_frame(theirs).fingerprint == judgements.fingerprint
    with pytest.raises(EvaluationError, match="the table, row 3: a is judged twice"):
        Judgements.from_frame(pd.concat([frame, frame[:1]]))
    with pytest.raises(EvaluationError, match=r"row 0: the grade '0\.5' is no whole number"):
        Judgements.from_frame(frame.assign(label=0.5))
    for kind in (float, "Int64", "category"):
        as_numbers = Judgements.from_frame(frame.astype({"label": kind}))
        assert as_numbers.fingerprint == judgements.fingerprint


def test_a_name_that_a_table_lacks_is_no_name():
    frame = RUN.to_frame()
    for column, missing in (("qid", None), ("docno", math.nan), ("docno", pd.NA)):
        holed = frame.astype({column: object})
        holed.loc[1, column] = missing
        with pytest.raises(EvaluationError, match=f"the table, row 1: it has no {column}"):
            Run.from_frame(holed)
    with pytest.raises(EvaluationError, match="the table has several columns docno"):
        Run.from_frame(pd.concat([frame, frame[["docno"]]], axis=1))


def test_a_table_of_queries_asks_all_that_it_says(index, cat):
    document = index.get(cat)
    word, both = document.terms[1].key, ["image", "text"]
    table = pd.DataFrame({"qid": [1, 2], "image": [Path(cat), None], "text": [word, word]})
    topics = {"1": Topic(str(cat), word), "2": word}
    assert index.run(table).rankings == index.run(topics).rankings
    assert index.run(table.convert_dtypes()).rankings == index.run(topics).rankings
    for column in both:
        with pytest.raises(EvaluationError, match="picture and words are texts, not 7"):
            index.run(table.astype({column: object}).assign(**{column: 7}))


def test_a_region_may_be_a_list_or_an_array(index, cat):
    numbers = (0.0, 0.0, 0.5, 0.5)
    queries = {"q": Topic(str(cat), region=numbers)}
    for region in (list(numbers), np.array(numbers)):
        again = {"q": Topic(str(cat), region=region)}
        assert index.run(again).rankings == index.run(queries).rankings


def test_numbers_of_numpy_and_measures_of_ir_measures(index):
    numbers = {"depth": 10, "sample": 3, "seed": 1, "confidence": 0.5}
    plain = evaluate(index, "labels", "sqrt", ["P@3", "RR"], **numbers)
    theirs = [ir_measures.P @ 3, ir_measures.RR]
    arrays = {name: np.asarray([number])[0] for name, number in numbers.items()}
    found = evaluate(index, "labels", "sqrt", theirs, **arrays)
    assert json.dumps(found.to_dict()) == json.dumps(plain.to_dict())


def test_ir_measures_find_the_same_in_tables(index):
    found = evaluate(index, "labels", "sqrt", "AP,nDCG@5")
    names = {"qid": "query_id", "docno": "doc_id", "label": "relevance"}
    tables = found.task.judgements.to_frame(), found.runs["sqrt"].to_frame()
    measures = [ir_measures.AP, ir_measures.nDCG @ 5]
    qrels, run = (table.rename(columns=names) for table in tables)
    theirs = ir_measures.calc_aggregate(measures, qrels, run)
    for measure in measures:
        assert found.mean("sqrt", str(measure)).mean == pytest.approx(theirs[measure], abs=1e-6)


@pytest.mark.long  # ranx compiles for a minute
@pytest.mark.filterwarnings("ignore")
def test_ranx_finds_the_same(index):
    import ranx

    found = evaluate(index, "labels", "sqrt", "AP,nDCG@5")
    run, judgements = found.runs["sqrt"], found.task.judgements
    qrels = ranx.Qrels({query: judgements.of(query) for query in judgements.queries})
    theirs = ranx.evaluate(qrels, run.to_ranx(), ["map", "ndcg@5"])
    for name, other in zip(("AP", "nDCG@5"), theirs.values(), strict=True):
        assert found.mean("sqrt", name).mean == pytest.approx(other, abs=1e-6)


def test_an_index_answers_many_queries_by_one_call(index, cat):
    document = index.get(cat)
    word = document.terms[0].key
    queries = {"word": word, "picture": cat, "both": Topic(document.id, word)}
    run = index.run(queries, "bm25:k1=1.5", k=5)
    assert run.name == "bm25:k1=1.5"
    assert run.documents("picture")[0] == document.id
    for query, asked in (("word", {"text": word}), ("picture", {"image": cat})):
        hits = index.search(**asked, strategy="bm25", parameters={"k1": 1.5}, k=5)
        assert run.documents(query) == [hit.id for hit in hits]
    alone = index.run(queries, k=12, exclude_self=True)
    assert document.id not in alone.documents("picture")
    assert document.id in alone.documents("word")
    with pytest.warns(UserWarning, match="dense-cosine has no answer to 2 queries, such as word"):
        assert index.run(queries, "dense-cosine").rankings.keys() == {"picture"}
    with pytest.raises(QueryError, match="dense-cosine, query word"):
        index.run({"word": word}, "dense-cosine")
    with pytest.raises(EvaluationError, match="a query is words, the Path of a picture or a Topic"):
        index.run({"q": 3})


def test_a_run_says_where_it_comes_from(index, cat, tmp_path, monkeypatch):
    zone = tmp_path / "rapl" / "intel-rapl:0"
    zone.mkdir(parents=True)
    (zone / "max_energy_range_uj").write_text("9999999\n")
    (zone / "energy_uj").write_text("9000000\n")
    monkeypatch.setattr(manifest, "_RAPL", zone.parent)
    before = manifest._energy()
    (zone / "energy_uj").write_text("1000000\n")  # the counter turned in between
    readings = iter([before, manifest._energy()])
    monkeypatch.setattr(manifest, "_energy", lambda: next(readings))
    run = index.run({"q1": cat, "q2": cat}, "sqrt", k=3)
    assert run.metadata["resources"]["cpu"] == {"energy used system": "2.0 J"}
    assert run.metadata["resources"]["runtime"]["wallclock"].endswith(" ms")
    assert run.metadata["method"]["indexing"]["analyzer"]["model"]["name"] == "fake"
    libraries = run.metadata["platform"]["software"]["libraries"]["python"]
    assert f"numpy=={np.__version__}" in libraries
    run = replace(run, metadata={**run.metadata, "actor": {"name": "Ünal: \nAda"}})
    plain, headed = run.to_trec(tmp_path / "plain"), run.to_trec(tmp_path / "run", header=True)
    again = Run.from_trec(headed)
    assert again.metadata == run.metadata
    assert again.to_dict() == run.to_dict()
    assert Run.from_trec(plain).metadata == {}
    assert again.to_trec(tmp_path / "again.gz", header=True).exists()
    # as repro_eval reads it: metadata behind "# ", the run without comment lines
    lines = headed.read_text().splitlines()
    comments = [line[2:] for line in lines if line.startswith("#")]
    assert comments[0] == "ir_metadata.start"
    assert yaml.safe_load("\n".join(comments[1:-1])) == run.metadata
    rows = [line for line in lines if not line.startswith("#")]
    assert rows == plain.read_text().splitlines()
    assert pytrec_eval.parse_run(rows).keys() == run.rankings.keys()
    for text, message in {
        "# ir_metadata.start\n# a: 1": "has no line '# ir_metadata.end'",
        "# ir_metadata.start\n# a: [\n# ir_metadata.end": "header is no YAML",
        "# ir_metadata.start\n# a\n# ir_metadata.end": "no mapping of names",
    }.items():
        headed.write_text(text)
        with pytest.raises(EvaluationError, match=message):
            Run.from_trec(headed)


def test_words_and_grades_as_plain_dictionaries(index, cat):
    document = index.get(cat)
    found = evaluate(
        index, {"q1": {document.id: 1}}, "auto", "RR", queries={"q1": document.terms[0].key}
    )
    frame = found.to_frame()
    assert frame.columns.tolist() == ["system", "measure", "query", "value"]
    assert frame.to_numpy().tolist() == [["auto", "RR", "q1", found.mean("auto", "RR").mean]]


def test_tables_and_dictionaries_are_taken_wherever_they_are_guessed(index, cat):
    word = index.get(cat).terms[0].key
    queries = pd.DataFrame({"qid": ["1", "2"], "query": [word, None], "image": [None, str(cat)]})
    qrels = pd.DataFrame({"qid": ["1", "2"], "docno": ["cat.0.png"] * 2, "label": [1, 1]})
    scores = {"1": {"cat.1.png": 2.0, "cat.0.png": 1.0}, "2": {"cat.0.png": 1.0}}
    table = Run("theirs", {q: list(row.items()) for q, row in scores.items()}).to_frame()
    found = evaluate(index, qrels, "auto", "RR", queries=queries, runs=[scores])
    assert found.mean("run", "RR").mean == 0.75
    again = evaluate(index, qrels, "", "RR", queries=queries, runs=[table])
    assert again.mean("run", "RR").mean == 0.75
    by_hand = {"1": word, "2": cat}
    expected = evaluate(index, {q: {"cat.0.png": 1} for q in "12"}, "auto", "RR", queries=by_hand)
    assert found.runs["auto"].to_dict() == expected.runs["auto"].to_dict()
    assert index.run(queries, k=3).rankings.keys() == {"1", "2"}
    with pytest.raises(EvaluationError, match="has no column query, text or image"):
        index.run(qrels.drop(columns=["label"]))
    with pytest.raises(EvaluationError, match="has the query 1 twice"):
        index.run(queries.assign(qid="1"))


def test_one_run_alone_need_not_be_in_a_list(index, cat, tmp_path):
    queries, qrels = {"1": cat, "2": cat}, {"1": {"cat.0.png": 1}, "2": {"cat.0.png": 1}}
    scores = {"1": {"cat.1.png": 2.0, "cat.0.png": 1.0}, "2": {"cat.0.png": 1.0}}
    several = evaluate(index, qrels, "", "RR", queries=queries, runs=[scores])
    for one in (scores, Run.of(scores).to_frame(), Run.of(scores)):
        alone = evaluate(index, qrels, "", "RR", queries=queries, runs=one)
        assert alone.runs["run"].fingerprint == several.runs["run"].fingerprint
        assert len(judge(index, queries, "", runs=one, out=tmp_path / "q.txt").session.pool) == 2
    with pytest.raises(EvaluationError, match=r"mine, 1: the score \{.* is no number"):
        evaluate(index, qrels, "", "RR", queries=queries, runs={"mine": scores})
    with pytest.raises(EvaluationError, match=r"by query and document, not Run.* for mine"):
        evaluate(index, qrels, "", "RR", queries=queries, runs={"mine": Run.of(scores)})
    assert Run.of({1: {2: "9", 3: "10"}}).rankings == {"1": [("3", 10.0), ("2", 9.0)]}


def test_a_query_by_the_path_of_a_picture_of_the_index_is_left_out(index, cat, tmp_path):
    own, other = index.get(cat).id, index.get(cat.with_name("cat.1.png")).id
    expected = evaluate(index, {own: {other: 1}}, "dense-cosine", "RR")
    queries = {"q": cat}
    found = evaluate(index, {"q": {other: 1}}, "dense-cosine", "RR", queries=queries)
    assert found.runs["dense-cosine"].documents("q") == expected.runs["dense-cosine"].documents(own)
    assert found.task.judgements.junk == {"q": {own}}
    pool = judge(index, queries, "dense-cosine", depth=3, out=tmp_path / "q.txt").session.pool
    assert own not in pool["q"]
    assert len(pool["q"]) == 3
