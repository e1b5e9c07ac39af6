"""Derive the table of near words that imgsearch_es ships, from WordNet 3.0.

Reads Debian's wordnet-base (``apt-get install --no-install-recommends wordnet-base``) and writes
``near.tsv.xz``: for words that name no synset of ImageNet's classes and none above them, the
classes that come nearest, with weights; "ox" for "cow". Words with the same classes share a line.

A word has those senses that are things to be seen (WordNet's files of animals, artifacts, body
parts, food, objects, persons, plants and substances) and that are not rare by WordNet's counts.
The first of these that gives something counts:

- the graph: classes whose similarity to a sense is at least 0.6 by Lin (ICML 1998) with the
  information content of Seco, Veale and Hayes (ECAI 2004), which needs no corpus; 0.8 of it over a
  whole or a part; 0.7 for a class that has the name of the sense or of one right below it. With
  them classes with the word in their name ("toilet seat"): 0.6.
- glosses: classes in whose definition the word is, if these are at most twelve: 0.5.
- what is above: classes below the nearest synset that has some, if these are at most twelve: 0.4.
- the graph again, from 0.45 on: 0.4.

    python tools/build_near.py [--wordnet DIR] [--output DIR]
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from build_synsets import DATA, Entry, read_nouns, write  # noqa: E402

from imgsearch_es.vocabulary.synsets import imagenet  # noqa: E402
from imgsearch_es.vocabulary.words import STOP_WORDS, normalize, singulars  # noqa: E402

SEEN = frozenset(("05", "06", "08", "13", "17", "18", "20", "27"))
RELATED = SEEN - {"05"}  # a water buffalo is no water
GRAPH, NAME, BRIDGE, GLOSS, ABOVE, WEAK = 0.6, 0.6, 0.7, 0.5, 0.4, 0.45
OVER_PARTS, ALIKE, TIES, MOST, FEW = 0.8, 0.45, 0.95, 8, 12
RARE = 8
"""A sense so many times rarer than the word's first is left out; of verbs and the like half so."""

Weights = dict[str, float]


