"""What scripts for search by deep features do is done in a few lines, with the numbers of NumPy.

Two of them: features in a CSV by chi-squared distance, and eight neighbors in a grid.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from imgsearch_es import ImageIndex
from tests.fakes import noise


@pytest.fixture
def new(tmp_path):
    """A picture that no index has."""
    noise(9).save(tmp_path / "new.png")
    return tmp_path / "new.png"


@pytest.fixture
def stored(index, photos):
    """What a script has in its hands: the names, and a row of a matrix for each."""
    names = sorted(map(str, photos.rglob("*.png")))
    return names, np.stack([index.get(name).embedding for name in names]).astype(np.float64)


def chi2_distance(a, b, eps=1e-10):
    return 0.5 * np.sum((a - b) ** 2 / (a + b + eps), axis=-1)


def cosine(a, b):
    return b @ a / (np.linalg.norm(a) * np.linalg.norm(b, axis=-1))


def test_a_folder_becomes_a_csv_and_is_searched_by_chi_squared_distance(
    fake_model, photos, cat, new, tmp_path
):
    with ImageIndex(tmp_path / "a.duckdb", model="fake") as index:
        index.add(photos)
        index.export_features(tmp_path / "features.csv")
        with (tmp_path / "features.csv").open(newline="") as file:
            _, *rows = csv.reader(file)
        names, vectors = [row[0] for row in rows], np.array([row[1:] for row in rows], np.float64)
        assert sorted(names) == sorted(map(str, photos.rglob("*.png")))

        fake_model.calls = 0
        known = index.search(image=cat, strategy="dense-chi2", k=5)
        assert fake_model.calls == 0  # the stored feature is used
        outside = index.search(image=new, strategy="dense-chi2", k=5)
        assert fake_model.calls == 1
        queries = vectors[names.index(str(cat))], index.analyze(new).embedding.astype(np.float64)
        for hits, query in zip((known, outside), queries, strict=True):
            distances = chi2_distance(query, vectors)
            best = np.argsort(distances)[:5]
            assert hits.uris == [names[i] for i in best]
            assert hits.distances == pytest.approx(distances[best], rel=1e-5, abs=1e-9)
        assert known[0].path == cat
        assert known.distances[0] == 0


def test_eight_neighbors_in_a_grid_while_pictures_come_and_go(index, cat, new, stored):
    names, vectors = stored
    distances = 1 - cosine(vectors[names.index(str(cat))], vectors)
    best = np.argsort(distances, kind="stable")[:8]
    hits = index.search(image=cat, strategy="dense-cosine", k=8)
    assert hits.uris == [names[i] for i in best]
    assert hits.distances == pytest.approx(distances[best], abs=1e-6)

    titles = [axes.get_title() for axes in hits.plot(columns=4, distances=True).axes]
    assert titles[0] == "query"
    assert [float(t) for t in titles[1:]] == pytest.approx(hits.distances, rel=0.01, abs=1e-3)
    assert [hit.score for hit in hits] == pytest.approx(1 - distances[best], abs=1e-6)

    index.add(new)
    assert index.search(image=new, strategy="dense-cosine")[0].path == new
    index.remove(new)
    assert new not in {hit.path for hit in index.search(image=new, strategy="dense-cosine", k=99)}
    out_of_stock = Path(hits.uris[1])
    index.remove(out_of_stock)
    assert out_of_stock not in {Path(u) for u in index.search(image=cat, strategy="auto").uris}
