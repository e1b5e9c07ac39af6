"""``imgsearch search``, ``explain``, ``analyze`` and others: pictures found, and why."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from imgsearch_es.interfaces.cli import options
from imgsearch_es.interfaces.cli.options import Analyzing, Count, Index, Natural, Positive, Where
from imgsearch_es.interfaces.cli.output import (
    Taken,
    answer,
    fail,
    json_only,
    print_hit,
    print_hits,
    print_table,
    say,
    short,
    warn,
)

if TYPE_CHECKING:
    from imgsearch_es.analysis.analyzer import Analyzer
    from imgsearch_es.index import ImageIndex

_PAGE = 1000
"""Hits in one request of --all."""


@dataclass(frozen=True)
class Asked:
    """What to search for, and how to score.

    Options:
        words WORDS: Words and conditions: tabby cat, 'dog^2 +ball -poodle label:pets width:>=800'.
            Put the line in quotation marks when it has more than words. A file, a URL or the id of
            a picture in the index is a picture, as with --image.
        --image FILE: A picture, or the id of one indexed. May be repeated: the mean counts.
        --strategy: How to score: auto (formula (1), the paper's), tfidf, cosine, sqrt, bm25,
            dense-cosine, ...; `imgsearch models --strategies` lists them.
        --parameter NAME=NUMBER: A parameter of the strategy: k1=1.2 or b=0.75 of bm25. May be
            repeated.
        --fuse PART=WEIGHT,...: Fuse parts instead of taking one strategy:
            image=1,words=0.5,dense-cosine=2. A part is image, words or a strategy.
        --fusion: How to fuse: sum (of weighted scores) or rrf (reciprocal rank fusion).
        --rank-constant: Of rrf: a part adds weight / (this + rank).
        --window: Of rrf: how many pictures each part ranks.
        --lexicon FILE: Words of another language: a wordnet in WN-LMF, as the Open Multilingual
            Wordnet has them. By default IMGSEARCH_LEXICON, which all commands and notebooks read.
    """

    words: list[str] | None = None
    image: list[str] | None = None
    where: Where = None
    strategy: str = "auto"
    parameter: list[str] | None = None
    fuse: str | None = None
    fusion: str = "sum"
    rank_constant: int = 60
    window: int = 100
    lexicon: Path | None = None

    def told(self, source: ImageIndex) -> dict[str, Any]:
        """The pictures, and what of the words are none."""
        from imgsearch_es.search.query_pictures import told_apart

        pictures, text = told_apart(source.store, self.words or ())
        return {"image": [*pictures, *(self.image or ())] or None, "text": text}

    def request(self, **others: Any) -> dict[str, Any]:
        """The arguments of ``ImageIndex.search``, but for those that ``told`` gives."""
        given = (self.image, self.words, self.where, *map(others.get, ("like", "sort")))
        if not any(given) and others.get("vector") is None:
            fail("what to search for? Give words, --image FILE, or both", code=2)
        return {
            "where": options.conditions(self.where),
            "strategy": self.strategy,
            "parameters": options.parameters(self.parameter),
            "fuse": options.fusion(self.fuse, self.fusion, self.rank_constant, self.window),
            **others,
        }


@dataclass(frozen=True)
class Refined:
    """What only a search takes.

    Options:
        --offset: Leave out this many of the best.
        --exclude-self: Leave out the query's own pictures; the default for a picture with words.
        --text TEXT: A free text, for the strategies dense-* and an index whose model reads texts
            (zeroshot:PRESET).
        --vector FILE: A deep feature, for the strategies dense-*: a .npy file, or a text file of
            numbers; - reads standard input.
        --like FILE: A picture (or id) to search closer to. May be repeated.
        --dislike FILE: A picture (or id) to search further from. May be repeated.
        --region LEFT,TOP,RIGHT,BOTTOM: The part of the picture to search for: pixels such as
            10,20,200,220, or fractions of it where all are 1 or less.
        --views VIEW: Also look at the query picture's mirror, rotations or crops. May be repeated.
        --feedback: Search twice, the second time with this many of the best hits as liked pictures.
        --rocchio ALPHA,BETA,GAMMA: The weights of the query, the liked and the disliked pictures;
            1,0.75,0.15 unless given.
        --min-score: Leave out hits that score less; of a distance give minus the largest.
        --approximate: Compare only the nearest candidates, so hits may be missing. For
            dense-cosine, dense-dot or dense-euclidean, on an index made with --vectors; in a file
            for dense-cosine.
        --candidates: How many, with --approximate; 200 by default.
        --sort FIELD: List what matches instead of scoring it, by taken_at (newest first),
            indexed_at, width, height, bytes, filename, uri or metadata.NAME; -FIELD reverses the
            order. Conditions without words are listed by taken_at.
    """

    offset: Natural = 0
    exclude_self: bool | None = None
    text: str | None = None
    vector: str | None = None
    like: list[str] | None = None
    dislike: list[str] | None = None
    region: str | None = None
    views: list[str] | None = None
    feedback: Natural = 0
    rocchio: str | None = None
    min_score: float | None = None
    approximate: bool = False
    candidates: options.OptionalPositive = None
    sort: str | None = None

    def request(self) -> dict[str, Any]:
        """As arguments of ``ImageIndex.search``."""
        from imgsearch_es.retrieval.feedback import Rocchio

        request = options.given(vars(self))
        if self.vector is not None:
            request["vector"] = options.vector(self.vector)
        if self.region is not None:
            what = "--region is left,top,right,bottom, four"
            request["region"] = options.numbers(self.region, what)
        if self.rocchio is not None:
            weights = options.numbers(self.rocchio, "--rocchio is alpha,beta,gamma, three", 3)
            request["rocchio"] = Rocchio(*weights)
        return request


def search(
    *,
    index: Index = None,
    asked: Asked,
    k: options.OptionalPositive = None,
    refined: Refined,
    all_: bool = False,
    rerank: bool = False,
    taken: Taken,
    analyzing: Analyzing,
) -> None:
    """Find pictures by words, by a picture, or by both.

    Options:
        --k, -k: How many hits; 10 by default.
        --all: Print all hits, a line each as they come; with --json an object a line.
        --rerank: Put hits in k-reciprocal order, of the strategies dense-*.
    """
    query = asked.request(**refined.request())
    if all_ and (k or taken.html or rerank or taken.csv):
        fail("--all gives every hit as it comes: leave out -k, --html, --rerank and --csv", code=2)
    if taken.prints and json_only.get():
        fail("--json, --paths and --csv print hits in different forms: give one", code=2)
    with analyzing.open(index, lexicon=asked.lexicon) as source:
        query |= asked.told(source)
        if all_:
            _print_all(source, query, taken)
            return
        hits = source.search(**query, k=k or 10)
    if rerank:
        hits = hits.rerank()
    said = taken.take(hits)
    if taken.prints:
        taken.print(hits)
    elif not answer(hits):
        print_hits(hits)
        say(*said)


def explain(
    *,
    index: Index = None,
    asked: Asked,
    picture: str | None = None,
    k: Count = 3,
    analyzing: Analyzing,
) -> None:
    """Show why pictures were found, synset by synset.

    A picture's score is the sum of query weight x picture score: formula (1) of the paper. With
    --fuse it is the sum of what the parts contribute, and the synsets of a part are below it.

    Options:
        --picture: Explain this indexed picture (id or path) instead of the best hits.
    """
    from imgsearch_es.interfaces.html import number
    from imgsearch_es.retrieval.queries import asked_of

    given, wanted = asked.request(), None
    with analyzing.open(index, lexicon=asked.lexicon) as target:
        query = target.query(**given, **asked.told(target), k=k)
        if picture is not None:
            wanted = target.get(picture).id
            query = asked_of(query, wanted)
        (hits,) = target.search_many([query])
        explanations = [hits.explain(i) for i, hit in enumerate(hits) if wanted in (None, hit.id)]
    if answer({"query": str(hits.query), "explanations": [e.to_dict() for e in explanations]}):
        return
    if hits.query.sort is not None:
        say(f"nothing to explain: conditions alone score nothing ({hits.query})")
        return
    if not explanations:
        what = f"{picture} is not among the best of" if len(hits) else "no picture matches"
        say(f"nothing to explain: {what} {hits.query}")
    for explanation in explanations:
        place = f"{explanation.hit.rank}. " if wanted is None else ""
        shown = short(explanation.hit.path or explanation.hit.uri)
        say(f"{place}{shown}  score {explanation.total:.6g}")
        if explanation.hit.parts:
            columns = ("part", "weight", "score", "contribution")
            rows: list[tuple[str, ...]] = [*explanation.lines()]
        else:
            columns = ("synset", "query", "picture", "product")
            rows = [
                (explanation.placed(key), *map(number, factors))
                for key, *factors in explanation.rows
            ]
        print_table(columns, rows, right=columns[1:])


def word(*, word: str, index: Index = None, k: Count = 10, html: Path | None = None) -> None:
    """Show what a visual word stands for, and the pictures with most of it.

    Its name has the synsets that the classifier draws most from this number
    of the deep feature.

    Options:
        word WORD: Such as vw412, as `imgsearch explain` shows them.
        --html FILE: Write a gallery page, too.
    """
    with options.opened(index) as target:
        hits = target.word(word, k)
        page = hits.to_html(html) if html is not None else None
    if answer({"word": word, "name": hits.query.part, **hits.to_dict()}):
        return
    print_hits(hits)
    if page is not None:
        say(f"gallery: {page}")


def analyze(*, pictures: list[str], index: Index = None, analyzing: Analyzing) -> None:
    """Show the terms that an analyzer gives a picture, and its colors.

    It is what Elasticsearch's _analyze does for text. With --index the analyzer of that index,
    else that of --model or --analyzer.

    Options:
        pictures PICTURE: Files or URLs.
    """
    from imgsearch_es.errors import ImageError
    from imgsearch_es.vocabulary.colors import COLOR_SYNSETS

    analyzer = _analyzer(index, analyzing)
    known = {synset.key: synset for synset in (*analyzer.vocabulary, *COLOR_SYNSETS)}
    answers, is_whole = [], True
    for name in pictures:
        try:
            picture = analyzer.open(name)
        except ImageError as error:
            is_whole = False
            warn(str(error))
            continue
        tokens, rows = [], []
        analysis = analyzer.analyze(picture.image)
        for position, term in enumerate(analysis.terms + analysis.colors):
            synset = known[term.key]
            wnid, words = synset.wnid, list(synset.lemmas)
            token = {"position": position, "token": term.key, "score": term.score}
            tokens.append({**token, "wnid": wnid, "words": words})
            rows.append((term.key, f"{term.score:.4f}", wnid, ", ".join(words)))
        answers.append({"uri": picture.uri, "tokens": tokens})
        say(picture.uri)
        print_table(("token", "score", "wnid", "words"), rows, right=("score",))
    answer({"analyzer": analyzer.config, "pictures": answers})
    if not is_whole:
        raise typer.Exit(1)


def _analyzer(index: str | None, analyzing: Analyzing) -> Analyzer:
    from imgsearch_es.analysis.analyzer import Analyzer
    from imgsearch_es.analysis.configuration import DEFAULT_MODEL

    if index is not None:
        with analyzing.open(index) as source:
            return source.analyzer
    if analyzing.analyzer is not None:
        return Analyzer(analyzing.analyzer, runtime=analyzing.runtime)
    model = options.given({"name": analyzing.model or DEFAULT_MODEL, "weights": analyzing.weights})
    return Analyzer({"model": model}, runtime=analyzing.runtime)


def facets(
    *,
    words: list[str] | None = None,
    index: Index = None,
    where: Where = None,
    field: list[str] | None = None,
    size: Positive = 10,
) -> None:
    """Count synsets, labels, formats and sizes.

    Of the pictures that match the words and meet the conditions, or of all.

    Options:
        words WORDS: Words and conditions, as in `imgsearch search`.
        --field: What to count: top_synset, synsets (traces, too), label, format, width, height,
            bytes, year, month, camera, lens, keywords, place, album, metadata.<name>. May be
            repeated.
        --size: Values of each field.
    """
    from imgsearch_es.retrieval.facets import FACETS

    with options.opened(index) as target:
        counted = target.facets(words, field or FACETS, size, where=options.conditions(where))
    answer(counted)
    for name, counts in counted.items():
        if counts:
            rows = [(item["value"], item["count"]) for item in counts]
            print_table((name, "pictures"), rows, right=("pictures",))
        else:
            say(f"{name}: none")


def duplicates(*, index: Index = None, near: float | None = None) -> None:
    """Show groups of pictures that are the same.

    Files with the same bytes; with --near also pictures that look alike. In
    each group the largest picture comes first, with its cosine to the others.

    Options:
        --near: Also all pictures whose deep features have at least this cosine, such as 0.95.
    """
    from imgsearch_es.pictures.files import to_path

    with options.opened(index) as target:
        groups = target.duplicates(near)
    answer([group.to_dict() for group in groups])
    for number, group in enumerate(groups, start=1):
        kind = "the same bytes" if group.exact else "nearly the same"
        say(f"{number}. {len(group.pictures)} pictures, {kind}")
        for document, similarity in zip(group.pictures, group.similarities, strict=True):
            shown = "     " if similarity is None else f"{similarity:.3f}"
            size = f"{document.width} x {document.height}"
            place = short(to_path(document.uri) or document.uri)
            say(f"   {shown}  {size:>11}  {document.bytes / 1024:>8,.0f} KB  {place}")
    extra = sum(len(group.pictures) - 1 for group in groups)
    say(f"{extra} more than one of each, in groups: {len(groups)}" if groups else "none")


def _print_all(source: ImageIndex, query: dict[str, Any], taken: Taken) -> None:
    """Print hits page by page, as lines that programs can read on the way."""
    # Closed also when the reader of our output goes away: the server's point in time ends.
    with closing(source.pages(**query, size=_PAGE)) as pages:
        for hits in pages:
            said = taken.take(hits)
            if taken.prints:
                taken.print(hits)
                continue
            say(*said)
            for hit in hits:
                print_hit(hit, hits.query)
