"""Which deep feature is asked for, and the numbers that poolings rest on; without TensorFlow."""

from __future__ import annotations

import numpy as np
import pytest

from imgsearch_es.analysis.configuration import DeepFeature
from imgsearch_es.analysis.models.networks import center_weights, interpolation, regions
from imgsearch_es.errors import AnalyzerError


@pytest.mark.parametrize(
    ("config", "stored"),
    [
        ({}, {}),
        ({"pooling": "avg", "scales": [1], "flip": False}, {}),
        ({"pooling": "gem"}, {"pooling": "gem", "p": 3.0}),
        ({"pooling": "gem", "p": 5}, {"pooling": "gem", "p": 5.0}),
        ({"pooling": "rmac"}, {"pooling": "rmac", "levels": 3}),
        (
            {"layer": "conv", "scales": [0.5, 1], "flip": True},
            {"layer": "conv", "scales": [0.5, 1.0], "flip": True},
        ),
    ],
)
def test_the_configuration_holds_what_differs_and_is_read_again(config, stored):
    feature = DeepFeature.from_config(config)
    assert feature.to_config() == stored
    assert DeepFeature.from_config(stored) == feature
    assert feature.is_default == (stored == {})


@pytest.mark.parametrize(
    "config",
    [
        *({"pooling": "mean"}, {"pooling": None}, {"layer": 3}, {"layer": ""}, {"p": 3}),
        *({"pooling": "gem", "p": 0}, {"pooling": "gem", "p": float("nan")}),
        *({"pooling": "gem", "p": "3"}, {"pooling": "max", "levels": 3}),
        *({"pooling": "rmac", "levels": 2.5}, {"scales": 1}, {"scales": []}, {"scales": [0]}),
        *({"scales": [1, 1.0]}, {"scales": ["1"]}, {"scales": [9]}, {"flip": 1}, {"flips": True}),
    ],
)
def test_wrong_options_are_refused(config):
    with pytest.raises(AnalyzerError, match="embedding"):
        DeepFeature.from_config(config)


def test_regions_of_a_square_map_are_the_papers():
    found = regions(12, 12, 3)
    assert [side for _, _, side in found] == [12] + [8] * 4 + [6] * 9
    assert (0, 0, 12) in found
    assert {(0, 4, 8), (4, 0, 8), (3, 3, 6), (6, 6, 6)} < set(found)


@pytest.mark.parametrize("size", [(7, 7), (5, 9), (9, 5), (1, 1), (2, 30), (30, 2)])
def test_regions_are_squares_within_the_map_each_once(size):
    found = regions(*size, 3)
    assert len(found) == len(set(found))
    for top, left, side in found:
        assert 0 <= top <= size[0] - side
        assert 0 <= left <= size[1] - side


def test_center_weights_fall_off_from_the_middle():
    weights = center_weights(7, 9)[0, :, :, 0]
    assert weights.shape == (7, 9)
    assert weights[3, 4] == weights.max() == 1
    assert weights[0, 4] == pytest.approx(np.exp(-(3**2) / (2 * (3.5 / 3) ** 2)))
    assert (weights == weights[::-1, ::-1]).all()


@pytest.mark.parametrize(("before", "after"), [(8, 8), (8, 4), (8, 5), (8, 13), (3, 1), (1, 4)])
def test_interpolation_keeps_flat_surfaces_flat(before, after):
    weights = interpolation(before, after)
    assert weights.shape == (after, before)
    assert weights.sum(axis=1) == pytest.approx(np.ones(after))
    assert (weights >= 0).all()
    if before == after:
        assert (weights == np.eye(before)).all()
