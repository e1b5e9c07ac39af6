"""``imgsearch teach``, ``train``, ``whiten`` and others: what is learnt from pictures."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgsearch_es.interfaces.cli.options import (
    Analyzing,
    Index,
    Natural,
    OptionalPositive,
    Where,
    conditions,
    given,
    opened,
    whole_numbers,
)
from imgsearch_es.interfaces.cli.output import answer, bar, now_and_then, print_table, say, warn

if TYPE_CHECKING:
    from imgsearch_es.errors import ImageError
    from imgsearch_es.learning import Epoch, TrainingOptions, TrainingReport


@dataclass(frozen=True)
class Training:
    """The network, and how it learns.

    Network:
        --layers N,N: Units in each dense layer.
        --shortcut: Add a linear layer that starts as half-whitening. Without it all layers start
            at random.
        --dropout: Share of features and units to drop in each step.
        --shallow: Add a shallow network on the picture itself, for colors and patterns. Reads the
            pictures again.
    Training:
        --loss: The loss: triplet or contrastive.
        --margin: The margin of the loss. By default 0.5 of triplets, 1 of contrastive.
        --mining: How to choose negatives: semi-hard or random.
        --learning-rate: The learning rate of Adam. By default 1e-4.
        --epochs: Train for at most this many epochs. By default 100.
        --patience: Stop after this many epochs without a better score. By default 15.
        --validation: Share of the objects that choose the epoch; as many others give the result. By
            default 0.2.
        --seed: The seed of all that is random.
    """

    layers: str = "512,512,256"
    shortcut: bool = True
    dropout: Annotated[float, typer.Option(min=0, max=0.95)] = 0.5
    shallow: bool = False
    loss: str = "triplet"
    margin: float | None = None
    mining: str = "semi-hard"
    learning_rate: float | None = None
    epochs: int | None = None
    patience: int | None = None
    validation: float | None = None
    seed: int = 0

    def options(self) -> TrainingOptions:
        """As the learning takes them."""
        from imgsearch_es.learning import TrainingOptions

        layers = tuple(whole_numbers(self.layers, "--layers", "512,512,256"))
        return TrainingOptions(**given(vars(self) | {"layers": layers}))


def teach(
    *, word: str, like: list[str], unlike: list[str] | None = None, index: Index = None
) -> None:
    """Teach an index a word by a few pictures.

    All pictures of the index that fit get the word, and so do those added
    later: it is searched for like any other. No picture of the index is read.

    Options:
        word WORD: In quotation marks if there are several, such as "dining table".
        --like PICTURE: A picture that shows it: an id, URI or file. Give two or more.
        --unlike PICTURE: A picture that does not show it. May be repeated.
    """
    with opened(index) as target, bar("teaching") as progress:
        taught = target.teach(word, like, unlike or (), progress=progress)
    answer(taught)
    examples = f"{len(taught.like) + len(taught.unlike)} pictures"
    found = f"{taught.pictures:,} pictures have it as {taught.synset}"
    say(f"{taught.name}: taught from {examples}; {found}")
    if taught.quality is not None:
        say(f"mean average precision in cross-validation: {taught.quality:.2f}")


def forget(*, word: str, index: Index = None) -> None:
    """Take back a word that an index was taught.

    Options:
        word WORD: As `imgsearch words` lists it.
    """
    with opened(index) as target, bar("forgetting") as progress:
        changed = target.forget(word, progress=progress)
    answer({"word": word, "pictures": changed})
    say(f"{word}: {changed:,} pictures had it")


def ocr(*, where: Where = None, index: Index = None) -> None:
    """Read the text in the pictures of an index, so that it can be searched.

    A second pass, after indexing: ocr:"flight 42" then finds pictures in which
    these words stand. It stores what it read as it goes on, and reads only
    pictures whose text is not known: interrupt it, and run it again.
    """
    with opened(index) as target, bar("reading text") as progress:
        report = target.read_text(conditions(where), progress=progress)
    answer(report)
    for uri, reason in report.rejected:
        warn(f"{uri}: {reason}")
    say(f"{report.with_text:,} pictures have text, {report.without_text:,} have none")


def words(*, index: Index = None) -> None:
    """List the words that an index was taught, and how well they do.

    The quality is the mean average precision in cross-validation: how well
    held-out examples are found among a sample of the collection.
    """
    with opened(index) as source:
        found = source.words()
    answer([asdict(word) for word in found])
    rows = [
        (
            word.name,
            word.synset,
            len(word.like),
            len(word.unlike),
            "" if word.quality is None else f"{word.quality:.2f}",
            f"{word.pictures:,}",
        )
        for word in found
    ]
    columns = ("word", "synset", "like", "unlike", "quality", "pictures")
    print_table(columns, rows, right=columns[2:])


def train(
    *,
    index: Index = None,
    judgements: str = "labels",
    out: Path = Path("head.keras"),
    training: Training,
    plot: Path | None = None,
    force: bool = False,
) -> None:
    """Train a head, a small network on stored deep features.

    The head brings pictures of the same object closer together.

    Training reads no pictures, except with --shallow. It holds out some objects and stops when
    their N-S score no longer improves. To continue an interrupted run, run the command again. At
    the end it prints how to add the head to an analyzer, for `imgsearch index` or `imgsearch
    reindex --analyzer`.

    Options:
        --judgements WHICH: Which pictures show the same object: labels, folder, ukbench,
            name:{label}.{number}.jpg, or a file, as in `imgsearch evaluate`.
        --out, -o FILE: Where to write the head, a .keras file.
        --plot FILE: Draw the learning curves, as PNG or SVG.
        --force: Overwrite a head, and start an interrupted run afresh.
    """
    from imgsearch_es.interfaces.plots import check_figure
    from imgsearch_es.learning import train as run

    options = training.options()
    check_figure(plot, "figure")
    with opened(index) as target:
        report = run(
            target,
            out,
            judgements,
            options=options,
            force=force,
            progress=_say_epoch,
            reading=now_and_then("{:,} of {:,} pictures read".format),
        )
    if report.unread:
        uri, reason = report.unread[0]
        warn(
            f"pictures that could not be read again and are left out: {len(report.unread):,}; the "
            f"first is {uri}: {reason}"
        )
    if plot is not None:
        report.save_plot(plot)
    if not report.helps:
        warn(f"the head is not shown to be better than {report.rival}; do not use it")
    answer(report)
    if report.options["shallow"]:
        lines = ["[embedding]", f'parallel = "{report.path}"']
    else:
        lines = ["[[embedding_filters]]", 'name = "head"', f'path = "{report.path}"']
    say(
        *str(report).splitlines(),
        "  to use it, add to the index's analyzer (`imgsearch stats --json`), then reindex:",
        *(f"    {line}" for line in lines),
    )


def _say_epoch(epoch: Epoch, report: TrainingReport) -> None:
    best = " *" if report.best == epoch.number else ""
    say(
        f"epoch {epoch.number:3}  loss {epoch.loss:.4f}  held out {epoch.validation_loss:.4f}  "
        f"N-S {epoch.score:.3f} (as they are {report.raw_score:.3f}, start "
        f"{report.start_score:.3f}){best}"
    )


def groups(
    *,
    photos: list[str],
    out: Path = Path("groups"),
    size: Annotated[int, typer.Option(min=2)] = 4,
    seed: Natural = 0,
) -> None:
    """Make a group of pictures from each photo.

    The pictures of a group differ by crop, rotation, light and compression.

    Use them for experiments with pictures of the same object: index them with --label-from-folder.

    Options:
        photos PHOTO: Files and folders.
        --out, -o FOLDER: Where to put the groups.
        --size: Pictures in a group.
        --seed: The seed of all that is random.
    """
    from imgsearch_es.learning import make_groups

    def pass_over(error: ImageError) -> None:
        warn(f"passed over {error}")
        passed_over.append({"uri": error.uri, "reason": error.reason})

    passed_over = list[dict[str, str]]()
    folders = make_groups(photos, out, size=size, seed=seed, on_error=pass_over)
    groups = [folder.name for folder in folders]
    answer({"folder": str(out), "groups": groups, "passed_over": passed_over})
    say(f"{out}: {len(folders)} groups of {size} pictures")


def whiten(
    *,
    index: Index = None,
    out: str = "pca.npz",
    dimensions: OptionalPositive = None,
    force: bool = False,
) -> None:
    """Learn PCA whitening on the deep features of an index.

    An analyzer uses it by its embedding filter pca_whiten (see
    docs/features.md); the index that it was learnt on stays as it is.

    Options:
        --out, -o FILE: Where to write it: a name in .npz.
        --dimensions, -d: How many to keep. By default all that vary.
        --force: Overwrite the file.
    """
    with opened(index) as source:
        learnt = source.learn_whitening(out, dimensions=dimensions, force=force)
    answer(learnt)
    share = f"{100 * learnt.variance:.1f} % of the variance"
    say(
        f"{learnt.path}: {learnt.dimensions} -> {learnt.components} dimensions, {share}",
        f"learnt on {learnt.pictures:,} pictures; in an analyzer's TOML file:",
        "",
        "  [[embedding_filters]]",
        '  name = "pca_whiten"',
        f'  path = "{learnt.path}"',
    )


def quantize(
    *,
    sources: list[str],
    out: str = "quantized.zip",
    analyzing: Analyzing,
    pictures: Annotated[int, typer.Option(min=60)] = 300,
    force: bool = False,
) -> None:
    """Make a classifier with 8 bits: faster, with other scores.

    It is fitted to two thirds of the pictures; the others show what
    changes. It runs on OpenVINO, and is named quantized:FILE.

    Options:
        sources PATH: Files and folders like those to be indexed.
        --out, -o FILE: Where to write it: a name in .zip.
        --pictures: How many to fit it to and compare on.
        --force: Overwrite the file.
    """
    from imgsearch_es.indexing.wanted_analyzer import WantedAnalyzer
    from imgsearch_es.learning import quantizing

    analyzer = WantedAnalyzer(**vars(analyzing)).build(None)
    made = quantizing.quantize(sources, out, analyzer=analyzer, pictures=pictures, force=force)
    answer(made)
    figures = {
        "the best synset is the same": f"{made.best:.0%}",
        "terms that are the same": f"{made.terms:.0%}",
        f"of the best {quantizing.HITS} hits by formula (1)": f"{made.hits:.0%}",
        "a synset's score differs by at most": f"{made.largest_difference:.2f}",
        "pictures per second": f"{made.speed:.1f} times as many",
    }
    say(
        f"{out}: {made.model} with 8 bits, {made.bytes / 1e6:.1f} MB",
        f"fitted to {made.fitted} pictures; on {made.compared} others, beside {made.model}:",
        "",
        *(f"  {what:<40} {value}" for what, value in figures.items()),
        "",
        f"imgsearch index PICTURES --model quantized:{out}",
    )
