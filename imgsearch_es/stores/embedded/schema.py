"""The tables of an index file, what it remembers, and its documents as rows of them.

Any DuckDB client can read them; the view ``picture_terms`` is there for people:

    SELECT uri, score FROM picture_terms WHERE synset = 'tabby' ORDER BY score DESC
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timezone
from secrets import token_hex
from typing import Any, NamedTuple

import duckdb
import numpy as np
from numpy.typing import NDArray

from imgsearch_es.errors import DamagedIndexError, SchemaError
from imgsearch_es.pictures.photo import NO_PHOTO, Photo
from imgsearch_es.retrieval.conditions import Filter
from imgsearch_es.retrieval.documents import COLOR_SCHEMA, Document, terms_of
from imgsearch_es.retrieval.duplicates import Fingerprint
from imgsearch_es.retrieval.queries import Selection
from imgsearch_es.retrieval.spans import searched
from imgsearch_es.stores.base import IndexSettings
from imgsearch_es.stores.embedded.selecting import selection
from imgsearch_es.stores.settings import read_settings

NONE = "none"
"""How deep features are indexed where nobody asked for a graph."""
LATER = {
    "checksum": "VARCHAR",
    "views": "UTINYINT[]",
    "photo": "STRUCT(taken_at TIMESTAMP, camera VARCHAR, lens VARCHAR, latitude DOUBLE, "
    "longitude DOUBLE, caption VARCHAR, keywords VARCHAR[])",
    "text": "VARCHAR",
    "ocr": "VARCHAR",
}
"""Columns of documents that not every file has: the last two, of ``Document.text``, as it was read
and as it is searched."""
TABLES = f"""
CREATE TABLE settings (name VARCHAR, value VARCHAR);
CREATE TABLE terms (term INTEGER, synset VARCHAR, wnid VARCHAR, name VARCHAR);
CREATE TABLE documents (
    document INTEGER, id VARCHAR, uri VARCHAR, filename VARCHAR, sha256 VARCHAR,
    width INTEGER, height INTEGER, bytes BIGINT, format VARCHAR,
    indexed_at TIMESTAMP, label VARCHAR[], metadata JSON,
    terms INTEGER[], scores FLOAT[], length DOUBLE, norm DOUBLE,
    {", ".join(map(" ".join, LATER.items()))}
);
CREATE TABLE embeddings (document INTEGER, embedding FLOAT[]);
CREATE TABLE postings (term INTEGER, document INTEGER, score FLOAT);
CREATE VIEW picture_terms AS
    SELECT synset, wnid, score, uri, id
    FROM postings JOIN terms USING (term) JOIN documents USING (document);
"""
"""``postings`` is the inverted index: clustered by term, so a query reads its terms' lists only."""

COLUMNS = (
    "id", "uri", "filename", "sha256", "width", "height", "bytes", "format",
    "indexed_at", "label", "metadata", "terms", "scores", "views", "photo", "text",
)  # fmt: skip
"""What ``to_document`` reads."""
WRITTEN = (*COLUMNS, "ocr", "length", "norm", "checksum")
"""What ``to_row`` gives: all columns but the number."""
POSTINGS = "SELECT unnest(terms) AS term, document, unnest(scores) AS score FROM documents"
"""The postings that documents must have."""
FIRST = -(2**31) - 1
"""Below every number of a document."""
_BLOCK, _FINGERPRINTS = 1024, 4096
"""Documents, and fingerprints, in memory at a time."""

_METADATA = json.JSONDecoder(parse_constant=lambda _: None)


