"""From what a person searches for to a query: pictures, words and conditions become one vector."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.analysis.models import reads_texts
from imgsearch_es.errors import QueryError, UnknownWordError
from imgsearch_es.pictures.files import filename, in_memory, picture_id
from imgsearch_es.retrieval.conditions import METADATA, OCR, ON_MAPS, Filter, shown_value
from imgsearch_es.retrieval.facets import Facets, check_facets
from imgsearch_es.retrieval.feedback import Example, Rocchio, features, mean_embedding, mean_terms
from imgsearch_es.retrieval.language import Words, free_text, parse_words, to_filters
from imgsearch_es.retrieval.queries import (
    MAX_COSTLY,
    Query,
    Selection,
    fused_terms,
    synset_vector,
    to_candidates,
)
from imgsearch_es.retrieval.spans import searched
from imgsearch_es.retrieval.strategies import DENSE, Part, to_fusion
from imgsearch_es.retrieval.traces import TRACE, unknown_word
from imgsearch_es.search.query_pictures import PictureReader, several
from imgsearch_es.search.request import SearchRequest, VectorLike
from imgsearch_es.stores.base import Store, known_settings
from imgsearch_es.vocabulary.colors import is_color
from imgsearch_es.vocabulary.synsets import Vocabulary

LISTED_BY = "taken_at"
"""What conditions alone are sorted by: the newest first."""
_KINDS: tuple[tuple[str, Any, str], ...] = (
    ("strategy", str, "one name, such as 'cosine'"),
    ("parameters", Mapping, "a dictionary, such as {'k1': 1.2}"),
    ("min_score", int | float | np.number, "a number"),
    ("candidates", int | np.integer, "a whole number"),
    ("feedback", int | np.integer, "a number of hits"),
    ("rocchio", Rocchio, "a Rocchio, such as Rocchio(1, 0.75, 0.15)"),
    ("sort", str, "the name of a field, such as 'taken_at'"),
)
_LOOKED_FOR = 8
"""Words left out that are looked for in texts."""
_BEST = 10
"""Scores by which pictures and words are made equal (docs/benchmarks.md)."""


@dataclass(frozen=True, slots=True)
class QueryBuilder:
    """Builds queries for an index."""

    store: Store
    vocabulary: Vocabulary
    reader: PictureReader

    def build(self, request: SearchRequest) -> Query:
        """The query of a request."""
        images = several(request.image)
        good, bad = several(request.like), several(request.dislike)
        given = [] if request.vector is None else [to_vector(request.vector)]
        _check(request, len(images), len(good), len(bad))
        words = self._words(request)
        if self._reads_text(request) and words.text:
            given.append(self.reader.text_feature(words.text))
        sort = _sort(request, words)
        strategy = request.strategy if sort is not None else self._possible(request, words)
        seen = self.reader.read(images, request.region, request.views)
        liked, disliked = self.reader.read(good), self.reader.read(bad)
        pictures = [*seen, *liked, *disliked]
        fusion, rocchio = to_fusion(request.fuse), request.rocchio
        embedding = None
        by_feature = strategy in DENSE or (fusion is not None and fusion.has_features)
        if by_feature and (seen or liked or given):
            vectors = features(seen) + given
            mean = mean_embedding(vectors) if vectors else None
            embedding = rocchio.embedding(mean, features(liked), features(disliked))
        judged = [e.terms for e in liked], [e.terms for e in disliked]
        own_terms = mean_terms([e.terms for e in seen])
        filters = words.signs + words.filters + to_filters(request.where, self.vocabulary)
        beside = seen if request.exclude_self is None and words.terms else []
        own = [picture_id(e.uri) for e in (pictures if request.exclude_self else beside)]
        selected = Selection(filters=filters, exclude=tuple(dict.fromkeys(own)))
        words = replace(words, terms=self._with_colors(words.terms, selected))
        if fusion is None and strategy not in DENSE:
            words = replace(words, terms=self._with_equal_say(own_terms, words.terms, selected))
        terms = rocchio.terms(synset_vector(own_terms, words.terms), *judged)
        parts: tuple[Part, ...] = ()
        if fusion is not None:
            parts = fusion.parts(rocchio.terms(own_terms, *judged), words.terms, terms)
            terms = fused_terms(parts)
        query = Query(
            terms=terms,
            filters=selected.filters,
            exclude=selected.exclude,
            k=request.k,
            offset=request.offset,
            strategy=strategy,
            parameters=dict(request.parameters or {}),
            text=words.text,
            embedding=embedding,
            min_score=request.min_score,
            candidates=to_candidates(request.approximate, request.candidates),
            visual_words=known_settings(self.store).visual_words,
            pictures=tuple(example.shown for example in pictures),
            roles=("image",) * len(seen) + ("like",) * len(liked) + ("dislike",) * len(disliked),
            part=_part(request, seen),
            hints=words.hints,
            left_out=words.left_out,
            fusion=fusion,
            parts=parts,
            sort=sort,
            counts=_counts(request, words, selected.filters),
        )
        return self._expanded(query, request) if request.feedback else query

    def _with_equal_say(
        self, pictures: Sequence[Term], words: tuple[Term, ...], selected: Selection
    ) -> tuple[Term, ...]:
        """The words' synsets beside pictures: their best scores are made as high as those of these.

        A general word has many synsets of weight 1, beside which a picture would say nothing. The
        ten best scores of each part are compared by formula (1), among what meets the conditions.
        """
        if not pictures or not words:
            return words
        one, other = self._best_scores(pictures, words, selected)
        return _times(words, np.mean(one) / np.mean(other)) if one and other else words

    def _with_colors(self, words: tuple[Term, ...], selected: Selection) -> tuple[Term, ...]:
        """Synsets and colors that words name: colors get as much say, times their boosts.

        Their ten best scores, among what has more than a trace of the synsets, get the same sum:
        the fewer pictures have the color, the more it says of one that it does.
        """
        colors = tuple(term for term in words if is_color(term.key))
        synsets = tuple(term for term in words if not is_color(term.key))
        if not colors or not synsets:
            return words
        by_one, by_other = (_times(terms, 1 / terms[0].score) for terms in (synsets, colors))
        one, other = self._best_scores(by_one, by_other, selected)
        say = math.fsum(one) / math.fsum(other) if one and other else 1
        return synset_vector(synsets, _times(colors, say))

    def _best_scores(
        self, one: Sequence[Term], other: Sequence[Term], selected: Selection
    ) -> tuple[list[float], list[float]]:
        """The best scores by each alone, among what meets conditions."""
        both = [
            Query(tuple(terms), filters=selected.filters, exclude=selected.exclude, k=_BEST)
            for terms in (one, other)
        ]
        first, second = self.store.search_many(both)
        return [hit.score for hit in first.hits], [hit.score for hit in second.hits]

    def _reads_text(self, request: SearchRequest) -> bool:
        """Whether the text is compared as it is, and not by the synsets that it names."""
        if request.text is None or request.strategy not in DENSE:
            return False
        return reads_texts(known_settings(self.store).analyzer["model"]["name"])

    def _words(self, request: SearchRequest) -> Words:
        """The words and conditions; free text has no terms."""
        if request.text is None:
            return Words(())
        if self._reads_text(request):
            return free_text(request.text, self.vocabulary)
        beside = bool(several(request.image) or several(request.like))
        trace = TRACE if known_settings(self.store).has_posteriors else 0.0
        try:
            words = parse_words(request.text, self.vocabulary, trace=trace, alone=False)
            words = self._in_texts(words, alone=not beside)
            if request.strategy not in DENSE or not words.terms:
                return words
        except UnknownWordError:
            if request.strategy not in DENSE:
                raise
        raise QueryError(
            f"{request.strategy} compares pictures: words have no deep feature, unless the index "
            "was made with a model that reads texts (zeroshot:PRESET)"
        )

    def _in_texts(self, words: Words, *, alone: bool) -> Words:
        """Words left out may stand in pictures' texts; where nothing else is said, they are meant.

        Raises:
            UnknownWordError: nothing else is said, and no picture has them all, or one excluded.
        """
        unknown = words.left_out[:_LOOKED_FOR]
        conditions = {word: Filter(OCR, "in", (word,)) for word in unknown if searched(word)}
        if not (alone and unknown) or words.terms:
            also = (
                f"ocr:{shown_value(word)} finds pictures in which it stands"
                for word, condition in conditions.items()
                if self._has(condition)
            )
            return replace(words, hints=(*words.hints, *also))
        out = [conditions.pop(word) for word in words.unwanted if word in conditions]
        wanted = tuple(conditions.values())
        stand = all(self._has(*some) for some in (wanted, *((one,) for one in out)) if some)
        if len(wanted) + len(out) < len(words.left_out) or not stand:
            raise unknown_word(unknown[0], self.vocabulary)
        said = f"{', '.join(unknown)!r:.60}: looked for in the text of pictures"
        filters = (*words.filters, *wanted, *(replace(one, negated=True) for one in out))
        return replace(words, filters=filters, hints=(said,), left_out=())

    def _has(self, *conditions: Filter) -> bool:
        listed = Query((), filters=conditions, k=1, sort=LISTED_BY)
        return bool(self.store.search(listed).hits)

    def _possible(self, request: SearchRequest, words: Words) -> str:
        """The strategy; "auto" is "dense-cosine" where there are only deep features to compare."""
        strategy, is_fused = request.strategy, request.fuse is not None
        settings = known_settings(self.store)
        by_synsets = is_fused or bool(words.terms or words.signs)
        if not settings.has_model and strategy == "auto" and not by_synsets:
            return "dense-cosine"
        if not settings.has_synsets and (by_synsets or strategy not in DENSE):
            raise QueryError(
                f"{self.store.location} was made from a file of features, and its pictures have "
                "no synsets: search by a picture that it has or by vector=, with a strategy dense-*"
            )
        if request.vector is not None and strategy not in DENSE and not is_fused:
            raise QueryError("vector= is a deep feature: compare it with a strategy dense-*")
        return strategy

    def _expanded(self, query: Query, request: SearchRequest) -> Query:
        """The query moved towards its own best hits."""
        feedback = request.feedback
        if feedback < 1:
            raise QueryError(f"feedback is a number of hits, not {feedback}")
        if query.fusion is not None:
            raise QueryError("feedback moves one vector, and a fusion has several: leave out one")
        if query.sort is not None:
            raise QueryError("feedback is of what scores: give words or a picture, not conditions")
        first = self.store.search(replace(query, k=feedback, offset=0)).hits
        best = [scored.document for scored in first]
        if query.is_dense:  # hits come without their deep features
            stored = self.store.get([document.id for document in best])
            best = [stored[document.id] for document in best if document.id in stored]
        best = known_settings(self.store).asking(best)
        return replace(request.rocchio.expand(query, best), feedback=feedback)


def _times(terms: Sequence[Term], factor: float | np.floating[Any]) -> tuple[Term, ...]:
    return synset_vector(Term(term.key, term.score * float(factor)) for term in terms)


def _check(request: SearchRequest, images: int, likes: int, dislikes: int) -> None:
    """Refuse a request that has nothing to search for, or options for pictures it does not have."""
    for name, kind, what in _KINDS:
        value = getattr(request, name)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            raise QueryError(f"{name}= is {what}, not {value!r:.60}")
    is_listed = request.where or request.sort is not None
    if not (images or likes or is_listed) and request.text is None and request.vector is None:
        also = "; dislike= only moves what they ask for" if dislikes else ""
        raise QueryError(f"what to search for? Give image=, text=, like= or several{also}")
    if request.region is not None and images != 1:
        raise QueryError(f"a region is of one picture: image= has {images}")
    if request.views and not images:
        raise QueryError("views are of the pictures of image=: there are none")


def _sort(request: SearchRequest, words: Words) -> str | None:
    """By which field to list what matches; None where there is something to score by."""
    by_picture = _by_picture(request)
    if request.sort is not None:
        if by_picture or request.feedback or request.approximate or request.min_score is not None:
            raise QueryError(
                "sort= lists what meets words and conditions and scores nothing: leave out "
                "pictures, feedback, min_score and approximate"
            )
        return request.sort
    if by_picture or words.terms or request.fuse is not None:
        return None
    selects = bool(words.filters or words.signs or request.where)
    return LISTED_BY if selects and request.strategy == "auto" else None


def _counts(request: SearchRequest, words: Words, filters: Sequence[Filter]) -> Filter | None:
    """Which of the ranked pictures count: those that show a word, where there are words alone."""
    if _by_picture(request) or request.fuse is not None or request.min_score is not None:
        return None
    cost = sum(item.cost for item in (*filters, *filter(None, [words.counts])))
    return words.counts if cost <= MAX_COSTLY else None


def _by_picture(request: SearchRequest) -> bool:
    pictures = request.image, request.like, request.dislike
    return request.vector is not None or any(map(several, pictures))


def _part(request: SearchRequest, seen: Sequence[Example]) -> str:
    """What a person reads beside the pictures: the region, or that there is a vector."""
    if request.region is not None:
        name = "picture" if in_memory(seen[0].uri) else filename(seen[0].uri)
        return f"{','.join(f'{value:g}' for value in request.region)} of {name}"
    return "a vector" if request.vector is not None and not seen else ""


def to_vector(vector: VectorLike) -> NDArray[np.float32]:
    """A deep feature that a person gives; its length is compared with the index's later."""
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


def with_unknown_fields(store: Store, query: Query, total: int) -> Query:
    """A query that says which metadata fields, or places, in its conditions no picture has.

    Looked for where nothing was found, or a condition that must not hold always does.
    """
    named = {item.field for item in query.filters if item.negated or not total}
    fields = sorted(field for field in named if field.startswith(METADATA))
    unknown = [field for field in fields if not store.facets(Selection(), [field], 1)[field]]
    said = tuple(f"no picture has the field {field}" for field in unknown)
    if named & ON_MAPS.keys() and known_settings(store).photo != "place":
        said += ("the index keeps no places of photos: `imgsearch reindex --gps` adds them",)
    return replace(query, hints=query.hints + said) if said else query


def count_facets(store: Store, wanted: Selection, fields: Sequence[str] | str, size: int) -> Facets:
    """Count what the pictures that match have."""
    fields = [fields] if isinstance(fields, str) else fields
    check_facets(fields, size)
    if isinstance(wanted, Query) and wanted.min_score is not None:
        raise QueryError("facets count what meets conditions: leave out min_score")
    return store.facets(wanted, list(dict.fromkeys(fields)), size)
