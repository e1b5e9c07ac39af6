"""From store to file to store: nothing is lost or changed, whatever the documents hold."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from imgsearch_es import ImageIndex
from imgsearch_es.errors import AnalyzerMismatchError
from imgsearch_es.indexing.exchange.documents import export_documents, import_documents
from imgsearch_es.pictures.files import picture_id
from imgsearch_es.retrieval.conditions import parse_filters
from imgsearch_es.retrieval.dense import COMPARISONS
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.stores import open_store
from tests.conformance.collections import document, extremes, posteriors
from tests.conformance.conftest import SETTINGS, filled
from tests.conformance.test_store import same


def awkward() -> list[Document]:
    """File names that are no UTF-8, empty labels, odd metadata, no deep feature."""
    uri = "file:///photos/caf%E9%FF.jpg"
    odd = replace(
        document("odd.jpg", [("tabby", 0.1), ("beagle", 1e-30)]),
        id=picture_id(uri),
        uri=uri,
        labels=("", "two\nlines", 'a "quoted" one', "\u202e😀"),
        metadata={"a": {"b": [1, 2.5, None, {"c": [True, "x"]}], "d.e": ""}, "": "empty"},
        embedding=np.array([1e-45, -3.4e18, 0.1, 1 / 3, 0, -0.0, 1e10, 7], dtype=np.float32),
    )
    return [odd, replace(document("plain.jpg", []), embedding=None, labels=())]


def test_round_trip(place, tmp_path):
    round_trip(place(), tmp_path, "a.parquet")


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_round_trip_by_lines(tmp_path, name):
    """The documents that a file takes and gives are the same for both stores."""
    round_trip(str(tmp_path / "second.duckdb"), tmp_path, name)


def round_trip(location: str, tmp_path: Path, name: str) -> None:
    documents = posteriors(520) + extremes() + awkward()
    by_id = {item.id: item for item in documents}
    with filled(str(tmp_path / "first.duckdb"), documents) as first:
        report = export_documents(first, tmp_path / name)
        assert (report.documents, report.without_picture) == (len(documents), [])
    second = open_store(location)
    report = import_documents(second, tmp_path / name)
    assert (report.rows, report.added) == (len(documents), len(documents))
    assert second.settings() == SETTINGS
    assert export_documents(second, tmp_path / f"again-{name}").documents == len(documents)
    pets = parse_filters({"label": "pets"})
    some = export_documents(second, tmp_path / "some.jsonl", filters=pets)
    assert some.documents == sum("pets" in item.labels for item in documents)
    third = open_store(str(tmp_path / "third.duckdb"))
    assert import_documents(third, tmp_path / f"again-{name}").added == len(documents)
    found = list(third.documents())
    assert len(found) == len(documents)
    assert all(same(item, by_id[item.id]) for item in found)
    again = import_documents(second, tmp_path / name)
    assert (again.added, again.updated, again.rejected) == (0, len(documents), 0)
    second.close()


def test_an_index_of_another_analyzer_refuses(tmp_path):
    with filled(str(tmp_path / "a.duckdb"), posteriors(5)) as store:
        export_documents(store, tmp_path / "a.jsonl")
    for other in (
        replace(SETTINGS, weights="sha256:other"),
        replace(SETTINGS, analyzer={**SETTINGS.analyzer, "model": {"name": "other"}}),
        replace(SETTINGS, embedding_dimensions=9),
        replace(SETTINGS, vocabulary=SETTINGS.vocabulary.with_hypernyms()),
    ):
        with filled(str(tmp_path / f"{uuid.uuid4()}.duckdb"), [], other) as target:
            with pytest.raises(AnalyzerMismatchError, match="new index"):
                import_documents(target, tmp_path / "a.jsonl")
            assert target.count() == 0


VECTORS = np.random.default_rng(4).random((150, 12), dtype=np.float32)


@pytest.mark.scripts
@pytest.mark.parametrize("kind", ["pair", "f.h5"])
def test_features_from_nowhere(place, tmp_path, kind):
    (tmp_path / "given").mkdir()
    names = [f"/photos/{i}.jpg" for i in range(len(VECTORS))]
    np.save(tmp_path / "given" / "filenames.npy", np.array(names))
    np.save(tmp_path / "given" / "vectors.npy", VECTORS)
    with ImageIndex(place()) as first, ImageIndex(str(tmp_path / "b.duckdb")) as second:
        assert first.import_features(tmp_path / "given").added == len(names)
        assert first.export_features(tmp_path / kind).features == len(names)
        assert second.import_features(tmp_path / kind).added == len(names)
        for strategy, comparison in COMPARISONS.items():
            scores = comparison.scores(VECTORS[7], VECTORS).astype(np.float32)
            best = sorted(range(len(names)), key=lambda i: (-scores[i], picture_id(names[i])))
            wanted = [(names[i], float(scores[i])) for i in best[:10]]
            by_path = first.search(image=names[7], strategy=strategy)
            by_vector = second.search(vector=VECTORS[7], strategy=strategy)
            by_id = first.search(image=picture_id(names[7]), strategy=strategy)
            for hits in (by_path, by_id, by_vector):
                assert [(hit.uri, hit.score) for hit in hits] == wanted
            if strategy != "dense-dot":
                nearest = [(strategy == "dense-cosine") - scores[i] for i in best[:10]]
                assert by_path.distances == pytest.approx(nearest, abs=1e-6)
        near = first.search(vector=VECTORS[7], min_score=0.8, k=1000)
        assert len(near) == (COMPARISONS["dense-cosine"].scores(VECTORS[7], VECTORS) >= 0.8).sum()
        few = first.search(image=names[7], text="filename:7?.jpg", min_score=0.5)
        assert {hit.filename for hit in few} <= {f"7{i}.jpg" for i in range(10)} != set()
        assert first.remove(names[7]) == 1
        assert first.search(vector=VECTORS[7])[0].uri != names[7]


def test_features_leave_what_is_said_meanwhile(place, tmp_path, monkeypatch):
    with filled(place(), awkward()) as store, ImageIndex(store.location) as index:
        index.export_features(tmp_path / "f.parquet")
        key, known = awkward()[0].id, index.store.known

        def then_say(ids):
            found = known(ids)
            monkeypatch.setattr(index.store, "known", known)
            index.update(key, labels="mine", metadata={"year": 2026})
            return found

        monkeypatch.setattr(index.store, "known", then_say)
        assert index.import_features(tmp_path / "f.parquet").updated == 1
        assert index.get(key).metadata == {"year": 2026}
