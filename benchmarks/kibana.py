"""How long each panel of the Kibana dashboard takes, on made-up documents.

    IMGSEARCH_ES_URL=http://localhost:9200 python benchmarks/kibana.py --documents 100000

Prints a table and, with ``--json FILE``, writes the times. The request cache of the server is off:
each request is computed anew.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
import uuid
from pathlib import Path

from elasticsearch import Elasticsearch
from filling import fill
from posteriors import Synthetic

from imgsearch_es.interfaces.kibana import PANELS, searched
from imgsearch_es.stores import open_store
from imgsearch_es.vocabulary.synsets import imagenet

REPEATS = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    server = os.environ["IMGSEARCH_ES_URL"]
    name = f"benchmark-{uuid.uuid4().hex[:8]}"
    client = Elasticsearch(server, request_timeout=120)
    store = open_store(f"{server}/{name}")
    try:
        fill(store, Synthetic(arguments.documents).documents(), imagenet())
        times = measure(client, name)
    finally:
        client.indices.delete(index=f"{name}-000001", ignore_unavailable=True)
    print(f"{arguments.documents:,} documents, median of {REPEATS} in ms")
    for panel, value in times.items():
        print(f"{panel:<24}{value:>10.1f}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"documents": arguments.documents, "ms": times}))


def measure(client: Elasticsearch, name: str) -> dict[str, float]:
    """Median milliseconds of each panel, as the client sees them; the panels take turns."""
    panels = [panel for panel in PANELS if not panel.of_rejected]
    seconds: dict[str, list[float]] = {panel.name: [] for panel in panels}
    for turn in range(REPEATS + 1):
        for panel in panels:
            started = time.perf_counter()
            client.search(index=searched(panel, name), request_cache=False, **panel.body())
            if turn:  # the first one warms up
                seconds[panel.name].append(time.perf_counter() - started)
    return {panel: 1000 * statistics.median(values) for panel, values in seconds.items()}


if __name__ == "__main__":
    main()
