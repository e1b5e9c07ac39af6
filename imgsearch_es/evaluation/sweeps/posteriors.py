"""Full posteriors of a collection, kept in an index file: one forward pass per picture and model.

The file is an index like any other whose analyzer has no term filters, so every term is there. Term
filters run on what it holds exactly as they run in an analyzer. It is brought up to date as any
index is: pictures that it has are not analyzed again, and an interrupted run goes on.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis.analyzer import Analyzer
from imgsearch_es.analysis.filters import VIEWS
from imgsearch_es.analysis.models.base import Model, Prediction, WrappedModel
from imgsearch_es.errors import EvaluationError, IndexNotFoundError
from imgsearch_es.evaluation.sweeps.grid import Setting
from imgsearch_es.index import ImageIndex
from imgsearch_es.indexing import IndexReport, Labels, Progress
from imgsearch_es.indexing.exchange.rows import chunks
from imgsearch_es.pictures.images import ImageSource
from imgsearch_es.pictures.manifests import PictureList
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.stores.base import IndexSettings, known_settings
from imgsearch_es.stores.embedded.store import EmbeddedStore
from imgsearch_es.vocabulary.synsets import Vocabulary

POSTING_BYTES = 10
"""A term's number (2 bytes), a document's (4) and a score (4)."""
FEATURE_BYTES = 4
"""A float32 number."""
_TOGETHER = 256
"""Documents whose posteriors are in memory at a time."""
Sources = ImageSource | PictureList | Iterable[ImageSource | PictureList]


def split_views(model: str) -> tuple[str, str | None]:
    """A model's name, or a TOML file, and the views behind a plus: ``efficientnet-lite0+tiles``."""
    name, plus, views = model.rpartition("+")
    return (name, views) if plus and views in VIEWS else (model, None)


def model_name(model: str) -> str:
    """What tables call a model, or the analyzer of a TOML file, with its views."""
    place, views = split_views(model)
    name = Path(place).stem if place.endswith(".toml") else place
    return f"{name}+{views}" if views else name


class Posteriors:
    """What one model, or the analyzer of a TOML file, says of all pictures; kept in a folder."""

    def __init__(self, folder: Path, model: str, runtime: str | None = None) -> None:
        place, views = split_views(model)
        self.name = model_name(model)
        config = {**Analyzer(place).config, "term_filters": [], "query_terms": None}
        if views:
            config["views"] = views
        file_name = re.sub(r"[^\w.-]", "_", self.name)
        self._analyzer = Analyzer(config, runtime=runtime)
        self.index = ImageIndex(folder / f"{file_name}.duckdb", analyzer=self._analyzer)
        self._model = RememberingModel(self._analyzer.model)
        self._speed = folder / f"{file_name}.speed.json"

    def update(
        self, pictures: Sources | None, labels: Labels, progress: Progress | None
    ) -> IndexReport | None:
        """Analyze pictures that the file does not have yet; None takes it as it is."""
        if pictures is None:
            if not self.index.exists:
                raise IndexNotFoundError(
                    f"{self.index.location} has no posteriors of {self.name} yet: name the pictures"
                )
            self.index.analyzer  # noqa: B018  (raises when it is another one)
            return None
        if not self.index.exists:
            self._analyzer.embedding_dimensions  # noqa: B018  (loads the model before the clock)
        report = self.index.add(pictures, labels=labels, prune=True, progress=progress)
        if analyzed := report.added + report.updated - report.reused:
            before = self._clocked
            clocked = before[0] + analyzed, before[1] + report.seconds
            self._speed.write_text(json.dumps(clocked), encoding="utf-8")
        kept = self.index.count() if self.index.exists else 0
        present = report.found - len(report.rejected)
        if kept > present:
            raise EvaluationError(
                f"{self.index.location} has {kept - present} pictures that are not among those "
                "named: a cache is for one collection, give another folder"
            )
        if not kept:
            raise EvaluationError("there are no pictures to search for among those named")
        return report

    @property
    def _clocked(self) -> tuple[int, float]:
        """Pictures that were analyzed into the file, and the seconds that it took."""
        try:
            count, seconds = json.loads(self._speed.read_text(encoding="utf-8"))
            return int(count), float(seconds)
        except (OSError, ValueError, TypeError):
            return 0, 0.0

    @property
    def rate(self) -> float:
        """Pictures/s of reading, analyzing and writing them; nan where nobody knows."""
        count, seconds = self._clocked
        return count / seconds if seconds else math.nan

    @property
    def classes(self) -> Vocabulary:
        """The model's."""
        return self._analyzer.model.vocabulary

    def analyzer(self, setting: Setting, *, features: bool, words: bool = False) -> Analyzer:
        """The analyzer of a setting, whose model remembers the pictures that it has seen."""
        config = {
            **self._analyzer.config,
            "term_filters": setting.chain.term_filters(setting.top_k),
            "query_terms": setting.query_terms,
        }
        if not features:
            config["embedding"] = False
            config.pop("embedding_filters", None)
            config.pop("visual_words", None)
        elif words:
            config.setdefault("visual_words", True)
        made = Analyzer(config)
        made.model = self._model
        return made

    def documents(self) -> Iterator[tuple[list[Document], NDArray[np.float32]]]:
        """All documents and their posteriors, shape (documents, classes), some at a time."""
        column = {key: i for i, key in enumerate(self.classes.keys)}
        for some in chunks(self.index.store.documents(), _TOGETHER):
            scores = np.zeros((len(some), len(column)), dtype=np.float32)
            for row, document in enumerate(some):
                places = [column[term.key] for term in document.terms]
                scores[row, places] = [term.score for term in document.terms]
            yield some, scores


