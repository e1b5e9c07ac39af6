"""ImageIndex: the one object that a user holds."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgsearch_es.analysis import DEFAULT_MODEL, Analysis, Analyzer, Term
from imgsearch_es.dense import COMPARISONS
from imgsearch_es.documents import Document
from imgsearch_es.errors import (
    AnalyzerMismatchError,
    ConfigurationError,
    ImageError,
    IndexNotFoundError,
    QueryError,
)
from imgsearch_es.files import in_memory, picture_id, read_bytes, to_uri
from imgsearch_es.hits import Hits
from imgsearch_es.images import ImageSource, Limits, open_image
from imgsearch_es.indexing import (
    BATCH_SIZE,
    DEFAULT_LIMITS,
    Indexer,
    IndexReport,
    Labels,
    Progress,
    as_labels,
)
from imgsearch_es.queries import Query, parse_filters, parse_words, synset_vector
from imgsearch_es.stores import open_store
from imgsearch_es.stores.base import IndexSettings, Store
from imgsearch_es.synsets import Vocabulary

_ID = re.compile(r"[0-9a-f]{32}")
_PLACES = ("weights", "path", "labels")
"""Options of a model that say where its files are on this machine, not what it is."""


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
        store_options: for Elasticsearch: ``api_key``, ``username``, ``password``, ``ca_certs``,
            ``verify_certs``, ``timeout``, ``shards``, ``replicas``.

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
        self.store: Store = open_store(place, **store_options)
        self._wanted_model = model
        self._wanted_analyzer = analyzer
        self._weights = None if weights is None else os.fspath(weights)
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
                    _check_same(self.location, settings, analyzer)
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
        sources: ImageSource | Iterable[ImageSource],
        *,
        labels: Labels = None,
        metadata: Mapping[str, Any] | None = None,
        prune: bool = False,
        batch_size: int = BATCH_SIZE,
        workers: int | None = None,
        limits: Limits = DEFAULT_LIMITS,
        progress: Progress | None = None,
    ) -> IndexReport:
        """Bring the index up to date with files, folders or pictures in memory.

        A picture that the index knows, with the same content, is not analyzed again.

        Args:
            sources: one or several: paths, URLs, folders (with all below them), bytes, binary
                files, Pillow images, arrays of shape (height, width, 3).
            labels: what to call the pictures: one label, several, or a function of the URI (see
                ``folder_label``). None leaves the labels that are stored.
            metadata: a person's own fields for each of them, JSON values.
            prune: also remove documents below the folders named whose files are gone.
            batch_size: pictures per forward pass.
            workers: threads that read and decode; by default one per core.
            limits: the largest picture to accept.
            progress: called with the report so far and the number of pictures found.

        Returns:
            Counts, and the rejected pictures with reasons.

        Raises:
            SourceError: a file or folder named does not exist.
            AnalyzerMismatchError: the index was built with another analyzer.
        """
        indexer = Indexer(
            self.store,
            lambda: self.analyzer,
            labels=labels,
            metadata=metadata,
            batch_size=batch_size,
            workers=workers,
            limits=limits,
            progress=progress,
        )
        sources = _several(sources)
        found = indexer.find(sources)
        if found and not self.exists:
            self.create()
        if self.exists:
            self._settings()
            indexer.run(found)
            if prune:
                indexer.prune(sources, found)
        return indexer.report

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
        if isinstance(pictures, str | os.PathLike):
            pictures = [pictures]
        ids = [_to_id(picture) for picture in pictures]
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
        key = _to_id(picture)
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
        image: ImageSource | None = None,
        text: str | None = None,
        *,
        where: Mapping[str, Any] | None = None,
        k: int = 10,
        offset: int = 0,
        strategy: str = "auto",
        parameters: Mapping[str, float] | None = None,
        threshold: float | None = None,
        exclude_self: bool = False,
    ) -> Query:
        """Build a query without running it; takes what ``search`` takes."""
        if image is None and text is None:
            raise QueryError("what to search for? Give image=, text=, or both")
        vocabulary = self.vocabulary
        words = parse_words(text, vocabulary) if text is not None else None
        seen = None if image is None else self._look_at(image)
        if words is not None and words.terms and strategy in COMPARISONS:
            raise QueryError(f"{strategy} compares pictures: words have no deep feature")
        return Query(
            terms=synset_vector(seen.terms if seen else (), words.terms if words else ()),
            must_not=words.must_not if words else (),
            filters=parse_filters(where),
            exclude=(picture_id(seen.uri),) if exclude_self and seen else (),
            k=k,
            offset=offset,
            strategy=strategy,
            parameters=dict(parameters or {}),
            text=text,
            embedding=seen.embedding if seen and strategy in COMPARISONS else None,
            threshold=threshold,
            pictures=(seen.shown,) if seen else (),
            hints=words.hints if words else (),
        )

    def search(
        self,
        image: ImageSource | None = None,
        text: str | None = None,
        *,
        where: Mapping[str, Any] | None = None,
        k: int = 10,
        offset: int = 0,
        strategy: str = "auto",
        parameters: Mapping[str, float] | None = None,
        threshold: float | None = None,
        exclude_self: bool = False,
    ) -> Hits:
        """Find pictures, by formula (1) unless ``strategy`` says otherwise.

        Args:
            image: a picture: a path, URL, bytes, Pillow image, array; or the id or URI of one in
                the index, whose stored terms are used so that no model is loaded.
            text: words: ``tabby cat``, ``"golden retriever"``, ``dog -poodle``. Added to the
                picture's synsets, with weight 1 each.
            where: conditions on fields: ``{"label": "indoor", "width": {"gte": 800}}``.
            k: how many hits.
            offset: how many of the best to leave out, for the next page.
            strategy: how to score. "auto", "impact", "script" and "script-filtered" are ways to
                compute formula (1) and give the same hits; "tfidf", "cosine", "sqrt" and "bm25"
                are other formulas (see ``imgsearch_es.scoring``); "dense-cosine" and the other
                "dense-*" compare deep features instead (see ``imgsearch_es.dense``).
            parameters: of the formula: k1 and b of "bm25".
            threshold: the least score of a hit, for the strategies "dense-*".
            exclude_self: leave out the query picture itself.

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
            exclude_self=exclude_self,
        )
        return Hits(query, self.store.search(query))

    def analyze(self, image: ImageSource) -> Analysis:
        """The terms and the deep feature that this index's analyzer gives a picture."""
        return self.analyzer.analyze(open_image(image).image)

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
        settings = self.store.settings()
        if settings is None:
            raise IndexNotFoundError(
                f"there is no index at {self.location}; `imgsearch index` or add() makes one"
            )
        if not self._checked:
            if self._wanted_model is not None or self._wanted_analyzer is not None:
                _ = self.analyzer  # raises when it is another than the index's
            self._checked = True
        return settings

    def _build_analyzer(self, settings: IndexSettings | None) -> Analyzer:
        if isinstance(self._wanted_analyzer, Analyzer):
            return self._wanted_analyzer
        if self._wanted_analyzer is not None:
            return Analyzer(self._wanted_analyzer)
        if settings is None or self._wanted_model is not None:
            model: dict[str, Any] = {"name": self._wanted_model or DEFAULT_MODEL}
            config: dict[str, Any] = {"model": model}
        if settings is not None:
            stored = dict(settings.analyzer)
            if self._wanted_model in (None, stored["model"]["name"]):
                config, model = stored, dict(stored["model"])
        if self._weights is not None:
            model["weights"] = self._weights
        return Analyzer({**config, "model": model})

    def _look_at(self, image: ImageSource) -> _Seen:
        """Read a query picture: from the index where it is, else by the analyzer."""
        if isinstance(image, str | os.PathLike):
            key = _to_id(image)
            stored = self.store.get([key]).get(key)
            if stored is not None and _is_unchanged(stored):
                return _Seen(stored.uri, stored.terms, stored.embedding, stored.uri)
            if isinstance(image, str) and _ID.fullmatch(image) and not Path(image).exists():
                raise QueryError(f"{self.location} has no picture with the id {image}")
        picture = open_image(image)
        analysis = self.analyzer.analyze(picture.image)
        shown = picture.uri if isinstance(image, str | os.PathLike) else picture.image
        return _Seen(picture.uri, analysis.terms, analysis.embedding, shown)


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """A query picture: its URI, what the analyzer says of it, and what to show of it."""

    uri: str
    terms: tuple[Term, ...]
    embedding: NDArray[np.float32] | None
    shown: str | Image.Image


