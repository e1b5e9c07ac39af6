"""What MkDocs does besides: the repository's own pages, links out of docs/, and lists of pages.

Pages of docs/ are read on GitHub, too, so they link to notebooks and scripts beside docs/. The site
takes these files along under files/, and the changelog and the like as pages under project/.
"""

from __future__ import annotations

import os
import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from markdown import Extension, Markdown
from markdown.preprocessors import Preprocessor
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).resolve().parent))

import site_notebooks

ROOT = Path(__file__).resolve().parent.parent
PROJECT = {
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
}
"""Pages of the repository's root, and where the site has them."""
ELSEWHERE = {"README.md": "index.md"}
_EXAMPLE = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put all pages of a folder into the navigation where it says the folder's name."""
    config.nav = [_expanded(entry, Path(config.docs_dir)) for entry in config.nav or []]
    names = [f"notebooks/{path.stem}.md" for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
    config.nav.insert(3, {"Notebooks": names})
    config.markdown_extensions.append(_Examples())
    return config


class _Examples(Extension):  # type: ignore[misc]
    """Shows the examples of docstrings as code: ``>>>`` would be three quotations."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802
        md.preprocessors.register(_Fences(md), "examples", 29)  # before fences are read


class _Fences(Preprocessor):  # type: ignore[misc]
    def run(self, lines: list[str]) -> list[str]:
        text = "\n".join(lines)
        return _EXAMPLE.sub(r"```pycon\n\g<0>\n```\n", text).split("\n")


def _expanded(entry: Any, docs: Path) -> Any:
    if not isinstance(entry, dict):
        return entry
    ((title, value),) = entry.items()
    if isinstance(value, list):
        return {title: [_expanded(below, docs) for below in value]}
    if isinstance(value, str) and value.endswith("/"):
        pages = sorted((docs / value).glob("*.md"))
        return {title: [page.relative_to(docs).as_posix() for page in pages]}
    return entry


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the root's pages, and the files beside docs/ that pages link to."""
    for name, target in PROJECT.items():
        files.append(File.generated(config, target, abs_src_path=str(ROOT / name)))
    for page in list(files.documentation_pages()):
        for _, target, _ in _LINK.findall(page.content_string):
            path = _repository_path(page.src_uri, target)
            if path and _is_taken_along(path) and not files.get_file_from_path(f"files/{path}"):
                place = str(ROOT / path)
                copied = File.generated(config, f"files/{path}", abs_src_path=place)
                copied.inclusion = InclusionLevel.NOT_IN_NAV
                files.append(copied)
    for place, data in site_notebooks.pages(ROOT / "notebooks"):
        files.append(File.generated(config, place, content=data))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links of a page to where the site has what they mean."""

    def led(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        path = _repository_path(page.file.src_uri, target)
        if path is None:
            return match[0]
        place = _place(path)
        if place is None:
            return text  # a folder: nothing to show
        start = posixpath.dirname(page.file.src_uri) or "."
        return f"[{text}]({posixpath.relpath(place, start)}{anchor})"

    return _LINK.sub(led, markdown)


def _repository_path(page: str, target: str) -> str | None:
    """What a page's link means, as a path in the repository; None where nothing is to be done."""
    if re.match(r"[a-z]+:", target):
        return None
    is_root = page in PROJECT.values()
    folder = ROOT if is_root else (ROOT / "docs" / page).parent
    place = Path(os.path.normpath(folder / target))
    if not place.is_relative_to(ROOT) or not place.exists():
        return None  # MkDocs says that it leads nowhere
    path = place.relative_to(ROOT).as_posix()
    return path if is_root or not path.startswith("docs/") else None


def _is_taken_along(path: str) -> bool:
    is_page = path in PROJECT or path in ELSEWHERE or path.startswith("docs/")
    return not is_page and (ROOT / path).is_file()


def _place(path: str) -> str | None:
    """Where the site has a path of the repository."""
    if path in PROJECT or path in ELSEWHERE:
        return PROJECT.get(path) or ELSEWHERE[path]
    if path.startswith("docs/"):
        inside = path.removeprefix("docs/")
        return inside if (ROOT / path).is_file() else None
    return f"files/{path}" if (ROOT / path).is_file() else None