class Reader(NamedTuple):
    """The index file while it is read: a connection to it, and the number of each term by key."""

    connection: duckdb.DuckDBPyConnection
    settings: IndexSettings
    numbers: dict[str, int]
    keys: Mapping[int, str]
    """Of the terms, by number."""

    @property
    def columns(self) -> str:
        """COLUMNS for a statement."""
        return ", ".join([*COLUMNS[:-3], views(self.settings), "photo", "text"])

    def rows(self, sql: str, parameters: object = None) -> list[Any]:
        return self.connection.execute(sql, parameters).fetchall()

    def one(self, sql: str) -> int:
        """The one number that a statement answers; 0 for NULL."""
        return int(self.rows(sql)[0][0] or 0)

    def document(self, row: Sequence[Any]) -> Document:
        """The document of a row of COLUMNS, its deep feature and checksum."""
        return to_document(row[:-2], self.keys, *row[-2:])


def posting_tables(settings: IndexSettings) -> tuple[str, ...]:
    """The tables of postings that an index has."""
    return ("postings", "visual_postings") if settings.visual_words else ("postings",)


def create_tables(connection: duckdb.DuckDBPyConnection, settings: IndexSettings) -> None:
    """Make an empty index."""
    connection.execute(TABLES)
    if settings.visual_words:  # which by their numbers are the terms of an index of their own
        connection.execute(
            "CREATE TABLE visual_postings (term INTEGER, document INTEGER, score FLOAT)"
        )
    write_terms(connection, settings)
    connection.execute(
        "INSERT INTO settings VALUES ('settings', $1), ('clustered_postings', '0'), ('made', $2)",
        [json.dumps(settings.to_stored()), token_hex(8)],
    )


def terms(settings: IndexSettings) -> list[tuple[int, str, str, str]]:
    """The rows of the table of terms."""
    numbers, known = settings.numbers, settings.vocabulary
    return [(numbers[synset.key], synset.key, synset.wnid, synset.name) for synset in known]


def write_terms(connection: duckdb.DuckDBPyConnection, settings: IndexSettings) -> None:
    """Fill the table of terms anew."""
    connection.execute("DELETE FROM terms")
    connection.execute(
        "INSERT INTO terms SELECT unnest($1), unnest($2), unnest($3), unnest($4)",
        [list(column) for column in zip(*terms(settings), strict=True)],
    )


def write_settings(connection: duckdb.DuckDBPyConnection, settings: IndexSettings) -> None:
    """Replace the settings by others, of other taught words, and the table of terms."""
    write_terms(connection, settings)
    write_value(connection, "settings", json.dumps(settings.to_stored()))


def add_columns(connection: duckdb.DuckDBPyConnection) -> None:
    """Before a write: a file made before there were all columns gets those that it lacks."""
    for name, kind in LATER.items():
        connection.execute(f"ALTER TABLE documents ADD COLUMN IF NOT EXISTS {name} {kind}")


def views(settings: IndexSettings) -> str:
    """The column of the terms' views; NULL in a file whose analyzer has none."""
    return "views" if "views" in settings.analyzer else "NULL"


def checksums(connection: duckdb.DuckDBPyConnection) -> str:
    """The column of checksums; NULL in a file that was made before, until it is written to."""
    found = connection.execute(
        "SELECT count(*) FROM duckdb_columns() WHERE database_name = current_database() "
        "AND table_name = 'documents' AND column_name = 'checksum'"
    ).fetchone()
    return "checksum" if found != (0,) else "NULL"


def settings_text(connection: duckdb.DuckDBPyConnection, location: str) -> str:
    """What the index remembers, for ``parse_settings``; SchemaError if it is none."""
    try:
        return read_value(connection, "settings")
    except (duckdb.ProgrammingError, KeyError) as error:
        raise _no_index(location) from error


def parse_settings(text: str, location: str) -> IndexSettings:
    """SchemaError of what is harmed, or was written by a newer version."""
    try:
        data = json.loads(text)
        version = int(data["schema_version"])
        if version < 1:
            raise ValueError(f"there is no schema {version}")
        if version > COLOR_SCHEMA:
            raise SchemaError(
                f"{location} was written by a newer imgsearch-es (schema {version}, this one knows "
                f"{COLOR_SCHEMA}): upgrade this installation"
            )
    except (TypeError, KeyError, OverflowError, RecursionError, ValueError) as error:
        raise _no_index(location) from error
    return read_settings(data, location)


