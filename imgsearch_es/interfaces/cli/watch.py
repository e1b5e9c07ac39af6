"""``imgsearch watch``: keep an index current with folders."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Annotated

import typer

from imgsearch_es.interfaces.cli.output import (
    AnalyzerOption,
    FolderLabelOption,
    IndexOption,
    JsonOption,
    ModelOption,
    RuntimeOption,
    WeightsOption,
    print_json,
    say,
    warn,
)


def watch(
    folders: Annotated[
        list[str], typer.Argument(metavar="FOLDER", help="Folders, with all below them.")
    ],
    index: IndexOption = None,
    model: ModelOption = None,
    weights: WeightsOption = None,
    analyzer: AnalyzerOption = None,
    runtime: RuntimeOption = None,
    label_from_folder: FolderLabelOption = False,
    json: JsonOption = False,
) -> None:
    """Keep an index current: add, update and remove as files change.

    Begins with what has changed since. Ctrl-C ends it with a summary; a
    second Ctrl-C at once. While a folder is gone nothing of it is removed.
    """
    from imgsearch_es.index import ImageIndex
    from imgsearch_es.indexing import folder_label
    from imgsearch_es.interfaces.watching import Watcher

    with ImageIndex(
        index, model=model, weights=weights, analyzer=analyzer, runtime=runtime
    ) as target:
        watcher = Watcher(
            target,
            folders,
            labels=folder_label if label_from_folder else None,
            tell=warn if json else say,
        )

        def stop(number: int, frame: FrameType | None) -> None:
            watcher.stop()
            signal.signal(signal.SIGINT, signal.default_int_handler)

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
        report = watcher.run()
    print_json(report.to_dict()) if json else say(f"{target.location}: {report}")
