"""Decoding JPEG files at reduced scale: only where asked for, and part of the analyzer."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from imgsearch_es import ImageIndex
from imgsearch_es.analysis.analyzer import Analyzer
from imgsearch_es.analysis.filters import Resize
from imgsearch_es.errors import AnalyzerError, AnalyzerMismatchError, ConfigurationError, ImageError
from imgsearch_es.pictures.files import Limits
from imgsearch_es.pictures.images import open_image

FILTER = {"name": "resize", "height": 8, "width": 8, "interpolation": "nearest"}
FAST = {"model": "fake", "image_filters": [{**FILTER, "decode": "fast"}]}


def file_of(size=(400, 300), kind="JPEG", **options):
    columns, rows = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    noise = np.random.default_rng(1).integers(0, 60, (size[1], size[0]))
    pixels = np.stack([columns % 200, rows % 200, noise * 4], axis=-1).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("at_least", "decoded"),
    [
        (None, (400, 300)), ((400, 300), (400, 300)), ((4000, 4000), (400, 300)),
        ((201, 10), (400, 300)), ((200, 150), (200, 150)), ((100, 75), (100, 75)),
        ((8, 76), (200, 150)), ((10, 10), (50, 38)), ((1, 1), (50, 38)),
    ],
)  # fmt: skip
def test_a_jpeg_is_reduced_but_never_below(at_least, decoded):
    picture = open_image(file_of(), at_least=at_least)
    assert picture.image.size == decoded
    assert (picture.width, picture.height) == (400, 300)
    assert picture.sha256 == open_image(file_of()).sha256


def test_a_turned_jpeg_is_reduced_as_it_will_stand():
    exif = Image.Exif()
    exif[274] = 6
    data = file_of((400, 300), exif=exif)
    picture = open_image(data, at_least=(75, 200))
    assert (picture.width, picture.height) == (300, 400)
    assert picture.image.size == (150, 200)
    assert open_image(data, at_least=(75, 100)).image.size == (75, 100)
    assert open_image(data).image.size == (300, 400)


def test_other_formats_are_not_reduced():
    for kind in ("PNG", "BMP", "WEBP"):
        assert open_image(file_of(kind=kind), at_least=(8, 8)).image.size == (400, 300)


def test_limits_are_those_of_the_file():
    with pytest.raises(ImageError, match="400 x 300 pixels are over the limit"):
        open_image(file_of(), at_least=(8, 8), limits=Limits(max_pixels=10_000))


def test_resize_says_what_it_needs():
    assert Resize(height=20, width=30).decode_size is None
    assert Resize(height=20, width=30, decode="fast").decode_size == (30, 20)
    assert Resize(shorter_side=256, decode="fast").decode_size == (256, 256)
    with pytest.raises(AnalyzerError, match='decode is "fast" or left out'):
        Resize(height=20, width=30, decode="quick")


def test_it_is_part_of_the_analyzer(fake_model):
    default = Analyzer("fake")
    fast = Analyzer(FAST)
    assert "decode" not in default.config["image_filters"][0]
    assert fast.config["image_filters"][0]["decode"] == "fast"
    assert default.open(file_of()).image.size == (400, 300)
    assert fast.open(file_of()).image.size == (50, 38)
    crop = {"name": "center_crop", "height": 8, "width": 8}
    with pytest.raises(AnalyzerError, match="must be the first image filter"):
        Analyzer({"model": "fake", "image_filters": [crop, FAST["image_filters"][0]]})


def test_an_index_remembers_it(fake_model, tmp_path):
    place, query = tmp_path / "x.duckdb", file_of()
    with ImageIndex(place, model="fake", fast_decode=True) as index:
        index.create()
    with ImageIndex(place) as index:
        assert index.analyzer.config["image_filters"][0]["decode"] == "fast"
        fast = Analyzer(FAST)
        expected = fast.analyze(fast.open(query).image).terms
        assert index.analyze(query).terms == expected
        assert expected != Analyzer("fake").analyze(open_image(query).image).terms
        asked = {term.key: term.score for term in index.query(image=query).terms}
        assert asked == {term.key: term.score for term in expected[:10]}
    with ImageIndex(place, fast_decode=True) as index:
        assert index.count() == 0
    with ImageIndex(tmp_path / "y.duckdb", model="fake") as index:
        index.create()
    with (
        ImageIndex(tmp_path / "y.duckdb", fast_decode=True) as index,
        pytest.raises(AnalyzerMismatchError, match="was built with"),
    ):
        index.count()
    with pytest.raises(ConfigurationError, match='resize with decode = "fast"'):
        ImageIndex(place, analyzer=FAST, fast_decode=True)


def test_without_resize_there_is_nothing_to_decode_for(fake_model, tmp_path):
    crop = {"name": "center_crop", "height": 8, "width": 8}
    fake_model.image_filters = property(lambda self: [crop], lambda self, value: None)
    try:
        with (
            ImageIndex(tmp_path / "x.duckdb", model="fake", fast_decode=True) as index,
            pytest.raises(AnalyzerError, match="needs resize as the first image filter"),
        ):
            index.create()
    finally:
        del fake_model.image_filters


def test_indexing_decodes_as_queries_do(fake_model, tmp_path):
    (tmp_path / "large.jpg").write_bytes(file_of())
    with ImageIndex(tmp_path / "x.duckdb", model="fake", fast_decode=True) as index:
        index.add(tmp_path / "large.jpg")
        stored = index.get(tmp_path / "large.jpg")
        assert stored.terms == index.analyze(tmp_path / "large.jpg").terms
        assert (stored.width, stored.height) == (400, 300)
