"""The documents agree with the code: links lead somewhere, and walks go where they say."""

from __future__ import annotations

import math
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.retrieval.scoring import FORMULAS, Context, Statistics

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "imgsearch_es"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("notebooks/*.ipynb")])

Function = tuple[str, str]
"""A file of the package, and the name of a function in it."""


def page_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere_and_no_path_is_of_one_machine(page):
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"/(?:home|root|Users|work|tmp)/", text)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        found = (page.parent / name).resolve() if name else page
        assert found.exists(), f"{page_id(page)} links to {target}"
        if anchor:
            assert anchor in anchors(found), f"{page_id(page)} links to {target}"


def test_each_decision_has_its_own_number():
    pages = sorted(ROOT.glob("docs/decisions/*.md"))
    assert [int(page.name[:3]) for page in pages] == [*range(1, len(pages) + 1)]
    for number, page in enumerate(pages, start=1):
        assert page.read_text(encoding="utf-8").startswith(f"# {number}. "), page.name


@pytest.mark.parametrize("name", ["search", "add"])
def test_the_walks_are_what_happens(name, index, photos, word):
    """Each function is called by the one it is indented under, or in a thread that begins there."""
    (photos / "new.png").write_bytes((photos / "cats" / "cat.1.png").read_bytes() + b"new")
    index.store.finish()  # as a run does
    ways = {"search": lambda: index.search(text=word)[0], "add": lambda: index.add(photos)}
    calls = calls_of(ways[name])
    above: list[tuple[int, Function]] = []
    for line in walk(name):
        place, _, function = line.partition(" ")
        owner, _, called = function.strip().rpartition(".")
        assert f"class {owner}" in (PACKAGE / place).read_text(encoding="utf-8") or not owner
        depth = len(line) - len(function.lstrip())
        while above and above[-1][0] >= depth:
            above.pop()
        stacks = [stack for last, stack in calls if last == (place, called)]
        assert any(
            not above or above[-1][1] in stack or ("index.py", name) not in stack
            for stack in stacks
        ), line
        above.append((depth, (place, called)))


def walk(name: str) -> list[str]:
    block = ARCHITECTURE.read_text(encoding="utf-8").partition(f"<!-- walk: {name} -->\n```\n")[2]
    return block.partition("\n```")[0].splitlines()


def calls_of(act: Callable[[], object]) -> set[tuple[Function, tuple[Function, ...]]]:
    """The package's functions that are called, in any thread, each with those that call it."""
    calls = set()

    def note(frame: FrameType | None, event: str, argument: object) -> None:
        stack = []
        while event == "call" and frame:
            if (file := frame.f_code.co_filename).startswith(f"{PACKAGE}/"):
                stack.append((file.removeprefix(f"{PACKAGE}/"), frame.f_code.co_name))
            elif not stack:
                return
            frame = frame.f_back
        if stack:
            calls.add((stack[0], tuple(stack[1:])))

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        act()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return calls.copy()  # threads that began meanwhile go on noting


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-") for text in headings}


KEYS = ("tabby", "tiger_cat")


def score_of(name: str, query: tuple[float, ...], document: tuple[float, ...]) -> float:
    formula = FORMULAS[name]
    terms = tuple(Term(key, weight) for key, weight in zip(KEYS, query, strict=True))
    scores = dict(zip(KEYS, document, strict=True))
    context = Context(math.fsum(document), math.hypot(*document), 1.0, {})
    weighted = formula.query_weights(terms, Statistics(2, 1.0, {}))
    return math.fsum(formula.summand(term.score, scores[term.key], context) for term in weighted)


def test_the_example_of_the_page_on_scoring_is_right():
    text = (ROOT / "docs" / "scoring.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| \*([qd])\* \| (.+) \|$", text, re.MULTILINE))
    numbers = {name: tuple(map(float, row.split(" | "))) for name, row in rows.items()}
    query = numbers["q"][:2]
    for first, second, length, product, cosine in numbers.values():
        document = (first, second)
        assert math.hypot(*document) == pytest.approx(length, abs=5e-4)
        assert score_of("inner", query, document) == pytest.approx(product, abs=5e-4)
        assert score_of("cosine", query, document) == pytest.approx(cosine, abs=5e-4)
    assert numbers["d"][3] > numbers["q"][3]
    assert numbers["d"][2] > numbers["q"][2]  # as Cauchy and Schwarz demand
    assert numbers["d"][4] < numbers["q"][4] == 1
    assert f"*d* scores {numbers['d'][3]:.3f}" in text
    assert f"*q* itself with {numbers['q'][3]:.3f}" in text
