"""The settings of a sweep, and the index of each, made with one forward pass per picture and model.

A setting says how many terms a picture keeps and asks with, and which filters run. Chains of term
filters have short names, in the order in which they run:

plain                       nothing but top_k
sqrt                        top_k, then square roots
min_score=0.01+sqrt         top_k, then these two
hypernyms+top_k             hypernyms before the cut: what is cut are classes and hypernyms together

``top_k`` runs first unless a chain says where. A filter's only option stands behind ``=``.

What the model says of each picture is kept in an index like any other whose analyzer has no term
filters, so every term is there. Term filters run on what it holds exactly as they run in an
analyzer. It is brought up to date as any index is: pictures that it has are not analyzed again, and
an interrupted run goes on.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis.analyzer import Analyzer
from imgsearch_es.analysis.filters import TERM_FILTERS, VIEWS, create_term_filter
from imgsearch_es.analysis.models.base import Model, Prediction, WrappedModel
from imgsearch_es.analysis.plugins import load_plugin
from imgsearch_es.errors import EvaluationError, IndexNotFoundError
from imgsearch_es.evaluation.systems import System
from imgsearch_es.index import ImageIndex
from imgsearch_es.indexing import IndexReport, Labels, Progress
from imgsearch_es.indexing.exchange.rows import chunks
from imgsearch_es.pictures.images import ImageSource
from imgsearch_es.pictures.manifests import PictureList
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.stores.base import IndexSettings, known_settings
from imgsearch_es.stores.embedded.store import EmbeddedStore
from imgsearch_es.vocabulary.synsets import Vocabulary

TOP_K = (1, 2, 5, 10, 20, 50, 100, 1000)
PLAIN = "plain"
_CUT = "top_k"
POSTING_BYTES = 10
"""A term's number (2 bytes), a document's (4) and a score (4)."""
FEATURE_BYTES = 4
"""A float32 number."""
_TOGETHER = 256
"""Documents whose posteriors are in memory at a time."""
Sources = ImageSource | PictureList | Iterable[ImageSource | PictureList]


@dataclass(frozen=True, slots=True)
class Chain:
    """Term filters before and after the cut to so many terms, and what they are called."""

    name: str
    before: tuple[dict[str, Any], ...] = ()
    after: tuple[dict[str, Any], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Chain:
        """Read the short name."""
        name = "".join(text.split())
        parts = [] if name == PLAIN else name.split("+")
        cuts = [i for i, part in enumerate(parts) if part == _CUT]
        if len(cuts) > 1 or any(part.startswith(f"{_CUT}=") for part in parts):
            raise EvaluationError(
                f"{name}: how many terms are kept is the sweep's to say; top_k stands there once, "
                "without a number, or not at all"
            )
        at = cuts[0] if cuts else -1
        before, after = parts[: max(at, 0)], parts[at + 1 :]
        return cls(name, tuple(map(_filter, before)), tuple(map(_filter, after)))

    def term_filters(self, top_k: int) -> list[dict[str, Any]]:
        """The configurations of an analyzer's term filters."""
        return [*self.before, {"name": _CUT, "k": top_k}, *self.after]

    def terms_to_cut(self, classes: Vocabulary) -> int:
        """How many terms there are where the cut is made, of a model with these classes."""
        for config in self.before:
            classes = create_term_filter(config).vocabulary(classes)
        return len(classes)


class Setting(NamedTuple):
    """One way to make terms of a posterior."""

    chain: Chain
    top_k: int
    query_terms: int | None = None


def settings(
    chains: Sequence[Chain],
    top_k: Sequence[int],
    query_terms: Sequence[int],
    classes: Vocabulary,
) -> list[Setting]:
    """Every chain with every number of terms; numbers above all there are become all, once.

    Without ``query_terms``, a query picture asks with all terms. Of several that are at least as
    many as a picture keeps, the least stands for all.
    """
    asks = dict.fromkeys(min(n, len(classes)) for n in query_terms) or (None,)
    return [
        Setting(chain, k, asked)
        for chain in chains
        for asked in asks
        for k in dict.fromkeys(min(k, chain.terms_to_cut(classes)) for k in top_k)
        if asked is None or not any(n is not None and k <= n < asked for n in asks)
    ]


