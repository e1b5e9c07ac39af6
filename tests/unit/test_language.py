"""The language of queries: every form, every mistake, and the laws of its canonical form."""

from __future__ import annotations

import re
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from imgsearch_es.errors import QueryError, UnknownWordError
from imgsearch_es.retrieval.conditions import (
    DATE_FIELDS,
    KEYWORD_FIELDS,
    NUMBER_FIELDS,
    Filter,
    quoted,
)
from imgsearch_es.retrieval.language import (
    MAX_PARTS,
    Words,
    free_text,
    parse_words,
    to_filters,
)
from imgsearch_es.retrieval.tokens import MAX_LENGTH, shown_phrase
from imgsearch_es.vocabulary.synsets import Vocabulary, from_labels, imagenet

IMAGENET = imagenet()
DOGS = IMAGENET.resolve("dog").keys
LABELS = from_labels(["a:b", "c++", "label:pets", "on", "red car", "^2", "-x", "score(y)", "OR"])
PAGE = Path(__file__).resolve().parents[2] / "docs" / "query-language.md"


def read(line, vocabulary=IMAGENET) -> Words:
    words = parse_words(line, vocabulary)
    assert parse_words(str(words), vocabulary) == words
    assert str(parse_words(str(words), vocabulary)) == str(words)
    return words


def weights(line):
    return {term.key: term.score for term in read(line).terms}


# -- words --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "canonical"),
    [
        ("tabby  cat", '"tabby cat"'),
        ('"tabby" cat', '"tabby" "cat"'),
        ("dog and a cat", "dog cat"),
        ('"golden retriever"', '"golden retriever"'),
        ("“golden retriever” «tabby»", '"golden retriever" tabby'),
        ('"toy poodle","tabby", cat', '"toy poodle" "tabby" "cat"'),
        ("dog -poodle", "dog -poodle"),
        ("dog –poodle −beagle", "dog -poodle -beagle"),
        ("dog - + cat", "dog cat"),
        ('-"toy poodle" dog', '-"toy poodle" dog'),
        ("+ball dog", "+ball dog"),
        ("dog^2.0 ball^1", "dog^2 ball"),
        ('+"golden retriever"^.5', '+"golden retriever"^0.5'),
        ("tabby dog^2 cat", "tabby dog^2 cat"),
        ("synset:golden_retriever^3 cat", "synset:golden_retriever^3 cat"),
        ("-synset:dog wnid:N02099601", "-synset:dog wnid:n02099601"),
        ("label:pets tabby width:>=8e2 cat", '"tabby" "cat" label:pets width:>=800'),
        ("jack-o'-lantern", "jack-o'-lantern"),
    ],
)
def test_it_prints_back_readably(line, canonical):
    assert str(read(line)) == canonical


def test_a_boost_is_the_weight():
    assert weights("beagle^2 tabby") == {"beagle": 2.0, "tabby": 1.0}
    assert weights('"golden retriever"^0.5') == {"golden_retriever": 0.5}
    assert set(weights("dog^3").values()) == {3.0}
    assert weights("dog^0.5 beagle")["beagle"] == 1.0
    assert weights("beagle dog^0.5")["beagle"] == 1.0
    assert weights("beagle^3 dog^2 beagle")["beagle"] == 3.0


def test_plus_wants_more_than_a_trace_of_the_word():
    words = read("+dog +synset:tabby dog cat")
    dog, tabby = words.signs
    assert (set(dog.synsets), tabby.synsets) == (set(DOGS), ("tabby",))
    assert [(one.operator, one.negated) for one in words.signs] == [("gt", False)] * 2
    assert [one.values[0] for one in words.signs] == pytest.approx([0.04 * 118**0.5, 0.04])
    assert {term.key for term in words.terms} >= {*DOGS, "tabby"}
    assert len(read("+dog +dog").signs) == 1
    assert read("+animal").signs[0].values == (0.5,)
    assert parse_words("+dog", IMAGENET, trace=0.0).signs[0].values == (0.0,)
    above = parse_words("+dog", IMAGENET.with_hypernyms()).signs[0]
    assert (above.synsets, above.values) == (("dog",), dog.values)


