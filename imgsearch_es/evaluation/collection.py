"""What is searched in, and for what: pictures by name, topics, and collections of ir_datasets.

In memory documents have the index's ids; in files names, which mean the same on another machine:
the URI without the folder that all of them share, ``cats/cat.7.jpg``.

Collections of ir_datasets are registered ones by name, and folders of the same form: ``docs.jsonl``
(doc_id, image, label, sha256), ``queries.jsonl`` (query_id, text, image, region), ``qrels.txt`` and
``collection.yaml``; see ``evaluation.sharing``, which writes them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple

from imgsearch_es.errors import ConfigurationError, EvaluationError, needed
from imgsearch_es.evaluation.judgements import JUNK, Judgements
from imgsearch_es.evaluation.text_files import (
    Table,
    as_column,
    fingerprint,
    frame_rows,
    is_frame,
    read_rows,
    read_text,
)
from imgsearch_es.index import ImageIndex
from imgsearch_es.pictures.files import to_uri
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.feedback import Region

DOCNO = "docno"
"""The field of a document's metadata that keeps its id in another collection."""
DOCS, QUERIES, QRELS, ABOUT = "docs.jsonl", "queries.jsonl", "qrels.txt", "collection.yaml"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Item:
    """One picture of a collection: ``name`` is unique, ``analysis`` a hash of what is compared."""

    id: str
    name: str
    uri: str
    sha256: str
    labels: tuple[str, ...]
    analysis: str

    @property
    def filename(self) -> str:
        """The last part of the URI."""
        return self.uri.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The file's name without its extension."""
        return self.filename.rpartition(".")[0] or self.filename


class Collection:
    """All pictures of an index, sorted by name; of documents with one id the last counts."""

    def __init__(self, documents: Iterable[Document]) -> None:
        found: dict[str, Item] = {}
        docnos: list[tuple[str, str]] = []
        for d in documents:
            found[d.id] = Item(d.id, d.uri, d.uri, d.sha256, d.labels, _analysis(d))
            docnos += [(str(d.metadata[DOCNO]), d.id)] if DOCNO in d.metadata else []
        self._docnos = _unique(docnos)
        uris = [item.uri for item in found.values()]
        shared = os.path.commonprefix(uris).rpartition("/")  # noqa: RUF071  (cut at a slash; URLs)
        start = len(shared[0] + shared[1])
        named = (replace(item, name=as_column(item.uri[start:])) for item in found.values())
        self.items: tuple[Item, ...] = tuple(sorted(named, key=lambda item: item.name))

    @classmethod
    def of(cls, index: ImageIndex) -> Collection:
        """Read the collection from an index, which must have pictures."""
        index.count()  # raises when there is no index
        collection = cls(index.store.documents())
        if not collection.items:
            raise EvaluationError(f"{index.location} has no pictures to search for")
        return collection

    def __len__(self) -> int:
        return len(self.items)

    @cached_property
    def by_id(self) -> Mapping[str, Item]:
        """The pictures by id."""
        return {item.id: item for item in self.items}

    def name(self, key: str) -> str:
        """The name of a document; of another id, such as that of words, the id without spaces."""
        item = self.by_id.get(key)
        return as_column(str(key)) if item is None else item.name

    def find(self, text: str) -> str:
        """The id of the one picture that is called by its id, name, path, URI or the end of one."""
        for names in self._names:
            if text in names:
                if (key := names[text]) is None:
                    raise EvaluationError(
                        f"several pictures are called {text}: give more of their paths"
                    )
                return key
        key = self._names[0].get(_uri(text))
        if key is None:
            raise EvaluationError(f"the index has no picture {text}")
        return key

    def has(self, text: str) -> bool:
        """Whether a picture, or several, are called so."""
        return any(text in names for names in self._names) or _uri(text) in self._names[0]

    def id_of(self, text: str) -> str:
        """The id of a picture that is called so, or the text itself where there is none."""
        return self.find(text) if self.has(text) else text

    @cached_property
    def _names(self) -> tuple[Mapping[str, str | None], ...]:
        """What pictures are called, surest first; None where several are called so."""
        full = ((name, item.id) for item in self.items for name in (item.id, item.name, item.uri))
        ends = ((name, item.id) for item in self.items for name in _endings(item.uri))
        stems = ((item.stem, item.id) for item in self.items)
        return _unique(full), self._docnos, _unique(ends), _unique(stems)

    @property
    def fingerprints(self) -> dict[str, str | int]:
        """Tell the bytes, the labels and (to the last bit) the terms and features from others."""
        return {
            "pictures": len(self),
            "contents": fingerprint((item.name, item.sha256) for item in self.items),
            "labels": fingerprint((item.name, item.labels) for item in self.items),
            "analysis": fingerprint((item.name, item.analysis) for item in self.items),
        }


