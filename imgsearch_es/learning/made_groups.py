"""Groups of pictures of one object, made from single photos by crops, turns, light, compression.

Where UKBench (four photos of each of 2,550 objects) is not at hand, each photo stands for an object
here. No side of it is hidden, so a figure on made groups says how features compare on these
changes, and is no figure of UKBench.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from imgsearch_es.errors import ConfigurationError, ImageError, SourceError
from imgsearch_es.pictures.files import PathSource, beginnings, content_hash, filename, replacing
from imgsearch_es.pictures.images import open_image
from imgsearch_es.pictures.sources import find_images

NOTE = "made-groups.json"
"""Says what a folder of made groups was made with."""
_STEM = 50
"""Characters of a photo's name that the folder of its group has."""
_GRAY_WORLD = 0.25
"""Half the range of the factors of red, green and blue at full strength."""
_AREA, _TURN, _QUALITY, _SIDE = (0.4, 0.85), 25.0, (10, 50), 320
"""Least and greatest share of a photo's area that a crop keeps; largest angle in degrees, either
way; lowest and highest quality of the JPEG files; longer side of the pictures in pixels."""
_log = logging.getLogger(__name__)


def make_groups(
    photos: PathSource | Iterable[PathSource],
    folder: str | os.PathLike[str],
    *,
    size: int = 4,
    seed: int = 0,
    light: float = 0.6,
    on_error: Callable[[ImageError], None] | None = None,
) -> list[Path]:
    """Make a group of pictures from each photo, each group in a folder of its own.

    A group follows from its photo and the seed alone. What was made before is left as it is, so a
    run that was stopped can be repeated. Photos with the same bytes are one object.

    Args:
        photos: files and folders.
        folder: where the groups go, as ``<folder>/<photo>-<its hash>/<n>.jpg``; what is in it
            counts as no photo.
        size: pictures of a group.
        seed: of the random numbers.
        light: 0 for the photo's own; at 1, exposure changes by a factor of up to 2.5 either way,
            and contrast, saturation and the color of the light change with it.
        on_error: called for each photo or folder that cannot be read and is passed over; by default
            they are logged as warnings.

    Returns:
        The folders of the groups, in the order of the photos.

    Raises:
        SourceError: there are no photos, or ``folder`` holds groups made in another way.
    """
    if size < 2:
        raise ConfigurationError(f"a group is of 2 pictures or more, not {size}")
    if not 0 <= light <= 1:
        raise ConfigurationError(f"light is from 0 to 1, not {light}")
    target = Path(folder).expanduser()
    distortion = {"area": _AREA, "turn": _TURN, "quarter_turns": True, "light": light,
                  "quality": _QUALITY, "side": _SIDE}  # fmt: skip
    _note(target, {"seed": seed, "size": size, "distortion": distortion})
    report = on_error or (lambda error: _log.warning("passed over %s", error))
    found = list[Path]()
    for photo, place in _places(photos, target, report):
        try:
            found.append(_make(photo, place, size, seed, light))
        except ImageError as error:
            report(error)
    if not found:
        raise SourceError("there are no photos to make groups from in what was given")
    return found


def _make(photo: str, place: Path, size: int, seed: int, light: float) -> Path:
    targets = [place / f"{i + 1}.jpg" for i in range(size)]
    if all(target.exists() for target in targets):
        return place
    opened = open_image(photo)
    rng = np.random.default_rng([seed, int(opened.sha256[:16], 16)])
    place.mkdir(parents=True, exist_ok=True)
    for target in targets:
        quality = int(rng.integers(_QUALITY[0], _QUALITY[1] + 1))
        part = _crop(opened.image, rng)
        part.thumbnail((2 * _SIDE, 2 * _SIDE))
        part = _turn(part, rng)
        part.thumbnail((_SIDE, _SIDE))
        with replacing(target) as draft:
            _light(part, rng, light).save(draft, "JPEG", quality=quality)
    return place


def _places(
    photos: PathSource | Iterable[PathSource], folder: Path, report: Callable[[ImageError], None]
) -> Iterator[tuple[str, Path]]:
    """Each photo, once by content, and a folder of its own, whichever other photos there are."""
    contents, made = set[str](), beginnings(folder)
    for uri in find_images(photos, on_error=report):
        if uri.startswith(made):
            continue
        try:
            content = content_hash(uri)
        except ImageError as error:
            report(error)
            continue
        if content not in contents:
            stem = Path(filename(uri)).stem.lstrip(".")[:_STEM]
            yield uri, folder / f"{stem}-{content[:8]}"
            contents.add(content)


def _note(folder: Path, made_with: dict[str, object]) -> None:
    """Write down what the groups are made with, or see that they were made the same way."""
    path, text = folder / NOTE, json.dumps(made_with, indent=2)
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as draft:
            draft.write_text(text + "\n", encoding="utf-8")
    elif path.read_text(encoding="utf-8").strip() != text:
        raise SourceError(
            f"{folder} holds groups that were made with other options (see {NOTE}): "
            "give another folder, or delete this one"
        )


def _crop(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A part of the photo, of a shape between 3:4 and 4:3 of the photo's own."""
    share, shape = rng.uniform(*_AREA), math.exp(rng.uniform(-1, 1) * math.log(4 / 3))
    width = min(photo.width, max(1, round(photo.width * math.sqrt(share * shape))))
    height = min(photo.height, max(1, round(photo.height * math.sqrt(share / shape))))
    left = int(rng.integers(photo.width - width + 1))
    top = int(rng.integers(photo.height - height + 1))
    return photo.crop((left, top, left + width, top + height))


def _turn(part: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Turned by any angle, and cut to the largest rectangle of its shape without empty corners.

    A quarter of the pictures are also turned by a right angle or upside down.
    """
    angle, quarters = rng.uniform(-1, 1) * _TURN, int(rng.integers(1, 4))
    is_turned = rng.random() < 0.25
    turned = part.rotate(angle, Image.Resampling.BICUBIC)
    sine, cosine = abs(math.sin(math.radians(angle))), abs(math.cos(math.radians(angle)))
    width, height = part.size
    scale = min(width / (width * cosine + height * sine), height / (width * sine + height * cosine))
    left, top = width * (1 - scale) / 2, height * (1 - scale) / 2
    box = (math.ceil(left), math.ceil(top), int(width - left), int(height - top))
    inner = turned.crop(box) if box[2] > box[0] and box[3] > box[1] else turned
    return inner.rotate(90 * quarters, expand=True) if is_turned else inner


def _light(part: Image.Image, rng: np.random.Generator, strength: float) -> Image.Image:
    """Another exposure, contrast, saturation and color of the light, and a little blur."""
    exposure = 2.5 ** (strength * rng.uniform(-1, 1))
    tint = 1 + strength * _GRAY_WORLD * rng.uniform(-1, 1, 3)
    contrast, color = 1 + 0.5 * strength * rng.uniform(-1, 1, 2)
    pixels = np.asarray(part, dtype=np.float64) / 255
    lit = np.clip(pixels ** (1 / exposure) * tint, 0, 1)
    image = Image.fromarray(np.round(255 * lit).astype(np.uint8))
    image = ImageEnhance.Contrast(image).enhance(float(contrast))
    image = ImageEnhance.Color(image).enhance(float(color))
    return image.filter(ImageFilter.GaussianBlur(strength * rng.uniform(0, 1.5)))
