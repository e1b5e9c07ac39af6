"""Derive the tables of near words that imgsearch_es ships, from WordNet 3.0.

Reads Debian's wordnet-base (``apt-get install --no-install-recommends wordnet-base``) and writes
three tables. Words with the same classes share a line.

``near.tsv.xz``: for words that name no synset of ImageNet's classes and none above them, the
classes that come nearest, with weights; "ox" for "cow".

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

``doubts.tsv``: for words that name a synset whose sense is doubtful the classes that they stand
for, with weights:

- one class alone is of the kind that the word names ("mirror": the car's), by Lin's similarity;
- another sense is a thing to be seen, not similar (0.6) nor defined by the word ("the fur of an
  otter"), and its count is larger by two at least;
  or, of a word for one class, that sense comes before in WordNet's order, is in another of its
  files, and is no person ("kite": the bird, before it the toy). A class of that name stays by 1,
  others by 0.4, or not at all where the sense is rare as above and the graph gives something for
  the other one: it adds what comes near that, from 0.78 on ("plane": the
  tool, and airliners). Where a class of the name is in the same file as the other
  sense, and nothing is added, there is no doubt.

``alike.tsv.xz``: for other words with a count the three classes to suggest whose definitions are
most alike, best first: by the cosine of their words, weighted by tf-idf, after Banerjee and
Pedersen (CICLing 2002) with those of the synsets right above and below; of at least 0.06.

    python tools/build_near.py [--wordnet DIR] [--output DIR]
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from build_synsets import DATA, read_nouns, write  # noqa: E402

from imgsearch_es.vocabulary.synsets import Synset, imagenet  # noqa: E402
from imgsearch_es.vocabulary.words import STOP_WORDS, normalize, singulars  # noqa: E402

SEEN = frozenset(("05", "06", "08", "13", "17", "18", "20", "27"))
RELATED = SEEN - {"05"}  # a water buffalo is no water
GRAPH, NAME, BRIDGE, GLOSS, ABOVE, WEAK = 0.6, 0.6, 0.7, 0.5, 0.4, 0.45
SURE = 0.78
OVER_PARTS, ALIKE, TIES, MOST, FEW = 0.8, 0.45, 0.95, 8, 12
RARE = 8
"""A sense so many times rarer than the word's first is left out; of verbs and the like half so."""

SENSES, SUGGESTED, DEFINED = 4, 3, 0.06
PERSON = "18"
EATEN = ({"13", "20"}, {"13", "05"})
"""Files of food, and of the plants and animals that it is of: alike to the eye."""

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
        return [wnid for wnid in kept if self.is_thing(lemma, wnid)]

    def is_thing(self, lemma: str, wnid: str) -> bool:
        """Whether a sense is to be seen, and no name, capitalized but for Frisbees and Brie."""
        entry = self.nouns[wnid]
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


class Doubtful(Nearest):
    """Finds what is meant by words that name a synset, where that is doubtful."""

    def of(self, lemma: str) -> Weights:
        """By wnid; nothing where there is no doubt."""
        own, form = imagenet(), normalize(lemma)
        keys = own.named_by(form)
        known = {synset.key: synset for synset in (*own, *own.ancestors)}
        named = [known[key].wnid for key in keys]
        classes = [own[key].wnid for key in own.keys if key in own.classes(keys)]
        is_class = any(key in own and form in _names(own[key]) for key in keys)
        count_of = dict(self.net.senses[lemma])
        most = max(count_of.get(wnid, 0) for wnid in named)
        others = self._others(lemma, named, is_alone=len(classes) == 1)
        best, count = max(others, key=lambda item: item[1], default=("", 0))
        near = {} if count <= most else self.graph(best)
        near = {wnid: weight for wnid, weight in near.items() if weight >= SURE}
        if is_class:
            files = {self.net.nouns[wnid].file for wnid in named}
            are_other = any(self.net.nouns[wnid].file not in files for wnid, _ in others)
            return {**near, **dict.fromkeys(classes, 1.0)} if near or are_other else {}
        if others and near and (most + 1) * RARE <= count + 1:
            return near
        if others:
            return {**dict.fromkeys(classes, ABOVE), **near}
        if len(classes) > 1 or classes[0] in named:
            return {}
        return {classes[0]: max(self.net.similarities(wnid)[classes[0]] for wnid in named)}

    def _others(self, lemma: str, named: Sequence[str], *, is_alone: bool) -> list[tuple[str, int]]:
        """Other senses that may be meant, with their counts."""
        senses = self.net.senses[lemma]
        order = [wnid for wnid, _ in senses]
        known = max(dict(senses).get(wnid, 0) for wnid in named)
        first = min((order.index(wnid) for wnid in named if wnid in order), default=len(order))
        files = {self.net.nouns[wnid].file for wnid in named} | {PERSON}
        return [
            (wnid, count)
            for place, (wnid, count) in enumerate(senses)
            if self.net.is_thing(lemma, wnid) and not self._is_defined_by(wnid, lemma)
            if not any(self._are_alike(wnid, own) for own in named)
            if count > known + 1
            or (is_alone and place < first and self.net.nouns[wnid].file not in files)
        ]

    def _is_defined_by(self, wnid: str, lemma: str) -> bool:
        """Whether a definition has the word: "the fur of an otter"."""
        definition = normalize(re.split('; "', self.net.nouns[wnid].gloss)[0])
        return f" {normalize(lemma)} " in f" {definition} "

    def _are_alike(self, one: str, other: str) -> bool:
        net, files = self.net, {self.net.nouns[one].file, self.net.nouns[other].file}
        shared = net.above(one) & net.above(other)
        most = max(map(net.information, shared))
        similarity = 2 * most / (net.information(one) + net.information(other))
        return files in EATEN or not shared.isdisjoint((one, other)) or similarity >= GRAPH


