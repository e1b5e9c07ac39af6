"""Harms small indexes in random ways: ``verify`` must find each harm, or it changed nothing.

    python -m tests.faults.mutations embedded --count 10000 --seed 1
    python -m tests.faults.mutations elasticsearch --count 10000

Several documents are harmed at a time, and each must be named. What is not found must be harmless:
all that the index keeps, read back, is what it was. After some rounds the index is repaired: then
every document is what it was, or is named as one to be indexed again.
"""

from __future__ import annotations

import argparse
import json
import random as randoms
import sys
import tempfile
import time
import uuid
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import duckdb

from imgsearch_es import ImageIndex
from imgsearch_es.errors import StoreError
from imgsearch_es.indexing.verifying import VerifyReport
from imgsearch_es.pictures.files import picture_id
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.stores.elastic import inspecting
from imgsearch_es.stores.elastic.fetching import WHOLE, sent_words, shown_by
from imgsearch_es.vocabulary.synsets import imagenet
from tests.fakes import pictures, register

PICTURES = 24
TOGETHER = 16
"""Documents harmed in one round."""
WORDS = 6
"""Visual words of a picture."""
REPAIRED = 0.4
"""Of the rounds."""
RANDOM = randoms.Random


def make_pictures(folder: Path) -> None:
    pictures(folder, PICTURES)
    (folder / "broken.png").write_bytes(b"no picture")


class Target(ABC):
    """A small index of pictures that is harmed and restored.

    Args:
        location: of the index.
        folder: of its pictures.
    """

    def __init__(self, location: str, folder: Path) -> None:
        self.location, self.folder = location, folder
        self.undo: Callable[[], object] = dict
        with ImageIndex(location, model="fake", visual_words=WORDS) as index:
            index.add(
                folder, labels=lambda uri: [Path(uri).stem], metadata={"camera": "X", "n": [1]}
            )
            ids = [d.id for d in index.store.documents()]
            self.documents: dict[str, Document] = index.store.get(ids)

    def harm(self, random: RANDOM) -> dict[str, str]:
        """Harm some documents, or the index: what was done, by id ("" for the index)."""
        if random.random() < 0.05:
            name = random.choice(list(self.documents))
            path = Path(self.documents[name].uri)
            kept = path.read_bytes()
            self.undo = lambda: path.write_bytes(kept)
            if random.random() < 0.5:
                path.unlink()
                return {name: "missing file"}
            path.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
            return {name: "changed file"}
        if random.random() < 0.5:
            return {"": self.harm_index(random)}
        names = random.sample(list(self.documents), TOGETHER)
        return self.harm_documents(random, names)

    @abstractmethod
    def harm_index(self, random: RANDOM) -> str: ...

    @abstractmethod
    def harm_documents(self, random: RANDOM, names: list[str]) -> dict[str, str]: ...

    @abstractmethod
    def dump(self) -> dict[str, Any]:
        """All that the index keeps, by id; "" is what is of no document."""

    def restore(self) -> None:
        self.undo()
        self.undo = dict

    def other(self, random: RANDOM, name: str) -> Document:
        return self.documents[random.choice([key for key in self.documents if key != name])]


