"""Makes the pictures of the documentation from the demo's own pages, by headless Chromium.

    python tools/screenshots.py

Writes docs/images/gallery.png. Needs chromium (or google-chrome) on PATH; the photos are those of
scikit-image. Run it again when the gallery looks different.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageChops

from imgsearch_es.demo import make_photos
from imgsearch_es.index import ImageIndex

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDTH = 1100
LIMIT_BYTES = 300_000
QUERY = {"image": "motorcycle_left.jpg", "text": "helmet"}


def main() -> None:
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        sys.exit(f"error: no browser on PATH; one of {', '.join(BROWSERS)} is needed")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        page = gallery_page(folder)
        shot = folder / "gallery.png"
        take(browser, page, shot, folder / "profile")
        target = IMAGES / "gallery.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        save_small(shot, target)
    print(f"{target}: {target.stat().st_size // 1000} kB")


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
