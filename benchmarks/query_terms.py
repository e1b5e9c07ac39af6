"""What taught words in a query picture bring: by none, by those of a least score, or by all.

    python benchmarks/query_terms.py --images coco-sample --seeds 10

The folder has a table, labels.tsv, of the objects in each photo. Half of the photos teach all words
that at least two of them show; each of the others is a query to the rest, ranked by formula (1), to
which photos with an object in common are relevant. The intervals are over query photos.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
from teach import average_precision, labels

from imgsearch_es import ImageIndex
from imgsearch_es.analysis.terms import TaughtWord
from imgsearch_es.search.teaching import learn

LEAST = {"none": 2.0, "0.5": 0.5, "0.1": 0.1, "0.05": 0.05, "all": 0.0}
"""The least score of a taught word that a query asks with, by the names of the rows."""


def main() -> None:
    """Measure, and print a row for each least score."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--model", default="efficientnet-lite0")
    parser.add_argument("--words", help="teach only these, with commas")
    parser.add_argument("--without", default="", help="objects that do not count, with commas")
    parser.add_argument("--seeds", type=int, default=10)
    given = parser.parse_args()
    objects = labels(given.images)
    with (
        tempfile.TemporaryDirectory() as folder,
        ImageIndex(f"{folder}/x.duckdb", model=given.model) as index,
    ):
        index.add(given.images, progress=False)
        documents = sorted(index.store.documents(), key=lambda d: d.filename)
        column = {key: i for i, key in enumerate(index.vocabulary.keys)}
        asking = index.store.settings().asking(documents)
    without = set(given.without.split(","))
    shown = [objects[d.filename] - without for d in documents]
    words = sorted(given.words.split(",") if given.words else set().union(*shown))
    features = np.stack([d.embedding for d in documents])
    own, asked = np.zeros((2, len(documents), len(column)))
    for matrix, of in ((own, documents), (asked, asking)):
        for row, document in zip(matrix, of, strict=True):
            row[[column[term.key] for term in document.terms]] = [t.score for t in document.terms]
    found: dict[str, dict[int, list[float]]] = {name: defaultdict(list) for name in LEAST}
    for seed in range(given.seeds):
        order = np.random.default_rng(seed).permutation(len(documents))
        teaching, ranked = order[: len(order) // 2], order[len(order) // 2 :]
        taught = taught_scores(features, shown, words, teaching)
        for name, least in LEAST.items():
            weights = np.where(taught >= least, taught, 0)
            for query in ranked:
                others = ranked[ranked != query]
                relevant = np.array([bool(shown[query] & shown[other]) for other in others])
                if relevant.any():
                    scores = own[others] @ asked[query] + taught[others] @ weights[query]
                    found[name][query].append(average_precision(scores, relevant))
    base = {query: np.mean(each) for query, each in found["none"].items()}
    for name, by_query in found.items():
        gains = np.array([np.mean(each) - base[query] for query, each in by_query.items()])
        mean = np.mean([value for each in by_query.values() for value in each])
        half = 1.96 * gains.std(ddof=1) / np.sqrt(len(gains))
        print(f"{name:>5}  mean AP {mean:.3f}  gain {gains.mean():+.3f} ± {half:.3f}")


def taught_scores(
    features: np.ndarray, shown: list[set[str]], words: list[str], teaching: np.ndarray
) -> np.ndarray:
    """Scores of the words that can be taught by these photos, of shape (photos, words)."""
    columns = [np.zeros(len(features))]
    for word in words:
        like = [i for i in teaching if word in shown[i]]
        if len(like) >= 2:
            learnt = learn(features[like], np.delete(features, like, axis=0), features[:0])
            known = TaughtWord(word, word, 0, learnt.weights, learnt.bias, ())
            columns.append(known.scores(features))
    return np.stack(columns, axis=1).astype(float)


if __name__ == "__main__":
    main()