class FileTarget(Target):
    """The embedded store."""

    def __init__(self, location: str, folder: Path) -> None:
        super().__init__(location, folder)
        with duckdb.connect(location) as connection:
            rows = connection.execute("SELECT id, document FROM documents").fetchall()
            connection.execute("CHECKPOINT")
        self.numbers = dict(rows)
        self.pristine = Path(location).read_bytes()

    def restore(self) -> None:
        super().restore()
        path = Path(self.location)
        for left in (path, path.with_name(f"{path.name}.wal")):
            left.unlink(missing_ok=True)
        path.write_bytes(self.pristine)

    def dump(self) -> dict[str, Any]:
        with duckdb.connect(self.location, read_only=True) as connection:
            ask = lambda sql: connection.execute(sql).fetchall()  # noqa: E731
            rows = ask("SELECT * EXCLUDE (checksum), checksum FROM documents ORDER BY ALL")
            numbers = {row[0]: row[1] for row in rows}
            found: dict[str, Any] = {}
            for *row, checksum in rows:  # without a checksum the rest says what is right
                right = self.documents.get(row[1])
                kept = right.checksum if right and checksum is None else checksum
                found.setdefault(row[1], []).append((row, kept))
            for table in ("postings", "visual_postings", "embeddings"):
                for row in ask(f"SELECT * FROM {table} ORDER BY ALL"):
                    number = row[0] if table == "embeddings" else row[1]
                    found.setdefault(numbers.get(number, ""), []).append((table, *row))
            rest = [
                ask(f"SELECT * FROM {t} ORDER BY ALL") for t in ("settings", "terms", "rejected")
            ]
            found[""] = [*found.get("", ()), *rest, len(rows)]
        return found

    def harm_index(self, random: RANDOM) -> str:
        if random.random() < 0.6:
            return self._harm_bytes(random)
        number = random.choice(list(self.numbers.values()))
        statements = {
            "weights": "UPDATE settings SET value = replace(value, 'sha256:', 'sha256:0') "
            "WHERE name = 'settings'",
            "analyzer": "UPDATE settings SET value = replace(value, '\"k\": 50', '\"k\": 51') "
            "WHERE name = 'settings'",
            "dimensions": "UPDATE settings SET value = replace(value, '_dimensions\": 16', "
            "'_dimensions\": 17') WHERE name = 'settings'",
            "clustered": "UPDATE settings SET value = 'x' WHERE name = 'clustered_postings'",
            "no clustered": "DELETE FROM settings WHERE name = 'clustered_postings'",
            "settings twice": "INSERT INTO settings FROM settings WHERE name = 'settings'",
            "term": f"UPDATE terms SET synset = 'x' WHERE term = {random.randrange(1000)}",
            "no term": f"DELETE FROM terms WHERE term = {random.randrange(1000)}",
            "entry's id": "UPDATE rejected SET id = reverse(id)",
            "changed entry": f"UPDATE rejected SET {random.choice(ENTRY_CHANGES)}",
            "entry twice": "INSERT INTO rejected FROM rejected",
            "lost document": f"DELETE FROM documents WHERE document = {number}",
            "lost number": f"UPDATE documents SET document = NULL WHERE document = {number}",
        }
        name = random.choice(list(statements))
        with duckdb.connect(self.location) as connection:
            connection.execute(statements[name])
        return name

    def _harm_bytes(self, random: RANDOM) -> str:
        data = bytearray(self.pristine)
        kind = random.choice(["flipped bit", "flipped bytes", "zeroed block", "cut"])
        at = random.randrange(len(data))
        if kind == "flipped bit":
            data[at] ^= 1 << random.randrange(8)
        elif kind == "flipped bytes":
            for _ in range(random.randrange(2, 64)):
                data[random.randrange(len(data))] ^= random.randrange(1, 256)
        elif kind == "zeroed block":
            data[at : at + 4096] = bytes(len(data[at : at + 4096]))
        else:
            del data[at:]
        Path(self.location).write_bytes(data)
        return kind

    def harm_documents(self, random: RANDOM, names: list[str]) -> dict[str, str]:
        done = {}
        with duckdb.connect(self.location) as connection:
            for name in names:
                other = self.numbers[self.other(random, name).id]
                harms = file_harms(random, self.numbers[name], other)
                done[name] = random.choice([*harms, "changed field", "changed field"])
                for statement in harms[done[name]]:
                    connection.execute(statement)
        return done