def test_labels_of_marks_read_back():
    known = from_labels(["“x”", "&"])
    words = parse_words('synset:"“x”"', known)
    assert parse_words(str(words), known) == words
    assert parse_words(shown_phrase("&"), known).terms[0].key == "&"


def test_stop_words_of_another_language_are_suggested_in_quotation_marks():
    known = imagenet().with_lexicon((("and", "n01846331"),))  # the duck, in Norwegian
    with pytest.raises(UnknownWordError) as unknown:
        parse_words("annd", known)
    assert unknown.value.suggestions[0] == '"and"'
    assert "drake" in [term.key for term in parse_words('"and"', known).terms]


def test_minus_compares_classes_where_hypernyms_sum_them():
    """A hypernym of what is excluded has all of its score, of which nothing speaks for a hit."""
    for line in ("canine -dog", "cat wolf carnivore -dog"):
        plain = read(line).signs
        for one, other in zip(
            parse_words(line, IMAGENET.with_hypernyms()).signs, plain, strict=True
        ):
            assert one.either[0].values == other.either[0].values
            assert one.either[1] == other.either[1]


def test_minus_excludes_by_every_way_of_naming():
    for line in ("cat -poodle", "cat -synset:poodle", f"cat -wnid:{_wnid('poodle')}"):
        (sign,) = read(line).signs
        assert sign.negated
        assert set(sign.synsets) == set(IMAGENET.hyponyms("poodle"))


@pytest.mark.parametrize(
    ("line", "canonical"),
    [
        ("cat AND dog", "+cat +dog"),
        ("tabby cat AND dog ball", '+"tabby cat" +dog ball'),
        ("cat NOT dog", "cat -dog"),
        ("cat AND NOT dog", "+cat -dog"),
        ("golden OR retriever dog", "retriever dog"),
        ("cat OR dog", "cat dog"),
        ("NOT label:pets cat^2 AND -dog", "+cat^2 -dog -label:pets"),
        ('"toy poodle" AND synset:ox', '+"toy poodle" +synset:ox'),
        ("AND cat NOT", "+cat"),
        ('"NOT" cat', "cat"),
        ("cat NOT +dog NOT +label:pets", "cat -dog -label:pets"),
        ("synset:tabby OR synset:ox", "synset:tabby synset:ox"),
    ],
)
def test_operators_in_capitals(line, canonical):
    assert str(read(line)) == canonical


@pytest.mark.parametrize(
    ("line", "left_out", "text", "said"),
    [
        ("black cat", ("black",), "cat", "'black' is a color, and this index keeps none"),
        ("golden retriever^2", ("golden",), "retriever^2", "near: golden retriever"),
        ("+golden -xyzzy dog", ("golden", "xyzzy"), "dog", "'xyzzy' is not in this"),
        ('"black or white" dog', ("black or white",), "dog", "'black or white' is not"),
        ("person riding a bike", ("riding",), "person bike", "'riding' is not"),
    ],
)
def test_an_unknown_word_is_left_out_and_said(line, left_out, text, said):
    words = read(line)
    assert (words.left_out, words.text) == (left_out, text)
    assert any(said in hint for hint in words.hints)


def test_only_a_line_of_which_nothing_is_known_is_an_error():
    for line in ("xyzzy", "xyzzy -dog", "xyzzy label:pets"):
        with pytest.raises(UnknownWordError, match="'xyzzy'"):
            read(line)
    beside = parse_words("xyzzy -dog", IMAGENET, alone=False)
    assert (beside.terms, beside.left_out, len(beside.signs)) == ((), ("xyzzy",), 1)
    many = parse_words("dog " + " ".join(f"xyz{i}" for i in range(40)), IMAGENET)
    assert (len(many.left_out), many.hints[-1]) == (40, "32 more words were left out")


def test_what_is_near_weighs_less_and_is_said():
    assert weights("cow^2") == {"ox": pytest.approx(1.48)}
    hint = "'cow' is no class of this index; searched for what is near: ox 0.74"
    assert read("cow^2").hints == (hint,)
    assert weights("cow ox") == {"ox": 1.0}


