"""PyTerrier: an index of pictures as artifact, indexer and transformers (extra ``pyterrier``).

    from imgsearch_es.pyterrier import Index

    index = Index("pets.duckdb", model="efficientnet-lite0").index("photos/")
    (index.retriever("sqrt") % 10 >> index.text_loader("path")).search("tabby cat")

It needs no Java. A docno is the one that a picture was indexed with, or else its id.
"""

from __future__ import annotations

import io
import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.errors import (
    ConfigurationError,
    ImageError,
    MissingDependencyError,
    QueryError,
    pip_install,
)
from imgsearch_es.evaluation import Collection, System, make_task
from imgsearch_es.evaluation.collection import DOCNO
from imgsearch_es.evaluation.judgements import JudgementsLike
from imgsearch_es.evaluation.runs import falling
from imgsearch_es.index import ImageIndex
from imgsearch_es.indexing.exchange.rows import chunks
from imgsearch_es.pictures.thumbnails import thumbnail
from imgsearch_es.retrieval.conditions import parse_filters
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.retrieval.scoring import heaviest_first
from imgsearch_es.retrieval.strategies import StrategyName
from imgsearch_es.search.hits import Hits

try:
    import pandas as pd
    import pyterrier as pt

    from imgsearch_es.interfaces.pyterrier_frames import (
        Dataset,
        candidates_of,
        check_columns,
        docno_of,
        is_given,
        own_fields,
        runs_of,
        tell,
        toks_of,
        uri_of,
    )  # fmt: skip
except ImportError as error:
    raise MissingDependencyError(
        f"imgsearch_es.pyterrier needs PyTerrier: {pip_install('pyterrier')}"
    ) from error

FIELDS = ("path", "label", "terms", "thumbnail")
_FOUND = (DOCNO, "score", "rank")
_TOGETHER = 64
"""Queries of one request, and pictures of a forward pass."""


