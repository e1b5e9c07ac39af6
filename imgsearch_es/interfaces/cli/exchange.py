"""``imgsearch export``, ``import``, ``reindex`` and ``verify``: moved, rebuilt, checked."""

from __future__ import annotations

import typer

from imgsearch_es.errors import MissingPicturesError
from imgsearch_es.interfaces.cli import options
from imgsearch_es.interfaces.cli.options import Analyzing, Index, Layout, Natural, Seen, Where
from imgsearch_es.interfaces.cli.output import answer, bar, fail, now_and_then, say, say_some, warn


def export(
    *,
    file: str | None = None,
    index: Index = None,
    features: str | None = None,
    pictures: bool = False,
    where: Where = None,
    force: bool = False,
) -> None:
    """Write the documents of an index into a file.

    With deep features and the settings of the index, so that
    `imgsearch import` makes the same index of it elsewhere. With --features
    the deep features alone, in files that other programs read.

    Options:
        file FILE: A file: .jsonl, .jsonl.gz or .parquet; or .ciff, the terms alone as an inverted
            index for PISA, Lucene and other engines.
        --features FILE: Deep features alone, instead of FILE: .csv (path,f1,f2,...), .h5, .parquet,
            or a folder for filenames.npy and vectors.npy.
        --pictures: Put the pictures' bytes into the file, too.
        --force: Overwrite the file.
    """
    place = _one_of(file, features, pictures)
    chosen = options.conditions(where)
    progress = now_and_then("{:,} exported".format)
    with options.opened(index) as source:
        if features is not None:
            found = source.export_features(place, where=chosen, force=force, progress=progress)
            answer(found)
            say(f"{found.path}: {found}")
            if found.without_feature:
                say(f"  {found.without_feature:,} pictures have none")
            return
        report = source.export(
            place, pictures=pictures, where=chosen, force=force, progress=progress
        )
    answer(report)
    say(f"{report.path}: {report.documents:,} documents")
    if report.rounding is not None:
        say(f"  {report.rounding}")
    say_some([f"  without picture: {uri}: {why}" for uri, why in report.without_picture])


def import_(
    *,
    file: str | None = None,
    index: Index = None,
    features: str | None = None,
    folder: str | None = None,
    model: str | None = None,
    weights: str | None = None,
    analyzer: str | None = None,
    pictures: str | None = None,
) -> None:
    """Add the documents of a file to an index.

    The index is created with the file's settings when there is none. With
    --features it needs no model: search it by its pictures or by vectors.

    Options:
        file FILE: A file: .jsonl, .jsonl.gz or .parquet.
        --features FILE: Deep features alone, instead of FILE: .csv (path,f1,f2,...), .h5, .parquet,
            or a folder with filenames.npy and vectors.npy.
        --folder: With --features: where relative paths in the file start; else in this folder.
        --model, -m: With --features, for a new index: the classifier that made them, so that it
            takes new pictures too.
        --pictures FOLDER: Write the pictures that are in the file into this folder.
    Analyzer:
        --weights FILE: A file with the model's weights.
        --analyzer TOML: A TOML file with the whole analyzer.
    """
    place = _one_of(file, features, pictures is not None)
    if features is None and (folder or model or weights or analyzer):
        fail("--folder, --model, --weights and --analyzer go with --features", code=2)
    progress = now_and_then(str)
    with options.opened(index, model=model, weights=weights, analyzer=analyzer) as target:
        if features is not None:
            report = target.import_features(place, folder=folder, progress=progress)
        else:
            report = target.import_(place, pictures=pictures, progress=progress)
    answer(report)
    say(f"{target.location}: {report} of {report.rows:,} rows")
    say_some([f"  rejected: row {row.row} {row.uri}: {row.reason}" for row in report.rejected_rows])
    if report.rejected and report.rejected == report.rows:
        fail("no row could be imported")


def _one_of(file: str | None, features: str | None, pictures: bool) -> str:
    if (file is None) == (features is None):
        fail("give FILE, or --features FILE", code=2)
    if features is not None and pictures:
        fail("--pictures goes with FILE: --features has vectors alone", code=2)
    return file or features or ""


def reindex(
    *,
    index: Index = None,
    analyzing: Analyzing,
    seen: Seen,
    allow_missing: bool = False,
    keep_old: bool = False,
    layout: Layout,
) -> None:
    """Build an index anew and put it in the place of the old one.

    Searches use the old one until then. With another analyzer all pictures are read again;
    with the one that the index has, only those without colors, and documents are copied.

    Options:
        --model, -m: Another classifier.
        --allow-missing: Leave out pictures that cannot be read now; labels come back with them.
        --keep-old: Keep the replaced index under another name.
    Analyzer:
        --terms: Keep another number of a picture's best synsets.
        --query-terms: Ask with another number of them: no picture is read again.
    Elasticsearch:
        --vectors KIND: How the new index indexes deep features, or none.
        --similarity: How --vectors compares: cosine, dot or euclidean.
        --impacts FORMULAS: Formulas that are as fast as auto in the new index: cosine, sqrt, bm25
            (with commas), or none.
    """
    from imgsearch_es.retrieval.ledger import reasons

    wanted = {**vars(analyzing), **vars(seen)}
    with options.opened(
        index, runtime=wanted.pop("runtime"), **options.given(vars(layout))
    ) as target:
        try:
            report = target.reindex(
                **wanted, allow_missing=allow_missing, keep_old=keep_old, progress=now_and_then()
            )
        except MissingPicturesError as error:
            answer({"error": str(error), "missing": reasons(error.pictures)})
            fail(str(error))
    answer(report)
    did = f"{report.analyzed:,} analyzed" if report.analyzed else f"{report.copied:,} copied"
    say(f"{target.location}: {report.documents:,} documents, {did}")
    say_some([f"  left out: {uri}: {reason}" for uri, reason in report.missing])
    if report.unread:
        uri, reason = report.unread[0]
        others = f", and of {len(report.unread) - 1:,} more" if len(report.unread) > 1 else ""
        warn(f"EXIF and XMP cannot be read again of {uri} ({reason}){others}: kept as they were")
    for word, reason in report.lost_words:
        warn(f"the taught word {word} is lost: {reason}")
    if report.without_colors:
        warn(f"{report.without_colors:,} pictures could not be read again, and have no colors")


def verify(
    *, index: Index = None, files: bool = False, sample: Natural = 0, repair: bool = False
) -> None:
    """Check that an index is whole.

    Compares documents with their checksums, postings and deep features; also settings, sums
    and the list of rejected pictures. Exit code 1 when something is wrong.

    Options:
        --files: Also read every picture's file and compare its hash.
        --sample: Also analyze this many of the pictures again.
        --repair: Mend what can be made anew from what is whole.
    """
    with options.opened(index) as target, bar("verifying") as progress:
        report = target.verify(files=files, sample=sample, repair=repair, progress=progress)
    answer(report)
    harms = [
        f"  {harm.part}: {harm.what}{f' ({harm.uri or harm.id})' if harm.id else ''}"
        for harm in report.harms
    ]
    say_some(harms, total=sum(report.counts.values()))
    say(*(f"  not checked: {what}" for what in report.unchecked))
    say_some([f"  to be indexed again: {uri or key}" for key, uri in report.left])
    if report.left:
        say("  `imgsearch index` does that for those which --repair could mark; remove the others")
    say(f"{target.location}: {report}")
    if not report.is_whole:
        raise typer.Exit(1)
