"""Kibana's saved objects: their form, their ids, and the file that Kibana imports.

**Versions.** Kibana brings an older object forward by the migrations of its type and refuses one
that is newer than itself, so each object says the oldest version that its attributes are right in,
and both 8.15 and 9 import it. These are the versions that Kibana wrote before the types had model
versions. Model versions are numbered 10.1, 10.2, ..., above all of these, so they are still to be
applied. An object that names no version would count as the newest, which in later 9.x needs
attributes of its own for a ``search``. Sources in elastic/kibana; the paths are those of 8.15, and
those of 9 lie below src/platform/plugins/shared and x-pack/platform/plugins/shared:

- src/plugins/data_views/server/saved_objects/data_views.ts: no model versions
- src/plugins/saved_search/server/saved_objects/search.ts and schema.ts: model versions from 8.x on;
  in later 9.x also ``tabs``, which extract_tabs.ts makes of an older object
- src/plugins/visualizations/server/saved_objects/visualization.ts: no model versions
- x-pack/plugins/lens/server/saved_objects.ts: none in 8.15; in later 9.x, whose schema for what is
  created is that of before (content_management/v0/schema/common.ts)
- src/plugins/dashboard/server/dashboard_saved_object/dashboard_saved_object.ts: 10.2 in 8.15

**Ids** are made of the index's name, so installing twice replaces. ``~`` is in no index's name, so
no two names give one id.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

CORE_VERSION = "8.8.0"
"""Of what all types share: the one that Kibana from 8.8 on, and 9, writes."""
TYPE_VERSIONS = {
    "index-pattern": "8.0.0",
    "search": "8.0.0",
    "visualization": "8.5.0",
    "lens": "8.9.0",
    "dashboard": "8.9.0",
}
NO_QUERY = {"query": {"query": "", "language": "kuery"}, "filter": []}


@dataclass(frozen=True, slots=True)
class Reference:
    """From one object to another, by a name that the attributes use."""

    name: str
    type: str
    id: str

    def to_dict(self) -> dict[str, str]:
        """As JSON."""
        return {"name": self.name, "type": self.type, "id": self.id}


@dataclass(frozen=True, slots=True)
class SavedObject:
    """One saved object.

    Attributes:
        type: "dashboard", "lens", ... (``TYPE_VERSIONS``).
        id: see ``object_id``.
        attributes: what the type defines.
        references: to the objects that the attributes name.
    """

    type: str
    id: str
    attributes: Mapping[str, Any]
    references: tuple[Reference, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As a line of the file that Kibana imports."""
        return {
            "type": self.type,
            "id": self.id,
            "attributes": dict(self.attributes),
            "references": [reference.to_dict() for reference in self.references],
            "coreMigrationVersion": CORE_VERSION,
            "typeMigrationVersion": TYPE_VERSIONS[self.type],
        }


def object_id(index: str, name: str) -> str:
    """The id of an object of an index: always the same."""
    return f"imgsearch~{index}~{name}"


def to_ndjson(objects: Iterable[SavedObject]) -> str:
    """One object a line, and a newline after the last."""
    return "".join(f"{compact(item.to_dict())}\n" for item in objects)


def compact(value: object) -> str:
    """JSON on one line; many attributes are JSON within JSON."""
    return json.dumps(value, separators=(",", ":"))