class Index(pt.Artifact, pt.Indexer):
    """Pictures that PyTerrier indexes and finds; ``images`` is the `ImageIndex`.

    >>> photos = Index("photos.duckdb")
    >>> (photos.retriever("sqrt") % 2).search("cat")["rank"].tolist()
    [0, 1]

    Args:
        path: of the index file, or the URL of an index on Elasticsearch; or the folder of an
            artifact that was downloaded.
        options: those of `ImageIndex`, such as ``model``.

    Raises:
        ConfigurationError: the path or an option makes no sense.
    """

    ARTIFACT_TYPE, ARTIFACT_FORMAT = "image_index", "imgsearch_es"

    def __init__(self, path: str | os.PathLike[str], **options: Any) -> None:
        place = os.fspath(path)
        inside = sorted(Path(place).glob("*.duckdb")) if Path(place).is_dir() else []
        if len(inside) == 1:
            place = os.fspath(inside[0])
        is_url = "://" in place
        super().__init__(pt.Artifact.NO_PATH if is_url else place)
        self.images = ImageIndex(place, **options)

    def index(self, iter: Any, **options: Any) -> Index:  # noqa: A002  (PyTerrier's name)
        """Index pictures: a folder, a file, or documents with ``docno`` and ``image``.

        Documents are dictionaries or a DataFrame. An image is a path, URL, bytes, Pillow image or
        array, and ``label`` one label or several. What cannot be indexed is told by a warning.

        >>> new = Index("new.duckdb", model="efficientnet-lite0")
        >>> new.index([{"docno": "d1", "image": "photos/chelsea.jpg"}]).images.count()
        1

        Args:
            iter: what to index.
            options: those of ``ImageIndex.add``, such as ``labels=folder_label``.

        Raises:
            ConfigurationError: a document has no docno or image, or two have the same.
        """
        if isinstance(iter, str | os.PathLike):
            self._add([iter], options)
            return self
        rows = iter.to_dict("records") if hasattr(iter, "to_dict") else iter
        for some in runs_of(rows):
            documents = {uri_of(row["image"]): row for row in some}
            for what, known in (("picture", documents), (DOCNO, {str(r[DOCNO]) for r in some})):
                if len(known) < len(some):
                    raise ConfigurationError(f"two documents have the same {what}: give it once")
            own: dict[str, Any] = {"metadata": lambda uri, of=documents: own_fields(of, uri)}
            if any("label" in row for row in some):
                own["labels"] = lambda uri, of=documents: of.get(uri, {}).get("label", ())
            self._add([row["image"] for row in some], options | own)
        return self

    def _add(self, sources: list[Any], options: Mapping[str, Any]) -> None:
        self.__dict__.pop("_ids", None)
        report = self.images.add(sources, **options)
        if report.rejected:
            first = report.rejected[0]
            warnings.warn(
                f"{len(report.rejected)} pictures could not be indexed, such as {first.uri}: "
                f"{first.reason}",
                stacklevel=3,
            )

    def index_inputs(self) -> list[list[str]]:
        """The columns that ``index`` takes.

        >>> photos.index_inputs()
        [['docno', 'image']]
        """
        return [[DOCNO, "image"]]

    def retriever(
        self, strategy: StrategyName | str = "auto", *, k: int = 1000, exclude_self: bool = False
    ) -> Retriever:
        """A transformer from queries to their best pictures.

        Takes ``qid`` and ``query`` (words), ``image`` (a path, id, bytes or picture; both add up)
        or ``query_toks`` (weights of terms). Gives ``docno``, ``score`` and ``rank``; a score is
        below the one before it, equal ones by the next float32 number. Where a frame has
        documents already, these are scored again and no others.

        >>> words, features = photos.retriever("sqrt"), photos.retriever("dense-cosine")
        >>> (words % 3 >> features)(photos.dataset("name:{label}-*", sample=2).get_topics()).shape
        (6, 5)

        Args:
            strategy: a strategy or fusion by its short name, as `imgsearch evaluate` takes it:
                "bm25:k1=1.5", "sqrt=1+dense-cosine=2", "auto+dense-cosine:rrf".
            k: how many pictures of each query.
            exclude_self: leave out the query's own picture.
        """
        return Retriever(self, strategy, k, exclude_self)

    def analyzer(self) -> PictureAnalyzer:
        """A transformer from pictures to their terms, for learned sparse retrieval.

        Documents (``docno``, ``image``) get ``toks``, queries (``qid``, ``image`` or ``query``)
        get ``query_toks``: weights by term.

        >>> list(photos.analyzer().search("tabby cat").query_toks[0])[:2]
        ['tabby']
        """
        return PictureAnalyzer(self)

    def text_loader(
        self, fields: Sequence[str] | str = "*", *, verbose: bool = False
    ) -> TextLoader:
        """A transformer that adds what the index has of each ``docno``.

        Fields are ``path``, ``label`` (with spaces between several), ``terms`` (their names, best
        first) and ``thumbnail`` (bytes of a JPEG; empty where the picture cannot be read).

        >>> (photos.retriever("sqrt") % 1 >> photos.text_loader("terms")).search("cat").terms[0][0]
        'Egyptian_cat'
        """
        names = FIELDS if fields == "*" else (fields,) if isinstance(fields, str) else tuple(fields)
        if unknown := set(names) - set(FIELDS):
            raise ConfigurationError(
                f"pictures have no field {min(unknown)}; there are {', '.join(FIELDS)}"
            )
        return TextLoader(self, names)

    def get_corpus_iter(self, return_toks: bool = True) -> Iterator[dict[str, Any]]:
        """All pictures with their terms: what an indexer of ``toks`` takes.

        >>> sorted(next(photos.get_corpus_iter()))
        ['docno', 'toks']
        """
        for document in self.images.store.documents():
            shown = {"toks": toks_of(document.terms)} if return_toks else {"image": document.uri}
            yield {DOCNO: docno_of(document), **shown}

    def dataset(
        self, judgements: JudgementsLike = "labels", *, sample: int | None = None
    ) -> Dataset:
        """Topics and qrels of pictures of the index, as `imgsearch evaluate` makes them.

        >>> len(photos.dataset("name:{label}-*", sample=10).get_topics())
        10

        Args:
            judgements: such as "labels", "folder", "ukbench" or a file; see ``evaluate``.
            sample: ask only so many queries, chosen at random.
        """
        collection = Collection.of(self.images)
        task = make_task(judgements, collection)
        found = task.judgements if sample is None else task.judgements.sample(sample)
        images = {query: task.topics[query].image for query in found.queries}
        docnos = {document.id: docno_of(document) for document in self.images.store.documents()}
        renamed = found.renamed(lambda key: docnos.get(key, key))
        topics = {docnos.get(query, query): image for query, image in images.items()}
        return Dataset(topics, renamed)

    @cached_property
    def _ids(self) -> dict[str, str]:
        return {docno_of(document): document.id for document in self.images.store.documents()}

    @cached_property
    def _keys(self) -> dict[str, str]:
        return {key.lower(): key for key in self.images.vocabulary.keys}

    def _package_files(self) -> Iterator[tuple[str, str | io.BytesIO]]:
        yield Path(self.path).name, os.fspath(self.path)
        yield "pt_meta.json", io.BytesIO(json.dumps(self._build_metadata()).encode())


