"""Whole experiments on a small index: figures, files, the command, and the manifest."""

from __future__ import annotations

import csv
import gzip
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pytrec_eval

from imgsearch_es import ImageIndex, evaluate, folder_label
from imgsearch_es.errors import EvaluationError, QueryError
from imgsearch_es.evaluation import Judgements, Run, System, Topic, differences, read_manifest
from imgsearch_es.evaluation.manifest import arguments_of, picture_differences
from tests.fakes import noise

SYSTEMS = "auto,sqrt,bm25:k1=1.5,dense-euclidean,auto+dense-cosine,auto+sqrt:rrf"
MEASURES = "P@3,nDCG@5,AP"


def trec_figures(folder: Path, system: str) -> dict[str, dict[str, float]]:
    """What trec_eval makes of the files that an experiment wrote."""
    with (folder / "qrels.txt").open() as file:
        qrels = pytrec_eval.parse_qrel(file)
    with gzip.open(folder / "runs" / system, "rt") as file:
        run = pytrec_eval.parse_run(file)
    measures = {"P_3", "ndcg_cut_5", "map"}
    return pytrec_eval.RelevanceEvaluator(qrels, measures).evaluate(run)


@pytest.mark.slow
def test_figures_are_those_of_trec_eval_and_a_manifest_gives_them_again(index, tmp_path):
    options = {"compare": "auto", "interval": "bootstrap", "sample": 9, "seed": 5}
    found = evaluate(index, "labels", SYSTEMS, MEASURES, **options)
    files = found.write(tmp_path / "out", plots=False)
    assert files[-1].name == "manifest.json"
    assert all(path.is_file() for path in files)
    names = {"P@3": "P_3", "nDCG@5": "ndcg_cut_5", "AP": "map"}
    for name in found.scores:
        file = name.replace(":", "_") + ".txt.gz"
        theirs = trec_figures(tmp_path / "out", file)
        assert len(theirs) == 9
        scores = found.scores[name]
        for query in scores.queries:
            for measure, value in scores.of(query).items():
                expected = theirs[found.topic_name(query)][names[measure]]
                assert value == pytest.approx(expected, abs=1e-6)
    manifest = read_manifest(files[-1])
    again = evaluate(index, **arguments_of(manifest))
    assert (again.to_markdown(), again.to_csv()) == (found.to_markdown(), found.to_csv())
    assert differences(manifest, again) == []


def test_every_query_is_left_out(index):
    found = evaluate(index, "labels", "auto,dense-dot,auto+sqrt:rrf", "P@3")
    for run in found.runs.values():
        assert len(run) == 12
        for query in run.rankings:
            assert query not in run.documents(query)
            assert len(run.documents(query)) >= 3
        ours = index.search(image=query, exclude_self=True, k=11)
        assert found.runs["auto"].documents(query) == [hit.id for hit in ours]


def test_a_picture_is_read_once_and_never_analyzed(index, fake_model, monkeypatch):
    asked = []
    get = index.store.get
    monkeypatch.setattr(index.store, "get", lambda ids: asked.append(len(ids)) or get(ids))
    evaluate(index, "labels", SYSTEMS, "P@3")
    assert fake_model.calls == 0
    assert sum(asked) <= 2 * 12


def test_runs_of_other_programs(index, tmp_path):
    found = evaluate(index, "labels", "auto,sqrt", "P@3,AP")
    found.write(tmp_path, plots=False)
    other = Run.from_trec(tmp_path / "runs" / "sqrt.txt.gz", name="theirs")
    both = evaluate(index, "labels", "sqrt", "P@3,AP", runs=[other], compare="theirs")
    assert [c.p["t"] for c in both.comparisons] == [1.0, 1.0]
    assert both.scores["theirs"].mean("AP") == found.scores["sqrt"].mean("AP")
    alone = evaluate(index, "labels", (), "AP", runs=[tmp_path / "runs" / "sqrt.txt.gz"])
    assert list(alone.scores) == ["sqrt"]
    with pytest.raises(EvaluationError, match="two systems have one name"):
        evaluate(index, "labels", "sqrt", runs=[tmp_path / "runs" / "sqrt.txt.gz"])
    stranger = Run("x", {"nobody": [("a", 1.0)]})
    with pytest.raises(EvaluationError, match="answers none of the queries"):
        evaluate(index, "labels", "sqrt", runs=[stranger])


