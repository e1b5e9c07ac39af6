"""Some hundred harms in the ordinary run; `mutations.py` does as many as asked."""

from __future__ import annotations

import pytest

from tests.faults.mutations import run, target_of


@pytest.mark.parametrize(
    ("store", "count"),
    [
        ("embedded", 200),
        pytest.param("embedded", 10_000, marks=pytest.mark.long),
        pytest.param("elasticsearch", 40, marks=[pytest.mark.node, pytest.mark.scripts]),
        pytest.param("elasticsearch", 10_000, marks=[pytest.mark.node, pytest.mark.long]),
    ],
)
def test_every_harm_is_found_or_harmless(fake_model, tmp_path, store, count):
    with target_of(store, tmp_path) as target:
        assert run(target, count, seed=1).total() >= count
