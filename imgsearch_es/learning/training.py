"""Training a head: epochs over batches of triplets, and what the held-out objects say of each.

After each epoch the N-S score of objects that are not learned from is measured, the head with the
best one is kept, and training ends when it has not risen for some epochs. That score chose the
head, so it flatters: the result is measured on objects that are kept for it. The same features,
options and seed give the same head, bit by bit, on one machine, interrupted or not.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.errors import ConfigurationError
from imgsearch_es.evaluation import Judgements, interval, rank_features, same_group
from imgsearch_es.index import ImageIndex
from imgsearch_es.indexing.whitening import Moments, principal_components
from imgsearch_es.learning.examples import Examples, Pictures, ReadingProgress, examples_of
from imgsearch_es.learning.head import (
    apply_head,
    build_head,
    on_whole_pictures,
    save_head,
    start_dropout,
    start_shortcut,
)
from imgsearch_es.learning.learner import (
    DEFAULTS,
    HEAD,
    Arrays,
    Epoch,
    Learner,
    TrainingOptions,
    TrainingReport,
)
from imgsearch_es.pictures.files import check_folder_of, saving

if TYPE_CHECKING:
    import keras

_KINDS = ("weights", "optimizer", "best")
"""Of arrays in a checkpoint: of the head, of the optimizer, and weights of the best epoch."""
_FIRST = 4
"""Pictures of a ranking that the N-S score looks at, the query's own counted."""
_MEASURED, _TESTED = 400, 2000
"""Pictures that are ranked after each epoch, and in the end, at most; of more a random part."""


Progress = Callable[[Epoch, TrainingReport], None]
"""Called after each epoch."""


def train_head(
    features: NDArray[np.float32],
    groups: Sequence[Hashable],
    out: str | os.PathLike[str],
    *,
    pixels: NDArray[np.uint8] | None = None,
    options: TrainingOptions = DEFAULTS,
    force: bool = False,
    progress: Progress | None = None,
) -> TrainingReport:
    """Train a head and save it.

    Beside ``out`` there is ``<out>.checkpoint`` while it is trained: a run that was interrupted or
    killed goes on after the last whole epoch. ``<out>.json`` keeps the report.

    Args:
        features: shape (pictures, dimensions).
        groups: the object of each picture. Objects with one picture are left out.
        out: the head's file, ``.keras``.
        pixels: with a shallow network (``options.shallow``) the pictures, as an analyzer prepares
            them: uint8 of shape (pictures, height, width, 3).
        options: how to train.
        force: overwrite a head that exists, and begin again where a run was interrupted.
        progress: called after each epoch.

    Raises:
        ConfigurationError: the examples or options do not fit, the file exists or cannot be
            written, or an interrupted run had other features or options.
        MissingDependencyError: TensorFlow is not installed.
    """
    if options.shallow != (pixels is not None):
        raise ConfigurationError("a shallow network and pixels go together: give both, or neither")
    target = target_of(out, ".keras", force=force)
    pictures = None if pixels is None else Pictures.of(pixels)
    examples = Examples.of(features, groups, pictures)
    return Training(examples, target, options).run(force=force, progress=progress)


def train(
    index: ImageIndex,
    out: str | os.PathLike[str],
    judgements: str | os.PathLike[str] | Judgements = "labels",
    *,
    options: TrainingOptions = DEFAULTS,
    force: bool = False,
    progress: Progress | None = None,
    reading: ReadingProgress | None = None,
) -> TrainingReport:
    """Train a head on an index: no picture is read, and its model does not run.

    With a shallow network (``options.shallow``) the pictures are read again, as they were for the
    index. Those that are gone or have changed are left out; ``report.unread`` lists them.

    The judgements are what ``imgsearch evaluate`` takes, and say which pictures show the same
    object; the other arguments are those of `train_head`.

    Raises:
        IndexNotFoundError: there is no such index.
        EvaluationError: the judgements do not fit the index.
        ConfigurationError: see `train_head`; or a shallow network cannot be used beside the
            features of this index, or no picture be read.
        AnalyzerError: the index's analyzer cannot be built.
    """
    target = target_of(out, ".keras", force=force)
    examples, unread = examples_of(index, judgements, shallow=options.shallow, reading=reading)
    return Training(examples, target, options, unread).run(force=force, progress=progress)


def target_of(out: str | os.PathLike[str], suffix: str, *, force: bool) -> Path:
    """The file that something is to be saved as: a new one, by a name in ``suffix``."""
    target = Path(out).expanduser()
    if target.suffix != suffix:
        raise ConfigurationError(f"{target.name} cannot be written: its name must end in {suffix}")
    if target.exists() and not force:
        raise ConfigurationError(f"{target} exists: give another name, or force (--force)")
    check_folder_of(target)
    return target