@dataclass(frozen=True, slots=True)
class Topic:
    """What one query searches for: a picture, words or both.

    >>> queries = {"q1": "tabby cat", "q2": Topic("photos/chelsea.jpg", "sofa")}
    >>> index.run(queries, "sqrt", k=3).to_frame().columns.tolist()
    ['qid', 'docno', 'rank', 'score']

    Attributes:
        image: the id of a document, or the path or URL of a picture.
        text: words, as ``ImageIndex.search`` takes them.
        region: the part of the picture: left, top, right, bottom, as ``ImageIndex.search``.
    """

    image: str | None = None
    text: str | None = None
    region: Region | None = None

    def __post_init__(self) -> None:
        if not self.image and not self.text:
            raise EvaluationError("a query needs a picture, words or both")
        for given in filter(None, (self.image, self.text)):
            if not isinstance(given, str):
                raise EvaluationError(f"a query's picture and words are texts, not {given!r:.60}")
        numbers = (0, 0, 0, 0) if self.region is None else self.region
        if len(numbers) != 4 or not all(isinstance(number, Real) for number in numbers):
            raise EvaluationError(f"a region is four numbers, not {self.region!r:.60}")

    @classmethod
    def of(cls, given: Topic | str | os.PathLike[str]) -> Topic:
        """A topic, one of words, or one of a picture's path (``pathlib.Path``)."""
        if isinstance(given, os.PathLike):
            return cls(image=os.fspath(given))
        if isinstance(given, str):
            return cls(text=given)
        if not isinstance(given, Topic):
            raise EvaluationError(
                f"a query is words, the Path of a picture or a Topic, not {given!r:.60}"
            )
        return given


Topics = str | os.PathLike[str] | Mapping[str, Topic] | Mapping[str, str | os.PathLike[str]] | Table
"""Queries by id: words, paths of pictures or Topics; or the CSV, or table, that holds them."""


def to_topics(queries: Topics, collection: Callable[[], Collection]) -> dict[str, Topic]:
    """The topics of queries; the collection is for a CSV, whose pictures have names."""
    if isinstance(queries, str | os.PathLike):
        return read_topics(queries, collection())
    if is_frame(queries):
        return _table_topics(queries)
    if not isinstance(queries, Mapping):
        raise EvaluationError(f"queries have ids, as in {{'q1': 'cat'}}; {queries!r:.60} has none")
    if not queries:
        raise EvaluationError("there is no query")
    return {query: Topic.of(given) for query, given in queries.items()}


def _table_topics(table: Table) -> dict[str, Topic]:
    names = [name for name in ("query", "text", "image") if name in table.columns]
    if not names:
        raise EvaluationError("the table of queries has no column query, text or image")
    topics: dict[str, Topic] = {}
    for key, *cells in frame_rows(table, "qid", *names):
        given = {n: c for n, c in zip(names, cells, strict=True) if c is not None and str(c)}
        if str(key) in topics:
            raise EvaluationError(f"the table has the query {key} twice")
        image, words = given.get("image"), given.get("query") or given.get("text")
        topics[str(key)] = Topic(str(image) if isinstance(image, Path) else image, words)
    return topics


def read_topics(path: str | os.PathLike[str], collection: Collection) -> dict[str, Topic]:
    """Read queries from a CSV (or .tsv) whose first line names its columns.

    Columns: ``query`` (its id), and ``image``, ``text`` or both. A picture is one of the index by
    name, or a path, which is relative to the file.
    """
    source = Path(path).expanduser()
    topics: dict[str, Topic] = {}
    delimiter = "\t" if ".tsv" in source.suffixes else ","
    for where, row in read_rows(source, ["query"], ["image", "text"], delimiter):
        query, image = row["query"], row.get("image")
        if not query or query in topics:
            raise EvaluationError(f"{where}: the query {query!r} is empty or comes a second time")
        try:
            found = locate(image, collection, source.parent) if image else None
            topics[query] = Topic(found, row.get("text") or None)
        except EvaluationError as error:
            raise EvaluationError(f"{where}: {error}") from error
    if not topics:
        raise EvaluationError(f"{source} holds no queries")
    return topics


