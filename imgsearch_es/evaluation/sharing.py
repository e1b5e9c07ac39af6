"""A collection with its judgements in a folder that others can use, by ir_datasets or without.

    from imgsearch_es import ImageIndex
    from imgsearch_es.ir_datasets import write_collection

    write_collection(ImageIndex("pets.duckdb"), "labels", "pets-collection")

With ``terms`` it has the documents and queries as learned sparse vectors, too, in the form of
lsr-benchmark (https://github.com/reneuir/lsr-benchmark): its retrieval engines take the folder.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from imgsearch_es.errors import EvaluationError, ImageError, needed
from imgsearch_es.evaluation.collection import (
    ABOUT,
    DOCS,
    FORMAT,
    QRELS,
    QUERIES,
    Collection,
    Item,
    Topic,
    Topics,
    dataset_rows,
    load,
)
from imgsearch_es.evaluation.judgements import JUNK, Judgements, JudgementsLike
from imgsearch_es.evaluation.tasks import Task, make_task
from imgsearch_es.evaluation.text_files import read_lines, write_bytes, write_lines
from imgsearch_es.index import ImageIndex
from imgsearch_es.pictures.files import Limits, read_bytes

__all__ = ["documents", "load", "read_terms", "write_collection"]
_IMAGES = ("image", "png", "webp", "path", "image_path")
"""What fields of documents with a picture are called, the first that is given counts."""
_PLAIN = re.compile(r"""[^/\\:*?"<>|\x00-\x1f]+(/[^/\\:*?"<>|\x00-\x1f]+)*""")


def write_collection(
    index: ImageIndex,
    judgements: JudgementsLike,
    folder: str | os.PathLike[str],
    *,
    queries: Topics | None = None,
    pictures: bool = True,
    terms: bool = False,
) -> Path:
    """Write the pictures of an index, queries and judgements into a new folder.

    Args:
        index: whose pictures are the documents; their names there are their ids.
        judgements: as ``evaluate`` takes them.
        folder: must not exist, or be empty.
        queries: as ``evaluate`` takes them.
        pictures: copy the files into the folder; else documents name them where they are.
        terms: also write what the index's analyzer makes of documents and queries.

    Raises:
        EvaluationError: the judgements do not fit, or a picture is gone or has changed.
    """
    target, collection = Path(folder).expanduser(), Collection.of(index)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise EvaluationError(f"{target} exists: name a new folder")
    task = make_task(judgements, collection, queries=queries)
    writer = _Writer(target, collection, pictures)
    described = {
        "imgsearch_es_collection": FORMAT,
        "name": task.name,
        "docs": {"count": len(collection), **collection.fingerprints},
        "queries": {"count": len(task.judgements)},
        "grades": {
            1: "relevant",
            0: "not relevant",
            -1: "junk: not there for this query",
            -2: "not relevant, as judged below 0",
        },
        "measures": list(task.measures),
    }
    try:
        _write_json(target / DOCS, map(writer.document, collection.items))
        _write_json(target / QUERIES, (writer.query(*item) for item in task.topics.items()))
        _not_junk(task.judgements).renamed(collection.name).write_qrels(target / QRELS)
        if terms:
            _write_terms(target, index, collection, task)
        yaml = needed("yaml", "collections need PyYAML", "ir_datasets")
        text = yaml.safe_dump(described, sort_keys=False, allow_unicode=True)
        write_lines(target / ABOUT, text.splitlines())
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    return target


def _not_junk(judgements: Judgements) -> Judgements:
    """With grades that in the folder do not mean junk."""
    if not any(JUNK in grades.values() for grades in judgements.grades.values()):
        return judgements
    kept = {
        query: {key: JUNK - 1 if grade == JUNK else grade for key, grade in grades.items()}
        for query, grades in judgements.grades.items()
    }
    return Judgements(kept, judgements.junk)


def _write_json(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    write_lines(path, (json.dumps(row, ensure_ascii=False) for row in rows))


@dataclass(frozen=True)
class _Writer:
    folder: Path
    collection: Collection
    copies: bool

    def document(self, item: Item) -> dict[str, Any]:
        image = self._copied(item.uri, item.name, item.id, item.sha256) if self.copies else item.uri
        row = {"doc_id": item.name, "image": image, "label": list(item.labels)}
        return {**row, "sha256": item.sha256}

    def query(self, query: str, topic: Topic) -> dict[str, Any]:
        name = self.collection.name(query)
        image = self.collection.id_of(topic.image) if topic.image else ""
        if image in self.collection.by_id:
            image = self.collection.name(image)
        elif image and self.copies:
            key = hashlib.sha256(image.encode()).hexdigest()[:32]
            image = self._copied(image, "", key, None)
        region = None if topic.region is None else list(topic.region)
        return {"query_id": name, "text": topic.text or "", "image": image, "region": region}

    def _copied(self, uri: str, name: str, key: str, sha256: str | None) -> str:
        """Copy a picture; under its name, where that can be one of a file."""
        try:
            data = read_bytes(uri, Limits())
        except ImageError as error:
            raise EvaluationError(f"{uri} cannot be copied: {error.reason}") from error
        if sha256 not in (None, hashlib.sha256(data).hexdigest()):
            raise EvaluationError(f"{uri} has changed since it was indexed: index it again")
        parts = PurePosixPath(name).parts
        is_plain = _PLAIN.fullmatch(name) and not {".", ".."}.intersection(parts)
        suffix = PurePosixPath(uri).suffix.lower()
        place = f"images/{name}" if is_plain else f"images/{key}{suffix}"
        write_bytes(self.folder / place, data)
        return place


def documents(place: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """The documents of a dataset as PyTerrier's `Index.index` takes them.

    Each has ``docno``, ``image`` (a path, URL or bytes) and perhaps ``label``.
    """
    for document in dataset_rows(load(place).docs_iter(), f"{place}: its documents"):
        fields = document._asdict()
        image = next((fields[name] for name in _IMAGES if fields.get(name)), None)
        if image is None:
            raise EvaluationError(f"{place} has documents without a picture, such as {document[0]}")
        label = {"label": fields["label"]} if fields.get("label") else {}
        yield {"docno": document.doc_id, "image": image, **label}


# -- learned sparse vectors, as lsr-benchmark has them ---------------------------------------------


def _write_terms(folder: Path, index: ImageIndex, collection: Collection, task: Task) -> None:
    """Rows of a sparse matrix whose columns are terms, and the ids of the rows."""
    docs = {document.id: document.terms for document in index.store.documents()}
    queries = {
        name: index.query(topic.image, topic.text, region=topic.region).terms
        for name, topic in task.topics.items()
    }
    for kind, found in (("doc", docs), ("query", queries)):
        rows = [{term.key.lower(): term.score for term in terms} for terms in found.values()]
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            data=np.array([weight for row in rows for weight in row.values()], dtype=np.float32),
            indices=np.array([term for row in rows for term in row], dtype=np.str_),
            indptr=np.concatenate([[0], np.cumsum(list(map(len, rows)))]).astype(np.int64),
        )
        write_bytes(folder / kind / f"{kind}-embeddings.npz", buffer.getvalue())
        write_lines(folder / kind / f"{kind}-ids.txt", map(collection.name, found))


def read_terms(folder: str | os.PathLike[str], kind: str = "doc") -> dict[str, dict[str, float]]:
    """Weights by term of each document ("doc") or query, from a folder of lsr-benchmark.

    They are what PyTerrier calls ``toks`` and ``query_toks``.
    """
    place = Path(folder).expanduser() / kind
    ids = [line for _, line in read_lines(place / f"{kind}-ids.txt")]
    try:
        path = place / f"{kind}-embeddings.npz"
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            data, terms, ends = (
                file[name].astype(kind).reshape(-1)
                for name, kind in (("data", np.float32), ("indices", np.str_), ("indptr", np.int64))
            )
    except Exception as error:  # a damaged file raises anything
        raise EvaluationError(f"{place} holds no terms of lsr-benchmark: {error}") from error
    if len(ends) != len(ids) + 1 or not len(data) == len(terms) == ends[-1]:
        raise EvaluationError(f"{place}: ids and terms are not of the same {kind}s")
    spans = zip(ids, ends[:-1].tolist(), ends[1:].tolist(), strict=True)
    return {
        name: dict(zip(terms[a:b].tolist(), data[a:b].tolist(), strict=True))
        for name, a, b in spans
    }