def file_harms(random: RANDOM, n: int, other: int) -> dict[str, list[str]]:
    """Statements that harm the document of one number, by what they do."""
    place = random.randrange(1, 11)
    term = f"(SELECT terms[{place}] FROM documents WHERE document = {n} LIMIT 1)"
    posting = f"document = {n} AND term = {term}"  # one of its ten
    factor = random.choice([0.5, 1.0000002, 0.9999998, 2, 0, -1])
    score = random.choice([f"score * {factor}", "'nan'::FLOAT", "'inf'::FLOAT", "NULL"])
    names = random.choice(["scores", "terms", "terms, scores", "terms, scores, length, norm"])
    made = "SELECT unnest(terms), document, unnest(scores) FROM documents"
    taken = f"(SELECT embedding FROM embeddings WHERE document = {other} LIMIT 1)"
    i = random.randrange(1, 17)
    value = random.choice([f"embedding[{i}] * 1.0000002::FLOAT", "'nan'::FLOAT", "NULL", "7"])
    renumbered = ["UPDATE one SET document = 1000000 + document"] * random.randrange(2)
    return {
        "dropped posting": [f"DELETE FROM postings WHERE {posting}"],
        "changed posting": [f"UPDATE postings SET score = {score} WHERE {posting}"],
        "doubled posting": [f"INSERT INTO postings FROM postings WHERE {posting}"],
        "other term": [f"UPDATE postings SET term = {random.choice(OTHERS)} WHERE {posting}"],
        "visual word": [visual_harm(random, n, other)],
        "moved posting": [f"UPDATE postings SET document = {other} WHERE {posting}"],
        "no postings": [f"DELETE FROM postings WHERE document = {n}"],
        "scores of another": [_take(names, n, other)],
        "all of another": [
            _take("terms, scores, length, norm", n, other),
            f"DELETE FROM postings WHERE document = {n}",
            f"INSERT INTO postings {made} WHERE document = {n}",
        ],
        "feature of another": [f"UPDATE embeddings SET embedding = {taken} WHERE document = {n}"],
        "changed feature": [
            f"UPDATE embeddings SET embedding = embedding[:{i - 1}] || [{value}] || "
            f"embedding[{i + 1}:] WHERE document = {n}"
        ],
        "lost feature": [f"{random.choice(FEATURE_CHANGES)} WHERE document = {n}"],
        "changed field": [
            f"UPDATE documents SET {random.choice(FIELD_CHANGES)} WHERE document = {n}"
        ],
        "doubled document": [
            f"CREATE OR REPLACE TEMP TABLE one AS FROM documents WHERE document = {n}",
            *renumbered,
            "INSERT INTO documents FROM one",
        ],
        "other number": [
            f"UPDATE documents SET document = {random.choice([1000000 + n, -1 - n])} "
            f"WHERE document = {n}"
        ],
    }


def visual_harm(random: RANDOM, n: int, other: int) -> str:
    """A statement that harms the visual words of one document."""
    one = f"document = {n} AND term = (SELECT max(term) FROM visual_postings WHERE document = {n})"
    score = random.choice(["score * 1.0000002::FLOAT", "score / 2", "'nan'::FLOAT", "NULL"])
    return random.choice(
        [
            f"DELETE FROM visual_postings WHERE {one}",
            f"DELETE FROM visual_postings WHERE document = {n}",
            f"INSERT INTO visual_postings FROM visual_postings WHERE {one}",
            f"INSERT INTO visual_postings VALUES ({random.randrange(40)}, {n}, 0.125)",
            f"UPDATE visual_postings SET score = {score} WHERE {one}",
            f"UPDATE visual_postings SET term = term + 16 WHERE {one}",
            f"UPDATE visual_postings SET document = {random.choice([other, 999])} WHERE {one}",
        ]
    )


OTHERS = (-1, 3, 999, 1000, 30000)
FEATURE_CHANGES = (
    "DELETE FROM embeddings", "INSERT INTO embeddings FROM embeddings",
    "UPDATE embeddings SET embedding = NULL", "UPDATE embeddings SET embedding = embedding[2:]",
)  # fmt: skip
FIELD_CHANGES = (
    "length = length * 1.0000000000000005", "norm = norm / 2", "length = NULL",
    "sha256 = reverse(sha256)", "width = width + 1", "height = 0", "bytes = bytes - 1",
    "format = 'JPEG'", "filename = 'other.png'", "uri = uri || 'x'", "label = []",
    "label = label || ['x']", "label = NULL", "metadata = '{\"camera\": \"Y\"}'",
    "indexed_at = indexed_at + INTERVAL 1 SECOND", "id = reverse(id)",
    "terms = terms[2:]", "terms = [-1::SMALLINT] || terms[2:]", "scores = NULL",
    "terms = [2000::SMALLINT] || terms[2:]", "scores = list_reverse(scores)",
    "checksum = reverse(checksum)", "checksum = NULL", "metadata = NULL", "uri = NULL",
    "indexed_at = NULL", "terms = list_reverse(terms), scores = list_reverse(scores)",
)  # fmt: skip


