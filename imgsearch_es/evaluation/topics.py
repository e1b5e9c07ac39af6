"""Topics: what is searched for in an experiment, be it a picture, words or both."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from imgsearch_es.errors import EvaluationError
from imgsearch_es.evaluation.collection import Collection
from imgsearch_es.evaluation.text_files import read_rows


@dataclass(frozen=True, slots=True)
class Topic:
    """One query.

    Attributes:
        image: a picture: the id of a document, or a path or URL of one that is not indexed.
        text: words, as ``ImageIndex.search`` takes them.
        region: the part of the picture: left, top, right, bottom, as ``ImageIndex.search``.
    """

    image: str | None = None
    text: str | None = None
    region: tuple[float, float, float, float] | None = None

    def __post_init__(self) -> None:
        if not self.image and not self.text:
            raise EvaluationError("a query needs a picture, words or both")
        if self.region and not self.image:
            raise EvaluationError("a query's region is of a picture: there is none")


def read_topics(path: str | os.PathLike[str], collection: Collection) -> dict[str, Topic]:
    """Read queries from a CSV (or .tsv) whose first line names its columns.

    Columns: ``query`` (its id), and ``image``, ``text`` or both. A picture is one of the index by
    name, or a path, which is relative to the file.

    Raises:
        EvaluationError: the file cannot be read or is no such file.
    """
    source = Path(path).expanduser()
    topics: dict[str, Topic] = {}
    for where, row in read_rows(source, ["query"], "\t" if ".tsv" in source.suffixes else ","):
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
    """The id of a picture of the index, else the path of a file, or a URL.

    Raises:
        EvaluationError: there is neither.
    """
    if collection.has(name):
        return collection.find(name)
    if "://" in name:
        return name
    path = (folder or Path()) / Path(name).expanduser()
    if not path.is_file():
        raise EvaluationError(f"{name} is neither in the index nor a file")
    return collection.find(str(path)) if collection.has(str(path)) else str(path)
