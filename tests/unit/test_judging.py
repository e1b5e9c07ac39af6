"""Judging: the pool, the order, the session, the file, the terminal and the widget."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from imgsearch_es import evaluate, judge
from imgsearch_es.errors import EvaluationError, QueryError, pip_install
from imgsearch_es.evaluation import Judgements, Run, Topic
from imgsearch_es.evaluation.judging import Candidate, QrelsFile, Session
from imgsearch_es.evaluation.runs import pool_runs
from imgsearch_es.interfaces.cli.judge import TerminalJudge, preview
from imgsearch_es.interfaces.notebook.judging import JudgingWidget

POOL = {"q1": ("a", "b", "c"), "q2": ("d", "e")}


def run_of(name: str, **rankings: str) -> Run:
    """Documents are letters, best first."""
    return Run(name, {q: [(d, float(-i)) for i, d in enumerate(r)] for q, r in rankings.items()})


def session(path: Path, pool: dict[str, tuple[str, ...]] = POOL) -> Session:
    return Session(pool, QrelsFile(path))


# -- pooling ---------------------------------------------------------------------------------------


def test_a_pool_has_the_first_documents_of_each_run_once():
    runs = [run_of("x", q1="abcde", q2="a"), run_of("y", q1="cfgab")]
    pool = pool_runs(runs, 3, queries=["q1", "q2", "q3"])
    assert {q: set(d) for q, d in pool.items()} == {"q1": set("abcfg"), "q2": {"a"}, "q3": set()}
    assert list(pool) == ["q1", "q2", "q3"]
    junk = {"q": frozenset("a")}  # which does not count for the depth
    assert set(pool_runs([run_of("x", q="abc")], 1, queries=["q"], junk=junk)["q"]) == {"b"}


@given(st.permutations("abcdefgh"), st.permutations("abcdefgh"), st.integers(1, 8))
def test_the_order_tells_neither_rank_nor_system_and_survives_growth(first, second, depth):
    both = [run_of("x", q="".join(first)), run_of("y", q="".join(second))]
    small = pool_runs(both[:1], depth, queries=["q"], seed=1)["q"]
    grown = pool_runs(both[::-1], 8, queries=["q"], seed=1)["q"]
    assert [d for d in grown if d in small] == list(small)
    assert grown == pool_runs([run_of("z", q="abcdefgh")], 8, queries=["q"], seed=1)["q"]


def test_another_seed_or_query_gives_another_order():
    run = run_of("x", q="abcdefghijkl", r="abcdefghijkl")
    pool = pool_runs([run], 12, queries=["q", "r"])
    assert pool["q"] != pool["r"]
    assert pool["q"] != pool_runs([run], 12, queries=["q"], seed=1)["q"]


# -- the session and its file ----------------------------------------------------------------------


def test_every_judgement_is_saved_at_once_and_the_unjudged_stay_unjudged(tmp_path):
    path = tmp_path / "made" / "qrels.txt"
    asked = session(path)
    assert asked.current == Candidate("q1", "a")
    asked.judge("relevant")
    assert path.read_text() == "q1 0 a 2\n"
    asked.judge("not")
    asked.skip()
    asked.judge(1)
    assert path.read_text() == "q1 0 a 2\nq1 0 b 0\nq2 0 d 1\n"
    asked.judge("partly")
    assert asked.current is None
    assert asked.unjudged == [Candidate("q1", "c")]
    assert [p.name for p in path.parent.iterdir()] == ["qrels.txt"]
    with pytest.raises(EvaluationError, match="everything in the pool is judged or skipped"):
        asked.judge("not")


def test_going_on_later_begins_with_what_was_left_over(tmp_path):
    path = tmp_path / "qrels.txt"
    path.write_text("q2 0 d 1\nq9 0 z -1\n")
    later = session(path)
    assert [c.document for c in later.unjudged] == ["e", "a", "b", "c"]
    later.judge("not")
    assert path.read_text() == "q2 0 d 1\nq2 0 e 0\nq9 0 z -1\n"
    again = session(path)
    assert (again.progress.judged, again.progress.total) == (2, 5)
    assert again.current == Candidate("q1", "a")


def test_undo_takes_back_judgements_and_skips(tmp_path):
    path = tmp_path / "qrels.txt"
    asked = session(path)
    assert not asked.undo()
    asked.judge("relevant")
    asked.skip()
    assert asked.undo()
    assert asked.current == Candidate("q1", "b")
    assert asked.progress.skipped == 0
    assert asked.undo()
    assert asked.current == Candidate("q1", "a")
    assert path.read_text() == ""
    assert session(path).progress.judged == 0
    assert not asked.undo()
    with pytest.raises(EvaluationError, match="there is no grade 'good'; there are relevant"):
        asked.judge("good")
    asked.judge(True)  # is 1, also in the file
    assert session(path).progress.judged == 1


def test_two_people_judge_into_one_file(tmp_path):
    path = tmp_path / "shared" / "qrels.txt"
    link = tmp_path / "linked.txt"
    link.symlink_to(path)
    pools = [{f"q{n}": tuple(f"{n}-{i}" for i in range(10))} for n in range(3)]

    def work(pool: dict[str, tuple[str, ...]]) -> None:
        mine = session(link if "q0" in pool else path, pool)
        while mine.current is not None:
            mine.judge("partly")

    threads = [threading.Thread(target=work, args=(pool,)) for pool in pools]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(map(len, QrelsFile(path).read().values())) == 30


def test_what_another_person_judged_meanwhile_is_not_asked(tmp_path):
    mine, theirs = session(tmp_path / "q.txt"), session(tmp_path / "q.txt")
    theirs.judge("not")
    theirs.judge("not")
    mine.judge("relevant")
    assert mine.current == Candidate("q1", "c")
    assert QrelsFile(tmp_path / "q.txt").read() == {"q1": {"a": 2, "b": 0}}


def test_a_fifo_is_refused_in_place_of_waiting_for_it(tmp_path):
    os.mkfifo(tmp_path / "qrels.txt")
    with pytest.raises(EvaluationError, match="is a FIFO"):
        session(tmp_path / "qrels.txt")


def test_a_judgement_that_cannot_be_saved_does_not_count(tmp_path):
    asked = session(tmp_path / "file" / "qrels.txt")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(EvaluationError, match="cannot write"):
        asked.judge("relevant")
    assert asked.current == Candidate("q1", "a")
    assert asked.grades == {}
    assert not asked.undo()


@settings(max_examples=30)
@given(st.dictionaries(st.sampled_from(["q1", "q2"]), st.dictionaries(
    st.sampled_from("abcd"), st.integers(-1, 3), min_size=1), min_size=1))  # fmt: skip
def test_qrels_read_back_are_what_was_judged(tmp_path_factory, grades):
    file = QrelsFile(
        tmp_path_factory.mktemp("q") / "qrels.txt.gz", (str, str.lower), (str, str.upper)
    )
    for query, row in grades.items():
        for document, grade in row.items():
            file.change(query, document, grade)
    assert file.read() == grades
    kept = Judgements.from_qrels(file.path).grades
    assert kept == {q: {d.upper(): g for d, g in row.items()} for q, row in grades.items()}


def test_a_file_that_is_no_qrels_or_judges_twice_is_refused(tmp_path):
    path = tmp_path / "qrels.txt"
    path.write_text("no qrels\n")
    with pytest.raises(EvaluationError, match=r"qrels\.txt, line 1: not 4 columns"):
        session(path)
    path.write_text("q 0 a 1\nq 0 A 0\n")
    with pytest.raises(EvaluationError, match=r"qrels\.txt: two lines judge the same picture"):
        Session(POOL, QrelsFile(path, (str, str.lower)))
    path.unlink()
    path.mkdir()
    with pytest.raises(EvaluationError, match="cannot read"):
        session(path)


# -- with an index ---------------------------------------------------------------------------------


def test_judging_an_index_and_measuring_by_it(index, tmp_path):
    out = tmp_path / "qrels.txt"
    first = judge(index, None, "auto,dense-cosine", sample=2, depth=3, out=out)
    assert len(first.topics) == 2
    for query, documents in first.session.pool.items():
        assert query not in documents
        assert 3 <= len(documents) <= 6
    while first.session.current is not None:
        first.session.judge("relevant")
    assert "cats/" in out.read_text() or "dogs/" in out.read_text()
    again = judge(index, None, "auto,dense-cosine", sample=2, depth=3, out=out)
    assert again.session.current is None
    deeper = judge(index, None, "auto,dense-cosine", sample=2, depth=5, out=out)
    assert 0 < len(deeper.session.unjudged) < deeper.session.progress.total
    found = evaluate(index, first.judgements, "auto,dense-cosine", "P@3")
    assert [found.scores[s].mean("P@3") for s in found.scores] == [1.0, 1.0]
    on_disk = evaluate(index, out, "auto", "P@3")
    assert on_disk.scores["auto"].mean("P@3") == 1.0


def test_a_query_may_be_called_by_several_words(index, cat, tmp_path):
    csv, out = tmp_path / "queries.csv", tmp_path / "qrels.txt"
    csv.write_text(f"query,text\ntwo words at 100%,{index.get(cat).terms[0].key}\n")
    made = judge(index, csv, depth=3, out=out)
    made.session.judge("relevant")
    assert out.read_text().startswith("two%20words%20at%20100%25 0 ")
    again = judge(index, csv, depth=3, out=out)
    assert again.session.progress.judged == 1
    assert list(again.session.grades) == ["two words at 100%"]
    found = evaluate(index, out, "auto", "RR", queries=csv)
    assert found.task.judgements.queries == ("two words at 100%",)
    assert found.mean("auto", "RR").mean == 1


def test_a_query_may_be_called_as_another_one_is_written(index, cat, tmp_path):
    out, words = tmp_path / "qrels.txt", index.get(cat).terms[0].key
    queries = {"a b": words, "a%20b": words}
    made = judge(index, queries, depth=3, out=out)
    while made.session.current:
        made.session.judge("relevant" if made.session.current.query == "a b" else "not")
    judged = judge(index, queries, depth=3, out=out).session.grades
    assert [{*judged[query].values()} for query in queries] == [{2}, {0}]
    found = evaluate(index, out, "auto", "P@3", queries=queries)
    assert [{*found.task.judgements.of(query).values()} for query in queries] == [{2}, {0}]
    found.write(tmp_path / "out", plots=False)
    runs = [tmp_path / "out" / "runs" / "auto.txt.gz"]
    again = evaluate(index, out, (), "P@3", queries=queries, runs=runs)
    assert again.mean("auto", "P@3").mean == found.mean("auto", "P@3").mean == 0.5
    both = {"a%20b": {"x": 1}, "a%2520b": {"x": 0}}
    with pytest.raises(EvaluationError, match="two queries are the same"):
        evaluate(index, both, "auto", queries={"a%20b": words})


def test_runs_to_judge_may_answer_queries_of_several_words(index, cat, tmp_path):
    queries = {"my cat": index.get(cat).terms[0].key}
    found = evaluate(index, {"my cat": {index.get(cat).id: 1}}, "auto", "RR", queries=queries)
    found.write(tmp_path, plots=False)
    runs = [tmp_path / "runs" / "auto.txt.gz"]
    made = judge(index, queries, (), runs=runs, depth=3, out=tmp_path / "judged.txt")
    assert len(made.session.unjudged) == 3


def test_names_that_the_index_does_not_know_stay(index, cat, tmp_path):
    out, strangers = tmp_path / "qrels.txt", "a%20b 0 my%20cat.png 1\nz% 0 100%.png 0\n"
    for queries, sample in ((None, 2), ({"my q": index.get(cat).terms[0].key}, None)):
        out.write_text(strangers)
        asked = judge(index, queries, sample=sample, depth=3, out=out).session
        for grade in ("relevant", "not", "partly"):
            asked.judge(grade)
        lines = out.read_text().splitlines(keepends=True)
        assert len(lines) == 5
        assert "".join(line for line in lines if line[:2] in ("a%", "z%")) == strangers


def test_who_may_read_a_file_stays_when_it_is_written_anew(tmp_path):
    path = tmp_path / "qrels.txt"
    path.write_text("q2 0 d 1\n")
    path.chmod(0o600)
    owner = (1234, 2345) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    os.chown(path, *owner)
    session(path).judge("relevant")
    was = path.stat()
    assert (stat.S_IMODE(was.st_mode), was.st_uid, was.st_gid) == (0o600, *owner)


def test_nobody_takes_back_what_another_said_since(tmp_path):
    ours, theirs = session(tmp_path / "qrels.txt"), session(tmp_path / "qrels.txt")
    ours.judge("relevant")
    theirs.judge("not")  # of the same picture
    assert ours.undo()
    assert (tmp_path / "qrels.txt").read_text() == "q1 0 a 0\n"


def test_what_another_said_before_is_there_again(tmp_path):
    ours, theirs = session(tmp_path / "qrels.txt"), session(tmp_path / "qrels.txt")
    theirs.judge("relevant")
    ours.judge("not")  # of the same picture, which was asked before theirs was saved
    assert ours.undo()
    assert (tmp_path / "qrels.txt").read_text() == "q1 0 a 2\n"


def test_queries_of_words_and_pictures_and_runs(index, cat, tmp_path):
    known = index.get(cat)
    csv = tmp_path / "queries.csv"
    csv.write_text(f"query,image,text\nw,,{known.terms[0].key}\np,cat.0.png,\nx,,qwertyuiop\n")
    theirs = tmp_path / "run.txt"
    theirs.write_text("p Q0 dogs/dog.1.png 1 2.0 them\np Q0 gone.png 2 1.0 them\n")
    made = judge(index, csv, (), runs=[theirs], depth=2, out=tmp_path / "q.txt")
    assert {q: len(d) for q, d in made.session.pool.items()} == {"w": 0, "p": 1, "x": 0}
    made = judge(index, csv, "auto", depth=4, out=tmp_path / "q.txt")
    assert made.notes == (
        "the query x has no answer: no synset is named 'qwertyuiop' or includes it.",
    )
    assert known.id in made.session.pool["w"]
    assert known.id not in made.session.pool["p"]
    assert made.query_text("w") == known.terms[0].key
    assert made.query_picture("w") is None
    assert made.query_picture("p") == str(cat)
    assert "0 of " in repr(made)
    with pytest.raises(EvaluationError, match="nothing is judged yet"):
        _ = made.judgements


def test_mistakes_are_said_before_anything_is_judged(index, tmp_path):
    out = tmp_path / "q.txt"
    for options, message in (
        ({}, "which queries"),
        ({"sample": 0}, "a sample has at least one"),
        ({"sample": 1, "depth": 0}, "the depth of a pool is 1"),
        ({"queries": {}}, "there is no query"),
        ({"queries": {"q": Topic(text="dog")}, "sample": 1}, "which queries"),
    ):
        with pytest.raises(EvaluationError, match=message):
            judge(index, out=out, **options)
    with pytest.raises(QueryError, match="there is no strategy"):
        judge(index, systems="best", sample=1, out=out)
    assert not out.exists()


# -- the terminal ----------------------------------------------------------------------------------


def test_keys_on_a_terminal(index, tmp_path):
    made = judge(index, sample=1, depth=4, out=tmp_path / "q.txt")
    opened: list[str] = []
    keys = iter("ox2usnPq")
    console = Console(force_terminal=True, width=60, record=True, color_system="truecolor")
    TerminalJudge(made, console, lambda: next(keys), opened.append).run()
    (documents,) = made.session.pool.values()
    assert opened == [made.uri(documents[0])]
    (grades,) = made.session.grades.values()
    assert grades == {documents[1]: 0, documents[2]: 1}
    text = console.export_text()
    assert "Query: " in text
    assert "taken back" in text
    assert "▀" in text

    def stop() -> str:
        raise KeyboardInterrupt

    TerminalJudge(made, console, stop, opened.append).run()
    TerminalJudge(made, console, lambda: "", opened.append).run()  # the terminal was closed
    assert made.session.grades[next(iter(made.session.pool))] == grades


def test_a_preview_says_why_there_is_none(photos):
    console = Console(force_terminal=True, width=40)
    with console.capture() as captured:
        console.print(preview(str(photos / "gone.png"), 30))
    assert "no preview" in captured.get()


def test_the_command(run, place, cat, tmp_path):
    out = tmp_path / "qrels.txt"
    options = ("judge", "-i", place, "--sample", "1", "--depth", "3", "--out", out)
    said = run(*options, stdin="rpq")
    assert "2 of 3 judged" in said.output
    assert "goes on with the rest" in said.output
    assert sorted(line.split()[3] for line in out.read_text().splitlines()) == ["1", "2"]
    assert "3 of 3 judged" in run(*options, stdin="n").output
    assert '"judged": 3' in run(*options, "--json").output
    assert "which queries?" in run("judge", "-i", place, "--out", out, code=1).output


# -- the notebook ----------------------------------------------------------------------------------


def test_the_widget_judges_what_was_seen(index, tmp_path):
    made = judge(index, sample=1, depth=3, out=tmp_path / "q.txt")
    widget = made.widget()
    assert isinstance(widget, JudgingWidget)
    assert widget.state["picture"]["data"].startswith("data:image/jpeg")
    assert widget.state["query"]["picture"]["data"].startswith("data:image/jpeg")
    seen = widget.state["asked"]
    widget._said(widget, {"action": "relevant", "asked": seen}, [])
    widget._said(widget, {"action": "relevant", "asked": seen}, [])  # the same key again
    assert made.session.progress.judged == 1
    for action in ("skip", "not"):
        widget.act(action, widget.state["asked"])
    assert "query" not in widget.state
    assert (widget.state["judged"], widget.state["skipped"]) == (2, 1)
    widget.act("not", widget.state["asked"])
    widget.act("undo", widget.state["asked"])
    assert widget.state["message"] == "Taken back."
    assert made.session.progress.judged == 1
    widget._said(widget, "nonsense", [])
    widget.act("nonsense", widget.state["asked"])
    bundle = made._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    assert "application/vnd.jupyter.widget-view+json" in data


def test_the_widget_says_what_went_wrong(index, tmp_path):
    folder = tmp_path / "folder"
    made = judge(index, sample=1, depth=3, out=folder / "q.txt")
    widget = made.widget()
    folder.write_text("in the way")
    widget.act("relevant", widget.state["asked"])
    assert widget.state["message"].startswith("cannot write")
    assert made.session.progress.judged == 0


def test_without_anywidget_there_is_a_sentence(index, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "anywidget", None)
    monkeypatch.delitem(__import__("sys").modules, "imgsearch_es.interfaces.notebook.judging")
    made = judge(index, sample=1, depth=3, out=tmp_path / "q.txt")
    assert pip_install("widgets") in made._repr_mimebundle_()["text/plain"]