@pytest.mark.parametrize(
    ("line", "canonical"),
    [
        ("width>=400 label=pets", "width:>=400 label:pets"),
        ("label!=pets", "-label:pets"),
        ("taken=2019 keyword!=x", "taken_at:2019 -keywords:x"),
        ("-label!=pets", "label:pets"),
        ('filename=beach* metadata.camera="X 100"', 'filename:beach* metadata.camera:"X 100"'),
        ("score(dog)>0.1 label:a,b", "score(dog)>0.1 label:a,b"),
    ],
)
def test_conditions_alone(line, canonical):
    filters = to_filters(line, IMAGENET)
    assert " ".join(map(str, filters)) == canonical
    assert to_filters(canonical, IMAGENET) == filters == read(f"cat {line}").filters
    with pytest.raises(QueryError, match="'red' is no condition such as label=indoor"):
        to_filters(f"{line} red", IMAGENET)


def test_the_canonical_form_says_or_where_that_matters():
    known = IMAGENET.with_colors()
    words = parse_words("tabby black -dog OR", known)
    assert str(words) == "tabby OR black -dog"
    assert parse_words(str(words), known) == words != parse_words("tabby black -dog", known)
    assert str(parse_words("tabby OR dog", known)) == "tabby dog"


def test_a_score_is_of_all_that_a_word_stands_for():
    (dog,) = read("cat score(dog)>0.1").filters
    assert (set(dog.synsets), str(dog)) == (set(DOGS), "score(dog)>0.1")
    assert read("cat score(dog)<0.1").filters[0].normalized().negated


def test_a_synset_by_key_is_a_term_or_a_hypernym():
    assert weights("synset:dog") == dict.fromkeys(DOGS, 1.0)
    above = IMAGENET.with_hypernyms()
    assert [term.key for term in parse_words("synset:dog", above).terms] == ["dog"]


def test_words_with_signs_of_the_language_are_quoted():
    for synset in LABELS.synsets:
        words = read(quoted(synset.name), LABELS)
        assert [term.key for term in words.terms] == [synset.key]
    assert str(read("c++ on", LABELS)) == '"c++" on'
    assert str(read('on "OR" c++', LABELS)) == 'on "OR" "c++"'


# -- conditions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("label:pets", Filter("label", "in", ("pets",))),
        ('label:"late night",pets', Filter("label", "in", ("late night", "pets"))),
        ("-label:pets", Filter("label", "in", ("pets",), negated=True)),
        ("+label:pets", Filter("label", "in", ("pets",))),
        ("format:png,jpg", Filter("format", "in", ("PNG", "JPEG"))),
        ("format:p*", Filter("format", "wildcard", ("P*",))),
        ("filename:beach*", Filter("filename", "wildcard", ("beach*",))),
        ('filename:"late night"*', Filter("filename", "wildcard", ("late night*",))),
        ('filename:"beach*"', Filter("filename", "in", ("beach*",))),
        (r"uri:C:\new\x", Filter("uri", "in", (r"C:\new\x",))),
        (r'label:"a \"b\" \\ \c"', Filter("label", "in", ('a "b" \\ \\c',))),
        ('label:""', Filter("label", "in", ("",))),
        ("width:>=800", Filter("width", "gte", (800,))),
        ("width:800,900.5", Filter("width", "in", (800, 900.5))),
        ("top_score:<.5", Filter("top_score", "lt", (0.5,))),
        ("metadata.camera:X100", Filter("metadata.camera", "in", ("X100",))),
        ('metadata."my: camera":X', Filter("metadata.my: camera", "in", ("X",))),
        ("indexed_at:2026-01-31", Filter("indexed_at", "in", ("2026-01-31",))),
        ("indexed_at:>2026-01-31", Filter("indexed_at", "gte", ("2026-02-01T00:00:00",))),
        (
            "indexed_at:<=2026-01-31T12:00:00+02:00",
            Filter("indexed_at", "lte", ("2026-01-31T10:00:00",)),
        ),
        ("score(golden_retriever)>0.5", Filter("score(golden_retriever)", "gt", (0.5,))),
        ("-score( Golden Retriever ) <= 1", Filter("score(golden_retriever)", "lte", (1.0,), True)),
    ],
)  # fmt: skip
def test_conditions(line, expected):
    words = read(f"tabby {line}")
    assert (words.filters, words.text) == ((expected,), "tabby")
    words = read(f"{line} {line}")
    assert (words.terms, words.filters, words.text) == ((), (expected,), "")


