"""The part of a picture in which a term was best is drawn over it, in a real Chromium."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from imgsearch_es import ImageIndex
from imgsearch_es.interfaces.server.batching import ServedIndex
from imgsearch_es.interfaces.server.guard import ServerSettings
from tests.browser.conftest import MILLISECONDS, Open
from tests.browser.test_accessibility import serious
from tests.fakes import noise, register
from tests.serving import Client, serving

SHAPES = {"photo": (120, 90), "square": (100, 100), "wide": (200, 60), "tall": (60, 150)}


@pytest.fixture(scope="module")
def tiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index with views, of pictures that fill their frame and such that do not."""
    register()
    folder = tmp_path_factory.mktemp("views")
    for i, (name, size) in enumerate(SHAPES.items()):
        noise(i, *size).save(folder / f"{name}.png")
    with ImageIndex(folder / "tiled.duckdb", model="fake", views="tiles") as index:
        index.add(folder)
    return folder


@pytest.fixture(scope="module")
def client(tiled: Path) -> Iterator[Client]:
    settings = ServerSettings(port=0, rate=0, cache_folder=tiled / "cache")
    with serving(ServedIndex(tiled / "tiled.duckdb"), settings) as client:
        yield client


def place(element: Locator) -> tuple[float, ...]:
    """left, top, right and bottom on the page; what the screen shows, whatever is cut off."""
    box = element.evaluate("one => one.getBoundingClientRect().toJSON()")
    return box["left"], box["top"], box["right"], box["bottom"]


def wanted(picture: Locator, box: tuple[int, ...], size: tuple[int, int]) -> tuple[float, ...]:
    """Where a box of a picture of this size is on the page, by the rules of object-fit."""
    left, top, right, bottom = place(picture)
    fill = picture.evaluate("one => getComputedStyle(one).objectFit") == "cover"
    scales = (right - left) / size[0], (bottom - top) / size[1]
    scale = max(scales) if fill else min(scales)
    start = (left + right - scale * size[0]) / 2, (top + bottom - scale * size[1]) / 2
    return tuple(start[i % 2] + scale * value for i, value in enumerate(box))


def box_of(chip: Locator) -> tuple[int, ...]:
    """The box that a chip draws."""
    rect = chip.locator("rect").last
    x, y, width, height = (int(rect.get_attribute(n) or "") for n in ("x", "y", "width", "height"))
    return x, y, x + width, y + height


def is_drawn(chip: Locator, picture: Locator, size: tuple[int, int]) -> None:
    """Pointing at a term draws its box in the right place."""
    overlay = chip.locator(".view-box")
    expect(overlay).to_be_hidden()
    chip.hover()
    expect(overlay).to_be_visible()
    assert place(overlay.locator("rect")) == pytest.approx(
        wanted(picture, box_of(chip), size), abs=2.5
    )


def each_card(page: Page, chips: str, picture: str, card: str) -> None:
    for name, size in SHAPES.items():
        one = page.locator(card).filter(has_text=re.compile(rf"{name}\.png"))
        chip = one.locator(chips).filter(has=page.locator(".view-box")).first
        is_drawn(chip, one.locator(picture), size)
    page.mouse.move(0, 0)
    chip.focus()
    expect(chip.locator(".view-box")).to_be_visible()


def test_the_page_draws_the_part(open_page: Open, client: Client):
    page = open_page("/?q=animal", base=client.url)
    for rest in page.locator("#rest > summary").all():  # what shows a trace of it
        rest.click()
    each_card(page, ".chips > li", ".picture img", ".card")
    assert serious(page) == []


def test_the_large_view_draws_the_part(open_page: Open, client: Client):
    page = open_page("/?q=animal", base=client.url)
    for rest in page.locator("#rest > summary").all():  # what shows a trace of it
        rest.click()
    for name, size in SHAPES.items():
        page.locator(".card").filter(has_text=f"{name}.png").locator(".picture").click()
        is_drawn_large(page, name, size)


def is_drawn_large(page: Page, name: str, size: tuple[int, int]) -> None:
    """Pointing at a term of the large view draws its box over the picture."""
    view = page.get_by_role("dialog", name="Picture")
    expect(view.get_by_role("heading", level=2)).to_have_text(f"{name}.png")
    for terms in (".why", ".seen"):
        term = view.locator(f"{terms} > li").filter(has=page.locator(".view-box")).first
        term.hover()
        drawn = view.locator(".view-frame .view-box")
        expect(drawn).to_be_visible()
        expected = wanted(view.locator("img"), box_of(term), size)
        assert place(drawn.locator("rect")) == pytest.approx(expected, abs=2.5)
    page.mouse.move(10, 10)
    expect(drawn).to_have_count(0)
    page.keyboard.press("Escape")
    expect(view).to_be_hidden()


def test_the_gallery_draws_the_part(chromium: Browser, tiled: Path):
    with ImageIndex(tiled / "tiled.duckdb") as index:
        path = index.search(text="animal", k=8).to_html(tiled / "hits.html")
    page = chromium.new_page()
    page.set_default_timeout(MILLISECONDS)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(path.as_uri())
    each_card(page, ".ig-terms > li", ".ig-frame img", "figure")
    assert serious(page) == []
    for name, size in SHAPES.items():
        page.locator("figure").filter(has_text=f"{name}.png").locator(".ig-open").first.click()
        is_drawn_large(page, name, size)
    page.locator(".ig-open").first.click()
    expect(page.locator(".view-image")).to_have_attribute("src", re.compile("^file:"))
    assert serious(page) == []
    page.keyboard.press("ArrowRight")
    expect(page.locator(".view-image")).to_have_js_property("complete", True)
    page.close()
    assert complaints == []


def test_nothing_can_be_pointed_at_without_views(open_page: Open):
    page = open_page("/?q=animal")
    expect(page.locator(".card").first).to_be_visible()
    assert page.locator(".view-box").count() == 0
