"""Click-through: the log, measures from it, and interleaving."""

from __future__ import annotations

import json
import multiprocessing
import stat
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgsearch_es import Fusion
from imgsearch_es.errors import ConfigurationError, LogError, QueryError
from imgsearch_es.evaluation import Topic
from imgsearch_es.evaluation.clicks import (
    InteractionLog,
    Interactions,
    Shown,
    click_figures,
    credit,
    duels,
    interleave,
    open_log,
    read_interactions,
    sign_test,
    team_draft,
)
from imgsearch_es.interfaces.gallery import gallery_html

RANKING = st.lists(st.sampled_from("abcdefg"), unique=True)


# -- team draft ------------------------------------------------------------------------------------


@given(RANKING, RANKING, st.integers(1, 9), st.integers(0, 99))
def test_every_document_comes_once_and_in_the_order_of_its_team(first, second, k, seed):
    drafted = team_draft(first, second, k, seed=seed)
    documents = [d.document for d in drafted]
    assert len(set(documents)) == len(documents) == min(k, len({*first, *second}))
    assert drafted == team_draft(first, second, k, seed=seed)
    for team, ranking in enumerate((first, second)):
        picks = [ranking.index(d.document) for d in drafted if d.team == team]
        assert picks == sorted(picks)
    teams = Counter(d.team for d in drafted)
    assert abs(teams[0] - teams[1]) <= 1


def probabilities(first: str, second: str, k: int) -> list[Counter[int | None]]:
    """How often each place is whose, over many coins."""
    found: list[Counter[int | None]] = [Counter() for _ in range(k)]
    for seed in range(1000):
        for place, drafted in enumerate(team_draft(first, second, k, seed=seed)):
            found[place][drafted.team] += 1
    return found


@pytest.mark.parametrize(
    ("first", "second", "k"),
    [("abcde", "badfe", 5), ("abc", "abc", 3), ("ab", "a", 2), ("abcd", "e", 5), ("a", "ba", 4)],
)
def test_the_draft_is_fair_at_every_place(first, second, k):
    for teams in probabilities(first, second, k):
        contested = teams[0] + teams[1]
        # 4.5 standard deviations of a fair coin; the seeds are fixed
        assert abs(teams[0] - contested / 2) <= 4.5 * (contested / 4) ** 0.5


def test_credit_and_sign_test():
    assert credit(["a", "b", "a", None], "a", "b") == 1
    assert credit(["b"], "a", "b") == -1
    assert credit([], "a", "b") == credit(["a", "b"], "a", "b") == 0
    assert sign_test(0, 0) == sign_test(4, 4) == 1.0
    assert sign_test(8, 0) == pytest.approx(2 / 2**8)
    assert sign_test(2, 7) == sign_test(7, 2)
    with pytest.raises(QueryError, match="k is at least 1"):
        team_draft("a", "b", 0)


# -- interleaving on an index ----------------------------------------------------------------------


def test_interleaved_hits_are_hits_with_teams(index, cat):
    topic = Topic(image=str(cat))
    hits = interleave(index, topic, "auto", "dense-cosine", k=6, seed=1)
    assert len(hits) == 6
    assert len({hit.id for hit in hits}) == 6
    assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5, 6]
    assert Counter(hits.teams) == {"auto": 3, "dense-cosine": 3}
    for i, (hit, team) in enumerate(zip(hits, hits.teams, strict=True)):
        own = hits.sources[("auto", "dense-cosine").index(team)]
        (same,) = (each for each in own if each.id == hit.id)
        assert hit.score == same.score
        assert hits.explain(i).total == pytest.approx(hit.score)
        assert hits.explain(i).hit.rank == i + 1
    assert [h["team"] for h in hits.to_dict()["hits"]] == list(hits.teams)
    assert gallery_html(hits).count("<figure>") == 6
    again = interleave(index, topic, "auto", "dense-cosine", k=6, seed=1)
    assert again.uris == hits.uris
    with pytest.raises(QueryError, match="no hit 9"):
        hits.explain(9)
    with pytest.raises(QueryError, match="two queries"):
        hits.refine([0])
    with pytest.raises(QueryError, match="do not know their index"):
        hits.rerank()


