"""Ways to score, by name, and what a search by each of them reads."""

from __future__ import annotations

STRATEGIES = {
    "auto": "impact, the fastest exact one",
    "impact": "the inverted index of weights, then exact rescoring until the answer is proven",
    "script": "the paper's: a script scores every picture (time grows with the collection)",
    "script-filtered": "the same script, over the pictures that share a synset with the query",
    "tfidf": "inner product of TF-IDF vectors, by the inverted index as impact",
    "cosine": "cosine of the synset vectors",
    "sqrt": "sum of square roots of products (Bhattacharyya coefficient)",
    "bm25": "BM25 with the score as term frequency; parameters k1 (1.2) and b (0.75)",
    "dense-cosine": "cosine of the deep features",
    "dense-dot": "inner product of the deep features",
    "dense-euclidean": "minus the Euclidean distance of the deep features",
    "dense-manhattan": "minus the Manhattan distance of the deep features",
    "dense-chi2": "minus the chi-squared distance of the deep features",
}
"""Ways to score. The first four all compute formula (1) and rank alike."""

_BY_INDEX = "the query's posting lists"
_SHARING = "pictures that share a synset"
_ALL_VECTORS = "every deep feature"
_OR_FEW = f"{_ALL_VECTORS}, or candidates"
COSTS = {
    "auto": _BY_INDEX,
    "impact": _BY_INDEX,
    "script": "every picture",
    "script-filtered": _SHARING,
    "tfidf": _BY_INDEX,
    "cosine": _SHARING,
    "sqrt": _SHARING,
    "bm25": _SHARING,
    "dense-cosine": _OR_FEW,
    "dense-dot": _OR_FEW,
    "dense-euclidean": _OR_FEW,
    "dense-manhattan": _ALL_VECTORS,
    "dense-chi2": _ALL_VECTORS,
}
"""What a search by each of STRATEGIES reads on Elasticsearch. The embedded store reads the query's
posting lists, or every deep feature."""

MAX_RESULTS = 10_000
"""offset + k may not exceed this: Elasticsearch's index.max_result_window."""
