"""Thumbnails that an index keeps for Kibana, from a folder to a field on a real node and on."""

from __future__ import annotations

import base64
import io

import pytest
from PIL import Image

from imgsearch_es import ImageIndex
from imgsearch_es.errors import ConfigurationError
from imgsearch_es.stores.elastic import aliased
from tests.fakes import noise, register

pytestmark = pytest.mark.node


def sizes(index: ImageIndex) -> set[tuple[int, int]]:
    """Of the thumbnails in the sources, which are JPEG files."""
    name = index.location.rpartition("/")[2]
    found = index.store.client.search(index=name, source=["thumbnail"], size=100)["hits"]["hits"]
    made = (base64.b64decode(hit["_source"].get("thumbnail", "")) for hit in found)
    return {Image.open(io.BytesIO(each)).size if each else (0, 0) for each in made}


def test_kept_carried_along_and_made_again(
    elasticsearch_url, fresh_index_name, tmp_path, monkeypatch
):
    register(monkeypatch)
    monkeypatch.setattr(aliased, "_LAST_SEARCHES_SECONDS", 0)
    for seed in range(3):
        noise(seed).resize((300, 150)).save(tmp_path / f"{seed}.png")
    location, file = f"{elasticsearch_url}/{fresh_index_name}", tmp_path / "kept.parquet"
    with ImageIndex(location, model="fake", thumbnails=96) as index:
        assert index.add(tmp_path).added == 3
        assert sizes(index) == {(96, 48)}
        assert index.verify().is_whole
        assert index.export(file).documents == 3
        (tmp_path / "0.png").unlink()
        index.reindex()  # copies
        assert (sizes(index), index.verify().is_whole) == ({(96, 48)}, True)
        index.reindex(thumbnails=32)  # makes them anew where it can
        assert (sizes(index), index.verify().is_whole) == ({(32, 16), (96, 48)}, True)
        with pytest.raises(ConfigurationError, match="16 to 256"):
            index.reindex(thumbnails=7)
    with pytest.raises(ConfigurationError, match="has thumbnails of 32 pixels"):
        ImageIndex(location, thumbnails=64).stats()
    other = f"{location}-imported"
    with ImageIndex(other) as index:
        assert index.import_(file).added == 3
        assert (sizes(index), index.verify().is_whole) == ({(96, 48)}, True)
        index.store.client.update(
            index=other.rpartition("/")[2], id=next(iter(index.store.documents())).id,
            doc={"thumbnail": "AAAA"},
        )  # fmt: skip
        assert not index.verify().is_whole


@pytest.mark.parametrize("options", [{}, {"layout": "lean"}], ids=["file", "lean"])
def test_neither_a_file_nor_a_lean_index_keeps_any(
    elasticsearch_url, fresh_index_name, tmp_path, monkeypatch, options
):
    register(monkeypatch)
    noise(0).save(tmp_path / "0.png")
    full, kept = f"{elasticsearch_url}/{fresh_index_name}", tmp_path / "kept.jsonl"
    place = f"{full}-lean" if options else str(tmp_path / "pets.duckdb")
    with (
        pytest.raises(ConfigurationError, match="cannot keep thumbnails"),
        ImageIndex(place, model="fake", thumbnails=96, **options) as index,
    ):
        index.add(tmp_path)
    with ImageIndex(full, model="fake", thumbnails=96) as index:
        index.add(tmp_path)
        index.export(kept)
    with ImageIndex(place, **options) as index:
        assert index.import_(kept).added == 1
        assert index.verify().is_whole
        assert next(iter(index.store.documents())).thumbnail == ""
