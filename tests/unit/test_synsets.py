"""The shipped synset table, and how words and own labels name its terms."""

from __future__ import annotations

import json
import pickle
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgsearch_es.analysis.filters import Hypernyms
from imgsearch_es.errors import ConfigurationError, QueryError, SchemaError, UnknownWordError
from imgsearch_es.vocabulary.synsets import Vocabulary, from_labels, from_wnids, imagenet
from imgsearch_es.vocabulary.wordnet import nouns
from imgsearch_es.vocabulary.words import STOP_WORDS, normalize
from tools import build_synsets

VOCABULARY = imagenet()
EXPANDED = VOCABULARY.with_hypernyms()
BY_WNID = {synset.wnid: synset for synset in EXPANDED}
TYPED = st.text("abcdegnorst -_'\",.é’“\t0", max_size=40) | st.text(max_size=30)
LABELS = st.lists(
    st.text(min_size=1, max_size=12) | st.text("aAb ._-'*1", min_size=1, max_size=6),
    min_size=1,
    max_size=12,
    unique_by=str.strip,
).filter(lambda labels: all(label.strip() for label in labels))


def keys(phrase: str) -> tuple[str, ...]:
    return VOCABULARY.resolve(phrase).keys


def phrases(text: str) -> list[str]:
    return [resolution.phrase for resolution in VOCABULARY.resolve_text(text)]


# The table


def test_the_terms_are_the_thousand_classes_in_order():
    assert len(VOCABULARY) == len(VOCABULARY.keys) == 1000
    assert [synset.class_index for synset in VOCABULARY] == list(range(1000))
    wnids = [synset.wnid for synset in VOCABULARY]
    assert wnids == sorted(wnids)  # ILSVRC 2012's order
    assert {0: "tench", 151: "Chihuahua", 281: "tabby", 999: "toilet_tissue"}.items() <= {
        index: synset.name for index, synset in enumerate(VOCABULARY)
    }.items()


def test_hypernyms_follow_the_classes_by_wnid():
    assert len(EXPANDED) == 1860
    assert EXPANDED.synsets[:1000] == VOCABULARY.synsets
    above = EXPANDED.synsets[1000:]
    assert all(synset.class_index is None for synset in above)
    assert [synset.wnid for synset in above] == sorted(synset.wnid for synset in above)
    assert EXPANDED.with_hypernyms() is EXPANDED


def test_keys_and_wnids_are_unique_and_fit_for_field_names():
    assert len({synset.key.casefold() for synset in EXPANDED}) == len(EXPANDED)
    assert len(BY_WNID) == len(EXPANDED)
    assert all(s.key.split() == [s.key] and "." not in s.key for s in EXPANDED)


def test_only_ambiguous_class_names_carry_their_wnid():
    carrying = {s.key for s in VOCABULARY if s.key != s.name}
    assert carrying == {
        *("crane_n02012849", "crane_n03126707", "maillot_n03710637", "maillot_n03710721"),
        *("Cardigan_n02113186", "cardigan_n02963159"),
    }
    assert VOCABULARY["plane"].wnid == "n03954731"  # though a hypernym is a plane, too


def test_every_synset_has_a_gloss_and_its_name_is_the_first_lemma():
    for synset in EXPANDED:
        assert synset.gloss
        assert synset.name.replace("_", " ") == synset.lemmas[0]
        assert not any("_" in lemma for lemma in synset.lemmas)


def test_the_license_of_wordnet_is_shipped():
    data = Path(sys.modules["imgsearch_es.vocabulary.synsets"].__file__ or "").parent
    assert "Princeton University" in (data / "WORDNET-LICENSE").read_text(encoding="utf-8")
    assert (data / "synsets.tsv").stat().st_size < 300_000


# Hypernyms and hyponyms


def test_hypernyms_are_nearest_first_and_the_root_last():
    names = [synset.key for synset in VOCABULARY.hypernyms("golden_retriever")]
    assert names[:4] == ["retriever", "sporting_dog", "hunting_dog", "dog"]
    assert {"canine", "domestic_animal"} <= set(names)  # both paths of dog
    assert VOCABULARY.hypernyms("entity") == ()


def test_hypernyms_come_after_everything_below_them():
    paths = {synset: VOCABULARY.hypernyms(synset.key) for synset in EXPANDED}
    for synset, above in paths.items():
        assert len(set(above)) == len(above)
        assert synset.key == "entity" or above[-1].key == "entity"
        for position, one in enumerate(above):
            assert set(above[: position + 1]).isdisjoint(paths[one])


