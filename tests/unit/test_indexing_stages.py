"""The parts of the indexing pipeline, one by one."""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from imgsearch_es.analysis.analyzer import Analyzer
from imgsearch_es.analysis.decoding import Decoded
from imgsearch_es.indexing.find import Found
from imgsearch_es.indexing.read import Channel, ClosedError, pump
from imgsearch_es.indexing.report import Stages
from imgsearch_es.indexing.write import BatchAnalyzer
from imgsearch_es.pictures.images import open_image
from tests.conftest import PATIENCE, wait_for
from tests.fakes import FakeModel


@pytest.fixture
def threads():
    with ThreadPoolExecutor(2) as executor:
        yield executor


@pytest.fixture
def decoded(photos, fake_model):
    """Makes a picture, ready for the model, with this content."""
    picture = open_image(photos / "cats" / "cat.0.png")
    pixels = Analyzer("fake").prepare(picture.image)

    def make(uri: str, sha256: str) -> tuple[Found, Decoded]:
        return Found(uri), Decoded.of(replace(picture, uri=uri, sha256=sha256), pixels)

    return make


def test_a_full_channel_makes_the_putting_thread_wait(threads):
    channel: Channel[int] = Channel(3)
    made = []

    def numbers():
        for number in range(10):
            made.append(number)
            yield number

    done = pump(threads, numbers(), channel)
    wait_for(lambda: len(made) == 4)
    time.sleep(0.2)
    assert made == [0, 1, 2, 3]
    assert list(channel.batches(4)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    done.result()


def test_an_error_comes_after_the_last_item(threads):
    channel: Channel[int] = Channel(9)

    def failing():
        yield 1
        raise OSError("broken")

    pump(threads, failing(), channel)
    taken = []
    with pytest.raises(OSError, match="broken"):
        taken.extend(channel.batches(5))
    assert taken == [[1]]


def test_closing_stops_who_puts(threads):
    channel: Channel[int] = Channel(1)
    done = pump(threads, iter(int, 1), channel)  # without end
    assert next(channel.batches(1)) == [0]
    channel.close()
    done.result(timeout=PATIENCE)
    with pytest.raises(ClosedError):
        channel.put(1)
    assert list(channel.batches(1)) == []
    channel.close(OSError("no room"))  # the taker died of it
    with pytest.raises(OSError, match="no room"):
        channel.put(1)


def test_a_channel_that_a_signal_closes_while_it_is_taken_from_raises_nothing():
    class Interrupted(deque[int]):
        def __bool__(self) -> bool:
            channel.close()
            return len(self) > 0

    channel: Channel[int] = Channel(1)
    channel.put(1)
    channel._items = Interrupted(channel._items)
    assert list(channel.batches(1)) == [[1]]


def test_a_batch_does_not_wait_for_ever():
    channel: Channel[int] = Channel(9)
    channel.put(1)
    batches = channel.batches(5, seconds=0.05)
    assert next(batches) == [1]
    threading.Timer(0.05, channel.end).start()
    assert list(batches) == []


@pytest.mark.parametrize("is_safe", [False, True])
def test_a_model_that_is_safe_in_threads_works_on_two_batches_at_once(
    decoded, monkeypatch, is_safe
):
    """Somebody else's model need not be; it gets one."""
    monkeypatch.setattr(FakeModel, "is_safe_in_threads", is_safe, raising=False)
    analyzer = Analyzer("fake")
    analyze, busy, seen = analyzer.analyze_prepared, [], []
    both = threading.Barrier(2 if is_safe else 1)

    def watched(pixels):
        busy.append(1)
        both.wait(timeout=PATIENCE)
        seen.append(len(busy))
        busy.pop()
        return analyze(pixels)

    monkeypatch.setattr(analyzer, "analyze_prepared", watched)
    batches = BatchAnalyzer(lambda: analyzer, 1, Stages())
    made = []
    try:
        for number in range(6):
            made += batches.add(*decoded(f"/{number}.png", f"{number:064}"))
        made += batches.flush()
    finally:
        batches.close()
    assert [each.document.uri for each in made] == [f"/{number}.png" for number in range(6)]
    assert max(seen) == (2 if is_safe else 1)


def test_copies_do_not_wait_for_ever(decoded):
    """A folder may hold one picture a hundred thousand times, each with its pixels in memory."""
    analyzer = Analyzer("fake")
    batches = BatchAnalyzer(lambda: analyzer, 2, Stages())
    try:
        done = []
        for number in range(100):
            added = batches.add(*decoded(f"/copies/{number}.png", "0" * 64))
            done.append(sum(1 for _ in added))
        waited = [number - made for number, made in enumerate(itertools.accumulate(done))]
        assert max(waited) <= 2 * 2 * 8
        assert sum(done) + sum(1 for _ in batches.flush()) == 100
    finally:
        batches.close()
