"""The field's engines for sparse vectors, in memory, as contenders: quantized, pruned, or both.

Each is asked for ten hits by one thread, and answers with numbers of pictures and its own scores.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from needs import needs
from posteriors import COLUMNS, Collection

from imgsearch_es.retrieval.queries import Query

with needs("benchmark"):
    import bmp
    import seismic
    from pyterrier_pisa import PisaIndex, _pisathon

K = 10
QUANTA = 255
"""Steps of a score that is a whole number; a score is 1 at most."""
Found = list[tuple[int, float]]


class Engine(NamedTuple):
    """How to ask it, and what it took: seconds to build, and bytes of its files."""

    ask: Callable[[Query], Found]
    seconds: float
    size: int


def whole(collection: Collection) -> Any:
    """By picture, whole numbers of its terms."""
    scores = (collection.scores * QUANTA).astype(int)
    for classes, numbers in zip(collection.classes.tolist(), scores.tolist(), strict=True):
        yield {str(c): n for c, n in zip(classes, numbers, strict=True) if n}


def weights(query: Query) -> dict[str, float]:
    return {str(COLUMNS[term.key]): term.score for term in query.terms}


def block_max_pruning(collection: Collection, folder: Path) -> Engine:
    """BMP: scores of 8 bits in blocks of 32 pictures with their maxima; exact but for the bits."""
    started, path = time.perf_counter(), folder / "index.bmp"
    indexer = bmp.Indexer(str(path), bsize=32, compress_range=False)
    for number, vector in enumerate(whole(collection)):
        indexer.add_document(str(number), vector)
    indexer.finish()
    searcher = bmp.Searcher(str(path))

    def ask(query: Query) -> Found:
        numbers, scores = searcher.search(weights(query), k=K, alpha=1.0, beta=1.0)
        return list(zip(map(int, numbers), scores, strict=True))

    return Engine(ask, time.perf_counter() - started, path.stat().st_size)


def clusters(collection: Collection, folder: Path) -> Engine:
    """Seismic: scores of 16 bits; long lists are cut, and clusters of them passed over."""
    started, count = time.perf_counter(), len(collection.classes)
    order = np.argsort(collection.classes, axis=1)
    classes = np.take_along_axis(collection.classes, order, 1).astype(np.int64)
    data = seismic.SeismicDataset()
    data.add_documents_by_id(
        [str(number) for number in range(count)],
        classes.ravel(),
        np.take_along_axis(collection.scores, order, 1).ravel(),
        np.arange(0, classes.size + 1, classes.shape[1]),
    )
    index = seismic.SeismicIndex.build_from_dataset(data, num_threads=1)
    seconds = time.perf_counter() - started
    index.save(str(folder / "seismic"))
    kind = seismic.get_seismic_string()

    def ask(query: Query) -> Found:
        asked = weights(query)
        found = index.search(
            "", np.array(list(asked), kind), np.array(list(asked.values()), np.float32),
            k=K, query_cut=len(asked), heap_factor=0.8,
        )  # fmt: skip
        return [(int(number), score) for _, score, number in found]

    return Engine(ask, seconds, sum(path.stat().st_size for path in folder.glob("seismic*")))


def pisa(collection: Collection, folder: Path) -> Engine:
    """PISA: scores of 8 bits, compressed lists by block-max WAND; exact but for the bits."""
    started = time.perf_counter()
    index = PisaIndex(str(folder / "pisa"), stemmer="none", threads=1)
    vectors = enumerate(whole(collection))
    documents = ({"docno": str(number), "toks": vector} for number, vector in vectors)
    index.toks_indexer(scale=1).index(documents)
    ready = index.quantized(num_results=K, threads=1)
    numbers, ranks = np.empty(K, np.int32), np.empty(K, np.int32)
    names, scores = np.empty(K, object), np.empty(K, np.float32)

    def ask(query: Query) -> Found:
        asked = {key: weight * QUANTA for key, weight in weights(query).items()}
        count = _pisathon.retrieve(  # what is around it makes a table of pandas of each query
            ready._ctxt, ready.query_algorithm.value, [(0, asked)], k=K, threads=1,
            query_weighted=1, pretokenised=True, result_qidxs=numbers, result_docnos=names,
            result_ranks=ranks, result_scores=scores,
        )  # fmt: skip
        return list(zip(map(int, names[:count]), scores[:count].tolist(), strict=True))

    size = sum(path.stat().st_size for path in (folder / "pisa").iterdir())
    return Engine(ask, time.perf_counter() - started, size)


ENGINES = {"BMP": block_max_pruning, "Seismic": clusters, "PISA": pisa}
