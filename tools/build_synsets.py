"""Derive the synset table that imgsearch_es ships from WordNet 3.0.

Reads Debian's wordnet-base (``apt-get install --no-install-recommends wordnet-base``) and
writes four small files:

- ``synsets.tsv``: the 1,000 ImageNet classes in the models' order, then all their hypernyms
  (instance hypernyms too) by wnid;
- ``nouns.tsv.xz``: all noun synsets by wnid, without glosses;
- ``plurals.tsv``: WordNet's irregular plurals;
- ``WORDNET-LICENSE``: the license that all are under.

The classes come from any tab-separated file with the columns ``index``, ``wnid`` and ``name``;
the shipped table is one, so that without arguments the script rebuilds it from itself.

    python tools/build_synsets.py [--wordnet DIR] [--classes FILE] [--output DIR]

WordNet's file formats: https://wordnet.princeton.edu/documentation/wndb5wn
"""

from __future__ import annotations

import argparse
import csv
import lzma
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

DATA = Path(__file__).resolve().parent.parent / "imgsearch_es" / "vocabulary"
COLUMNS = ("wnid", "index", "key", "name", "lemmas", "gloss", "parents")
NOTICE = (
    "synsets.tsv, nouns.tsv.xz, near.tsv.xz and plurals.tsv are derived from WordNet 3.0, which "
    "has this license:\n\n"
)


@dataclass(frozen=True)
class Entry:
    """A noun synset of WordNet: lemmas with underscores; parents, wholes and parts as wnids."""

    wnid: str
    lemmas: tuple[str, ...]
    gloss: str
    parents: tuple[str, ...]
    joined: tuple[str, ...]
    """Of what it is a part, member or substance, and what is one of it."""
    file: str
    """The lexicographer file: "05" has animals."""


def read_nouns(path: Path) -> tuple[dict[str, Entry], str]:
    """Return all noun synsets by wnid, and the license at the head of the file."""
    nouns, notice = {}, []
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("  "):  # "  1 This software and database ..."
                notice.append(line.strip().partition(" ")[2])
            else:
                entry = parse_noun(line)
                nouns[entry.wnid] = entry
    return nouns, "\n".join(notice).strip() + "\n"


def parse_noun(line: str) -> Entry:
    """Read a line of data.noun: offset file type count (lemma id)* count (pointer)* | gloss."""
    head, _, gloss = line.partition(" | ")
    fields = head.split()
    end = 4 + 2 * int(fields[3], 16)
    pointers = fields[end + 1 : end + 1 + 4 * int(fields[end])]
    pairs = [*zip(pointers[::4], pointers[1::4], strict=True)]
    parents = tuple(f"n{offset}" for symbol, offset in pairs if symbol in ("@", "@i"))
    joined = tuple(f"n{offset}" for symbol, offset in pairs if symbol[0] in "#%")
    lemmas = tuple(fields[4:end:2])
    return Entry(f"n{fields[0]}", lemmas, gloss.strip(), parents, joined, fields[1])


def read_classes(path: Path) -> list[tuple[str, str]]:
    """Return the (wnid, name) of every class, in class order."""
    with path.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    classes = sorted((int(row["index"]), row["wnid"], row["name"]) for row in rows if row["index"])
    if [index for index, _, _ in classes] != list(range(1000)):
        raise SystemExit(f"{path}: the class indices are not 0 to 999")
    return [(wnid, name) for _, wnid, name in classes]


def ancestors(wnids: Iterable[str], nouns: dict[str, Entry]) -> list[str]:
    """Return every synset above the given ones that is not one of them, by wnid."""
    below = set(wnids)
    found: set[str] = set()
    waiting = list(below)
    while waiting:
        new = set(nouns[waiting.pop()].parents) - found
        found |= new
        waiting += new
    return sorted(found - below)


def unique_keys(classes: Sequence[tuple[str, str]], above: Sequence[tuple[str, str]]) -> list[str]:
    """Return a key for every (wnid, name): the name where no other row of its rank has it.

    A class yields only to other classes, a hypernym to classes and hypernyms; case is ignored.
    """
    of_classes = Counter(name.casefold() for _, name in classes)
    of_all = of_classes + Counter(name.casefold() for _, name in above)
    keys = [
        name if count[name.casefold()] == 1 else f"{name}_{wnid}"
        for rows, count in ((classes, of_classes), (above, of_all))
        for wnid, name in rows
    ]
    if len({key.casefold() for key in keys}) < len(keys):
        raise SystemExit("two synsets have the same key")
    if wrong := [key for key in keys if "." in key or key.split() != [key]]:
        raise SystemExit(f"a key has a dot or white space: {wrong}")
    return keys


def table(classes: Sequence[tuple[str, str]], nouns: dict[str, Entry]) -> list[tuple[str, ...]]:
    """Return the rows of synsets.tsv."""
    if missing := [wnid for wnid, _ in classes if wnid not in nouns]:
        raise SystemExit(f"not in this WordNet, which should be version 3.0: {missing}")
    above = [(w, nouns[w].lemmas[0]) for w in ancestors((w for w, _ in classes), nouns)]
    rows: list[tuple[str, ...]] = []
    for position, ((wnid, name), key) in enumerate(
        zip([*classes, *above], unique_keys(classes, above), strict=True)
    ):
        entry = nouns[wnid]
        index = str(position) if position < len(classes) else ""
        lemmas = "|".join(entry.lemmas).replace("_", " ")
        rows.append((wnid, index, key, name, lemmas, entry.gloss, " ".join(entry.parents)))
    return rows


def plurals(path: Path) -> list[tuple[str, str]]:
    """Return WordNet's irregular (plural, singular) words: all, as own labels may be any word."""
    lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    pairs = [(plural, singular) for plural, *singulars in lines for singular in singulars]
    return [(plural, singular) for plural, singular in pairs if (plural + singular).isalpha()]


def write(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    text = "".join("\t".join(row) + "\n" for row in (header, *rows))
    content = text.encode()
    path.write_bytes(lzma.compress(content, preset=9) if path.suffix == ".xz" else content)
    print(f"{path}: {text.count(chr(10)) - 1} rows, {path.stat().st_size:,} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"), metavar="DIR")
    parser.add_argument("--classes", type=Path, default=DATA / "synsets.tsv", metavar="FILE")
    parser.add_argument("--output", type=Path, default=DATA, metavar="DIR")
    options = parser.parse_args()
    nouns, license_text = read_nouns(options.wordnet / "data.noun")
    rows = table(read_classes(options.classes), nouns)
    write(options.output / "synsets.tsv", COLUMNS, rows)
    entries = sorted(nouns.values(), key=lambda entry: entry.wnid)
    plain = [(e.wnid, "|".join(e.lemmas).replace("_", " "), " ".join(e.parents)) for e in entries]
    write(options.output / "nouns.tsv.xz", ("wnid", "lemmas", "parents"), plain)
    irregular = plurals(options.wordnet / "noun.exc")
    write(options.output / "plurals.tsv", ("plural", "singular"), irregular)
    (options.output / "WORDNET-LICENSE").write_text(NOTICE + license_text, encoding="utf-8")


if __name__ == "__main__":
    main()
