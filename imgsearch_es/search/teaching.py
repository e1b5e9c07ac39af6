"""Learning a word from a few deep features that show it.

A logistic regression tells the liked pictures from a sample of the collection; both weigh the same
(class weights as of G. King and L. Zeng, "Logistic regression in rare events data", 2001). Its
logits are then fitted to those of held-out pictures (Platt scaling), and shifted by how frequent
the word seems to be in the sample (the method of M. Saerens, P. Latinne and C. Decaestecker, 2002),
so that a score is a probability, and near 0 of a picture without the word.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis.terms import to_inputs

LEAST = 2
"""Liked pictures from which a word can be learnt."""
_PENALTY = 0.1
"""Of the squared length of the weights, divided by two; 1 / C of scikit-learn."""
_FOLDS = 5
_STEPS = 100

_Rows = NDArray[np.float64]
_Vectors = NDArray[np.float32]


class Learnt(NamedTuple):
    """A classifier: float32 weights of shape (dimensions,), its bias, and its quality."""

    weights: NDArray[np.float32]
    bias: float
    quality: float | None


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
    precisions = []
    for mine, other in found:  # ties are broken against the good ones
        ranks = [(other >= score).sum() for score in np.sort(mine)[::-1]]
        precisions.append(np.mean([i / (i + rank) for i, rank in enumerate(ranks, 1)]))
    goods, others = (np.concatenate(each) for each in zip(*found, strict=True))
    return (goods, others), float(np.mean(precisions))


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
