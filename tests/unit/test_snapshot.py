"""The copy beside an index file: of its state or not used, and never wrong."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pytest

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.errors import DamagedIndexError
from imgsearch_es.retrieval.conditions import of_score, parse_filters
from imgsearch_es.retrieval.queries import Query, Selection
from imgsearch_es.stores.embedded import open_file, pruning, snapshot, snapshot_writing, sources
from imgsearch_es.stores.embedded import store as embedded_store
from imgsearch_es.stores.embedded.open_file import Gate, mark_of, snapshot_path
from imgsearch_es.stores.embedded.snapshot import Snapshot
from imgsearch_es.stores.embedded.store import EmbeddedStore
from imgsearch_es.vocabulary.synsets import imagenet
from tests.conformance.collections import document, posteriors
from tests.conformance.conftest import SETTINGS, ranking

QUERY = Query((Term("tabby", 0.6), Term("tench", 0.3), Term("goldfish", 0.1)), k=20)


def make(path: Path, count: int = 400) -> EmbeddedStore:
    """An index of posteriors, with its snapshot."""
    store = EmbeddedStore(path)
    store.create(SETTINGS)
    store.write([*posteriors(count, seed=3), document("mine", [("tabby", 0.9)])])
    store.finish()
    return store


def test_a_snapshot_is_for_those_who_may_read_the_file(tmp_path):
    path = tmp_path / "a.duckdb"
    store = make(path, 20)
    path.chmod(0o600)
    owner = (4321, 4321) if os.geteuid() == 0 else (os.getuid(), os.getgid())
    os.chown(path, *owner)
    store.write([document("other", [("tabby", 0.8)])])
    store.finish()
    info = snapshot_path(path).stat()
    assert (info.st_mode & 0o777, info.st_uid, info.st_gid) == (0o600, *owner)


def found(store: EmbeddedStore, query: Query = QUERY) -> list[tuple[float, str]]:
    return ranking(store.search(query))


def shown(store: EmbeddedStore, query: Query) -> list[str]:
    """All of the hits, read after the search."""
    return list(map(repr, store.search(query).hits))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pets.duckdb"


def test_a_search_leaves_the_file_to_writers(path):
    make(path).close()
    store = EmbeddedStore(path)
    expected = found(store)  # reads the settings
    store.close()
    assert found(store) == expected
    assert len(expected) == 20
    assert not store._file.opened.is_attached


def test_what_others_write_is_found_before_and_after_the_copy_is_made_anew(path):
    store, other = make(path), EmbeddedStore(path)
    before = found(store)
    other.write([document("new", [("tabby", 1.0)])])
    assert store._copy.of_now() is None
    added = found(store)
    assert added[0][1] == document("new", []).id
    assert added[1:] == before[:-1]
    other.finish()
    assert store._copy.of_now() is not None
    assert found(store) == added
    other.remove([added[0][1]])
    assert found(store) == before


def test_counts_are_kept_as_long_as_nobody_writes(path, monkeypatch):
    store, other, asked = make(path), EmbeddedStore(path), []
    count = sources.facets

    def facets(reader, query, fields, size):
        asked.append(query)
        return count(reader, query, fields, size)

    def best(**where: object) -> dict[str, int]:
        wanted = Selection(filters=parse_filters(where))
        found = store.facets(wanted, ["top_synset"], 1000)["top_synset"]
        counts = {item["value"]: item["count"] for item in found}
        found.clear()  # which is ours
        return counts

    monkeypatch.setattr(sources, "facets", facets)
    before = best()
    assert best() == before
    best(**{"metadata.seen": True})
    best(**{"metadata.seen": 1})  # which Python takes for the same
    assert len(asked) == 3
    other.write([document("new", [("tabby", 1.0)])])
    assert best() == best() == {**before, "tabby": before["tabby"] + 1}
    other.finish()
    assert best() == best()
    assert len(asked) == 6  # twice while there was no copy of this state


def test_of_counts_the_latest_are_kept_and_never_more_than_so_many():
    few = sources.Counted(most=1000)
    for number in range(100):  # a client asks for labels that no picture has
        few.keep((number, "condition"), {"label": []})
    assert few.get((0, "condition")) is None
    assert few.get((99, "condition")) == {"label": []}
    assert 5 < len(few._known) < 40
    few.keep("long" * 1000, {"label": []})
    assert not few._known
    assert few._size == 0


def test_a_stale_one_is_opened_once(path, monkeypatch):
    make(path)
    store, opened = EmbeddedStore(path), []
    store.write([document("new", [("tabby", 1.0)])])

    def count(place: Path) -> Snapshot:
        opened.append(place)
        return Snapshot(place)

    monkeypatch.setattr(store._copy, "_kind", count)
    for _ in range(3):
        assert found(store)[0][1] == document("new", []).id
    assert len(opened) == 1


def test_most_postings_are_passed_over(path, monkeypatch):
    monkeypatch.setattr(snapshot_writing, "_ROWS", 4)
    store, sizes = make(path), []
    expected, picked = found(store), Snapshot.picked

    def count(*given):
        sizes.append(len(given[-1]))
        return picked(*given)

    monkeypatch.setattr(Snapshot, "picked", count)
    monkeypatch.setattr(snapshot, "_FEW", 0)
    monkeypatch.setattr(pruning, "_FIRST", 1)
    query = Query(QUERY.terms, k=2, offset=1)
    result = store.search(query)
    assert ranking(result) == expected[1:3]
    copy, numbers = store._copy.of_now(), store.settings().numbers
    spans = [copy.span("postings", numbers[term.key]) for term in QUERY.terms]
    places = [copy.part("postings.places", *span).tolist() for span in spans]
    assert result.total == len({place for some in places for place in some})
    assert 0 < sum(sizes[:-1]) < sum(map(len, places))  # scores and places, then the hits' ranks


def test_conditions_are_asked_of_the_file_and_ranked_by_the_copy(path, monkeypatch):
    store = make(path)
    filters = parse_filters({"format": "PNG"}, imagenet())
    filters = (*filters, of_score("x", ["tabby", "tench"], "gt", 0))
    query = Query(QUERY.terms, k=10_000, filters=filters)
    hits = store.search(query).hits
    assert {hit.document.format for hit in hits} == {"PNG"}
    monkeypatch.setattr(store._copy, "of_now", lambda: None)
    assert (
        ranking(store.search(query))
        == ranking(store.search(query))
        == [(hit.score, hit.document.id) for hit in hits]
    )


def test_no_flipped_byte_changes_an_answer(path, caplog):
    store = make(path)
    copy, queries = snapshot_path(path), [QUERY, Query(QUERY.terms, strategy="bm25", k=400)]
    expected, whole = [shown(store, query) for query in queries], copy.read_bytes()
    chance = random.Random(4)  # noqa: S311
    for _ in range(30):
        place = chance.randrange(len(whole))
        copy.unlink()
        copy.write_bytes(
            whole[:place] + bytes([whole[place] ^ 1 << chance.randrange(8)]) + whole[place + 1 :]
        )
        assert [shown(EmbeddedStore(path), query) for query in queries] == expected
    assert "is not used" in caplog.text


def test_searches_after_it_was_made_have_all_the_memory_again(path):
    asked = "SELECT current_setting('memory_limit')"
    with duckdb.connect() as fresh:
        assert make(path)._rows(asked) == fresh.execute(asked).fetchall()


def test_hits_of_a_copy_that_is_written_over_say_so_and_the_file_answers_again(path):
    store = make(path)
    expected = found(store)
    hits, copy = store.search(QUERY).hits, snapshot_path(path)
    with copy.open("r+b") as file:
        file.write(b"\xe8{" * (copy.stat().st_size // 2))
    with pytest.raises(DamagedIndexError, match=r"was written over .*: search again"):
        list(hits)
    assert found(store) == expected


def test_one_that_is_cut_off_while_it_is_mapped_ends_no_process(path):
    """To read beyond the end of a mapped file is SIGBUS: so a process of its own tries it."""
    make(path).close()
    code = f"""
