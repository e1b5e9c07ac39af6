"""Frames of PyTerrier: what they must have, and documents, terms and judgements as rows of them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
import pyterrier as pt

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.errors import ConfigurationError, QueryError
from imgsearch_es.evaluation import Judgements
from imgsearch_es.evaluation.collection import DOCNO
from imgsearch_es.pictures.files import to_uri
from imgsearch_es.pictures.images import open_image
from imgsearch_es.retrieval.documents import Document

_PATHS, _PICTURES = 50_000, 500
"""Documents of one run of indexing."""


class Dataset(pt.datasets.Dataset):
    """Topics (``qid``, ``image``) and qrels of pictures of an index; see ``Index.dataset``.

    >>> data = photos.dataset("name:{label}-*")
    >>> len(data.get_topics()), len(data.get_qrels())
    (57, 114)
    """

    def __init__(self, topics: Mapping[str, str | None], judgements: Judgements) -> None:
        self._topics, self._judgements = topics, judgements

    def get_topics(self, variant: str | None = None) -> pd.DataFrame:
        """A table of ``qid`` and ``image``.

        >>> list(photos.dataset("name:{label}-*").get_topics())
        ['qid', 'image']
        """
        return pd.DataFrame(list(self._topics.items()), columns=["qid", "image"])

    def get_qrels(self, variant: str | None = None) -> pd.DataFrame:
        """A table of ``qid``, ``docno`` and ``label``.

        >>> list(photos.dataset("name:{label}-*").get_qrels())
        ['qid', 'docno', 'label']
        """
        return self._judgements.to_frame()


def check_columns(frame: pd.DataFrame, *columns: Sequence[str]) -> None:
    """Whether a frame has one of these sets of columns; PyTerrier asks so what is taken."""
    with pt.validate.any(frame) as either:
        for names in columns:
            either.columns(includes=list(names))


def candidates_of(
    frame: pd.DataFrame, ids: Mapping[str, str]
) -> tuple[dict[str, dict[str, str]], dict[tuple[str, str], int]]:
    """Where a frame has documents, docnos by id for each query, and in which row each stands."""
    found: dict[str, dict[str, str]] = {}
    rows: dict[tuple[str, str], int] = {}
    pairs = frame[["qid", DOCNO]].itertuples(index=False) if DOCNO in frame else ()
    for row, (qid, docno) in enumerate(pairs):
        name = str(docno)  # numbers, where a table was read from a file
        found.setdefault(qid, {})[ids.get(name, name)] = name
        rows[qid, name] = row
    return found, rows


def tell(who: pt.Transformer, failed: Sequence[tuple[str, QueryError]], asked: int) -> None:
    """Warn of queries without an answer; where that is so of all, the first is an error."""
    if failed and len(failed) == asked:
        raise failed[0][1]
    for qid, error in failed:
        why = str(error).partition(": ")[2]
        warnings.warn(f"{who!r} has no answer to {qid}: {why}", stacklevel=3)


def runs_of(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """Documents of one run of indexing each: many by path, fewer where pictures are in memory."""
    some: list[Mapping[str, Any]] = []
    in_memory = 0
    for row in rows:
        if not (is_given(row.get(DOCNO)) and is_given(row.get("image"))):
            raise ConfigurationError(f"a document needs docno and image, not {list(row)}")
        some.append(row)
        in_memory += not isinstance(row["image"], str | os.PathLike)
        if len(some) == _PATHS or in_memory == _PICTURES:
            yield some
            some, in_memory = [], 0
    if some:
        yield some


def uri_of(image: Any) -> str:
    """What a picture is called in an index."""
    return to_uri(image) if isinstance(image, str | os.PathLike) else open_image(image).uri


def own_fields(documents: Mapping[str, Mapping[str, Any]], uri: str) -> dict[str, str]:
    """The metadata of a picture: the docno of its document."""
    return {DOCNO: str(documents[uri][DOCNO])} if uri in documents else {}


def docno_of(document: Document) -> str:
    """The docno that a picture was indexed with, or else its id."""
    return str(document.metadata.get(DOCNO, document.id))


def toks_of(terms: Iterable[Term]) -> dict[str, float]:
    """Weights by term, in lower case: PISA looks for no other, and keys differ by more."""
    return {term.key.lower(): float(term.score) for term in terms}


def is_given(value: Any) -> bool:
    """Whether a cell of a table has a value: an empty one has None, nan or no text."""
    return not (value is None or value is pd.NA or (isinstance(value, float) and value != value)
                or (isinstance(value, str) and not value))  # fmt: skip