# -- mistakes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "no words to search for"),
        ("the of", "no words to search for"),
        ("- +", "no words to search for"),
        ('dog "golden retriever', 'quotation mark is not closed: "golden retriever'),
        ('dog label:"late night', 'quotation mark is not closed: label:"late'),
        ("colour:red dog", "no field 'colour'; there are synset, wnid, id, uri.*metadata.<name>"),
        ("http://a.b/c.jpg", "no field 'http'.*Quote a word that has a colon"),
        (":)", "no field ''"),
        ('metadata."my camera".x:X', "there is no field '.x'"),
        ("label:", "a value is missing: label:"),
        ("label:a,,b", "a value is missing: label:a,,b"),
        ("dog^", "'' is not a number: dog\\^"),
        ("dog^x", "'x' is not a number: dog\\^x"),
        ("dog^0", "a boost is a number from 0.000001 to 1000000: dog\\^0"),
        ("dog^-1", "a boost is a number from"),
        ("dog^1e9", "a boost is a number from"),
        ("dog ^2", "a boost follows its word without a space"),
        ("-dog^2", "does not score, so it has no boost: -dog\\^2"),
        ("label:pets^2", "does not score, so it has no boost: label:pets\\^2"),
        ("width:wide", "'wide' is not a number: width:wide"),
        ("label:>5", "'label' cannot be filtered by 'gt'"),
        ("indexed_at:soon", "is a date such as 2026-01-31, not 'soon'"),
        ("filename:a*,b*", "stands alone, without commas: filename"),
        ('filename:"*"*', "both a pattern and quoted"),
        ("filename:" + "x" * 300 + "*", "a pattern has at most 200 characters, not 301"),
        ("label:" + "x" * 5001, "5001 characters"),
        ("synset:Golden", "no synset has the key 'Golden'; did you mean synset:golden_retriever"),
        ("synset:retrievr", "did you mean synset:retriever"),
        ("synset:a,b", "no synset has the key 'a,b'"),
        ("synset:", "does not name one synset"),
        ("wnid:n00000000", "no synset of this index has the wnid 'n00000000'"),
        ("label:a OR label:b", "OR goes between words; values of one field are such as label:a,b"),
        ("score(dog)>0.1 OR score(cat)>0.1", "OR goes between words"),
        ("cat OR NOT label:pets", "OR goes between words"),
        ("score(tabbby)>0.5", "no synset is named 'tabbby'.*Did you mean 'tabby'"),
        ("score(tabby)=0.5", "is such as score\\(tabby\\)>0.5, not score\\(tabby\\)=0.5"),
        ("score(tabby)>much", "'much' is not a number: score"),
        ("+tabbby", "no synset is named 'tabbby'.*Did you mean 'tabby'"),
        ("tabbby^2", "no synset is named 'tabbby'.*Did you mean 'tabby'"),
        ('""', "no word to search for"),
        ("dog \ud800", "half a character"),
    ],
)  # fmt: skip
def test_a_mistake_says_where_and_what(line, message):
    with pytest.raises(QueryError, match=message) as caught:
        parse_words(line, IMAGENET)
    assert len(str(caught.value)) < 400