ENTRY_CHANGES = (
    "uri = uri || 'x'", "reason = reverse(reason)", "reason = NULL", "rejected_at = NULL",
    "rejected_at = rejected_at + INTERVAL 1 SECOND", "sha256 = NULL", "tried_with = ''",
    "given = '{\"labels\": [\"x\"], \"metadata\": {}}'", "checksum = reverse(checksum)",
)  # fmt: skip


def _take(names: str, n: int, other: int) -> str:
    changes = (
        f"{c} = (SELECT {c} FROM documents WHERE document = {other} LIMIT 1)"
        for c in names.split(", ")
    )
    return f"UPDATE documents SET {', '.join(changes)} WHERE document = {n}"


class ServerTarget(Target):
    """Elasticsearch: harm comes by the API, which indexes what it is given."""

    def __init__(self, location: str, folder: Path) -> None:
        super().__init__(location, folder)
        self.index = ImageIndex(location)
        self.client, self.name = self.index.store.client, location.rpartition("/")[2]
        mapping = next(iter(self.client.indices.get_mapping(index=self.name).values()))
        self.meta = mapping["mappings"]["_meta"]
        self.client.indices.refresh(index=f"{self.name}-rejected")
        self.entry = next(iter(self.client.search(index=f"{self.name}-rejected")["hits"]["hits"]))

    def restore(self) -> None:
        super().restore()
        self.index.store.write(list(self.documents.values()))
        extra = [hit["_id"] for hit in self._hits() if hit["_id"] not in self.documents]
        if extra:
            self.index.store.remove(extra)
        self.client.indices.refresh(index=self.name)

    def _hits(self) -> list[dict[str, Any]]:
        self.client.indices.refresh(index=self.name)
        body = inspecting.body(WHOLE, self.index.store._connection[1], lean=False)
        found = self.client.search(index=self.name, body={"size": 1000, **body})
        return list(found["hits"]["hits"])

    def dump(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for hit in self._hits():  # without a checksum the rest says what is right
            right = self.documents.get(hit["_id"])
            kept = {"checksum": right.checksum} if right else {}
            fields = _unordered(hit.get("fields", {}))
            found[hit["_id"]] = [{**kept, **hit["_source"]}, fields]
        mapping = next(iter(self.client.indices.get_mapping(index=self.name).values()))
        entries = self.client.search(index=f"{self.name}-rejected")["hits"]["hits"]
        found[""] = [mapping["mappings"]["_meta"], [(e["_id"], e["_source"]) for e in entries]]
        return found

    def harm_index(self, random: RANDOM) -> str:
        kind = random.choice(["weights", "analyzer", "dimensions", "entry", "copy"])
        meta = json.loads(json.dumps(self.meta))
        if kind in ("entry", "copy"):
            return self._harm_entries(random, kind)
        if kind == "weights":
            meta["imgsearch_es"]["weights"] = "sha256:0"
        elif kind == "analyzer":
            meta["imgsearch_es"]["analyzer"]["term_filters"][0]["k"] = random.randrange(11, 99)
        else:
            meta["imgsearch_es"]["embedding_dimensions"] = 17
        put = self.client.indices.put_mapping
        put(index=self.name, meta=meta)
        self.undo = lambda: put(index=self.name, meta=self.meta)
        return kind

    def _harm_entries(self, random: RANDOM, kind: str) -> str:
        if kind == "copy":
            one = self.other(random, "")
            source = as_written(one)
            self.client.index(index=self.name, id=f"{random.random()}", document=source)
            self.client.indices.refresh(index=self.name)
            return "copy under another id"
        ledger, entry = f"{self.name}-rejected", self.entry
        write = partial(self.client.index, index=ledger, refresh=True)
        if random.random() < 0.5:
            name = random.choice(sorted(entry["_source"].keys() - {"filename", "checksum"}))
            other = "2020-01-01T00:00:00+00:00" if name == "rejected_at" else "x"
            write(id=entry["_id"], document={**entry["_source"], name: other})
            self.undo = partial(write, id=entry["_id"], document=entry["_source"])
            return "changed entry"
        write(id="another", document=entry["_source"])
        if kept := random.random() < 0.5:
            self.client.delete(index=ledger, id=entry["_id"], refresh=True)

        def undo() -> None:
            self.client.delete(index=ledger, id="another", refresh=True)
            write(id=entry["_id"], document=entry["_source"])

        self.undo = undo
        return "entry's id" if kept else "entry twice"

    def harm_documents(self, random: RANDOM, names: list[str]) -> dict[str, str]:
        done, operations = {}, []
        for name in names:
            right, other = self.documents[name], self.other(random, name)
            source = as_written(right)
            source["visual_words"] = sent_words(right.embedding, WORDS)
            harms = server_harms(random, source, right, other)
            done[name] = kind = random.choice([*harms, *OFTEN])
            if kind == PARTLY:
                operations += [{"update": {"_id": name}}, {"doc": harms[kind]}]
            else:
                operations += [{"index": {"_id": name}}, harms[kind]]
        answer = self.client.bulk(index=self.name, operations=operations, refresh=True)
        for item in answer["items"]:
            (outcome,) = item.values()
            if "error" in outcome:  # the server refused it: nothing was harmed
                done.pop(outcome["_id"])
        return done


def as_written(document: Document) -> dict[str, Any]:
    """What the store sends to the server."""
    known = imagenet().with_colors()
    return document.to_source(known) | shown_by(known).fields(document, lean=False)


def _unordered(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: sorted(value, key=str) for name, value in fields.items()}


def server_harms(
    random: RANDOM, source: dict[str, Any], right: Document, other: Document
) -> dict[str, dict[str, Any]]:
    """The source of a document, harmed, by what was done; or what is partly updated."""
    choice, key = random.choice, random.choice(right.terms).key
    weights, scores, names = source["posterior"], source["synset"], source["synsets"]
    visual = source["visual_words"]
    word = choice(sorted(visual))
    factor = choice([0.5, 0.99, 1.01, 1.0001, 1.004, 2])
    scored = {**scores[key], "score": scores[key]["score"] * choice([0.5, 1.0000002, 2])}
    place = random.randrange(len(source["embedding"]))
    feature = list(source["embedding"])
    feature[place] = feature[place] * 1.0000002 + 1e-30
    derived = {
        "top_synset": "tench", "top_score": 0.5, "length": 0.5, "norm": 0.5, "hit": "eHg=",
    }  # fmt: skip
    facts = {
        "sha256": "0" * 64, "width": 7, "height": 0, "bytes": 1, "format": "GIF",
        "filename": "x", "uri": "/x", "label": ["x"], "metadata": {"x": 1}, "id": "0" * 32,
        "indexed_at": "2020-01-01T00:00:00+00:00", "checksum": "0" * 32,
    }  # fmt: skip
    made = replace(right, terms=choice([other.terms, right.terms[1:], ()]))
    heavier_or_more = [{**weights, key: weights[key] * factor}, {**weights, "tench": 0.5}]
    text = {**scores[key], choice(["wind", "words"]): "other"}
    heavier = {**visual, word: visual[word] * factor}
    words = [_without(visual, word), {**visual, "vw40": 0.5}, heavier, {}]
    changes: dict[str, dict[str, Any]] = {
        "weight": {"posterior": choice([_without(weights, key), *heavier_or_more])},
        "score": {"synset": {**_without(scores, key), **choice([{}, {key: text}, {key: scored}])}},
        "names": {"synsets": choice([names[::-1], names[:-1], [*names, "x"]])},
        "derived": dict([choice([*derived.items()])]),
        "fact": dict([choice([*facts.items()])]),
        "visual words": {"visual_words": choice([*words, sent_words(other.embedding, WORDS)])},
        "hit of another": {"hit": as_written(other)["hit"]},
        "feature": {"embedding": choice([other.embedding.tolist(), feature])},
        "terms of another": {**as_written(made), "checksum": source["checksum"]},
        "no terms": {"posterior": {}, "synset": {}, "synsets": []},
    }
    return {
        **{name: {**source, **change} for name, change in changes.items()},
        "no field": _without(source, choice(sorted(source.keys() - {"words"}))),
        PARTLY: choice([{"label": ["x"]}, {"top_score": 0.5}, {"metadata": {"x": 2}}]),
    }


PARTLY = "partly updated"
OFTEN = ("weight", "visual words", "score", "derived", "no field", "fact", "feature")


def _without(items: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in items.items() if key != name}


class MissedError(Exception):
    """A harm was not found, or was not put right as it should be."""


def run(
    target: Target, count: int, seed: int, tell: Callable[[int], object] = lambda _: None
) -> Counter[str]:
    """Harm, verify, repair and restore, until so many harms were done.

    Returns:
        How often each kind of harm was found, or was harmless ("harmless: ...").

    Raises:
        MissedError: one was not found though it changed something.
    """
    outcomes: Counter[str] = Counter()
    pristine = target.dump()
    while outcomes.total() < count:
        try:
            outcomes += _round(target, RANDOM(seed), pristine)
        except MissedError as error:
            raise MissedError(f"seed {seed}: {error}") from error
        seed += 1
        tell(outcomes.total())
    return outcomes


def _round(target: Target, random: RANDOM, pristine: dict[str, Any]) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    harms = target.harm(random)
    try:
        report = _verify(target)
        if report is None:  # told when the file was opened
            return Counter(harms.values())
        named = {key for harm in report.harms for key in (harm.id, picture_id(harm.uri))}
        missed = {n for n in harms if (n not in named if n else report.is_whole)}
        changed = target.dump() if missed else {}
        for name in missed:
            if changed.get(name) != pristine.get(name):
                raise MissedError(f"{harms[name]} of {name or 'the index'} was not found: {report}")
        outcomes.update(f"{k}, harmless" if n in missed else k for n, k in harms.items())
        if not report.is_whole and random.random() < REPAIRED:
            _check_repair(target, harms)
    finally:
        target.restore()
    return outcomes


def _verify(target: Target, *, repair: bool = False) -> VerifyReport | None:
    try:
        with ImageIndex(target.location) as index:
            return index.verify(files=True, repair=repair)
    except StoreError:
        return None


def _check_repair(target: Target, harms: dict[str, str]) -> None:
    """What can be right is right, and what cannot is named."""
    report = _verify(target, repair=True)
    if report is None or not report.counts.keys().isdisjoint(("index", "settings")):
        return
    left = {key for item in report.left for key in (item[0], picture_id(item[1]))}
    readable = [name for name in target.documents if name not in left]
    with ImageIndex(target.location) as index:
        found = index.store.get(readable)
    for name, right in target.documents.items():
        stored = found.get(name)
        is_right = stored is not None and stored.checksum == right.checksum
        if not (is_right or name in left or harms.get("", "").startswith("lost")):
            raise MissedError(f"{name} is not right after repair: {harms}, {report}")
    for harm in report.harms:
        named = {harm.id, picture_id(harm.uri)} if harm.id else left
        if harm.part not in ("file", "ledger") and not named & left:
            raise MissedError(f"{harm} is there after repair: {harms}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("store", choices=("embedded", "elasticsearch"))
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    register()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as place, target_of(asked.store, Path(place)) as target:
        outcomes = run(target, asked.count, asked.seed)
    for kind, number in sorted(outcomes.items()):
        print(f"{number:6}  {kind}")
    print(f"{outcomes.total():6}  in {time.monotonic() - started:.0f} s: each found, or harmless")


@contextmanager
def target_of(store: str, place: Path, url: str | None = None) -> Iterator[Target]:
    """A target on a store, with its pictures in a folder."""
    make_pictures(place / "pictures")
    if store == "embedded":
        yield FileTarget(str(place / "index.duckdb"), place / "pictures")
        return
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
    import elasticsearch_node

    with elasticsearch_node.node("9") as found:
        target = ServerTarget(
            f"{url or found}/mutations-{uuid.uuid4().hex[:12]}", place / "pictures"
        )
        try:
            yield target
        finally:
            names = [f"{target.name}-000001", f"{target.name}-rejected"]
            target.client.indices.delete(index=names, ignore_unavailable=True)
            target.index.close()


if __name__ == "__main__":
    main()
