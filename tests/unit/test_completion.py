"""Completion of queries."""

from __future__ import annotations

from string import ascii_lowercase

import pytest

from imgsearch_es.retrieval.conditions import quoted
from imgsearch_es.retrieval.language import parse_words
from imgsearch_es.retrieval.tokens import complete, phrases
from imgsearch_es.retrieval.traces import unknown_word
from imgsearch_es.vocabulary.synsets import from_labels, imagenet

VOCABULARY = imagenet()
NAMES = ["+plus", "AND", "w^2", "a:b", 'say "hi"', "cat AND", "score(x", "my 1.jpg"]


@pytest.mark.parametrize(
    ("typed", "first"),
    [
        ("tab", "tabby"),
        ("Golden re", "golden retriever"),
        ("a golden re", "a golden retriever"),
        ("sofa tabb", "sofa tabby"),
        ("dog^2 +tabb", "dog^2 +tabby"),
        ("dog -golden re", 'dog -"golden retriever"'),
        ('dog "golden re', 'dog "golden retriever"'),
        ('"tabby cat" lyn', '"tabby cat" lynx'),
        ("black-and-tan coo", "black-and-tan coonhound"),
        ("jack-o", "jack-o'-lantern"),
    ],
)
def test_the_first_completion(typed, first):
    assert complete(VOCABULARY, typed)[0] == first


@pytest.mark.parametrize("name", NAMES)
def test_what_means_itself_only_in_quotation_marks_is_completed_so(name):
    vocabulary = VOCABULARY.with_taught([("taught", name, "")])
    whole = f"dog {quoted(name)}"
    assert whole in complete(vocabulary, f'dog "{name[:4]}')
    assert "taught" in {term.key for term in parse_words(whole, vocabulary).terms}
    assert quoted(name) in unknown_word(f"{name}z", vocabulary).suggestions


@pytest.mark.parametrize("typed", ["", " ", "dog ", "xyzzy", "label:ca", '"', "-", "+", "🐈"])
def test_nothing_to_complete(typed):
    assert complete(VOCABULARY, typed) == []


def test_later_words_come_after_first_ones():
    found = phrases(VOCABULARY, "retriever", 20)
    assert found[0] == "retriever"
    assert "golden retriever" in found
    assert phrases(VOCABULARY, "cat", 3)[0] == "cat"
    assert len(phrases(VOCABULARY, "c", 5)) == 5


def test_what_is_completed_is_understood():
    found = [whole for letter in ascii_lowercase for whole in complete(VOCABULARY, letter, 30)]
    assert len(found) > 400
    assert all(VOCABULARY.resolve_text(f'"{whole}"') for whole in found)


def test_own_labels():
    assert complete(from_labels(["Bad weld", "good weld"]), "wel") == ["Bad weld", "good weld"]


def test_a_complete_word_is_not_offered_again():
    assert "tabby" not in complete(VOCABULARY, "tabby")
