"""What a run did: counts that add up, rejected pictures, time by stage; and how far it is.

That is shown while it runs as tqdm's users expect it of ``tqdm.auto``: a bar that suits the place,
which stays in a notebook and says how the run ended. Unlike there, a script prints nothing unless
asked (``progress=True``).
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

from imgsearch_es.errors import pip_install
from imgsearch_es.pictures.sources import VIDEOS
from imgsearch_es.retrieval.ledger import Rejected

if TYPE_CHECKING:
    from rich.console import Console

_KINDS = 8
"""Of files that are no pictures, the most frequent of which are named."""
STAGES = ("find", "read", "decode", "analyze", "write")


class Stages:
    """Seconds of work by stage, of all threads together, so they exceed the run's; and pictures."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.pictures = dict.fromkeys(STAGES, 0)

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled, as a report is that another process gives back: all but the lock."""
        return {"seconds": dict(self.seconds), "pictures": dict(self.pictures)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the time that the block takes to a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - started)

    def add(self, stage: str, seconds: float, pictures: int = 0) -> None:
        """Add time and pictures to a stage; any thread may."""
        with self._lock:
            self.seconds[stage] += seconds
            self.pictures[stage] += pictures

    def shares(self) -> dict[str, float]:
        """Each stage's part of the work, from 0 to 1."""
        total = sum(self.seconds.values()) or 1.0
        return {stage: seconds / total for stage, seconds in self.seconds.items()}


@dataclass(slots=True)
class IndexReport:
    """What a run did: found = added + updated + unchanged + rejected.

    >>> report = index.add("photos")
    >>> report.found, report.added, report.unchanged, report.rejected
    (76, 0, 76, [])

    Attributes:
        added: pictures new in the index.
        updated: pictures whose content, labels or metadata changed.
        unchanged: pictures that the index had already.
        removed: documents removed because their files are gone (only with ``prune``) or no longer
            hold a picture.
        rejected: pictures that could not be read or stored, with reasons.
        reused: those of added and updated that needed no analysis, as a picture with the same
            content had one: moved files and copies.
        moved: those of added that took the place of a document of the same content, with its labels
            and metadata, as its file is gone.
        as_before: those of rejected that were not tried again, as they are unchanged.
        passed_over: files in folders and archives that are no pictures, by kind: {".txt": 3}; rows
            of datasets that have none; what says something else of a picture named before.
        kept: what ``prune`` left, a sentence each: the drive of a folder may not be mounted, or a
            picture moved on before it was read. And examples that a server did not let move.
        seconds: what the run took.
        stages: what each stage worked; see `Stages`.
    """

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0
    rejected: list[Rejected] = field(default_factory=list)
    reused: int = 0
    moved: int = 0
    as_before: int = 0
    passed_over: Counter[str] = field(default_factory=Counter)
    kept: list[str] = field(default_factory=list)
    seconds: float = 0.0
    stages: Stages = field(default_factory=Stages, compare=False, repr=False)

    def pass_over(self, kind: str) -> None:
        """Count something that no document is made of, by its kind."""
        self.passed_over[kind] += 1

    @property
    def found(self) -> int:
        """How many pictures were looked at."""
        return self.added + self.updated + self.unchanged + len(self.rejected)

    @property
    def shortages(self) -> int:
        """How many of rejected failed for want of memory or time; the next run tries them again."""
        return sum(entry.is_shortage for entry in self.rejected)

    @property
    def rate(self) -> float:
        """Pictures per second."""
        return self.found / self.seconds if self.seconds else 0.0

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        counts = ("found", "added", "updated", "unchanged", "removed", "reused", "moved")
        return {
            **{name: getattr(self, name) for name in counts},
            "rejected": [item.to_dict() for item in self.rejected],
            "as_before": self.as_before,
            "passed_over": dict(self.passed_over.most_common()),
            "kept": self.kept,
            "shortages": self.shortages,
            "seconds": round(self.seconds, 3),
            "pictures_per_second": round(self.rate, 2),
            "stages": {stage: round(share, 4) for stage, share in self.stages.shares().items()},
        }

    def __str__(self) -> str:
        return "; ".join(filter(None, [self.counts, self.others]))

    def __repr__(self) -> str:
        return f"IndexReport({self})"

    @property
    def counts(self) -> str:
        """What became of the pictures, for people."""
        parts = [f"{self.added} added", f"{self.updated} updated", f"{self.unchanged} unchanged"]
        if self.removed:
            parts.append(f"{self.removed} removed")
        parts.append(f"{len(self.rejected)} rejected")
        if self.shortages:
            parts.append(f"{self.shortages} of them for want of memory or time")
        if self.reused:
            parts.append(f"{self.reused} of them without analysis, as their content was known")
        if self.moved:
            parts.append(f"{self.moved} of them moved from paths that are gone")
        return ", ".join(parts)

    @property
    def others(self) -> str:
        """Which files were passed over, for people; empty where none was."""
        if not self.passed_over:
            return ""
        named = self.passed_over.most_common(_KINDS)
        kinds = [f"{count:,} {kind}" for kind, count in named]
        rest = self.passed_over.total() - sum(count for _, count in named)
        kinds += [f"{rest:,} others"] if rest else []
        has_videos = any(kind[1:] in VIDEOS for kind in self.passed_over)
        needs = "" if find_spec("av") else f", with {pip_install('video')}"
        how = f" (--video indexes one frame of each video{needs})" if has_videos else ""
        return f"passed over: {', '.join(kinds)}{how}"


