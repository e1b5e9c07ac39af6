"""A matrix of the demo's photos, by the real classifier: a second run gives the same tables."""

from __future__ import annotations

import json

import pytest

from imgsearch_es.evaluation.sweeps import Matrix, reproduce
from imgsearch_es.pictures.demo import make_photos

pytestmark = pytest.mark.model
PLAN = """
models = "efficientnet-lite0"
top_k = [10, 50]
query_terms = 10
compare = "auto/plain/10/10"
timed = 0

[collections.demo]
pictures = "photos"
judgements = "name:{label}-*"
strategies = "auto,visual-words,dense-cosine"
measures = "P@3,AP"
"""


def test_a_second_run_gives_the_same_tables(tmp_path):
    make_photos(tmp_path / "photos")
    (tmp_path / "matrix.toml").write_text(PLAN)
    first = reproduce(Matrix.read(tmp_path / "matrix.toml"), tmp_path / "first", plots=False)
    first.write(tmp_path / "first", tmp_path / "matrix.toml")
    kept = Matrix.read(tmp_path / "first" / "manifest.json", tmp_path)
    second = reproduce(kept, tmp_path / "second", plots=False)
    assert second.differences() == []
    assert second.tables == first.tables
    assert json.dumps(second.manifest()) == json.dumps(first.manifest())
    assert first.manifests["demo"]["figures"]["efficientnet-lite0"]["dense-cosine"]["AP"] > 0.5