def score(embeddings: NDArray[np.float32], groups: NDArray[np.intp]) -> float:
    """The mean N-S score; it is UKBench's where groups are of four; of pairs, the best is 2."""
    return float(_scores(embeddings, groups).mean())


def _scores(embeddings: NDArray[np.float32], groups: NDArray[np.intp]) -> NDArray[np.float64]:
    """How many of the first four by cosine are of each picture's group, itself counted."""
    rankings = rank_features(embeddings, comparison="dense-cosine", depth=_FIRST)
    return np.asarray(same_group(rankings, groups).sum(axis=1), dtype=np.float64)


def write_checkpoint(path: Path, state: dict[str, Any], **lists: Arrays) -> None:
    """Write where a training stands after an epoch, so that a killed one goes on.

    One file of NumPy arrays without pickle, written whole or not at all: lists of them by _KINDS,
    and as JSON text the rest. Random numbers need not be kept: each epoch begins its own sequence
    from the seed and its number.
    """
    arrays: dict[str, Any] = {
        f"{kind}_{i}": one for kind, ones in lists.items() for i, one in enumerate(ones)
    }
    with saving(path) as draft, draft.open("wb") as file:
        np.savez(file, state=np.array(json.dumps(state)), **arrays)


def read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Arrays]]:
    """Read the state and lists that were written, or raise a ConfigurationError."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            state = json.loads(str(file["state"]))
            names = file.files  # in the order in which they were written
            lists = {k: [file[n] for n in names if n.startswith(f"{k}_")] for k in _KINDS}
    except Exception as error:  # a foreign file raises anything
        raise ConfigurationError(
            f"{path} is no checkpoint of a training, or damaged: delete it to begin again"
        ) from error
    return state, lists


class Training:
    """One training: the examples divided, the learner, and how far it is."""

    def __init__(
        self,
        examples: Examples,
        target: Path,
        options: TrainingOptions,
        unread: Sequence[tuple[str, str]] = (),
    ) -> None:
        self._options = options
        self._pictures = examples.pictures
        self._learned, held_out, kept = examples.divide(options.validation, options.seed)
        self._held_out = _at_most(held_out, _MEASURED, options.seed)
        self._kept = _at_most(kept, _TESTED, options.seed)
        self._checkpoint = Path(f"{target}.checkpoint")
        self._head = _beginning(self._learned, options)
        self._learner = Learner(self._head, options)
        self._report = TrainingReport(
            path=target,
            raw_score=score(self._held_out.features, self._held_out.groups),
            start_score=self._score(),
            objects=(
                len(self._learned.names),
                len(self._held_out.names),
                len(self._kept.names),
            ),
            pictures=(len(self._learned), len(self._held_out), len(self._kept)),
            options=asdict(options),
            data=_fingerprint(examples),
            unread=list(unread),
        )
        self._best = self._start = self._head.get_weights()

    def run(self, *, force: bool, progress: Progress | None) -> TrainingReport:
        """Train to the end, unless ``force`` from where an interrupted run was; save the head."""
        if not force and self._checkpoint.exists():
            self._resume()
        report, options = self._report, self._options
        while len(report.history) < options.epochs:
            if len(report.history) - report.best >= options.patience:
                report.stopped_early = True
                break
            epoch = self._epoch(len(report.history) + 1)
            is_better = self._is_better(epoch)
            report.history.append(epoch)
            if is_better:
                report.best, self._best = epoch.number, self._head.get_weights()
            self._write()
            if progress is not None:
                progress(epoch, report)
        self._test()
        head = self._head
        if self._pictures is not None:
            head = on_whole_pictures(head, self._pictures.size)
        save_head(head, report.path)
        text = json.dumps(report.to_dict(), indent=2, ensure_ascii=False)
        Path(f"{report.path}.json").write_text(text + "\n", encoding="utf-8")
        self._checkpoint.unlink(missing_ok=True)
        return report

    def _resume(self) -> None:
        state, lists = read_checkpoint(self._checkpoint)
        if state["training"] != self._identity():
            raise ConfigurationError(
                f"{self._checkpoint} is of a training with other features or options, which was "
                "interrupted: repeat it as it was, or begin again with force (--force)"
            )
        self._learner.restore(lists["weights"], lists["optimizer"])
        self._best = lists["best"]
        self._report.history = [Epoch(**epoch) for epoch in state["history"]]
        self._report.best = state["best"]

    def _epoch(self, number: int) -> Epoch:
        options = self._options
        rng = np.random.default_rng([options.seed, number])
        start_dropout(self._head, rng)
        losses = self._losses(self._learned, rng, learn=True)
        always_same = np.random.default_rng([options.seed, 0])
        validation = self._losses(self._held_out, always_same, learn=False)
        loss, validation_loss = float(np.mean(losses)), float(np.mean(validation))
        if not np.isfinite([loss, validation_loss]).all():
            raise ConfigurationError(
                f"the loss of epoch {number} is not finite: use a lower learning rate, which is "
                f"{options.learning_rate:g}"
            )
        return Epoch(number, loss, validation_loss, self._score())

    def _losses(self, examples: Examples, rng: np.random.Generator, *, learn: bool) -> list[float]:
        return [
            self._learner.loss(examples.inputs(rows), examples.groups[rows], rng, learn=learn)
            for rows in examples.batches(self._options.objects, self._options.pictures, rng)
        ]

    def _score(self) -> float:
        embeddings = apply_head(self._head, *self._held_out.inputs())
        return score(embeddings, self._held_out.groups)

    def _test(self) -> None:
        """Measure the best head on objects that neither it nor the choice of it has seen."""
        kept, whitened = self._kept, _whitened(self._learned, self._kept, self._options.layers[-1])
        self._head.set_weights(self._start)
        start = apply_head(self._head, *kept.inputs())
        self._head.set_weights(self._best)
        ways = {"as they are": kept.features, "pca_whiten": whitened, "start": start}
        ways[HEAD] = apply_head(self._head, *kept.inputs())
        found = {name: _scores(embeddings, kept.groups) for name, embeddings in ways.items()}
        report, of = self._report, kept.groups
        report.tested = {
            name: interval(values, clusters=of, within=(0, _FIRST))
            for name, values in found.items()
        }
        report.gain = interval(found[HEAD] - found[report.rival], clusters=of)

    def _is_better(self, epoch: Epoch) -> bool:
        """A higher score; of equal ones the lower loss."""
        report = self._report
        if report.best == 0:
            return epoch.score > report.start_score
        best = report.history[report.best - 1]
        return (epoch.score, -epoch.validation_loss) > (best.score, -best.validation_loss)

    def _write(self) -> None:
        history = [asdict(epoch) for epoch in self._report.history]
        state = {"training": self._identity(), "history": history, "best": self._report.best}
        weights, optimizer = self._head.get_weights(), self._learner.optimizer_state()
        lists = dict(zip(_KINDS, (weights, optimizer, self._best), strict=True))
        write_checkpoint(self._checkpoint, state, **lists)

    def _identity(self) -> dict[str, Any]:
        """What must be the same for a training to go on, as it comes back from JSON."""
        lasting = {key: value for key, value in self._report.options.items() if key != "epochs"}
        parts = {"data": self._report.data, "objects": self._report.objects}
        return dict(json.loads(json.dumps({**parts, **lasting})))


def _beginning(examples: Examples, options: TrainingOptions) -> keras.Model:
    """A head that has learned nothing, but what the features have in common."""
    small = None if examples.pictures is None else examples.pictures.small.shape[1:3]
    head = build_head(
        examples.dimensions,
        options.layers,
        shortcut=options.shortcut,
        dropout=options.dropout,
        small=small,
        seed=options.seed,
    )
    if options.shortcut:
        start_shortcut(head, examples.features)
    return head


def _whitened(learned: Examples, others: Examples, components: int) -> NDArray[np.float32]:
    """Other features by the PCA whitening of those that were learned from."""
    moments = Moments(learned.dimensions)
    moments.add(learned.features)
    kernel, _ = principal_components(moments, None, "the objects that were learned from")
    return ((others.features - moments.mean) @ kernel[:, :components]).astype(np.float32)


def _at_most(examples: Examples, most: int, seed: int) -> Examples:
    """Whole objects, chosen at random, with so many pictures that ranking them stays quick."""
    if len(examples) <= most:
        return examples
    order = np.random.default_rng([seed, 1]).permutation(len(examples.names))
    sizes = np.cumsum(np.bincount(examples.groups)[order])
    kept = max(2, int(np.searchsorted(sizes, most, side="right")))
    return examples.select(np.sort(order[:kept]))


def _fingerprint(examples: Examples) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(examples.features).tobytes())
    digest.update(json.dumps([examples.names, examples.groups.tolist()]).encode())
    if examples.pictures is not None:
        digest.update(repr(examples.pictures.size).encode())
        for place in examples.places:
            digest.update(examples.pictures.small[place].tobytes())
    return f"sha256:{digest.hexdigest()}"
