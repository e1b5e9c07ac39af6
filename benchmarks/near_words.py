"""What becomes of words: how many are classes, stand above some, come near some, or are unknown.

    python benchmarks/near_words.py --wordnet /usr/share/wordnet --objects coco/labels.tsv

Of COCO's 80 names and of the 300 most frequent nouns by WordNet's counts whose first sense is a
thing: an animal, artifact, food, object, person or plant. The TSV is that of words.py: AP is the
mean of the names that its photos show, by kind, beside that of a random order (the share of
relevant photos).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from build_near import SEEN, WordNet  # noqa: E402
from words import objects_of  # noqa: E402

from imgsearch_es import ImageIndex  # noqa: E402
from imgsearch_es.vocabulary.synsets import imagenet  # noqa: E402

COCO = """
person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,
stop sign,parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,
backpack,umbrella,handbag,tie,suitcase,frisbee,skis,snowboard,sports ball,kite,baseball bat,
baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,cup,fork,knife,spoon,
bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,
potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,
oven,toaster,sink,refrigerator,book,clock,vase,scissors,teddy bear,hair drier,toothbrush
""".replace("\n", "").split(",")
KINDS = ("a class", "above classes", "doubtful", "near", "in part", "unknown")


def kind_of(text: str) -> str:
    """The kind of a name: "in part" where a word of it is left out."""
    hows = {found.how for found in imagenet().resolve_text(text)}
    if "unknown" in hows:
        return "unknown" if hows == {"unknown"} else "in part"
    if kind := next((kind for kind in ("near", "doubtful") if kind in hows), ""):
        return kind
    return "above classes" if "hypernym" in hows else "a class"


def common_nouns(folder: Path, count: int = 300) -> list[str]:
    """The most frequent nouns whose first sense is a thing; equally frequent ones by name."""
    net, things = WordNet(folder), SEEN - {"08", "27"}
    found = {
        lemma: senses[0][1]
        for lemma, senses in net.senses.items()
        if lemma.isalpha() and net.nouns[senses[0][0]].file in things
        if senses[0][0] in net.seen(lemma)
    }
    return sorted(found, key=lambda lemma: (-found[lemma], lemma))[:count]


def average_precision(ranked: Sequence[str], relevant: set[str]) -> float:
    """Of a ranking of file names."""
    is_relevant = np.array([name in relevant for name in ranked])
    ranks = np.flatnonzero(is_relevant) + 1
    return float((np.arange(1, len(ranks) + 1) / ranks).sum() / len(relevant))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"), metavar="DIR")
    parser.add_argument("--objects", type=Path, required=True, metavar="TSV")
    options = parser.parse_args()
    lists = [Counter(map(kind_of, words)) for words in (COCO, common_nouns(options.wordnet))]
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    with (
        tempfile.TemporaryDirectory() as folder,
        ImageIndex(Path(folder) / "coco.duckdb", model="efficientnet-lite0") as index,
    ):
        total = index.add(options.objects.parent).added
        for name, grades in objects_of(options.objects).items():
            kind, ranked = kind_of(name), []
            if kind != "unknown":
                ranked = [hit.filename for hit in index.search(text=name, k=total)]
            row = average_precision(ranked, set(grades)), len(grades) / total
            found[kind].append(row)
    print("| a word | COCO's 80 | 300 nouns | names shown | AP | by chance |")
    print("|---|---:|---:|---:|---:|---:|")
    for kind, rows in found.items():
        means = [f"{value:.2f}" for value in np.mean(rows, axis=0)] if rows else ["", ""]
        counts = [str(each[kind]) for each in lists]
        print(f"| {' | '.join([kind, *counts, str(len(rows)), *means])} |")


if __name__ == "__main__":
    main()