import os
from pathlib import Path
from imgsearch_es.errors import DamagedIndexError
from tests.unit.test_snapshot import EmbeddedStore, QUERY, found, snapshot_path
store = EmbeddedStore({str(path)!r})
expected, hits = found(store), store.search(QUERY).hits
os.truncate(snapshot_path(Path({str(path)!r})), 0)
try:
    list(hits)
except DamagedIndexError as error:
    print(error)
assert found(store) == expected
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    assert "written over before these hits were read: search again" in done.stdout
    assert "is not used: it is cut off" in done.stderr


def test_a_run_never_writes_into_one_that_is_open(path):
    store = make(path)
    copy = snapshot_path(path)
    with copy.open("rb") as opened:
        before = opened.read()
        store.write([document("new", [("tabby", 1.0)])])
        store.finish()
        assert copy.read_bytes() != before
        opened.seek(0)
        assert opened.read() == before


@pytest.mark.parametrize("content", [b"", b"x", b"something else" * 99, "a FIFO"])
def test_what_is_no_copy_is_not_used(path, content):
    store = make(path)
    expected = found(store)
    snapshot_path(path).unlink()
    if isinstance(content, bytes):
        snapshot_path(path).write_bytes(content)
    else:
        os.mkfifo(snapshot_path(path))
    store = EmbeddedStore(path)
    assert found(store) == expected
    store.write([document("new", [("tabby", 1.0)])])
    store.finish()
    assert store._copy.of_now() is not None


