"""Fixtures of the browser's tests: a Chromium, and a server of the demo's photos."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import prepare
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from imgsearch_es.interfaces.server.batching import ServedIndex
from imgsearch_es.interfaces.server.guard import ServerSettings
from imgsearch_es.pictures.demo import make_photos
from tests.conftest import PATIENCE
from tests.fakes import register
from tests.serving import TOKEN, Client, serving

DESKTOP, PHONE = (1280, 900), (390, 844)
MILLISECONDS = 1000 * PATIENCE
expect.set_options(timeout=MILLISECONDS)
Open = Callable[..., Page]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A real browser; where none can be had the tests fail, they are not skipped."""
    path = prepare.find_browser()  # or else Playwright's own
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """76 photos, so that there are four pages."""
    return make_photos(tmp_path_factory.mktemp("browser") / "photos")


@pytest.fixture(scope="session")
def location(photos: Path) -> Path:
    """An index of the photos by a model without TensorFlow; labeled by how they were made."""
    register()
    path = photos.parent / "photos.duckdb"
    with ServedIndex(path, model="fake") as index:
        index.add(photos, labels=lambda uri: Path(uri).stem.partition("-")[2] or "original")
    return path


@pytest.fixture(scope="module")
def server(location: Path, photos: Path) -> Iterator[Client]:
    """A server for this machine."""
    settings = ServerSettings(port=0, rate=0, cache_folder=photos.parent / "cache")
    with serving(ServedIndex(location), settings) as client:
        yield client


@pytest.fixture(scope="module")
def locked(location: Path, photos: Path) -> Iterator[Client]:
    """A server for all machines, which needs the token."""
    given = {"port": 0, "rate": 0, "token": TOKEN, "cache_folder": photos.parent / "cache"}
    settings = ServerSettings(host="0.0.0.0", **given)  # noqa: S104
    with serving(ServedIndex(location), settings) as client:
        yield client


@pytest.fixture
def open_page(chromium: Browser, server: Client) -> Iterator[Open]:
    """Opens a path; at the end no page may have complained, of its policy or of anything else."""
    complaints: list[str] = []
    contexts = []

    def open_page(
        path: str = "/",
        *,
        size: tuple[int, int] = DESKTOP,
        dark: bool = False,
        base: str = server.url,
        script: bool = True,
    ) -> Page:
        context = chromium.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
            has_touch=size == PHONE,
            java_script_enabled=script,
            permissions=["clipboard-read", "clipboard-write"],
        )
        context.set_default_timeout(MILLISECONDS)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: note(message.type, message.text))
        page.goto(base + path)
        return page

    def note(kind: str, text: str) -> None:
        told = ("the server responded with a status of 4", "net::ERR_FAILED")  # no answer at all
        if kind == "error" and not any(one in text for one in told):
            complaints.append(text)

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def ids() -> Callable[[Page], list[str]]:
    """The ids of the pictures that a page shows, in order."""
    return lambda page: page.eval_on_selector_all(".card", "all => all.map(one => one.dataset.id)")


@pytest.fixture(scope="module")
def word(location: Path) -> SimpleNamespace:
    """A frequent synset: its key, and how a person writes it."""
    with ServedIndex(location) as index:
        key = index.facets(fields=("synsets",), size=1)["synsets"][0]["value"]
    return SimpleNamespace(key=key, query=f"synset:{key}")
