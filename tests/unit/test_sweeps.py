"""Sweeps: terms as an analyzer would make them, figures as evaluate gives them, and one pass."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from imgsearch_es import ImageIndex, Judgements, PictureList, evaluate
from imgsearch_es.analysis.analyzer import Analyzer
from imgsearch_es.analysis.models.base import Prediction
from imgsearch_es.errors import (
    AnalyzerError,
    AnalyzerMismatchError,
    EvaluationError,
    IndexNotFoundError,
)
from imgsearch_es.evaluation import Scores, Topic
from imgsearch_es.evaluation.significance import Interval
from imgsearch_es.evaluation.sweeps import Point, Sweep, outcome, sweep
from imgsearch_es.evaluation.sweeps.posteriors import (
    Chain,
    Posteriors,
    Setting,
    fill,
    parse_chains,
    settings,
)
from imgsearch_es.pictures.images import open_image
from imgsearch_es.vocabulary.synsets import from_labels, imagenet
from tests.fakes import FakeModel, noise, register

pytestmark = pytest.mark.slow

CHAINS = (
    "plain", "sqrt", "l2_normalize", "min_score=0.002", "min_score=0.001+sqrt+l2_normalize",
    "hypernyms", "hypernyms+top_k", "sqrt+top_k+l2_normalize",
)  # fmt: skip
QUICK = {"models": "fake", "top_k": (5,), "timed": 0}


@pytest.fixture
def seen(fake_model, monkeypatch) -> Callable[[], int]:
    """How many pictures the model has seen since it was asked last."""
    counts: list[int] = []
    predict = fake_model.predict

    def counting(self: FakeModel, pixels: np.ndarray) -> Prediction:
        counts.append(len(pixels))
        return predict(self, pixels)

    def since() -> int:
        total = sum(counts)
        counts.clear()
        return total

    monkeypatch.setattr(fake_model, "predict", counting)
    return since


@pytest.fixture(scope="module")
def found(stage):
    """Three systems with one and five terms, timed."""
    with pytest.MonkeyPatch.context() as patch:
        register(patch)
        options = {"models": "fake", "top_k": (1, 5), "timed": 3}
        yield sweep(stage / "pristine", "folder", "auto,sqrt,dense-cosine", "P@3,AP", **options)


# -- terms -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CHAINS[4::2])
def test_terms_are_those_of_an_analyzer(fake_model, photos, tmp_path, name):
    posteriors = Posteriors(tmp_path, "fake")
    posteriors.update(photos, None, None)
    chain = Chain.parse(name)
    for top_k in (10, 1000):
        made = fill(posteriors, Setting(chain, top_k), tmp_path / f"{top_k}.duckdb", features=False)
        config = {"model": "fake", "term_filters": chain.term_filters(top_k), "embedding": False}
        analyzer = Analyzer(config)
        documents = list(made.index.store.documents())
        assert len(documents) == 12
        for document in documents:
            expected = analyzer.analyze(open_image(document.uri).image)
            assert document.terms == expected.terms
            assert document.embedding is None
        assert made.terms == np.mean([len(document.terms) for document in documents])
        assert made.index.analyzer.config == analyzer.config
        assert made.index.vocabulary == analyzer.vocabulary
        made.index.close()


def test_what_a_file_says_of_deep_features_stays(fake_model, photos, tmp_path):
    file = tmp_path / "unit.toml"
    file.write_text('model = "fake"\n[[embedding_filters]]\nname = "l2_normalize"\n')
    posteriors = Posteriors(tmp_path, str(file))
    posteriors.update(photos, None, None)
    setting = Setting(Chain.parse(CHAINS[0]), 10)
    with fill(posteriors, setting, tmp_path / "with.duckdb", features=True).index as index:
        assert index.analyzer.config["embedding_filters"] == [{"name": "l2_normalize"}]
        lengths = [np.linalg.norm(document.embedding) for document in index.store.documents()]
        assert lengths == pytest.approx([1] * 12)
    with fill(posteriors, setting, tmp_path / "without.duckdb", features=False).index as index:
        assert "embedding_filters" not in index.analyzer.config
        assert all(document.embedding is None for document in index.store.documents())


@hypothesis_settings(max_examples=40)
@given(
    posterior=arrays(
        np.float32,
        (2, 1000),
        elements=st.sampled_from([0.0, 1e-42, 1.2e-38, 1e-30, 1e-9, 0.01, 0.2, math.nan]),
        fill=st.just(np.float32(0)),
    ),
    name=st.sampled_from(CHAINS),
    top_k=st.sampled_from([1, 3, 1000]),
)
def test_posteriors_that_were_kept_as_terms_give_the_same_terms(posterior, name, top_k):
    with pytest.MonkeyPatch.context() as patch:
        register(patch)
        whole = Analyzer({"model": "fake", "term_filters": []})
        filters = Chain.parse(name).term_filters(top_k)
        filtered = Analyzer({"model": "fake", "term_filters": filters})
        column = {key: i for i, key in enumerate(imagenet().keys)}
        kept = np.zeros_like(posterior)
        for row, terms in enumerate(whole.to_terms(posterior)):
            for term in terms:
                kept[row, column[term.key]] = term.score
        assert filtered.to_terms(kept) == filtered.to_terms(posterior)


# -- one pass --------------------------------------------------------------------------------------


def test_a_picture_is_seen_once_whatever_the_settings(seen, photos, tmp_path):
    options = {"judgements": "folder", "models": "fake", "timed": 2, "cache": tmp_path / "cache"}
    first = sweep(photos, top_k=(1, 10), **options)
    assert seen() == 12 + 2  # and two blank pictures, for the length of the deep feature
    more = sweep(photos, filters=(CHAINS[0], CHAINS[5]), top_k=(2, 10), **options)
    assert seen() == 0
    alone = sweep(top_k=(10,), **options)  # the cache is enough
    assert seen() == 0
    for name in ("auto/plain/10", "dense-cosine"):
        figures = [found.point(name).means for found in (first, more, alone)]
        assert figures[0] == figures[1] == figures[2]


def test_new_pictures_as_queries_are_seen_once_too(seen, photos, tmp_path):
    new = tmp_path / "new.png"
    noise(9).save(new)
    with ImageIndex(tmp_path / "ids.duckdb", model="fake") as index:
        index.add(photos)
        ids = [document.id for document in index.store.documents()]
    judgements = Judgements({"new": {ids[0]: 1, ids[1]: 1}, "own": {ids[2]: 1}})
    topics = {"new": Topic(str(new)), "own": Topic(ids[0])}
    seen()
    for expected in (12 + 2 + 1, 1):
        found = sweep(
            photos, judgements, "auto,dense-cosine", "RR", queries=topics,
            cache=tmp_path / "cache", **QUICK,
        )  # fmt: skip
        assert seen() == expected
        assert found.queries == 2


def test_a_cache_is_of_one_collection(fake_model, photos, tmp_path):
    cache = tmp_path / "cache"
    sweep(photos, "folder", "auto", "P@3", cache=cache, **QUICK)
    with pytest.raises(EvaluationError, match="6 pictures that are not among those named"):
        sweep(photos / "cats", "folder", "auto", "P@3", cache=cache, **QUICK)
    noise(9).save(tmp_path / "stranger.png")
    with pytest.raises(EvaluationError, match="12 pictures that are not among those named"):
        sweep(tmp_path / "stranger.png", "folder", "auto", "P@3", cache=cache, **QUICK)
    (photos / "cats" / "cat.0.png").unlink()
    found = sweep(photos, "folder", "auto", "P@3", cache=cache, **QUICK)
    assert found.pictures == 11
    config = tmp_path / "fake.toml"
    config.write_text('[model]\nname = "fake"\nweights = "two"\n')
    with pytest.raises(AnalyzerMismatchError):
        sweep(photos, "folder", "auto", "P@3", cache=cache, **{**QUICK, "models": str(config)})


def test_a_folder_that_looks_unmounted_is_named(seen, photos, tmp_path):
    cache = tmp_path / "cache"
    sweep(photos, "folder", "auto", "P@3", cache=cache, **QUICK)
    for path in (photos / "cats").iterdir():
        path.unlink()
    with pytest.raises(EvaluationError, match=r"nothing was removed for .*cats: it is empty now"):
        sweep(photos, "folder", "auto", "P@3", cache=cache, **QUICK)


# -- figures ---------------------------------------------------------------------------------------


def test_figures_are_those_of_an_index_made_in_the_ordinary_way(fake_model, photos, tmp_path):
    found = sweep(
        photos, "folder", "auto,bm25,sqrt=1+dense-dot=2,dense-euclidean", "P@3,AP",
        filters="plain,sqrt", **QUICK,
    )  # fmt: skip
    names = {point.name for point in found.points}
    assert len(names) == len(found.points) == 3 * 2 + 1
    for chain, filters in (("plain", []), ("sqrt", [{"name": "sqrt"}])):
        config = {"model": "fake", "term_filters": [{"name": "top_k", "k": 5}, *filters]}
        with ImageIndex(tmp_path / f"{chain}.duckdb", analyzer=config) as index:
            index.add(photos)
            theirs = evaluate(index, "folder", found.plan.systems, "P@3,AP")
        for system in ("auto", "bm25", "sqrt=1+dense-dot=2"):
            point = found.point(f"{system}/{chain}/5")
            for measure in ("P@3", "AP"):
                assert point.means[measure] == theirs.mean(system, measure)
        dense = found.point("dense-euclidean").means["AP"]
        assert dense == theirs.mean("dense-euclidean", "AP")


def test_rows_of_a_list_that_are_passed_over_are_told(fake_model, photos):
    labels = photos / "list.csv"
    rows = [f"{one},{one.parent.name}\n" for one in sorted(photos.glob("*/*.png"))]
    labels.write_text("".join(["path,label\n", *rows, rows[0].replace("\n", "-too\n")]))
    notes = sweep(PictureList(labels), **QUICK).notes
    assert "fake: passed over 1 pictures named again with other labels or metadata" in notes


def test_costs(fake_model, photos):
    found = sweep(
        photos, "folder", "auto,auto+dense-cosine,dense-cosine,visual-words", "P@3",
        models="fake", top_k="5,1,5", filters="plain,hypernyms+top_k", timed=3,
    )  # fmt: skip
    assert found.plan.top_k == (1, 5)
    assert found.point("auto/plain/5").bytes == 5 * 10
    assert found.point("auto/plain/5").terms == 5
    assert found.point("dense-cosine").bytes == 16 * 4
    assert found.point("visual-words").bytes == 16 * 10
    assert found.points[0].pictures_per_second > 0
    assert found.point("auto+dense-cosine/hypernyms+top_k/1").bytes == 10 + 16 * 4
    assert all(0 < point.p50_ms <= point.p95_ms for point in found.points)
    assert all(point.file_bytes > point.bytes for point in found.points)


def test_a_baseline(found, fake_model, photos):
    assert found.plan.compare == "dense-cosine"
    assert len(found.comparisons) == 2 * 4
    lost = found.comparisons["fake", "sqrt/plain/5", "AP"]
    mine, base = found.point("sqrt/plain/5"), found.point("dense-cosine")
    assert lost.baseline == "dense-cosine"
    assert lost.difference.mean == pytest.approx(mine.means["AP"].mean - base.means["AP"].mean)
    both = {**QUICK, "top_k": (1, 5)}
    other = sweep(photos, "folder", "auto", "P@3", compare="auto/plain/5", **both)
    assert {key[1] for key in other.comparisons} == {"auto/plain/1"}


def test_pictures_without_terms_have_no_answer(fake_model, photos):
    found = sweep(photos, "folder", "auto,dense-dot", "P@3", filters="min_score=1", **QUICK)
    assert found.point("auto/min_score=1/5").means["P@3"].mean == 0
    assert found.point("dense-dot").means["P@3"].mean > 0
    assert found.notes[1:] == ("12 queries have no synset, and so no answer by auto",)
    timed = sweep(photos, "folder", "auto", "P@3", filters="min_score=1", models="fake", timed=4)
    assert math.isnan(timed.points[0].p50_ms)
    assert timed.comparisons == {}  # of one system


def test_two_models(fake_model, photos, tmp_path):
    config = tmp_path / "small.toml"
    config.write_text(
        '[model]\nname = "fake"\n[[image_filters]]\nname = "resize"\nheight = 4\nwidth = 4\n'
    )
    options = {**QUICK, "models": f"fake,{config}", "sample": 6, "compare": "fake auto/plain/5"}
    found = sweep(photos, "folder", measures="P@3", **options)
    assert list(dict.fromkeys(point.model for point in found.points)) == ["fake", "small"]
    assert found.point("dense-cosine", "small").model == "small"
    assert sorted(found.comparisons) == [
        ("fake", "dense-cosine", "P@3"), ("small", "auto/plain/5", "P@3"),
        ("small", "dense-cosine", "P@3"),
    ]  # fmt: skip
    assert "| model |" in found.to_markdown()
    assert found.plot().axes[0].get_legend() is not None


def point(name: str, cost: float, values: list[float], top_k: int | None = None) -> Point:
    """A point with one measure, Q."""
    array = np.asarray(values)
    mean = Interval(float(array.mean()), math.nan, math.nan)
    scores = Scores(tuple(map(str, range(len(values)))), {"Q": array})
    return Point(
        "m", name, "plain", top_k, None, 0, cost, 0, math.nan, math.nan, scores, {"Q": mean}
    )


def of_points(found: Sweep, points: list[Point]) -> Sweep:
    return Sweep(replace(found.plan, measures=("Q",)), "t", 4, 4, tuple(points), found.about)


@hypothesis_settings(max_examples=40)
@given(places=st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), min_size=1, max_size=20))
def test_the_front_is_what_nothing_dominates(found, places):
    points = [point(f"{i}", cost, [quality]) for i, (cost, quality) in enumerate(places)]
    made = of_points(found, points)
    kept = [(p.bytes, p.means["Q"].mean) for p in made.front()]
    assert kept == sorted(set(kept))
    for cost, quality in places:
        dominated = any(c <= cost and q >= quality and (c, q) != (cost, quality) for c, q in places)
        assert dominated == ((cost, quality) not in kept)
    assert made.front(cost="latency") == []


def test_how_many_terms_are_enough(found):
    steady = [0.5, 0.6, 0.7, 0.8]
    points = [
        point("auto", 10, [0.0, 0.1, 0.2, 0.3], 1),
        point("auto", 50, [0.499, 0.6, 0.699, 0.8], 5),
        point("auto", 99, [0.3, 0.4, 0.5, 0.6], 10),
        point("auto", 100, [0.499, 0.6, 0.7, 0.8], 20),
        point("auto", 1000, steady, 100),
        point("dense-dot", 64, steady),
    ]
    made = of_points(found, points)
    (answer,) = made.enough()
    assert (answer.system, answer.top_k, answer.most) == ("auto", 20, 100)  # 5 is, but not 10
    assert -0.01 < answer.difference.low < answer.difference.mean < 0
    assert made.enough(margin=2)[0].top_k == 1
    assert made.enough(margin=1e-9)[0].top_k == 100
    with pytest.raises(EvaluationError, match="the margin is above 0"):
        made.enough(margin=0)


# -- what is kept ----------------------------------------------------------------------------------


def test_files(found, fake_model, photos, tmp_path, monkeypatch):
    import pyarrow.parquet as pq

    files = {path.name for path in found.write(tmp_path / "out")}
    assert files == {
        "table.md", "table.tex", "sweep.csv", "sweep.parquet", "pareto-bytes.png",
        "pareto-latency.png", "manifest.json",
    }  # fmt: skip
    rows = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert len(rows) == 5 * 2
    table = pq.read_table(tmp_path / "out" / "sweep.parquet")
    assert json.loads(table.schema.metadata[b"manifest"]) == json.loads(
        json.dumps(found.manifest())
    )
    for row, kept in zip(rows, table.to_pylist(), strict=True):
        assert {name: "" if v is None else str(v) for name, v in kept.items()} == row
    assert table.schema.field("top_k").type == "int64"
    monkeypatch.setattr(outcome, "find_spec", lambda name: None)
    untimed = sweep(photos, "folder", measures="P@3", sample=4, **QUICK)
    files = {path.name for path in untimed.write(tmp_path / "without")}
    assert "sweep.parquet" not in files
    assert "pareto-latency.png" not in files
    with pytest.raises(EvaluationError, match="nothing was timed"):
        untimed.plot(cost="latency")


def test_tables_and_the_plot(found):
    markdown = found.to_markdown()
    assert repr(found) == markdown
    assert "| auto | plain | 5 | 5.0 | 50 |" in markdown
    assert "folder: 12 queries, 12 pictures" in markdown
    assert "no number below 5 is shown to be" in markdown
    assert found.to_latex().startswith(r"\begin{table}")
    assert found._repr_html_().count("<tr>") == 1 + 5
    json.dumps(found.to_dict(), allow_nan=False)
    axes = found.plot("AP").axes[0]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert set(labels) == {"dense-cosine", "auto plain", "sqrt plain", "Pareto front"}
    shown = {text.get_text() for text in axes.texts}
    assert shown == {
        point.system if point.top_k is None else str(point.top_k) for point in found.front("AP")
    }
    for wrong in ({"measure": "RR"}, {"cost": "money"}):
        with pytest.raises(EvaluationError):
            found.plot(**wrong)
    with pytest.raises(EvaluationError, match="no point magic"):
        found.point("magic")


def test_two_runs_of_a_manifest_are_identical(run, asked, photos, tmp_path):
    out = tmp_path / "out"
    options = ("--models", "fake", "-j", "folder", "--measures", "P@3", "--timed", 0)
    options += ("--top-k", "5", "--filters", "plain,sqrt", "--interval", "bootstrap")
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join(map(str, sorted(photos.rglob("*.png")))))
    options += ("--strategies", "auto,dense-dot", "--no-plots")
    run("sweep", "--from", listed, *options, "--sample", 6, "--out", out)
    again = run(
        "sweep", "--manifest", out / "manifest.json", "--out", tmp_path / "again", "--no-plots"
    )
    assert "to the last bit" in again.output
    for name in ("table.md", "sweep.csv", "manifest.json"):
        assert (out / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    moved = photos.rename(tmp_path / "elsewhere")
    text = run("sweep", moved, "--manifest", out / "manifest.json").output
    assert "to the last bit" in text
    shutil.copy(moved / "cats" / "cat.0.png", moved / "cats" / "cat.1.png")
    values = asked("sweep", moved, "--manifest", out / "manifest.json", code=1)
    assert values["identical_figures"] is False
    assert values["differences"][0]["what"] == "data, contents"
    assert "leave out --top-k" in run(
        "sweep", "--manifest", out / "manifest.json", "--top-k", 3, code=1
    ).output  # fmt: skip


# -- the grid --------------------------------------------------------------------------------------


def test_chains():
    assert Chain.parse("plain").term_filters(3) == [{"name": "top_k", "k": 3}]
    assert Chain.parse(" min_score = 0.5 + sqrt").term_filters(3) == [
        {"name": "top_k", "k": 3},
        {"name": "min_score", "min_score": 0.5},
        {"name": "sqrt"},
    ]
    assert Chain.parse("hypernyms+top_k+sqrt").term_filters(3) == [
        {"name": "hypernyms"},
        {"name": "top_k", "k": 3},
        {"name": "sqrt"},
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("magic", "magic"),
        ("top_k=5", "the sweep's to say"),
        ("top_k+top_k", "the sweep's to say"),
        ("min_score", "min_score"),
        ("min_score=high", "'high' is no number"),
        ("min_score:0.5", "min_score:0.5"),
        ("sqrt=2", "has no option of its own"),
        ("plain,plain", "each once"),
        ("", "name chains"),
    ],
)
def test_chains_that_are_none(text, message):
    with pytest.raises((EvaluationError, AnalyzerError), match=message):
        parse_chains(text)


def test_more_terms_than_there_are_classes():
    pets = from_labels(["cat", "dog", "bird"])
    found = settings(parse_chains("plain,sqrt"), (1, 3, 10, 100), (), pets)
    assert [(s.chain.name, s.top_k) for s in found] == [
        ("plain", 1), ("plain", 3), ("sqrt", 1), ("sqrt", 3),
    ]  # fmt: skip
    (wide,) = settings(parse_chains("hypernyms+top_k"), (5000,), (), imagenet())
    assert wide.top_k == len(imagenet().with_hypernyms()) > 1000


# -- the command -----------------------------------------------------------------------------------


def test_the_command(run, asked, photos, tmp_path):
    options = ("sweep", photos, "--models", "fake", "-j", "folder", "--measures", "P@3")
    options += ("--top-k", "1,10", "--sample", 6, "--cache", tmp_path / "cache")
    text = run(*options, "--timed", 2, "--out", tmp_path / "out").output
    assert "\\n" not in text
    for expected in ("dense-cosine", "plain", "are enough", "files in", "p50 ms"):
        assert expected in text
    values = asked(*options, "--timed", 0)
    assert [row["name"] for row in values["points"]] == [
        "auto/plain/1", "auto/plain/10", "dense-cosine",
    ]  # fmt: skip


def test_mistakes_are_one_sentence(run, photos):
    fake, judged = ("--models", "fake"), (photos, "-j", "folder")
    for options, message in (
        ((*judged, *fake, "--strategies", "best"), "there is no strategy 'best'"),
        ((*judged, *fake, "--filters", "best"), "best"),
        ((*judged, *fake, "--top-k", "many"), "top_k takes whole numbers"),
        ((*judged, *fake, "--top-k", "0,1"), "top_k takes whole numbers above 0"),
        ((*judged, *fake, "--measures", "best"), "there is no measure 'best'"),
        ((*judged, "--models", "best"), "best"),
        ((*judged, "--models", "fake,fake"), "each once"),
        ((*judged, *fake, "--compare", "auto"), "compare names auto"),
        ((*judged, *fake, "--timed", -1), "or 0, not -1"),
        (("--manifest", "none.json"), "cannot read none.json"),
    ):
        result = run("sweep", *options, code=1)
        assert message in result.output
        assert "Traceback" not in result.output


def test_no_pictures(run, fake_model, tmp_path):
    assert "which pictures?" in run("sweep", "--models", "fake", code=1).output
    (tmp_path / "empty").mkdir()
    found = run("sweep", tmp_path / "empty", "--models", "fake", code=1).output
    assert "there are no pictures" in found
    with pytest.raises(IndexNotFoundError, match="has no posteriors of fake yet"):
        sweep(cache=tmp_path / "cache", models="fake")
    (tmp_path / "file").write_text("")
    with pytest.raises(EvaluationError, match="cannot make the folder"):
        sweep(tmp_path, cache=tmp_path / "file" / "cache", models="fake")