def test_hyponyms_are_the_inverse_of_hypernyms():
    assert VOCABULARY.hyponyms("entity") == VOCABULARY.keys
    assert VOCABULARY.hyponyms("tabby") == ("tabby",)
    above = {key: set(VOCABULARY.hypernyms(key)) for key in VOCABULARY.keys}
    for synset in EXPANDED:
        below = [key for key in VOCABULARY.keys if synset in above[key]]
        assert list(VOCABULARY.hyponyms(synset.key)) == (below or [synset.key])
    assert EXPANDED.hyponyms("retriever")[-1] == "retriever"


# One phrase


def test_dog_is_exactly_the_118_breeds():
    dog = VOCABULARY.resolve("dog")
    assert dog.keys == VOCABULARY.keys[151:269]
    assert (dog.how, [sense.wnid for sense in dog.senses]) == ("hypernym", ["n02084071"])


@pytest.mark.parametrize(
    ("phrase", "some", "others"),
    [
        ("vehicle", {"sports_car", "garbage_truck", "liner", "airliner"}, {"tabby", "pier"}),
        ("cat", {"tabby", "Persian_cat", "cougar", "lynx"}, {"Chihuahua"}),
        ("retriever", {"golden_retriever", "Labrador_retriever"}, {"pug"}),
        ("terrier", {"Airedale", "Yorkshire_terrier"}, {"pug"}),
        ("Alsatian", {"German_shepherd"}, {"collie"}),
        ("panther", {"cougar", "jaguar"}, {"lion"}),
        ("car", {"sports_car", "passenger_car"}, {"bicycle-built-for-two"}),
    ],
)
def test_words_name_all_terms_below(phrase, some, others):
    assert some <= set(keys(phrase))
    assert not others & set(keys(phrase))


@pytest.mark.parametrize(
    ("phrase", "key", "how"),
    [
        ("golden_retriever", "golden_retriever", "key"),
        ("Golden-Retriever", "golden_retriever", "key"),
        ("ｇｏｌｄｅｎ ＲＥＴＲＩＥＶＥＲ", "golden_retriever", "key"),
        ("jack-o'-lantern", "jack-o'-lantern", "doubtful"),
        ("Jack O’ Lantern", "jack-o'-lantern", "doubtful"),
        ("jack o lantern", "jack-o'-lantern", "doubtful"),
        ("potter's wheel", "potter's_wheel", "key"),
        ("potters wheel", "potter's_wheel", "key"),
        ("potters' wheels", "potter's_wheel", "plural"),
        ("black and tan coonhound", "black-and-tan_coonhound", "key"),
        ("crane_n02012849", "crane_n02012849", "key"),
        ("N02099601", "golden_retriever", "wnid"),
        ("tabby cat", "tabby", "lemma"),
        ("R.V.", "recreational_vehicle", "lemma"),
        ("St. Bernard", "Saint_Bernard", "lemma"),
        ("mice", "mouse", "doubtful"),
        ("golden retrievers", "golden_retriever", "plural"),
    ],
)
def test_one_term_by_any_spelling(phrase, key, how):
    found = VOCABULARY.resolve(phrase)
    assert (found.keys, found.how, found.phrase) == ((key,), how, phrase.strip())


def test_plurals_stand_for_what_their_singular_does():
    plurals = ["wolves", "buses", "foxes", "butterflies", "boxes", "wheels", "sports cars"]
    singulars = ["wolf", "bus", "fox", "butterfly", "box", "wheel", "sports car"]
    assert list(map(keys, plurals)) == list(map(keys, singulars))
    assert {VOCABULARY.resolve(plural).how for plural in plurals} == {"plural"}


@pytest.mark.parametrize(
    ("word", "wnids"),
    [
        ("crane", {"n02012849", "n03126707"}),
        ("maillot", {"n03710637", "n03710721"}),
        ("cardigan", {"n02113186", "n02963159"}),
        ("Cardigan", {"n02113186", "n02963159"}),
        ("toy", {"n02085374", "n03964744"}),  # a lemma: toy dog, plaything
    ],
)
def test_an_ambiguous_word_gives_every_sense(word, wnids):
    assert {sense.wnid for sense in VOCABULARY.resolve(word).senses} == wnids


def test_a_key_stands_for_itself_alone():
    dog = EXPANDED.resolve("dog")
    assert (dog.keys, dog.how) == (("dog",), "key")


