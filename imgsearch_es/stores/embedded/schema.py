"""The tables of an index file, and what it remembers.

Any DuckDB client can read them; the view ``picture_terms`` is there for people:

    SELECT uri, score FROM picture_terms WHERE synset = 'tabby' ORDER BY score DESC
"""

from __future__ import annotations

import json
from contextlib import suppress

import duckdb

from imgsearch_es.errors import SchemaError
from imgsearch_es.retrieval.documents import COLOR_SCHEMA
from imgsearch_es.stores.base import IndexSettings
from imgsearch_es.stores.embedded.neighbors import NONE
from imgsearch_es.stores.settings import read_settings as read_settings_of

PHOTO = (
    "STRUCT(taken_at TIMESTAMP, camera VARCHAR, lens VARCHAR, latitude DOUBLE, longitude DOUBLE, "
    "caption VARCHAR, keywords VARCHAR[])"
)
LATER = {
    "checksum": "VARCHAR",
    "views": "UTINYINT[]",
    "photo": PHOTO,
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


VISUAL_POSTINGS = "CREATE TABLE visual_postings (term INTEGER, document INTEGER, score FLOAT)"
"""The second inverted index, of visual words, which by their numbers are its terms; in files of
indexes that have them."""


def posting_tables(settings: IndexSettings) -> tuple[str, ...]:
    """The tables of postings that an index has."""
    return ("postings", "visual_postings") if settings.visual_words else ("postings",)


def create_tables(connection: duckdb.DuckDBPyConnection, settings: IndexSettings) -> None:
    """Make an empty index."""
    connection.execute(TABLES)
    if settings.visual_words:
        connection.execute(VISUAL_POSTINGS)
    write_terms(connection, settings)
    connection.execute(
        "INSERT INTO settings VALUES ('settings', $1), ('clustered_postings', '0')",
        [json.dumps(settings.to_stored())],
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


def read_settings(connection: duckdb.DuckDBPyConnection, location: str) -> IndexSettings:
    """What the index remembers; SchemaError if it is none, or was written by a newer version."""
    try:
        return parse_settings(read_value(connection, "settings"), location)
    except (duckdb.ProgrammingError, KeyError) as error:
        raise _no_index(location) from error


def parse_settings(text: str, location: str) -> IndexSettings:
    """The settings in a text; errors as of ``read_settings``."""
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
    except (TypeError, KeyError, ValueError) as error:
        raise _no_index(location) from error
    return read_settings_of(data, location)


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


def vectors(connection: duckdb.DuckDBPyConnection) -> str:
    """How the file indexes deep features; "none" where nobody asked for it."""
    with suppress(KeyError):
        return read_value(connection, "vectors")
    return NONE
