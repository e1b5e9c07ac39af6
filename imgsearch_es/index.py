"""ImageIndex: the one object that a user holds."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from imgsearch_es.analysis.analyzer import Analysis, Analyzer, is_same_analyzer
from imgsearch_es.errors import (
    ConfigurationError,
    IndexRebuiltError,
    MissingDependencyError,
    QueryError,
    pip_install,
)
from imgsearch_es.indexing import (
    DEFAULT_LIMITS,
    Indexer,
    IndexReport,
    Labels,
    Options,
    Progress,
    Rejected,
    as_labels,
    is_gone,
)
from imgsearch_es.indexing.exchange import (
    ExportReport,
    FeatureExport,
    ImportReport,
    export_documents,
    export_features,
    import_documents,
    import_features,
)
from imgsearch_es.indexing.progress import shown
from imgsearch_es.indexing.reindexing import Rebuild, ReindexProgress, ReindexReport, with_filters
from imgsearch_es.indexing.verifying import Verifier, VerifyProgress, VerifyReport
from imgsearch_es.indexing.wanted_analyzer import (
    WantedAnalyzer,
    check_fits,
    settings_of,
    with_more_filters,
)
from imgsearch_es.pictures.files import Limits
from imgsearch_es.pictures.images import ImageSource
from imgsearch_es.pictures.manifests import PictureList
from imgsearch_es.retrieval.conditions import parse_filters
from imgsearch_es.retrieval.documents import SCHEMA_VERSION, Document
from imgsearch_es.retrieval.duplicates import (
    DuplicateGroup,
    describe_group,
    find_groups,
    in_batches,
    to_threshold,
)
from imgsearch_es.retrieval.facets import FACETS, Facets, check_facets
from imgsearch_es.retrieval.queries import Query, Selection
from imgsearch_es.retrieval.storable import check_own
from imgsearch_es.search.hits import Hits
from imgsearch_es.search.paging import pages
from imgsearch_es.search.query_building import QueryBuilder
from imgsearch_es.search.query_pictures import (
    QueryImages,
    several,
    to_id,
)
from imgsearch_es.search.request import SearchRequest, asks
from imgsearch_es.stores import open_store
from imgsearch_es.stores.base import IndexSettings, Store, known_settings
from imgsearch_es.vocabulary.synsets import Vocabulary

if TYPE_CHECKING:
    from imgsearch_es.interfaces.notebook.search_box import SearchBox
    from imgsearch_es.learning.whitening import Whitening

T = TypeVar("T")
_ATTEMPTS = 5
"""To search an index that is being rebuilt just then."""


class ImageIndex:
    """Pictures in an index, to be found by picture, by word, or by both.

        index = ImageIndex("pets.duckdb", model="efficientnet-lite0")
        index.add("photos/")
        index.search(image="cat.jpg", text="sofa -dog", where={"label": "indoor"})

    Args:
        location: the path of an index file, or ``http://host:9200/index``; by default
            IMGSEARCH_INDEX.
        model: the classifier, as ``imgsearch models`` lists them. A new index takes VGG16 by
            default, as the paper; one that exists remembers its model.
        analyzer: instead of a model, a whole analyzer: an Analyzer, its configuration, or the
            path of a TOML file.
        weights: a local file with the model's weights.
        runtime: what runs the model: "tensorflow", "openvino" or "auto"; see `Analyzer`.
        fast_decode: for a new index: decode large JPEG files at reduced scale. Faster; the scores
            differ a little, so it is part of the analyzer, and an index that exists remembers it.
        store_options: for Elasticsearch: ``api_key``, ``username``, ``password``, ``ca_certs``,
            ``verify_certs``, ``timeout``; for an index that is created ``shards`` or
            ``expected_pictures``, ``replicas``, ``refresh_interval``, ``lifecycle``, ``vectors``
            and ``similarity`` (see ``stores.elastic.ElasticStore``).

    Raises:
        ConfigurationError: the location or an option makes no sense.
    """

    def __init__(
        self,
        location: str | os.PathLike[str] | None = None,
        *,
        model: str | None = None,
        analyzer: Analyzer | Mapping[str, Any] | str | Path | None = None,
        weights: str | os.PathLike[str] | None = None,
        runtime: str | None = None,
        fast_decode: bool = False,
        **store_options: object,
    ) -> None:
        place = os.fspath(location or os.environ.get("IMGSEARCH_INDEX", ""))
        if not place:
            raise ConfigurationError(
                "which index? Give the path of a file, a URL such as http://localhost:9200/pets, "
                "or set IMGSEARCH_INDEX"
            )
        self._wanted = WantedAnalyzer(model, analyzer, weights, runtime, fast_decode)
        self.store: Store = open_store(place, **store_options)
        self._place = place
        self._store_options: dict[str, Any] = store_options
        self._analyzer: Analyzer | None = None
        self._checked_with: IndexSettings | None = None
        self._writing = 0
        self._lock = threading.RLock()

    # -- what the index is ---------------------------------------------------------------------

    @property
    def location(self) -> str:
        """The path or URL, without credentials."""
        return self.store.location

    @property
    def exists(self) -> bool:
        """Whether the index was created."""
        self._renew()
        return self.store.settings() is not None

    @property
    def vocabulary(self) -> Vocabulary:
        """The synsets that pictures of this index may have."""
        return self._settings().vocabulary

    @property
    def analyzer(self) -> Analyzer:
        """The analyzer of this index; the model itself is loaded when first used.

        Raises:
            AnalyzerMismatchError: the index was built with another analyzer or other weights.
        """
        with self._lock:
            settings = self.store.settings()
            if self._analyzer is None or not self._is_of_index(self._analyzer, settings):
                analyzer = self._wanted.build(settings)
                if settings is not None:
                    check_fits(analyzer, settings, self.location)
                self._analyzer, self._checked_with = analyzer, settings
            return self._analyzer

    def create(self) -> None:
        """Create the index, empty; ``add`` does it when needed.

        Raises:
            StoreError: it exists.
        """
        self.store.create(settings_of(self.analyzer))

    # -- putting in and taking out -------------------------------------------------------------

    def add(
        self,
        sources: ImageSource | PictureList | Iterable[ImageSource | PictureList],
        *,
        engine: str = "local",
        labels: Labels = None,
        metadata: Mapping[str, Any] | None = None,
        prune: bool = False,
        retry: bool = False,
        batch_size: int | None = None,
        workers: int | None = None,
        limits: Limits = DEFAULT_LIMITS,
        progress: Progress | bool | None = None,
    ) -> IndexReport:
        """Bring the index up to date with files, folders or pictures in memory.

        A picture that the index knows, with the same content, is not analyzed again.

        Args:
            sources: one or several: paths, URLs, folders (with all below them), tar files, lists
                (``PictureList``), bytes, binary files, Pillow images, arrays of shape (height,
                width, 3).
            engine: where pictures are analyzed: "local", or "ray" for a Ray cluster, which must
                reach the pictures by the same paths or URLs (docs/ray.md).
            labels: what to call the pictures that their list gives no label: one label, several,
                or a function of the URI (see ``folder_label``). None leaves the labels that are
                stored.
            metadata: a person's own fields for each of them, JSON values; a list's come first.
            prune: also remove documents below the folders named whose files are gone.
            retry: also try pictures again that were rejected before and have not changed.
            batch_size: pictures per forward pass; by default 32.
            workers: processes that decode; by default as many as the model can use, at most one
                per core. With Ray: actors, each with a model.
            limits: the largest picture to accept.
            progress: True shows a bar, in a notebook, on a terminal, or as lines on the standard
                error; by default there is one in a notebook only, and False shows none. Or a
                function, called with the report so far and the number of pictures, None while
                they are being found.

        Returns:
            Counts, and the rejected pictures with reasons.

        Raises:
            ConfigurationError: these labels or fields cannot be stored (see docs/exchange.md).
            SourceError: a file or folder named does not exist, or pruning would be a mistake.
            AnalyzerMismatchError: the index was built with another analyzer.
            ReconciliationError: the index does not hold what was written to it.
            StoppedError: a KeyboardInterrupt that carries the report: after Ctrl-C or SIGTERM,
                once all that was analyzed is stored.
        """
        check_own(() if labels is None or callable(labels) else as_labels(labels), metadata or {})
        options = Options(
            labels=labels,
            metadata=metadata,
            prune=prune,
            retry=retry,
            batch_size=batch_size,
            workers=workers,
            limits=limits,
            engine=engine,
            runtime=self._wanted.runtime,
        )
        pictures = cast(list[ImageSource | PictureList], several(cast(QueryImages, sources)))
        if self.exists and not self._settings().has_model:  # raises when another one was asked for
            raise ConfigurationError(
                f"{self.location} was made from a file of features: add more by import_features "
                "(imgsearch import --features), or import them into a new index with the model "
                "that made them, which then takes pictures"
            )
        with self._for_one_index(), shown(progress) as tell:
            indexer = Indexer(self.store, lambda: self.analyzer, self.create, options, tell)
            return indexer.run(pictures)

    def rejected(self) -> list[Rejected]:
        """The pictures that could not be indexed, and why; one is struck out when it can be."""
        self._settings()
        return self.store.ledger.read()

    def retry(self, *, progress: Progress | bool | None = None) -> IndexReport:
        """Try all rejected pictures again; those whose files are gone are struck out."""
        entries = self.rejected()
        gone = [entry.id for entry in entries if is_gone(entry.uri)]
        if gone:
            self.store.ledger.remove(gone)
        return self.add(
            [entry.uri for entry in entries if entry.id not in set(gone)],
            retry=True,
            progress=progress,
        )

    def update(
        self,
        picture: str | os.PathLike[str],
        *,
        labels: Sequence[str] | str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Document:
        """Change labels or metadata of an indexed picture, given by id, URI or path.

        Raises:
            QueryError: the index has no such picture.
            ConfigurationError: they cannot be stored (docs/exchange.md says what can).
        """
        given = () if labels is None else as_labels(labels)
        check_own(given, metadata or {})
        stored = self.get(picture)
        document = replace(
            stored,
            labels=stored.labels if labels is None else given,
            metadata=stored.metadata if metadata is None else dict(metadata),
        )
        with self._for_one_index():
            for _, reason in self.store.write([document]).rejected:
                raise QueryError(f"{document.uri} cannot be updated: {reason}")
            self.store.finish()
        return document

    def remove(
        self,
        pictures: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] = (),
        *,
        query: Query | None = None,
    ) -> int:
        """Remove documents by id, URI or path, and all that a query matches; files stay.

        Returns:
            How many documents were removed; those the index does not have are ignored.
        """
        self._settings()
        if query is not None and query.fusion is not None:
            raise QueryError("a fused query ranks: remove by words, a picture or conditions")
        if isinstance(pictures, str | os.PathLike):
            pictures = [pictures]
        ids = [to_id(picture) for picture in pictures]
        if query is not None:
            ids += self.store.matching(query)
        return self.store.remove(list(dict.fromkeys(ids))) if ids else 0

    def get(self, picture: str | os.PathLike[str]) -> Document:
        """The stored document of a picture, given by id, URI or path.

        Raises:
            IndexNotFoundError: there is no such index.
            QueryError: the index has no such picture.
        """
        self._settings()
        key = to_id(picture)
        found = self._of_one_index(lambda: self.store.get([key]))
        if key not in found:
            raise QueryError(f"{self.location} has no picture {os.fspath(picture)}")
        return found[key]

    def count(self) -> int:
        """How many pictures the index has."""
        self._settings()
        return self._of_one_index(self.store.count)

    def stats(self) -> dict[str, Any]:
        """Figures of the index, and of the analyzer that built it, as JSON values."""
        settings = self._settings()
        return {
            **self._of_one_index(self.store.stats),
            "analyzer": dict(settings.analyzer),
            "weights": settings.weights,
        }

    def verify(
        self,
        *,
        files: bool = False,
        sample: int = 0,
        repair: bool = False,
        progress: VerifyProgress | None = None,
    ) -> VerifyReport:
        """Whether the index is whole: all that it keeps is compared with all else that it keeps.

        Args:
            files: also read every picture's file and compare its hash.
            sample: also analyze so many pictures again.
            repair: put right what something whole says how; then look again, and report what is
                left.
            progress: called with the documents looked at and all documents.

        Raises:
            StoreError: there is no such index, or it cannot be reached.
        """
        self._renew()
        verifier = Verifier(
            self.store, lambda: self.analyzer, files=files, sample=sample, progress=progress
        )
        return verifier.run(repair=repair)

    # -- moving and rebuilding -----------------------------------------------------------------

    def export(
        self,
        path: str | os.PathLike[str],
        *,
        pictures: bool = False,
        where: Mapping[str, Any] | None = None,
        force: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> ExportReport:
        """Write the documents into a file: ``.jsonl``, ``.jsonl.gz`` or ``.parquet``.

        The file has the deep features, and the settings of the index. It is there whole or not.

        Args:
            path: of the file.
            pictures: put the bytes of the pictures into it, too.
            where: conditions, as of ``search``; by default every document.
            force: overwrite a file that exists.
            progress: called with the number of documents so far.

        Raises:
            ExchangeError: the file exists or cannot be written.
            MissingDependencyError: Parquet needs pyarrow.
        """
        return export_documents(
            self.store,
            Path(path),
            pictures=pictures,
            filters=parse_filters(where, self.vocabulary),
            force=force,
            progress=progress,
        )

    def import_(
        self,
        path: str | os.PathLike[str],
        *,
        pictures: str | os.PathLike[str] | None = None,
        progress: Callable[[ImportReport], None] | None = None,
    ) -> ImportReport:
        """Add the documents of a file, which ``export`` or another tool wrote.

        An index that does not exist is created with the settings of the file. A row that is no
        document is reported, and the others go on.

        Args:
            path: of the file.
            pictures: a folder for the pictures in the file; the documents then are of these files.
            progress: called with the report so far.

        Raises:
            ExchangeError: the file cannot be read or does not say which analyzer made it.
            AnalyzerMismatchError: the index was built with another analyzer.
            ReconciliationError: the index does not hold what was written to it.
        """
        if self.exists:
            self._settings()  # raises when another model was asked for
        folder = None if pictures is None else Path(pictures)
        with self._for_one_index():
            return import_documents(self.store, Path(path), pictures=folder, progress=progress)

    def export_features(
        self,
        path: str | os.PathLike[str],
        *,
        where: Mapping[str, Any] | None = None,
        force: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> FeatureExport:
        """Write the deep features into a file that other programs read: see docs/features.md.

        Args:
            path: ``.csv`` (path,f1,f2,...), ``.h5`` (image_ids, features, labels), ``.parquet``
                (path, features, labels), or a folder for ``filenames.npy`` and ``vectors.npy``.
            where: conditions, as of ``search``; by default every document.
            force: overwrite what exists.
            progress: called with the number of features so far.

        Raises:
            ExchangeError: the file exists or cannot be written, or there are no deep features.
            MissingDependencyError: HDF5 needs h5py, Parquet needs pyarrow.
        """
        return export_features(
            self.store,
            Path(path),
            filters=parse_filters(where, self.vocabulary),
            force=force,
            progress=progress,
        )

    def import_features(
        self,
        path: str | os.PathLike[str],
        *,
        folder: str | os.PathLike[str] | None = None,
        progress: Callable[[ImportReport], None] | None = None,
    ) -> ImportReport:
        """Add deep features of a file, wherever they come from; they are searched at once.

        A new index for which no model and no analyzer is named has features alone: it is searched
        by the pictures it has and by vectors, with the strategies dense-*. With one that is named
        it takes new pictures, too. (That it made the features cannot be checked; their dimensions
        are.) Documents that the index has keep all but their deep feature. Pictures are not read.

        Args:
            path: as ``export_features`` writes them.
            folder: where relative paths in the file start; by default the current folder.
            progress: called with the report so far.

        Raises:
            ExchangeError: the file cannot be read, is of another form, or has no row that fits.
            ReconciliationError: the index does not hold what was written to it.
        """
        if self.exists:
            self._settings()  # raises when another model was asked for
        named = self._wanted.is_asked_for or self._wanted.weights is not None
        settings = (lambda: settings_of(self.analyzer)) if named else None
        base = None if folder is None else Path(folder)
        with self._for_one_index():
            return import_features(
                self.store, Path(path), settings=settings, folder=base, progress=progress
            )

    def reindex(
        self,
        *,
        model: str | None = None,
        analyzer: Analyzer | Mapping[str, Any] | str | Path | None = None,
        weights: str | os.PathLike[str] | None = None,
        allow_missing: bool = False,
        keep_old: bool = False,
        progress: ReindexProgress | None = None,
    ) -> ReindexReport:
        """Build the index anew and put the new one in its place in one step.

        The pictures are read again from their URIs; labels, metadata and the list of rejected
        pictures stay. With the analyzer that the index has, the documents are copied: that changes
        the schema, or what was given on opening as for a new index (``shards``, ``vectors``).
        Where the other analyzer only has more embedding filters, they are copied as well, and their
        deep features pass through these: no picture is read.

        Args:
            model: another model.
            analyzer: instead of a model, another analyzer.
            weights: a local file with the model's weights.
            allow_missing: leave out pictures that cannot be read any more; by default, the index
                stays as it was.
            keep_old: keep the replaced index, as ``<name>.old`` or under its number.
            progress: called with the documents done and all documents.

        Raises:
            MissingPicturesError: pictures cannot be read any more.
            IndexNotFoundError: there is no such index.
            StoppedError: a KeyboardInterrupt, as of ``add``; the next run goes on.
        """
        self._renew()
        stored = self.store.stored_settings() or known_settings(self.store)
        runtime = None if isinstance(analyzer, Analyzer) else self._wanted.runtime
        wanted = WantedAnalyzer(model, analyzer, weights, runtime).build_other(stored)
        settings = replace(stored, schema_version=SCHEMA_VERSION)
        new, analyze, convert = self.store.beside(), None, None
        added = wanted.filters_added_to(stored.analyzer, stored.weights) if wanted else ()
        if wanted is not None and added:
            settings, convert = with_more_filters(settings, wanted, added), with_filters(added)
        elif wanted is not None:
            settings = settings_of(wanted)
            target = ImageIndex(self.location, analyzer=wanted)
            target.store = new

            def analyze(uris: list[str], labels: Callable[[str], Sequence[str]]) -> IndexReport:
                return target.add(uris, labels=labels, retry=True, progress=False)

        rebuild = Rebuild(
            self.store,
            new,
            settings,
            analyze,
            convert=convert,
            allow_missing=allow_missing,
            progress=progress,
        )
        with self._for_one_index():
            report = rebuild.run(keep=keep_old)
        if wanted is not None:  # what was asked for on opening was of the old index
            self._wanted = WantedAnalyzer(runtime=self._wanted.runtime)
            self._analyzer, self._checked_with = wanted, None
        return report

    def learn_whitening(
        self,
        path: str | os.PathLike[str],
        *,
        dimensions: int | None = None,
        force: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> Whitening:
        """Learn PCA whitening on the stored deep features, and write it into a file.

        An analyzer uses it by the embedding filter ``{"name": "pca_whiten", "path": path}``: for a
        new index, or for this one by ``reindex``.

        Args:
            path: of the file, which ends in .npz.
            dimensions: how many to keep; by default all in which the features vary.
            force: overwrite a file that exists.
            progress: called with the number of pictures so far.

        Raises:
            ConfigurationError: there are no deep features, or too few for so many dimensions.
            ExchangeError: the file exists or cannot be written.
        """
        from imgsearch_es.learning.whitening import learn_whitening

        return learn_whitening(
            self.store, Path(path), dimensions=dimensions, force=force, progress=progress
        )

    # -- finding -------------------------------------------------------------------------------

    def _build(self, request: SearchRequest) -> Query:
        return QueryBuilder(self.store, lambda: self.analyzer, self.vocabulary).build(request)

    @asks
    def query(self, request: SearchRequest) -> Query:
        """Build a query without running it; takes what ``search`` takes.

        With ``feedback``, the first of the two searches is run: its hits are in the query.
        """
        return self._build(request)

    @asks
    def search(self, request: SearchRequest) -> Hits:
        """Find pictures, by formula (1) unless ``strategy`` says otherwise.

        The arguments are the fields of a `SearchRequest`: ``index.search("cat.jpg", k=5)``.

        Raises:
            QueryError: the query cannot be understood (UnknownWordError: with suggestions).
            ImageError: the query picture cannot be read.
            AnalyzerMismatchError: the index was built with another analyzer.
        """

        def ask() -> Hits:
            query = self._build(request)
            return Hits(query, self.store.search(query), self.store)

        return self._of_one_index(ask)

    def pages(
        self,
        image: QueryImages | None = None,
        text: str | None = None,
        *,
        query: Query | None = None,
        size: int = 100,
        **options: Any,
    ) -> Generator[Hits, None, None]:
        """All pictures that match, a page at a time: for more hits than one search gives.

        The pages add up to one ranking, which does not change while others write: what is added
        meanwhile does not appear. In a file, pictures removed meanwhile are left out, so a page
        may be shorter; on Elasticsearch a page may be up to five minutes after the one before.

        Args:
            image: as ``search`` takes it.
            text: as ``search`` takes it.
            query: instead of all others, a query built by ``query``.
            size: how many hits a page has, up to 10,000.
            **options: more arguments of ``search``, without ``k``.

        Raises:
            QueryError: as ``search``, and at once.
        """
        if query is None:
            query = self._of_one_index(lambda: self.query(image, text, k=size, **options))
        elif image is not None or text is not None or options:
            raise QueryError("give query= or what it is built from, not both")
        if query.fusion is not None or query.candidates:
            raise QueryError("pages go through an exact ranking by one strategy; use k and offset")
        known_settings(self.store)
        return pages(self.store, replace(query, k=size))

    def search_many(self, queries: Iterable[Query | Mapping[str, Any]]) -> list[Hits]:
        """Run many queries, as ``search`` would one by one, in far fewer requests: for experiments.

        Args:
            queries: built by ``query``, or dictionaries of its arguments.

        Returns:
            Hits in the order of the queries.

        Raises:
            QueryError: a query cannot be understood; says which, counted from 0.
        """
        asked = list(queries)

        def ask() -> list[Hits]:
            built = []
            for i, query in enumerate(asked):
                try:
                    built.append(query if isinstance(query, Query) else self.query(**query))
                except (QueryError, TypeError) as error:
                    raise QueryError(f"query {i}: {error}") from error
            results = self.store.search_many(built)
            return [Hits(q, found, self.store) for q, found in zip(built, results, strict=True)]

        return self._of_one_index(ask)

    def more_like(self, picture: str | os.PathLike[str], k: int = 10, **options: Any) -> Hits:
        """The pictures most like an indexed one, without itself.

        Args:
            picture: id, URI or path of a picture in the index.
            k: how many hits.
            options: more arguments of ``search``, such as ``strategy="dense-cosine"``.

        Raises:
            QueryError: the index has no such picture.
        """
        self.get(picture)
        return self.search(image=picture, k=k, exclude_self=True, **options)

    def browse(self, text: str = "", *, k: int = 12, strategy: str = "auto") -> SearchBox:
        """A search box for notebooks: words with completion, likes and dislikes, facets, pages.

        Args:
            text: words to begin with.
            k: hits on a page.
            strategy: as ``search`` takes it; it can be changed in the box.

        Raises:
            MissingDependencyError: ipywidgets is not installed.
        """
        try:
            from imgsearch_es.interfaces.notebook.search_box import SearchBox
        except ModuleNotFoundError as error:
            raise MissingDependencyError(
                "the search box needs ipywidgets, which is not installed. "
                f"Install it with: {pip_install('widgets')}"
            ) from error
        return SearchBox(self, text, k=k, strategy=strategy)

    def facets(
        self,
        query: Query | None = None,
        fields: Sequence[str] = FACETS,
        size: int = 10,
        *,
        where: Mapping[str, Any] | None = None,
    ) -> Facets:
        """Count what the pictures that match have: synsets, labels, formats, ranges of size.

        Args:
            query: all that it matches are counted, whatever its k; by default every picture.
            fields: any of "synsets", "top_synset", "label", "format", "width", "height", "bytes"
                and "metadata.<name>".
            size: how many values of a field, most frequent first; of ranges all are given.
            where: conditions on fields, as ``search`` takes them; with a query both count.

        Returns:
            ``{"label": [{"value": "cats", "count": 7}, ...], ...}``

        Raises:
            QueryError: there is no such facet, or the query has a threshold.
        """
        self._settings()
        check_facets(fields, size)
        if query is not None and query.threshold is not None:
            raise QueryError("facets count what meets conditions: leave out the threshold")
        wanted = Selection() if query is None else query
        wanted = replace(wanted, filters=wanted.filters + parse_filters(where, self.vocabulary))
        return self.store.facets(wanted, list(dict.fromkeys(fields)), size)

    def duplicates(self, near: float | bool | None = None) -> list[DuplicateGroup]:
        """Groups of pictures that are the same.

        Args:
            near: None finds files with the same bytes. A number also finds pictures whose deep
                features have at least this cosine; True takes 0.95. Groups are connected
                components. All pairs are compared, so the time is quadratic.

        Returns:
            Largest groups first, ties by the first picture's URI.

        Raises:
            QueryError: ``near`` is not above 0 and at most 1, or the index has no deep features.
        """
        settings, threshold = self._settings(), to_threshold(near)
        if threshold is not None and not settings.embedding_dimensions:
            raise QueryError(f"{self.location} has no deep features to find near duplicates by")
        prints = self.store.fingerprints(embeddings=threshold is not None)
        found = []
        for groups in in_batches(find_groups(prints, threshold)):
            known = self.store.get([key for ids in groups for key in ids])
            there = ([known[key] for key in ids if key in known] for ids in groups)
            found += [describe_group(group) for group in there if len(group) > 1]
        return sorted(found, key=lambda group: (-len(group.pictures), group.pictures[0].uri))

    def analyze(self, image: ImageSource) -> Analysis:
        """The terms and the deep feature that this index's analyzer gives a picture."""
        return self.analyzer.analyze(self.analyzer.open(image).image)

    # -- ending --------------------------------------------------------------------------------

    def close(self) -> None:
        """Let go of files and connections; the index opens again when needed."""
        self.store.close()

    def __enter__(self) -> ImageIndex:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"ImageIndex({self.location!r})"

    def __reduce__(self) -> tuple[Callable[[], ImageIndex], tuple[()]]:
        """An index that is unpickled opens anew, as this one was opened."""
        options: dict[str, Any] = asdict(replace(self._wanted, analyzer=None))
        analyzer = self._wanted.analyzer
        options["analyzer"] = analyzer.config if isinstance(analyzer, Analyzer) else analyzer
        is_url = self.location.startswith(("http://", "https://"))
        place = self._place if is_url else self.location  # which is absolute
        return partial(ImageIndex, place, **options, **self._store_options), ()

    # -- inside --------------------------------------------------------------------------------

    def _settings(self) -> IndexSettings:
        self._renew()
        settings = known_settings(self.store)
        if self._wanted.is_asked_for and self._checked_with is not settings:
            _ = self.analyzer  # raises when it is another than the index's
        return settings

    def _renew(self) -> None:
        """Notice that the index was rebuilt, except while documents are written to it."""
        if not self._writing:
            self.store.renew()

    @contextmanager
    def _for_one_index(self) -> Iterator[None]:
        """While documents are analyzed and written: should the index be rebuilt, it is an error."""
        with self._lock:
            self._writing += 1
        try:
            yield
        finally:
            with self._lock:
                self._writing -= 1

    def _of_one_index(self, ask: Callable[[], T]) -> T:
        """The answer to a query that was built for the index that answered it."""
        for _ in range(_ATTEMPTS):
            self._renew()
            before = self.store.settings()
            try:
                answer = ask()
            except IndexRebuiltError:
                continue
            if self.store.settings() is before:
                return answer
        raise IndexRebuiltError(f"{self.location} is rebuilt again and again; try later")

    def _is_of_index(self, analyzer: Analyzer, settings: IndexSettings | None) -> bool:
        if settings is None or settings is self._checked_with:
            return True
        mine = analyzer.config, analyzer.fingerprint()
        if not is_same_analyzer(*mine, settings.analyzer, settings.weights):
            return False
        self._checked_with = settings
        return True
