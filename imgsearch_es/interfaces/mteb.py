"""MTEB and MIEB: an analyzer and a strategy as a search model (extra ``mteb``).

    import mteb
    from imgsearch_es.mteb import Search

    mteb.evaluate(Search("efficientnet-lite0", "sqrt"), mteb.get_task("..."))

MTEB asks a model that searches, rather than one that gives vectors, for rankings: these are those
of the strategy, by its own score. So tasks of retrieval and reranking whose documents are pictures
are answered, with queries of words, of pictures, or of both.
"""

from __future__ import annotations

import shutil
import warnings
import weakref
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from imgsearch_es.analysis.analyzer import Analyzer
from imgsearch_es.errors import (
    ConfigurationError,
    ImageError,
    MissingDependencyError,
    QueryError,
    pip_install,
)
from imgsearch_es.evaluation import System
from imgsearch_es.evaluation.runs import falling
from imgsearch_es.index import ImageIndex
from imgsearch_es.indexing.exchange.rows import chunks
from imgsearch_es.pictures.files import picture_id
from imgsearch_es.pictures.images import open_image
from imgsearch_es.retrieval.strategies import StrategyName
from imgsearch_es.search.hits import Hits

try:
    from mteb.models import ModelMeta
except ImportError as error:
    raise MissingDependencyError(
        f"imgsearch_es.mteb needs mteb, on Python 3.11 or newer: {pip_install('mteb')}"
    ) from error

_TOGETHER = 256
"""Pictures of one run of indexing, and queries of one request."""


