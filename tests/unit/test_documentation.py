"""The documents agree with the code: links lead somewhere, and every module is where it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "imgsearch_es"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("notebooks/*.ipynb")])


def page_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        found = (page.parent / name).resolve() if name else page
        assert found.exists(), f"{page_id(page)} links to {target}"
        if anchor:
            assert anchor in anchors(found), f"{page_id(page)} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_no_paths_of_one_machine(page: Path):
    assert not re.search(r"/(?:home|root|Users|work|tmp)/", page.read_text(encoding="utf-8"))


def test_each_decision_has_its_own_number():
    pages = sorted(ROOT.glob("docs/decisions/*.md"))
    assert [int(page.name[:3]) for page in pages] == [*range(1, len(pages) + 1)]
    for number, page in enumerate(pages, start=1):
        assert page.read_text(encoding="utf-8").startswith(f"# {number}. "), page.name


def test_every_module_has_one_line_in_the_architecture():
    listed = [module for group in groups() for module in group]
    assert len(listed) == len(set(listed))
    existing = {name(path) for path in PACKAGE.rglob("*.py")}
    existing -= {name(path) for path in (PACKAGE / "interfaces/cli").glob("*.py")}
    assert set(listed) == existing - {"__init__.py", "__main__.py"}


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-") for text in headings}


def groups() -> list[list[str]]:
    """The modules of the table in docs/architecture.md, group by group; folders as their files."""
    table = ARCHITECTURE.read_text(encoding="utf-8").partition("\n## Modules\n")[2]
    found: list[list[str]] = []
    for line in table.partition("\n## ")[0].splitlines():
        if re.match(r"\| \*\*.+\*\* \|", line):
            found.append([])
        elif line.startswith("| `") and "cli/" not in line:
            found[-1] += modules(line)
    return found


def modules(line: str) -> list[str]:
    cell = line.split("|")[1]
    names = re.findall(r"`([^`]+)`", cell)
    folder = names[0].rpartition("/")[0] + "/" if "/" in names[0] else ""
    listed: list[str] = []
    for item in names:
        place = item if "/" in item else folder + item
        files = sorted((PACKAGE / place).glob("*.py")) if place.endswith("/") else [PACKAGE / place]
        listed += map(name, files)
    return listed


def name(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()