def test_a_run_that_does_not_fit_is_told(index):
    ids = [document.id for document in index]
    half = Run("x", {ids[0]: [(ids[1], 2.0), ("./gone.png", 1.0)], "nobody": [("other", 1.0)]})
    found = evaluate(index, "labels", (), "AP", runs=[half])
    assert found.notes[-2:] == (
        f"the run x does not answer {len(ids) - 1} of the queries: they count as zero",
        "1 pictures of the run x the index lacks, such as ./gone.png",
    )
    whole = evaluate(index, "labels", "sqrt", "AP").runs["sqrt"]
    assert "the run" not in " ".join(evaluate(index, "labels", (), "AP", runs=[whole]).notes)


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_results_are_written_over_nothing_but_earlier_ones(
    index, run, place, tmp_path, monkeypatch
):
    out, said = tmp_path / "out", "q1 0 cats/cat.0.png 2\n"
    out.mkdir()
    (out / "qrels.txt").write_text(said)  # of a person
    found = evaluate(index, "labels", "auto", "AP")
    with pytest.raises(EvaluationError, match=r"qrels.txt is there, and of no earlier"):
        found.write(out, plots=False)
    for folder in (out, place):  # before the work: the strategy would be refused, too
        refused = run("evaluate", "-i", place, "--strategies", "best", "--out", folder, code=1)
        assert "qrels.txt is there" in refused.output or "is no folder" in refused.output
    assert (out / "qrels.txt").read_text() == said
    (out / "qrels.txt").unlink()
    for last in ("matplotlib.figure.Figure.savefig", "imgsearch_es.evaluation.runs.Run.to_trec"):
        with monkeypatch.context() as patch:
            patch.setattr(last, interrupted)
            with pytest.raises(KeyboardInterrupt):
                found.write(out)
        assert "figures" not in read_manifest(out / "manifest.json")
    mine = (out / "qrels.txt").read_text()
    (out / "qrels.txt").write_text(f"{mine}{said}")
    with pytest.raises(EvaluationError, match=r"qrels.txt was changed since"):
        found.write(out)
    (out / "qrels.txt").write_text(mine)
    found.write(out, plots=False)
    assert found.write(out, plots=False)[-1].parent == out
    sample = evaluate(index, out / "qrels.txt", "auto", "AP", sample=3)
    with pytest.raises(EvaluationError, match=r"qrels.txt would be written over: name another"):
        sample.write(out, plots=False)


def test_what_is_judged_into_results_is_kept_and_other_runs_are_not(index, tmp_path):
    found = evaluate(index, "labels", "auto,bm25:k1=1.5", "AP", compare="auto")
    found.write(tmp_path)
    assert (tmp_path / "differences-bm25_k1=1.5.png").exists()
    theirs = Run("bm25_k1=1.5", found.runs["auto"].rankings)
    other = evaluate(index, "labels", "bm25:k1=1.5", "AP", runs=theirs)
    (tmp_path / "mine.png").touch()
    other.write(tmp_path)
    runs = {path.name: Run.from_trec(path) for path in (tmp_path / "runs").iterdir()}
    assert runs.keys() == {"bm25_k1=1.5.txt.gz", "bm25_k1=1.5_.txt.gz"}
    assert len({run.fingerprint for run in runs.values()}) == 2
    plots = {path.name for path in tmp_path.glob("*.png")}
    assert plots == {"mine.png", "precision-recall.png"}
    other.write(tmp_path, plots=False)
    with (tmp_path / "qrels.txt").open("a") as qrels:
        qrels.write("q1 0 cats/cat.0.png 2\n")
    with pytest.raises(EvaluationError, match=r"qrels.txt was changed since .* move it elsewhere"):
        other.write(tmp_path, plots=False)
    (tmp_path / "qrels.txt").unlink()
    assert other.write(tmp_path, plots=False)


