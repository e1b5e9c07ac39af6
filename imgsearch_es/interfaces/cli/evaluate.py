"""``imgsearch evaluate``, ``sweep``, ``compare`` and others: how good and fast strategies are."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from imgsearch_es.errors import EvaluationError
from imgsearch_es.interfaces.cli.options import Count, Index, Positive, given, opened, whole_numbers
from imgsearch_es.interfaces.cli.output import (
    answer,
    fail,
    print_line,
    print_table,
    say,
    waiting,
    warn,
)
from imgsearch_es.stores.interrupts import interrupt

if TYPE_CHECKING:
    from imgsearch_es.evaluation import Evaluation
    from imgsearch_es.evaluation.sweeps import Sweep
    from imgsearch_es.evaluation.tables import Results, Tables

Measure = Callable[[dict[str, Any], dict[str, Any]], Any]  # of options and the manifest: Results
_PLACES = {"judgements", "queries", "pictures", "query_pictures", "runs"}  # what may have moved

Form = Annotated[
    Literal["table", "markdown", "latex", "csv"],
    typer.Option("--format", metavar="table|markdown|latex|csv", help="How to print the table."),
]


@dataclass(frozen=True)
class Experiment:
    """What is measured, and what becomes of the result.

    Options:
        --judgements, -j SOURCE: What is relevant to what: labels (the default), words, folder,
            name:{label}.{number}.jpg, ukbench, holidays, oxford:DIR, paris:DIR,
            revisited-medium:FILE.json (or -easy, -hard), ir_datasets:FOLDER (or its name), or a
            file of TREC qrels or CSV.
        --measures A,B: P@10, nDCG@10, AP, Rprec, RR, Bpref, Success@1 and others of ir-measures;
            also NS, NS% and AP-trapezoid. By default those of the judgements.
        --out DIR: Write tables, TREC runs and qrels or Parquet, plots and the manifest to this
            folder.
    Queries:
        --queries CSV: A file with a column query and the columns image, text or both. By default
            every picture that the judgements name is a query.
        --depth: How many pictures of each ranking count; 1000 by default.
        --sample: Ask only this many queries, chosen at random.
    Statistics:
        --confidence: The level of the intervals; 0.95 by default.
        --interval: Intervals of the means: t (the default) or bootstrap.
        --seed: The seed of all that is random; 0 by default.
    Files:
        --plots: Draw plots, with --out.
        --manifest FILE: Repeat the experiment of this manifest and say what differs. Give files
            and folders again if they have moved.
    """

    judgements: str | None = None
    measures: str | None = None
    out: Path | None = None
    queries: Path | None = None
    depth: int | None = None
    sample: int | None = None
    confidence: float | None = None
    interval: str | None = None
    seed: int | None = None
    plots: bool = True
    manifest: Path | None = None
    form: Form = "table"

    def run(
        self, kind: Literal["evaluate", "sweep"], measure: Measure, options: dict[str, Any]
    ) -> None:
        """Measure and print, or do what the manifest is of again and say what differs."""
        output = ("out", "plots", "manifest", "form")
        shared = {name: value for name, value in vars(self).items() if name not in output}
        chosen = given({**options, **shared})
        if self.manifest is None:
            self._show(measure(chosen, {}), {})
            return
        if settings := [name for name in chosen if name not in _PLACES]:
            option = settings[0].replace("systems", "strategies").replace("_", "-")
            raise EvaluationError(f"the manifest says it all: leave out --{option}")
        self._repeat(self.manifest, kind, measure, chosen)

    def _repeat(self, path: Path, kind: str, measure: Measure, places: dict[str, Any]) -> None:
        from imgsearch_es.evaluation import differences, manifest

        kept = manifest.read_manifest(path, kind)
        found = measure(manifest.arguments_of(kept, places), kept)
        different = differences(kept, found)
        is_same = not any(one.what.startswith("figures") for one in different)
        extra: dict[str, Any] = {
            "identical_figures": is_same,
            "differences": list(map(asdict, different)),
        }
        lines = list(map(str, different))
        if kind == "evaluate":
            pictures: list[str] = []
            beside = path.with_name(manifest.PICTURES)
            if any(d.what.startswith("data") for d in different) and beside.is_file():
                pictures = manifest.picture_differences(beside, found.collection)
            extra["pictures_that_differ"] = pictures
            lines += pictures
        self._show(found, extra)
        say(*(f"differs: {line}" for line in lines))
        if not is_same:
            fail(f"the figures are not those of {path}")
        say(f"the figures are those of {path}, to the last bit")

    def _show(self, found: Results, extra: dict[str, Any]) -> None:
        files = [] if self.out is None else found.write(self.out, plots=self.plots)
        print_tables(found, self.form, {"files": list(map(str, files)), **extra})


def evaluate(
    *,
    index: Index = None,
    strategies: str | None = None,
    experiment: Experiment,
    pictures: Path | None = None,
    compare: str | None = None,
    run: list[Path] | None = None,
) -> None:
    """Measure how well strategies find what is relevant.

    Each query picture of the index is left out of its own ranking, unless the judgements say
    otherwise. Files name a picture by its path below the folder that all pictures share, or by the
    end of its path where that is unique.

    Options:
        --strategies A,B: What to compare: strategies, with parameters as in bm25:k1=1.5:b=0.3, and
            fusions such as sqrt=1+dense-cosine=2 or auto+dense-cosine:rrf. By default auto.
    Queries:
        --pictures DIR: A folder of query pictures that are not in the collection.
    Statistics:
        --compare SYSTEM: Test all others against this system.
    Files:
        --run FILE: A run file of another program, in TREC's format, to evaluate.
    """

    def measure(options: dict[str, Any], kept: dict[str, Any]) -> Evaluation:
        from imgsearch_es.evaluation import Evaluation, evaluate

        Evaluation.check_folder(experiment.out, options)
        if "runs" in options and "systems" not in options:
            options["systems"] = ()
        was = kept.get("index")
        location = index or (str(was.get("location") or "") if isinstance(was, dict) else None)
        with opened(location) as target, waiting("reading the index ...", " queries") as told:
            return evaluate(target, progress=told, **options)

    options = {"systems": strategies, "compare": compare, "pictures": pictures, "runs": run}
    try:
        experiment.run("evaluate", measure, options)
    except KeyboardInterrupt:
        fail("stopped; an evaluation keeps nothing until it is done", code=interrupt.code)


@dataclass(frozen=True)
class Swept:
    """What is varied, and on which pictures.

    Options:
        sources PICTURES: Files, folders, tar files or URLs. Without any, the pictures in --cache.
        --from FILE: A list of pictures, with labels.
        --models, -m A,B: Models (`imgsearch models` lists them), or TOML files of analyzers; with
            +tiles or +tiles14 behind them, of parts of pictures, too. By default vgg16.
        --top-k N,N: How many terms to keep of each picture. By default 1,2,5,10,20,50,100,1000.
        --query-terms N,N: How many of them a query picture asks with. By default all.
        --filters A,B: Chains of term filters: plain (the default), sqrt, l2_normalize,
            min_score=0.01+sqrt, hypernyms, hypernyms+top_k (cuts after the hypernyms).
        --strategies A,B: Strategies and fusions, as in `imgsearch evaluate`. By default
            auto,dense-cosine.
    Queries:
        --query-pictures DIR: A folder of query pictures that are not in the collection.
        --timed: How many queries to time; 0 for none. By default 50.
    Statistics:
        --compare POINT: Test the other points of a model against this one: dense-cosine,
            auto/plain/10; or those of all models against "MODEL auto/plain/10". By default the
            first dense-*.
    """

    sources: list[str] | None = None
    from_: list[str] | None = None
    models: str | None = None
    top_k: str | None = None
    query_terms: str | None = None
    filters: str | None = None
    strategies: str | None = None
    query_pictures: Path | None = None
    timed: int | None = None
    compare: str | None = None

    def options(self) -> dict[str, Any]:
        """As the evaluation takes them."""
        from imgsearch_es.pictures.manifests import PictureList

        options = vars(self).copy()
        sources, lists = options.pop("sources"), options.pop("from_")
        pictures = [*(sources or ()), *map(PictureList, lists or ())] or None
        return {"systems": options.pop("strategies"), "pictures": pictures, **options}


def sweep(
    *, swept: Swept, experiment: Experiment, runtime: str | None = None, cache: Path | None = None
) -> None:
    """Find out how many terms are enough, at what size and time.

    Each model sees each picture once, and all its posteriors are kept. Every number of terms and
    chain of term filters is computed from them, as the analyzer would.

    Analyzer:
        --runtime: What runs the models: tensorflow, openvino, or auto.
    Files:
        --cache DIR: Keep what the models say of the pictures here, so that another sweep needs no
            model. By default OUT/posteriors.
    """
    keep = cache or (experiment.out and experiment.out / "posteriors")

    def measure(options: dict[str, Any], kept: dict[str, Any]) -> Sweep:
        from imgsearch_es.evaluation.sweeps import Sweep, sweep

        Sweep.check_folder(experiment.out, options)
        with waiting("reading the pictures ...") as progress:
            return sweep(cache=keep, runtime=runtime, progress=progress, **options)

    try:
        experiment.run("sweep", measure, swept.options())
    except KeyboardInterrupt:
        kept = f" is kept in {keep}" if keep else " would be kept with --cache or --out"
        fail(f"stopped; what the models said of pictures{kept}", code=interrupt.code)


def reproduce(
    *,
    file: Path,
    row: list[str] | None = None,
    pictures: Path | None = None,
    out: Path = Path("reproduction"),
    plots: bool = True,
    runtime: str | None = None,
) -> None:
    """Measure models, terms and strategies on several collections.

    Each model sees each picture once. After Ctrl-C the same command goes on; what is whole in --out
    is not measured again. A manifest's matrix is measured again and compared with it.

    Options:
        file FILE: A TOML file (docs/reproduction.md), or the manifest.json that a run wrote.
        --row ROW: Measure this row alone and print it: "pets efficientnet-lite0 auto/plain/50/10",
            as commands.txt in --out names it. May be repeated.
        --pictures DIR: The folder that holds the collections. By default that of the file.
        --out DIR: Where tables, plots and the manifest go, and what the models said of pictures.
        --plots: Draw plots.
        --runtime: What runs the models: tensorflow, openvino, or auto.
    """
    from imgsearch_es.evaluation.sweeps import Matrix, measure_row, reproduce

    matrix = Matrix.read(file, pictures)
    try:
        with waiting("reading the pictures ...") as progress:
            found = [measure_row(matrix, name, out, runtime, progress) for name in row or ()]
            done = None if row else reproduce(matrix, out, runtime, progress, plots=plots)
    except KeyboardInterrupt:
        fail(f"stopped; the same command goes on with what is kept in {out}", code=interrupt.code)
    for one in found:
        print_tables(one, "table", {})
    if done is None:
        return
    for model, why in done.missing.items():
        warn(f"no row of {model}: {why.rstrip('.')}; then the same command adds its rows")
    different = [] if matrix.expected is None else done.differences()
    files = done.write(out, file)
    extra = {"files": list(map(str, files)), "differences": list(map(str, different))}
    if not answer(done.manifest() | extra):
        say(*(f"differs: {one}" for one in different))
        for name in done.tables:
            rows = sum(each.startswith(f"{name} ") for each in done.rows())
            say(f"{name}: {rows} rows, table and plots in {out / name}")
        say(f"all tables in {files[0]}, a command for each row in {files[1]}")
    if any(one.what.startswith("figures") for one in different):
        fail(f"the figures are not those of {file}")
    if matrix.expected is not None:
        say(f"the figures are those of {file}, to the last bit")


def compare(
    *,
    index: Index = None,
    strategies: str = "script-filtered,impact",
    against: str | None = None,
    queries: Positive = 50,
    k: Count = 10,
    persistence: float = 0.9,
    seed: int = 0,
    form: Form = "table",
) -> None:
    """Compare how strategies score and order the same queries.

    All search for random pictures of the index in turn, and each is compared with the first:
    rank-biased overlap, Kendall's tau, recall and differences of scores (of the same formula),
    time. `imgsearch evaluate` says which is better, by judgements.

    Options:
        --strategies A,B: What to compare with the first: strategies, dense-cosine:candidates=100
            (approximate), bm25:k1=1.5, and fusions, as of `imgsearch evaluate`.
        --against INDEX: Another index of the same pictures, where all strategies answer as well.
        --queries: How many pictures of the index to search for.
        --persistence, -p: p of rank-biased overlap: near 1 looks deeper, 0 < p < 1.
        --seed: The seed of the random choice of pictures.
    """
    from imgsearch_es.evaluation.scorers import compare_scorers

    options: dict[str, Any] = {"queries": queries, "k": k, "p": persistence, "seed": seed}
    there: AbstractContextManager[Any] = nullcontext() if against is None else opened(against)
    with opened(index) as target, there as other, waiting():
        found = compare_scorers(target, strategies, against=other, **options)
    print_tables(found, form, {})


def benchmark(
    *,
    index: Index = None,
    queries: Positive = 50,
    strategies: str | None = None,
    k: Count = 10,
    candidates: str = "200",
    seed: int = 0,
) -> None:
    """Measure time and recall on your own pictures.

    Each strategy in turn searches for random pictures of the index. Recall is the share of
    the best k, by the exact strategy of the same formula, that were found.

    Options:
        --queries: How many of its pictures to search for.
        --strategies A,B: Which strategies; by default all that the index can answer.
        --candidates N,N: Candidates of approximate answers, where the index was made with
            --vectors.
        --seed: The seed of the random choice of pictures.
    """
    from imgsearch_es.evaluation.scorers import benchmark as run

    counts = whole_numbers(candidates, "--candidates", "100,400")
    names = None if strategies is None else [name.strip() for name in strategies.split(",")]
    with opened(index) as target, waiting():
        found = run(target, queries=queries, strategies=names, k=k, candidates=counts, seed=seed)
    answer(found)
    columns = ("strategy", "candidates", "p50 ms", "p95 ms", "exact", f"recall@{k}", "proven")
    rows = [
        (
            row.strategy,
            row.candidates or "",
            f"{row.p50_ms:.1f}",
            f"{row.p95_ms:.1f}",
            f"{row.exact:.0%}",
            f"{row.recall:.3f}",
            "" if row.proven_at_first is None else f"{row.proven_at_first:.0%}",
        )
        for row in found.rows
    ]
    print_table(columns, rows, right=columns[1:])
    say(
        f"{found.location}: {found.pictures:,} pictures, {found.queries} queries. exact, proven: "
        "shares of the queries; proven is by the first window of rescored pictures."
    )


def print_tables(found: Tables, form: str, extra: dict[str, Any]) -> None:
    """Print a result in the form that was asked for."""
    if answer(found.to_dict() | extra):
        return
    for note in found.notes:
        warn(f"note: {note}")
    if form != "table":
        write = {"markdown": found.to_markdown, "latex": found.to_latex, "csv": found.to_csv}[form]
        for line in write().rstrip("\n").split("\n"):
            print_line(line)
        return
    print_table(*found.cells(), right=found.numbers)
    say(found.caption)
    for title, columns, rows in found.sections():
        say("", f"{title}:")
        if columns:
            print_table(columns, rows, right=columns[2:])
        else:
            say(*(f"  {row[0]}" for row in rows))
    if files := extra.get("files"):
        say(f"{len(files)} files in {Path(files[-1]).parent}")
