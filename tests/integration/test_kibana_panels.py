"""Every panel's request on a real node: it returns data, and the data are right."""

from __future__ import annotations

import base64
import html
import io
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import vl_convert
from elasticsearch import Elasticsearch
from PIL import Image

from imgsearch_es import ImageIndex
from imgsearch_es.analysis.terms import word_key, words_of
from imgsearch_es.interfaces.cli.serve import export
from imgsearch_es.interfaces.kibana import PANELS, Panel, saved_objects, searched
from imgsearch_es.pictures.demo import make_photos
from tests.fakes import noise, register

pytestmark = [pytest.mark.node, pytest.mark.scripts, pytest.mark.model]
(
    TOTAL, BEST_SYNSETS, PLACES, TAKEN, BY_COUNT, BY_MEAN_SCORE, SCORES, LABELS, TOGETHER,
    OVER_TIME, REJECTED,
) = PANELS  # fmt: skip
MUNICH, OSLO = (48.25, 11.5), (59.75, 10.75)
SHOWN, LEAST_PICTURES = 20, 3
"""Synsets that a panel names, and pictures of one whose mean score counts."""


def kind(uri: str) -> str:
    """How a demo photo was made, as `imgsearch demo` labels them."""
    stem = Path(uri).stem
    return stem.rpartition("-")[2] if "-" in stem else "original"


class Demo:
    """The demo index on the node, and what its documents hold."""

    def __init__(self, server: str, name: str, photos: Path) -> None:
        self.client = Elasticsearch(server, request_timeout=60)  # a busy machine is no failure
        self.name = name
        options = {"gps": True, "thumbnails": 96}
        with ImageIndex(f"{server}/{name}", model="efficientnet-lite0", **options) as index:
            index.add(photos, labels=kind)
        self.client.indices.refresh(index=f"{name}-rejected")  # Kibana waits a second, this not
        found = self.client.search(index=name, size=1000, source_excludes=["embedding"])
        self.documents = [hit["_source"] for hit in found["hits"]["hits"]]

    def answer(self, panel: Panel) -> Any:
        index = searched(panel, self.name)
        answer = self.client.search(index=index, **panel.body())
        return answer.get("aggregations") or answer["hits"]["total"]["value"]