class Search:
    """What MTEB takes for a model: it indexes a task's pictures, and ranks them by a strategy.

    >>> model = Search("efficientnet-lite0", "sqrt")
    >>> model.mteb_model_meta.name
    'imgsearch_es/efficientnet-lite0-sqrt'

    Args:
        analyzer: a model by name, such as "efficientnet-lite0", or an Analyzer, its configuration,
            or "paper".
        strategy: a strategy or fusion by its short name, as `imgsearch evaluate` takes it.
        options: further ones of `ImageIndex` for the index of each task, such as ``terms``.

    Raises:
        QueryError: there is no such strategy.
    """

    def __init__(
        self,
        analyzer: str | Analyzer | Mapping[str, Any],
        strategy: StrategyName | str = "auto",
        **options: Any,
    ) -> None:
        is_name = isinstance(analyzer, str) and analyzer != "paper"
        self._options = {"model" if is_name else "analyzer": analyzer, **options}
        self.system = System.parse(strategy)
        self._folder = Path(mkdtemp(prefix="imgsearch-mteb-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self.images = self._new()
        self._ids: dict[str, list[str]] = {}

    def _new(self) -> ImageIndex:
        return ImageIndex(self._folder / "corpus.duckdb", **self._options)

    @cached_property
    def mteb_model_meta(self) -> ModelMeta:
        """What MTEB keeps of a model with its results: analyzer, strategy, and no vectors."""
        analyzer = self.images.analyzer
        name = f"{analyzer.config['model']['name']}-{self.system.name}"
        return ModelMeta(
            name=f"imgsearch_es/{name.replace('/', '_')}",
            revision=analyzer.fingerprint().removeprefix("sha256:")[:12],
            modalities=["image", "text"],
            model_type=["hybrid" if self.system.uses_features else "sparse"],
            use_instructions=False,
            **dict.fromkeys(_UNKNOWN),
            **{"loader": None, "framework": []},
        )

    def index(self, corpus: Any, *, task_metadata: Any, **others: Any) -> None:
        """Index the documents of a task: a dataset with the columns ``id`` and ``image``.

        >>> import datasets
        >>> corpus = datasets.Dataset.from_dict({"id": ["d1"], "image": ["photos/chelsea.jpg"]})
        >>> model = Search("efficientnet-lite0")
        >>> model.index(corpus, task_metadata=None)

        Raises:
            ConfigurationError: the documents are no pictures.
        """
        if "image" not in corpus.column_names:
            raise ConfigurationError(
                f"imgsearch_es finds pictures, and the documents of {task_metadata.name} have none"
            )
        self.images.close()
        for file in self._folder.iterdir():
            file.unlink()
        self.images, self._ids, rejected = self._new(), {}, list[str]()
        for some in chunks(corpus.select_columns(["id", "image"]), _TOGETHER):
            opened = list(self._opened(some, rejected))
            report = self.images.add(opened, progress=False)
            rejected += [f"{self._ids[one.uri][0]}: {one.reason}" for one in report.rejected]
        if rejected:
            warnings.warn(
                f"{len(rejected)} documents of {task_metadata.name} cannot be found, such as "
                f"{rejected[0]}",
                stacklevel=2,
            )

    def _opened(self, rows: Iterable[Mapping[str, Any]], rejected: list[str]) -> Iterator[Any]:
        """The pictures of documents; several may have the same."""
        for row in rows:
            try:
                uri = open_image(row["image"]).uri
            except (ImageError, ConfigurationError) as error:
                rejected.append(f"{row['id']}: {error}")
                continue
            self._ids.setdefault(uri, []).append(row["id"])
            yield row["image"]

    def search(
        self,
        queries: Any,
        *,
        task_metadata: Any,
        top_k: int,
        top_ranked: Mapping[str, list[str]] | None = None,
        **others: Any,
    ) -> dict[str, dict[str, float]]:
        """Scores of the best documents by query; each falls below the one before it.

        >>> import datasets
        >>> corpus = datasets.Dataset.from_dict({"id": ["d1"], "image": ["photos/chelsea.jpg"]})
        >>> model = Search("efficientnet-lite0", "dense-cosine")
        >>> model.index(corpus, task_metadata=None)
        >>> model.search(corpus, task_metadata=None, top_k=1)
        {'d1': {'d1': 1.0}}

        Args:
            queries: a dataset with the columns ``id``, and ``text``, ``image`` or both.
            task_metadata: whose name warnings have.
            top_k: how many documents of each query.
            top_ranked: by query, the documents to rank and no others.
            others: of no meaning here.
        """
        found: dict[str, dict[str, float]] = {}
        failed: list[str] = []
        names = [name for name in ("id", "text", "image") if name in queries.column_names]
        system = self.system.to_depth(top_k)
        for rows in chunks(queries.select_columns(names), _TOGETHER):
            asked = [self._query(row, system, top_k, top_ranked) for row in rows]
            for row, hits in zip(rows, self.images._answers(asked), strict=True):
                if isinstance(hits, QueryError):
                    failed.append(f"{row['id']}: {hits}")
                ranked = hits if isinstance(hits, Hits) else ()
                found[row["id"]] = self._ranked(ranked, (top_ranked or {}).get(row["id"]), top_k)
        if failed:
            warnings.warn(
                f"{len(failed)} queries of {task_metadata.name} have no answer, such as "
                f"{failed[0]}",
                stacklevel=2,
            )
        return found

    def _query(
        self,
        row: Mapping[str, Any],
        system: System,
        k: int,
        top_ranked: Mapping[str, list[str]] | None,
    ) -> dict[str, Any]:
        query = {name: row[name] for name in ("image", "text") if row.get(name) is not None}
        query |= {"k": k, "exclude_self": False, **system.options}
        if top_ranked is not None:
            wanted = set(top_ranked.get(row["id"], ()))
            uris = [uri for uri, ids in self._ids.items() if wanted.intersection(ids)]
            query |= {"where": {"id": [picture_id(uri) for uri in uris]}, "k": max(len(uris), 1)}
        return query

    def _ranked(
        self, hits: Iterable[Any], candidates: list[str] | None, k: int
    ) -> dict[str, float]:
        """Scores that fall; candidates that share no synset with the query have 0."""
        found = {key: hit.score for hit in hits for key in self._ids[hit.uri]}
        if candidates is not None:
            found = {key: score for key, score in found.items() if key in candidates}
            if self.system.uses_synsets:
                found |= {key: 0.0 for key in candidates if key not in found}
        best = list(found)[:k]
        scores = falling(found[key] for key in best).tolist()
        return dict(zip(best, scores, strict=True))


_UNKNOWN = (
    *("release_date", "languages", "n_parameters", "memory_usage_mb", "max_tokens", "embed_dim"),
    *("license", "open_weights", "public_training_code", "public_training_data"),
    *("similarity_fn_name", "training_datasets"),
)
"""What MTEB asks of a model, and an analyzer does not know of itself."""
