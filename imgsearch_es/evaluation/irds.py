"""Collections of ir_datasets: registered ones by name, and folders of the same form.

A folder has ``docs.jsonl`` (doc_id, image, label, sha256), ``queries.jsonl`` (query_id, text,
image, region), ``qrels.txt`` and ``collection.yaml``; see ``evaluation.sharing``, which writes it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from imgsearch_es.errors import EvaluationError, needed
from imgsearch_es.evaluation.collection import Collection, Topic, locate
from imgsearch_es.evaluation.judgements import JUNK, Judgements
from imgsearch_es.evaluation.text_files import read_text

DOCS, QUERIES, QRELS, ABOUT = "docs.jsonl", "queries.jsonl", "qrels.txt", "collection.yaml"
FORMAT = 1
_IMAGES = ("image", "png", "webp", "path", "image_path")
"""What fields of documents with a picture are called, the first that is given counts."""


class ImageDoc(NamedTuple):
    """A picture of a collection: ``image`` is its path or URL."""

    doc_id: str
    image: str
    label: list[str]
    sha256: str

    def default_text(self) -> str:
        """Its labels: ir_datasets asks every document for a text."""
        return " ".join(self.label)


class ImageQuery(NamedTuple):
    """Words, a picture (of the collection by doc_id, or a path), or both."""

    query_id: str
    text: str
    image: str
    region: list[float] | None

    def default_text(self) -> str:
        """The words."""
        return self.text


def load(place: str | os.PathLike[str]) -> Any:
    """A dataset of ir_datasets: a folder of the form above, or a registered one by its name.

    Raises:
        EvaluationError: there is neither.
        MissingDependencyError: ir_datasets is not installed.
    """
    irds = needed("ir_datasets", "collections need ir_datasets", "ir_datasets")
    folder = Path(place).expanduser()
    if not folder.is_dir():
        try:
            return irds.load(os.fspath(place))
        except KeyError:
            raise EvaluationError(
                f"{place} is neither a folder nor a dataset of ir_datasets"
            ) from None
    about(folder)
    local, formats = irds.util.LocalDownload, irds.formats

    class Docs(formats.JsonlDocs):  # type: ignore[misc, name-defined]
        """Pictures, whose paths begin at the folder."""

        def docs_iter(self) -> Iterator[ImageDoc]:
            return map(_absolute(folder), super().docs_iter())

    return irds.datasets.base.Dataset(
        Docs(local(folder / DOCS), ImageDoc, namespace=folder.name),
        formats.JsonlQueries(local(folder / QUERIES), ImageQuery),
        formats.TrecQrels(local(folder / QRELS), about(folder).get("grades", {})),
    )


def documents(place: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """The documents of a dataset as PyTerrier's `Index.index` takes them.

    Each has ``docno``, ``image`` (a path, URL or bytes) and perhaps ``label``.
    """
    for document in _rows(load(place).docs_iter(), f"{place}: its documents"):
        fields = document._asdict()
        image = next((fields[name] for name in _IMAGES if fields.get(name)), None)
        if image is None:
            raise EvaluationError(f"{place} has documents without a picture, such as {document[0]}")
        label = {"label": fields["label"]} if fields.get("label") else {}
        yield {"docno": document.doc_id, "image": image, **label}


class Parts(NamedTuple):
    """What a dataset makes of a task."""

    name: str
    judgements: Judgements
    topics: dict[str, Topic]
    measures: tuple[str, ...]


def read(place: str, collection: Collection) -> Parts:
    """The judgements and queries of a dataset, for an index that has its documents."""
    dataset, folder = load(place), Path(place).expanduser()
    known = about(folder) if folder.is_dir() else {}
    if not (dataset.has_queries() and dataset.has_qrels()):
        raise EvaluationError(f"{place} has no queries or no judgements")
    grades: dict[str, dict[str, int]] = {}
    junk: dict[str, set[str]] = {}
    for row in _rows(dataset.qrels_iter(), f"{place}: its judgements"):
        grades.setdefault(row.query_id, {})
        if row.relevance == JUNK and known:
            junk.setdefault(row.query_id, set()).add(row.doc_id)
        else:  # the best of several, such as Touché's for and against
            known_as = grades[row.query_id].get(row.doc_id, row.relevance)
            grades[row.query_id][row.doc_id] = max(row.relevance, known_as)
    asked = {
        row.query_id: _topic(row, collection, folder)
        for row in _rows(dataset.queries_iter(), f"{place}: its queries")
        if row.query_id in grades
    }
    judged = Judgements(grades, {query: frozenset(names) for query, names in junk.items()})
    return Parts(
        str(known.get("name", place)), judged.select(asked), asked, tuple(known.get("measures", ()))
    )


def _rows(rows: Iterator[Any], what: str) -> Iterator[Any]:
    """Rows, as long as ir_datasets can read them."""
    while True:
        try:
            row = next(rows, None)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise EvaluationError(f"{what} cannot be read: {error!r:.200}") from error
        if row is None:
            return
        yield row


def _topic(row: Any, collection: Collection, folder: Path) -> Topic:
    image, region = getattr(row, "image", None), getattr(row, "region", None)
    text = row.default_text() if hasattr(row, "default_text") else row.text
    try:
        found = locate(image, collection, folder) if image else None
        return Topic(found, text or None, region=None if region is None else tuple(region))
    except (EvaluationError, TypeError) as error:
        raise EvaluationError(f"the query {row.query_id}: {error}") from error


def about(folder: Path) -> dict[str, Any]:
    """What the folder's ``collection.yaml`` says."""
    yaml = needed("yaml", "collections need PyYAML", "ir_datasets")
    try:
        found = yaml.safe_load(read_text(folder / ABOUT))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise EvaluationError(f"{folder / ABOUT} is no YAML: {error}") from error
    if not isinstance(found, dict) or found.get("imgsearch_es_collection") != FORMAT:
        raise EvaluationError(
            f"{folder} is no collection of this version: {ABOUT} says no "
            f"'imgsearch_es_collection: {FORMAT}'"
        )
    measures = found.get("measures", [])
    if not (isinstance(measures, list) and all(isinstance(one, str) for one in measures)):
        raise EvaluationError(f"{folder / ABOUT}: measures is a list of names, such as [AP, P@10]")
    return found


def _absolute(folder: Path) -> Any:
    def absolute(document: ImageDoc) -> ImageDoc:
        is_url = "://" in document.image
        return document if is_url else document._replace(image=str(folder / document.image))

    return absolute


def json_lines(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Rows as JSON Lines."""
    return (json.dumps(row, ensure_ascii=False) for row in rows)