def locate(name: str, collection: Collection, folder: Path | None = None) -> str:
    """The id of a picture of the index, else the path of a file, or a URL."""
    if collection.has(name):
        return collection.find(name)
    if "://" in name:
        return name
    path = (folder or Path()) / Path(name).expanduser()
    if not path.is_file():
        raise EvaluationError(f"{name} is neither in the index nor a file")
    return collection.id_of(str(path))


def _uri(text: str) -> str:
    try:
        return to_uri(text)
    except ConfigurationError:
        return text


def _analysis(document: Document) -> str:
    digest = hashlib.sha256(repr([(t.key, float(t.score)) for t in document.terms]).encode())
    if document.embedding is not None:
        digest.update(document.embedding.astype("<f4").tobytes())
    return digest.hexdigest()


def _endings(uri: str) -> list[str]:
    parts = uri.split("/")
    raw = {"/".join(parts[i:]) for i in range(1, len(parts))}
    return sorted(raw | {as_column(text) for text in raw})


def _unique(pairs: Iterable[tuple[str, str]]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name, key in pairs:
        found[name] = key if found.get(name, key) == key else None
    return found


# -- ir_datasets -----------------------------------------------------------------------------------


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
            unknown = f"{place} is neither a folder nor a dataset of ir_datasets"
            raise EvaluationError(unknown) from None
    known = about_folder(folder)
    local, formats = irds.util.LocalDownload, irds.formats

    class Docs(formats.JsonlDocs):  # type: ignore[misc, name-defined]
        def docs_iter(self) -> Iterator[ImageDoc]:
            for document in super().docs_iter():
                is_url = "://" in document.image
                path = document.image if is_url else str(folder / document.image)
                yield document._replace(image=path)

    return irds.datasets.base.Dataset(
        Docs(local(folder / DOCS), ImageDoc, namespace=folder.name),
        formats.JsonlQueries(local(folder / QUERIES), ImageQuery),
        formats.TrecQrels(local(folder / QRELS), known.get("grades", {})),
    )


def read_dataset(
    place: str, collection: Collection
) -> tuple[str, Judgements, dict[str, Topic], tuple[str, ...]]:
    """The name, judgements, queries and measures of a dataset, whose documents are indexed."""
    dataset, folder = load(place), Path(place).expanduser()
    known = about_folder(folder) if folder.is_dir() else {}
    if not (dataset.has_queries() and dataset.has_qrels()):
        raise EvaluationError(f"{place} has no queries or no judgements")
    grades: dict[str, dict[str, int]] = {}
    junk: dict[str, set[str]] = {}
    for row in dataset_rows(dataset.qrels_iter(), f"{place}: its judgements"):
        judged = grades.setdefault(row.query_id, {})
        if row.relevance == JUNK and known:
            junk.setdefault(row.query_id, set()).add(row.doc_id)
        else:  # the best of several, such as Touché's for and against
            judged[row.doc_id] = max(row.relevance, judged.get(row.doc_id, row.relevance))
    asked = {
        row.query_id: _dataset_topic(row, collection, folder)
        for row in dataset_rows(dataset.queries_iter(), f"{place}: its queries")
        if row.query_id in grades
    }
    found = Judgements(grades, {query: frozenset(names) for query, names in junk.items()})
    name, measures = str(known.get("name", place)), tuple(known.get("measures", ()))
    return name, found.select(asked), asked, measures


def dataset_rows(rows: Iterator[Any], what: str) -> Iterator[Any]:
    """Rows, as long as ir_datasets can read them."""
    try:
        yield from rows
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise EvaluationError(f"{what} cannot be read: {error!r:.200}") from error


def _dataset_topic(row: Any, collection: Collection, folder: Path) -> Topic:
    image, region = getattr(row, "image", None), getattr(row, "region", None)
    text = row.default_text() if hasattr(row, "default_text") else row.text
    try:
        found = locate(image, collection, folder) if image else None
        return Topic(found, text or None, region=None if region is None else tuple(region))
    except (EvaluationError, TypeError) as error:
        raise EvaluationError(f"the query {row.query_id}: {error}") from error


def about_folder(folder: Path) -> dict[str, Any]:
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
