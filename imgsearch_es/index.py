"""ImageIndex: the one object that a user holds."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, overload

from imgsearch_es.analysis.analyzer import Analysis, Analyzer
from imgsearch_es.analysis.terms import word_vector
from imgsearch_es.errors import ConfigurationError, ImageError, QueryError
from imgsearch_es.indexing import Indexer, IndexReport, Options, Progress, is_gone
from imgsearch_es.indexing.find import AddOptions, looks_unmounted
from imgsearch_es.indexing.kept_index import PathLike
from imgsearch_es.indexing.report import shown
from imgsearch_es.indexing.wanted_analyzer import IndexOptions, Seen, WantedAnalyzer, signed
from imgsearch_es.pictures.images import ImageSource
from imgsearch_es.pictures.manifests import PictureList
from imgsearch_es.retrieval.facets import FACETS, Facets
from imgsearch_es.retrieval.language import Where, to_filters
from imgsearch_es.retrieval.ledger import check_own
from imgsearch_es.retrieval.queries import Query, Selection
from imgsearch_es.retrieval.strategies import StrategyName
from imgsearch_es.search.hits import Hits, pages
from imgsearch_es.search.learning_index import LearningIndex
from imgsearch_es.search.query_building import QueryBuilder, count_facets, with_unknown_fields
from imgsearch_es.search.query_pictures import Named, PictureReader, QueryImages, several
from imgsearch_es.search.request import SearchRequest, asks
from imgsearch_es.stores.base import SearchResult, known_settings
from imgsearch_es.stores.shared import check_features

if TYPE_CHECKING:
    from typing_extensions import Unpack  # in typing since Python 3.11

    from imgsearch_es.evaluation import Run, Topics
    from imgsearch_es.search.shown import SearchBox

Asked = Query | QueryImages | Mapping[str, Any]
"""A query, or the arguments that make one: by their names, or the first alone."""


class ImageIndex(LearningIndex):
    """Pictures in an index, to be found by picture, by word, or by both.

    >>> pets = ImageIndex("pets.duckdb", model="efficientnet-lite0")
    >>> pets.add("photos/chelsea.jpg").added
    1
    >>> pets.search("cat").total
    1

    Args:
        location: the path of an index file, or ``http://host:9200/index``; by default
            IMGSEARCH_INDEX.
        model: the classifier, as ``imgsearch models`` lists them. A new index takes VGG16 by
            default, as the paper; one that exists remembers its model.
        analyzer: instead of a model, a whole analyzer: an Analyzer, its configuration, the path of
            a TOML file, or "paper": VGG16 with ten terms.
        weights: a local file with the model's weights.
        runtime: what runs the model: "tensorflow", "openvino" or "auto"; see `Analyzer`.
        words: for a new index with a model "zeroshot:...": the words that it looks for, or a file
            with one a line; see docs/how-to/any-words.md.
        fast_decode: for a new index: decode large JPEG files at reduced scale. Faster; the scores
            differ a little, so it is part of the analyzer.
        terms: for a new index: how many of its best synsets a picture keeps, by default 50.
        query_terms: for a new index: how many of them a picture in a query asks with, by default
            10.
        views: for a new index: "tiles" or "tiles14" also analyzes overlapping parts of each
            picture, so that small things count; see docs/how-to/parts.md.
        visual_words: for a new index: also keep so many visual words of each picture's deep
            feature, True for 128, for the strategy "visual-words" and, on Elasticsearch,
            approximate answers.
        exif, gps, thumbnails: for a new index: False keeps nothing of how photos were taken; True
            for ``gps`` places, too; on Elasticsearch 96 thumbnails of so many pixels, for Kibana.
        lexicon: words of another language: a wordnet in WN-LMF, by default IMGSEARCH_LEXICON.
        options: for Elasticsearch: ``api_key``, ``username``, ``password``, ``ca_certs``,
            ``verify_certs``, ``timeout``; for an index that is created ``shards`` or
            ``expected_pictures``, ``replicas``, ``refresh_interval``, ``lifecycle``, ``layout``,
            ``vectors``, ``similarity`` and ``impacts`` (see ``stores.elastic.ElasticStore``). For a
            file ``vectors="int8_hnsw"``, at any time, or "none" (see ``stores.embedded``).

    Raises:
        ConfigurationError: the location or an option makes no sense.
    """

    @signed(IndexOptions)
    def __init__(
        self,
        location: PathLike | None = None,
        *,
        model: str | None = None,
        analyzer: Analyzer | Mapping[str, Any] | str | Path | None = None,
        weights: PathLike | None = None,
        runtime: str | None = None,
        **options: Unpack[IndexOptions],
    ) -> None:
        place = os.fspath(location or os.environ.get("IMGSEARCH_INDEX", ""))
        given: dict[str, Any] = dict(options)
        seen = {name: given.pop(name) for name in Seen.__annotations__ if name in given}
        super().__init__(place, WantedAnalyzer(model, analyzer, weights, runtime, **seen), given)

    # -- putting in and taking out -------------------------------------------------------------

    @signed(AddOptions)
    def add(
        self,
        sources: ImageSource | PictureList | Iterable[ImageSource | PictureList],
        *,
        engine: str = "local",
        progress: Progress | bool | None = None,
        **options: Unpack[AddOptions],
    ) -> IndexReport:
        """Bring the index up to date with files, folders or pictures in memory.

        A picture that the index knows, with the same content, is not analyzed again. The report
        has counts, and the rejected pictures with reasons.

        >>> index.add("photos").unchanged
        76
        >>> index.add("photos/coffee.jpg", labels="breakfast").updated
        1

        Args:
            sources: one or several: paths, URLs, folders (with all below them), tar files, lists
                (``PictureList``), datasets of Hugging Face, bytes, binary files, Pillow images,
                arrays of shape (height, width, 3).
            engine: where pictures are analyzed: "local", or "ray" for a Ray cluster (docs/ray.md).
            progress: True shows a bar, False none; by default there is one in a notebook. Or a
                function, called with the report so far and the number of pictures, None while
                they are being found.
            options: the fields of `Options`: ``labels``, ``metadata``, ``prune``, ``retry``,
                ``batch_size``, ``workers``, ``limits``.

        Raises:
            ConfigurationError: these labels or fields cannot be stored (see docs/exchange.md).
            SourceError: a file or folder named does not exist, or pruning would be a mistake.
            AnalyzerMismatchError: the index was built with another analyzer.
            ReconciliationError: the index does not hold what was written to it.
            StoppedError: a KeyboardInterrupt that carries the report: after Ctrl-C or SIGTERM,
                once all that was analyzed is stored.
        """
        given = Options(**options, engine=engine, runtime=self._wanted.runtime)
        labels = () if given.labels is None or callable(given.labels) else given.labels
        check_own(labels, {} if callable(given.metadata) else given.metadata or {})
        pictures = cast(list[ImageSource | PictureList], several(cast(QueryImages, sources)))
        if self.exists and not self._settings().has_model:  # raises when another one was asked for
            raise ConfigurationError(
                f"{self.location} was made from a file of features: add more by import_features "
                "(imgsearch import --features), or import them into a new index with the model "
                "that made them, which then takes pictures"
            )
        with self._for_one_index(), shown(progress) as tell:
            indexer = Indexer(self.store, lambda: self.analyzer, self.create, given, tell)
            return indexer.run(pictures)

    def retry(self, *, progress: Progress | bool | None = None) -> IndexReport:
        """Try all rejected pictures again; those whose files are gone are struck out.

        Not those of a drive that may not be mounted.

        >>> index.retry().found
        0
        """
        entries = self.rejected()
        gone = {entry.uri: entry.id for entry in entries if is_gone(entry.uri)}
        self.store.ledger.remove([key for uri, key in gone.items() if not looks_unmounted(uri)])
        there = [entry.uri for entry in entries if entry.uri not in gone]
        return self.add(there, retry=True, progress=progress)

    # -- finding -------------------------------------------------------------------------------

    def _build(self, request: SearchRequest) -> Query:
        reader = PictureReader(self.store, lambda: self.analyzer)
        return QueryBuilder(self.store, self.vocabulary, reader).build(request)

    @asks
    def query(self, request: SearchRequest) -> Query:
        """Build a query without running it (but for the first search of ``feedback``).

        >>> query = index.query("cat", k=3)
        >>> query.terms[0].key, query.k
        ('Egyptian_cat', 3)
        """
        return self._build(request)

    @asks
    def search(self, request: SearchRequest) -> Hits:
        """Find pictures, by formula (1) unless ``strategy`` says otherwise.

        The arguments are the fields of a `SearchRequest`: ``index.search("cat.jpg", k=5)``,
        ``index.search("tabby cat")``.

        >>> index.search("cat -dog", where="format=JPEG", k=2)[0].filename
        'chelsea-cropped.jpg'
        >>> index.search("photos/chelsea.jpg", strategy="dense-cosine", k=2)[1].filename
        'chelsea-mirrored.jpg'

        Raises:
            QueryError: the query cannot be understood (UnknownWordError: with suggestions).
            ImageError: the query picture cannot be read.
            AnalyzerMismatchError: the index was built with another analyzer.
        """

        def ask() -> Hits:
            query = self._build(request)
            return self._hits(query, self.store.search(query))

        return self._of_one_index(ask)

    @signed(SearchRequest, "k")
    def pages(
        self,
        *asked: Any,
        query: Query | None = None,
        size: int = 100,
        **options: Any,
    ) -> Generator[Hits, None, None]:
        """All pictures that match, a page at a time: for more hits than one search gives.

        The pages add up to one ranking, which does not change while others write: what is added
        meanwhile does not appear. In a file, pictures removed meanwhile are left out, so a page
        may be shorter; on Elasticsearch a page may be up to five minutes after the one before.
        They take what ``search`` takes, without ``k``, or a query that ``query`` built.

        >>> [len(page) for page in index.pages("motorcycle", size=3)]
        [3, 3, 2]
        """
        if query is None:
            query = self._of_one_index(lambda: self.query(*asked, k=size, **options))
        elif asked or options or not isinstance(query, Query):
            raise QueryError("give query= that was built, or what it is built from, not both")
        if query.fusion is not None or query.candidates:
            raise QueryError("pages go through an exact ranking by one strategy; use k and offset")
        known_settings(self.store)
        return pages(self.store, replace(query, k=size), self.word_name)

    @overload
    def search_many(self, queries: Iterable[Query]) -> list[Hits]: ...
    @overload
    def search_many(self, queries: Iterable[Asked]) -> list[Hits | QueryError]: ...
    def search_many(self, queries: Iterable[Asked]) -> Sequence[Any]:
        """Run many queries, as ``search`` would one by one, in far fewer requests: for experiments.

        They are built by ``query``, or are its first argument, or dictionaries of its arguments. In
        place of hits one that makes no query, or whose picture cannot be read, has the QueryError
        that says which it is and why; where that is so of all of them, the first is raised.

        >>> [hits[0].filename for hits in index.search_many(["cat", "coffee"])]
        ['chelsea-small.webp', 'coffee.jpg']
        """
        if isinstance(queries, str | Mapping) or not isinstance(queries, Iterable):
            raise QueryError('search_many takes a list of queries, such as ["cat", "dog"]')
        found = self._answers(list(queries))
        wrong = [error for error in found if isinstance(error, QueryError)]
        if wrong and len(wrong) == len(found):
            raise wrong[0]
        return found

    def _answers(self, asked: Sequence[Asked | Callable[[], Any]]) -> list[Hits | QueryError]:
        """See ``search_many``; also where none has an answer, or a function makes what is asked."""

        def answers() -> list[Hits | QueryError]:
            built = [self._built(number, query) for number, query in enumerate(asked)]
            found = iter(self.store.search_many([q for q in built if isinstance(q, Query)]))
            return [
                self._hits(query, next(found)) if isinstance(query, Query) else query
                for query in built
            ]

        return self._of_one_index(answers)

    def _built(self, number: int, query: Any) -> Query | QueryError:
        try:
            query = query() if callable(query) else query
            if isinstance(query, Query):
                return query
            return self.query(**query) if isinstance(query, Mapping) else self.query(query)
        except (ConfigurationError, QueryError, ImageError, TypeError) as error:
            wrong = QueryError(f"query {number}: {error}")
            wrong.__cause__ = error
            return wrong

    def _hits(self, query: Query, found: SearchResult) -> Hits:
        query = with_unknown_fields(self.store, query, found.total)
        return Hits(query, found, self.store, name=self.word_name)

    def run(
        self,
        queries: Topics,
        strategy: StrategyName | str = "auto",
        *,
        k: int = 1000,
        exclude_self: bool = False,
    ) -> Run:
        """The rankings of many queries, for evaluation and for other programs.

        >>> run = index.run({"q1": "tabby cat", "q2": Path("photos/chelsea.jpg")}, "sqrt", k=100)
        >>> run.to_frame().columns.tolist()
        ['qid', 'docno', 'rank', 'score']

        Args:
            queries: by id words, the Path of a picture, or a ``Topic``; or a CSV with the columns
                query, and image or text.
            strategy: a strategy or fusion by its short name, as `imgsearch evaluate` takes it.
            k: how many pictures of each ranking.
            exclude_self: leave out the query's own picture.

        Raises:
            QueryError: there is no such strategy, or it can answer no query; where it cannot answer
                some, a warning says which.
        """
        from imgsearch_es.evaluation.systems import run_of

        return run_of(self, queries, strategy, k=k, exclude_self=exclude_self)

    @signed(SearchRequest, "image", "exclude_self")
    def more_like(self, picture: Named, k: int = 10, **options: Any) -> Hits:
        """The pictures most like an indexed one, without itself; options as of ``search``.

        >>> [hit.filename for hit in index.more_like("photos/chelsea.jpg", k=2)]
        ['chelsea-cropped.jpg', 'chelsea-mirrored.jpg']
        """
        self.get(picture)
        return self.search(image=picture, k=k, exclude_self=True, **options)

    def browse(
        self, text: str = "", *, k: int = 12, strategy: StrategyName | str = "auto"
    ) -> SearchBox:
        """A search box for notebooks: words with completion, likes and dislikes, facets, pages.

        It begins with these words and this strategy, and has ``k`` hits on a page.

        >>> box = index.browse("cat")
        >>> box.hits.total
        4
        """
        from imgsearch_es.search.shown import search_box

        return search_box()(self, text, k=k, strategy=strategy)

    def word(self, key: str, k: int = 10) -> Hits:
        """The pictures that have most of a visual word, such as "vw412", and what it is called.

        >>> _ = index.reindex(visual_words=128)
        >>> index.word("vw412", k=1)[0].filename
        'cell.jpg'
        """
        vector = word_vector(key, self._settings().embedding_dimensions)
        query = self.query(vector=vector, strategy="visual-words", k=k)
        return self.search_many([replace(query, part=self.word_name(key))])[0]

    def facets(
        self,
        query: Query | QueryImages | None = None,
        fields: Sequence[str] | str = FACETS,
        size: int = 10,
        *,
        where: Where | None = None,
    ) -> Facets:
        """Count what the pictures that match have: synsets, labels, formats, ranges of size.

        Gives ``{"label": [{"value": "cats", "count": 7}, ...], ...}``.

        >>> index.facets("cat", "format")
        {'format': [{'value': 'JPEG', 'count': 3}, {'value': 'WEBP', 'count': 1}]}

        Args:
            query: or words and the like; all that it matches are counted. By default every picture.
            fields: one or several of ``retrieval.facets``, such as "label", "metadata.<name>".
            size: how many values of a field, most frequent first; of ranges all are given.
            where: conditions on fields, as ``search`` takes them; with a query both count.
        """
        self._settings()
        built = query if query is None or isinstance(query, Query) else self.query(query)
        if built is not None:
            check_features(self.store, built)
        wanted = built or Selection()
        filters = wanted.filters + to_filters(where, self.vocabulary)
        return count_facets(self.store, replace(wanted, filters=filters), fields, size)

    def analyze(self, image: ImageSource) -> Analysis:
        """The terms and the deep feature that this index's analyzer gives a picture.

        >>> index.analyze("photos/chelsea.jpg").terms[0].key
        'tiger_cat'
        """
        return self.analyzer.analyze(self.analyzer.open(image).image)
