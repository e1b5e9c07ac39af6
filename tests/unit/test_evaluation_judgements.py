"""Judgements and runs: what files hold, what they mean, and what is wrong with them."""

from __future__ import annotations

import gzip
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgsearch_es.errors import EvaluationError
from imgsearch_es.evaluation import Judgements, Run, text_files
from imgsearch_es.evaluation.runs import falling

NAMES = st.text("abcxyz019._-", min_size=1, max_size=6)


@settings(max_examples=40)
@given(
    st.dictionaries(NAMES, st.dictionaries(NAMES, st.integers(0, 4), min_size=1), min_size=1),
    st.frozensets(NAMES),
)
def test_qrels_read_back(tmp_path_factory, grades, junk):
    judgements = Judgements(grades, dict.fromkeys(grades, junk))
    path = judgements.write_qrels(tmp_path_factory.mktemp("qrels") / "qrels.gz")
    if not path.stat().st_size or not gzip.decompress(path.read_bytes()):
        return
    again = Judgements.from_qrels(path, junk=-1)
    assert {q: again.of(q) for q in again.queries} == {q: judgements.of(q) for q in again.queries}
    assert all(again.junk.get(q, frozenset()) == junk for q in again.queries)
    plain = Judgements.from_qrels(path)
    assert all(plain.relevant(q) == judgements.relevant(q) for q in plain.queries)


def test_groups_leave_one_out():
    groups = {"a": ["x", "y"], "b": ["x"], "c": ["y"], "d": ["z"], "e": []}
    judgements = Judgements.from_groups(groups)
    assert judgements.queries == ("a", "b", "c")
    assert judgements.of("a") == {"b": 1, "c": 1}
    assert judgements.of("b") == {"a": 1}
    assert judgements.relevant("nobody") == frozenset()
    chosen = Judgements.from_groups({"a": "x", "b": "x", "d": "z"}, queries=["d"])
    assert chosen.queries == ("d",)
    assert chosen.of("d") == {}
    words = Judgements.from_groups({"a": "cats", "b": "cats", "c": "dogs"})  # each is one group
    assert words.queries == ("a", "b")
    assert words.of("a") == {"b": 1}


def test_grades_of_any_kind_of_number_are_kept_as_plain_ones(tmp_path):
    shared = {"a": np.int64(2), "b": True, "c": 0.0}
    judgements = Judgements({"q": shared, "r": shared})
    assert repr(judgements.grades["q"]) == "{'a': 2, 'b': 1, 'c': 0}"
    assert judgements.grades["q"] is judgements.grades["r"]
    plain = Judgements({key: {"a": 2, "b": 1, "c": 0} for key in "qr"})
    assert judgements.fingerprint == plain.fingerprint
    again = Judgements.from_qrels(judgements.write_qrels(tmp_path / "qrels.txt"))
    assert again.fingerprint == plain.fingerprint
    for odd in (0.5, math.nan, None, 10_001):
        with pytest.raises(EvaluationError, match=f"the grade {odd!r} of a is no whole number"):
            Judgements({"q": {"a": odd}})


def test_a_large_group_is_kept_once():
    judgements = Judgements.from_groups({str(i): ["all"] for i in range(1000)})
    assert len({id(grades) for grades in judgements.grades.values()}) == 1
    renamed = judgements.renamed(lambda key: f"n{key}")
    assert len({id(grades) for grades in renamed.grades.values()}) == 1
    assert renamed.of("n7").keys() == {f"n{i}" for i in range(1000)} - {"n7"}


def test_a_small_file_that_unpacks_to_more_than_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "_MOST", 1000)
    path = tmp_path / "qrels.gz"
    path.write_bytes(gzip.compress(b"q 0 d 1\n" + b"\n" * 992))
    assert len(Judgements.from_qrels(path)) == 1
    path.write_bytes(gzip.compress(b"q 0 d 1\n" + b"\n" * 993))
    with pytest.raises(EvaluationError, match="has over 1,000 bytes"):
        Judgements.from_qrels(path)


