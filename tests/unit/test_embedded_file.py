"""Taking turns on an index file: between processes, between threads, and after a crash."""

from __future__ import annotations

import gc
import itertools
import json
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

import duckdb
import numpy as np
import pytest

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.errors import IndexLockedError, IndexNotFoundError, SchemaError, StoreError
from imgsearch_es.retrieval.queries import Query, Selection
from imgsearch_es.stores.base import IndexSettings
from imgsearch_es.stores.embedded import schema
from imgsearch_es.stores.embedded.file import WAIT_SECONDS, DatabaseFile
from imgsearch_es.stores.embedded.open_file import Gate
from imgsearch_es.stores.embedded.store import EmbeddedStore
from imgsearch_es.vocabulary.synsets import from_labels
from tests.conformance.collections import document
from tests.conftest import PATIENCE, trace_instructions, wait_for

SETTINGS = IndexSettings(
    {"model": {"name": "none"}, "image_filters": [], "term_filters": []},
    "sha256:0",
    from_labels(["cat", "dog"]),
    0,
)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "index.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE numbers (n INTEGER)")
        connection.execute("INSERT INTO numbers VALUES (1)")
    return path


@pytest.fixture
def file(path):
    file = DatabaseFile(path, wait_seconds=PATIENCE)
    yield file
    file.close()


def count(file: DatabaseFile) -> int:
    with file.reading() as connection:
        return connection.execute("SELECT count(*) FROM numbers").fetchall()[0][0]


@pytest.fixture
def process(path):
    """Runs Python on the file in another process, which says "ready" and waits for a line."""
    started = []

    def start(code: str) -> subprocess.Popen[str]:
        program = (
            "import sys, time, duckdb\nfrom pathlib import Path\n"
            "from imgsearch_es.stores.embedded.file import DatabaseFile\n"
            f"file = DatabaseFile(Path({str(path)!r}), wait_seconds={2 * PATIENCE})\n"
            "def ready():\n    print('ready', flush=True)\n    sys.stdin.readline()\n"
            + textwrap.dedent(code)
        )
        pipe = subprocess.PIPE
        command = [sys.executable, "-W", "ignore", "-c", program]
        child = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        started.append(child)
        assert child.stdout.readline() == "ready\n", child.stderr.read()
        return child

    yield start
    for child in started:
        child.kill()
        child.communicate()


def go_on(child: subprocess.Popen[str]) -> str:
    out, err = child.communicate("\n", timeout=PATIENCE)
    assert child.returncode == 0, err
    return out


INSERT = """
with file.writing() as connection:
    connection.execute("INSERT INTO numbers VALUES (2)")
"""
WRITE = INSERT + "    ready()\n"


def insert(file: DatabaseFile, then: Callable[[Any], object] = bool) -> None:
    with file.writing() as connection:
        connection.execute("INSERT INTO numbers VALUES (2)")
        then(connection)


def test_committed_or_not_at_all(file):
    insert(file)
    with pytest.raises(ZeroDivisionError):
        insert(file, lambda connection: 1 / 0)
    with pytest.raises(StoreError, match=r"index\.duckdb: .*nothing"):
        insert(file, lambda connection: connection.execute("FROM nothing"))
    assert count(file) == 2


def test_a_reader_cannot_write(file):
    with pytest.raises(StoreError, match="read-only"), file.reading() as connection:
        connection.execute("INSERT INTO numbers VALUES (2)")


def test_there_is_one_object_for_a_file(path, tmp_path):
    (tmp_path / "link.duckdb").symlink_to(path)
    assert DatabaseFile.at(path) is DatabaseFile.at(tmp_path / "link.duckdb")


def test_another_process_writes_soon_after_we_read(file, process):
    assert count(file) == 1  # and the file is kept open for a short while
    child = process("ready()" + INSERT)
    assert count(file) == 1
    go_on(child)
    assert count(file) == 2


def test_another_process_waits_while_we_read(file, process):
    child = process("ready()" + INSERT)
    with file.reading() as connection:
        child.stdin.write("\n")
        child.stdin.flush()
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.3)
        assert connection.execute("SELECT count(*) FROM numbers").fetchall() == [(1,)]
    file.close()
    assert child.wait(PATIENCE) == 0
    assert count(file) == 2


