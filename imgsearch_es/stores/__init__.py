"""Stores: where documents live. ``open_store`` picks one by the look of its location.

To be read in this order: ``base`` (what every store can do) with ``settings`` and ``inspecting``,
then ``shared`` (what both do alike), ``embedded`` or ``elastic``. ``interrupts`` lets Ctrl-C wait
until what must be whole is whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from imgsearch_es.errors import ConfigurationError

if TYPE_CHECKING:
    from imgsearch_es.stores.base import Store


def open_store(location: str, **options: Any) -> Store:
    """Open an index: an Elasticsearch URL (http, https), or else the path of a DuckDB file.

    Opening neither creates anything nor connects; the first operation does.

    Raises:
        ConfigurationError: the location or an option makes no sense.
    """
    if location.lower().startswith(("http://", "https://")):
        from imgsearch_es.stores.elastic.store import ElasticStore

        return ElasticStore(location, **options)
    from imgsearch_es.stores.embedded.store import EmbeddedStore

    scheme, is_url, _ = location.partition("://")
    if is_url:
        raise ConfigurationError(
            f"an index is a file of this machine or an address that begins with http:// or "
            f"https://, not with {scheme}://"
        )
    if unknown := options.keys() - {"vectors"}:
        raise ConfigurationError(f"{location} is a file, which has no option {min(unknown)!r}")
    return EmbeddedStore(location, **options)
