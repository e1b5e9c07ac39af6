"""Makes the pictures of the documentation from the demo's own pages, by headless Chromium.

    python tools/screenshots.py

Writes gallery.png and page*.png into docs/images. Needs Chromium or Chrome (IMGSEARCH_BROWSER may
name it); the photos are those of scikit-image, some with made-up places and dates. Run it again
when the gallery or the page looks different.
"""

from __future__ import annotations

import secrets
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from PIL import Image, ImageChops
from prepare import find_browser

from imgsearch_es.index import ImageIndex
from imgsearch_es.interfaces.server.app import config_of, create_app, listen, url_of
from imgsearch_es.interfaces.server.batching import ServedIndex
from imgsearch_es.interfaces.server.guard import ServerSettings
from imgsearch_es.pictures.demo import make_photos

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
WIDTH = 1100
LIMIT_BYTES = 300_000
PLACES = ((48.14, 11.58), (41.9, 12.5), (35.68, 139.69), (-33.87, 151.21), (40.71, -74.01))
"""Of photos for the strip, in turn: latitude and longitude."""
SHOT, SHOWN = (1280, 860), (440, 296)
"""Pixels of a page, and of its picture in the strip."""
TOKEN = secrets.token_hex(24)
QUERY = {"image": "motorcycle_left.jpg", "text": "helmet"}


def main() -> None:
    browser = find_browser()
    if browser is None:
        sys.exit("error: no Chromium or Chrome is installed: `make test` brings one")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        page = gallery_page(folder)
        shot = folder / "gallery.png"
        take(browser, page, shot, folder / "profile")
        names = ("gallery.png", "page.png", "page-large.png", "page-phone.png", "page-strip.png")
        targets = [IMAGES / one for one in names]
        IMAGES.mkdir(parents=True, exist_ok=True)
        save_small(shot, targets[0])
        take_pages(browser, folder)
        take_strip(browser, folder)
        for target in targets[1:]:
            save_small(folder / target.name, target)
    for target in targets:
        print(f"{target}: {target.stat().st_size // 1000} kB")


def take_pages(browser: str, folder: Path) -> None:
    """Photograph the page of a picture, a result large, and words, in the dark, on a phone."""
    from playwright.sync_api import sync_playwright

    picture = folder / "photos" / QUERY["image"]
    with served(folder) as url, sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        desk = chromium.new_page(viewport={"width": 1280, "height": 860})
        desk.goto(url)
        desk.set_input_files("#file", picture)
        desk.wait_for_url("**image=upload-*")
        desk.wait_for_load_state("networkidle")
        desk.screenshot(path=folder / "page.png")
        desk.goto(f"{url}?q=animal")
        desk.locator(".picture").first.click()
        desk.get_by_text("The picture", exact=True).wait_for()
        desk.locator(".view-image[src*='/1280']").wait_for()
        desk.screenshot(path=folder / "page-large.png")
        phone = chromium.new_page(
            viewport={"width": 390, "height": 844}, color_scheme="dark", device_scale_factor=1.5
        )
        phone.goto(f"{url}?q=animal")
        phone.wait_for_load_state("networkidle")
        phone.screenshot(path=folder / "page-phone.png")
        chromium.close()


def take_strip(browser: str, folder: Path) -> None:
    """Photograph ten minutes: nothing yet, words, a picture large, the map, a new word, a phone."""
    from playwright.sync_api import Page, sync_playwright

    shots: list[Path] = []

    def shoot(page: Page) -> None:
        page.wait_for_load_state("networkidle")
        shots.append(folder / f"strip-{len(shots)}.png")
        page.screenshot(path=shots[-1])

    index = travels(folder)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        desk = chromium.new_page(viewport={"width": SHOT[0], "height": SHOT[1]})
        with served(folder, "empty.duckdb") as url:
            desk.goto(url)
            shoot(desk)
        with served(folder, index.name) as url:
            desk.goto(f"{url}?q=animal")
            shoot(desk)
            desk.locator(".picture").nth(1).click()
            desk.locator(".view-image[src*='/1280']").wait_for()
            shoot(desk)
            desk.goto(f"{url}?open=map")
            desk.locator("#map circle").first.wait_for()
            shoot(desk)
            desk.goto(f"{url}?q=animal")
            for place in range(3):
                desk.locator(".act.like").nth(place).click()
                desk.locator(".example.like").nth(place).wait_for()
            desk.locator("[data-teach]").click()
            desk.get_by_role("dialog").get_by_label("Word").fill("our pets")
            shoot(desk)
            phone = chromium.new_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
            phone.goto(f"{url}?q=animal")
            shoot(phone)
        chromium.close()
    strip = Image.new("RGB", (3 * SHOWN[0] + 40, 2 * SHOWN[1] + 30), "white")
    for place, shot in enumerate(shots):
        with Image.open(shot) as opened:
            small = opened.convert("RGB")
            small.thumbnail(SHOWN, Image.Resampling.LANCZOS)
        row, column = divmod(place, 3)
        left = 10 + column * (SHOWN[0] + 10) + (SHOWN[0] - small.width) // 2
        strip.paste(small, (left, 10 + row * (SHOWN[1] + 10)))
    strip.save(folder / "page-strip.png")