def _no_index(location: str) -> SchemaError:
    return SchemaError(f"{location} is a DuckDB file, but no index of imgsearch")


def read_value(connection: duckdb.DuckDBPyConnection, name: str) -> str:
    """One value of the settings table; KeyError without one of this name."""
    row = connection.execute("SELECT value FROM settings WHERE name = $1", [name]).fetchone()
    if row is None:
        raise KeyError(name)
    return str(row[0])


def write_value(connection: duckdb.DuckDBPyConnection, name: str, value: str) -> None:
    """Replace one value of the settings table."""
    connection.execute("DELETE FROM settings WHERE name = $1", [name])
    connection.execute("INSERT INTO settings VALUES ($1, $2)", [name, value])


def made(connection: duckdb.DuckDBPyConnection) -> str:
    """What no other file has, though it may get the number of one that was deleted."""
    try:
        return read_value(connection, "made")
    except KeyError:  # an older file
        return ""


def vectors(connection: duckdb.DuckDBPyConnection) -> str:
    """How the file indexes deep features; "none" where nobody asked for it."""
    with suppress(KeyError):
        return read_value(connection, "vectors")
    return NONE


def to_row(document: Document, numbers: dict[str, int]) -> list[Any]:
    """A document as WRITTEN says."""
    return [
        document.id, document.uri, document.filename, document.sha256,
        document.width, document.height, document.bytes, document.format,
        document.indexed_at.astimezone(timezone.utc).replace(tzinfo=None),
        list(document.labels), json.dumps(dict(document.metadata)),
        [numbers[term.key] for term in document.postings],
        [term.score for term in document.postings], document.views, _from_photo(document.photo),
        document.text, None if document.text is None else searched(document.text),
        document.length, document.norm, document.checksum,
    ]  # fmt: skip


def to_document(
    row: Sequence[Any],
    keys: Mapping[int, str],
    embedding: Sequence[float] | NDArray[np.float32] | None = None,
    checksum: str | None = None,
) -> Document:
    """The document of a row of COLUMNS; DamagedIndexError if it has not the checksum given."""
    fields = dict(zip(COLUMNS, row, strict=True))
    numbers, scores, seen = fields.pop("terms"), fields.pop("scores"), fields.pop("views")
    indexed_at, labels = fields.pop("indexed_at"), fields.pop("label")
    photo, text = fields.pop("photo"), fields.pop("text")
    try:
        if any(None in values for values in (fields.values(), labels, scores)):
            raise ValueError("a value is missing")
        if not all(map(math.isfinite, scores)):
            raise ValueError("a score is no number")
        document = Document(
            indexed_at=indexed_at.replace(tzinfo=timezone.utc),
            labels=tuple(labels),
            metadata=to_metadata(fields.pop("metadata")),
            **terms_of([keys[n] for n in numbers], scores, seen),
            embedding=None if embedding is None else np.asarray(embedding, dtype=np.float32),
            photo=_to_photo(photo),
            text=text,
            **fields,
        )
        if checksum is not None and checksum != document.checksum:
            raise ValueError("it has another checksum")
        return document
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise DamagedIndexError(
            f"the document of {fields['uri']} is not as it was written"
        ) from error


def _from_photo(photo: Photo) -> dict[str, Any] | None:
    """As the column has it, in the order of its parts; nothing in place of an empty text."""
    if photo == NO_PHOTO:
        return None
    latitude, longitude = photo.place or (None, None)
    return {
        "taken_at": photo.taken_at,
        "camera": photo.camera or None,
        "lens": photo.lens or None,
        "latitude": latitude,
        "longitude": longitude,
        "caption": photo.caption or None,
        "keywords": list(photo.keywords) or None,
    }