class Glosses:
    """Compares the definitions of words with those of the classes."""

    def __init__(self, net: WordNet) -> None:
        self.net = net
        entries = net.nouns.values()
        self._in = Counter(word for entry in entries for word in {*self._words(entry.gloss)})
        self._classes: defaultdict[str, list[tuple[str, float]]] = defaultdict(list)
        for wnid in net.classes:
            for word, weight in self._vector(wnid).items():
                self._classes[word].append((wnid, weight))

    def alike(self, lemma: str) -> list[str]:
        """The classes to suggest for a word, best first; of an earlier sense rather."""
        senses = self.net.senses[lemma]
        most = max(count + 1 for _, count in senses)
        best: Weights = {}
        for place, (sense, count) in enumerate(senses[:SENSES]):
            cosines: Counter[str] = Counter()
            for word, weight in self._vector(sense).items() if (count + 1) * RARE >= most else ():
                for wnid, other in self._classes.get(word, ()):
                    cosines[wnid] += weight * other  # type: ignore[assignment]
            for wnid, cosine in cosines.items():
                if cosine >= DEFINED:
                    best[wnid] = max(cosine / (1 + place / SENSES), best.get(wnid, 0.0))
        return sorted(best, key=lambda wnid: (-best[wnid], wnid))[:SUGGESTED]

    def _words(self, text: str) -> Iterator[str]:
        """The words of a definition, without examples."""
        for word in normalize(re.split('; "|"', text.replace("_", " "))[0]).split():
            form = word if word in self.net.senses else next(singulars(word), word)
            if form not in STOP_WORDS and len(form) > 2:
                yield form

    def _vector(self, wnid: str) -> Weights:
        """Weights by word, of length 1."""
        entry, counts = self.net.nouns[wnid], Counter[str]()
        below = self.net.children[wnid]
        of_name = [(entry.lemmas, 2.0)] + [(self.net.nouns[w].lemmas, 1.0) for w in entry.joined]
        texts = [(" ".join(lemmas), weight) for lemmas, weight in of_name]
        texts += [(entry.gloss, 1.0)]
        for parent in entry.parents:
            above = self.net.nouns[parent]
            texts += [(" ".join(above.lemmas), 0.5), (above.gloss, 0.3)]
        texts += [(self.net.nouns[child].gloss, 1.5 / len(below)) for child in below]
        for text, weight in texts:
            for word in self._words(text):
                counts[word] += weight  # type: ignore[assignment]
        rare = len(self.net.nouns)
        found = {w: math.log1p(n) * math.log(rare / (1 + self._in[w])) for w, n in counts.items()}
        length = math.sqrt(math.fsum(weight**2 for weight in found.values())) or 1.0
        return {word: weight / length for word, weight in found.items()}


def _names(synset: Synset) -> tuple[str, str]:
    return normalize(synset.key), normalize(synset.name)


Rows = list[tuple[str, str]]
"""(words, classes), the words that have the same classes together."""


def tables(net: WordNet) -> tuple[Rows, Rows, Rows]:
    """Near, doubtful and other words."""
    nearest, doubtful, glosses, vocabulary = Nearest(net), Doubtful(net), Glosses(net), imagenet()
    found: tuple[defaultdict[str, set[str]], ...] = tuple(defaultdict(set) for _ in range(3))
    for lemma, senses in net.senses.items():
        form = normalize(lemma)
        if not form:
            continue
        is_named = bool(vocabulary.named_by(form))
        if shown := _shown((doubtful if is_named else nearest).of(lemma)):
            found[is_named][shown].add(form)
        elif not is_named and any(count for _, count in senses):
            found[2][" ".join(glosses.alike(lemma))].add(form)
    found[2].pop("", None)
    near, doubts, alike = (
        sorted(("|".join(sorted(words)), shown) for shown, words in together.items())
        for together in found
    )
    return near, doubts, alike


def _shown(found: Weights) -> str:
    ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return " ".join(f"{wnid}:{weight:.2f}" for wnid, weight in ordered)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"), metavar="DIR")
    parser.add_argument("--output", type=Path, default=DATA, metavar="DIR")
    options = parser.parse_args()
    names = ("near.tsv.xz", "doubts.tsv", "alike.tsv.xz")
    for name, rows in zip(names, tables(WordNet(options.wordnet)), strict=True):
        write(options.output / name, ("words", "near"), rows)


if __name__ == "__main__":
    main()