class Retriever(pt.Transformer):
    """See ``Index.retriever``.

    >>> photos.retriever("bm25", k=10)
    imgsearch_es(bm25)
    """

    def __init__(self, index: Index, strategy: str, k: int, exclude_self: bool) -> None:
        self.index = index
        self.system = System.parse(strategy).to_depth(k)
        self.options = {"k": k, "exclude_self": exclude_self}

    def __repr__(self) -> str:
        return f"imgsearch_es({self.system.name})"

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """The best pictures of each query.

        >>> queries = pd.DataFrame({"qid": ["1"], "query": ["cat"]})
        >>> photos.retriever("sqrt", k=2).transform(queries)["rank"].tolist()
        [0, 1]
        """
        check_columns(inp, ["qid", "query"], ["qid", "image"], ["qid", "query_toks"])
        kept = inp.drop(columns=list(_FOUND), errors="ignore").reset_index(drop=True)
        queries = kept.drop_duplicates("qid")
        candidates, rows = candidates_of(inp, self.index._ids if DOCNO in inp and len(inp) else {})
        of_query = [candidates.get(qid) for qid in queries.qid]
        pairs = zip(queries.to_dict("records"), of_query, strict=True)
        asked = [partial(self._query, *pair) for pair in pairs]
        places: list[int] = []
        found: list[tuple[str, float, int]] = []
        failed: list[tuple[str, QueryError]] = []
        for start in range(0, len(asked), _TOGETHER):
            answers = self.index.images._answers(asked[start : start + _TOGETHER])
            for number, hits in enumerate(answers, start=start):
                qid, row = queries.qid.iloc[number], queries.index[number]
                if not isinstance(hits, Hits):
                    failed.append((qid, hits))
                    continue
                ranked = self._ranked(hits, of_query[number])
                found += ranked
                places += [rows.get((qid, docno), row) for docno, *_ in ranked]
        tell(self, failed, len(asked))
        frame = pd.DataFrame(found, columns=list(_FOUND))
        return pd.concat([kept.iloc[places].reset_index(drop=True), frame], axis=1)

    def _ranked(
        self, hits: Hits, candidates: Mapping[str, str] | None
    ) -> list[tuple[str, float, int]]:
        """Docnos, scores and ranks; candidates that share no synset with the query have 0."""
        names = candidates or {}
        found = {names.get(hit.id) or docno_of(hit.document): hit.score for hit in hits}
        if candidates is not None and self.system.uses_synsets:
            own = hits.query.exclude
            others = (docno for key, docno in candidates.items() if key not in own)
            found = found | dict.fromkeys(others, 0.0) | found
        scores = falling(found.values()).tolist()
        return list(zip(found, scores, range(len(found)), strict=True))

    def _query(
        self, row: Mapping[str, Any], candidates: Mapping[str, str] | None
    ) -> Query | Mapping[str, Any]:
        toks, options = row.get("query_toks"), {**self.options, **self.system.options}
        if candidates is not None:
            options |= {"where": {"id": list(candidates)}, "k": len(candidates)}
        if isinstance(toks, Mapping):
            known = self.index._keys
            terms = heaviest_first(
                Term(known.get(t.lower()) or t, w) for t, w in toks.items() if w > 0
            )
            if self.system.uses_features or self.system.fusion is not None:
                raise QueryError(f"{self.system.name} takes no query_toks: name one of synsets")
            filters = parse_filters(options.pop("where", None), self.index.images.vocabulary)
            del options["exclude_self"]
            return Query(terms=terms, filters=filters, **options)
        asked = {name: row.get(of) for name, of in (("image", "image"), ("text", "query"))}
        kept = {name: value for name, value in asked.items() if is_given(value)}
        return {**kept, **options}