def test_some_of_interleaved_hits_have_their_teams(index, cat, tmp_path):
    hits = interleave(index, Topic(image=str(cat)), "auto", "dense-cosine", k=6, seed=1)
    some = hits[2:5]
    assert some.teams == hits.teams[2:5]
    assert [h["team"] for h in some.to_dict()["hits"]] == list(some.teams)
    assert [one.total for one in some.explain_all()] == pytest.approx([h.score for h in some])
    log = InteractionLog(tmp_path / "log.jsonl")
    log.clicked(log.shown(some), some[0].id)
    (kept,) = read_interactions(log.path).searches
    assert kept.clicks == [some[0].id]
    words = interleave(index, "dog", "auto", "bm25", k=2)
    assert (words.total, words.ranked) == (words.sources[0].total, words.sources[0].ranked)
    assert words.total < words.ranked


def test_interleaving_says_what_it_cannot_do(index, cat):
    word = index.get(cat).terms[0].key
    assert len(interleave(index, word, "auto", "bm25:k1=1.5", where={"format": "PNG"}))
    with pytest.raises(QueryError, match="each once"):
        interleave(index, word, "auto", "auto")
    with pytest.raises(QueryError, match="interleaving sets offset itself"):
        interleave(index, word, "auto", "bm25", offset=3)
    with pytest.raises(QueryError, match="words have no deep feature"):
        interleave(index, word, "auto", "dense-cosine")


# -- the log ---------------------------------------------------------------------------------------


def test_there_is_no_log_unless_one_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.delenv("IMGSEARCH_LOG", raising=False)
    assert open_log() is None
    monkeypatch.setenv("IMGSEARCH_LOG", str(tmp_path / "a.jsonl"))
    by_variable, by_option = open_log(), open_log(tmp_path / "b.jsonl")
    assert by_variable is not None
    assert by_option is not None
    assert by_variable.path.name == "a.jsonl"
    assert by_option.path.name == "b.jsonl"
    assert not by_variable.path.exists()


def test_what_was_shown_and_clicked_is_read_back(index, cat, tmp_path):
    log = InteractionLog(tmp_path / "logs" / "clicks.jsonl")
    hits = index.search(image=cat, k=4)
    search = log.shown(hits)
    more = index.search(image=cat, k=4, offset=4)
    assert log.shown(more, continues=search) == search
    log.clicked(search, more[1].id)
    log.clicked(search, hits[2].id)
    log.clicked(search, hits[2].id)
    log.clicked(search, "nothing that was shown")
    log.clicked("no search", hits[0].id)
    found = read_interactions(log.path)
    (shown,) = found.searches
    assert shown.ranks == {hit.id: hit.rank for hit in (*hits, *more)}
    assert shown.clicks == [more[1].id, hits[2].id]
    assert (shown.strategy, shown.query) == ("auto", str(hits.query))
    assert (found.stray, found.broken) == (2, 0)
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600


def test_a_strategy_has_the_name_by_which_it_was_asked_for(index, cat, tmp_path):
    log = InteractionLog(tmp_path / "clicks.jsonl")
    parts = {"sqrt": 1, "dense-cosine": 2}
    for hits in (
        index.search(image=cat, strategy="bm25", parameters={"k1": 1.5}),
        index.search(image=cat, fuse=parts),
        index.search(image=cat, fuse=Fusion(parts, method="rrf")),
        interleave(index, Topic(image=str(cat)), "auto", "sqrt"),
    ):
        log.shown(hits)
    assert [shown.strategy for shown in read_interactions(log.path).searches] == [
        "bm25:k1=1.5",
        "sqrt=1+dense-cosine=2",
        "sqrt=1+dense-cosine=2:rrf",
        "interleaved auto and sqrt",
    ]


def test_the_words_may_be_left_out(index, cat, tmp_path):
    log = InteractionLog(tmp_path / "clicks.jsonl", queries=False)
    log.shown(index.search(image=cat))
    assert cat.name not in log.path.read_text()
    assert read_interactions(log.path).searches[0].query == ""


