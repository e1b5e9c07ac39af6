"""The attributes of saved objects as Kibana 8.15 and 9 check them on import, as JSON schemas.

Written after elastic/kibana's own schemas. The paths are those of 8.15; in 9 the same files lie
below src/platform/plugins/shared and x-pack/platform/plugins/shared:

- dashboard: src/plugins/dashboard/server/dashboard_saved_object/schema/v1/v1.ts (it forbids unknown
  attributes; v2 to v4 add ``showApplySelections``, ``sections`` and ``projectRouting``), panels:
  ``gridDataSchema`` in schema/v3/v3.ts and ``SavedDashboardPanel``
- search: src/plugins/saved_search/server/saved_objects/schema.ts, SCHEMA_SEARCH_V8_8_0, from which
  9 makes ``tabs`` by itself (extract_tabs.ts)
- visualization: src/plugins/visualizations/server/saved_objects/visualization.ts, '8.8.0'
- lens: content_management/v0/schema/common.ts; the state: public/datasources/form_based/types.ts
  and operations/definitions/column_types.ts
- index-pattern: ``DataViewAttributes`` of src/plugins/data_views/common/types.ts

Newest versions of the types, as the files saved_objects/search.ts, dashboard_saved_object.ts and
saved_objects.ts (of Lens) list them, before and after they moved below platform/plugins; an object
may not be newer than the Kibana that imports it.
"""

from __future__ import annotations

from typing import Any

NEWEST = {
    "8.15": {
        "index-pattern": (8, 0, 0),
        "search": (10, 3, 0),
        "visualization": (8, 5, 0),
        "lens": (8, 9, 0),
        "dashboard": (10, 2, 0),
    }
}
NEWEST["9.0"] = NEWEST["8.15"] | {"search": (10, 5, 0)}
NEWEST_CORE = (8, 8, 0)
OLDEST = {
    "index-pattern": (8, 0, 0),
    "search": (8, 0, 0),
    "visualization": (8, 5, 0),
    "lens": (8, 9, 0),
    "dashboard": (8, 9, 0),
}
"""Older ones would be changed by migrations for attributes that ours do not have any more."""

TEXT = {"type": "string"}


