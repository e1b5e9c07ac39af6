"""What words mean that are doubtful, unknown or of another language."""

from __future__ import annotations

import gzip
from dataclasses import replace

import pytest

from imgsearch_es.errors import ConfigurationError
from imgsearch_es.retrieval.language import parse_words
from imgsearch_es.vocabulary.synsets import from_wnids, imagenet
from imgsearch_es.vocabulary.wordnet import FIRST_NOUN, LONGEST_TAG, nouns, read_lexicon

VOCABULARY = imagenet()
GERMAN = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE LexicalResource SYSTEM "http://globalwordnet.github.io/schemas/WN-LMF-1.1.dtd">
<LexicalResource><Lexicon id="de" language="de">
<LexicalEntry id="a"><Lemma writtenForm="Hund" partOfSpeech="n"/>
  <Sense id="a1" synset="omw-de-02084071-n"/></LexicalEntry>
<LexicalEntry id="b"><Lemma writtenForm="Eß_tisch" partOfSpeech="n"/>
  <Sense id="b1" synset="own"/></LexicalEntry>
<LexicalEntry id="c"><Lemma writtenForm="Kuh" partOfSpeech="n"/>
  <Sense id="c1" synset="eng-30-01887787-n"/></LexicalEntry>
<LexicalEntry id="d"><Lemma writtenForm="bellen" partOfSpeech="v"/>
  <Sense id="d1" synset="omw-de-02084071-n"/></LexicalEntry>
<LexicalEntry id="e"><Lemma writtenForm="Baum" partOfSpeech="n"/>
  <Sense id="e1" synset="oewn-02084071-n"/></LexicalEntry>
<Synset id="own" ili="i{table}"/>
</Lexicon></LexicalResource>""".format(table=FIRST_NOUN + nouns().index("n03201208"))
BOMB = """<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]>
<LexicalResource><Lexicon>&b;</Lexicon></LexicalResource>"""


@pytest.mark.parametrize(
    ("word", "how", "keys"),
    [
        ("kite", "doubtful", {"kite": 1.0}),  # the bird, or the toy
        ("keys", "doubtful", {"space_bar": 0.4}),
        ("jacket", "doubtful", {"fur_coat": 0.8, "book_jacket": 0.4}),
        ("paper", "doubtful", {"toilet_tissue": 0.75}),
        ("mirror", "doubtful", {"car_mirror": 0.94}),
        ("plane", "doubtful", {"plane": 1.0, "warplane": 0.89, "airliner": 0.88}),
        ("tabby cat", "lemma", None),
        ("cat", "hypernym", None),
        ("crane", "name", None),  # both are classes
        ("car_mirror", "key", None),
    ],
)
def test_senses(word, how, keys):
    """Only where the sense is doubtful is something said."""
    found, words = VOCABULARY.resolve(word), parse_words(f'"{word}"', VOCABULARY)
    assert found.how == how
    assert [hint.startswith(f"{word!r} was taken as ") for hint in words.hints] == [True] * bool(
        keys
    )
    if keys:
        assert dict(zip(found.keys, found.weights, strict=True)) == keys
        assert {term.key: round(term.score, 2) for term in words.terms} == keys


def test_a_vocabulary_that_knows_better_does_not_doubt():
    mirror, space_bar = "n03773035", "n04264628"
    found = from_wnids([mirror, space_bar])
    assert (found.resolve("mirror").how, found.resolve("key").how) == ("key", "doubtful")
    taught = VOCABULARY.with_taught([("kite_taught", "kite", "a toy")])
    assert taught.resolve("kite").how == "key"
    assert "kite_taught" in taught.resolve("kite").keys


@pytest.mark.parametrize(
    ("word", "suggested"),
    [("ammunition", "projectile"), ("lagoons", "coral reef"), ("wedding", "groom"),
     ("camping", "recreational vehicle"), ("retreiver", "retriever")],
)  # fmt: skip
def test_suggestions_are_by_meaning_and_then_by_spelling(word, suggested):
    found = VOCABULARY.suggest(word)
    assert found[0] == suggested
    assert all(VOCABULARY.resolve(phrase).keys for phrase in found)


@pytest.mark.parametrize("ending", ["xml", "xml.gz"])
def test_words_of_another_language(tmp_path, ending):
    path = tmp_path / f"de.{ending}"
    data = GERMAN.encode()
    path.write_bytes(gzip.compress(data) if ending == "xml.gz" else data)
    words = read_lexicon(path)
    assert dict(words) == {"Hund": "n02084071", "Eß tisch": "n03201208", "Kuh": "n01887787"}
    vocabulary = VOCABULARY.with_lexicon(words)
    assert vocabulary.resolve("hund").keys == VOCABULARY.resolve("dog").keys
    assert vocabulary.resolve("ess-tisch").keys == ("dining_table",)
    assert vocabulary.resolve("Kuh") == replace(VOCABULARY.resolve("cow"), phrase="Kuh")
    assert vocabulary.suggest("Hunnd")[0] == "Hund"
    assert vocabulary.to_dict() == VOCABULARY.to_dict()
    taught = VOCABULARY.with_taught([("Hund", "Hund", "taught")]).with_lexicon(words)
    both = {"Hund", *VOCABULARY.resolve("dog").keys}  # as of a taught "dog"
    assert all({*taught.resolve(word).keys} == both for word in ("Hund", "hund", "dog"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "declares entities"),
        (GERMAN[:400], "unclosed token"),
        ("<a/>", "has no noun of WordNet 3.0"),
        (GERMAN.replace("<Lexicon ", "<Lexicon \x00"), "not well-formed"),
        ('<?xml version="1.0" encoding="none"?><a/>', "unknown encoding"),
        (f'<a b="{"c" * (LONGEST_TAG + 200_000)}"/>', "a tag of more than 1 MB"),
    ],
)
def test_a_bad_lexicon(tmp_path, text, said):
    path = tmp_path / "bad.xml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=said) as error:
        read_lexicon(path)
    assert str(path) in str(error.value)
    with pytest.raises(ConfigurationError, match=r"none\.xml cannot be read"):
        read_lexicon(tmp_path / "none.xml")


def test_a_large_lexicon(tmp_path, monkeypatch):
    path = tmp_path / "large.xml.gz"
    path.write_bytes(gzip.compress(b"<a>" + b" " * 300_000 + b"</a>"))
    monkeypatch.setattr("imgsearch_es.vocabulary.wordnet.MOST_BYTES", 100_000)
    with pytest.raises(ConfigurationError, match="more than"):
        read_lexicon(path)
    long = "".join(f'<Sense synset="{n}{"b" * 30_000}"/>' for n in range(3))
    path.write_bytes(gzip.compress(f'<a><Lemma writtenForm="Hund"/>{long}</a>'.encode()))
    monkeypatch.setattr("imgsearch_es.vocabulary.wordnet.MOST_KEPT", 80_000)
    with pytest.raises(ConfigurationError, match="more senses and synsets than any wordnet"):
        read_lexicon(path)