class PictureAnalyzer(pt.Transformer):
    """See ``Index.analyzer``.

    >>> photos.analyzer().search("tabby").query_toks[0]
    {'tabby': 1.0}
    """

    def __init__(self, index: Index) -> None:
        self.index = index

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """The frame with ``toks``, or ``query_toks``.

        >>> pictures = pd.DataFrame({"docno": ["d1"], "image": ["photos/chelsea.jpg"]})
        >>> "tiger_cat" in photos.analyzer().transform(pictures).toks[0]
        True
        """
        check_columns(inp, [DOCNO, "image"], ["qid", "image"], ["qid", "query"])
        rows = inp.to_dict("records")
        if "qid" not in inp.columns:
            analyzer, toks = self.index.images.analyzer, list[dict[str, float]]()
            for some in chunks(rows, _TOGETHER):
                opened = [analyzer.open(row["image"]).image for row in some]
                toks += [toks_of(analysis.terms) for analysis in analyzer.analyze_batch(opened)]
            return inp.assign(toks=toks)
        names = {"image": "image", "query": "text"}
        given = [{names[n]: row[n] for n in names if is_given(row.get(n))} for row in rows]
        built = list(map(self.index.images._built, range(len(given)), given))
        failed = [(q, e) for q, e in zip(inp.qid, built, strict=True) if isinstance(e, QueryError)]
        tell(self, failed, len(built))
        toks = [toks_of(one.terms) if isinstance(one, Query) else {} for one in built]
        return inp.assign(query_toks=toks)


class TextLoader(pt.Transformer):
    """See ``Index.text_loader``.

    >>> photos.text_loader(["path", "label"]).fields
    ('path', 'label')
    """

    def __init__(self, index: Index, fields: Sequence[str]) -> None:
        self.index, self.fields = index, fields

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """The frame with the fields of each document.

        >>> found = photos.retriever("sqrt", k=1).search("coffee")
        >>> photos.text_loader("path").transform(found).path[0].rpartition("/")[2]
        'coffee.jpg'
        """
        pt.validate.columns(inp, includes=[DOCNO])
        docnos = inp[DOCNO].astype(str)
        ids = {docno: self.index._ids.get(docno, docno) for docno in docnos.unique()}
        stored = self.index.images.store.get(list(ids.values())) if ids else {}
        known = {docno: stored.get(key) for docno, key in ids.items()}
        if lost := [docno for docno, document in known.items() if document is None]:
            raise QueryError(f"{self.index.images.location} has no picture {lost[0]}")
        values = {
            docno: {field: self._value(document, field) for field in self.fields}
            for docno, document in known.items()
            if document is not None
        }
        return inp.assign(
            **{field: [values[docno][field] for docno in docnos] for field in self.fields}
        )

    def _value(self, document: Document, field: str) -> Any:
        if field == "thumbnail":
            try:
                return thumbnail(document.uri)
            except ImageError:
                return b""
        if field == "terms":
            known = self.index.images.vocabulary
            return [known[t.key].name if t.key in known else t.key for t in document.terms]
        return document.uri if field == "path" else " ".join(document.labels)