@pytest.mark.parametrize("vocabulary", [VOCABULARY, EXPANDED], ids=repr)
def test_every_key_wnid_name_and_lemma_resolves_to_its_synset(vocabulary):
    for synset in EXPANDED:
        by_key = vocabulary.resolve(synset.key)
        assert by_key.senses == (synset,) or by_key.how == "doubtful"
        assert vocabulary.resolve(synset.wnid).senses == (synset,)
        assert vocabulary.resolve(synset.wnid).keys
        for text in (synset.name, *synset.lemmas):
            found = vocabulary.resolve(text)
            other = {normalize(s.key) for s in found.senses} | {s.name for s in found.senses}
            assert synset in found.senses or normalize(text) in other or found.how == "doubtful"
            if text not in STOP_WORDS:
                assert [one.phrase for one in vocabulary.resolve_text(text)] == [text.rstrip(".")]


# Text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tabby cat on a sofa", ["tabby cat", "sofa"]),
        ("The sports car, wheel", ["sports car", "wheel"]),
        ("black and tan coonhound with a bow", ["black and tan coonhound", "bow"]),
        ('"golden retriever" dog', ["golden retriever", "dog"]),
        ("“golden retriever” dog", ["golden retriever", "dog"]),
        ('dog "tabby', ["dog", "tabby"]),
        ('dog ""', ["dog"]),
        ("dog/cat", ["dog", "cat"]),
        ("dog dog", ["dog", "dog"]),
        ("a cat being on a sofa", ["cat", "sofa"]),  # "being" is a lemma of organism
        ("crane_n02012849 dogs", ["crane_n02012849", "dogs"]),
        ("A St. Bernard.", ["St. Bernard"]),
    ],
)
def test_the_longest_phrases_of_a_text(text, expected):
    assert phrases(text) == expected


@pytest.mark.parametrize("text", ["", "  ", "the", "on a of", "...", '""', '" "', "'"])
def test_a_text_without_words_says_so(text):
    with pytest.raises(QueryError, match="no word to search for") as caught:
        VOCABULARY.resolve_text(text)
    assert not isinstance(caught.value, UnknownWordError)


# Suggestions


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("tabbby", "tabby"),
        ("retreiver", "retriever"),
        ("golden retreiver", "golden retriever"),
        ("goldenretriever", "golden retriever"),
        ("sun glases", "sunglasses"),
        ("dgo", "dog"),
        ("elefant", "elephant"),
        ("labradr", "Labrador retriever"),
        ("golden", "golden retriever"),
    ],
)
def test_suggestions_lead_with_what_was_meant(typed, meant):
    assert VOCABULARY.suggest(typed)[0] == meant


def test_suggestions_contain_the_word_or_are_none():
    tailed = VOCABULARY.suggest("tailed")
    assert len(tailed) == 3
    assert all("tailed" in suggestion for suggestion in tailed)
    assert VOCABULARY.suggest("whiskers") == ()
    assert VOCABULARY.suggest("") == VOCABULARY.suggest("x" * 10_000) == ()


@pytest.mark.parametrize(
    ("text", "known", "unknown"),
    [
        ("a golden retreiver on a sofa", ["sofa"], ["golden retreiver"]),
        ("fluffy tabby", ["tabby"], ["fluffy"]),
        ("black cat", ["cat"], ["black"]),
        ('"tabby dog" ball', ["ball"], ["tabby dog"]),
        ("fluffy", [], ["fluffy"]),
    ],
)
def test_an_unknown_word_in_a_text_is_told_with_its_neighbors_when_they_help(text, known, unknown):
    found = VOCABULARY.resolve_text(text)
    assert [one.phrase for one in found if one.keys] == known
    assert [one.phrase for one in found if one.how == "unknown"] == unknown


@pytest.mark.parametrize(
    ("word", "keys"),
    [
        ("cow", ("ox",)),
        ("Beaches", ("seashore", "beach_wagon")),
        ("toilet", ("toilet_seat", "toilet_tissue")),
        ("handbag", ("purse",)),
        ("tv", ("television",)),
        ("beach", ("seashore", "beach_wagon")),
        ("man", None),
    ],
)
def test_a_word_that_names_nothing_comes_near_something(word, keys):
    found = VOCABULARY.resolve(word)
    assert found.how == "near"
    assert keys in (None, found.keys)
    assert found.keys == tuple(sense.key for sense in found.senses)
    assert list(found.weights) == sorted(found.weights, reverse=True)
    assert all(0.4 <= weight < 1 for weight in found.weights)
    for other in (from_labels(["ox", "purse"]), from_wnids(["n02403003", "n02084071"])):
        near = other.resolve_text(word)[0]
        assert near.keys == (("ox",) if other.name == "wordnet" and word.startswith("cow") else ())