def _check_same(location: str, settings: IndexSettings, analyzer: Analyzer) -> None:
    """An index is searched and extended with the analyzer that built it, or not at all."""
    stored, wanted = _essence(settings.analyzer), _essence(analyzer.config)
    if stored != wanted:
        raise AnalyzerMismatchError(
            f"{location} was built with {_described(settings.analyzer)}, not with "
            f"{_described(analyzer.config)}: open it without naming a model or analyzer, or index "
            "the pictures again under another name"
        )
    weights = analyzer.fingerprint()
    if settings.weights != weights:
        raise AnalyzerMismatchError(
            f"{location} was built with {_described(settings.analyzer)} and the weights "
            f"{settings.weights[:19]}, not {weights[:19]}: give the right file by weights= "
            "(--weights), or index the pictures again under another name"
        )


def _essence(config: Mapping[str, Any]) -> dict[str, Any]:
    model = {k: v for k, v in config["model"].items() if k not in _PLACES}
    if str(model["name"]).startswith("keras:"):
        model["name"] = "keras"  # the path may differ between machines, the weights may not
    return {**config, "model": model}


def _described(config: Mapping[str, Any]) -> str:
    filters = [*config["image_filters"], *config["term_filters"]]
    parts = (
        part["name"] + "".join(f" {v}" for k, v in part.items() if k != "name") for part in filters
    )
    return f"the model {config['model']['name']} ({', '.join(parts)})"


def _is_unchanged(document: Document) -> bool:
    """Whether a document still speaks for its file; a file that is gone cannot contradict it."""
    if in_memory(document.uri):
        return True
    try:
        return hashlib.sha256(read_bytes(document.uri)).hexdigest() == document.sha256
    except ImageError:
        return True


def _to_id(picture: str | os.PathLike[str]) -> str:
    if isinstance(picture, str) and _ID.fullmatch(picture):
        return picture
    return picture_id(to_uri(picture))


def _several(sources: ImageSource | Iterable[ImageSource]) -> list[ImageSource]:
    single = isinstance(sources, str | os.PathLike | bytes | bytearray) or hasattr(sources, "read")
    if single or not isinstance(sources, Iterable) or hasattr(sources, "shape"):
        return [sources]  # type: ignore[list-item]
    return list(cast(Iterable[ImageSource], sources))