def test_where_no_thread_can_be_started_the_file_is_let_go_of_at_once(file, process):
    child = process("ready()" + INSERT)
    with mock.patch("threading.Thread.start", side_effect=RuntimeError("can't start new thread")):
        assert count(file) == 1
    go_on(child)
    assert count(file) == 2


def test_a_file_that_is_let_go_of_with_an_error_is_let_go_of_the_next_time_too(file, process):
    def fail() -> None:
        file.opened.start_anew()  # as detach does
        raise duckdb.IOException("cannot detach")

    child = process("ready()" + INSERT)
    with mock.patch.object(file.opened, "detach", fail):
        assert count(file) == 1
        file._keeper.join(20)
    assert count(file) == 1
    go_on(child)
    assert count(file) == 2


def test_to_write_to_a_file_that_was_moved_away_makes_none(file, path):
    insert(file)
    path.rename(path.with_name("away"))
    with pytest.raises(IndexNotFoundError, match="there is no index at"):
        insert(file)
    assert not path.exists()
    file.exists = lambda: True  # it goes just after it was looked for
    for use in (count, insert):
        with pytest.raises(IndexNotFoundError, match="there is no index at"):
            use(file)
    assert not path.exists()


def test_who_comes_after_a_file_was_replaced_reads_the_new_one(file, path):
    """Those who read the old one go on with it, and are not joined."""
    other = path.with_name("other")
    with duckdb.connect(str(other)) as connection:
        connection.execute("CREATE TABLE numbers AS FROM range(7)")
    with ThreadPoolExecutor(1) as threads:
        with file.reading() as connection:
            other.replace(path)
            counted = threads.submit(count, file)
            time.sleep(0.1)
            assert connection.execute("SELECT count(*) FROM numbers").fetchall() == [(1,)]
            assert not counted.done()
        assert counted.result() == 7


def test_two_processes_read_at_once(file, process):
    child = process("with file.reading() as connection:\n    ready()\n")
    assert count(file) == 1
    go_on(child)


@pytest.mark.parametrize("lease", ["reading", "writing"])
def test_we_wait_for_a_writer_a_bounded_time_and_name_it(path, process, lease):
    child = process(WRITE)
    impatient = DatabaseFile(path, wait_seconds=0.2)
    started = time.monotonic()
    with pytest.raises(IndexLockedError) as caught, getattr(impatient, lease)():
        pass
    assert 0.2 <= time.monotonic() - started < WAIT_SECONDS  # its own, not the usual time
    assert f"(process {child.pid})" in str(caught.value)
    assert str(path) in str(caught.value)
    go_on(child)
    assert count(impatient) == 2
    impatient.close()


