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


def strict(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    """An object that has no other properties."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


SEARCH_SOURCE = strict({"searchSourceJSON": TEXT}, "searchSourceJSON")
DASHBOARD = strict(
    {
        "title": TEXT,
        "description": TEXT,
        "kibanaSavedObjectMeta": SEARCH_SOURCE,
        "timeRestore": {"type": "boolean"},
        "timeFrom": TEXT,
        "timeTo": TEXT,
        "panelsJSON": TEXT,
        "optionsJSON": TEXT,
    },
    "title", "description", "kibanaSavedObjectMeta", "panelsJSON", "optionsJSON",
)  # fmt: skip
GRID = strict(
    {name: {"type": "integer", "minimum": 0} for name in "xywh"} | {"i": TEXT},
    "x", "y", "w", "h", "i",
)  # fmt: skip
PANELS = {
    "type": "array",
    "items": strict(
        {
            "type": {"enum": ["lens", "visualization", "search"]},
            "gridData": GRID,
            "panelIndex": TEXT,
            "title": TEXT,
            "embeddableConfig": {"type": "object"},
            "panelRefName": TEXT,
        },
        "type", "gridData", "panelIndex", "embeddableConfig", "panelRefName",
    ),
}  # fmt: skip
SEARCH = strict(
    {
        "title": TEXT,
        "description": TEXT,
        "columns": {"type": "array", "items": TEXT},
        "sort": {
            "type": "array",
            "items": {"type": "array", "items": TEXT, "minItems": 2, "maxItems": 2},
        },
        "grid": strict({"columns": {"type": "object"}}),
        "hideChart": {"type": "boolean"},
        "isTextBasedQuery": {"type": "boolean"},
        "kibanaSavedObjectMeta": SEARCH_SOURCE,
    },
    "title", "description", "columns", "sort", "grid", "hideChart", "isTextBasedQuery",
    "kibanaSavedObjectMeta",
)  # fmt: skip
VISUALIZATION = strict(
    {
        "title": TEXT,
        "description": TEXT,
        "version": {"const": 1},
        "visState": TEXT,
        "uiStateJSON": TEXT,
        "kibanaSavedObjectMeta": SEARCH_SOURCE,
    },
    "title", "visState", "uiStateJSON", "kibanaSavedObjectMeta",
)  # fmt: skip
VEGA_STATE = strict(
    {
        "title": TEXT,
        "type": {"const": "vega"},
        "params": strict({"spec": TEXT}, "spec"),
        "aggs": {"type": "array", "maxItems": 0},
    },
    "title", "type", "params", "aggs",
)  # fmt: skip
COLUMN = strict(
    {
        "label": TEXT,
        "customLabel": {"type": "boolean"},
        "dataType": {"enum": ["string", "number", "date"]},
        "operationType": {"enum": ["terms", "range", "date_histogram", "count", "average", "max"]},
        "sourceField": TEXT,
        "isBucketed": {"type": "boolean"},
        "scale": {"enum": ["ordinal", "interval", "ratio"]},
        "params": {"type": "object"},
    },
    "label", "dataType", "operationType", "sourceField", "isBucketed",
)  # fmt: skip
LAYER = strict(
    {
        "columns": {"type": "object", "additionalProperties": COLUMN},
        "columnOrder": {"type": "array", "items": TEXT, "uniqueItems": True},
        "incompleteColumns": {"type": "object", "maxProperties": 0},
        "sampling": {"const": 1},
    },
    "columns", "columnOrder",
)  # fmt: skip
LENS_STATE = strict(
    {
        "datasourceStates": strict(
            {
                "formBased": strict(
                    {"layers": {"type": "object", "additionalProperties": LAYER}}, "layers"
                )
            },
            "formBased",
        ),
        "visualization": {"type": "object"},
        "query": strict({"query": TEXT, "language": {"enum": ["kuery", "lucene"]}}, "query"),
        "filters": {"type": "array"},
        "internalReferences": {"type": "array"},
        "adHocDataViews": {"type": "object"},
    },
    "datasourceStates", "visualization", "query", "filters",
)  # fmt: skip
LENS = strict(
    {
        "title": TEXT,
        "description": TEXT,
        "visualizationType": {"enum": ["lnsXY", "lnsHeatmap", "lnsDatatable"]},
        "state": LENS_STATE,
    },
    "title", "visualizationType", "state",
)  # fmt: skip
DATA_VIEW = strict(
    {
        "title": TEXT,
        "name": TEXT,
        "allowNoIndex": {"type": "boolean"},
        **dict.fromkeys(
            (
                "fields", "sourceFilters", "typeMeta", "runtimeFieldMap", "fieldFormatMap",
                "fieldAttrs", "timeFieldName",
            ),
            TEXT,
        ),
    },
    "title", "fields",
)  # fmt: skip
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
        "references": {
            "type": "array",
            "items": strict({"name": TEXT, "type": TEXT, "id": TEXT}, "name", "type", "id"),
        },
        "coreMigrationVersion": TEXT,
        "typeMigrationVersion": TEXT,
    },
    "type", "id", "attributes", "references", "coreMigrationVersion", "typeMigrationVersion",
)  # fmt: skip
