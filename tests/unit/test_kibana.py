"""Kibana's saved objects: their shape, what they refer to, and that they say what requests do."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
import vl_convert

from imgsearch_es.errors import ConfigurationError
from imgsearch_es.interfaces.kibana import (
    PANELS,
    Panel,
    SavedObject,
    dashboard_id,
    index_name,
    saved_objects,
    to_ndjson,
)
from imgsearch_es.stores.elastic.ledger import _MAPPINGS
from imgsearch_es.stores.elastic.mapping import index_body
from tests.conformance.conftest import SETTINGS
from tests.unit import kibana_schemas as schemas

PAGE = "http://localhost:8000"
MAPPING = index_body(SETTINGS, (9, 4))["mappings"]["properties"]
SAVED = {item.id: item for item in saved_objects("pets")}
"""Without a page."""


def shown_by(panel: Panel) -> SavedObject:
    return SAVED[f"imgsearch~pets~{panel.name}"]


LENS_PANELS = [panel for panel in PANELS if shown_by(panel).type == "lens"]
VEGA_PANELS = [panel for panel in PANELS if shown_by(panel).type == "visualization"]
NUMBERS = {"integer", "long", "float", "double"}
AGGREGATABLE = {
    "terms": {"keyword"}, "range": NUMBERS, "avg": NUMBERS, "date_histogram": {"date"},
    "max": NUMBERS | {"date"}, "geotile_grid": {"geo_point"}, "geo_centroid": {"geo_point"},
}  # fmt: skip


def name_of(panel: Panel) -> str:
    return panel.name


@pytest.fixture(params=[None, PAGE], ids=["without page", "with page"])
def objects(request) -> list[SavedObject]:
    return saved_objects("pets", request.param)


def of_type(objects: list[SavedObject], kind: str) -> list[SavedObject]:
    return [item for item in objects if item.type == kind]


def test_every_line_is_an_object_that_kibana_takes(objects):
    text = to_ndjson(objects)
    assert text.endswith("\n")
    lines = text.splitlines()
    assert len(lines) == len(objects)
    for line in lines:
        item = json.loads(line)
        jsonschema.validate(item, schemas.OBJECT)
        jsonschema.validate(item["attributes"], schemas.ATTRIBUTES[item["type"]])


@pytest.mark.parametrize("kibana", schemas.NEWEST)
def test_no_object_is_newer_than_kibana_nor_too_old(kibana, objects):
    for item in objects:
        assert version(item.versions["coreMigrationVersion"]) <= schemas.NEWEST_CORE
        written = version(item.versions["typeMigrationVersion"])
        assert schemas.OLDEST[item.type] <= written <= schemas.NEWEST[kibana][item.type]


def version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


def test_json_within_json_is_well_formed(objects):
    for item in of_type(objects, "index-pattern"):
        for name in ("runtimeFieldMap", "fieldFormatMap", "fieldAttrs", "typeMeta"):
            assert isinstance(json.loads(item.attributes[name]), dict)
        assert json.loads(item.attributes["fields"]) == []
    for item in of_type(objects, "visualization"):
        state = json.loads(item.attributes["visState"])
        jsonschema.validate(state, schemas.VEGA_STATE)
        schema = json.loads(state["params"]["spec"])["$schema"]
        assert schema.endswith("/vega/v5.json" if "places" in item.id else "/vega-lite/v5.json")
    (dashboard,) = of_type(objects, "dashboard")
    jsonschema.validate(json.loads(dashboard.attributes["panelsJSON"]), schemas.PANELS)


def test_all_references_are_in_the_file_and_come_before(objects):
    seen: set[tuple[str, str]] = set()
    for item in objects:
        names = [reference["name"] for reference in item.references]
        assert len(names) == len(set(names))
        assert {(reference["type"], reference["id"]) for reference in item.references} <= seen
        assert (item.type, item.id) not in seen
        seen.add((item.type, item.id))


def test_ids_are_the_same_each_time_and_of_one_index_only():
    assert saved_objects("pets") == saved_objects("pets")
    ids = {item.id for item in saved_objects("pets")}
    for other in ("pets-rejected", "pets-dashboard", "pet", "dashboard"):
        assert ids.isdisjoint(item.id for item in saved_objects(other))


def test_the_name_is_filled_in_within_json_within_json():
    name = 'a"b\\c{index}'
    for item in of_type(saved_objects(name), "visualization"):
        state = json.loads(item.attributes["visState"])
        assert state["title"] == item.attributes["title"]
        assert state["title"].startswith(f"{name}: ")
        data = json.loads(state["params"]["spec"])["data"]
        assert (data[0] if isinstance(data, list) else data)["url"]["index"] == name


def test_the_dashboard_shows_every_panel_and_the_pictures(objects):
    (dashboard,) = of_type(objects, "dashboard")
    assert dashboard.id == dashboard_id("pets")
    panels = json.loads(dashboard.attributes["panelsJSON"])
    shown = {f"{panel['panelIndex']}:{panel['panelRefName']}": panel["type"] for panel in panels}
    types = {reference["name"]: reference["type"] for reference in dashboard.references}
    assert {name: kind for name, kind in types.items() if "panel_" in name} == shown
    assert [panel["title"] for panel in panels] == ["Pictures", *(p.title for p in PANELS)]
    controls = dashboard.attributes["controlGroupInput"]
    chosen = json.loads(controls["panelsJSON"])
    jsonschema.validate(chosen, schemas.CONTROLS)
    fields = [each["explicitInput"]["fieldName"] for each in chosen.values()]
    assert fields == ["top_synset", "label", "format", "camera", "year"]
    assert set(fields) - set(MAPPING) == {"year"}  # a runtime field
    named = {reference["name"] for reference in dashboard.references}
    assert {f"controlGroup_{key}:optionsListDataView" for key in chosen} <= named


def test_panels_do_not_lie_over_each_other(objects):
    (dashboard,) = of_type(objects, "dashboard")
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(dashboard.attributes["panelsJSON"]):
        place = panel["gridData"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert taken.isdisjoint(cells)
        assert place["x"] + place["w"] <= 48
        taken |= cells


@pytest.mark.parametrize("panel", LENS_PANELS, ids=name_of)
def test_the_columns_of_lens_are_nested_as_it_asks(panel):
    (layer,) = (
        shown_by(panel).attributes["state"]["datasourceStates"]["formBased"]["layers"].values()
    )
    level = panel.aggregations
    for name in layer["columnOrder"]:
        column = layer["columns"][name]
        if column["operationType"] == "count":
            assert column["sourceField"] == "___records___"
            continue
        ((kind, asked),) = ((k, v) for k, v in level[name].items() if k != "aggs")
        assert kind == column["operationType"].replace("average", "avg")
        assert asked["field"] == column["sourceField"]
        if kind == "terms":
            assert column["params"]["accuracyMode"] is True
            assert asked["shard_size"] == max(1000, column["params"]["size"] * 1.5 + 10)
        level = level[name].get("aggs", {}) if column["isBucketed"] else level


@pytest.mark.parametrize("panel", LENS_PANELS, ids=name_of)
def test_charts_name_columns_that_there_are(panel):
    state = shown_by(panel).attributes["state"]
    (layer,) = state["datasourceStates"]["formBased"]["layers"].values()
    drawn = state["visualization"]
    for layer_drawn in drawn.get("layers", [drawn]):
        assert layer_drawn["layerId"] in state["datasourceStates"]["formBased"]["layers"]
    named = set(strings(drawn)) & set(layer["columns"])
    assert named == set(layer["columns"])


def strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [text for item in value for text in strings(item)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("panel", PANELS, ids=name_of)
def test_every_field_is_in_the_mapping_and_can_be_aggregated(panel):
    mapping = _MAPPINGS["properties"] if panel.of_rejected else MAPPING
    for kind, field in aggregated(panel.aggregations):
        assert mapping[field]["type"] in AGGREGATABLE[kind], field


def aggregated(aggregations: dict[str, Any]) -> list[tuple[str, str]]:
    found = []
    for item in aggregations.values():
        for kind, value in item.items():
            if kind == "aggs":
                found += aggregated(value)
            elif kind != "scripted_metric":
                found.append((kind, value["field"]))
    return found


def test_the_columns_of_discover_are_fields(objects):
    pictures, rejected = of_type(objects, "search")
    assert set(pictures.attributes["columns"]) - set(MAPPING) == {"picture"}
    formats = json.loads(SAVED["imgsearch~pets~pictures"].attributes["fieldFormatMap"])
    assert formats["thumbnail"]["params"]["urlTemplate"] == "data:image/jpeg;base64,{{rawValue}}"
    assert set(rejected.attributes["columns"]) <= set(_MAPPINGS["properties"])


def test_visual_words_are_shown_by_their_names():
    objects = saved_objects("pets", words={"vw4": "vw4: tabby"})
    view, panel, dashboard = objects[0], objects[-2], objects[-1]
    assert "visual_word" in json.loads(view.attributes["runtimeFieldMap"])
    entries = json.loads(view.attributes["fieldFormatMap"])["visual_word"]["params"]
    assert entries == {"lookupEntries": [{"key": "vw4", "value": "vw4: tabby"}]}
    assert json.dumps(panel.attributes).count('"visual_word"') == 1
    assert dashboard.references[-1]["id"] == panel.id == "imgsearch~pets~visual-words"
    assert json.loads(dashboard.attributes["panelsJSON"])[-1]["type"] == "lens"
    test_every_line_is_an_object_that_kibana_takes(objects)
    test_all_references_are_in_the_file_and_come_before(objects)
    test_panels_do_not_lie_over_each_other(objects)


def test_links_lead_to_the_page_or_the_picture():
    for page, template in ((None, "{{rawValue}}"), (PAGE + "/", f"{PAGE}/?image={{{{value}}}}")):
        view = saved_objects("pets", page)[0]
        link = json.loads(view.attributes["fieldFormatMap"])["picture"]
        assert link["params"]["urlTemplate"] == template


@pytest.mark.parametrize("page", ["localhost:8000", "javascript:alert(1)", "http://a/{{x}}", ""])
def test_a_page_that_no_browser_opens_is_refused(page):
    with pytest.raises(ConfigurationError, match="--page is the URL of `imgsearch serve`"):
        saved_objects("pets", page)


@pytest.mark.parametrize("panel", [p for p in VEGA_PANELS if p.name != "places"], ids=name_of)
def test_vega_lite_compiles_as_kibana_of_each_version_does(panel):
    state = json.loads(shown_by(panel).attributes["visState"])
    drawn = json.loads(state["params"]["spec"])
    request = drawn["data"].pop("url")
    assert request == {"%context%": True, "index": "pets", "body": panel.body()}
    drawn["data"] = {"values": [], "name": "rows"}
    for vega_lite in ("5.8", "5.21"):
        compiled = vl_convert.vegalite_to_vega(drawn, vl_version=vega_lite)
        assert compiled["marks"]


def test_index_names():
    assert index_name("https://user:secret@host:9200/prefix/pets") == "pets"
    for location in (None, "", "pets.duckdb", "http://localhost:9200"):
        with pytest.raises(ConfigurationError):
            index_name(location)


def test_export_writes_a_file_once(run, asked, tmp_path):
    file = tmp_path / "pets.ndjson"
    url = "http://nobody.invalid:9200/pets"
    shown = asked("kibana", "export", file, "--index", url)
    written = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert [item["id"] for item in shown["objects"]] == [item["id"] for item in written]
    assert "--force" in run("kibana", "export", file, "--index", url, code=1).output
    run("kibana", "export", file, "--index", url, "--force", "--page", PAGE)
    assert PAGE in file.read_text(encoding="utf-8")


def test_export_of_a_file_says_what_to_do(run, tmp_path):
    shown = run("kibana", "export", tmp_path / "a.ndjson", "--index", "pets.duckdb", code=1).output
    assert "pets.duckdb is a file" in shown
    assert not (tmp_path / "a.ndjson").exists()
    asked = ("kibana", "export", tmp_path / "none" / "a.ndjson", "--index")
    assert "cannot write" in run(*asked, "http://localhost:9200/pets", code=1).output


def test_the_dashboard_as_requests_of_the_api(run, tmp_path):
    """Not asked of a Kibana: the forms are those of its documentation for 9.4."""
    file = tmp_path / "pets.txt"
    run("kibana", "export", file, "--index", "http://localhost:9200/pets", "--api", "--page", PAGE)
    requests = {}
    for text in file.read_text(encoding="utf-8").split("\n\n"):
        line, _, body = text.partition("\n")
        requests.setdefault(line, []).append(json.loads(body))
    view, rejected = (each["data_view"] for each in requests["POST kbn:/api/data_views/data_view"])
    assert view["fieldFormats"]["thumbnail"]["params"]["type"] == "img"
    assert rejected["title"] == "pets-rejected"
    (dashboard,) = requests["PUT kbn:/api/dashboards/imgsearch~pets~dashboard"]
    jsonschema.validate(dashboard, schemas.API_DASHBOARD)
    shown = [panel["config"]["title"] for panel in dashboard["panels"]]
    assert shown == ["Pictures", *(panel.title for panel in LENS_PANELS)]
    known = {column for panel in LENS_PANELS for _, column in aggregated(panel.aggregations)}
    assert {*fields_of(dashboard["panels"])} == known
    assert [control["config"]["title"] for control in dashboard["pinned_panels"]] == [
        "Best synset", "Label", "Format", "Camera", "Year",
    ]  # fmt: skip


def fields_of(value: Any) -> list[str]:
    if isinstance(value, list):
        return [field for item in value for field in fields_of(item)]
    if not isinstance(value, dict):
        return []
    own = value.get("fields", [value["field"]] if "field" in value else [])
    return [*own, *(field for item in value.values() for field in fields_of(item))]