def test_queries_with_spaces_in_their_names(index, photos, tmp_path):
    document = index.get(photos / "cats" / "cat.0.png")
    judgements = Judgements({"my cat": {document.id: 1}})
    topics = {"my cat": Topic(text=document.terms[0].key)}
    found = evaluate(index, judgements, "auto", "RR", queries=topics)
    found.write(tmp_path, plots=False)
    assert (tmp_path / "qrels.txt").read_text() == "my%20cat 0 cats/cat.0.png 1\n"
    run = Run.from_trec(tmp_path / "runs" / "auto.txt.gz", name="again")
    again = evaluate(index, judgements, (), "RR", queries=topics, runs=[run])
    assert again.mean("again", "RR").mean == found.mean("auto", "RR").mean > 0


def test_queries_that_are_numbered(index, cat):
    document = index.get(cat)
    queries = {1: document.terms[0].key, 2: Topic(document.id)}
    found = evaluate(index, {1: {document.id: 1}}, "auto", "RR", queries=queries)
    assert found.task.judgements.queries == (1,)
    assert found.mean("auto", "RR").mean > 0
    assert found.to_frame()["query"].tolist() == ["1"]


def test_words_and_new_pictures(index, photos, tmp_path, fake_model):
    key = index.get(photos / "cats" / "cat.0.png")
    new = tmp_path / "new.png"
    noise(9).save(new)
    judgements = Judgements(
        {"words": {key.id: 1}, "new": {key.id: 1}, "part": {key.id: 1}, "what": {key.id: 1}}
    )
    topics = {
        "words": Topic(text=key.terms[0].key),
        "new": Topic(str(new)),
        "part": Topic(key.id, region=(0.0, 0.0, 0.5, 0.5)),
        "what": Topic(text="qwertyuiop"),
    }
    found = evaluate(index, judgements, "auto,sqrt", "RR", queries=topics)
    assert fake_model.calls == 2  # the new picture and the region, once for both systems
    for scores in found.scores.values():
        figures = {query: scores.of(query)["RR"] for query in scores.queries}
        assert figures["words"] > 0
        assert figures["what"] == 0
    assert found.notes[1:] == (
        "the query what has no answer: no synset is named 'qwertyuiop' or includes it.",
    )
    assert found.runs["auto"].documents("part")[0] in {h.id for h in index.search(key, k=12)}
    both = evaluate(index, judgements, "auto,dense-cosine", "RR", queries=topics)
    assert both.scores["dense-cosine"].of("words")["RR"] == 0 < both.mean("dense-cosine", "RR").mean
    assert "dense-cosine has no answer to 1 queries, such as words: dense-cosine" in both.notes[-1]


def test_a_system_that_can_answer_nothing_is_left_out_and_named(index, photos):
    document = index.get(photos / "cats" / "cat.0.png")
    judgements = Judgements({"words": {document.id: 1}})
    options = {"queries": {"words": Topic(text=document.terms[0].key)}}
    found = evaluate(index, judgements, "auto,dense-cosine", "RR", **options)
    assert list(found.scores) == ["auto"]
    assert "dense-cosine is left out: it can answer no query, such as words" in found.notes[0]
    unknown = {"judgements": Judgements({**judgements.grades, "x": {document.id: 1}}),
               "queries": {**options["queries"], "x": "qwertyuiop"}}  # fmt: skip
    for systems in ("auto,dense-cosine", "dense-cosine,auto"):
        found = evaluate(index, systems=systems, measures="RR", **unknown)
        assert list(found.scores) == ["auto"]
    with pytest.raises(EvaluationError, match="compare with another system: dense-cosine is left"):
        evaluate(index, judgements, "auto,dense-cosine", "RR", compare="dense-cosine", **options)
    with pytest.raises(QueryError, match="dense-cosine, query words: dense-cosine compares pict"):
        evaluate(index, judgements, "dense-cosine", "RR", **options)
    with pytest.raises(QueryError, match="k1 must be a number"):
        evaluate(index, judgements, "auto,bm25:k1=-1", "RR", **options)


