"""Photos to try the search on: those that scikit-image carries, and variants made of them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageOps

from imgsearch_es.errors import MissingDependencyError

PHOTOS = (
    "astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "clock_motion.png",
    "coffee.png", "coins.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png",
    "moon.png", "motorcycle_left.png", "motorcycle_right.png", "page.png", "retina.jpg",
    "rocket.jpg", "text.png",
)  # fmt: skip
QUERY_PICTURE = "chelsea.jpg"
QUERY_WORDS = "coffee"
_ENDINGS = (".jpg", "-mirrored.jpg", "-cropped.jpg", "-small.webp")
_LARGEST = 800
"""Longer side of the photos, in pixels."""


def make_photos(folder: Path) -> Path:
    """Write the photos, and a mirrored, a cropped and a re-encoded variant of each.

    Those that are there are left alone, so a second run finds nothing new.

    Raises:
        MissingDependencyError: scikit-image is not installed.
    """
    found = find_spec("skimage")
    if found is None or found.origin is None:
        raise MissingDependencyError(
            "the demo's photos come with scikit-image: pip install scikit-image"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name in PHOTOS:
        targets = [folder / f"{Path(name).stem}{ending}" for ending in _ENDINGS]
        if all(target.exists() for target in targets):
            continue
        with Image.open(Path(found.origin).parent / "data" / name) as opened:
            photo = opened.convert("RGB")
        photo.thumbnail((_LARGEST, _LARGEST))
        width, height = photo.size
        middle = photo.crop((width // 8, height // 8, width - width // 8, height - height // 8))
        variants = (photo, ImageOps.mirror(photo), middle, photo)
        for variant, target in zip(variants, targets, strict=True):
            variant.save(target, quality=40 if target.suffix == ".webp" else 90)
    return folder
