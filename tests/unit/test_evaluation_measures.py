"""Measures: trec_eval's own figures, image retrieval's, and laws that hold for all of them."""

from __future__ import annotations

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from imgsearch_es.errors import EvaluationError
from imgsearch_es.evaluation import (
    Judgements,
    Run,
    nister_stewenius,
    parse_measures,
    rank_features,
    same_group,
    score,
)

TREC = {
    "P@10": "P_10",
    "Rprec": "Rprec",
    "AP": "map",
    "nDCG@10": "ndcg_cut_10",
    "nDCG": "ndcg",
    "RR": "recip_rank",
    "Bpref": "bpref",
    "Success@5": "success_5",
}
DOCUMENTS = [f"d{i}" for i in range(30)]
MEASURES = [*TREC, "AP-trapezoid"]


@st.composite
def experiments(draw) -> tuple[Judgements, Run]:
    """Graded judgements and rankings with many equal scores; some queries are not answered."""
    queries = [f"q{i}" for i in range(draw(st.integers(1, 4)))]
    grades, junk, rankings = {}, {}, {}
    for query in queries:
        judged = draw(st.lists(st.sampled_from(DOCUMENTS), unique=True, min_size=1))
        grades[query] = {d: draw(st.integers(0, 3)) for d in judged} | {"never": 0}
        junk[query] = frozenset(draw(st.lists(st.sampled_from(DOCUMENTS), max_size=3)))
        if draw(st.booleans()):
            found = draw(st.lists(st.sampled_from(DOCUMENTS), unique=True))
            scores = sorted(draw(st.lists(st.integers(-3, 3), min_size=30, max_size=30)))
            rankings[query] = [(d, float(s)) for d, s in zip(found, reversed(scores), strict=False)]
    return Judgements(grades, junk), Run("system", rankings)


@settings(max_examples=20)
@given(experiments())
def test_figures_are_those_of_trec_eval(tmp_path_factory, experiment):
    judgements, run = experiment
    folder = tmp_path_factory.mktemp("trec")
    clean = {query: judgements.of(query) for query in judgements.queries}
    kept = Run("system", {q: list(run.falling(q, judgements.junk[q]).items()) for q in clean})
    kept.to_trec(folder / "run.txt")
    with (folder / "run.txt").open() as file:
        theirs = pytrec_eval.parse_run(file)
    Judgements(clean).write_qrels(folder / "qrels.txt")
    with (folder / "qrels.txt").open() as file:
        qrels = pytrec_eval.parse_qrel(file)
    expected = pytrec_eval.RelevanceEvaluator(qrels, pytrec_eval.supported_measures).evaluate(
        theirs
    )
    ours = score(judgements, run, TREC)
    for query in judgements.queries:
        for name, value in ours.of(query).items():
            assert value == pytest.approx(expected.get(query, {}).get(TREC[name], 0), abs=1e-6)


@settings(max_examples=20)
@given(experiments())
def test_figures_are_between_zero_and_one_and_junk_changes_nothing(experiment):
    judgements, run = experiment
    figures = score(judgements, run, MEASURES)
    for values in figures.values.values():
        assert ((values >= 0) & (values <= 1 + 1e-12)).all()
    without = {q: list(run.falling(q, judgements.junk[q]).items()) for q in judgements.queries}
    clean = Judgements({query: judgements.of(query) for query in judgements.queries})
    for name, values in score(clean, Run("clean", without), MEASURES).values.items():
        assert np.array_equal(values, figures.values[name])


def test_queries_without_an_answer_count_as_zero():
    judgements = Judgements.from_groups({"a": ["cat"], "b": ["cat"], "c": ["cat"]})
    figures = score(judgements, Run("half", {"a": [("b", 1.0), ("c", 0.5)], "b": []}), "AP,P@2")
    assert figures.queries == ("a", "b", "c")
    assert figures.values["AP"].tolist() == [1.0, 0.0, 0.0]
    assert figures.mean("P@2") == pytest.approx(1 / 3)
    assert figures.mean("P@2", ["a", "c"]) == pytest.approx(1 / 2)
    for nobody in ([], ["a", "nobody"]):
        with pytest.raises(EvaluationError, match="queries that were measured"):
            figures.mean("AP", nobody)
    assert figures.hardest("AP", 2) == [("b", 0.0), ("c", 0.0)]
    assert figures.of("a") == {"AP": 1.0, "P@2": 1.0}


def test_queries_with_grades_below_zero_alone_count_as_zero():
    judgements = Judgements({"q": {"a": -1, "b": -5}, "r": {"a": 1, "b": -5, "c": 0}})
    run = Run("t", {"q": [("a", 1.0)], "r": [("a", 1.0)]})
    found = score(judgements, run, "P@5,AP,nDCG@5,Bpref,ERR@5").values
    assert [values[0] for values in found.values()] == [0] * 5
    assert min(values[1] for values in found.values()) > 0
    with pytest.raises(EvaluationError, match="judged not relevant, with a grade from 0 on"):
        score(Judgements({"r": {"a": 1, "b": -1}}), run, "Bpref")  # not judged, to trec_eval
    with pytest.raises(EvaluationError, match=r"the grade 0\.5 of a is no whole number"):
        Judgements({"q": {"a": 0.5}})