def parse_chains(texts: str | Iterable[str]) -> tuple[Chain, ...]:
    """Chains by their short names, or one text with commas between them."""
    names = texts.split(",") if isinstance(texts, str) else list(texts)
    chains = tuple(Chain.parse(name) for name in names if name.strip())
    if not chains or len({chain.name for chain in chains}) < len(chains):
        raise EvaluationError(
            f"name chains of term filters, each once, such as {PLAIN},sqrt,hypernyms"
        )
    return chains


def parse_numbers(option: str, numbers: str | Iterable[int]) -> tuple[int, ...]:
    """Numbers of terms, ascending, or one text with commas between them."""
    given = numbers.split(",") if isinstance(numbers, str) else list(numbers)
    try:
        found = sorted({int(number) for number in given})
    except ValueError as error:
        raise EvaluationError(f"{option} takes whole numbers such as 1,10,100: {error}") from error
    if not found or found[0] < 1:
        raise EvaluationError(f"{option} takes whole numbers above 0, not {numbers!r}")
    return tuple(found)


def _filter(text: str) -> dict[str, Any]:
    """The configuration of one filter, checked and complete."""
    name, sign, value = text.partition("=")
    config: dict[str, Any] = {"name": name}
    if sign:
        factory = load_plugin(TERM_FILTERS, name)
        fields = dataclasses.fields(factory) if dataclasses.is_dataclass(factory) else ()
        if len(fields) != 1:
            raise EvaluationError(f"the term filter {name} has no option of its own")
        config[fields[0].name] = _number(value, text)
    create_term_filter(config)
    return config


def _number(text: str, where: str) -> float | int:
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    raise EvaluationError(f"{where}: {text!r} is no number")


# -- what a model says -----------------------------------------------------------------------------


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
        had = self._ids
        report = self.index.add(pictures, labels=labels, prune=True, progress=progress)
        if analyzed := report.added + report.updated - report.reused:
            before = self._clocked
            clocked = before[0] + analyzed, before[1] + report.seconds
            self._speed.write_text(json.dumps(clocked), encoding="utf-8")
        kept = self.index.count() if self.index.exists else 0
        present = report.found - len(report.rejected)
        if kept > present:
            if report.kept:  # a drive may not be mounted
                raise EvaluationError(report.kept[0])
            if had:  # what came now is of the other collection
                self.index.remove(self._ids - had)
            raise EvaluationError(
                f"{self.index.location} has {kept - present} pictures that are not among those "
                "named: a cache is for one collection, give another folder"
            )
        if not kept:
            raise EvaluationError("there are no pictures to search for among those named")
        return report

    @property
    def _ids(self) -> set[str]:
        """Of the pictures that the file has."""
        if not self.index.exists:
            return set()
        return {item.id for item in self.index.store.fingerprints(embeddings=False)}

    @property
    def _clocked(self) -> tuple[int, float]:
        """Pictures that were analyzed into the file, and the seconds that it took."""
        try:
            count, seconds = json.loads(self._speed.read_text(encoding="utf-8"))
            return int(count), float(seconds)
        except (OSError, ValueError, TypeError, OverflowError):
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

    def compared_bytes(self, system: System) -> float:
        """Bytes per picture of what a system compares, uncompressed: postings, deep features."""
        words = min(known_settings(self.index.store).visual_words, self.dimensions)
        postings = system.uses_synsets * self.terms + system.uses_visual_words * words
        features = system.uses_vectors * self.dimensions
        return postings * POSTING_BYTES + float(features * FEATURE_BYTES)


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
