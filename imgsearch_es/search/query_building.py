"""From what a person searches for to a query: pictures, words and conditions become one vector."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis.analyzer import Analyzer
from imgsearch_es.errors import QueryError
from imgsearch_es.retrieval.conditions import parse_filters
from imgsearch_es.retrieval.dense import COMPARISONS
from imgsearch_es.retrieval.feedback import features, mean_embedding, mean_terms
from imgsearch_es.retrieval.fusion import Part, to_fusion
from imgsearch_es.retrieval.language import parse_words
from imgsearch_es.retrieval.queries import Query, fused_terms, synset_vector, to_candidates
from imgsearch_es.search.query_pictures import PictureReader, ids_of, region_text, several
from imgsearch_es.search.request import SearchRequest, VectorLike
from imgsearch_es.stores.base import Store, known_settings
from imgsearch_es.vocabulary.synsets import Vocabulary


class QueryBuilder:
    """Builds queries for an index.

    Args:
        store: the index, which may know a picture of the query already.
        analyzer: gives the analyzer; called only when a picture has to be analyzed.
        vocabulary: of the index.
        reader: of the queries' pictures; by default one that remembers nothing.
    """

    def __init__(
        self,
        store: Store,
        analyzer: Callable[[], Analyzer],
        vocabulary: Vocabulary,
        reader: PictureReader | None = None,
    ) -> None:
        self._store = store
        self._reader = reader or PictureReader(store, analyzer)
        self._vocabulary = vocabulary

    def build(self, request: SearchRequest) -> Query:
        """The query of a request.

        Raises:
            QueryError: the query cannot be understood.
        """
        images, text = several(request.image), request.text
        good, bad = several(request.like), several(request.dislike)
        region, views, rocchio = request.region, request.views, request.rocchio
        if not images and not good and text is None and request.vector is None:
            also = "; dislike= only moves what they ask for" if bad else ""
            raise QueryError(f"what to search for? Give image=, text=, like= or several{also}")
        given = None if request.vector is None else to_vector(request.vector)
        if region is not None and len(images) != 1:
            raise QueryError(f"a region is of one picture: image= has {len(images)}")
        if views and not images:
            raise QueryError("views are of the pictures of image=: there are none")
        words = parse_words(text, self._vocabulary) if text is not None else None
        by_words = words is not None and bool(words.terms or words.must or words.must_not)
        strategy = self._possible(request, given, words=by_words)
        seen = self._reader.read(images, region, views)
        liked, disliked = self._reader.read(good), self._reader.read(bad)
        pictures = [*seen, *liked, *disliked]
        fusion = to_fusion(request.fuse)
        if words is not None and words.terms and strategy in COMPARISONS:
            raise QueryError(f"{strategy} compares pictures: words have no deep feature")
        embedding = None
        by_feature = strategy in COMPARISONS or (fusion is not None and fusion.has_features)
        if by_feature and (seen or liked or given is not None):
            vectors = features(seen) + ([] if given is None else [given])
            own = mean_embedding(vectors) if vectors else None
            embedding = rocchio.embedding(own, features(liked), features(disliked))
        named = words.terms if words else ()
        judged = [e.terms for e in liked], [e.terms for e in disliked]
        own_terms = mean_terms([e.terms for e in seen])
        terms = rocchio.terms(synset_vector(own_terms, named), *judged)
        parts: tuple[Part, ...] = ()
        if fusion is not None:
            parts = fusion.parts(rocchio.terms(own_terms, *judged), named, terms)
            terms = fused_terms(parts)
        filters = parse_filters(request.where, self._vocabulary)
        query = Query(
            terms=terms,
            must=words.must if words else (),
            must_not=words.must_not if words else (),
            filters=(words.filters if words else ()) + filters,
            exclude=ids_of(pictures) if request.exclude_self else (),
            k=request.k,
            offset=request.offset,
            strategy=strategy,
            parameters=dict(request.parameters or {}),
            text=words.text if words else None,
            embedding=embedding,
            threshold=request.threshold,
            candidates=to_candidates(request.approximate, request.candidates),
            pictures=tuple(example.shown for example in pictures),
            roles=("image",) * len(seen) + ("like",) * len(liked) + ("dislike",) * len(disliked),
            part=region_text(region, seen)
            or ("a vector" if given is not None and not seen else ""),
            hints=words.hints if words else (),
            fusion=fusion,
            parts=parts,
        )
        return self._expanded(query, request) if request.feedback else query

    def _possible(
        self, request: SearchRequest, vector: NDArray[np.float32] | None, *, words: bool
    ) -> str:
        """The strategy; "auto" is "dense-cosine" where there are only deep features to compare."""
        strategy, fuse = request.strategy, request.fuse
        if known_settings(self._store).has_model:
            if vector is not None and strategy not in COMPARISONS and fuse is None:
                raise QueryError("vector= is a deep feature: compare it with a strategy dense-*")
            return strategy
        if strategy == "auto" and not words and fuse is None:
            return "dense-cosine"
        if words or fuse is not None or strategy not in COMPARISONS:
            raise QueryError(
                f"{self._store.location} was made from a file of features, and its pictures have "
                "no synsets: search by a picture that it has or by vector=, with a strategy dense-*"
            )
        return strategy

    def _expanded(self, query: Query, request: SearchRequest) -> Query:
        """The query moved towards its own best hits."""
        feedback, rocchio = request.feedback, request.rocchio
        if feedback < 1:
            raise QueryError(f"feedback is a number of hits, not {feedback}")
        if query.fusion is not None:
            raise QueryError("feedback moves one vector, and a fusion has several: leave out one")
        first = self._store.search(replace(query, k=feedback, offset=0)).hits
        best = [scored.document for scored in first]
        if query.is_dense:  # hits come without their deep features
            stored = self._store.get([document.id for document in best])
            best = [stored[document.id] for document in best if document.id in stored]
        return replace(rocchio.expand(query, best), feedback=feedback)


def to_vector(vector: VectorLike) -> NDArray[np.float32]:
    """A deep feature that a person gives.

    Raises:
        QueryError: it is no row of finite numbers; its length is compared with the index's later.
    """
    try:
        with np.errstate(over="ignore"):
            found = np.asarray(vector).astype(np.float32, casting="same_kind")
    except (TypeError, ValueError) as error:
        raise QueryError(f"a vector is a row of numbers: {error}") from error
    if found.ndim != 1 or not found.size:
        raise QueryError(f"a vector is a row of numbers, not shape {found.shape}")
    if not np.isfinite(found).all():
        raise QueryError("a vector is a row of finite numbers; one of these is not, as float32")
    return found