@pytest.fixture(scope="module")
def demo(elasticsearch_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    photos = make_photos(tmp_path_factory.mktemp("kibana") / "photos")
    (photos / "broken.jpg").write_bytes(b"no picture")
    for day, place in ((1, MUNICH), (2, MUNICH), (31, OSLO)):
        exif = Image.Exif()
        exif.get_ifd(0x8769).update({0x9003: f"2024:05:{day:02} 12:00:00"})
        north, east = ((float(int(d)), d * 60 % 60, 0.0) for d in place)
        exif.get_ifd(0x8825).update({1: "N", 2: north, 3: "E", 4: east})
        noise(day).resize((640, 480)).save(photos / f"holiday{day}.jpg", exif=exif)
    made = Demo(elasticsearch_url, f"test-{photos.parent.name.lower()}", photos)
    yield made
    made.client.indices.delete(index=f"{made.name}-000001,{made.name}-rejected")
    made.client.close()


@pytest.mark.parametrize("panel", PANELS[1:], ids=lambda panel: panel.name)
def test_every_panel_has_data(demo: Demo, panel: Panel):
    (found,) = demo.answer(panel).values()
    rows = found.get("buckets", found.get("value"))
    assert rows
    assert sum(row.get("doc_count", row.get("pictures")) for row in rows) > 0


def test_the_total_the_places_and_the_months(demo: Demo):
    assert demo.answer(TOTAL) == len(demo.documents)
    first = demo.answer(TAKEN)["month"]["buckets"][0]  # others are of their files' dates
    assert (first["key_as_string"], first["doc_count"]) == ("2024-05-01T00:00:00.000Z", 3)
    found = demo.answer(PLACES)["place"]["buckets"]
    centers = [(row["doc_count"], row["center"]["location"]) for row in found]
    for (count, center), (expected, place) in zip(centers, ((2, MUNICH), (1, OSLO)), strict=True):
        assert count == expected
        assert (center["lat"], center["lon"]) == pytest.approx(place, abs=1e-6)
    drawing = specification(PLACES)
    answer = demo.client.search(index=demo.name, **PLACES.body()).body
    del drawing["data"][0]["url"]
    drawing["data"][0]["values"] = answer
    drawing |= {"width": 600, "height": 400, "projections": [PROJECTION]}  # Kibana's, of its map
    svg = vl_convert.vega_to_svg(drawing)
    assert re.findall(r'aria-label="(\d) pictures"', svg) == ["2", "1"]


PROJECTION = {"name": "projection", "type": "mercator"}


def specification(panel: Panel) -> Any:
    (item,) = (item for item in saved_objects("pets") if item.id.endswith(f"~{panel.name}"))
    return json.loads(json.loads(item.attributes["visState"])["params"]["spec"])


def counts(aggregation: Any) -> dict[Any, int]:
    return {item["key"]: item["doc_count"] for item in aggregation["buckets"]}


def test_synsets_are_counted(demo: Demo):
    every = Counter(key for document in demo.documents for key in document["synsets"])
    found = counts(demo.answer(BY_COUNT)["synset"])
    assert found == {key: every[key] for key in found}
    assert sorted(found.values()) == sorted(count for _, count in every.most_common(SHOWN))


def test_mean_scores(demo: Demo):
    scores, best_scores = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
    for document in demo.documents:
        best_scores[document["top_synset"]].append(document["top_score"])
        for key in document["synsets"]:
            scores[key].append(document["synset"][key]["score"])
    means = {key: fmean(of) for key, of in scores.items() if len(of) >= LEAST_PICTURES}
    best = sorted(means, key=lambda key: (-means[key], key))[:SHOWN]
    found = demo.answer(BY_MEAN_SCORE)["synsets"]["value"]
    assert [row["synset"] for row in found] == best
    assert [row["mean_score"] for row in found] == pytest.approx([means[key] for key in best])
    assert [row["pictures"] for row in found] == [len(scores[key]) for key in best]
    marks = re.findall(r'aria-roledescription="bar"', draw(demo, BY_MEAN_SCORE))
    assert len(marks) == len(found)
    rows = demo.answer(BEST_SYNSETS)["synset"]["buckets"]
    assert rows
    for row in rows:
        assert row["doc_count"] == len(best_scores[row["key"]])
        assert row["mean_score"]["value"] == pytest.approx(fmean(best_scores[row["key"]]))


def test_scores_labels_hours_and_reasons_are_of_all_pictures(demo: Demo):
    ranges = [row["doc_count"] for row in demo.answer(SCORES)["score"]["buckets"]]
    scores = [document["top_score"] for document in demo.documents]
    assert ranges == [
        sum(i / 10 <= score and (i == 9 or score < (i + 1) / 10) for score in scores)
        for i in range(10)
    ]
    labels = Counter(label for document in demo.documents for label in document["label"])
    assert counts(demo.answer(LABELS)["label"]) == labels
    both = Counter((d["label"][0], d["top_synset"]) for d in demo.documents if d["label"])
    for label in demo.answer(LABELS)["label"]["buckets"]:
        for key, count in counts(label["synset"]).items():
            assert both[label["key"], key] == count
    hours = [row["doc_count"] for row in demo.answer(OVER_TIME)["hour"]["buckets"]]
    assert sum(hours) == len(demo.documents)
    assert 0 not in hours
    (row,) = demo.answer(REJECTED)["reason"]["buckets"]
    assert row["doc_count"] == 1
    assert row["last_at"]["value"] > 0


def test_vega_draws_the_synsets_that_occur_together(demo: Demo):
    """Vega-Lite itself draws the answer; marks are described in the picture for screen readers."""
    both: Counter[tuple[str, str]] = Counter()
    for document in demo.documents:
        both.update((a, b) for a in document["synsets"] for b in document["synsets"] if a != b)
    rows = counts(demo.answer(TOGETHER)["synset"])
    expected = {pair: n for pair, n in both.items() if set(pair) <= set(rows)}
    described = r'aria-label="companion: ([^"]+?); key: ([^"]+?); pictures: (\d+);'
    drawn = re.findall(described, html.unescape(draw(demo, TOGETHER)))
    assert {(key, companion): int(n) for companion, key, n in drawn} == expected


def draw(demo: Demo, panel: Panel) -> str:
    """What Kibana draws: it puts the server's answer in the place of the URL."""
    drawing = specification(panel)
    answer = demo.client.search(index=demo.name, **panel.body()).body
    drawing["data"] = {"values": answer, "format": drawing["data"]["format"]}
    drawing |= {"width": 600, "height": 400}
    svg: str = vl_convert.vegalite_to_svg(drawing, vl_version="5.8")
    return svg


def test_runtime_fields_give_ids_or_urls(demo: Demo):
    uri = "https://example.org/somewhere/else.jpg"
    source = {**demo.documents[0], "id": "elsewhere", "uri": uri, "hit": ""}
    demo.client.index(index=f"{demo.name}-000001", id="elsewhere", document=source, refresh=True)
    try:
        for page, wanted in ((None, [uri]), ("http://localhost:8000", ["elsewhere"])):
            view = saved_objects(demo.name, page)[0]
            runtime_fields = json.loads(view.attributes["runtimeFieldMap"])
            taken = demo.client.search(
                index=demo.name,
                runtime_mappings=runtime_fields,
                size=0,
                aggs={"year": {"terms": {"field": "year"}}},
            )
            assert counts(taken["aggregations"]["year"])["2024"] == 3
            for key, values in ((demo.documents[0]["id"], None), ("elsewhere", wanted)):
                answer = demo.client.search(
                    index=demo.name,
                    query={"ids": {"values": [key]}},
                    runtime_mappings=runtime_fields,
                    fields=["picture"],
                )
                (hit,) = answer["hits"]["hits"]
                expected = values or ([key] if page else None)
                assert hit.get("fields", {}).get("picture") == expected
    finally:
        demo.client.delete(index=f"{demo.name}-000001", id="elsewhere", refresh=True)


def test_the_heaviest_visual_words_of_a_picture(
    elasticsearch_url: str,
    fresh_index_name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    register(monkeypatch)
    location = f"{elasticsearch_url}/{fresh_index_name}"
    with ImageIndex(location, model="fake", visual_words=5) as index:
        index.add([noise(i) for i in range(4)])
        documents = list(index.store.documents())
        client = index.store.client
        file = tmp_path / "x.ndjson"
        export(file=file, index=location, visual_words=True)
        view = json.loads(file.read_text().splitlines()[0])["attributes"]
        assert len(index.word_names()) == 2 * len(documents[0].embedding)
        assert '"vw0"' in view["fieldFormatMap"]
        answer = client.search(
            index=fresh_index_name,
            runtime_mappings=json.loads(view["runtimeFieldMap"]),
            size=0,
            aggs={"word": {"terms": {"field": "visual_word", "size": 100}}},
        )
        best = [words_of(document.embedding, 5)[:3] for document in documents]
        every = Counter(word_key(word) for words in best for word, _ in words)
        assert counts(answer["aggregations"]["word"]) == every


def test_discover_can_show_and_sort_its_columns(demo: Demo):
    for item in saved_objects(demo.name):
        if item.type != "search":
            continue
        index = demo.name if "rejected" not in item.id else f"{demo.name}-rejected"
        ((field, order),) = item.attributes["sort"]
        columns = [name for name in item.attributes["columns"] if name != "picture"]
        kind = {"exists": {"field": "taken_at"}} if "taken_at" in columns else {"match_all": {}}
        answer = demo.client.search(
            index=index, query=kind, sort=[{field: order}], fields=columns, source=False, size=1
        )
        shown = answer["hits"]["hits"][0]["fields"]
        assert set(shown) == set(columns) - {"camera"}  # these photos name none
        if "thumbnail" in columns:
            file = io.BytesIO(base64.b64decode(shown["thumbnail"][0]))
            assert (Image.open(file).format, max(Image.open(file).size)) == ("JPEG", 96)
            assert len(file.getvalue()) < 4000