@settings(max_examples=30)
@given(st.text(max_size=1500), st.lists(st.text(min_size=1, max_size=20), unique=True, max_size=5))
def test_any_text_is_one_line(tmp_path_factory, query, shown):
    log = InteractionLog(tmp_path_factory.mktemp("log") / "l.jsonl")
    log.write_search(query=query, strategy="auto", shown=shown)
    (line,) = log.path.read_bytes().split(b"\n")[:-1]
    assert json.loads(line)["query"] == query[:1000].encode("utf-8", "replace").decode()
    assert list(read_interactions(log.path).searches[0].ranks.values()) == list(
        range(1, len({*shown}) + 1)
    )


def test_broken_lines_are_counted_and_passed_over(tmp_path):
    log = InteractionLog(tmp_path / "l.jsonl")
    search = log.write_search(query="dog", strategy="auto", shown=["a", "b"])
    with log.path.open("a") as file:
        file.write('[]\n{"event": "click"}\n\n\xff\n{"event": "sea')  # the last was cut off
    log.clicked(search, "b")
    found = read_interactions(log.path)
    assert found.searches[0].clicks == ["b"]
    assert found.broken == 4
    assert found.problems[1].endswith("line 3: no 'search'")
    for row in (
        {"event": "look"},
        {"event": "search", "search": "s", "when": "", "strategy": "x", "first": 1, "shown": []},
        {"event": "search", "search": "s", "when": "w", "strategy": "x", "first": 0, "shown": []},
        {"event": "search", "search": "s", "when": "w", "strategy": "x", "first": 1,
         "shown": ["a"], "teams": ["x", "y"]},
        {"event": "search", "search": "s", "when": "w", "strategy": "x", "first": 1,
         "shown": ["a", "b"], "teams": ["x", 3]},
        {"event": "search", "search": "s", "when": "w", "strategy": "x", "first": 1,
         "shown": "ab"},
        {"event": "search", "search": "s", "when": "w", "strategy": "x", "first": True,
         "shown": ["a"]},
    ):  # fmt: skip
        log.path.write_text(json.dumps(row))
        assert read_interactions(log.path) == Interactions(
            (), 0, 1, read_interactions(log.path).problems
        )


def test_a_full_file_is_put_aside_and_the_oldest_goes(tmp_path):
    log = InteractionLog(tmp_path / "l.jsonl", max_bytes=400, old_files=2)
    searches = [log.write_search(query="q", strategy="auto", shown=["a"]) for _ in range(30)]
    log.clicked(searches[-1], "a")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["l.jsonl", "l.jsonl.1", "l.jsonl.2"]
    assert all(p.stat().st_size <= 400 for p in tmp_path.iterdir())
    kept = [shown.search for shown in read_interactions(log.path).searches]
    assert kept == searches[-len(kept) :]
    with pytest.raises(ConfigurationError, match="at least 1"):
        InteractionLog(tmp_path / "l.jsonl", max_bytes=0)


def test_a_gap_among_the_files_put_aside_hides_none_of_them(tmp_path):
    """As a crash between two renames leaves it; it is filled before the oldest file goes."""
    log = InteractionLog(tmp_path / "l.jsonl", max_bytes=1, old_files=3)
    searches = [log.write_search(query="q", strategy="auto", shown=["a"]) for _ in range(4)]
    (tmp_path / "l.jsonl.2").unlink()
    (tmp_path / "2").touch()
    del searches[1]
    assert [shown.search for shown in read_interactions(log.path).searches] == searches
    searches.append(log.write_search(query="q", strategy="auto", shown=["a"]))
    assert [shown.search for shown in read_interactions(log.path).searches] == searches


def write_many(path: str, name: str) -> None:
    log = InteractionLog(path, max_bytes=20_000, old_files=50)
    for i in range(100):
        log.write_search(query="x" * 50, strategy=name, shown=[f"{name}{i}"])