@given(TYPED)
def test_any_text_resolves_or_is_a_query_error(text):
    for resolve in (VOCABULARY.resolve, VOCABULARY.resolve_text):
        try:
            found = resolve(text)
        except QueryError as error:
            suggestions = getattr(error, "suggestions", ())
            found = tuple(map(VOCABULARY.resolve, suggestions))
        for one in found if isinstance(found, tuple) else (found,):
            assert one.keys or one.how == "unknown"
            if not one.weights:
                assert list(one.keys) == [key for key in VOCABULARY.keys if key in set(one.keys)]


# Own labels


def test_own_labels_are_terms_without_hypernyms():
    vocabulary = from_labels(["oak leaf", "ash_leaf"])
    assert (vocabulary.name, vocabulary.keys) == ("labels", ("oak_leaf", "ash_leaf"))
    first, second = vocabulary
    told = (first.name, first.lemmas, first.wnid, first.class_index)
    assert told == ("oak leaf", ("oak leaf",), "", 0)
    assert second.lemmas == ("ash leaf",)
    assert vocabulary.resolve("Oak-leaf").keys == ("oak_leaf",)
    assert vocabulary.resolve_text("an oak leaf and ash leaves")[1].keys == ("ash_leaf",)
    assert vocabulary.hypernyms("oak_leaf") == ()
    assert vocabulary.with_hypernyms() is vocabulary
    assert vocabulary.suggest("oka leaf") == ("oak leaf",)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["a.b", "c d\te", "x\x00y", "_id"], ("a_b", "c_d_e", "x_y", "id")),
        (["Cat", "cat", "dog"], ("Cat_1", "cat_2", "dog")),
        (["a b", "a.b", "a b 1"], ("a_b_2", "a_b_3", "a_b_1")),
        (["...", "🐶", "c++", "potter's"], ("label", "🐶", "c++", "potter's")),
        (["x" * 300], ("x" * 200,)),
        (["x" * 300, "x" * 301], ("x" * 198 + "_1", "x" * 198 + "_2")),
    ],
)
def test_keys_of_own_labels_are_safe_and_distinct(labels, expected):
    assert from_labels(labels).keys == expected


def test_a_label_may_be_a_stop_word_or_have_punctuation():
    vocabulary = from_labels(["on", "off", "bird, big", "crane (bird)"])
    found = vocabulary.resolve_text("on, bird, big")
    assert [one.keys for one in found] == [("on",), ("bird_big",)]
    found = vocabulary.resolve_text("on crane (bird) off")
    assert [one.keys for one in found] == [("on",), ("crane_bird",), ("off",)]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "at least one"),
        ("abc", "must be a list"),
        (["a", " "], "label 1 is empty"),
        (["a", "b", "a "], "labels 0 and 2 are both 'a'"),
        (["a", 3], "label 1 is not text"),
        (["\ud800"], "label 0 is not text"),
    ],
)
def test_wrong_labels_are_refused(labels, message):
    with pytest.raises(ConfigurationError, match=message):
        from_labels(labels)


@given(LABELS)
def test_own_labels_keep_their_laws(labels):
    vocabulary = from_labels(labels)
    assert [synset.name for synset in vocabulary] == labels
    assert max(Counter(key.casefold() for key in vocabulary.keys).values()) == 1
    for synset in vocabulary:
        assert 1 <= len(synset.key) <= 200
        assert synset.key.split() == [synset.key]
        assert "." not in synset.key
        assert not synset.key.startswith("_")
        assert vocabulary.resolve(synset.key).keys == (synset.key,)
        for text in (synset.name, *synset.lemmas):
            assert synset.key in vocabulary.resolve(text).keys
    assert Vocabulary.from_dict(json.loads(json.dumps(vocabulary.to_dict()))) == vocabulary


# Round trips