Progress = Callable[[IndexReport, "int | None"], None]
"""Called with the report so far and the number of pictures, None while they are being found."""

WINDOW_SECONDS = 15.0
"""The rate is that of so many seconds before."""
DELAY_SECONDS = 0.5
"""A notebook shows no bar for a run that has ended by then."""
EVERY_SECONDS = 0.2
"""Between two drawings of a bar."""
LINE_SECONDS = 10.0
"""Between two lines where there is neither a notebook nor a terminal."""

Clock = Callable[[], float]


class Reading(NamedTuple):
    """How far a run is, and for people what the stages have done and how many are rejected."""

    done: int
    """Pictures that are analyzed, unchanged or rejected; some may wait to be written."""
    total: int | None
    """None while they are being found."""
    head: str
    """``1,024 of 25,000 · 85 pictures/s, 4:42 left``."""
    counts: str
    failures: str


class Display:
    """Shows the progress of one run, within whose ``with`` it is called with each report.

    It is drawn first after ``delay`` seconds, and then ``every`` so many.
    """

    def __init__(self, delay: float, every: float, clock: Clock) -> None:
        self._every = every
        self._clock = clock
        self._next = clock() + delay
        self._past: deque[tuple[float, int]] = deque([(clock(), 0)])
        self._last: tuple[IndexReport, int | None] | None = None

    def __call__(self, report: IndexReport, total: int | None) -> None:
        """Show how far the run is, though not each time."""
        self._last = (report, total)
        if self._clock() >= self._next:
            self._next = self._clock() + self._every
            self._draw(self.read(report, total))

    def read(self, report: IndexReport, total: int | None) -> Reading:
        """How far the run is now; written are hundreds at a time, so what is analyzed is done."""
        rejected, made = len(report.rejected), report.stages.pictures
        done = max(report.found, report.unchanged + rejected + made["analyze"])
        written = report.added + report.updated
        counts = f"{made['decode']:,} decoded, {made['analyze']:,} analyzed, {written:,} written"
        if report.unchanged:
            counts += f", {report.unchanged:,} unchanged"
        failures = f"{rejected:,} rejected" if rejected else ""
        rate = self._rate(done)
        head = f"{done:,} of {'?' if total is None else format(total, ',')} · "
        head += f"{rate:,.0f} pictures/s" if rate >= 10 else f"{rate:.1f} pictures/s"
        if total is not None and rate > 0:
            head += f", {duration(max(total - done, 0) / rate)} left"
        return Reading(done, total, head, counts, failures)

    def __enter__(self) -> Display:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Show that the run has ended, and whether by an error or Ctrl-C."""

    def _rate(self, done: int) -> float:
        now = self._clock()
        while len(self._past) > 1 and now - self._past[1][0] >= WINDOW_SECONDS:
            self._past.popleft()
        if now - self._past[-1][0] >= EVERY_SECONDS:
            self._past.append((now, done))
        then, before = self._past[0]
        return (done - before) / (now - then) if now > then else 0.0

    def _draw(self, reading: Reading) -> None:
        raise NotImplementedError


class NotebookBar(Display):
    """A bar below a notebook's cell, redrawn in place; it stays when the run has ended."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        from IPython.display import display

        super().__init__(DELAY_SECONDS, EVERY_SECONDS, clock)
        self._show: Callable[..., Any] = display
        self._output: Any = None

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if self._last is None or self._output is None:
            return
        report, total = self._last
        reading = self.read(report, total)
        how = "Indexed" if kind is None else "Stopped after"
        took = f"in {duration(report.seconds)}, {report.rate:,.0f} pictures/s"
        self._draw(reading._replace(head=f"{how} {reading.done:,} pictures {took}"))

    def _draw(self, reading: Reading) -> None:
        from markupsafe import Markup

        counts = ", ".join(filter(None, [reading.counts, reading.failures]))
        value = Markup(' max="{}" value="{}"').format(max(reading.total or 1, 1), reading.done)
        html = Markup(
            '<div style="font-variant-numeric: tabular-nums; line-height: 1.6"><progress '
            'style="width: min(100%, 24em); vertical-align: middle; accent-color: #0b7a75" '
            'aria-label="Pictures indexed"{}></progress> {}<br>'
            '<span style="opacity: .75">{}</span></div>'
        ).format(value if reading.total else "", reading.head, counts)
        bundle = {"text/html": str(html), "text/plain": f"{reading.head} · {counts}"}
        if self._output is None:
            self._output = self._show(bundle, raw=True, display_id=True)
        else:
            self._output.update(bundle, raw=True)


