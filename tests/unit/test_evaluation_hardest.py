"""The hardest queries: the lowest figures, and galleries that say what is relevant."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from imgsearch_es import evaluate
from imgsearch_es.errors import EvaluationError
from imgsearch_es.evaluation import Judgements, Run, Topic, hardest
from imgsearch_es.evaluation.experiment import _asked
from imgsearch_es.interfaces.gallery import hardest_summary, mark


def test_the_lowest_figures_with_their_galleries(index, tmp_path):
    found = evaluate(index, "labels", "auto,dense-cosine", "AP")
    worst = hardest(index, found, n=3, system="dense-cosine", k=5)
    scores = found.scores["dense-cosine"]
    assert [(q.query, q.figure) for q in worst] == scores.hardest("AP", 3)
    assert (worst.system, worst.measure, worst.of) == ("dense-cosine", "AP", 12)
    for query in worst:
        ranking = found.runs["dense-cosine"].documents(query.query)
        assert [hit.id for hit in query.hits] == ranking[:5]
        assert query.query not in [hit.id for hit in query.hits]
        assert all(query.grades[ranking[rank - 1]] == 1 for rank in query.ranks)
        assert len(query.ranks) + len(query.missed) == 5
    page = worst.to_html(tmp_path / "out" / "page.html").read_text()
    assert page.count('class="hard"') == 3
    assert page.count("<figure>") == 15
    assert "✓ relevant" in page
    assert "? not judged" in page
    (tmp_path / "index.duckdb").write_bytes(b"valuable")
    with pytest.raises(EvaluationError, match="no HTML page"):
        worst.to_html(tmp_path / "index.duckdb")
    assert (tmp_path / "index.duckdb").read_bytes() == b"valuable"
    assert "Content-Security-Policy" in page
    assert len(re.findall("<h1>", worst._repr_html_())) == 1
    assert "The hardest 3 of 12 queries for dense-cosine" in repr(worst)


def test_of_a_run_of_another_program(index, photos):
    ids = [index.get(photos / "cats" / f"cat.{i}.png").id for i in range(4)]
    run = Run("theirs", {"w": [(ids[1], 3.0), (ids[2], 2.0), ("gone", 1.0)]})
    judgements = Judgements({"w": {ids[2]: 2, ids[3]: 1, ids[1]: 0}, "x": {ids[0]: 1}})
    topics = {"w": Topic(text=index.get(ids[0]).terms[0].key), "x": Topic(text="qwertyuiop")}
    worst = hardest(index, run, judgements, "RR", topics=topics)
    x, w = worst
    assert (x.hits, x.figure) == (None, 0.0)
    assert "no synset is named 'qwertyuiop'" in x.problem
    assert [hit.id for hit in w.hits] == ids[1:3]
    assert (w.ranks, w.missed, w.figure) == ((2,), (ids[3],), 0.5)
    assert hardest_summary(w) == "2 relevant, at rank 2; 1 not found."
    assert w.hits.explain(0).rows == ()
    html = worst._repr_html_()
    assert "Not asked: " in html
    assert "✓ relevant (2)" in html
    assert "✗ not relevant" in html
    assert mark(1) == "✓ relevant"


def test_of_a_run_that_is_called_as_a_strategy(index, photos):
    ids = [index.get(photos / "cats" / f"cat.{i}.png").id for i in range(3)]
    run = Run("bm25", {ids[0]: [(ids[2], 2.0), (ids[1], 1.0)]})
    (worst,) = hardest(index, run, Judgements({ids[0]: {ids[1]: 1}}))
    assert [hit.id for hit in worst.hits] == ids[2:0:-1]
    assert worst.ranks == (2,)


def test_reciprocal_ranks_reach_as_far_as_in_the_evaluation(index):
    name = "auto+dense-cosine:rrf"
    plan = evaluate(index, "labels", name, "P@3").plan
    assert _asked(SimpleNamespace(plan=plan, collection=range(500)), name).reach == 500


def test_mistakes(index):
    found = evaluate(index, "labels", "auto", "P@3")
    with pytest.raises(EvaluationError, match="bm25 is not one of the systems"):
        hardest(index, found, system="bm25")
    with pytest.raises(EvaluationError, match="hardest by which one of"):
        hardest(index, found, measure="P@3,AP")
    with pytest.raises(EvaluationError, match="n and k are at least 1"):
        hardest(index, found, n=0)
    run = found.runs["auto"]
    with pytest.raises(EvaluationError, match="give judgements="):
        hardest(index, run)
    with pytest.raises(EvaluationError, match="is judged, and not among"):
        hardest(index, run, found.task.judgements, topics={"q": Topic(text="dog")})


def test_the_command(run, asked, place, tmp_path):
    page = tmp_path / "hard.html"
    said = run("hardest", "-i", place, "--measure", "AP", "-n", "2", "--html", page)
    assert "the hardest 2 of 12 queries for auto" in said.output
    assert page.is_file()
    data = asked("hardest", "-i", place, "-n", "1")
    assert data["measure"] == "P@10"
    assert {hit["grade"] for hit in data["queries"][0]["hits"]} <= {1, None}
    page.write_text("not a page")
    wrong = run("hardest", "-i", place, "--measure", "best", "--html", page, code=1)
    assert "no HTML page" in wrong.output  # before the work
    both = ("--run", page, "--strategy", "auto")
    assert "leave one of them out" in run("hardest", "-i", place, *both, code=1).output