def test_sample_and_select():
    judgements = Judgements.from_groups({str(i): [i // 4] for i in range(20)})
    chosen = judgements.sample(5, seed=3)
    assert chosen.queries == judgements.sample(5, seed=3).queries
    assert len(chosen) == 5
    assert chosen.of(chosen.queries[0]) == judgements.of(chosen.queries[0])
    assert len(judgements.sample(100)) == 20
    with pytest.raises(EvaluationError, match="no judgements of the query 'x'"):
        judgements.select(["x"])
    with pytest.raises(EvaluationError, match="at least one"):
        judgements.sample(0)


def test_the_fingerprint_is_of_all_that_counts():
    one = Judgements({"q": {"a": 1, "b": 0}}, {"q": frozenset("c")})
    same = Judgements({"q": {"b": 0, "a": 1}}, {"q": frozenset("c")})
    assert one.fingerprint == same.fingerprint
    others = (
        Judgements({"q": {"a": 2, "b": 0}}, one.junk),
        Judgements({"r": {"a": 1, "b": 0}}, {"r": frozenset("c")}),
        Judgements(one.grades, {"q": frozenset("d")}),
        Judgements(one.grades),
    )
    assert len({other.fingerprint for other in (one, *others)}) == 5


def test_csv(tmp_path):
    path = tmp_path / "judged.csv"
    path.write_text(
        'note,document,query,grade\nx,a.jpg,"my cat",2\n,b.jpg,my cat,junk\n,c.jpg,dog,\n',
        encoding="utf-8-sig",
    )
    judgements = Judgements.from_csv(path)
    assert judgements.of("my cat") == {"a.jpg": 2}
    assert judgements.junk == {"my cat": frozenset({"b.jpg"})}
    assert judgements.of("dog") == {"c.jpg": 1}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.qrels", "q 0 d 1\nq 0 d\n", "line 2: not 4 columns"),
        ("a.qrels", "q 0 d one\n", "line 1: the grade 'one'"),
        ("a.qrels", "q 0 d 1\n\nq 0 d 2\n", "line 3: d is judged twice"),
        ("a.qrels", "\n", "holds no judgements"),
        ("a.csv", "query,grade\nq,1\n", "no column document"),
        ("a.csv", "query,document\nq,\n", "line 2: a query or document is missing"),
        ("a.csv", "query,document,grade\nq,d,high\n", "line 2: the grade 'high'"),
        ("a.csv", "", "no column query or document"),
        ("a.csv", "query,document\nq,d,0\n", "line 2: it has more fields than the heading"),
        ("a.csv", "query,document,relevance\nq,d,0\n", "the column 'relevance' is not read"),
        ("a.csv", "query,document, Grade\nq,d,0\n", "a column ' Grade': call it 'grade'"),
        ("a.csv", "query,document,grade,grade\nq,d,0,1\n", "several columns 'grade'"),
        ("a.csv", 'query,document\n"q,d\ne,f\n', "after line 1: unexpected end"),
        ("a.csv", "query,document\nq,d\rx,y\nq,z" + "z" * 200_000, "after line 3: field larger"),
        ("a.qrels", f"q 0 d {2**31}\n", "line 1: the grade '2147483648' is no whole number from"),
    ],
)
def test_mistakes_in_files_are_named(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text)
    read = Judgements.from_csv if name.endswith("csv") else Judgements.from_qrels
    with pytest.raises(EvaluationError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(EvaluationError, match="No such file"):
        Judgements.from_qrels(tmp_path / "none")
    (tmp_path / "a.gz").write_bytes(b"no gzip")
    with pytest.raises(EvaluationError, match="cannot read"):
        Run.from_trec(tmp_path / "a.gz")
    (tmp_path / "latin").write_bytes(b"q 0 caf\xe9 1")
    with pytest.raises(EvaluationError, match="cannot read"):
        Judgements.from_qrels(tmp_path / "latin")
    with pytest.raises(EvaluationError, match="cannot write"):
        Run("r", {"q": [("d", 1.0)]}).to_trec(tmp_path / "latin" / "run.txt")


def test_a_name_in_quotes_may_have_lines(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('query,document\n"a\nb","c\n\nd"\n \nq,d\n')
    assert Judgements.from_csv(path).grades == {"a\nb": {"c\n\nd": 1}, "q": {"d": 1}}


def test_names_with_spaces_have_no_place_in_trec_files(tmp_path):
    with pytest.raises(EvaluationError, match="the document 'my cat'"):
        Run("r", {"q": [("my cat", 1.0)]}).to_trec(tmp_path / "run.txt")
    with pytest.raises(EvaluationError, match="the query 'a b'"):
        Judgements({"a b": {"d": 1}}).write_qrels(tmp_path / "qrels")
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=40)
@given(st.lists(st.floats(-1e30, 1e30) | st.sampled_from([0.0, 1e-45, -1e-45, 1.5]), max_size=40))
def test_falling_scores_fall_and_stay_near(scores):
    ordered = sorted(scores, reverse=True)
    given_ = falling(ordered)
    assert all(a > b for a, b in itertools.pairwise(given_))
    near = np.asarray(ordered, dtype=np.float32)
    assert np.allclose(given_, near, rtol=1e-4, atol=1e-36)
    written = [np.float32(f"{value:.9g}") for value in given_]
    assert written == list(given_)


def test_a_run_is_read_as_trec_eval_reads_it(tmp_path):
    path = tmp_path / "run.txt"
    path.write_text("q Q0 a 1 0.5 tag\nq Q0 b 2 0.5 tag\nq Q0 c 3 0.9 tag\nr Q0 a 1 -3e0 tag\n")
    run = Run.from_trec(path)
    assert run.name == "tag"
    assert run.documents("q") == ["c", "b", "a"]
    assert run.documents("r") == ["a"]
    assert Run.from_trec(path, name="mine").name == "mine"
    assert len(run) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q Q0 a 1 0.5\n", "line 1: not 6 columns"),
        ("q Q0 a 1 best t\n", "the score 'best'"),
        ("q Q0 a 1 nan t\n", "not finite"),
        ("q Q0 a 1 1 t\nq Q0 a 2 0 t\n", "has a document twice"),
        ("\n", "holds no run"),
        ("q Q0 a 1 -3.4028235e38 t\nq Q0 b 2 -3.4028235e38 t\n", "below all float32 numbers"),
    ],
)
def test_mistakes_in_runs_are_named(tmp_path, text, message):
    path = tmp_path / "run.txt"
    path.write_text(text)
    with pytest.raises(EvaluationError, match=message):
        Run.from_trec(path).falling("q")


