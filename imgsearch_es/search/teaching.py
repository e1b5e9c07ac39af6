"""Teaching an index a word from a few pictures, by their stored deep features.

A logistic regression tells the liked pictures from a sample of the collection; both weigh the same
(class weights as of G. King and L. Zeng, "Logistic regression in rare events data", 2001). Its
logits are then fitted to those of held-out pictures (Platt scaling), and shifted by how frequent
the word seems to be in the sample (the method of M. Saerens, P. Latinne and C. Decaestecker, 2002),
so that a score is a probability, and near 0 of a picture without the word.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis.analyzer import Analyzer
from imgsearch_es.analysis.terms import TaughtWord, is_word, to_inputs
from imgsearch_es.errors import ConfigurationError, ImageError, QueryError
from imgsearch_es.retrieval.feedback import Example
from imgsearch_es.search.query_pictures import PictureReader, QueryImage, QueryImages, several
from imgsearch_es.stores.base import IndexSettings, Store, known_settings
from imgsearch_es.stores.settings import LONGEST_NAME, MOST_TAUGHT
from imgsearch_es.vocabulary.words import normalize

LEAST = 2
"""Liked pictures from which a word can be learnt."""
SAMPLE = 1000
"""Pictures of the collection that stand for all without the word."""
_PENALTY = 0.1
"""Of the squared length of the weights, divided by two; 1 / C of scikit-learn."""
_FOLDS = 5
_STEPS = 100

Progress = Callable[[int, int], None]
_Rows = NDArray[np.float64]
_Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Word:
    """A word that an index was taught.

    Attributes:
        name: the word, whose ``synset`` is the key that pictures have it by.
        like, unlike: the URIs of the examples.
        quality: mean average precision in cross-validation, from 0 to 1: how well held-out examples
            are found among a sample of the collection. None where they were too few.
        pictures: how many pictures of the index have the word.
    """

    name: str
    synset: str
    like: tuple[str, ...]
    unlike: tuple[str, ...]
    quality: float | None
    pictures: int


@dataclass(frozen=True)
class Learnt:
    """A classifier: float32 weights of shape (dimensions,), its bias, and its quality."""

    weights: NDArray[np.float32]
    bias: float
    quality: float | None


def teach(
    store: Store,
    analyzer: Callable[[], Analyzer],
    name: str,
    like: QueryImages,
    unlike: QueryImages = (),
    progress: Progress = lambda done, total: None,
) -> Word:
    """See ``ImageIndex.teach``."""
    settings = known_settings(store)
    _check_name(settings, name)
    if not settings.embedding_dimensions:
        raise ConfigurationError(
            f"{store.location} has no deep features to learn {name!r} from: index the pictures "
            "again with an analyzer whose embedding is not false"
        )
    good, bad = _examples(PictureReader(store, analyzer), name, several(like), several(unlike))
    uris = {example.uri for example in (*good, *bad)}
    others = [
        d.embedding
        for d in store.sample(SAMPLE + len(uris))
        if d.uri not in uris and d.embedding is not None
    ]
    if not others and not bad:
        raise ConfigurationError(
            f"{store.location} has no other pictures to tell {name!r} from: add some, or name some "
            "that do not show it by unlike= (--unlike)"
        )
    size = settings.embedding_dimensions
    liked, rest = _matrix([e.embedding for e in good], size), _matrix(others, size)
    learnt = learn(liked, rest, _matrix([e.embedding for e in bad], size))
    made: list[TaughtWord] = []

    def taught(settings: IndexSettings) -> IndexSettings:
        if made and any(made[-1].key == each.key for each in settings.taught):
            return settings  # this word, or one that was taught in its place since
        before = _check_name(settings, name)
        word = TaughtWord(
            name=before.name if before else " ".join(name.split()),
            key=before.key if before else settings.vocabulary.key_for(name),
            number=before.number if before else _free_number(settings),
            weights=learnt.weights,
            bias=learnt.bias,
            like=tuple(example.uri for example in good),
            unlike=tuple(example.uri for example in bad),
            quality=learnt.quality,
        )
        made.append(word)
        others = (each for each in settings.taught if each.key != word.key)
        return settings.with_taught([*others, word])

    with store.patient():
        store.change_taught(taught)
        store.apply_taught(made[-1], progress)
        store.finish()
    return _word(store, made[-1])


def forget(store: Store, name: str, progress: Progress = lambda done, total: None) -> int:
    """See ``ImageIndex.forget``."""
    settings = known_settings(store)
    word = _find(settings, name)
    if word is None:
        known = ", ".join(each.name for each in settings.taught) or "none"
        raise QueryError(f"{store.location} was not taught {name!r}; the words taught are: {known}")
    key, changed = word.key, 0
    with store.patient():
        store.change_taught(
            lambda now: now.with_taught(w.forgotten() if w.key == key else w for w in now.taught)
        )
        if gone := next((w for w in known_settings(store).taught if w.key == key), None):
            changed = store.apply_taught(gone, progress)
            store.finish()
        store.change_taught(  # unless another program taught it again meanwhile
            lambda now: now.with_taught(w for w in now.taught if w.key != key or w != w.forgotten())
        )
    return changed


def words(store: Store) -> list[Word]:
    """See ``ImageIndex.words``."""
    return [_word(store, word) for word in known_settings(store).taught]


def teach_again(
    store: Store, analyzer: Callable[[], Analyzer], taught: Sequence[TaughtWord]
) -> list[tuple[str, str]]:
    """Teach words again from their examples, for other deep features; gives those lost, and why."""
    lost = []
    for word in taught:
        try:
            teach(store, analyzer, word.name, list(word.like), list(word.unlike))
        except (ConfigurationError, ImageError, QueryError) as error:  # not of a server or disk
            lost.append((word.name, str(error)))
    return lost


def learn(liked: _Vectors, sample: _Vectors, unliked: _Vectors) -> Learnt:
    """Learn to tell deep features, of shapes (pictures, dimensions), from those of a sample.

    Each picture that a person said does not show the word weighs as one that does.
    """
    good, others, bad = map(to_inputs, (liked, sample, unliked))
    weights, bias = _regression(good, others, bad)
    held, quality = _held_out(good, np.concatenate([others, bad]), len(bad))
    logits = others @ weights + bias
    if held is not None:
        slope, shift = _platt(*held)
        weights, bias, logits = slope * weights, slope * bias + shift, slope * logits + shift
    if len(others):
        bias += _prior_shift(logits, len(good) / (len(good) + len(others)))
    return Learnt(weights.astype(np.float32), float(bias), quality)


def _regression(good: _Rows, others: _Rows, bad: _Rows) -> tuple[_Rows, float]:
    """Weights and bias of a logistic regression in which examples and sample weigh the same."""
    from scipy.optimize import minimize

    rows = np.concatenate([good, bad, others])
    signs = np.concatenate([np.ones(len(good)), -np.ones(len(bad) + len(others))])
    shares = np.full(len(rows), 1 / len(good))
    shares[len(good) + len(bad) :] = 1 / max(len(others), 1)
    shares *= len(rows) / shares.sum()

    def loss(values: _Rows) -> tuple[float, _Rows]:
        weights, bias = values[:-1], values[-1]
        margins = signs * (rows @ weights + bias)
        slopes = -shares * signs / (1 + np.exp(np.clip(margins, -500, 500)))
        value = shares @ np.logaddexp(0, -margins) + _PENALTY / 2 * weights @ weights
        return value, np.append(rows.T @ slopes + _PENALTY * weights, slopes.sum())

    start = np.zeros(rows.shape[1] + 1)
    found = minimize(
        loss, start, jac=True, method="L-BFGS-B", options={"maxiter": _STEPS, "ftol": 1e-6}
    ).x
    return found[:-1], float(found[-1])


def _held_out(
    good: _Rows, rest: _Rows, bad: int
) -> tuple[tuple[_Rows, _Rows] | None, float | None]:
    """Logits of examples and others that were not learnt from, and their mean average precision.

    The last ``bad`` rows of the rest are those that a person named.
    """
    folds = min(_FOLDS, len(good), len(rest))
    if folds < LEAST:
        return None, None
    first_bad = len(rest) - bad
    found: list[tuple[_Rows, _Rows]] = []
    for fold in range(folds):
        mine, other = np.arange(len(good)) % folds == fold, np.arange(len(rest)) % folds == fold
        named = np.arange(len(rest)) >= first_bad
        weights, bias = _regression(good[~mine], rest[~other & ~named], rest[~other & named])
        found.append((good[mine] @ weights + bias, rest[other] @ weights + bias))
    precisions = [_average_precision(*each) for each in found]
    goods, others = (np.concatenate(each) for each in zip(*found, strict=True))
    return (goods, others), float(np.mean(precisions))


def _average_precision(good: _Rows, others: _Rows) -> float:
    """Of a ranking in which ties are broken against the good ones."""
    ranks = [(others >= score).sum() for score in np.sort(good)[::-1]]
    return float(np.mean([i / (i + rank) for i, rank in enumerate(ranks, 1)]))


def _platt(good: _Rows, others: _Rows) -> tuple[float, float]:
    """Slope and shift of logits by which held-out examples and sample are the likeliest."""
    from scipy.optimize import minimize

    def loss(values: _Rows) -> float:
        slope, shift = np.exp(values[0]), values[1]
        # One example more of the other kind on each side, as in Platt's paper.
        sides = (slope * good + shift, len(good)), (-(slope * others + shift), len(others))
        return float(
            sum(
                (np.logaddexp(0, -z).mean() * (n + 1) + np.logaddexp(0, z).mean()) / (n + 2)
                for z, n in sides
            )
        )

    slope, shift = minimize(loss, np.zeros(2), method="Nelder-Mead").x
    return float(np.exp(np.clip(slope, -3, 3))), float(shift)


def _prior_shift(logits: _Rows, least: float) -> float:
    """What to add to logits that take the word for as likely as not, for its real frequency.

    That is at least the examples' share.
    """
    share, least = 0.5, min(0.5, least)
    for _ in range(_STEPS):
        odds = np.log(share) - np.log1p(-share)
        share = max(least, min(0.5, float((1 / (1 + np.exp(-(logits + odds)))).mean())))
    return float(np.log(share) - np.log1p(-share))


def _matrix(vectors: Sequence[NDArray[np.float32] | None], dimensions: int) -> _Vectors:
    rows = [vector for vector in vectors if vector is not None]
    return np.stack(rows) if rows else np.empty((0, dimensions), dtype=np.float32)


def _check_name(settings: IndexSettings, name: str) -> TaughtWord | None:
    """The word of this name that was taught before; ConfigurationError if it can be none."""
    letters = " ".join(name.split())
    if not normalize(name) or any(unicodedata.category(c) in ("Cc", "Cs") for c in letters):
        raise ConfigurationError(f"{name!r} is no word: write letters, such as 'dining table'")
    if len(name) > LONGEST_NAME:
        raise ConfigurationError(f"a word has {LONGEST_NAME} characters at most, not {len(name)}")
    before = _find(settings, name)
    if is_word(settings.vocabulary.key_for(name)):
        raise ConfigurationError(f"{name!r} is how a visual word is called: choose another name")
    for known in (*settings.vocabulary.base, *settings.vocabulary.ancestors):
        is_key = name == known.wnid or (name == known.key and normalize(known.name) != name)
        if before is None and is_key and known.wnid and known.wnid in name:
            raise ConfigurationError(
                f"{name} is the key of a synset, not a word: teach {known.lemmas[0]!r}, then both "
                "count"
            )
    if before is None and len(settings.taught) >= MOST_TAUGHT:
        raise ConfigurationError(
            f"an index has at most {MOST_TAUGHT} taught words: forget one first"
        )
    return before


def _find(settings: IndexSettings, name: str) -> TaughtWord | None:
    form = normalize(name)
    found = (w for w in settings.taught if name == w.key or normalize(w.name) == form)
    return next(found, None)


def _free_number(settings: IndexSettings) -> int:
    taken = {word.number for word in settings.taught}
    first = len(settings.vocabulary.base)
    return next(number for number in range(first, first + MOST_TAUGHT) if number not in taken)


def _examples(
    reader: PictureReader, name: str, like: Sequence[QueryImage], unlike: Sequence[QueryImage]
) -> tuple[list[Example], list[Example]]:
    """The examples, each once, read from the index where they are, else from their files."""
    good, bad = ({e.uri: e for e in reader.read(each)} for each in (like, unlike))
    if both := good.keys() & bad.keys():
        raise QueryError(f"{min(both)} is given as like and as unlike: leave out one of them")
    if len(good) < LEAST:
        count = "none was" if not good else f"{len(good)} was"
        raise QueryError(
            f"{name!r} takes at least {LEAST} different pictures that show it, {count} given: name "
            "more by like= (--like)"
        )
    for example in (*good.values(), *bad.values()):
        if example.embedding is None or not np.isfinite(example.embedding).all():
            raise QueryError(f"{example.uri} has no deep feature to learn {name!r} from")
    return list(good.values()), list(bad.values())


def _word(store: Store, word: TaughtWord) -> Word:
    count = store.statistics([word.key]).frequencies.get(word.key, 0)
    return Word(word.name, word.key, word.like, word.unlike, word.quality, count)
