"""``imgsearch train``: a head on stored features; ``groups``: pictures to learn it from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgsearch_es.errors import ConfigurationError
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
            "name:{label}.{number}.jpg, or a file; as of `imgsearch evaluate`.",
        ),
    ] = "labels",
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The head's file, .keras.")
    ] = Path("head.keras"),
    layers: Annotated[
        str, typer.Option(metavar="N,N", help="Units of the head's dense layers.")
    ] = "512,512,256",
    shortcut: Annotated[
        bool,
        typer.Option(
            help="A linear layer beside them that begins as half-whitening; without it the layers "
            "begin at random."
        ),
    ] = True,
    dropout: Annotated[
        float,
        typer.Option(min=0, max=0.95, help="Share of features and units left out at each step."),
    ] = 0.5,
    shallow: Annotated[
        bool,
        typer.Option(
            "--shallow",
            help="A shallow network on the picture in parallel to the model, for colors and "
            "patterns; the pictures are read again.",
        ),
    ] = False,
    loss: Annotated[str, typer.Option(help="triplet or contrastive.")] = "triplet",
    margin: Annotated[
        float | None,
        typer.Option(show_default="0.5 of triplets, 1 of contrastive", help="Of the loss."),
    ] = None,
    mining: Annotated[
        str, typer.Option(help="How negatives are chosen: semi-hard or random.")
    ] = "semi-hard",
    learning_rate: Annotated[
        float | None, typer.Option(show_default="1e-4", help="Of Adam.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(show_default="100", help="At most.")] = None,
    patience: Annotated[
        int | None,
        typer.Option(show_default="15", help="Epochs without a better score that end it."),
    ] = None,
    validation: Annotated[
        float | None,
        typer.Option(show_default="0.2", help="Share of the objects that are held out."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of all that is random.")] = 0,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", show_default=False, help="Draw the curves, PNG or SVG."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite a head, begin an interrupted run again.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Train a head, a small network on stored deep features.

    It brings pictures of the same object near each other.

    No picture is read, but with --shallow. Some objects are held out, and their N-S score says when
    to stop. An interrupted run goes on when it is repeated. The head becomes a part of an analyzer,
    which is printed at the end, for `imgsearch index` or `imgsearch reindex --analyzer`.
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
        Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where the groups go.")
    ] = Path("groups"),
    size: Annotated[int, typer.Option(min=2, help="Pictures of a group.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Of the random numbers.")] = 0,
    json: JsonOption = False,
) -> None:
    """Make a group of pictures from each photo.

    By crops, turns, light and compression.

    For experiments with pictures of the same object: index them with --label-from-folder.
    """
    from imgsearch_es.learning import make_groups

    folders = make_groups(photos, out, size=size, seed=seed)
    if json:
        print_json({"folder": str(out), "groups": [folder.name for folder in folders]})
        return
    say(f"{out}: {len(folders)} groups of {size} pictures")
