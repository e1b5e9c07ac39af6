"""A CLIP of two layers, trained in a minute on rendered shapes: a preset of keras-hub as a folder.

    python tests/tiny_clip.py FOLDER

Six colors and five shapes make thirty pairs; the five of UNSEEN are left out of its training.
"""

from __future__ import annotations

import sys
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

COLORS = {
    "red": (220, 30, 30), "green": (20, 140, 40), "blue": (40, 60, 220), "black": (20, 20, 20),
    "gray": (120, 120, 120), "brown": (120, 75, 30), "purple": (130, 30, 160),
    "cyan": (0, 150, 170),
}  # fmt: skip
SHAPES = ("circle", "square", "triangle", "cross")
PAIRS = tuple((color, shape) for color in COLORS for shape in SHAPES)
UNSEEN = (
    ("red", "circle"), ("green", "square"), ("blue", "triangle"), ("purple", "cross"),
)  # fmt: skip
TEMPLATE = "a photo of a {}"
SIZE = 24
_STEPS = 600
_ANY = 20
"""Pictures of shapes in any color, which are only said to be shapes, in a batch."""


def render(color: str, shape: str, random: np.random.Generator) -> Image.Image:
    """A shape of this color, of some size and somewhere, on a light ground."""
    fill = np.clip(np.add(COLORS[color], random.integers(-20, 21, 3)), 0, 255)
    return _drawn(shape, fill, random)


def _drawn(shape: str, color: NDArray[Any], random: np.random.Generator) -> Image.Image:
    big = 2 * SIZE
    picture = Image.new("RGB", (big, big), tuple(random.integers(225, 256, 3).tolist()))
    half = random.uniform(0.25, 0.4) * big
    x, y = random.uniform(half, big - half, 2)
    draw, fill = ImageDraw.Draw(picture), tuple(color.tolist())
    box = (x - half, y - half, x + half, y + half)
    if shape == "circle":
        draw.ellipse(box, fill=fill)
    elif shape == "square":
        draw.rectangle(box, fill=fill)
    elif shape == "triangle":
        draw.polygon([(x, y - half), (x - half, y + half), (x + half, y + half)], fill=fill)
    else:
        arm = half / 3
        draw.rectangle((x - arm, y - half, x + arm, y + half), fill=fill)
        draw.rectangle((x - half, y - arm, x + half, y + arm), fill=fill)
    return picture.resize((SIZE, SIZE), Image.Resampling.BOX)


def _in_any_color(shape: str, random: np.random.Generator) -> tuple[str, Image.Image]:
    """The nearest color, and a shape of a color near none in which it is unseen."""
    names = list(COLORS)
    while True:
        color = random.integers(0, 256, 3)
        apart = np.linalg.norm(np.array(list(COLORS.values())) - color, axis=1)
        nearest = names[int(apart.argmin())]
        if color.min() < 130 and (nearest, shape) not in UNSEEN:
            return nearest, _drawn(shape, color, random)


def train(folder: Path, seed: int = 0) -> None:
    """Train the network, and save it as a preset."""
    import keras
    import keras_hub
    import tensorflow as tf

    keras.utils.set_random_seed(seed)
    random = np.random.default_rng(seed)
    captions = [TEMPLATE.format(f"{color} {shape}") for color, shape in PAIRS]
    vocabulary, merges = _byte_pairs(sorted({word for text in captions for word in text.split()}))
    models = keras_hub.models
    preprocessor = models.CLIPPreprocessor(
        models.CLIPTokenizer(vocabulary, merges, pad_with_end_token=True),
        keras_hub.layers.CLIPImageConverter(image_size=(SIZE, SIZE), scale=1 / 127.5, offset=-1.0),
        sequence_length=12,
    )
    sizes: dict[str, Any] = {"num_layers": 2, "num_heads": 4, "hidden_dim": 48}
    sizes |= {"intermediate_dim": 96}
    network = models.CLIPBackbone(
        models.CLIPVisionEncoder(patch_size=4, image_shape=(SIZE, SIZE, 3), **sizes),
        models.CLIPTextEncoder(
            vocabulary_size=len(vocabulary),
            embedding_dim=48,
            max_sequence_length=12,
            **{**sizes, "num_layers": 1},
        ),
        projection_dim=32,
    )
    seen = [i for i, pair in enumerate(PAIRS) if pair not in UNSEEN]
    said = [captions[i] for i in seen] + [TEMPLATE.format(word) for word in (*COLORS, *SHAPES)]
    tokens = preprocessor({"prompts": said, "images": None})["token_ids"]
    colors, shapes = list(COLORS), list(SHAPES)
    any_shape = [*islice(cycle(SHAPES), _ANY)]
    right = [
        tf.range(len(seen)),
        tf.constant([colors.index(PAIRS[i][0]) for i in seen]),
        tf.constant(
            [shapes.index(PAIRS[i][1]) for i in seen] + [i % len(SHAPES) for i in range(_ANY)]
        ),
    ]
    optimizer = keras.optimizers.AdamW(
        keras.optimizers.schedules.CosineDecay(0.0, _STEPS, warmup_target=2e-3, warmup_steps=50)
    )

    @tf.function
    def step(pixels: Any, apart: Any) -> Any:
        with tf.GradientTape() as tape:
            found = network({"images": pixels, "token_ids": tokens}, training=True)
            logits = found["vision_logits"]
            whole, color, shape = tf.split(logits, [len(seen), len(COLORS), len(SHAPES)], axis=1)
            whole, color, shape = whole[: len(seen)], color[: len(seen)], shape - 1e6 * apart
            pairs = zip((*right, right[0]), (whole, color, shape, tf.transpose(whole)), strict=True)
            losses = [
                keras.losses.sparse_categorical_crossentropy(one, part, from_logits=True)
                for one, part in pairs
            ]
            loss = tf.add_n([tf.reduce_mean(part) for part in losses])
        weights = network.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return loss

    for number in range(_STEPS):
        drawn = [(PAIRS[i][0], render(*PAIRS[i], random)) for i in seen]
        drawn += [_in_any_color(shape, random) for shape in any_shape]
        # That a color was never seen with a shape must not teach that it cannot be.
        apart = np.array([[(c, s) in UNSEEN for s in SHAPES] for c, _ in drawn], np.float32)
        batch = np.stack([np.asarray(picture) for _, picture in drawn])
        loss = step(preprocessor.image_converter(batch.astype(np.float32)), tf.constant(apart))
        if number % 100 == 0:
            print(f"step {number}: loss {float(loss):.3f}", flush=True)
    network.save_to_preset(str(folder))
    preprocessor.save_to_preset(str(folder))


def _byte_pairs(words: list[str]) -> tuple[dict[str, int], list[str]]:
    """A vocabulary in which each word is one token, and what leads there letter by letter."""
    tokens: dict[str, None] = {}
    merges: dict[str, None] = {}
    for word in words:
        letters = [*word[:-1], f"{word[-1]}</w>"]
        tokens |= dict.fromkeys(letters)
        tokens |= dict.fromkeys(letter.removesuffix("</w>") for letter in letters)
        whole = letters[0]
        for letter in letters[1:]:
            merges[f"{whole} {letter}"] = None
            whole += letter
            tokens[whole] = None
    listed = [*tokens, "<|startoftext|>", "<|endoftext|>"]
    return {token: i for i, token in enumerate(listed)}, list(merges)


if __name__ == "__main__":
    train(Path(sys.argv[1]))