def test_reciprocal_ranks_reach_as_far_as_their_window_or_the_depth(index, monkeypatch):
    assert System.parse("auto+sqrt:rrf").to_depth(131).reach == 131
    assert System.parse("auto+sqrt:rrf").to_depth(10).reach == 100
    assert System.parse("auto+sqrt:rrf:window=100").to_depth(131).reach == 100
    found = evaluate(index, "labels", "auto,auto+dense-dot:rrf:window=5", "P@3")
    run = found.runs["auto+dense-dot:rrf:window=5"]
    assert {len(run.documents(query)) for query in run.rankings} == {5}
    assert "ranks no more than 5 pictures, the others 12" in found.notes[1]
    assert found.notes[0].startswith("the queries are of 2 groups, too few to speak for others")


def test_tables(index, tmp_path):
    found = evaluate(index, "folder", [System.parse("auto"), "sqrt"], "P@3,AP", compare="auto")
    markdown = found.to_markdown()
    mean = found.mean("sqrt", "AP")
    assert "| sqrt | " in markdown
    assert f"{mean.mean:.3f} [{mean.low:.3f}, {mean.high:.3f}]" in markdown
    assert "folder: 12 queries, 12 pictures" in markdown
    assert repr(found) == markdown
    latex = found.to_latex()
    assert latex.count(r"\\") == 3
    assert r"95\% confidence" in latex
    sure = [replace(found.plan, confidence=level).level for level in (0.29, 0.975, 0.995, 0.9999)]
    assert sure == ["29%", "97.5%", "99.5%", "99.99%"]
    rows = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert [(row["system"], row["measure"]) for row in rows] == [
        ("auto", "P@3"), ("auto", "AP"), ("sqrt", "P@3"), ("sqrt", "AP"),
    ]  # fmt: skip
    assert float(rows[3]["mean"]) == mean.mean
    assert float(rows[3]["holm_t"]) == found.comparisons[1].corrected["t"]
    assert rows[0]["p_t"] == ""
    assert found._repr_html_().count("<table>") == 2
    assert found.compare("auto", "sqrt") == found.compare("auto", ["sqrt"]) == found.compare("auto")
    found.write(tmp_path, plots=False)
    queries = list(csv.DictReader(io.StringIO((tmp_path / "queries.csv").read_text())))
    assert queries[0]["query"] == "cats/cat.0.png"
    assert np.mean([float(row["sqrt AP"]) for row in queries]) == pytest.approx(mean.mean)
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.slow
def test_plots(index, tmp_path):
    found = evaluate(index, "labels", "auto,sqrt", "P@3,AP", compare="auto")
    files = {path.name for path in found.write(tmp_path)}
    assert {"precision-recall.png", "differences-sqrt.png"} <= files
    axes = found.plot_differences("sqrt", measure="AP").axes[0]
    values = [patch.get_height() for patch in axes.patches]
    ours, theirs = (found.scores[name].values["AP"] for name in ("sqrt", "auto"))
    assert sorted(values) == pytest.approx(sorted(ours - theirs))
    assert values == sorted(values, reverse=True)
    (line, _) = found.plot_precision_recall().axes[0].lines
    assert list(line.get_ydata()) == sorted(line.get_ydata(), reverse=True)
    assert len(line.get_xdata()) == 11
    assert len(found.plot_precision_recall("sqrt").axes[0].lines) == 1
    for wrong in ({"system": "best"}, {"system": "sqrt", "measure": "RR"}):
        with pytest.raises(EvaluationError):
            found.plot_differences(**wrong)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compare": "sqrt"}, "compare names sqrt"),
        ({"depth": 2, "measures": "P@3"}, "P@3 looks deeper than the depth 2"),
        ({"depth": 0}, "the depth is 1 to"),
        ({"measures": "Bpref"}, "Bpref counts documents that are judged not relevant"),
        ({"judgements": "ukbench"}, "has none|has 2|UKBench has 4"),
    ],
)
def test_mistakes(index, options, message):
    with pytest.raises(EvaluationError, match=message):
        evaluate(index, **{"judgements": "labels", "systems": "auto", "measures": "AP", **options})


