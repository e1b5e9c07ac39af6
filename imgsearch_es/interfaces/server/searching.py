"""From a request to an answer of ``ImageIndex``. All of this works in threads, and may wait."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.index import ImageIndex
from imgsearch_es.interfaces.server.pictures import Pictures
from imgsearch_es.interfaces.server.schemas import ExplainRequest, FacetsRequest, What
from imgsearch_es.interfaces.server.uploads import Upload
from imgsearch_es.retrieval.conditions import parse_filters
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.facets import FACETS, Facets
from imgsearch_es.retrieval.feedback import ROCCHIO, Rocchio
from imgsearch_es.retrieval.fusion import Fusion
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.search.hit import Explanation
from imgsearch_es.search.hits import Hits
from imgsearch_es.search.query_pictures import Prepared, QueryImage
from imgsearch_es.search.request import OPTIONS

_ALL_SYNSETS = 1000
"""How many of the most frequent synsets stand for all, where everything is shown."""


class Searching:
    """Answers requests.

    Args:
        index: where to search.
        pictures: gives the pictures that requests name by id; nothing else is ever opened.
    """

    def __init__(self, index: ImageIndex, pictures: Pictures) -> None:
        self._index = index
        self._pictures = pictures

    def query(self, what: What, k: int = 10, offset: int = 0) -> Query:
        """The query of a request; pictures that the index does not know are analyzed."""
        opened = what.region is not None or bool(what.views)
        given = {name: getattr(what, name) for name in OPTIONS if name in What.model_fields}
        given |= {
            "image": [self._picture(name, opened) for name in what.image],
            "like": [self._picture(name) for name in what.like],
            "dislike": [self._picture(name) for name in what.dislike],
            "exclude_self": False,
            "rocchio": ROCCHIO if what.rocchio is None else Rocchio(*what.rocchio),
        }
        if what.fuse is not None:
            given["fuse"] = Fusion(what.fuse, what.fusion, what.rank_constant, what.window)
        query = self._index.query(k=k, offset=offset, **given)
        if what.exclude_self:
            known = [name for name in (*what.image, *what.like, *what.dislike) if len(name) == 32]
            query = replace(query, exclude=tuple(dict.fromkeys(known)))
        return query

    def everything(self, where: Mapping[str, Any], k: int, offset: int) -> Query | None:
        """All pictures that meet conditions, the surest first; None where there are none.

        The query has every synset that occurs among them, with weight 1.
        """
        counted = self._index.facets(fields=("synsets",), size=_ALL_SYNSETS, where=where)
        terms = tuple(Term(item["value"], 1.0) for item in counted["synsets"])
        if not terms:
            return None
        filters = parse_filters(where, self._index.vocabulary)
        ordered = tuple(sorted(terms, key=lambda term: term.key))
        return Query(terms=ordered, filters=filters, k=k, offset=offset)

    def narrowed(self, query: Query, where: Mapping[str, Any]) -> Query:
        """A query with more conditions."""
        more = parse_filters(where, self._index.vocabulary)
        return replace(query, filters=query.filters + more) if more else query

    def run(self, query: Query) -> Hits:
        """The hits of a query."""
        return self._index.search_many([query])[0]

    def search(self, what: What, k: int, offset: int) -> Hits:
        """The hits of a request."""
        return self.run(self.query(what, k, offset))

    def explain(self, request: ExplainRequest) -> tuple[Query, list[Explanation]]:
        """The query, and explanations of its best hits or of one picture."""
        hits = self._hits_to_explain(request)
        wanted = request.picture
        found = [hits.explain(i) for i, hit in enumerate(hits) if wanted in (None, hit.id)]
        return hits.query, found

    def _hits_to_explain(self, request: ExplainRequest) -> Hits:
        if request.picture is None:
            return self.search(request, request.k, 0)
        self._pictures.document(request.picture)  # or an error that names it
        query = self.query(request, k=1)
        if query.fusion is not None and query.fusion.is_ranked:
            return self.run(replace(query, k=query.fusion.window))  # ranks are among all pictures
        return self.run(self.narrowed(query, {"id": request.picture}))

    def facets(self, request: FacetsRequest) -> Facets:
        """Counts of what a request matches."""
        fields = request.fields if request.fields is not None else FACETS
        if not (request.text or request.image or request.like or request.vector):
            return self._index.facets(None, fields, request.size, where=request.where)
        return self._index.facets(self.query(request), fields, request.size)

    def facets_to_choose(
        self,
        query: Query | None,
        where: Mapping[str, Any],
        fields: Sequence[str],
        size: int,
    ) -> Facets:
        """Counts for choosing: a field with a choice shows its other values as well.

        Args:
            query: without the conditions; None counts all pictures.
            where: the conditions chosen.
            fields: to count.
            size: values of each field.
        """
        free = [field for field in fields if field not in where]
        counted = self._index.facets(query, free, size, where=where) if free else {}
        for field in fields:
            if field in where:
                others = {name: value for name, value in where.items() if name != field}
                counted |= self._index.facets(query, [field], size, where=others)
        return {field: counted[field] for field in fields}

    def _picture(self, name: str, opened: bool = False) -> QueryImage:
        found = self._pictures.find(name)
        if isinstance(found, Upload) and found.pixels is not None and not opened:
            return Prepared(found.id, found.pixels)
        return self._pictures.opened(found) if isinstance(found, Upload) or opened else found


def document_dict(document: Document) -> dict[str, Any]:
    """A document as JSON values, without its deep feature; named as hits name their parts."""
    return {
        "id": document.id,
        "uri": document.uri,
        "filename": document.filename,
        "sha256": document.sha256,
        "width": document.width,
        "height": document.height,
        "bytes": document.bytes,
        "format": document.format,
        "indexed_at": document.indexed_at.isoformat(),
        "labels": list(document.labels),
        "metadata": dict(document.metadata),
        "synsets": [{"synset": term.key, "score": term.score} for term in document.terms],
    }


def explained_dict(query: Query, explanations: Sequence[Explanation]) -> dict[str, Any]:
    """As ``imgsearch explain --json`` prints it."""
    return {"query": str(query), "explanations": [one.to_dict() for one in explanations]}
