"""Image filters and term filters."""

from __future__ import annotations

import math
from importlib.metadata import EntryPoint

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from imgsearch_es.analysis import plugins
from imgsearch_es.analysis.filters import (
    TERM_FILTERS,
    CenterCrop,
    Hypernyms,
    L2Normalize,
    MinScore,
    Resize,
    Sqrt,
    TopK,
    create_image_filter,
    create_term_filter,
)
from imgsearch_es.analysis.plugins import full_config
from imgsearch_es.errors import AnalyzerError
from imgsearch_es.vocabulary.synsets import from_labels, imagenet

ABC = from_labels(["a", "b", "c", "d"])
POSTERIORS = arrays.arrays(
    np.float32, (3, 4), elements=st.floats(0, 1, width=32, allow_subnormal=False)
)


def scores(*rows):
    return np.array(rows, dtype=np.float32)


@pytest.mark.parametrize("size", [(30, 20), (8, 9), (300, 1)])
def test_resize_to_height_and_width(size):
    assert Resize(height=8, width=9)(Image.new("RGB", size)).size == (9, 8)


@pytest.mark.parametrize(
    ("size", "expected"), [((40, 20), (20, 10)), ((20, 40), (10, 20)), ((10, 10), (10, 10))]
)
def test_resize_shorter_side_keeps_the_proportions(size, expected):
    assert Resize(shorter_side=10)(Image.new("RGB", size)).size == expected


def gradient(width, height):
    return Image.linear_gradient("L").resize((width, height)).convert("RGB").rotate(30)


def scaled_whole(image):
    """What ``Resize(shorter_side=16)`` is, however thin the picture."""
    scale = 16 / min(image.size)
    size = tuple(max(1, round(side * scale)) for side in image.size)
    return image.resize(size, Image.Resampling.BICUBIC)


@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 12))
def test_the_middle_of_a_picture_is_that_of_it_scaled_whole(width, height, side):
    """Bit by bit, unless it is more than 64 times as long as wide, as the next test has them."""
    assume(max(width, height) <= 64 * min(width, height))
    image = gradient(width, height)
    crop = CenterCrop(side, side)
    mine = crop(Resize(shorter_side=16, interpolation="bicubic")(image))
    assert np.array_equal(mine, crop(scaled_whole(image)))


@pytest.mark.parametrize("size", [(1, 2_000_000), (2_000_000, 1), (3, 1_000_000)])
@pytest.mark.parametrize("options", [{"shorter_side": 256}, {"height": 224, "width": 224}])
@pytest.mark.parametrize("interpolation", ["nearest", "bicubic"])
def test_a_thin_picture_is_scaled_within_bounds(size, options, interpolation):
    small = Resize(**options, interpolation=interpolation)(Image.new("RGB", size))
    assert max(small.size) <= 65 * 256
    assert min(small.size) == min(options.values())


def test_resize_takes_the_nearest_pixel_by_default_and_others_by_name():
    picture = Image.fromarray(np.array([[[0] * 3, [255] * 3]], dtype=np.uint8))
    assert np.unique(np.asarray(Resize(height=1, width=8)(picture))).tolist() == [0, 255]
    smooth = Resize(height=1, width=8, interpolation="bilinear")(picture)
    assert len(np.unique(np.asarray(smooth))) > 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either"),
        ({"height": 3}, "either|needs"),
        ({"height": 3, "width": 3, "shorter_side": 3}, "needs"),
        ({"height": 0, "width": 3}, "whole number above 0, at most 8192, not 0"),
        ({"shorter_side": 2.5}, "not 2.5"),
        ({"shorter_side": True}, "not True"),
        ({"height": 900_000, "width": 900_000}, "not 900000"),
        ({"shorter_side": 3, "interpolation": "magic"}, "'magic'; known are nearest"),
    ],
)
def test_resize_refuses(options, message):
    with pytest.raises(AnalyzerError, match=message):
        create_image_filter({"name": "resize", **options})


def test_center_crop_takes_the_middle():
    pixels = np.zeros((5, 7, 3), dtype=np.uint8)
    pixels[1:4, 2:5] = 9
    cut = CenterCrop(height=3, width=3)(Image.fromarray(pixels))
    assert cut.size == (3, 3)
    assert np.unique(np.asarray(cut)).tolist() == [9]


def test_center_crop_pads_with_black():
    cut = np.asarray(CenterCrop(height=4, width=4)(Image.new("RGB", (2, 2), "white")))
    assert cut[1:3, 1:3].min() == 255
    assert cut.sum() == 4 * 3 * 255


def test_top_k_keeps_the_best_and_of_equal_ones_the_first():
    kept = TopK(2)(scores([0.1, 0.4, 0.1, 0.4], [0.3, 0.3, 0.3, 0.1]), ABC)
    np.testing.assert_array_equal(kept, scores([0, 0.4, 0, 0.4], [0.3, 0.3, 0, 0]))


