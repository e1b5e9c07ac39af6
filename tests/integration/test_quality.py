"""What the real classifier finds: on scikit-image's photos, and on dogs and cats where they are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
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


@pytest.fixture(scope="module")
def make_index(
    tmp_path_factory: pytest.TempPathFactory, elasticsearch_url: str
) -> Iterator[Callable[[str, Path], ImageIndex]]:
    made: list[ImageIndex] = []

    def make(kind: str, photos: Path) -> ImageIndex:
        name = f"quality-{os.getpid()}-{len(made)}"
        embedded = str(tmp_path_factory.mktemp("quality") / "photos.duckdb")
        location = embedded if kind == "embedded" else f"{elasticsearch_url}/{name}"
        made.append(ImageIndex(location, model="efficientnet-lite0"))
        report = made[-1].add(photos)
        assert report.rejected == []
        return made[-1]

    yield make
    for index in made:
        if index.location.startswith("http"):
            client = index.store.client  # type: ignore[attr-defined]
            client.indices.delete(index=index.location.rpartition("/")[2] + "-000001")
        index.close()


def test_variants_of_a_photo_find_each_other(make_index, tmp_path):
    photos = make_photos(tmp_path / "photos")
    index = make_index("embedded", photos)
    for query in ("chelsea.jpg", "coffee.jpg", "rocket.jpg", "astronaut.jpg", "camera.jpg"):
        stem = query.partition(".")[0]
        found = [hit.filename for hit in index.search(photos / query, k=4)]
        assert sum(name.startswith(stem) for name in found) >= 3, found
    assert index.search(text="cat")[0].filename.startswith("chelsea")
    assert index.search(text="espresso")[0].filename.startswith("coffee")
    same = make_index("elasticsearch", photos)
    for query in sorted(photos.iterdir()):
        ours, theirs = index.search(query), same.search(query)
        assert [hit.id for hit in ours] == [hit.id for hit in theirs]
        assert [hit.score for hit in ours] == pytest.approx([hit.score for hit in theirs], rel=1e-4)


@pytest.mark.skipif(not PETS.is_dir(), reason="dogs-vs-cats is not here")
def test_dogs_and_cats(make_index):
    """Leave one out, on both stores: by picture against NumPy, and by word."""
    rankings = {}
    for kind in ("embedded", "elasticsearch"):
        index = make_index(kind, PETS)
        found = evaluate(index, "name:{label}.{number}.jpg", SYSTEMS, "P@10,AP")
        assert found.mean("auto", "P@10").mean >= 0.93
        assert found.mean("sqrt", "P@10").mean >= found.mean("auto", "P@10").mean
        assert found.mean("dense-cosine", "P@10").mean >= 0.96
        run = found.runs["auto"].renamed(found.collection.name)
        rankings[kind] = {name: run.documents(name)[:10] for name in run.rankings}
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
        if kind == "embedded":
            numpy_ranking = _by_numpy(index, sorted(pictures.values()))
    agree = [rankings["embedded"][n] == rankings["elasticsearch"][n] for n in numpy_ranking]
    assert np.mean(agree) > 0.98  # the classifier ran twice, in batches of its own
    assert numpy_ranking == rankings["embedded"]


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