def _to_photo(column: Mapping[str, Any] | None) -> Photo:
    """What ``_from_photo`` gave, from the file or from the snapshot, where times are texts."""
    known = {name: value for name, value in (column or {}).items() if value is not None}
    if known:
        known["taken_at"] = str(known["taken_at"]) if "taken_at" in known else None
    if "latitude" in known or "longitude" in known:
        known["place"] = known["latitude"], known["longitude"]
    return Photo.from_dict(known) if known else NO_PHOTO


def to_metadata(text: str) -> dict[str, Any]:
    """Stored metadata; what is no number of JSON, as earlier versions took it, becomes None."""
    try:
        return dict(_METADATA.decode(text))
    except RecursionError as error:
        raise ValueError("metadata are nested too deeply") from error


def readable_metadata(text: str | None) -> dict[str, Any]:
    """Stored metadata, or none where they cannot be read."""
    try:
        return to_metadata(text or "{}")
    except (TypeError, ValueError):
        return {}


def stored(reader: Reader, ids: Sequence[str], *, embeddings: bool) -> dict[str, Document]:
    """Documents by id, with or without embeddings."""
    vectors = "LEFT JOIN embeddings USING (document)" if embeddings else ""
    more = f"embedding, {checksums(reader.connection)}" if embeddings else "NULL, NULL"
    rows = reader.rows(
        f"SELECT {reader.columns}, {more} "
        f"FROM (FROM documents JOIN (SELECT unnest($1) AS id) USING (id)) {vectors}",
        [list(ids)],
    )
    return {row[0]: reader.document(row) for row in rows}


def next_documents(
    reader: Reader, after: int, filters: Sequence[Filter]
) -> tuple[list[Document], int | None]:
    """The next documents after one's number that meet conditions, and the last one's number.

    The range of the numbers is given as well: it lets DuckDB pass over the rest of the tables.
    """
    where, parameters = selection(Selection(filters=tuple(filters)), reader.numbers)
    found = reader.rows(
        f"SELECT document FROM documents {where} AND document > $after "
        "ORDER BY document LIMIT $block",
        {**parameters, "after": after, "block": _BLOCK},
    )
    if not found:
        return [], None
    numbers = [number for (number,) in found]
    rows = reader.rows(
        f"SELECT {reader.columns}, embedding, {checksums(reader.connection)} FROM "
        "(FROM documents WHERE document BETWEEN $1 AND $2 AND list_contains($3, document)) "
        "LEFT JOIN (FROM embeddings WHERE document BETWEEN $1 AND $2) USING (document) "
        "ORDER BY document",
        [numbers[0], numbers[-1], numbers],
    )
    return [reader.document(row) for row in rows], numbers[-1]


def next_fingerprints(
    reader: Reader, after: int, *, embeddings: bool
) -> tuple[list[Fingerprint], int | None]:
    """Of the next documents after one's number, and the last one's number."""
    joined = "LEFT JOIN embeddings USING (document)" if embeddings else ""
    found = reader.rows(
        f"SELECT document, id, sha256, {'embedding' if embeddings else 'NULL'} FROM "
        f"(FROM documents WHERE document > $1 ORDER BY document LIMIT $2) {joined} "
        "ORDER BY document",
        [after, _FINGERPRINTS],
    )
    block = [
        Fingerprint(key, sha256, None if vector is None else np.asarray(vector, np.float32))
        for _, key, sha256, vector in found
    ]
    return block, found[-1][0] if found else None


def content_mark(connection: duckdb.DuckDBPyConnection) -> str:
    """Number and sum of hashes of all documents.

    Without checksums one analyzed again has another time; what else changes writes them.
    """
    sql = (
        f"SELECT count(*), sum(hash(id, sha256, indexed_at, label, metadata, "
        f"{checksums(connection)})), "
        "(SELECT hash(value) FROM settings WHERE name = 'settings') FROM documents"
    )
    return str(connection.execute(sql).fetchone())
