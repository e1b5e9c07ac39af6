"""Duplicates: both stores give every picture's fingerprint, and the same groups."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from imgsearch_es import ImageIndex
from imgsearch_es.retrieval.duplicates import find_groups
from tests.conformance.collections import DIMENSIONS, posteriors
from tests.conformance.conftest import filled


def _documents():
    """Directions in clusters; some with the same bytes, some zero, some without a feature."""
    random = np.random.default_rng(2)
    centers = random.normal(size=(40, DIMENSIONS))
    made = []
    for number, document in enumerate(posteriors(600, seed=9)):
        noise = random.normal(size=DIMENSIONS) * 0.15
        vector = ((centers[number % 40] + noise) * random.uniform(0.1, 30)).astype(np.float32)
        if number % 60 == 9:
            vector = np.zeros(DIMENSIONS, np.float32)
        same = f"{number // 3:064x}" if number % 200 < 6 else document.sha256
        made.append(replace(document, sha256=same, embedding=None if number % 60 == 7 else vector))
    return made


def groups(documents, threshold: float | None) -> list[list[str]]:
    """Connected components of the whole matrix, by flooding."""
    shas = np.array([d.sha256 for d in documents])
    linked = shas[:, None] == shas[None, :]
    if threshold is not None:
        vectors = np.array(
            [np.zeros(DIMENSIONS) if d.embedding is None else d.embedding for d in documents], float
        )
        norms = np.linalg.norm(vectors, axis=1)
        with np.errstate(invalid="ignore"):
            cosines = np.nan_to_num(vectors @ vectors.T / np.outer(norms, norms))
        linked |= cosines.astype(np.float32) >= np.float32(threshold)
    waiting, found = set(range(len(documents))), []
    while waiting:
        group, edge = set(), {waiting.pop()}
        while edge:
            group |= edge
            edge = set(np.flatnonzero(linked[sorted(edge)].any(axis=0)).tolist()) - group
        waiting -= group
        if len(group) > 1:
            found.append(sorted(documents[i].id for i in group))
    return sorted(found)


def test_fingerprints_and_groups(place):
    documents = _documents()
    by_id = {d.id: d for d in documents}
    with filled(place(), documents) as store:
        found = list(store.fingerprints(embeddings=True))
        assert sorted(item.id for item in found) == sorted(by_id)
        for item in found:
            document = by_id[item.id]
            assert item.sha256 == document.sha256
            if document.embedding is None:
                assert item.embedding is None
            else:
                np.testing.assert_array_equal(item.embedding, document.embedding)
        for threshold in (0.8, 0.95, 0.99):
            expected = groups(documents, threshold)
            assert expected
            assert find_groups(found, threshold) == expected
        bare = list(store.fingerprints(embeddings=False))
        assert all(item.embedding is None for item in bare)
        assert find_groups(bare) == groups(documents, None) != []
        with ImageIndex(store.location) as index:
            for near, threshold in ((None, None), (True, 0.95), (0.99, 0.99)):
                shown = [group.pictures for group in index.duplicates(near)]
                ids = sorted(sorted(picture.id for picture in group) for group in shown)
                assert ids == groups(documents, threshold)
                assert shown == sorted(shown, key=len, reverse=True)
            assert all(group.exact for group in index.duplicates())
