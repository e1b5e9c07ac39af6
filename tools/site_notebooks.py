"""Notebooks as pages of the site: prose, code, and what the code shows.

`make docs` runs them (IMGSEARCH_NOTEBOOKS=run), on photos of scikit-image, without a network. A
page has tables, text and figures; widgets need a notebook and are left out. The site's test builds
the pages without running them: the notebooks have tests of their own.
"""

from __future__ import annotations

import base64
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat

NOT_RUN = {"06_elasticsearch_and_kibana.ipynb"}
"""It needs a server."""
LARGEST = 300_000
"""Bytes of a notebook in the repository."""
_CONTROL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def page(path: Path, *, run: bool | None = None) -> tuple[str, dict[str, bytes]]:
    """The page of a notebook in Markdown, and its figures by name."""
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    wanted = os.environ.get("IMGSEARCH_NOTEBOOKS") == "run" if run is None else run
    if wanted and path.name not in NOT_RUN:
        _run(notebook)
    figures: dict[str, bytes] = {}
    parts: list[str] = []
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            text = cell.source.replace("](../README.md", "](../index.md")
            parts.append(text.replace("](../docs/", "](../"))
        elif cell.cell_type == "code":
            parts.append(_fenced(cell.source, "python"))
            name = f"{path.stem}-{number}"
            parts += [_shown(output, name, figures) for output in cell.get("outputs", [])]
    return "\n\n".join(filter(None, parts)) + "\n", figures


def _run(notebook: Any) -> None:
    from nbclient import NotebookClient

    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()


def _fenced(text: str, language: str = "text") -> str:
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _shown(output: Any, name: str, figures: dict[str, bytes]) -> str:
    if output.output_type == "stream":
        return _fenced(_CONTROL.sub("", output.text)) if output.name == "stdout" else ""
    data = output.get("data", {})
    if "image/png" in data:
        file = f"{name}-{len(figures)}.png"
        figures[file] = base64.b64decode(data["image/png"])
        return f"![What the cell shows]({file})"
    if "application/vnd.jupyter.widget-view+json" in data:
        return ""
    if "text/html" in data:  # without blank lines it is one block, which Markdown leaves as it is
        lines = (line for line in data["text/html"].splitlines() if line.strip())
        return '<div class="notebook-output">\n' + "\n".join(lines) + "\n</div>"
    return _fenced(data["text/plain"]) if "text/plain" in data else ""


def pages(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The files of all notebooks' pages, by their place on the site."""
    for path in sorted(folder.glob("*.ipynb")):
        text, figures = page(path)
        yield f"notebooks/{path.stem}.md", text.encode()
        for name, data in figures.items():
            yield f"notebooks/{name}", data