def test_who_waits_to_read_says_for_whom(path, process, caplog, monkeypatch):
    monkeypatch.setattr("imgsearch_es.stores.embedded.file._SAY_SECONDS", 0.2)
    child = process(WRITE)
    reader = DatabaseFile(path, wait_seconds=PATIENCE)
    threads = [threading.Thread(target=count, args=(reader,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_for(lambda: caplog.messages)
    time.sleep(0.3)  # while others could say it, too
    go_on(child)
    for thread in threads:
        thread.join()
    (said,) = caplog.messages
    assert said.startswith(f"waiting for {path}: it is in use by ")
    assert f"(process {child.pid})" in said
    reader.close()


def test_who_waited_until_another_thread_was_done_says_so(file):
    assert count(file) == 1  # the file is kept for a while
    with file._changed:
        assert file.opened.is_attached
        assert file._holder() == "another thread of this process"


def test_busy_readers_make_room_for_a_writer(file, process, path):
    """Each alone frees the file now and then; two of them never did at the same time."""
    for _ in range(2):
        child = process(
            """
            while True:
                with file.reading() as connection:
                    connection.execute("FROM numbers").fetchall()
                if "said" not in globals():
                    said = print("ready", flush=True)
            """
        )
    for _ in range(3):
        insert(file)
    assert child.poll() is None
    assert count(file) == 4
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_a_writer_that_cannot_get_in_keeps_no_reader_out(file, process, path, monkeypatch):
    """It waits for a program that keeps the file, and reads it as we do."""
    monkeypatch.setattr("imgsearch_es.stores.embedded.file._ROOM_SECONDS", 0.3)
    other = process("c = duckdb.connect(str(file.path), read_only=True)\nready()\nc.close()\n")
    writer = process("ready()" + INSERT)
    writer.stdin.write("\n")
    writer.stdin.flush()
    wait_for(Gate(path).is_shut)
    assert count(file) == 1
    go_on(other)
    assert writer.wait(PATIENCE) == 0
    assert count(file) == 2


def test_a_patient_writer_tries_on_and_says_for_whom(path, process, caplog, monkeypatch):
    child = process(WRITE)
    patient = DatabaseFile(path, wait_seconds=0.1)
    with ThreadPoolExecutor() as threads, patient.patient():
        ending = threads.submit(lambda: wait_for(lambda: caplog.messages) or go_on(child))
        insert(patient)
    ending.result()
    assert f"(process {child.pid})" in caplog.messages[0]
    assert count(patient) == 3
    with patient.patient() as end, ThreadPoolExecutor() as threads:
        end()  # which ends no wait for a moment
        with patient.reading():
            writing = threads.submit(insert, patient)
            time.sleep(0.3)
        writing.result()
    assert count(patient) == 4
    monkeypatch.setattr("imgsearch_es.stores.embedded.file._ROOM_SECONDS", 0.2)
    child = process(WRITE)
    with patient.patient() as end:
        end()
        with pytest.raises(IndexLockedError, match=f"process {child.pid}"), patient.writing():
            pass
    patient.close()


def test_kill_9_in_a_transaction_leaves_the_old_content_and_after_it_the_new(file, process):
    child = process(
        """
        with file.writing() as connection:
            connection.execute("INSERT INTO numbers SELECT * FROM range(100000)")
            connection.execute("DELETE FROM numbers WHERE n = 1")
            ready()
        """
    )
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert count(file) == 1
    child = process(INSERT + "ready()")
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert count(file) == 2


def test_threads_search_while_one_writes(file):
    stop = threading.Event()

    def search() -> list[tuple[int, int]]:
        """Where half a batch was seen, or one that vanished."""
        seen = [0]
        while not stop.is_set():
            seen.append(count(file))
        return [(a, b) for a, b in itertools.pairwise(seen) if b < a or b % 10 != 1]

    with ThreadPoolExecutor(4) as threads:
        searching = [threads.submit(search) for _ in range(4)]
        try:
            for _ in range(10):
                insert(file, lambda c: c.execute("INSERT INTO numbers FROM range(9)"))
        finally:
            stop.set()
    assert [thread.result() for thread in searching] == [[]] * 4
    assert count(file) == 101


def test_a_thread_waits_for_another_a_bounded_time(path):
    file = DatabaseFile(path, wait_seconds=0.1)
    with file.writing(), ThreadPoolExecutor(1) as threads:
        caught = threads.submit(count, file).exception()
    assert isinstance(caught, IndexLockedError)
    assert "another thread of this process" in str(caught)
    assert count(file) == 1
    file.close()


def test_ctrl_c_at_any_instruction_leaves_nobody_in_the_accounts(file):
    """Python raises KeyboardInterrupt between any two, also where ``finally`` begins."""
    interrupted = 0
    gc.disable()  # what a signal raises in a callback of it, as hypothesis has one, is lost
    for left in itertools.count():
        trace = signal_after(left)
        trace_instructions(trace)
        try:
            count(file)
        except KeyboardInterrupt:
            interrupted += 1
        finally:
            sys.settrace(None)
        if trace.left >= 0:  # it was done before
            break
    gc.enable()
    assert interrupted > 500
    file.wait_seconds = 1
    insert(file)
    assert count(file) == 2


class signal_after:  # noqa: N801
    """A trace function that sends SIGINT once, after so many instructions."""

    def __init__(self, left: int) -> None:
        self.left = left

    def __call__(self, frame: FrameType, event: str, argument: object) -> signal_after:
        frame.f_trace_opcodes = True
        self.left -= event == "opcode"
        if self.left == -1:
            self.left -= 1
            signal.raise_signal(signal.SIGINT)
        return self


def test_forked_processes_read_and_write(process):
    child = process(
        """
        import os, threading
        file = DatabaseFile.at(file.path)
        def read():
            with file.reading() as connection:
                connection.execute("FROM numbers").fetchall()
        done = []
        def read_on():
            while not done:
                read()
        read()
        threading.Thread(target=read_on).start()
        ready()
        for _ in range(3):
            if not (forked := os.fork()):
                read()
                with file.writing() as connection:
                    connection.execute("INSERT INTO numbers VALUES (2)")
                os._exit(0)
            assert os.waitpid(forked, 0)[1] == 0
        done.append(True)
        with file.reading() as connection:
            print(len(connection.execute("FROM numbers").fetchall()))
        """
    )
    assert go_on(child) == "4\n"


# -- the schema ------------------------------------------------------------


@pytest.fixture
def store(tmp_path):
    store = EmbeddedStore(tmp_path / "store.duckdb")
    store.create(SETTINGS)
    store.close()
    return store


def rows(store, sql):
    store.close()
    with duckdb.connect(store.location, read_only=True) as connection:
        return connection.execute(sql).fetchall()


def test_what_any_process_wrote_is_replaced_and_never_there_twice(store):
    """Who writes remembers which ids are there, until somebody else has written."""
    cat, dog, both = (document(f"{i}.jpg", [("cat", 0.5)]) for i in range(3))
    other = EmbeddedStore(store.location)
    other._file = DatabaseFile(other._file.path, wait_seconds=10)  # as another process has it
    store.write([cat])
    other.write([dog])
    store.write([replace(dog, labels=("new",)), both])
    assert store.known([dog.id, both.id, "0"])[dog.id].labels == ("new",)
    assert other.remove([both.id]) == 1
    store.write([both, cat])
    assert rows(store, "SELECT count(*), count(DISTINCT id) FROM documents") == [(3, 3)]
    store.remove([both.id])
    assert set(store.known([cat.id, dog.id, both.id])) == {cat.id, dog.id}
    assert rows(store, "SELECT count(*) FROM postings") == [(2,)]


def test_any_duckdb_client_reads_it(store):
    assert rows(store, "SELECT synset, wnid FROM terms ORDER BY term") == [("cat", ""), ("dog", "")]
    assert rows(store, "SELECT * FROM picture_terms") == []


def test_a_newer_file_is_refused(store, monkeypatch):
    monkeypatch.setattr(schema, "COLOR_SCHEMA", 0)
    with pytest.raises(SchemaError, match=r"newer imgsearch-es \(schema 1, this one knows 0\)"):
        EmbeddedStore(store.location).settings()


@pytest.mark.parametrize(
    "value",
    [
        *("", "[]", "{}", "no JSON", "[" * 100_000),
        *(f'{{"schema_version": {n}}}' for n in ('"x"', "0", "1", "Infinity")),
    ],
)
def test_damaged_settings_are_told(store, value):
    with duckdb.connect(store.location) as connection:
        schema.write_value(connection, "settings", value)
    with pytest.raises(SchemaError, match=r"no index of imgsearch|are not those that were wr"):
        EmbeddedStore(store.location).settings()


@pytest.mark.parametrize(
    "harm",
    [
        {"weights": 5},
        {"embedding_dimensions": "16"},
        {"analyzer": {"model": {"name": "fake"}, "term_filters": "top_k"}},
        {"analyzer": {"model": {"name": "fake"}, "image_filters": [3]}},
    ],
)
def test_settings_of_another_kind_are_told(store, harm):
    with duckdb.connect(store.location) as connection:
        settings = json.loads(schema.read_value(connection, "settings"))
        schema.write_value(connection, "settings", json.dumps({**settings, **harm}))
    with pytest.raises(SchemaError, match="are not those that were written"):
        EmbeddedStore(store.location).settings()


def test_the_settings_of_another_program_are_no_index(store):
    with duckdb.connect(store.location) as connection:
        connection.execute("DROP TABLE settings; CREATE TABLE settings (key INTEGER)")
    with pytest.raises(SchemaError, match="is a DuckDB file, but no index of imgsearch"):
        EmbeddedStore(store.location).settings()


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE postings SET score = 'nan'",
        "UPDATE documents SET scores = ['nan']",
        "UPDATE documents SET terms = [30000]",
        "UPDATE documents SET label = NULL",
        "DELETE FROM documents",
    ],
)
def test_what_does_not_fit_is_told(store, harm):
    store.write([document("a.jpg", [("cat", 0.5)])])
    store.close()
    with duckdb.connect(store.location) as connection:
        connection.execute(harm)
    with pytest.raises(StoreError, match=r"is harmed inside: .*; `imgsearch verify` says"):
        EmbeddedStore(store.location).search(Query(terms=(Term("cat", 1.0),)))


def test_facets_tell_of_terms_that_there_are_not(store):
    store.write([document("a.jpg", [("cat", 0.5)])])
    store.close()
    with duckdb.connect(store.location) as connection:
        connection.execute("UPDATE documents SET terms = [30000]")
    for field in ("synsets", "top_synset"):
        with pytest.raises(StoreError, match=r"is harmed inside: .*; `imgsearch verify` says"):
            EmbeddedStore(store.location).facets(Selection(), [field], 10)


@pytest.mark.parametrize("damage", [lambda b, n: b[:n], lambda b, n: b[:n] + b"\xff" + b[n + 1 :]])
def test_damaged_pages_are_told_as_damage(store, damage):
    store.write([document(f"{i}.jpg", [("cat", 0.5)], number=i) for i in range(1000)])
    store.close()
    whole, told = Path(store.location).read_bytes(), 0
    for place in range(0, len(whole), len(whole) // 20):
        Path(store.location).write_bytes(damage(whole, place))
        other = EmbeddedStore(store.location)
        try:
            found = other.search(Query(terms=(Term("cat", 1.0),), k=10))
        except StoreError as error:
            told += "is damaged" in str(error) and "index the pictures again" in str(error)
        else:
            assert found.total == 1000
        other.close()
    assert told > 5


def test_a_process_that_searched_ends_without_complaint(path, process):
    child = process("file = DatabaseFile.at(file.path)\nwith file.reading():\n    ready()\n")
    out, err = child.communicate("\n", timeout=PATIENCE)
    assert (child.returncode, out, err) == (0, "", "")


def test_a_connection_of_this_process_that_has_the_file_is_named(path):
    file = DatabaseFile(path, wait_seconds=0.1)
    with (
        duckdb.connect(str(path)),
        pytest.raises(IndexLockedError, match="another DuckDB connection of this process"),
        file.reading(),
    ):
        pass
    assert count(file) == 1
    file.close()


@pytest.mark.parametrize(("count", "dimensions"), [(9, 1), (600, 96), (5, 100_352)])
def test_deep_features_of_any_length_come_back_as_they_were(tmp_path, count, dimensions):
    """100,352 numbers are a feature map of ResNet50; all are written in one transaction."""
    rng = np.random.default_rng(dimensions)
    pictures = [
        replace(document(f"{i}.jpg", [], number=i), embedding=rng.random(dimensions, np.float32))
        for i in range(count)
    ]
    store = EmbeddedStore(tmp_path / "features.duckdb")
    store.create(replace(SETTINGS, embedding_dimensions=dimensions))
    store.write(pictures)
    store.finish()
    found = store.get([picture.id for picture in pictures])
    assert len(found) == count
    for picture in pictures:
        assert np.array_equal(found[picture.id].embedding, picture.embedding)


def test_python_ends_while_a_file_is_let_go_of(file, process):
    count(file)
    file.close()
    child = process(
        """
        file = DatabaseFile.at(file.path)
        with file.reading() as cursor:
            ready()
        file.close()
        del cursor, file
        while DatabaseFile._open_files:
            pass
        """
    )
    assert go_on(child) == ""


def test_duckdb_draws_no_bar_where_somebody_types(index):
    """It does where Python has no script, when letting go of a file takes two seconds."""
    code = (
        "import duckdb, sys; from pathlib import Path; "
        "from imgsearch_es.stores.embedded.open_file import OpenFile as F; "
        "file = F(Path(sys.argv[1])); file.attach(read_only=True); bar = 'enable_progress_bar'; "
        "ask = f\"SELECT current_setting('{bar}')\"; "
        "print(duckdb.connect().execute(ask).fetchall(), file._database.execute(ask).fetchall())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, index.location], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[(True,)] [(False,)]\n"
