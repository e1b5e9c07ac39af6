"""Files of features: from one store to the other and back, and ranked alike."""

from __future__ import annotations

import numpy as np
import pytest

from imgsearch_es import ImageIndex
from imgsearch_es.pictures.files import picture_id
from imgsearch_es.retrieval.dense import COMPARISONS

pytestmark = pytest.mark.scripts

VECTORS = np.random.default_rng(4).random((150, 12), dtype=np.float32)


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
        near = first.search(vector=VECTORS[7], threshold=0.8, k=1000)
        assert len(near) == (COMPARISONS["dense-cosine"].scores(VECTORS[7], VECTORS) >= 0.8).sum()
        few = first.search(image=names[7], text="filename:7?.jpg", threshold=0.5)
        assert {hit.filename for hit in few} <= {f"7{i}.jpg" for i in range(10)} != set()
        assert first.remove(names[7]) == 1
        assert first.search(vector=VECTORS[7])[0].uri != names[7]