def test_a_picture_that_is_judged_by_two_names(index, tmp_path):
    path = tmp_path / "qrels.txt"
    path.write_text("cat.0 0 cat.1 1\ncat.0 0 cats/cat.1.png 1\n")
    assert len(evaluate(index, path, "auto", "RR").task.judgements) == 1
    path.write_text("cat.0 0 cat.1 1\ncat.0 0 cats/cat.1.png 0\n")
    with pytest.raises(EvaluationError, match=r"cat.0: cats/cat.1.png is judged twice, once by an"):
        evaluate(index, path, "auto", "RR")


# -- the manifest ----------------------------------------------------------------------------------


def test_the_same_pictures_elsewhere_give_the_same_manifest(index, photos, tmp_path):
    found = evaluate(index, "labels", "auto,dense-cosine", "AP", compare="auto", sample=8)
    moved = photos.rename(tmp_path / "elsewhere")
    with ImageIndex(tmp_path / "moved.duckdb", model="fake") as index:
        index.add(moved, labels=folder_label)
        again = evaluate(index, "labels", "auto,dense-cosine", "AP", compare="auto", sample=8)
    assert {d.what for d in differences(found.manifest(), again)} == {"index, location"}
    assert again.to_csv() == found.to_csv()


def test_what_differs_is_said_exactly(index, photos, tmp_path):
    found = evaluate(index, "labels", "auto", "AP")
    found.write(tmp_path / "out", plots=False)
    index.update(photos / "cats" / "cat.1.png", labels="dogs")
    index.remove(photos / "dogs" / "dog.1.png")
    again = evaluate(index, "labels", "auto", "AP")
    manifest = read_manifest(tmp_path / "out" / "manifest.json")
    manifest["versions"]["numpy"] = "1.0"
    different = differences(manifest, again)
    whats = [d.what for d in different]
    assert "data, pictures" in whats
    assert "figures, auto, AP" in whats
    assert "judgements, queries" in whats
    assert whats[-1] == "versions, numpy"
    assert str(different[0]) == "data, pictures: 11, was 12"
    assert picture_differences(tmp_path / "out" / "pictures.tsv.gz", again.collection) == [
        "1 pictures are gone: dogs/dog.1.png",
        "1 pictures have other labels: cats/cat.1.png",
    ]
    damaged = tmp_path / "pictures.tsv"
    damaged.write_text("name\tsha256\tlabels\ncats/cat.1.png\n")
    with pytest.raises(EvaluationError, match=r"pictures.tsv, line 2: not 3 columns"):
        picture_differences(damaged, again.collection)


def test_a_label_with_a_line_end_is_the_same_label(index, photos, tmp_path):
    index.update(photos / "cats" / "cat.1.png", labels="two\nlines")
    found = evaluate(index, "labels", "auto", "AP")
    found.write(tmp_path, plots=False)
    assert picture_differences(tmp_path / "pictures.tsv.gz", found.collection) == []


