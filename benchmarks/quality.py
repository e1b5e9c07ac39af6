"""How well strategies and fusions find photos of the same class, leave one out.

    python benchmarks/quality.py --images dogs-vs-cats --out quality

``dog.17.jpg`` is of the class "dog". Each photo is searched for with the others, and every system
is compared with formula (1) on the same queries. Photos keep, and ask with, ten terms as in the
paper; benchmarks/words.py says what more terms give.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from needs import needs  # noqa: E402

from imgsearch_es import ImageIndex  # noqa: E402
from imgsearch_es.evaluation import evaluate  # noqa: E402
from imgsearch_es.retrieval.strategies import METHODS, STRATEGIES  # noqa: E402

with needs("evaluation"):
    import ir_measures  # noqa: F401

JUDGEMENTS = "name:{label}.{number}.jpg"
MEASURES = "P@10,nDCG@10,AP"
SAME_AS_AUTO = ("impact", "script", "script-filtered")
FUSED = (
    "auto+dense-cosine",
    "sqrt+dense-cosine",
    "sqrt=1+dense-cosine=2",
    "sqrt=1+dense-euclidean=0.1",
)
"""Weights of synsets and deep features, each fused by both methods."""


def systems() -> list[str]:
    """Every formula once, and the fusions."""
    chosen = [name for name in STRATEGIES if name not in SAME_AS_AUTO]
    suffixes = {"sum": "", "rrf": ":rrf:window=1000"}
    return chosen + [name + suffixes[method] for method in METHODS for name in FUSED]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=Path, required=True, metavar="DIR")
    parser.add_argument("--model", default="efficientnet-lite0")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--out", type=Path, metavar="DIR", help="runs, plots and the manifest")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        ImageIndex(f"{folder}/quality.duckdb", model=options.model, terms=10) as index,
    ):
        index.add(options.images)
        found = evaluate(index, JUDGEMENTS, systems(), MEASURES, compare="auto")
    print(found.to_markdown())
    if options.json:
        options.json.write_text(json.dumps(found.to_dict(), indent=2))
    if options.out:
        found.write(options.out)


if __name__ == "__main__":
    main()
