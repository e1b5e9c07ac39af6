"""Data views, with runtime fields that link to the pictures, and the columns of Discover.

The data views have no time field. With one, Kibana would show what was indexed in the last fifteen
minutes only, in every panel, which is nothing most of the time; who wants the time picker sets
"Timestamp field" to ``indexed_at`` in the data view's settings.

The attributes are those of ``DataViewAttributes`` (elastic/kibana,
src/plugins/data_views/common/types.ts), several of them JSON in a string. How links are made:
src/plugins/field_formats/common/converters/url.ts.
"""

from __future__ import annotations

from typing import Any

from imgsearch_es.errors import ConfigurationError
from imgsearch_es.interfaces.kibana.saved_objects import (
    NO_QUERY,
    Reference,
    SavedObject,
    compact,
    object_id,
)

PAGE_PATH = "/?image={{value}}"
"""The page of `imgsearch serve` that shows a picture and those like it; Kibana puts the id in.

A link, and no thumbnail in Discover: the page's pictures are for the page, its headers keep other
origins from showing them.
"""
EMIT_URL = (
    "String uri = doc['uri'].value; "
    "if (uri.startsWith('http://') || uri.startsWith('https://')) { emit(uri); }"
)
"""A browser opens http and https; for a local path Kibana would make a link into itself."""
EMIT_ID = "emit(doc['id'].value);"
COLUMNS = (
    "top_synset", "top_score", "synsets", "label", "filename", "width", "height", "indexed_at",
)  # fmt: skip
"""Discover's columns, after the link."""
REJECTED_COLUMNS = ("rejected_at", "filename", "reason", "uri")


def runtime_fields(page: str | None) -> dict[str, dict[str, Any]]:
    """The runtime field ``picture`` of the documents' data view, as Elasticsearch takes it.

    Args:
        page: the URL of `imgsearch serve`, as people reach it; without it the field is the URL of
            pictures that were indexed by URL, and is missing of others.
    """
    script = EMIT_URL if page is None else EMIT_ID
    return {"picture": {"type": "keyword", "script": {"source": script}}}


def data_views(index: str, page: str | None = None) -> list[SavedObject]:
    """The data views of the documents and of the ledger of rejected pictures.

    Raises:
        ConfigurationError: ``page`` is no URL that a browser opens.
    """
    documents = {
        "title": index,
        "name": f"{index}: pictures",
        "runtimeFieldMap": compact(runtime_fields(page)),
        "fieldFormatMap": compact(_formats(page)),
        "fieldAttrs": compact({name: {"count": 1} for name in COLUMNS}),  # listed as popular
        **_COMMON,
    }
    rejected = {
        "title": f"{index}-rejected",
        "name": f"{index}: rejected pictures",
        "runtimeFieldMap": "{}",
        "fieldFormatMap": "{}",
        "fieldAttrs": "{}",
        "allowNoIndex": True,  # it is made with its first entry
        **_COMMON,
    }
    return [
        SavedObject("index-pattern", object_id(index, name), attributes)
        for name, attributes in (("pictures", documents), ("rejected", rejected))
    ]


def data_view_reference(index: str, of_rejected: bool, name: str) -> Reference:
    """A reference to one of the data views."""
    view = "rejected" if of_rejected else "pictures"
    return Reference(name, "index-pattern", object_id(index, view))


def saved_searches(index: str, page: str | None = None) -> list[SavedObject]:
    """What Discover shows: the pictures, newest first, and the rejected ones."""
    shown = (*runtime_fields(page), *COLUMNS)
    return [
        _search(index, "pictures", shown, "indexed_at", of_rejected=False),
        _search(index, "rejected pictures", REJECTED_COLUMNS, "rejected_at", of_rejected=True),
    ]


_COMMON = {"sourceFilters": "[]", "fields": "[]", "typeMeta": "{}"}


def _search(
    index: str, what: str, columns: tuple[str, ...], newest_by: str, *, of_rejected: bool
) -> SavedObject:
    # _SEARCH_INDEX is the name that Kibana looks for, see injectReferences in elastic/kibana,
    # src/plugins/data/common/search/search_source/inject_references.ts
    source = {**NO_QUERY, "indexRefName": _SEARCH_INDEX}
    attributes = {
        "title": f"{index}: {what}",
        "description": "",
        "columns": list(columns),
        "sort": [[newest_by, "desc"]],
        "grid": {},
        "hideChart": True,
        "isTextBasedQuery": False,
        "kibanaSavedObjectMeta": {"searchSourceJSON": compact(source)},
    }
    name = f"search-{what.replace(' ', '-')}"
    view = data_view_reference(index, of_rejected, _SEARCH_INDEX)
    return SavedObject("search", object_id(index, name), attributes, (view,))


_SEARCH_INDEX = "kibanaSavedObjectMeta.searchSourceJSON.index"


def _formats(page: str | None) -> dict[str, Any]:
    link = {"type": "a", "urlTemplate": "{{rawValue}}"}
    if page is not None:
        link = {"type": "a", "urlTemplate": _checked(page) + PAGE_PATH, "labelTemplate": "open"}
    return {
        "bytes": {"id": "bytes"},
        "top_score": {"id": "number", "params": {"pattern": "0.000"}},
        "picture": {"id": "url", "params": link},
    }


def _checked(page: str) -> str:
    if not page.startswith(("http://", "https://")) or not set(page).isdisjoint("{}?# "):
        raise ConfigurationError(
            f"--page is the URL of `imgsearch serve`, such as http://localhost:8000, not {page!r}"
        )
    return page.rstrip("/")
