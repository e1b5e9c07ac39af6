"""Indexes a folder in a process of its own, to be killed, interrupted and starved.

    python -m tests.faults.indexer LOCATION FOLDER [--pause SECONDS] [--die WHERE]
        [--room BYTES] [--hold PICTURES]

Prints a line for each picture that the pipeline has finished with, and at the end the report.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from elasticsearch import helpers

from imgsearch_es import ImageIndex
from imgsearch_es.errors import ImgsearchError
from imgsearch_es.indexing import StoppedError, run
from imgsearch_es.stores.elastic import waiting
from imgsearch_es.stores.embedded import writing
from tests.fakes import FakeModel, register

BATCH = 8
WRITE = 24


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("location")
    parser.add_argument("folder")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds for each batch")
    parser.add_argument("--die", choices=("writing", "bulk"), help="where to be killed")
    parser.add_argument("--hold", type=int, help="pictures, then wait for the end of stdin")
    parser.add_argument("--room", type=int, help="largest file, in bytes")
    asked = parser.parse_args()
    waiting.FIRST_SECONDS, waiting.PAUSE_SECONDS = 0.05, 0.5
    register()
    run.WRITE_SIZE = WRITE
    slow_down(asked.pause)
    if asked.die:
        die(asked.die)
    if asked.room:
        resource.setrlimit(resource.RLIMIT_FSIZE, (asked.room, asked.room))
    with ImageIndex(asked.location, model="fake") as index:
        try:
            report = index.add(asked.folder, batch_size=BATCH, progress=telling(asked.hold))
        except StoppedError as stopped:
            print(json.dumps(stopped.report.to_dict()), flush=True)
            return 130
        except ImgsearchError as error:
            print(error, file=sys.stderr)
            return 1
    print(json.dumps(report.to_dict()), flush=True)
    return 0


def telling(hold: int | None) -> Callable[..., None]:
    told = itertools.count(1)

    def tell(*_: object) -> None:
        print("picture", flush=True)
        if next(told) == hold:
            sys.stdin.read()

    return tell


def slow_down(seconds: float) -> None:
    predict = FakeModel.predict

    def slowly(self: FakeModel, pixels: Any) -> Any:
        time.sleep(seconds)
        return predict(self, pixels)

    FakeModel.predict = slowly  # type: ignore[method-assign]


def die(where: str) -> None:
    """Be killed in the third write: between deleting and inserting, or after half of a bulk."""
    calls = 0

    def third() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    if where == "writing":
        insert = writing.insert

        def killed(*arguments: Any) -> None:
            third()
            insert(*arguments)

        writing.insert = killed
        return
    bulk = helpers.streaming_bulk

    def killed_half_way(client: Any, actions: Any, **options: Any) -> Any:
        for outcome in bulk(client, actions, **{**options, "chunk_size": WRITE // 2}):
            yield outcome
            if outcome[1]["index"]["result"] == "created":
                nonlocal calls
                calls += 1
            if calls == 2 * WRITE + WRITE // 2:  # one write is one request here: in its middle
                os.kill(os.getpid(), signal.SIGKILL)

    helpers.streaming_bulk = killed_half_way


if __name__ == "__main__":
    sys.exit(main())
