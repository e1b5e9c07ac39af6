"""Waiting for a server: how long, what for, and how it ends."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from imgsearch_es.errors import ServerError
from imgsearch_es.stores.base import ANSWER_SECONDS
from imgsearch_es.stores.elastic import waiting
from imgsearch_es.stores.elastic.waiting import BusyError, Patience, last_cause


@pytest.fixture
def patience(monkeypatch):
    monkeypatch.setattr(waiting, "FIRST_SECONDS", 0.001)
    monkeypatch.setattr(waiting, "PAUSE_SECONDS", 0.002)
    return Patience("http://host:9200")


def busy_times(number):
    """Something that is busy so many times."""
    left = [number]

    def attempt():
        if left[0]:
            left[0] -= 1
            raise BusyError("status 503")
        return "done"

    return attempt


def test_it_waits_only_where_asked(patience):
    with pytest.raises(ServerError, match="http://host:9200 does not answer: status 503"):
        patience.call(busy_times(1))
    with patience.waiting():
        assert patience.call(busy_times(20)) == "done"
        with patience.waiting():
            pass
        assert patience.call(busy_times(1)) == "done"
    with pytest.raises(ServerError):
        patience.call(busy_times(1))


def test_who_answers_a_search_does_not_wait_while_another_thread_writes(patience):
    with patience.waiting(), ThreadPoolExecutor(1, "", ANSWER_SECONDS.set, (20.0,)) as searches:
        asked = searches.submit(patience.call, busy_times(20))
        assert patience.call(busy_times(20)) == "done"
        with pytest.raises(ServerError, match="does not answer: status 503"):
            asked.result()


def test_it_says_once_that_it_waits_and_that_it_goes_on(patience, caplog):
    refused = busy_times(5)

    def attempt() -> str:
        patience.call(busy_times(0))  # the request, which has an answer
        return refused()

    with patience.waiting():
        patience.call(attempt)
        patience.call(busy_times(0))
    said = [record.message for record in caplog.records]
    assert len(said) == 2
    assert "(status 503): waiting for up to 120 seconds" in said[0]
    assert "answers again" in said[1]


def test_it_gives_up(patience, monkeypatch):
    monkeypatch.setattr(waiting, "LONGEST_SECONDS", 0.05)
    with patience.waiting(), pytest.raises(ServerError, match="run the command again"):
        patience.call(busy_times(10**9))


def test_it_can_be_ended_at_once(patience, monkeypatch):
    monkeypatch.setattr(waiting, "FIRST_SECONDS", 60)
    monkeypatch.setattr(waiting, "PAUSE_SECONDS", 60)
    started = time.monotonic()
    with patience.waiting() as end:
        threading.Timer(0.1, end).start()
        with pytest.raises(ServerError, match="does not answer: status 503"):
            patience.call(busy_times(10**9))
    assert time.monotonic() - started < 30
    monkeypatch.setattr(waiting, "FIRST_SECONDS", 0.001)
    monkeypatch.setattr(waiting, "PAUSE_SECONDS", 0.002)
    with patience.waiting():  # the end was that of the block
        assert patience.call(busy_times(3)) == "done"


def test_other_errors_are_not_waited_for(patience):
    def fail():
        raise ValueError("wrong")

    with patience.waiting(), pytest.raises(ValueError, match="wrong"):
        patience.call(fail)


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        ("NewConnectionError(<x>: Failed: [Errno 111] Connection refused)", "Connection refused"),
        ("('Connection aborted.', RemoteDisconnected('Remote end closed'))", "Remote end closed"),
        ("Connection timed out", "Connection timed out"),
    ],
)
def test_the_last_cause(message, cause):
    assert last_cause(message) == cause
