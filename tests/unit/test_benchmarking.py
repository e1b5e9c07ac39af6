"""Measuring strategies on an index: which are measured, on what, and what the figures mean."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from pathlib import Path

import pytest

from imgsearch_es import ImageIndex
from imgsearch_es.errors import IndexNotFoundError, QueryError
from imgsearch_es.evaluation.scorers import benchmark, compare_scorers, take_turns
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.retrieval.strategies import DENSE, STRATEGIES
from imgsearch_es.stores.base import SearchResult


class Lossy:
    """A store that answers approximately: without the best hit, and proves at the second window."""

    def __init__(self, store, less: float = 0.0) -> None:
        self._store, self._less = store, less
        self.asked: list[Query] = []

    def __getattr__(self, name: str):
        return getattr(self._store, name)

    def approximable(self) -> tuple[str, ...]:
        return ("dense-cosine",)

    def search(self, query: Query) -> SearchResult:
        self.asked.append(query)
        result = self._store.search(query)
        if query.candidates:
            hits = tuple(replace(hit, score=hit.score - self._less) for hit in result.hits[1:])
            return replace(result, hits=hits, exact=False)
        return replace(result, windows=2 if query.strategy == "impact" else 0)


def test_every_strategy_is_measured_and_exact(index):
    index.reindex(visual_words=True)
    found = benchmark(index, queries=4, k=3, candidates=[])
    assert [row.strategy for row in found.rows] == list(STRATEGIES)
    assert (found.pictures, found.queries, found.k) == (12, 4, 3)
    for row in found.rows:
        assert (row.candidates, row.exact, row.recall) == (0, 1.0, 1.0)
        assert row.proven_at_first is None
        assert isinstance(row.exact, float)
        assert 0 < row.p50_ms <= row.p95_ms


def test_an_approximate_answer_is_compared_with_the_exact_one(index):
    index.store = Lossy(index.store)
    found = benchmark(
        index, queries=6, k=4, strategies=["dense-cosine", "impact"], candidates=[10, 20]
    )
    rows = {(row.strategy, row.candidates): row for row in found.rows}
    assert list(rows) == [
        ("dense-cosine", 0),
        ("dense-cosine", 10),
        ("dense-cosine", 20),
        ("impact", 0),
    ]
    for count in (10, 20):
        assert (rows["dense-cosine", count].recall, rows["dense-cosine", count].exact) == (0.75, 0)
    assert rows["dense-cosine", 0].recall == 1
    assert rows["impact", 0].proven_at_first == 0


def test_an_index_of_features_alone(index, tmp_path):
    index.export_features(tmp_path / "f.csv")
    with ImageIndex(tmp_path / "f.duckdb") as alone:
        alone.import_features(tmp_path / "f.csv")
        rows = benchmark(alone, queries=3, candidates=[]).rows
        assert [row.strategy for row in rows] == [one for one in DENSE if one != "visual-words"]
        assert {row.recall for row in rows} == {1.0}
        assert compare_scorers(alone, "auto,dense-cosine", queries=3).rows[1].identical == 1
        with pytest.raises(QueryError, match="impact compares synsets"):
            benchmark(alone, strategies=["impact"])


def test_the_choice_of_pictures_is_repeatable(index):
    index.store = Lossy(index.store)

    def asked(seed: int) -> list[tuple[str, ...]]:
        index.store.asked.clear()
        benchmark(index, queries=5, strategies=["auto"], seed=seed)
        return [query.pictures for query in index.store.asked if query.strategy == "auto"]

    assert asked(1) == asked(1) != asked(2)


def test_all_take_turns():
    asked: list[str] = []

    def way(name: str):
        return lambda picture: asked.append(name + picture) or name + picture

    ways = [way("a"), way("b")]
    assert take_turns(ways, ["1", "2", "3"]) == [["a1", "a2", "a3"], ["b1", "b2", "b3"]]
    assert asked == ["a1", "b1", *("a1", "b1", "b2", "a2", "a3", "b3")]
    asked.clear()
    told: list[tuple[int, int]] = []
    found = take_turns(ways, ["1", "2", "3"], lambda *done: told.append(done), rounds=2)
    assert found == [["a1", "a3", "a2"], ["b1", "b3", "b2"]]
    assert asked == [*("a1", "a1", "a3", "b1", "b1", "b3"), *("b2", "b2", "a2", "a2")]
    assert told == [(1, 2), (2, 2)]
    assert take_turns(ways, ["1"], rounds=5) == [["a1"], ["b1"]]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"strategies": ["magic"]}, "there is no strategy 'magic'"),
        ({"queries": 0}, "at least 1, not 0"),
        ({"candidates": [100, 0]}, "at least 1, not 0"),
    ],
)
def test_what_makes_no_sense(index, options, sentence):
    with pytest.raises(QueryError, match=sentence):
        benchmark(index, **options)


def test_an_empty_index(fake_model, tmp_path):
    with ImageIndex(tmp_path / "empty.duckdb", model="fake") as index:
        with pytest.raises(IndexNotFoundError):
            benchmark(index)
        index.create()
        with pytest.raises(QueryError, match="no picture to search for"):
            benchmark(index)


def test_the_command(run, place):
    arguments = ("benchmark", "-i", place, "--queries", 2, "--strategies", "auto, dense-dot")
    shown = run(*arguments, "-k", 3).stdout
    assert all(name in shown for name in ("auto", "dense-dot", "recall@3", "p95 ms"))
    found = json.loads(run(*arguments, "--json").stdout)
    assert [row["strategy"] for row in found["rows"]] == ["auto", "dense-dot"]
    assert found["queries"] == 2
    assert set(found["rows"][0]) >= {"p50_ms", "p95_ms", "exact", "recall", "proven_at_first"}
    wrong = run("benchmark", "-i", place, "--candidates", "many", code=1)
    assert "--candidates is a number or several" in wrong.stderr


def test_scripts_ask_for_their_extras_before_they_start():
    extras = {"faiss", "fastapi", "h5py", "pyarrow", "ray", "scipy", "sklearn", "uvicorn"}
    for script in (Path(__file__).parents[2] / "benchmarks").glob("*.py"):
        tree = ast.parse(script.read_text(encoding="utf-8"))
        asked = {ast.unparse(line) for node in tree.body if isinstance(node, ast.With)
                 for line in node.body}  # fmt: skip
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom) and ast.unparse(node) not in asked:
                assert ast.unparse(node).replace(".", " ").split()[1] not in extras, script
