"""axe finds nothing serious, on any view, light and dark on a desk, light on a phone."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.conftest import DESKTOP, PHONE, Open


def large(page: Page) -> None:
    page.locator(".picture").first.click()
    expect(page.locator(".view-about")).to_contain_text("The picture")


def crop(page: Page) -> None:
    page.get_by_role("button", name="Crop").click()
    expect(page.locator("#crop")).to_be_visible()


def keys(page: Page) -> None:
    page.get_by_role("button", name="Keys and words").click()


VIEWS = {
    "everything": ("/", lambda page: None),
    "results": ("/?q=entity&where=label%3Doriginal&where=label%3Dsmall", lambda page: None),
    "refined": ("/?image={0}&like={1}&dislike={2}", lambda page: None),
    "large": ("/?q=entity", large),
    "alone": ("/why?q=entity&picture={0}", lambda page: None),
    "error": ("/nothing", lambda page: None),
    "crop": ("/?image={0}", crop),
    "keys": ("/", keys),
    "problem": ("/?q=tabbi", lambda page: None),
}


def serious(page: Page) -> list[tuple[str, str, list[str]]]:
    """What axe finds that is serious or critical: rule, impact, where."""
    found = Axe().run(page).response["violations"]
    return [
        (one["id"], one["impact"], [node["html"][:120] for node in one["nodes"][:3]])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_axe_finds_nothing_serious(open_page: Open, ids, size: tuple[int, int]):
    page = open_page(size=size)
    home, shown = page.url, ids(page)
    for name, (path, act) in VIEWS.items():
        page.goto(home.rstrip("/") + path.format(*shown))
        page.wait_for_load_state("networkidle")
        act(page)
        for colors in ("light", "dark") if size == DESKTOP else ("light",):
            page.emulate_media(color_scheme=colors)
            assert serious(page) == [], (name, colors)