def test_without_room_or_leave_for_it_the_file_answers(path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(embedded_store, "write_snapshot", full)
    store = make(path)
    assert len(found(store)) == 20
    assert list(path.parent.iterdir()) == [path]


POSTING = ("term", "document", "score")


@pytest.mark.parametrize(
    "harm",
    [
        "DELETE FROM documents WHERE document = 7",
        "INSERT INTO postings FROM postings WHERE document = 7",
        "UPDATE documents SET document = NULL WHERE document = 7",
        "UPDATE documents SET length = NULL WHERE document = 7",
        *(f"UPDATE postings SET {name} = NULL WHERE document = 7" for name in POSTING),
        "UPDATE documents SET scores = scores[2:] WHERE document = 7",
        "UPDATE documents SET scores = list_prepend('nan'::FLOAT, scores[2:]) WHERE document = 7",
        "UPDATE documents SET terms = list_prepend(999999, terms[2:]) WHERE document = 7",
        "UPDATE documents SET uri = NULL WHERE document = 7",
        "UPDATE documents SET label = [NULL] WHERE document = 7",
        "UPDATE documents SET metadata = '[]' WHERE document = 7",
        "UPDATE documents SET indexed_at = 'infinity' WHERE document = 7",
    ],
)
def test_no_copy_is_made_of_an_index_that_is_harmed(path, harm):
    make(path).close()
    with duckdb.connect(str(path)) as connection:
        connection.execute(harm)
    store = EmbeddedStore(path)
    store.finish()
    assert store._copy.of_now() is None


def test_making_it_ends_when_somebody_wants_to_write(path):
    store, gate = make(path), Gate(path)
    store.write([document("new", [("tabby", 1.0)])])
    with store._reading() as reader:
        assert gate.shut()
        store._copy.make(partial(snapshot_writing.write_snapshot, reader))
        gate.open()
    assert store._copy.of_now() is None


def test_who_finds_that_another_makes_it_leaves_its_draft(path):
    store, gate = make(path), Gate(snapshot_path(path))
    store.write([document("new", [("tabby", 1.0)])])
    assert gate.shut()
    draft = path.with_name(f".{snapshot_path(path).name}")
    draft.write_bytes(b"half of it")
    store.finish()
    gate.open()
    assert draft.read_bytes() == b"half of it"


@pytest.mark.parametrize("documents", [[], [document("none", [])]])
def test_an_index_of_nothing_has_one_too(path, documents: Sequence):
    store = EmbeddedStore(path)
    store.create(SETTINGS)
    store.write(documents)
    store.finish()
    assert store._copy.of_now() is not None
    assert found(store) == []


def test_a_large_one_is_not_made_again_soon(path, monkeypatch):
    monkeypatch.setattr(embedded_store, "_LONG", -1)
    monkeypatch.setattr(embedded_store, "_PAUSE", 1e9)
    store = make(path)
    store.write([document("new", [("tabby", 1.0)])])
    store.finish()
    assert store._copy.of_now() is None
    with monkeypatch.context() as patch:
        patch.setattr(embedded_store.time, "time", lambda: 0.0)  # the clock was set back
        store.finish()
    assert store._copy.of_now() is not None
    store.write([document("newer", [("tabby", 1.0)])])
    monkeypatch.setattr(embedded_store, "_PAUSE", 0)
    store.finish()
    assert store._copy.of_now() is not None


def test_one_is_made_of_a_file_whose_time_is_to_come(path, monkeypatch):
    """As of a clock that was wrong, or is another machine's."""
    store, sleeps = make(path), iter([None])
    os.utime(path, ns=(4 * 10**18 + 1,) * 2)
    clock = {**vars(time), "sleep": lambda seconds: next(sleeps)}  # once, and not for years
    monkeypatch.setattr(open_file, "time", SimpleNamespace(**clock))
    store.finish()
    assert store._copy.of_now() is not None


def test_looking_at_the_state_of_a_file_leaves_its_lock(path):
    with make(path)._reading():
        assert mark_of(path)
        opened = f"import duckdb; duckdb.connect({str(path)!r})"
        done = subprocess.run(
            [sys.executable, "-c", opened], capture_output=True, text=True, check=False
        )
    assert "Could not set lock" in done.stderr


def test_it_goes_with_its_index(path):
    store = make(path)
    store.delete()
    assert list(path.parent.iterdir()) == []