def strict(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    """An object that has these properties and no others."""
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


def texts(names: str) -> dict[str, Any]:
    return dict.fromkeys(names.split(), TEXT)


META = {"kibanaSavedObjectMeta": strict(texts("searchSourceJSON"))}
DASHBOARD = strict(
    {**texts("title description panelsJSON optionsJSON"), **META},
    {
        "timeRestore": {"type": "boolean"},
        **texts("timeFrom timeTo"),
        "controlGroupInput": strict(
            texts("controlStyle chainingSystem panelsJSON ignoreParentSettingsJSON")
        ),
    },
)
CONTROL = strict(
    {
        "type": {"const": "optionsListControl"},
        "order": {"type": "integer", "minimum": 0},
        "width": {"enum": ["small", "medium", "large"]},
        "grow": {"type": "boolean"},
        "explicitInput": strict(texts("id fieldName title"), {"enhancements": {"type": "object"}}),
    }
)
CONTROLS = {"type": "object", "additionalProperties": CONTROL}
"""Of src/plugins/controls/common, as ``panelsJSON`` of the group has them."""
GRID = strict({name: {"type": "integer", "minimum": 0} for name in "xywh"} | texts("i"))
PANEL = strict(
    {
        "type": {"enum": ["lens", "visualization", "search"]},
        "gridData": GRID,
        "embeddableConfig": {"type": "object"},
        **texts("panelIndex panelRefName"),
    },
    texts("title"),
)
PANELS = {"type": "array", "items": PANEL}
PAIR = {"type": "array", "items": TEXT, "minItems": 2, "maxItems": 2}
SEARCH = strict(
    {
        **texts("title description"),
        "columns": {"type": "array", "items": TEXT},
        "sort": {"type": "array", "items": PAIR},
        "grid": strict({}, {"columns": {"type": "object"}}),
        "hideChart": {"type": "boolean"},
        "isTextBasedQuery": {"type": "boolean"},
        **META,
    },
    {"rowHeight": {"type": "integer", "minimum": -1}},
)
VISUALIZATION = strict(
    {**texts("title visState uiStateJSON"), **META},
    {**texts("description"), "version": {"const": 1}},
)
VEGA_STATE = strict(
    {
        "title": TEXT,
        "type": {"const": "vega"},
        "params": strict(texts("spec")),
        "aggs": {"type": "array", "maxItems": 0},
    }
)
COLUMN = strict(
    {
        "label": TEXT,
        "dataType": {"enum": ["string", "number", "date"]},
        "operationType": {"enum": ["terms", "range", "date_histogram", "count", "average", "max"]},
        "sourceField": TEXT,
        "isBucketed": {"type": "boolean"},
    },
    {
        "customLabel": {"type": "boolean"},
        "scale": {"enum": ["ordinal", "interval", "ratio"]},
        "params": {"type": "object"},
    },
)
LAYER = strict(
    {
        "columns": {"type": "object", "additionalProperties": COLUMN},
        "columnOrder": {"type": "array", "items": TEXT, "uniqueItems": True},
    },
    {"incompleteColumns": {"type": "object", "maxProperties": 0}, "sampling": {"const": 1}},
)
FORM_BASED = strict({"layers": {"type": "object", "additionalProperties": LAYER}})
LENS_STATE = strict(
    {
        "datasourceStates": strict({"formBased": FORM_BASED}),
        "visualization": {"type": "object"},
        "query": strict(texts("query"), {"language": {"enum": ["kuery", "lucene"]}}),
        "filters": {"type": "array"},
    },
    {"internalReferences": {"type": "array"}, "adHocDataViews": {"type": "object"}},
)
LENS = strict(
    {
        "title": TEXT,
        "visualizationType": {"enum": ["lnsXY", "lnsHeatmap", "lnsDatatable", "lnsMetric"]},
        "state": LENS_STATE,
    },
    texts("description"),
)
DATA_VIEW = strict(
    texts("title fields"),
    {
        "allowNoIndex": {"type": "boolean"},
        **texts("name sourceFilters typeMeta runtimeFieldMap fieldFormatMap fieldAttrs"),
        **texts("timeFieldName"),
    },
)
ATTRIBUTES = {
    "dashboard": DASHBOARD,
    "search": SEARCH,
    "visualization": VISUALIZATION,
    "lens": LENS,
    "index-pattern": DATA_VIEW,
}
OBJECT = strict(
    {
        "type": {"enum": list(ATTRIBUTES)},
        "id": {"type": "string", "minLength": 1},
        "attributes": {"type": "object"},
        "references": {"type": "array", "items": strict(texts("name type id"))},
        **texts("coreMigrationVersion typeMigrationVersion"),
    }
)

COUNTED = strict({"operation": {"const": "count"}}, texts("label"))
MEASURED = strict({"operation": {"enum": ["average", "max"]}, **texts("field")}, texts("label"))
METRIC = {"oneOf": [COUNTED, MEASURED]}
BY_METRIC = strict(
    {
        "type": {"const": "metric"},
        "metric_index": {"type": "integer"},
        "direction": {"enum": ["asc", "desc"]},
    }
)
BUCKET = {
    "oneOf": [
        strict(
            {
                "operation": {"const": "terms"},
                "fields": {"type": "array", "items": TEXT},
                "limit": {"type": "integer"},
            },
            {**texts("label"), "rank_by": BY_METRIC},
        ),
        strict(
            {"operation": {"const": "date_histogram"}, **texts("field suggested_interval")},
            {
                **texts("label"),
                "use_original_time_range": {"type": "boolean"},
                "include_empty_rows": {"type": "boolean"},
            },
        ),
        strict(
            {
                "operation": {"const": "range"},
                **texts("field"),
                "ranges": {
                    "type": "array",
                    "items": strict({}, {key: {"type": "number"} for key in ("gt", "lte")}),
                },
            },
            texts("label"),
        ),
    ]
}
SOURCE = strict({"type": {"const": "data_view_reference"}, **texts("ref_id")})
METRICS, BUCKETS = ({"type": "array", "items": each, "minItems": 1} for each in (METRIC, BUCKET))
PRIMARY = strict({"type": {"const": "primary"}, "operation": {"const": "count"}}, texts("label"))
XY_LAYER = strict(
    {"type": {"enum": ["bar", "bar_horizontal"]}, "data_source": SOURCE, "x": BUCKET, "y": METRICS}
)


def chart(kind: str, **required: Any) -> dict[str, Any]:
    return strict({"type": {"const": kind}, **texts("title"), **required}, texts("description"))


VIS = {
    "oneOf": [
        chart("metric", data_source=SOURCE, metrics={"type": "array", "items": PRIMARY}),
        chart("data_table", data_source=SOURCE, rows=BUCKETS, metrics=METRICS),
        chart("heatmap", data_source=SOURCE, x=BUCKET, y=BUCKET, metric=METRIC),
        chart("xy", layers={"type": "array", "items": XY_LAYER}),
    ]
}
API_SORT = strict({**texts("name"), "direction": {"enum": ["asc", "desc"]}})
TAB = strict(
    {
        "data_source": SOURCE,
        "query": strict({"language": {"const": "kql"}, **texts("expression")}),
        "column_order": {"type": "array", "items": TEXT},
        "sort": {"type": "array", "items": API_SORT},
    }
)
SESSION = strict({**texts("title"), "tabs": {"type": "array", "items": TAB, "maxItems": 1}})
API_GRID = strict({name: {"type": "integer", "minimum": 0} for name in "xywh"})
PINNED = strict(
    {
        "type": {"const": "options_list_control"},
        "width": {"enum": ["small", "medium", "large"]},
        "grow": {"type": "boolean"},
        "config": strict(texts("title data_view_id field_name")),
    }
)
API_PANEL = {
    "oneOf": [
        strict({"type": {"const": kind}, "grid": API_GRID, "config": config})
        for kind, config in (("vis", VIS), ("discover_session", SESSION))
    ]
}
API_DASHBOARD = strict(
    {
        **texts("title"),
        "panels": {"type": "array", "items": API_PANEL, "maxItems": 100},
        "pinned_panels": {"type": "array", "items": PINNED},
    },
    texts("description"),
)
"""Of PUT /api/dashboards/{id} as Kibana 9.4 documents it, as far as our panels go; after
src/platform/plugins/shared/dashboard/server/api/dashboard_state_schemas.ts and the schemas of the
charts, kbn-lens-embeddable-utils/config_builder/schema. 9.4 is a technical preview of it."""