@pytest.mark.parametrize(
    ("vocabulary", "data"),
    [
        (VOCABULARY, {"name": "imagenet-1k"}),
        (EXPANDED, {"name": "imagenet-1k", "hypernyms": True}),
        (from_labels(["a", "b"]), {"name": "labels", "labels": ["a", "b"]}),
    ],
    ids=repr,
)
def test_a_vocabulary_survives_its_dict_and_pickle(vocabulary, data):
    assert vocabulary.to_dict() == data
    for again in (Vocabulary.from_dict(data), pickle.loads(pickle.dumps(vocabulary))):  # noqa: S301
        assert again == vocabulary
        assert hash(again) == hash(vocabulary)


def test_vocabularies_are_compared_by_content():
    assert VOCABULARY != EXPANDED
    assert from_labels(["a", "b"]) != from_labels(["b", "a"])
    assert len({from_labels(["a"]), from_labels(["a"]), VOCABULARY}) == 2


@pytest.mark.parametrize(
    "data",
    [{}, {"name": "imagenet-21k"}, {"name": "labels"}, {"name": "labels", "labels": ["a", ""]}],
)
def test_an_unknown_vocabulary_is_a_schema_error(data):
    with pytest.raises(SchemaError):
        Vocabulary.from_dict(data)


# The script that builds the table


def test_the_script_reads_wordnet_and_keeps_keys_apart(tmp_path):
    data = tmp_path / "data.noun"
    data.write_text(
        "  1 A license  \n"
        "00000001 03 n 01 bird 0 001 ~ 00000002 n 0000 | it flies  \n"
        "00000002 03 n 02 crane 0 Grus_grus 1 002 @ 00000001 n 0000 @i 00000003 n 0000 | wades\n"
        "00000003 03 n 01 Crane 0 000 | a family  \n",
        encoding="utf-8",
    )
    nouns, notice = build_synsets.read_nouns(data)
    assert notice == "A license\n"
    assert build_synsets.table([("n00000002", "crane")], nouns) == [
        ("n00000002", "0", "crane", "crane", "crane|Grus grus", "wades", "n00000001 n00000003"),
        ("n00000001", "", "bird", "bird", "bird", "it flies", ""),
        ("n00000003", "", "Crane_n00000003", "Crane", "Crane", "a family", ""),
    ]


# Labels that are wnids


def test_labels_that_are_wnids_have_the_words_of_wordnet():
    labels = [
        "n02084071",
        "n02099601",
        "n02123045",
        "my own",
        "n02012849",
        "n03126707",
        "n99999999",
    ]
    made = from_wnids(labels)
    dog, retriever, tabby, *others = made.keys
    assert (dog, retriever, tabby) == ("dog", "golden_retriever", "tabby")
    assert others == ["my_own", "crane_n02012849", "crane_n03126707", "n99999999"]
    assert made["tabby"].lemmas == VOCABULARY["tabby"].lemmas
    above = {synset.wnid for synset in made.hypernyms("tabby")}
    assert above == {synset.wnid for synset in VOCABULARY.hypernyms("tabby")}
    for word, terms in {
        "dog": (dog, retriever),  # a class that stands above another, and sums nothing
        "animal": (dog, retriever, tabby, "crane_n02012849"),
        "cranes": ("crane_n02012849", "crane_n03126707"),
        "my own": ("my_own",),
    }.items():
        assert made.resolve(word).keys == terms, word
    assert made.labels == labels
    assert Vocabulary.from_dict(json.loads(json.dumps(made.to_dict()))) == made


def test_with_hypernyms_a_class_above_others_sums_them_and_stands_alone():
    made = from_wnids(["n02084071", "n02099601", "n02123045"])
    wider = made.with_hypernyms()
    assert Vocabulary.from_dict(wider.to_dict()) == wider
    assert wider.with_hypernyms() is wider
    assert wider.resolve("dog").keys == ("dog",)
    sums = Hypernyms()(np.array([[0.25, 0.5, 0.125]], np.float32), made)[0]
    found = dict(zip(wider.keys, sums.tolist(), strict=True))
    assert {key: found[key] for key in ("dog", "golden_retriever", "tabby", "carnivore")} == {
        "dog": 0.75, "golden_retriever": 0.5, "tabby": 0.125, "carnivore": 0.875,
    }  # fmt: skip


def test_thousands_of_classes_have_distinct_keys_and_taught_words():
    every = from_wnids(nouns()[:80_000:40]).with_taught([("beach_taught", "beach", "")])
    assert every.taught == 1
    assert "beach_taught" in every.resolve("beach").keys
    assert len({key.casefold() for key in every.keys}) == len(every) == 2001
