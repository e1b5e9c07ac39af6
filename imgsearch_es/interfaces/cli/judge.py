"""``imgsearch judge``, ``hardest``, ``clicks``: what people say, look into, and click."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgsearch_es.errors import EvaluationError, ImgsearchError, LogError
from imgsearch_es.interfaces.cli.options import Index, Positive, given, opened, whole_numbers
from imgsearch_es.interfaces.cli.output import (
    answer,
    console,
    fail,
    print_table,
    printable,
    say,
    waiting,
    warn,
)

if TYPE_CHECKING:
    from PIL import Image
    from rich.console import Console, RenderableType
    from rich.text import Text

    from imgsearch_es.evaluation.judging import Candidate, Judging

_GRADES = {"r": "relevant", "p": "partly", "n": "not", "2": "relevant", "1": "partly", "0": "not"}
_KEYS = {**_GRADES, "s": "skip", "u": "undo", "o": "open", "q": "quit"}
_HELP = "r relevant  p partly  n not  s skip  u undo  o open  q quit"
_WIDEST, _NARROWEST = 56, 16
"""Columns of a preview."""


def judge(
    *,
    index: Index = None,
    queries: Path | None = None,
    sample: int | None = None,
    strategies: str | None = None,
    run: list[Path] | None = None,
    depth: int = 20,
    seed: int = 0,
    out: Path = Path("qrels.txt"),
) -> None:
    """Judge, key by key, what strategies find.

    You do not see which of them found a picture.

    Every judgement is saved at once, so stop when you like (q) and go on later by the same command.
    Grades: relevant 2, partly 1, not 0; a skipped picture stays unjudged. --json asks nothing, and
    prints what is judged and what is left.

    Options:
        --queries CSV: Queries by column: query, and image, text or both.
        --sample: Instead of --queries: this many pictures of the index, chosen at random.
        --strategies A,B: Whose answers are pooled: strategies, bm25:k1=1.5:b=0.3, and fusions:
            sqrt=1+dense-cosine=2. By default auto. Judgements are fair only to strategies that are
            pooled.
        --run FILE: Another program's run to pool.
        --depth: How many pictures of each ranking.
        --seed: The seed of the order of pictures, and of --sample.
        --out FILE: A file of TREC qrels, new or to go on with.
    """
    from imgsearch_es.evaluation.judging import judge as pool

    systems = strategies or ("" if run else "auto")
    pooling: dict[str, Any] = {"sample": sample, "depth": depth, "out": out, "seed": seed}
    with opened(index) as target, waiting("reading the index ...", " queries") as progress:
        judging = pool(target, queries, systems, runs=run or (), progress=progress, **pooling)
    if answer(_summary(judging)):
        return
    for note in judging.notes:
        warn(f"note: {note}")
    if judging.session.current is not None:
        try:
            TerminalJudge(judging, console(), typer.getchar, typer.launch).run()
        except OSError:  # of the terminal, which is asked for where input comes from elsewhere
            fail("judging reads keys: run it on a terminal, or give --json to see what is left")
    reached = judging.session.progress
    say(f"{reached.judged:,} of {reached.total:,} judged, in {judging.session.file.path}")
    if reached.judged < reached.total:
        say("the same command goes on with the rest")
    elif not reached.total:
        say("the pool is empty: no strategy found anything")


def _summary(judging: Judging) -> dict[str, Any]:
    progress, name = judging.session.progress, judging.collection.name
    unjudged = [(name(each.query), each.document) for each in judging.session.unjudged]
    return {
        "out": str(judging.session.file.path),
        "queries": progress.queries,
        "pooled": progress.total,
        "judged": progress.judged,
        "notes": list(judging.notes),
        "unjudged": [
            {"query": query, "document": name(document), "uri": judging.uri(document)}
            for query, document in unjudged
        ],
    }


@dataclass(frozen=True)
class Judged:
    """Queries, and what is relevant to them.

    Options:
        --judgements, -j SOURCE: What is relevant to what, as in `imgsearch evaluate`. By default
            labels.
        --queries CSV: A file with queries, as in `imgsearch evaluate`.
        --pictures DIR: A folder of query pictures that are not in the collection.
    """

    judgements: str | None = None
    queries: Path | None = None
    pictures: Path | None = None


def hardest(
    *,
    index: Index = None,
    judged: Judged,
    strategy: str | None = None,
    measure: str | None = None,
    n: Positive = 10,
    k: Positive = 12,
    run: Path | None = None,
    html: Path | None = None,
) -> None:
    """List the queries that were answered worst.

    Options:
        --strategy SYSTEM: A strategy, or a fusion such as a=1+b=2. By default auto.
        --measure: P@10, nDCG@10, AP, RR, ... By default the judgements' first.
        --n, -n: How many queries.
        --k, -k: Hits in a gallery.
        --run FILE: Instead of a strategy: another program's run.
        --html FILE: Write a page with the galleries.
    """
    from imgsearch_es.evaluation import Hardest, evaluate
    from imgsearch_es.evaluation import hardest as find
    from imgsearch_es.interfaces.gallery import hardest_summary as summary

    if run is not None and strategy is not None:
        raise EvaluationError("--run is in place of --strategy: leave one of them out")
    if html is not None:
        Hardest.page_at(html)  # before the work
    systems: tuple[str, ...] = () if run is not None else (strategy or "auto",)
    with opened(index) as target:
        with waiting():
            found = evaluate(
                target,
                systems=systems,
                runs=[run] if run else (),
                **given({**vars(judged), "measures": measure}),
            )
        worst = find(target, found, n=n, k=k)
    page = None if html is None else str(worst.to_html(html))
    answer(worst.to_dict() | {"page": page})
    rows = [(f"{query.figure:.4f}", query.name, query.problem or summary(query)) for query in worst]
    print_table((worst.measure, "query", "relevant pictures"), rows, right=(worst.measure,))
    say(f"the hardest {len(worst)} of {worst.of} queries for {worst.system}")
    if page is not None:
        say(f"galleries: {page}")


def clicks(
    *, log: Annotated[str, typer.Option(envvar="IMGSEARCH_LOG")], cutoffs: str = "1,5,10"
) -> None:
    """Measure strategies by what people clicked.

    CTR@k is the share of the results shown at ranks 1 to k that were clicked; clicked, the share of
    searches with a click; MRR, the mean reciprocal rank of the best-ranked click. For interleaved
    strategies, it also shows whose pictures were clicked more, with a sign test.

    Options:
        log LOG: The interaction log. Older files of it (LOG.1, ...) are read too.
        --cutoffs K,K: The k of CTR@k.
    """
    from imgsearch_es.evaluation.clicks import click_figures, duels, read_interactions

    numbers = tuple(dict.fromkeys(whole_numbers(cutoffs, "--cutoffs", "1,5,10")))
    found = read_interactions(log)
    if found.broken and not found.searches and not found.stray:
        raise LogError(f"no line of {log} is one of an interaction log: is it another file?")
    figures, fought = click_figures(found.searches, numbers), duels(found.searches)
    printed = {
        "figures": [each.to_dict() for each in figures],
        "interleaved": list(map(asdict, fought)),
        "stray_clicks": found.stray,
        "broken_lines": found.broken,
        "problems": list(found.problems),
    }
    if answer(printed):
        return
    for problem in found.problems:
        warn(f"passed over {problem}")
    if found.broken:
        warn(f"{found.broken:,} broken lines do not count")
    columns = ("strategy", "searches", "clicks", "clicked", "MRR", *(f"CTR@{k}" for k in numbers))
    rows: list[tuple[object, ...]] = []
    for each in figures:
        shares = (each.clicked, each.reciprocal_rank, *each.through.values())
        shown = ("" if share is None else f"{share:.4f}" for share in shares)
        rows.append((each.strategy, f"{each.searches:,}", f"{each.clicks:,}", *shown))
    print_table(columns, rows, right=columns[1:])
    if fought:
        columns = ("interleaved", "against", "wins", "losses", "ties", "p (sign test)")
        rows = [(d.first, d.second, d.wins, d.losses, d.ties, f"{d.p:.4f}") for d in fought]
        print_table(columns, rows, right=columns[2:])
    if found.stray:
        say(f"{found.stray:,} clicks are of no search in the log, or of pictures not shown")


class TerminalJudge:
    """Asks a person at a terminal: ``read_key`` waits for a key, ``open_picture`` shows a file."""

    def __init__(
        self,
        judging: Judging,
        console: Console,
        read_key: Callable[[], str],
        open_picture: Callable[[str], object],
    ) -> None:
        self._judging, self._session = judging, judging.session
        self._console, self._read_key, self._open = console, read_key, open_picture
        self._query: str | None = None

    def run(self) -> None:
        """Ask until all is judged or the person stops (q, Ctrl-C, Ctrl-D), or is gone.

        Raises:
            EvaluationError: a judgement cannot be saved.
        """
        shown: Candidate | None = None
        while (asked := self._session.current) is not None:
            if asked != shown:
                self._show(asked)
                shown = asked
            try:
                key = self._read_key().lower()
            except (KeyboardInterrupt, EOFError):
                return
            action = _KEYS.get(key)
            if action == "quit" or not key:  # none comes from a terminal that was closed
                return
            if action == "open":
                self._open(self._judging.uri(asked.document))
            elif action == "undo" and self._session.undo():
                self._say("taken back")
                shown = None
            else:
                self._say(self._answered(action))

    def _answered(self, action: str | None) -> str:
        """Do what a key says; gives what is said then."""
        if action is None:
            return _HELP
        if action == "undo":
            return "nothing to take back in this session"
        if action == "skip":
            self._session.skip()
            return "skipped"
        self._session.judge(action)
        return action

    def _show(self, asked: Candidate) -> None:
        from rich.rule import Rule
        from rich.text import Text

        if asked.query != self._query:
            self._query = asked.query
            text = Text(printable(self._judging.query_text(asked.query)), "bold")
            self._console.print(Rule(Text("Query: ") + text))
            if (picture := self._judging.query_picture(asked.query)) is not None:
                self._show_picture(picture)
        progress = self._session.progress
        self._say(
            f"{progress.judged:,} of {progress.total:,} judged; picture {progress.place} of "
            f"{progress.of_query}, query {progress.query_place} of {progress.queries}"
        )
        self._show_picture(self._judging.uri(asked.document))
        self._say(_HELP)

    def _show_picture(self, uri: str) -> None:
        from rich.text import Text

        if self._console.is_terminal:
            self._console.print(preview(uri, min(_WIDEST, self._console.width)))
        target = uri if "://" in uri else Path(uri).as_uri()
        self._console.print(Text(printable(uri), f"link {target}"), soft_wrap=True)

    def _say(self, text: str) -> None:
        self._console.print(text, style="dim", markup=False)


def preview(uri: str, columns: int) -> RenderableType:
    """A picture in half blocks, two pixels to a character; or why it cannot be shown."""
    from rich.text import Text

    from imgsearch_es.pictures.thumbnails import reason, shrink

    try:
        return _blocks(shrink(uri, max(columns, _NARROWEST)))
    except (ImgsearchError, OSError, ValueError) as error:
        why = reason(error) if isinstance(error, ImgsearchError) else str(error)
        return Text(f"(no preview: {printable(why)})", "dim")


def _blocks(image: Image.Image) -> Text:
    from rich.text import Text

    if image.height % 2:
        image = image.crop((0, 0, image.width, image.height + 1))
    pixels = image.tobytes()
    text, row = Text(no_wrap=True), 3 * image.width
    for top in range(0, len(pixels), 2 * row):
        for at in range(top, top + row, 3):
            upper, lower = pixels[at : at + 3], pixels[at + row : at + row + 3]
            text.append("▀", f"#{upper.hex()} on #{lower.hex()}")
        text.append("\n")
    return text