@dataclass(frozen=True, slots=True)
class Filled:
    """An index that was made for a setting, open; ``terms`` and bytes are means per picture."""

    index: ImageIndex
    terms: float
    dimensions: int
    file_bytes: float

    def compared_bytes(self, *, synsets: bool, features: bool, words: bool = False) -> float:
        """Bytes per picture of what is compared, uncompressed: postings, deep features."""
        kept = min(known_settings(self.index.store).visual_words, self.dimensions)
        postings = (synsets * self.terms + words * kept) * POSTING_BYTES
        return postings + float(features * self.dimensions * FEATURE_BYTES)


def fill(
    posteriors: Posteriors, setting: Setting, path: Path, *, features: bool, words: bool = False
) -> Filled:
    """Make the index of a setting: the terms that its filters make of kept posteriors."""
    analyzer = posteriors.analyzer(setting, features=features, words=words)
    stored = known_settings(posteriors.index.store)
    dimensions = stored.embedding_dimensions if analyzer.embedding else 0
    store = EmbeddedStore(path)
    store.create(IndexSettings(analyzer.config, stored.weights, analyzer.vocabulary, dimensions))
    terms = documents = 0
    for some, scores in posteriors.documents():
        made = [
            replace(document, terms=kept, embedding=document.embedding if features else None)
            for document, kept in zip(some, analyzer.to_terms(scores), strict=True)
        ]
        store.write(made)
        documents += len(made)
        terms += sum(len(document.terms) for document in made)
    store.finish()
    size = path.stat().st_size / documents
    store.close()
    index = ImageIndex(path, analyzer=analyzer)
    return Filled(index, terms / documents, dimensions, size)


class RememberingModel(WrappedModel):
    """A model that sees each picture once: for queries by new pictures."""

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self._said: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}

    def predict(self, pixels: NDArray[np.uint8]) -> Prediction:
        """What the model says of pictures, or said of them."""
        keys = [sha256(picture.tobytes()).hexdigest() for picture in pixels]
        new = [i for i, key in enumerate(keys) if key not in self._said]
        if new:
            found = self._model.predict(pixels[new])
            for i, posterior, embedding in zip(new, found.posterior, found.embedding, strict=True):
                self._said[keys[i]] = posterior, embedding
        posteriors, embeddings = zip(*(self._said[key] for key in keys), strict=True)
        return Prediction(np.stack(posteriors), np.stack(embeddings))
