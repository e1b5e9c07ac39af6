"""How many terms a document keeps and a query picture asks with: words and pictures.

    python benchmarks/words.py --objects coco/labels.tsv --images dogs-vs-cats --json words.json

The TSV names, for each photo in its folder, the objects that are in it, with commas between them
(its first line is a heading). Each object's name is searched for as words, and every photo with it
is relevant; names that no synset has are left out. ``dog.17.jpg`` of --images is of the class
"dog": each photo is searched for with the others. Words ask with all that they name, so
--query-terms are of pictures alone. Pictures/s are those of adding --images to a file.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from needs import needs  # noqa: E402

from imgsearch_es import ImageIndex  # noqa: E402
from imgsearch_es.analysis.models import create_model  # noqa: E402
from imgsearch_es.errors import UnknownWordError  # noqa: E402
from imgsearch_es.evaluation import Judgements, Topic  # noqa: E402
from imgsearch_es.evaluation.sweeps import Point, sweep  # noqa: E402
from imgsearch_es.retrieval.language import parse_words  # noqa: E402

with needs("evaluation"):
    import ir_measures  # noqa: F401

JUDGEMENTS = "name:{label}.{number}.jpg"
BY_PICTURE = ("P@10", "AP")


def objects_of(table: Path) -> dict[str, dict[str, int]]:
    """By object, the photos that show it, as judgements."""
    found: dict[str, dict[str, int]] = {}
    with table.open(newline="", encoding="utf-8") as file:
        for name, objects, *_ in list(csv.reader(file, delimiter="\t"))[1:]:
            for each in filter(None, objects.split(",")):
                found.setdefault(each, {})[name] = 1
    return dict(sorted(found.items()))


def understood(word: str, model: str) -> bool:
    """Whether a synset of the model, or one above them, has this name."""
    try:
        parse_words(word, create_model(model).vocabulary)
    except UnknownWordError:
        return False
    return True


def measure(model: str, options: argparse.Namespace, cache: Path) -> dict[str, Any]:
    """All figures of a model."""
    grades = objects_of(options.objects)
    known = {word: seen for word, seen in grades.items() if understood(word, model)}
    shared = {"systems": "auto", "models": model, "top_k": options.terms, "timed": 0}
    shared |= {"compare": None, "interval": options.interval}
    words = sweep(
        options.objects.parent,
        Judgements(known),
        measures="AP",
        queries={word: Topic(text=word) for word in known},
        cache=cache / "words",
        **shared,
    )
    pictures = sweep(
        options.images,
        JUDGEMENTS,
        measures=",".join(BY_PICTURE),
        query_terms=options.query_terms,
        cache=cache / "pictures",
        **shared,
    )
    with ImageIndex(cache / f"{model}.duckdb", model=model) as index:
        index.add(options.objects.parent)  # and so load the model
        rate = index.add(options.images).rate
    return {
        "model": model,
        "pictures_per_second": rate,
        "words": {"understood": len(known), "of": len(grades), "points": plain(words.points)},
        "pictures": {"queries": pictures.queries, "points": plain(pictures.points)},
    }


def plain(points: tuple[Point, ...]) -> list[dict[str, Any]]:
    """Points as JSON values."""
    return [
        {
            "terms": point.top_k,
            "query_terms": point.query_terms,
            "bytes": point.bytes,
            **{name: [m.mean, m.low, m.high] for name, m in point.means.items()},
        }
        for point in points
    ]


def show(figures: list[float]) -> str:
    """A mean with its interval."""
    mean, low, high = figures
    return f"{mean:.3f}" if math.isnan(low) else f"{mean:.3f} [{low:.3f}, {high:.3f}]"


def rows(found: dict[str, Any]) -> list[list[str]]:
    """The table's rows of a model; a query that asks with all the terms there are comes once."""
    by_words = {point["terms"]: show(point["AP"]) for point in found["words"]["points"]}
    table, seen = [], set()
    for point in sorted(found["pictures"]["points"], key=lambda p: (p["terms"], p["query_terms"])):
        terms, asked = point["terms"], min(point["terms"], point["query_terms"])
        if (terms, asked) in seen:
            continue
        seen.add((terms, asked))
        row = [found["model"], str(terms), str(asked), f"{point['bytes']:,.0f}", by_words[terms]]
        row += [show(point[name]) for name in BY_PICTURE]
        table.append([*row, f"{found['pictures_per_second']:.0f}"])
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--objects", type=Path, required=True, metavar="TSV")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR")
    parser.add_argument("--models", default="efficientnet-lite0", metavar="A,B")
    parser.add_argument("--terms", default="10,20,50,100", metavar="N,N")
    parser.add_argument("--query-terms", default="10,20,1000", metavar="N,N")
    parser.add_argument("--interval", default="t", choices=("t", "bootstrap"))
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = [measure(model, options, Path(folder)) for model in options.models.split(",")]
    columns = ["model", "terms", "query terms", "bytes", "AP by words"]
    columns += [f"{name} by picture" for name in BY_PICTURE] + ["pictures/s"]
    print(f"| {' | '.join(columns)} |\n|---|{'---:|' * (len(columns) - 1)}")
    for row in (row for each in found for row in rows(each)):
        print(f"| {' | '.join(row)} |")
    words = found[0]["words"]
    print(f"\n{words['understood']} of {words['of']} names are understood; 95 % intervals")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
