"""ImageIndex: the one object that a user holds."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from imgsearch_es.analysis import DEFAULT_MODEL, Analysis, Analyzer
from imgsearch_es.background import refresh
from imgsearch_es.conditions import parse_filters
from imgsearch_es.dense import COMPARISONS
from imgsearch_es.documents import Document
from imgsearch_es.duplicates import (
    DuplicateGroup,
    describe_group,
    find_groups,
    in_batches,
    to_threshold,
)
from imgsearch_es.errors import (
    ConfigurationError,
    QueryError,
)
from imgsearch_es.facets import FACETS, Facets, check_facets
from imgsearch_es.feedback import (
    ROCCHIO,
    Region,
    Rocchio,
    features,
    mean_embedding,
    mean_terms,
)
from imgsearch_es.filters import with_fast_decode
from imgsearch_es.fusion import Fusion, Part, fused_terms, to_fusion
from imgsearch_es.hits import Hits
from imgsearch_es.images import ImageSource, Limits
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
from imgsearch_es.indexing.engines import create_engine
from imgsearch_es.language import parse_words
from imgsearch_es.manifests import PictureList
from imgsearch_es.models import create_model
from imgsearch_es.models.runtime import check_runtime
from imgsearch_es.paging import pages
from imgsearch_es.queries import Query, Selection, synset_vector, to_candidates
from imgsearch_es.query_pictures import (
    PictureReader,
    QueryImages,
    ids_of,
    region_text,
    several,
    to_id,
)
from imgsearch_es.stores import open_store
from imgsearch_es.stores.base import IndexSettings, Store, known_settings
from imgsearch_es.synsets import Vocabulary


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
            ``verify_certs``, ``timeout``; and for an index that is created ``shards``,
            ``replicas``, ``vectors`` and ``similarity`` (see ``stores.elastic.ElasticStore``).

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
        if model is not None and analyzer is not None:
            raise ConfigurationError("give a model or an analyzer, not both")
        if fast_decode and analyzer is not None:
            raise ConfigurationError('an analyzer says for itself: resize with decode = "fast"')
        if runtime is not None and isinstance(analyzer, Analyzer):
            raise ConfigurationError("this analyzer has its runtime: Analyzer(..., runtime=...)")
        if runtime is not None:
            check_runtime(runtime)
        self.store: Store = open_store(place, **store_options)
        self._wanted_model = model
        self._wanted_analyzer = analyzer
        self._weights = None if weights is None else os.fspath(weights)
        self._runtime = runtime
        self._fast_decode = fast_decode
        self._analyzer: Analyzer | None = None
        self._checked = False
        self._lock = threading.Lock()

    # -- what the index is ---------------------------------------------------------------------

    @property
    def location(self) -> str:
        """The path or URL, without credentials."""
        return self.store.location

    @property
    def exists(self) -> bool:
        """Whether the index was created."""
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
            if self._analyzer is None:
                settings = self.store.settings()
                analyzer = self._build_analyzer(settings)
                if settings is not None:
                    analyzer.check_is(settings.analyzer, settings.weights, self.location)
                self._analyzer = analyzer
            return self._analyzer

    def create(self) -> None:
        """Create the index, empty; ``add`` does it when needed.

        Raises:
            StoreError: it exists.
        """
        analyzer = self.analyzer
        self.store.create(
            IndexSettings(
                analyzer=analyzer.config,
                weights=analyzer.fingerprint(),
                vocabulary=analyzer.vocabulary,
                embedding_dimensions=analyzer.embedding_dimensions,
            )
        )

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
        progress: Progress | None = None,
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
            batch_size: pictures per forward pass; by default what proves fastest.
            workers: processes that decode; by default as many as the model can use, at most one
                per core. With Ray: actors, each with a model.
            limits: the largest picture to accept.
            progress: called with the report so far and the number of pictures, None while they
                are being found.

        Returns:
            Counts, and the rejected pictures with reasons.

        Raises:
            SourceError: a file or folder named does not exist, or pruning would be a mistake.
            AnalyzerMismatchError: the index was built with another analyzer.
            ReconciliationError: the index does not hold what was written to it.
            StoppedError: a KeyboardInterrupt that carries the report: after Ctrl-C or SIGTERM,
                once all that was analyzed is stored.
        """
        options = Options(
            labels=labels,
            metadata=metadata,
            prune=prune,
            retry=retry,
            batch_size=batch_size,
            workers=workers,
            limits=limits,
        )
        where = create_engine(engine, self._runtime)
        pictures = cast(list[ImageSource | PictureList], several(cast(QueryImages, sources)))
        if self.exists:
            self._settings()  # raises when another model was asked for
        indexer = Indexer(self.store, lambda: self.analyzer, self.create, options, progress, where)
        report = indexer.run(pictures)
        if self.exists:
            refresh(self.store, report.added + report.updated + report.removed)
        return report

    def rejected(self) -> list[Rejected]:
        """The pictures that could not be indexed, and why; one is struck out when it can be."""
        self._settings()
        return self.store.ledger.read()

    def retry(self, *, progress: Progress | None = None) -> IndexReport:
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
        """
        stored = self.get(picture)
        document = replace(
            stored,
            labels=stored.labels if labels is None else as_labels(labels),
            metadata=stored.metadata if metadata is None else dict(metadata),
        )
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
        found = self.store.get([key])
        if key not in found:
            raise QueryError(f"{self.location} has no picture {os.fspath(picture)}")
        return found[key]

    def count(self) -> int:
        """How many pictures the index has."""
        self._settings()
        return self.store.count()

    def stats(self) -> dict[str, Any]:
        """Figures of the index, and of the analyzer that built it, as JSON values."""
        settings = self._settings()
        return {
            **self.store.stats(),
            "analyzer": dict(settings.analyzer),
            "weights": settings.weights,
        }

    # -- finding -------------------------------------------------------------------------------

    def query(
        self,
        image: QueryImages | None = None,
        text: str | None = None,
        *,
        where: Mapping[str, Any] | None = None,
        k: int = 10,
        offset: int = 0,
        strategy: str = "auto",
        parameters: Mapping[str, float] | None = None,
        threshold: float | None = None,
        approximate: bool = False,
        candidates: int | None = None,
        exclude_self: bool = False,
        like: QueryImages | None = None,
        dislike: QueryImages | None = None,
        region: Region | None = None,
        views: Sequence[str] = (),
        feedback: int = 0,
        rocchio: Rocchio = ROCCHIO,
        fuse: Mapping[str, float] | Fusion | None = None,
    ) -> Query:
        """Build a query without running it; takes what ``search`` takes.

        With ``feedback``, the first of the two searches is run: its hits are in the query.
        """
        images, good, bad = several(image), several(like), several(dislike)
        if not images and not good and text is None:
            also = "; dislike= only moves what they ask for" if bad else ""
            raise QueryError(f"what to search for? Give image=, text=, like= or several{also}")
        if region is not None and len(images) != 1:
            raise QueryError(f"a region is of one picture: image= has {len(images)}")
        if views and not images:
            raise QueryError("views are of the pictures of image=: there are none")
        vocabulary = self.vocabulary
        words = parse_words(text, vocabulary) if text is not None else None
        reader = PictureReader(self.store, lambda: self.analyzer)
        seen = reader.read(images, region, views)
        liked, disliked = reader.read(good), reader.read(bad)
        pictures = [*seen, *liked, *disliked]
        fusion = to_fusion(fuse)
        if words is not None and words.terms and strategy in COMPARISONS:
            raise QueryError(f"{strategy} compares pictures: words have no deep feature")
        embedding = None
        if (strategy in COMPARISONS or (fusion and fusion.has_features)) and (seen or liked):
            own = mean_embedding(features(seen)) if seen else None
            embedding = rocchio.embedding(own, features(liked), features(disliked))
        named = words.terms if words else ()
        judged = [e.terms for e in liked], [e.terms for e in disliked]
        own_terms = mean_terms([e.terms for e in seen])
        terms = rocchio.terms(synset_vector(own_terms, named), *judged)
        parts: tuple[Part, ...] = ()
        if fusion is not None:
            parts = fusion.parts(rocchio.terms(own_terms, *judged), named, terms)
            terms = fused_terms(parts)
        query = Query(
            terms=terms,
            must=words.must if words else (),
            must_not=words.must_not if words else (),
            filters=(words.filters if words else ()) + parse_filters(where, vocabulary),
            exclude=ids_of(pictures) if exclude_self else (),
            k=k,
            offset=offset,
            strategy=strategy,
            parameters=dict(parameters or {}),
            text=words.text if words else None,
            embedding=embedding,
            threshold=threshold,
            candidates=to_candidates(approximate, candidates),
            pictures=tuple(example.shown for example in pictures),
            roles=("image",) * len(seen) + ("like",) * len(liked) + ("dislike",) * len(disliked),
            part=region_text(region, seen),
            hints=words.hints if words else (),
            fusion=fusion,
            parts=parts,
        )
        return self._expanded(query, feedback, rocchio) if feedback else query

    def search(
        self,
        image: QueryImages | None = None,
        text: str | None = None,
        *,
        where: Mapping[str, Any] | None = None,
        k: int = 10,
        offset: int = 0,
        strategy: str = "auto",
        parameters: Mapping[str, float] | None = None,
        threshold: float | None = None,
        approximate: bool = False,
        candidates: int | None = None,
        exclude_self: bool = False,
        like: QueryImages | None = None,
        dislike: QueryImages | None = None,
        region: Region | None = None,
        views: Sequence[str] = (),
        feedback: int = 0,
        rocchio: Rocchio = ROCCHIO,
        fuse: Mapping[str, float] | Fusion | None = None,
    ) -> Hits:
        """Find pictures, by formula (1) unless ``strategy`` says otherwise.

        Args:
            image: a picture: a path, URL, bytes, Pillow image, array; or the id or URI of one in
                the index (or a hit), whose stored terms are used so that no model is loaded.
                Of several, the mean counts.
            text: words: ``tabby cat``, ``"golden retriever"``, ``dog^2 +ball -poodle``, and
                conditions among them: ``label:pets`` (see ``imgsearch_es.language``). Added to
                the picture's synsets, with weight 1 each unless boosted.
            where: conditions on fields: ``{"label": "indoor", "width": {"gte": 800}}``; a minus
                before a field negates.
            k: how many hits.
            offset: how many of the best to leave out, for the next page.
            strategy: how to score. "auto", "impact", "script" and "script-filtered" are ways to
                compute formula (1) and give the same hits; "tfidf", "cosine", "sqrt" and "bm25"
                are other formulas (see ``imgsearch_es.scoring``); "dense-cosine" and the other
                "dense-*" compare deep features instead (see ``imgsearch_es.dense``).
            parameters: of the formula: k1 and b of "bm25".
            threshold: the least score of a hit, for the strategies "dense-*".
            approximate: for "dense-cosine", "dense-dot" and "dense-euclidean": compare the
                candidates that the index of nearest neighbors gives, not every picture. Faster on
                many pictures; a hit may be missing, so ``hits.exact`` is False. On Elasticsearch
                for an index made with ``vectors="int8_hnsw"`` or the like; an index file answers
                exactly all the same.
            candidates: how many of them, by default 200; more find more, and take longer.
            exclude_self: leave out the query's own pictures.
            like: pictures to search closer to, given as ``image`` is; alone or with the rest.
            dislike: pictures to search further from.
            region: the part of the picture to search for: left, top, right, bottom in pixels of
                the upright picture, or in fractions of it where all four are 1 or less.
            views: also look at the picture's "mirror", "rotations" and "crops", and take the mean.
            feedback: search twice, the second time with so many of the best hits liked
                (pseudo-relevance feedback).
            rocchio: the weights of the query, the liked and the disliked pictures.
            fuse: parts and their weights, instead of one strategy: ``{"image": 1, "words": 0.5,
                "dense-cosine": 2}`` adds their scores; ``Fusion({...}, method="rrf")`` fuses
                ranks (see ``imgsearch_es.fusion``). "image" and "words" are the pictures' and the
                words' synsets by formula (1); a strategy takes both.

        Raises:
            QueryError: the query cannot be understood (UnknownWordError: with suggestions).
            ImageError: the query picture cannot be read.
            AnalyzerMismatchError: the index was built with another analyzer.
        """
        query = self.query(
            image,
            text,
            where=where,
            k=k,
            offset=offset,
            strategy=strategy,
            parameters=parameters,
            threshold=threshold,
            approximate=approximate,
            candidates=candidates,
            exclude_self=exclude_self,
            like=like,
            dislike=dislike,
            region=region,
            views=views,
            feedback=feedback,
            rocchio=rocchio,
            fuse=fuse,
        )
        return Hits(query, self.store.search(query), self.store)

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
            query = self.query(image, text, k=size, **options)
        elif image is not None or text is not None or options:
            raise QueryError("give query= or what it is built from, not both")
        if query.fusion is not None or query.candidates:
            raise QueryError("pages go through an exact ranking by one strategy; use k and offset")
        self._settings()
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
        built = []
        for i, query in enumerate(queries):
            try:
                built.append(query if isinstance(query, Query) else self.query(**query))
            except (QueryError, TypeError) as error:
                raise QueryError(f"query {i}: {error}") from error
        results = self.store.search_many(built)
        return [Hits(query, found, self.store) for query, found in zip(built, results, strict=True)]

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
        conditions = parse_filters(where, self.vocabulary)
        wanted: Query | Selection | None = query
        if conditions and query is not None:
            wanted = replace(query, filters=query.filters + conditions)
        elif conditions:
            wanted = Selection(conditions)
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

    # -- inside --------------------------------------------------------------------------------

    def _settings(self) -> IndexSettings:
        settings = known_settings(self.store)
        if not self._checked:
            asked = (self._wanted_model, self._wanted_analyzer)
            if asked != (None, None) or self._fast_decode:
                _ = self.analyzer  # raises when it is another than the index's
            self._checked = True
        return settings

    def _build_analyzer(self, settings: IndexSettings | None) -> Analyzer:
        if isinstance(self._wanted_analyzer, Analyzer):
            return self._wanted_analyzer
        if self._wanted_analyzer is not None:
            return Analyzer(self._wanted_analyzer, runtime=self._runtime)
        if settings is None or self._wanted_model is not None:
            model: dict[str, Any] = {"name": self._wanted_model or DEFAULT_MODEL}
            config: dict[str, Any] = {"model": model}
        if settings is not None:
            stored = dict(settings.analyzer)
            if self._wanted_model in (None, stored["model"]["name"]):
                config, model = stored, dict(stored["model"])
        if self._weights is not None:
            model["weights"] = self._weights
        config = {**config, "model": model}
        if self._fast_decode:
            filters = config.get("image_filters") or create_model(model).image_filters
            config["image_filters"] = with_fast_decode(filters)
        return Analyzer(config, runtime=self._runtime)

    def _expanded(self, query: Query, feedback: int, rocchio: Rocchio) -> Query:
        """The query moved towards its own best hits."""
        if feedback < 1:
            raise QueryError(f"feedback is a number of hits, not {feedback}")
        if query.fusion is not None:
            raise QueryError("feedback moves one vector, and a fusion has several: leave out one")
        first = self.store.search(replace(query, k=feedback, offset=0)).hits
        best = [scored.document for scored in first]
        if query.is_dense:  # hits come without their deep features
            stored = self.store.get([document.id for document in best])
            best = [stored[document.id] for document in best if document.id in stored]
        return replace(rocchio.expand(query, best), feedback=feedback)
