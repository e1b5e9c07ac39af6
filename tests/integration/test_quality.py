"""What the real classifier finds: on scikit-image's photos, and on dogs and cats where they are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imgsearch_es import ImageIndex, Judgements, evaluate
from imgsearch_es.evaluation import Topic
from imgsearch_es.pictures.demo import make_photos
from imgsearch_es.retrieval.queries import Query
from tests.conformance.reference import Reference

pytestmark = [pytest.mark.model, pytest.mark.node]

ROOT = Path(__file__).resolve().parents[2]
PETS = Path(os.environ.get("IMGSEARCH_TEST_DATA", ROOT.parent / "shared" / "data")) / "dogs-vs-cats"
"""150 photos cat.N.jpg and 150 dog.N.jpg of Kaggle's dogs-vs-cats, which are not ours to ship."""
SYSTEMS = "auto,sqrt,dense-cosine"


@pytest.fixture
def make_indexes(
    tmp_path: Path, elasticsearch_url: str, fresh_index_name: str
) -> Iterator[Callable[[Path], tuple[ImageIndex, ImageIndex]]]:
    """Indexes photos in a file, and copies the documents to Elasticsearch."""
    ours, file = ImageIndex(tmp_path / "a.duckdb", model="efficientnet-lite0"), tmp_path / "a.jsonl"
    theirs = ImageIndex(f"{elasticsearch_url}/{fresh_index_name}", model="efficientnet-lite0")

    def make(photos: Path) -> tuple[ImageIndex, ImageIndex]:
        assert ours.add(photos).rejected == []
        documents = ours.export(file).documents
        assert theirs.import_(file).added == documents
        return ours, theirs

    with ours, theirs:
        yield make


def test_variants_of_a_photo_find_each_other(make_indexes, tmp_path):
    photos = make_photos(tmp_path / "photos")
    index, same = make_indexes(photos)
    for query in ("chelsea.jpg", "coffee.jpg", "rocket.jpg", "astronaut.jpg", "camera.jpg"):
        stem = query.partition(".")[0]
        found = [hit.filename for hit in index.search(photos / query, k=4)]
        assert sum(name.startswith(stem) for name in found) >= 3, found
    assert index.search(text="cat")[0].filename.startswith("chelsea")
    assert index.search(text="espresso")[0].filename.startswith("coffee")
    for query in sorted(photos.iterdir()):
        ours, theirs = index.search(query), same.search(query)
        assert [(hit.id, hit.score) for hit in ours] == [(hit.id, hit.score) for hit in theirs]


@pytest.mark.skipif(not PETS.is_dir(), reason="dogs-vs-cats is not here")
def test_dogs_and_cats(make_indexes):
    """Leave one out, on both stores: by picture against NumPy, and by word."""
    rankings = []
    for index, systems in zip(make_indexes(PETS), (SYSTEMS, "auto"), strict=True):
        found = evaluate(index, "name:{label}.{number}.jpg", systems, "P@10,AP")
        assert found.mean("auto", "P@10").mean >= 0.93
        if systems == SYSTEMS:
            assert found.mean("sqrt", "P@10").mean >= found.mean("auto", "P@10").mean
            assert found.mean("dense-cosine", "P@10").mean >= 0.96
        run = found.runs["auto"].renamed(found.collection.name)
        rankings.append({name: run.documents(name)[:10] for name in run.rankings})
        pictures = {item.id: item.name for item in found.collection.items}
        words = Judgements.from_groups({key: [name[:3]] for key, name in pictures.items()})
        grades = {name[:3]: words.grades[key] for key, name in pictures.items()}
        by_word = evaluate(
            index,
            Judgements(grades),
            measures="Rprec",
            queries={word: Topic(text=word) for word in grades},
        ).scores["auto"]
        assert by_word.of("dog")["Rprec"] >= 0.93
        assert by_word.of("cat")["Rprec"] >= 0.97
        golden = index.search(text="golden retriever")
        assert [hit.synsets[0].key for hit in golden[:3]] == ["golden_retriever"] * 3
    assert rankings == [_by_numpy(index, sorted(pictures.values()))] * 2


def _by_numpy(index: ImageIndex, names: list[str]) -> dict[str, list[str]]:
    documents = {document.id: document for document in map(index.get, map(PETS.joinpath, names))}
    reference = Reference(documents.values(), index.vocabulary.keys)
    ranked = {
        document.filename: reference.rank(Query(document.terms[:10], exclude=(document.id,), k=10))[
            0
        ]
        for document in documents.values()
    }
    return {name: [documents[key].filename for _, key in found] for name, found in ranked.items()}