def test_a_line_has_bounds():
    with pytest.raises(QueryError, match="at most 10000 characters, not 1000000"):
        parse_words("x" * 1_000_000, IMAGENET)
    with pytest.raises(QueryError, match="at most 256 words and conditions"):
        parse_words("dog " * (MAX_PARTS + 1), IMAGENET)
    with pytest.raises(QueryError, match="at most 256 words"):
        parse_words("dog," * (MAX_PARTS + 1), IMAGENET)
    with pytest.raises(QueryError, match="at most 256 words and conditions"):
        to_filters(" ".join(f"score(dog)>{i / 1000}" for i in range(MAX_PARTS + 1)), IMAGENET)
    assert read("dog " * MAX_PARTS).terms
    assert read(" ".join(f"label:l{i}" for i in range(MAX_PARTS))).filters
    looked = mock.Mock(side_effect=IMAGENET.resolve)  # which takes a while for each unknown word
    with mock.patch.object(Vocabulary, "resolve", looked):
        parse_words("dog " + '"qqa" ' * 1000, IMAGENET)
        assert looked.call_count == 1
        with pytest.raises(QueryError, match="at most 256 words"):
            parse_words(" ".join(f"-q{i}q" for i in range(1000)), IMAGENET)
        assert looked.call_count <= MAX_PARTS + 2
    with pytest.raises(UnknownWordError) as caught:
        parse_words("x" * MAX_LENGTH, IMAGENET)
    assert len(str(caught.value)) < 200


# -- laws ---------------------------------------------------------------------------------------

pieces = st.sampled_from(
    ["dog", "tabby", "cat", "golden retriever", "black", "bear", "the", "crane", "plane", '"',
     '"tabby cat"', "“toy poodle”", "-", "+", "^", "^2", "^0.25", ":", ",", "*", "?", "(", ")", ">",
     "<=", "0.5", "score(", "score(tabby)>0.1", "label:", "label:pets", "format:gif", "width:>=8",
     "synset:", "synset:dog", "wnid:n02099601", "metadata.a.b:", 'metadata."a b":c', "\\", '\\"',
     " ", " ", " ", "\n", "\0", "é", "'", "indexed_at:>", "2026-01-31", "filename:a*"]
)  # fmt: skip
lines = st.lists(pieces, max_size=12).map("".join) | st.lists(pieces, max_size=8).map(" ".join)


@settings(max_examples=50)
@given(lines | st.text(max_size=60))
@example('tabby, "cat"')
@example('label:"\\\\"')
@example("black bear^1 the bear")
def test_any_text_parses_or_raises_and_prints_back(line):
    for vocabulary in (IMAGENET, LABELS):
        try:
            words = parse_words(line, vocabulary)
        except QueryError:
            continue
        assert parse_words(str(words), vocabulary) == words
        assert str(parse_words(str(words), vocabulary)) == str(words)


@given(st.text(max_size=30), st.sampled_from([*KEYWORD_FIELDS, "metadata.a b", "metadata.x"]))
def test_any_value_can_be_quoted(value, field):
    shown = field if " " not in field else 'metadata."a b"'
    (found,) = parse_words(f"-{shown}:{quoted(value)}", IMAGENET).filters
    expected = value if field != "format" else found.values[0]
    assert found == Filter(field, "in", (expected,), negated=True)
    assert parse_words(str(found), IMAGENET).filters == (found,)


# -- the page -----------------------------------------------------------------------------------


def test_the_page_names_every_field_and_its_examples_are_read():
    page = PAGE.read_text(encoding="utf-8")
    assert all(f"`{field}`" in page for field in KEYWORD_FIELDS + NUMBER_FIELDS + DATE_FIELDS)
    examples = re.findall(r"^\| .+ \| .+ \| `(.+)` \|$", page, re.MULTILINE)
    assert len(examples) == 24
    assert all(read(line, IMAGENET.with_colors()).terms for line in examples)


def _wnid(key):
    return next(s.wnid for s in (*IMAGENET.synsets, *IMAGENET.ancestors) if s.key == key)


def test_free_text_is_one_text_and_conditions_still_select():
    words = free_text('a dog on "a red sofa" label:pets width:>=80', imagenet())
    assert (words.text, words.terms) == ("a dog on a red sofa", ())
    assert [str(item) for item in words.filters] == ["label:pets", "width:>=80"]
    assert free_text("label:pets", imagenet()).text == ""
    for text in ("dog -poodle", "dog^2", "synset:tabby", ""):
        with pytest.raises(QueryError, match=r"no signs|no words"):
            free_text(text, imagenet())