class WordNet:
    """The nouns, their senses in the order of their counts, and ImageNet's classes among them."""

    def __init__(self, folder: Path) -> None:
        self.nouns, _ = read_nouns(folder / "data.noun")
        self._above: dict[str, frozenset[str]] = {}
        self.classes = {synset.wnid: synset for synset in imagenet()}
        self.children: defaultdict[str, list[str]] = defaultdict(list)
        self.size: Counter[str] = Counter()
        for wnid, entry in self.nouns.items():
            for parent in entry.parents:
                self.children[parent].append(wnid)
            self.size.update(self.above(wnid))
        self.below: defaultdict[str, list[str]] = defaultdict(list)
        for wnid in self.classes:
            for parent in self.above(wnid):
                self.below[parent].append(wnid)
        self.counts, self.other = self._counts(folder / "cntlist.rev")
        self.senses = dict(self._senses(folder / "index.noun"))
        self.named: defaultdict[str, list[str]] = defaultdict(list)
        self.within: defaultdict[str, set[str]] = defaultdict(set)
        self.defined: defaultdict[str, set[str]] = defaultdict(set)
        for wnid, synset in self.classes.items():
            self.named[normalize(synset.name)].append(wnid)
            if self.nouns[wnid].file not in RELATED:
                continue
            for lemma in synset.lemmas:
                if " " in normalize(lemma):
                    self._note(self.within, lemma, wnid)
            self._note(self.defined, re.split(r"; |\(", synset.gloss)[0], wnid)

    def above(self, wnid: str) -> frozenset[str]:
        """A synset and all above it."""
        if wnid not in self._above:
            parents = map(self.above, self.nouns[wnid].parents)
            self._above[wnid] = frozenset([wnid]).union(*parents)
        return self._above[wnid]

    def information(self, wnid: str) -> float:
        """Intrinsic information content: 1 at the leaves, 0 at the root."""
        return 1 - math.log(self.size[wnid]) / math.log(len(self.nouns))

    def similarities(self, wnid: str) -> Weights:
        """Lin's similarity of each class: how much of what is said of both is said alike."""
        shared: Weights = {}
        for above in sorted(self.above(wnid), key=self.information, reverse=True):
            for other in self.below.get(above, ()):
                shared.setdefault(other, self.information(above))
        own = self.information(wnid)
        return {other: 2 * both / (own + self.information(other)) for other, both in shared.items()}

    @staticmethod
    def _note(table: dict[str, set[str]], text: str, wnid: str) -> None:
        for word in normalize(text).split():
            for form in (word, *singulars(word)):
                if form not in STOP_WORDS:
                    table[form].add(wnid)

    @staticmethod
    def _counts(path: Path) -> tuple[dict[tuple[str, int], int], Counter[str]]:
        """Of nouns by lemma and number of the sense; of others the largest by lemma."""
        nouns: dict[tuple[str, int], int] = {}
        other: Counter[str] = Counter()
        for line in path.read_text(encoding="utf-8").splitlines():
            key, number, count = line.split()
            lemma, _, rest = key.partition("%")
            if rest.startswith("1"):
                nouns[lemma, int(number)] = int(count)
            else:
                other[lemma] = max(other[lemma], int(count))
        return nouns, other

    def _senses(self, path: Path) -> Iterator[tuple[str, list[tuple[str, int]]]]:
        for line in path.read_text(encoding="utf-8").splitlines():
            if not line.startswith(" "):
                lemma, _, count, *fields = line.split()
                wnids = [f"n{offset}" for offset in fields[-int(count) :]]
                numbered = enumerate(wnids, start=1)
                yield lemma, [(wnid, self.counts.get((lemma, i), 0)) for i, wnid in numbered]

    def seen(self, lemma: str) -> list[str]:
        """The senses of a lemma that are things to be seen and not rare, in WordNet's order."""
        senses = self.senses[lemma]
        most = max(RARE // 2 * (self.other[lemma] + 1) // 2, *(count + 1 for _, count in senses))
        kept = [wnid for wnid, count in senses if (count + 1) * RARE >= most]
        return [wnid for wnid in kept if self._is_thing(lemma, self.nouns[wnid])]

    @staticmethod
    def _is_thing(lemma: str, entry: Entry) -> bool:
        """Whether a sense is to be seen, and no name, capitalized but for Frisbees and Brie."""
        return entry.file in SEEN and (entry.file in ("06", "13") or lemma in entry.lemmas)


class Nearest:
    """Finds the classes that come nearest to a word."""

    def __init__(self, wordnet: WordNet) -> None:
        self.net = wordnet

    def of(self, lemma: str) -> Weights:
        """By wnid; nothing where nothing is near."""
        senses, form = self.net.seen(lemma), normalize(lemma)
        graphs = [self.graph(sense) for sense in senses]
        best = max(graphs, key=lambda found: max(found.values()), default={})
        found = {wnid: weight for wnid, weight in best.items() if weight >= GRAPH}
        if not senses:
            return {}
        for wnid in self.net.within.get(form, ()):
            found[wnid] = max(NAME, found.get(wnid, 0.0))
        if found:
            return found
        if 0 < len(self.net.defined.get(form, ())) <= FEW:
            return dict.fromkeys(self.net.defined[form], GLOSS)
        if above := self.above(senses[0]):
            return above
        return {wnid: ABOVE for wnid, weight in best.items() if weight >= WEAK}

    def graph(self, sense: str) -> Weights:
        """The most similar classes, whatever their similarity."""
        net, entry = self.net, self.net.nouns[sense]
        own = net.similarities(sense)
        found = dict(own)
        for other in entry.joined:
            for wnid, similarity in net.similarities(other).items():
                found[wnid] = max(found[wnid], OVER_PARTS * similarity)
        below = [(net.nouns[child].lemmas[0], 0.0) for child in net.children[sense]]
        for lemma, least in (*((lemma, ALIKE) for lemma in entry.lemmas), *below):
            for wnid in net.named.get(normalize(lemma), ()):
                if net.nouns[wnid].file == entry.file and own[wnid] >= least:
                    found[wnid] = max(found[wnid], BRIDGE)
        least = TIES * max(found.values())
        near = [wnid for wnid, weight in found.items() if weight >= least]
        return {wnid: found[wnid] for wnid in sorted(near, key=lambda w: (-found[w], w))[:MOST]}

    def above(self, sense: str) -> Weights:
        """The classes below the nearest synset above a sense that has some, if they are few."""
        waiting = [sense]
        while waiting:
            wnid = waiting.pop(0)
            if wnid in self.net.below:
                classes = self.net.below[wnid]
                return dict.fromkeys(classes, ABOVE) if len(classes) <= FEW else {}
            waiting += self.net.nouns[wnid].parents
        return {}


def rows(net: WordNet) -> list[tuple[str, str]]:
    """(words, classes with weights), the words that have the same classes together."""
    nearest, vocabulary = Nearest(net), imagenet()
    together: defaultdict[str, set[str]] = defaultdict(set)
    for lemma in net.senses:
        form = normalize(lemma)
        if form and not vocabulary.named_by(form):
            found = nearest.of(lemma)
            ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))
            if shown := " ".join(f"{wnid}:{weight:.2f}" for wnid, weight in ordered):
                together[shown].add(form)
    return sorted(("|".join(sorted(words)), shown) for shown, words in together.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"), metavar="DIR")
    parser.add_argument("--output", type=Path, default=DATA, metavar="DIR")
    options = parser.parse_args()
    write(options.output / "near.tsv.xz", ("words", "near"), rows(WordNet(options.wordnet)))


if __name__ == "__main__":
    main()