class TerminalBar(Display):
    """A bar on a terminal, drawn by rich; gone when the run has ended."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, Progress, TextColumn
        from rich.table import Column

        super().__init__(0.0, EVERY_SECONDS, time.monotonic)
        self._bar = Progress(
            BarColumn(bar_width=16),
            TextColumn("{task.description}"),
            # what the others leave of a narrow terminal
            TextColumn("{task.fields[counts]}", "dim", table_column=Column(ratio=1, no_wrap=True)),
            console=console,
            transient=True,
            expand=True,
        )
        self._task = self._bar.add_task("", total=None, counts="")

    def __enter__(self) -> Display:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._bar.stop()

    def _draw(self, reading: Reading) -> None:
        failures = f" [yellow]{reading.failures}[/yellow]" if reading.failures else ""
        self._bar.update(
            self._task,
            total=reading.total,
            completed=reading.done,
            description=reading.head + failures,
            counts=reading.counts,
        )


class Lines(Display):
    """A plain line every ten seconds, for log files, by default to standard error."""

    def __init__(
        self, say: Callable[[str], None] | None = None, clock: Clock = time.monotonic
    ) -> None:
        super().__init__(LINE_SECONDS, LINE_SECONDS, clock)
        self._say = say or (lambda line: print(line, file=sys.stderr))

    def _draw(self, reading: Reading) -> None:
        place, pace = reading.head.split(" · ")
        counts = ", ".join(filter(None, [reading.counts, reading.failures]))
        self._say(f"{place} pictures: {counts} ({pace})")


@contextmanager
def shown(progress: Progress | bool | None) -> Iterator[Progress | None]:
    """The progress function that was asked for; see ``ImageIndex.add``."""
    if callable(progress):
        yield progress
        return
    notebook = progress is not False and in_notebook()
    if not notebook and progress is not True:
        yield None
        return
    from rich.console import Console

    with NotebookBar() if notebook else suiting(Console(stderr=True)) as place:
        yield place


def suiting(console: Console, say: Callable[[str], None] | None = None) -> Display:
    """A bar on a terminal that can redraw a line, lines elsewhere."""
    redraws = console.file.isatty() and not console.is_dumb_terminal
    return TerminalBar(console) if redraws else Lines(say)


def in_notebook() -> bool:
    """Whether this runs in the kernel of a notebook (Jupyter, VS Code, Colab)."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return hasattr(get_ipython(), "kernel") if get_ipython else False


def duration(seconds: float) -> str:
    """A time for people: ``0.4 s``, ``12 s``, ``3:05``, ``1:02:09``."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
