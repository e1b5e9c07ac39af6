"""The documentation's site: it builds without a warning, is whole, and fetches nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import imgsearch_es
import imgsearch_es.errors
from tests.snippets import ROOT
from tools import cli_reference

pytestmark = pytest.mark.slow
API = sorted((ROOT / "docs" / "api").glob("*.md"))


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The built site. MkDocs is strict: a bad link or a page outside the navigation fails."""
    target = tmp_path_factory.mktemp("site")
    cli_reference.main()
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", target],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return target


def test_every_page_is_built(site):
    for page in ROOT.glob("docs/**/*.md"):
        built = (site / page.relative_to(ROOT / "docs")).with_suffix(".html")
        assert built.is_file(), page
    for page in ("changelog", "contributing", "security"):
        assert (site / "project" / f"{page}.html").is_file()
    assert (site / "files" / "notebooks" / "01_quickstart.ipynb").is_file()


def test_pages_fetch_nothing_from_outside(site):
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        fetched = re.findall(r"<(?:script|img|iframe)[^>]*\ssrc=\"?(https?:)?//", text)
        fetched += re.findall(r"<link(?![^>]*canonical)[^>]*\shref=\"?(https?:)?//", text)
        assert fetched == [], page
        assert not re.search(r'href="(?!https?:)[^"]*\.md[#"]', text), f"{page} links to a source"
        assert 'class="mermaid"' not in text, f"{page}: Material fetches mermaid's program"
    for picture in (ROOT / "docs" / "images").glob("*.svg"):
        assert not re.search(r"url\(\"?http|href=\"http|@import", picture.read_text("utf-8"))


def test_every_public_name_is_in_the_reference(site):
    built = "".join((site / "api" / f"{page.stem}.html").read_text("utf-8") for page in API)
    anchors = set(re.findall(r'id="imgsearch_es\.([\w.]+)"', built))
    names = {anchor.rpartition(".")[2] for anchor in anchors}
    assert set(imgsearch_es.__all__) - names == {"__version__"}
    in_errors = vars(imgsearch_es.errors).values()
    errors = {v.__name__ for v in in_errors if isinstance(v, type) and issubclass(v, Exception)}
    assert errors <= names
    assert "<blockquote>" not in built, "an example is not shown as code"