def test_clusters_are_objects_that_queries_have_in_common():
    groups = {f"{group}{i}": [group] for group in "abc" for i in range(2)}
    own = {query: query for query in groups}
    judgements = Judgements.from_groups(groups)
    assert judgements.clusters(own).tolist() == [0, 0, 1, 1, 2, 2]
    assert judgements.clusters({}).tolist() == [0, 0, 1, 1, 2, 2]  # the same documents are relevant
    read = Judgements(
        {q: dict.fromkeys(judgements.relevant(q) - {q}, 1) for q in judgements.queries}
    )
    assert read.clusters(own).tolist() == [0, 0, 1, 1, 2, 2]
    assert read.clusters({}).tolist() == [0, 1, 2, 3, 4, 5]
    apart = Judgements(
        {"cat": {"x": 1, "y": 0}, "dog": {"x": 0, "y": 2}, "no": {"x": 0}, "none": {}}
    )
    assert apart.clusters({"cat": "y2", "dog": "x2"}).tolist() == [0, 1, 2, 3]
    assert apart.clusters({"cat": "y"}).tolist() == [0, 0, 1, 2]
    chain = Judgements.from_groups({"a": [1], "ab": [1, 2], "b": [2], "c": [3], "d": [3]})
    assert chain.clusters({q: q for q in chain.queries}).tolist() == [0, 0, 0, 1, 1]
