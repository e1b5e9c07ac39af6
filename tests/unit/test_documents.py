"""Documents and how Elasticsearch sees them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timezone

import numpy as np
import pytest
from PIL import Image

from imgsearch_es.analysis.analyzer import Analysis, Term
from imgsearch_es.pictures.images import open_image
from imgsearch_es.retrieval.documents import Document, to_score
from imgsearch_es.retrieval.spans import ordered_text
from imgsearch_es.vocabulary.synsets import imagenet

DOCUMENT = Document(
    id="0" * 32,
    uri="/photos/cat.jpg",
    filename="cat.jpg",
    sha256="ab" * 32,
    width=640,
    height=480,
    bytes=1234,
    format="JPEG",
    indexed_at=datetime(2026, 1, 31, 12, 30, tzinfo=timezone.utc),
    terms=(Term("tabby", 0.75), Term("jack-o'-lantern", 0.125)),
    labels=("cat", "indoor"),
    metadata={"camera": "X100", "iso": 200},
    embedding=np.array([0.5, 0.25], dtype=np.float32),
)
SOURCE = {
    "id": "0" * 32,
    "filename": "cat.jpg",
    "uri": "/photos/cat.jpg",
    "sha256": "ab" * 32,
    "width": 640,
    "height": 480,
    "bytes": 1234,
    "format": "JPEG",
    "indexed_at": "2026-01-31T12:30:00+00:00",
    "label": ["cat", "indoor"],
    "metadata": {"camera": "X100", "iso": 200},
    "synset": {
        "tabby": {"wind": "n02123045", "words": "tabby", "score": 0.75},
        "jack-o'-lantern": {"wind": "n03590841", "words": "jack-o'-lantern", "score": 0.125},
    },
    "posterior": {"tabby": 0.75, "jack-o'-lantern": 0.125},
    "synsets": ["tabby", "jack-o'-lantern"],
    "top_synset": "tabby",
    "top_score": 0.75,
    "length": 0.875,
    "norm": 0.578125**0.5,
    "embedding": [0.5, 0.25],
    "checksum": "390af7346c4587736e52474f92d2fef2v",
}


def fields(document: Document) -> dict[str, object]:
    """A document's fields, comparable."""
    values = {name: getattr(document, name) for name in Document.__dataclass_fields__}
    if document.embedding is not None:
        values["embedding"] = document.embedding.tolist()
    return values


def test_source_is_figure_2_of_the_paper_and_more():
    source = DOCUMENT.to_source(imagenet())
    assert Document.from_hit(source.pop("hit")).uri == "/photos/cat.jpg"
    assert source.pop("ordered") == {"iso": [ordered_text(200.0)]}
    assert source == SOURCE


def test_there_and_back_again_through_json():
    source = json.loads(json.dumps(DOCUMENT.to_source(imagenet())))
    assert fields(Document.from_source(source)) == fields(DOCUMENT)


def test_without_terms_and_embedding():
    bare = replace(DOCUMENT, terms=(), embedding=None, labels=(), metadata={})
    source = bare.to_source(imagenet())
    assert not {"top_synset", "top_score", "embedding"} & set(source)
    assert (source["synset"], source["synsets"], source["label"]) == ({}, [], [])
    assert fields(Document.from_source(source)) == fields(bare)


def test_a_hit_is_all_but_the_embedding():
    odd = replace(
        DOCUMENT,
        filename="\u00fc\n'\"\udcff.jpg",
        terms=(Term("tabby", to_score(0.1)), Term("tiger_cat", to_score(1e-20))),
    )
    hit = odd.to_source(imagenet())["hit"]
    assert hit.isascii()
    assert fields(Document.from_hit(hit)) == fields(replace(odd, embedding=None))


def test_it_joins_a_picture_and_its_analysis(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (4, 3)).save(path)
    picture = open_image(path)
    before = datetime.now(timezone.utc).replace(microsecond=0)
    document = Document.from_picture(
        picture, Analysis((Term("tabby", 0.5),), None), labels=["x"], metadata={"a": 1}
    )
    assert before <= document.indexed_at <= datetime.now(timezone.utc)
    for name in ("id", "uri", "filename", "sha256", "width", "height", "bytes", "format"):
        assert getattr(document, name) == getattr(picture, name)
    assert (document.terms, document.embedding) == ((Term("tabby", 0.5),), None)
    assert (document.labels, document.metadata) == (("x",), {"a": 1})


@pytest.mark.parametrize(("value", "stored"), [(0.5, 0.5), (0.1, 0.10000000149011612), (0, 0.0)])
def test_scores_are_float32(value, stored):
    assert to_score(value) == stored
