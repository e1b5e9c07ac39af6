"""Long lines and damaged pictures are read or refused in bounded time.

``make fuzz`` does the same guided by coverage, for as long as one likes (tests/fuzz).
"""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgsearch_es.errors import ImageError, QueryError
from imgsearch_es.pictures.files import Limits
from imgsearch_es.pictures.images import open_image
from imgsearch_es.retrieval.language import parse_words
from imgsearch_es.vocabulary.synsets import imagenet
from tests.conftest import python
from tests.fuzz.seeds import seeds
from tests.unit.test_language import lines

LIMITS = Limits(max_pixels=1_000_000, max_bytes=1_000_000)
SEEDS = seeds()
VOCABULARY = imagenet()
bounded = settings(
    max_examples=300,
    deadline=timedelta(seconds=5),
    suppress_health_check=[HealthCheck.too_slow],
)


@settings(max_examples=60, deadline=timedelta(seconds=5))
@given(lines.filter(bool))
def test_the_longest_line_is_read_in_bounded_time(part):
    with suppress(QueryError):
        words = parse_words((part * (10_000 // len(part)))[:10_000], VOCABULARY)
        assert parse_words(str(words), VOCABULARY) == words


@st.composite
def damaged(draw):
    """A picture with bytes that were changed, inserted, deleted or repeated."""
    data = bytearray(SEEDS[draw(st.sampled_from(sorted(SEEDS)))])
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, len(data)))
        kind = draw(st.sampled_from(["flip", "insert", "delete", "repeat", "cut"]))
        if kind == "flip" and place < len(data):
            data[place] ^= draw(st.integers(1, 255))
        elif kind == "insert":
            data[place:place] = draw(st.binary(max_size=8))
        elif kind == "delete":
            del data[place : place + draw(st.integers(1, 16))]
        elif kind == "repeat":
            data[place:place] = data[place : place + draw(st.integers(1, 64))]
        elif kind == "cut" and place > len(data) // 2:
            del data[place:]
    return bytes(data)


@bounded
@given(damaged())
def test_a_damaged_picture_is_opened_or_refused(data):
    reason = "opened"
    try:
        found = open_image(data, limits=LIMITS)
    except ImageError as error:
        reason, found = error.reason, None
    assert reason
    assert "\n" not in reason
    if found is None:
        return
    assert found.image.mode == "RGB"
    assert found.image.size == (found.width, found.height)
    assert found.width * found.height <= LIMITS.max_pixels


BOUNDED = """
import resource, sys
from imgsearch_es.errors import ImageError
from imgsearch_es.pictures.files import Limits
from imgsearch_es.pictures.images import open_image
from tests.fuzz.seeds import seeds
from tests.unit.test_language import lines
limits = Limits(max_pixels=1_000_000, max_bytes=1_000_000)
files = seeds().values()
for data in files:
    open_image(data, limits=limits)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for data in files:
    for place in range(0, min(len(data), 600), 5):
        for byte in (0, 127, 255):
            try:
                open_image(data[:place] + bytes([byte]) * 4 + data[place + 4 :], limits=limits)
            except ImageError:
                pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_damaged_pictures_take_little_memory():
    """Sizes, counts and offsets in headers are overwritten by the largest and other numbers."""
    taken = python("-W", "ignore", "-c", BOUNDED).stdout
    assert int(taken) < 200_000  # kilobytes; a picture of the largest size takes 3,000
