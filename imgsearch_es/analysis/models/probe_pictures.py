"""Pictures to compare runtimes on: made here, so that no file is needed, and much like photos."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SHAPES = 6


def probe_pictures(count: int, size: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    """Pictures that excite a classifier as photos do.

    The amplitudes of a photo's frequencies fall as 1/f (Field 1987, J. Opt. Soc. Am. A 4), its
    colors go together, and objects hide what is behind them: so smooth colored noise, and on it
    ellipses filled with other such noise.

    Args:
        count: how many.
        size: (height, width) in pixels.
        seed: the same pictures for the same number.

    Returns:
        uint8 of shape (count, height, width, 3).
    """
    random = np.random.default_rng(seed)
    return np.stack([_picture(size, random) for _ in range(count)])


def _picture(size: tuple[int, int], random: np.random.Generator) -> NDArray[np.uint8]:
    height, width = size
    picture = _texture(size, random)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    for _ in range(_SHAPES):
        center_y, center_x = random.random(2)
        radius_y, radius_x = random.uniform(0.05, 0.35, 2)
        inside = ((y - center_y) / radius_y) ** 2 + ((x - center_x) / radius_x) ** 2 < 1
        picture[inside] = _texture(size, random)[inside]
    return np.clip(picture, 0, 255).astype(np.uint8)


def _texture(size: tuple[int, int], random: np.random.Generator) -> NDArray[np.float64]:
    """Noise of 1/f of shape (height, width, 3): mostly lightness, a little color."""
    mean = random.uniform(60, 200, 3)
    light = _noise(size, random)[..., np.newaxis]
    color = np.stack([_noise(size, random) for _ in range(3)], axis=-1)
    texture: NDArray[np.float64] = mean + random.uniform(10, 50) * light + 15 * color
    return texture


def _noise(size: tuple[int, int], random: np.random.Generator) -> NDArray[np.float64]:
    """Noise of 1/f with mean 0 and standard deviation 1."""
    height, width = size
    frequency = np.hypot(np.fft.fftfreq(height)[:, np.newaxis], np.fft.rfftfreq(width))
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(random.standard_normal(size)) / frequency
    noise = np.fft.irfft2(spectrum, size)
    spread = noise.std()
    return noise / spread if spread else noise
