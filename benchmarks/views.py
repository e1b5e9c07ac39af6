"""What parts of pictures bring, and what they cost.

    python benchmarks/views.py --images coco-sample --json views.json
    python benchmarks/views.py --images dogs-vs-cats --times 1

The pictures are indexed with the whole only, with ``tiles`` and with ``tiles14``, in turns. Where
the folder has labels.tsv (a line for each picture: its file, and its objects with commas between),
each object's name that the vocabulary knows is a query of words, and the mean average precision is
told. Else files are named by their class, as ``dog.17.jpg``, each is a query, and it is
precision@10 and the mean average precision, leave one out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from imgsearch_es import ImageIndex  # noqa: E402
from imgsearch_es.errors import QueryError  # noqa: E402

VIEWS = (None, "tiles", "tiles14")
ALL = 10_000


def average_precision(hits: Sequence[bool], relevant: int) -> float:
    """Of a ranking; what is not found counts as never reached."""
    found, total = 0, 0.0
    for rank, is_relevant in enumerate(hits, start=1):
        if is_relevant:
            found += 1
            total += found / rank
    return total / relevant


def by_words(index: ImageIndex, labels: Path) -> dict[str, float]:
    """Mean average precision of the objects' names."""
    rows = [line.split("\t") for line in labels.read_text(encoding="utf-8").splitlines()[1:]]
    objects = {name: set(filter(None, said.split(","))) for name, said in rows}
    objects = {name: objects[name] for name in objects if (labels.parent / name).exists()}
    scores = []
    for word in sorted(set().union(*objects.values())):
        relevant = {name for name, said in objects.items() if word in said}
        try:
            hits = index.search(text=word, k=ALL)
        except QueryError:  # a word that the vocabulary does not know
            continue
        scores.append(average_precision([h.filename in relevant for h in hits], len(relevant)))
    return {"words": len(scores), "mean_ap": round(statistics.mean(scores), 4)}


def by_picture(index: ImageIndex) -> dict[str, float]:
    """precision@10 and mean average precision of pictures of the same class."""
    documents = list(index.store.documents())
    kinds = {document.id: document.filename.partition(".")[0] for document in documents}
    best, scores = [], []
    for document in documents:
        hits = [hit for hit in index.search(image=document, k=ALL) if hit.id != document.id]
        same = [kinds[hit.id] == kinds[document.id] for hit in hits]
        best.append(sum(same[:10]) / 10)
        relevant = sum(kind == kinds[document.id] for kind in kinds.values()) - 1
        scores.append(average_precision(same, relevant))
    return {
        "precision_at_10": round(statistics.mean(best), 4),
        "mean_ap": round(statistics.mean(scores), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=Path, required=True, metavar="DIR")
    parser.add_argument("--model", default="efficientnet-lite0")
    parser.add_argument("--terms", type=int, default=50)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    config = {"model": options.model, "term_filters": [{"name": "top_k", "k": options.terms}]}
    rates: dict[str | None, list[float]] = {views: [] for views in VIEWS}
    rows = {}
    for turn in range(options.times):
        for views in VIEWS:
            analyzer = {**config, "views": views} if views else config
            with tempfile.TemporaryDirectory() as folder:
                index = ImageIndex(Path(folder, "x.duckdb"), analyzer=analyzer)
                index.analyzer.embedding_dimensions  # noqa: B018 - loads the model
                started = time.perf_counter()
                report = index.add(options.images, progress=False)
                rates[views].append(report.added / (time.perf_counter() - started))
                if turn == 0:
                    labels = options.images / "labels.tsv"
                    told = by_words(index, labels) if labels.exists() else by_picture(index)
                    rows[views] = {"views": views or "whole", "pictures": report.added, **told}
                index.close()
    for views, row in rows.items():
        row["pictures_per_second"] = round(statistics.median(rates[views]), 1)
    names = list(rows[None])
    print(f"| {' | '.join(names)} |\n|---|{'---:|' * (len(names) - 1)}")
    for row in rows.values():
        print(f"| {' | '.join(str(row[name]) for name in names)} |")
    if options.json:
        result = {"model": options.model, "terms": options.terms, "rows": list(rows.values())}
        options.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