def test_many_writers_lose_nothing(tmp_path):
    path = tmp_path / "l.jsonl"
    start = multiprocessing.get_context("spawn")
    writers = [start.Process(target=write_many, args=(str(path), name)) for name in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    found = read_interactions(path)
    assert found.broken == 0
    assert Counter(s.strategy for s in found.searches) == {"a": 100, "b": 100}
    assert (tmp_path / "l.jsonl.1").exists()


def test_a_log_that_cannot_be_written_or_read(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LogError, match="cannot write"):
        InteractionLog(tmp_path / "file" / "l.jsonl").clicked("s", "d")
    with pytest.raises(LogError, match="by their ids"):
        InteractionLog(tmp_path / "l.jsonl").clicked("", "d")
    with pytest.raises(LogError, match="there is no log"):
        read_interactions(tmp_path / "none.jsonl")
    with pytest.raises(LogError, match="cannot read"):
        read_interactions(tmp_path)
    with pytest.raises(LogError, match="it is a device, not a file"):
        read_interactions("/dev/zero")  # which has no line end


# -- measures --------------------------------------------------------------------------------------


def shown(strategy: str, clicks: str, ranks: str = "abcdef", teams: str = "") -> Shown:
    found = Shown("s", "2026-01-01T00:00:00", "q", strategy)
    found.ranks = {d: i for i, d in enumerate(ranks, start=1)}
    found.teams = dict(zip(ranks, teams, strict=False))
    found.clicks = list(clicks)
    return found


def test_figures_by_hand():
    every, x, y = click_figures(
        [shown("x", "cb"), shown("x", ""), shown("y", "a"), shown("y", "", ranks="")], (1, 2)
    )
    assert (every.strategy, x.strategy, y.strategy) == ("all", "x", "y")
    assert (every.searches, every.clicks) == (4, 3)
    assert (x.clicked, x.reciprocal_rank) == (0.5, 0.25)
    assert (y.clicked, y.reciprocal_rank) == (0.5, 0.5)
    assert x.through == {1: 0.0, 2: 0.25}
    assert y.through == {1: 1.0, 2: 0.5}
    (nothing,) = click_figures([], (1,))
    assert nothing.to_dict() == {
        "strategy": "all", "searches": 0, "clicks": 0, "clicked": 0.0, "MRR": 0.0, "CTR@1": None,
    }  # fmt: skip
    with pytest.raises(ConfigurationError, match="at least 1"):
        click_figures([], (0,))


def test_duels_by_hand():
    rows = ["a", "a", "ca", "b", "ab", "", "e"]
    found = duels([shown("i", clicks, ranks="abcde", teams="xyxy") for clicks in rows])
    (duel,) = found
    assert (duel.first, duel.second) == ("x", "y")
    assert (duel.wins, duel.losses, duel.ties) == (3, 1, 3)
    assert duel.p == pytest.approx(0.625)
    assert duels([shown("auto", "a")]) == []
    alone = [shown("interleaved x and y", "a", ranks="a", teams=team) for team in "xxy"]
    assert [(d.first, d.second, d.wins, d.losses) for d in duels(alone)] == [("x", "y", 2, 1)]


def test_the_command_prints_the_tables(run, asked, index, cat, tmp_path):
    log = InteractionLog(tmp_path / "l.jsonl")
    for seed in range(3):
        hits = interleave(index, Topic(image=str(cat)), "auto", "dense-cosine", k=4, seed=seed)
        log.clicked(log.shown(hits), hits[hits.teams.index("auto")].id)
    with log.path.open("a") as file:
        file.write("broken\n")
    said = run("clicks", log.path)
    assert "interleaved auto and dense-cosine" in said.output
    assert "0.2500" in said.output
    assert "1 broken lines do not count" in said.output
    data = asked("clicks", log.path, "--cutoffs", "4")
    assert data["figures"][0]["CTR@4"] == 0.25
    assert data["interleaved"] == [
        {"first": "auto", "second": "dense-cosine", "wins": 3, "losses": 0, "ties": 0, "p": 0.25}
    ]
    assert "there is no log" in run("clicks", tmp_path / "none", code=1).output
    other = tmp_path / "photos.csv"
    other.write_text("path,label\ncat.png,tom\n")
    sentence = f"imgsearch: no line of {other} is one of an interaction log: is it another file?\n"
    assert run("clicks", other, code=1).output == sentence
    other.write_text("")  # as a log is that nobody has used
    run("clicks", other)
    assert (
        "--cutoffs is a number or several"
        in run("clicks", log.path, "--cutoffs", "x", code=1).output
    )