@given(POSTERIORS, st.integers(1, 6))
def test_top_k_never_keeps_a_worse_one_and_leaves_its_argument(posterior, k):
    before = posterior.copy()
    kept = TopK(k)(posterior, ABC)
    np.testing.assert_array_equal(posterior, before)
    for row, all_scores in zip(kept, posterior, strict=True):
        assert np.count_nonzero(row) == min(k, np.count_nonzero(all_scores))
        dropped = all_scores[row == 0]
        if np.any(row > 0) and len(dropped):
            assert row[row > 0].min() >= dropped.max()


@pytest.mark.parametrize("k", [0, -1, 2.0, "3", True])
def test_top_k_refuses(k):
    with pytest.raises(AnalyzerError, match="k must be a whole number above 0"):
        TopK(k)


def test_min_score_keeps_what_is_equal():
    kept = MinScore(0.1)(scores([0.1, 0.0999, 0.2, 0]), ABC)
    np.testing.assert_array_equal(kept, scores([0.1, 0, 0.2, 0]))
    assert kept.dtype == np.float32


def test_sqrt_makes_formula_1_the_bhattacharyya_coefficient():
    p, q = scores([0.5, 0.5, 0, 0]), scores([0.25, 0.25, 0.25, 0.25])
    inner = float((Sqrt()(p, ABC) * Sqrt()(q, ABC)).sum())
    assert inner == pytest.approx(2 * np.sqrt(0.125))


@given(POSTERIORS)
def test_l2_normalize_gives_length_1_or_0(posterior):
    scaled = L2Normalize()(posterior, ABC)
    assert scaled.dtype == np.float32
    lengths = np.linalg.norm(scaled.astype(np.float64), axis=1)
    wanted = np.where(posterior.max(axis=1) > 1e-15, 1, lengths)
    np.testing.assert_allclose(lengths, wanted, atol=1e-5)


def test_hypernyms_sum_the_classes_below_them():
    vocabulary = imagenet()
    one_hot = np.zeros((1, 1000), dtype=np.float32)
    keys = list(vocabulary.keys)
    one_hot[0, keys.index("golden_retriever")] = 0.5
    one_hot[0, keys.index("beagle")] = 0.25
    part = Hypernyms()
    wider = part.vocabulary(vocabulary)
    by_key = dict(zip(wider.keys, part(one_hot, vocabulary)[0].tolist(), strict=True))
    assert by_key["golden_retriever"] == 0.5
    assert by_key["retriever"] == 0.5
    assert by_key["dog"] == 0.75
    assert by_key["feline"] == 0
    assert {key for key, score in by_key.items() if score} == {
        "golden_retriever",
        "beagle",
        *(synset.key for key in ("golden_retriever", "beagle") for synset in wider.hypernyms(key)),
    }


@pytest.fixture
def registered(monkeypatch):
    """Registers term filters for one test, as installed packages would."""

    def register(**values: str) -> None:
        found = dict(plugins._entry_points(TERM_FILTERS))
        found |= {name: EntryPoint(name, value, TERM_FILTERS) for name, value in values.items()}
        monkeypatch.setattr(plugins, "_entry_points", lambda group: found)
        plugins.load_plugin.cache_clear()

    yield register
    plugins.load_plugin.cache_clear()


def test_a_plug_in_is_used_like_a_built_in(registered):
    registered(root="imgsearch_es.analysis.filters:Sqrt")
    assert create_term_filter({"name": "root"}) == Sqrt()


def test_a_filter_that_is_no_dataclass_is_refused(registered):
    registered(function="math:sqrt")
    with pytest.raises(AnalyzerError, match="'function' is not a dataclass"):
        create_term_filter({"name": "function"})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "has no name"),
        ({"name": 3}, "has no name"),
        ({"name": "topk"}, "no term filter 'topk'. Did you mean 'top_k'"),
        ({"name": "top_k", "n": 3}, "'top_k' has no option 'n'; it has k"),
        ({"name": "sqrt", "n": 3}, "'sqrt' has no option 'n'; it has none"),
        ({"name": "min_score"}, "'min_score' cannot be built"),
        ({"name": "min_score", "min_score": math.nan}, "a finite number, not nan"),
    ],
)
def test_a_wrong_configuration_says_what_is_wrong(config, message):
    with pytest.raises(AnalyzerError, match=message):
        create_term_filter(config)


def test_full_config_names_the_defaults_and_builds_the_same_filter():
    config = {"name": "top_k"}
    part = create_term_filter(config)
    assert full_config(config, part) == {"name": "top_k", "k": 10}
    resize = {"name": "resize", "shorter_side": 5}
    complete = full_config(resize, create_image_filter(resize))
    assert complete == {"name": "resize", "shorter_side": 5, "interpolation": "nearest"}
    assert create_image_filter(complete) == create_image_filter(resize)