def test_manifests_that_are_none(index, tmp_path):
    manifest, path = evaluate(index, "labels", "auto", "AP").manifest(), tmp_path / "m.json"
    for change, message in (
        ({"imgsearch_evaluation": 9}, "is no manifest"),
        ({"experiment": None}, "which experiment"),
        ({"experiment": {"judgements": "labels", "systems": []}}, "does not say its measures"),
        ({"experiment": {"depth": "deep"}}, "depth cannot be 'deep'"),
        ({"experiment": {"systems": ["auto", 1]}}, "systems cannot be"),
        ({"experiment": {"colour": 1}}, "no setting colour"),
    ):
        path.write_text(json.dumps(manifest | change))
        with pytest.raises(EvaluationError, match=message):
            arguments_of(read_manifest(path))
    path.write_text("{")
    with pytest.raises(EvaluationError, match="is no JSON"):
        read_manifest(path)


def test_judgements_from_python_are_not_in_a_manifest(index):
    own = Judgements.from_groups({d.id: d.labels for d in index.store.documents()})
    manifest = evaluate(index, own, "auto", "AP").manifest()
    with pytest.raises(EvaluationError, match="given in Python"):
        arguments_of(manifest)
    assert differences(manifest, evaluate(index, own, "auto", "AP")) == []


# -- the command -----------------------------------------------------------------------------------


def test_the_command(run, asked, place, tmp_path):
    options = ("-i", place, "--strategies", "auto,sqrt", "--measures", "P@3,AP")
    text = run("evaluate", *options, "--compare", "auto").output
    assert "sqrt" in text
    assert "labels: 12 queries, 12 pictures" in text
    assert "better/equal/worse" in text
    out = tmp_path / "out"
    values = asked("evaluate", *options, "--judgements", "folder", "--out", out, "--no-plots")
    assert [row["system"] for row in values["systems"]] == ["auto", "sqrt"]
    assert set(values["systems"][0]["measures"]) == {"P@3", "AP"}
    assert all(Path(path).is_file() for path in values["files"])
    again = run("evaluate", "--manifest", out / "manifest.json").output
    assert "to the last bit" in again
    assert "differs" not in again


def test_the_command_says_what_differs(run, asked, place, photos, tmp_path):
    out = tmp_path / "out"
    run("evaluate", "-i", place, "--measures", "P@3", "--out", out, "--no-plots")
    run("remove", "-i", place, photos / "cats" / "cat.1.png")
    result = run("evaluate", "--manifest", out / "manifest.json", "-i", place, code=1)
    assert "differs: data, pictures: 11, was 12" in result.output
    assert "1 pictures are gone: cats/cat.1.png" in result.output
    assert "the figures are not those of" in result.output
    for odd in (None, {"location": 5}):
        manifest = json.loads((out / "manifest.json").read_text()) | {"index": odd}
        (tmp_path / "odd.json").write_text(json.dumps(manifest))
        run("evaluate", "--manifest", tmp_path / "odd.json", code=1)
    values = asked("evaluate", "--manifest", out / "manifest.json", code=1)
    assert values["identical_figures"] is False
    assert values["pictures_that_differ"]


def test_mistakes_are_one_sentence(run, place):
    for option, value, message in (
        ("--judgements", "nothing", "there are no judgements 'nothing'"),
        ("--run", "none.txt", "cannot read none.txt"),
        ("--manifest", "none.json", "cannot read none.json"),
        ("--interval", "guess", "there is no interval 'guess'"),
        ("--seed", "-1", "the seed is 0 or more, not -1"),
    ):
        result = run("evaluate", "-i", place, option, value, code=1)
        assert message in result.output
        assert "Traceback" not in result.output


def test_an_interrupted_evaluation_keeps_nothing(run, place, tmp_path, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ImageIndex, "search_many", interrupted)
    result = run("evaluate", "-i", place, "--out", tmp_path / "out", code=130)
    assert "keeps nothing until it is done" in result.output
    assert not (tmp_path / "out").exists()


def test_an_empty_index(run, fake_model, tmp_path):
    with ImageIndex(tmp_path / "empty.duckdb", model="fake") as index:
        index.create()
    result = run("evaluate", "-i", tmp_path / "empty.duckdb", code=1)
    assert "has no pictures" in result.output
    result = run("evaluate", "-i", tmp_path / "none.duckdb", code=1)
    assert "there is no index" in result.output
