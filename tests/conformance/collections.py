"""Collections of documents to rank: realistic ones, and ones that are meant to hurt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import numpy as np

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.pictures.files import picture_id
from imgsearch_es.pictures.photo import Photo
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.vocabulary.synsets import imagenet

KEYS = imagenet().keys
DIMENSIONS = 8


def document(
    name: str, terms: Sequence[tuple[str, float]], *, number: int = 0, labels: Sequence[str] = ()
) -> Document:
    """A document of a picture that need not exist."""
    uri = f"/photos/{name}"
    ranked = sorted(terms, key=lambda item: (-np.float32(item[1]), item[0]))
    return Document(
        id=picture_id(uri),
        uri=uri,
        filename=name.rpartition("/")[2],
        sha256=f"{number:064x}",
        width=100 + number % 50,
        height=80,
        bytes=1000 + number,
        format=("JPEG", "PNG", "GIF")[number % 3],
        indexed_at=datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(hours=number % 100),
        terms=tuple(Term(key, float(np.float32(score))) for key, score in ranked),
        labels=tuple(labels),
        metadata={"camera": ["X100", "Z 5"][number % 2], "tags": [f"t{number % 4}", "all"]}
        | {
            "people": [
                {"name": f"p{number % 3}", "seen.at": {"0": [1, [number % 2]]}},
                {"name": "x"},
            ]
        }
        | ({"place": {"indoor": number % 5 == 0}, "year": 2000 + number % 7} if number % 3 else {}),
        embedding=np.arange(DIMENSIONS, dtype=np.float32) + np.float32(number),
        photo=photo(number),
        text=(None, "", f"No. {number}\nStraße")[number % 3],
    )


def photo(number: int) -> Photo:
    """How a picture was taken: some of it, or nothing."""
    if number % 6 == 5:
        return Photo()
    taken_at = datetime(2017, 12, 31, 23, 59, 57) + timedelta(days=97 * (number % 11))
    return Photo(
        taken_at=taken_at if number % 4 else None,
        camera=("", "X100V", "ILCE-7M3", "x100ü*")[number % 4],
        lens=("", "35mm F1.4")[number % 2],
        place=(48.1 + number % 9 / 50, 179.99 - number % 5 / 100) if number % 3 else None,
        caption=("", "A day: at the \\ beach?", "Ärger [1]")[number % 3],
        keywords=("sea", "Übung", f"k{number % 4}")[: number % 4],
    )


def posteriors(count: int = 800, seed: int = 1) -> list[Document]:
    """Top-10 posteriors: Zipf classes, confusable neighbors, steep or flat."""
    random = np.random.default_rng(seed)
    popularity = 1 / np.arange(1, 1001) ** 0.9
    first = random.choice(1000, size=count, p=popularity / popularity.sum())
    made = []
    for number in range(count):
        classes = (first[number] + random.permutation(40)[:10] * 3) % 1000
        odds = random.dirichlet(np.full(10, random.choice([0.1, 0.5, 3.0])))
        terms = [
            (KEYS[i], score)
            for i, score in zip(classes, odds.astype(np.float32), strict=True)
            if score > 1e-30
        ]
        labels = ["pets", "indoor", "late night"][: number % 4]
        made.append(document(f"{number % 9}/p{number}.jpg", terms, number=number, labels=labels))
    return made


def rectified(documents: Sequence[Document], seed: int) -> list[Document]:
    """With features of 0 or more, as after a rectifier; some equal, some zero, some missing."""
    random = np.random.default_rng(seed)
    made: list[Document] = []
    for number, one in enumerate(documents):
        vector = np.maximum(random.normal(size=DIMENSIONS), 0).astype(np.float32)
        if number % 10 == 1 and made[-1].embedding is not None:
            vector = made[-1].embedding
        if number % 50 == 3:
            vector = np.zeros(DIMENSIONS, np.float32)
        made.append(replace(one, embedding=None if number % 50 == 7 else vector))
    return made


def ties(count: int = 1000) -> list[Document]:
    """Many pictures that score the same, or apart by the last bit that is indexed."""
    made = []
    for number in range(count):
        score = np.float32(0.5)
        if number % 3 == 1:  # within the 2^-8 that the first pass cannot tell apart
            score = np.nextafter(score, np.float32(1)) + np.float32(number % 50) * np.float32(2e-6)
        if number % 3 == 2:
            score = np.float32(0.5) * (1 + np.float32(number % 7) / 4096)
        terms = [("tabby", float(score)), ("tiger_cat", 0.25), ("Egyptian_cat", 0.125)]
        made.append(document(f"ties/{number}.png", terms[: 1 + number % 3], number=number))
    return made


def extremes() -> list[Document]:
    """Weights near zero, weights of 1, one term, many terms, and names that break scripts."""
    tiny = float(np.finfo(np.float32).tiny)
    awkward = ["jack-o'-lantern", "potter's_wheel", "black-and-tan_coonhound", "Cardigan_n02113186"]
    made = [
        document("e/none.jpg", [], number=1),
        document("e/one.jpg", [("tabby", 1.0)], number=2),
        document("e/tiny.jpg", [("tabby", tiny)], number=3),
        document("e/tiny2.jpg", [("tabby", tiny * 3), ("beagle", 1e-20)], number=4),
        document("e/all.jpg", [(key, 0.001 + i * 1e-7) for i, key in enumerate(KEYS)], number=5),
    ]
    made += [document(f"e/{key}.jpg", [(key, 0.7), ("tabby", 0.1)], number=9) for key in awkward]
    made += [
        document(f"e/{name}.jpg", [("beagle", 0.4 + i / 100)], number=10 + i)
        for i, name in enumerate(AWKWARD_NAMES)
    ]
    return made


AWKWARD_NAMES = (
    "it's", 'say "cheese"', "new\nline", "100%_sure*?", "back\\slash", "\u202eright to left",
    "smile 😀", "');DROP TABLE documents;--", "{{ctx}} ${jndi} params.x",
)  # fmt: skip
