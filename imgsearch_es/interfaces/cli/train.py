"""``imgsearch train``: a head on stored features; ``groups``: pictures to learn it from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgsearch_es.errors import ConfigurationError
from imgsearch_es.interfaces.cli.headings import under_network, under_training
from imgsearch_es.interfaces.cli.options import given
from imgsearch_es.interfaces.cli.output import (
    IndexOption,
    JsonOption,
    now_and_then,
    print_json,
    say,
    warn,
)

if TYPE_CHECKING:
    from imgsearch_es.learning import Epoch, TrainingReport


def train(
    index: IndexOption = None,
    judgements: Annotated[
        str,
        typer.Option(
            metavar="WHICH",
            help="Which pictures show the same object: labels, folder, ukbench, "
            "name:{label}.{number}.jpg, or a file, as in `imgsearch evaluate`.",
        ),
    ] = "labels",
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="FILE", help="Where to write the head, a .keras file."),
    ] = Path("head.keras"),
    layers: Annotated[
        str, under_network(metavar="N,N", help="Units in each dense layer.")
    ] = "512,512,256",
    shortcut: Annotated[
        bool,
        under_network(
            help="Add a linear layer that starts as half-whitening. Without it all layers start "
            "at random."
        ),
    ] = True,
    dropout: Annotated[
        float,
        under_network(min=0, max=0.95, help="Share of features and units to drop in each step."),
    ] = 0.5,
    shallow: Annotated[
        bool,
        under_network(
            "--shallow",
            help="Add a shallow network on the picture itself, for colors and patterns. Reads "
            "the pictures again.",
        ),
    ] = False,
    loss: Annotated[str, under_training(help="The loss: triplet or contrastive.")] = "triplet",
    margin: Annotated[
        float | None,
        under_training(
            show_default="0.5 of triplets, 1 of contrastive", help="The margin of the loss."
        ),
    ] = None,
    mining: Annotated[
        str, under_training(help="How to choose negatives: semi-hard or random.")
    ] = "semi-hard",
    learning_rate: Annotated[
        float | None, under_training(show_default="1e-4", help="The learning rate of Adam.")
    ] = None,
    epochs: Annotated[
        int | None, under_training(show_default="100", help="Train for at most this many epochs.")
    ] = None,
    patience: Annotated[
        int | None,
        under_training(
            show_default="15", help="Stop after this many epochs without a better score."
        ),
    ] = None,
    validation: Annotated[
        float | None, under_training(show_default="0.2", help="Share of the objects to hold out.")
    ] = None,
    seed: Annotated[int, under_training(help="The seed of all that is random.")] = 0,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", show_default=False, help="Draw the learning curves, as PNG or SVG."
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite a head, and start an interrupted run afresh.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Train a head, a small network on stored deep features.

    The head brings pictures of the same object closer together.

    Training reads no pictures, except with --shallow. It holds out some objects and stops when
    their N-S score no longer improves. To continue an interrupted run, run the command again. At
    the end it prints how to add the head to an analyzer, for `imgsearch index` or `imgsearch
    reindex --analyzer`.
    """
    from imgsearch_es.index import ImageIndex
    from imgsearch_es.learning import TrainingOptions
    from imgsearch_es.learning import train as run

    options = TrainingOptions(
        layers=_layers(layers),
        shortcut=shortcut,
        dropout=dropout,
        shallow=shallow,
        loss=loss,
        mining=mining,
        seed=seed,
        **given(
            margin=margin,
            learning_rate=learning_rate,
            epochs=epochs,
            patience=patience,
            validation=validation,
        ),
    )
    with ImageIndex(index) as target:
        report = run(
            target,
            out,
            judgements,
            options=options,
            force=force,
            progress=None if json else _show,
            reading=None if json else now_and_then(_pictures_read),
        )
    if report.unread:
        warn(_left_out(report.unread))
    if plot is not None:
        report.save_plot(plot)
    if not report.helps:
        warn("the head does not beat the features as they are on the held-out objects; do not use")
    if json:
        print_json(report.to_dict())
        return
    say(str(report))
    say("  to use it, add to the index's analyzer (`imgsearch stats --json`), then reindex:")
    for line in _analyzer_lines(report):
        say(f"    {line}")


def _analyzer_lines(report: TrainingReport) -> list[str]:
    """What the head is in the TOML file of an analyzer."""
    if report.options["shallow"]:
        return ["[embedding]", f'parallel = "{report.path}"']
    return ["[[embedding_filters]]", 'name = "head"', f'path = "{report.path}"']


def _pictures_read(done: int, total: int) -> str:
    return f"{done:,} of {total:,} pictures read"


def _left_out(unread: list[tuple[str, str]]) -> str:
    uri, reason = unread[0]
    if len(unread) == 1:
        return f"1 picture could not be read again and is left out: {uri}: {reason}"
    return (
        f"{len(unread):,} pictures could not be read again and are left out; the first is "
        f"{uri}: {reason}"
    )


def _show(epoch: Epoch, report: TrainingReport) -> None:
    best = " *" if report.best == epoch.number else ""
    say(
        f"epoch {epoch.number:3}  loss {epoch.loss:.4f}  held out {epoch.validation_loss:.4f}  "
        f"N-S {epoch.score:.3f} (as they are {report.raw_score:.3f}){best}"
    )


def _layers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigurationError(
            f"--layers is a number or several such as 512,512,256, not {text!r}"
        ) from error


def groups(
    photos: Annotated[
        list[str], typer.Argument(metavar="PHOTO...", help="Files and folders.", show_default=False)
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where to put the groups.")
    ] = Path("groups"),
    size: Annotated[int, typer.Option(min=2, help="Pictures in a group.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="The seed of all that is random.")] = 0,
    json: JsonOption = False,
) -> None:
    """Make a group of pictures from each photo.

    The pictures of a group differ by crop, rotation, light and compression.

    Use them for experiments with pictures of the same object: index them with --label-from-folder.
    """
    from imgsearch_es.learning import make_groups

    folders = make_groups(photos, out, size=size, seed=seed)
    if json:
        print_json({"folder": str(out), "groups": [folder.name for folder in folders]})
        return
    say(f"{out}: {len(folders)} groups of {size} pictures")