def travels(folder: Path) -> Path:
    """An index of the photos as if they had been taken on journeys; and an empty one."""
    taken = folder / "journeys"
    taken.mkdir()
    for number, photo in enumerate(sorted((folder / "photos").iterdir())):
        latitude, longitude = PLACES[number % len(PLACES)]
        with Image.open(photo) as opened:
            exif = opened.getexif()
            exif.get_ifd(0x8769)[0x9003] = f"{2019 + number % 6}:0{1 + number % 9}:14 12:00:00"
            exif.get_ifd(0x8825).update(
                {
                    1: "N" if latitude > 0 else "S",
                    2: (abs(latitude), 0.0, 0.0),
                    3: "E" if longitude > 0 else "W",
                    4: (abs(longitude), 0.0, 0.0),
                }
            )
            opened.convert("RGB").save(taken / photo.name, exif=exif)
    place = folder / "journeys.duckdb"
    with ImageIndex(place, model="efficientnet-lite0", gps=True) as index:
        index.add(taken)
    with ImageIndex(folder / "empty.duckdb", model="efficientnet-lite0") as index:
        index.create()
    return place


@contextmanager
def served(folder: Path, index: str = "photos.duckdb") -> Iterator[str]:
    """The URL of a server of an index in a folder; changing it takes a token, reading none."""
    listening = listen("127.0.0.1", 0)
    settings = ServerSettings(
        port=0, rate=0, token=TOKEN, roots=(folder,), cache_folder=folder / "cache"
    )
    app, _ = create_app(ServedIndex(folder / index), settings)
    server = uvicorn.Server(config_of(app))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield url_of("127.0.0.1", listening.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


def gallery_page(folder: Path) -> Path:
    """The gallery of a search by picture and words together, as `hits.to_html` writes it."""
    photos = make_photos(folder / "photos")
    with ImageIndex(folder / "photos.duckdb", model="efficientnet-lite0") as index:
        index.add(photos)
        hits = index.search(image=photos / QUERY["image"], text=QUERY["text"], k=10)
        return hits.to_html(folder / "gallery.html")


def take(browser: str, page: Path, target: Path, profile: Path) -> None:
    """Photograph a page with an empty profile, and no network use of the browser's own."""
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        "--disable-background-networking", "--disable-component-update", "--disable-quic",
        "--disable-sync", "--no-first-run", f"--user-data-dir={profile}",
        f"--window-size={WIDTH},2000", f"--screenshot={target}", page.as_uri(),
    ]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if result.returncode != 0 or not target.is_file():
        sys.exit(f"error: {browser} took no picture: {result.stderr.strip()[-500:]}")


def save_small(shot: Path, target: Path) -> None:
    """Cut off the empty part below the page, and reduce the colors to what fits the limit."""
    with Image.open(shot) as opened:
        picture = opened.convert("RGB")
    background = picture.getpixel((0, picture.height - 1))
    plain = Image.new("RGB", picture.size, background)
    bottom = bottom_of_difference(picture, plain)
    picture = picture.crop((0, 0, picture.width, min(picture.height, bottom + 32)))
    for colors in (256, 192, 128, 64):
        reduced = picture.quantize(colors, dither=Image.Dither.FLOYDSTEINBERG)
        reduced.save(target, optimize=True)
        if target.stat().st_size <= LIMIT_BYTES:
            return
    sys.exit(f"error: {target} is larger than {LIMIT_BYTES} bytes")


def bottom_of_difference(picture: Image.Image, plain: Image.Image) -> int:
    """The last row in which two pictures differ."""
    box = ImageChops.difference(picture, plain).getbbox()
    return box[3] if box else picture.height


if __name__ == "__main__":
    main()