def test_the_trapezoid_is_that_of_the_benchmarks():
    # compute_ap of Oxford5k by hand: relevant at ranks 1 and 3 of 2
    judgements = Judgements({"q": {"a": 1, "b": 1}})
    run = Run("r", {"q": [("a", 3.0), ("x", 2.0), ("b", 1.0)]})
    expected = ((1 + 1) / 2 + (1 / 2 + 2 / 3) / 2) / 2
    assert score(judgements, run, "AP-trapezoid").mean("AP-trapezoid") == pytest.approx(expected)


def test_ukbench_is_not_for_queries_left_out():
    judgements = Judgements.from_groups({f"p{i}": [i // 4] for i in range(8)})
    with pytest.raises(EvaluationError, match="p0 is not relevant to itself"):
        score(judgements, Run("r", {}), "NS")


def test_names_of_measures():
    names = parse_measures("nDCG@10, P(rel=2)@5,AP,AP,NS")
    assert names == ("nDCG@10", "P(rel=2)@5", "AP", "NS")
    for wrong in ("XYZ@3", "P@", "P", "P@0.5", "nDCG@x", "AP()]", "", "P@0", "AP(rel=0)"):
        with pytest.raises(EvaluationError):
            parse_measures(wrong)


# -- on plain features ---------------------------------------------------------------------------

FEATURES = np.random.default_rng(5).standard_normal((12, 6)).astype(np.float32)


@pytest.mark.parametrize("comparison", ["dense-cosine", "dense-euclidean", "dense-manhattan"])
def test_features_rank_as_numpy_says(comparison):
    ranked = rank_features(FEATURES, comparison=comparison)
    assert ranked[:, 0].tolist() == list(range(12))
    difference = FEATURES[:, None].astype(float) - FEATURES[None]
    unit = FEATURES / np.linalg.norm(FEATURES, axis=1, keepdims=True)
    distance = {
        "dense-cosine": -(unit @ unit.T),
        "dense-euclidean": np.linalg.norm(difference, axis=2),
        "dense-manhattan": np.abs(difference).sum(axis=2),
    }[comparison]
    assert ranked.tolist() == np.argsort(distance, axis=1, kind="stable").tolist()
    left_out = rank_features(FEATURES, comparison=comparison, exclude_self=True, depth=5)
    assert left_out.tolist() == ranked[:, 1:6].tolist()


def test_the_ukbench_score_of_features_is_that_of_the_run():
    groups = [i // 4 for i in range(12)]
    ids = [f"p{i}" for i in range(12)]
    ranked = rank_features(FEATURES).tolist()
    run = Run(
        "features", {ids[i]: [(ids[j], -k) for k, j in enumerate(ranked[i])] for i in range(12)}
    )
    judgements = Judgements.from_groups(
        {name: [group] for name, group in zip(ids, groups, strict=True)}, count_query=True
    )
    figures = score(judgements, run, "NS,NS%")
    by_id = dict(zip(figures.queries, figures.values["NS"], strict=True))
    assert nister_stewenius(FEATURES, groups).tolist() == [by_id[name] for name in ids]
    assert figures.mean("NS%") == pytest.approx(25 * figures.mean("NS"))
    names = [f"object {group}" for group in groups]
    assert nister_stewenius(FEATURES, names).tolist() == [by_id[name] for name in ids]


def test_groups_apart():
    ranked = rank_features(FEATURES[:8], FEATURES[8:], depth=3)
    found = same_group(ranked, list("aabbccdd"), list("abcd"))
    assert found.shape == (4, 3)
    assert found[0, 0] == (ranked[0, 0] < 2)


def test_wrong_features():
    with pytest.raises(EvaluationError, match="has 3"):
        nister_stewenius(FEATURES[:3], [1, 1, 1])
    with pytest.raises(EvaluationError, match="not finite"):
        rank_features(np.full((3, 2), np.nan, dtype=np.float32))
    with pytest.raises(EvaluationError, match="no comparison 'cosine'"):
        rank_features(FEATURES, comparison="cosine")


@pytest.mark.parametrize("measure", ["Compat(p=0.8)", "nDCG@10", "AP"])
def test_the_order_counts_and_not_the_scores(measure):
    """Also below 0, as of distances: ir-measures takes them for worse than what was not found."""
    judgements = Judgements({"q": {"a": 1, "b": 1, "c": 1, "d": 0}})
    runs = [Run("x", {"q": [("d", s), ("a", s - 1)]}) for s in (2.0, -2.0)]
    one, other = (score(judgements, run, measure).mean(measure) for run in runs)
    assert one == other > 0
