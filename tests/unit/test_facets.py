"""Facets: bounds, names of ranges, and the requests that count."""

from __future__ import annotations

import pytest

from imgsearch_es.errors import QueryError
from imgsearch_es.retrieval.facets import BOUNDS, FACETS, check_facets, conditions_of, ranges


@pytest.mark.parametrize("field", BOUNDS)
def test_ranges_have_no_gaps(field):
    found = ranges(field)
    assert found[0].low is None
    assert found[-1].high is None
    assert [item.high for item in found[:-1]] == [item.low for item in found[1:]]
    assert [item.low for item in found[1:]] == sorted(BOUNDS[field])
    assert len({item.value for item in found}) == len(found)


def test_ranges_read_well():
    names = ["<256", "256-511", "512-1023", "1024-2047", "2048-4095", ">=4096"]
    assert [item.value for item in ranges("width")] == names
    names = ["<16 KB", "16-64 KB", "64-256 KB", "256 KB-1 MB", "1-4 MB", "4-16 MB", ">=16 MB"]
    assert [item.value for item in ranges("bytes")] == names


def test_what_cannot_be_counted():
    check_facets(FACETS, 10)
    with pytest.raises(QueryError, match="no facet of 'uri'; there are synsets"):
        check_facets(["label", "uri"], 10)
    with pytest.raises(QueryError, match="width has no range 'wide'; there are <256, 256-511"):
        conditions_of("width", "wide")
    for size in (0, 10_001):
        with pytest.raises(QueryError, match="1 to 10000 values"):
            check_facets(FACETS, size)


@pytest.mark.parametrize(
    ("field", "value", "conditions"),
    [
        ("label", "big dogs", 'label:"big dogs"'),
        ("width", "<256", "width:<256"),
        ("width", "256-511", "width:>=256 width:<512"),
        ("width", ">=4096", "width:>=4096"),
        ("bytes", "16-64 KB", "bytes:>=16384 bytes:<65536"),
        ("metadata.camera", "X100", "metadata.camera:X100"),
    ],
)
def test_the_conditions_of_a_value(field, value, conditions):
    assert " ".join(map(str, conditions_of(field, value))) == conditions
