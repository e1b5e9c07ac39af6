"""What an index learns from its own pictures: words, their text, and whitening."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from imgsearch_es.analysis.analyzer import Analyzer
from imgsearch_es.analysis.terms import TaughtWord, is_word, word_key
from imgsearch_es.errors import ConfigurationError, ImageError, ImgsearchError, QueryError
from imgsearch_es.indexing.kept_index import PathLike
from imgsearch_es.indexing.photos import TextReport, read_texts
from imgsearch_es.indexing.whitening import Whitening, learn_whitening
from imgsearch_es.pictures.files import whole
from imgsearch_es.retrieval.feedback import Example
from imgsearch_es.retrieval.language import Where, to_filters
from imgsearch_es.search import teaching
from imgsearch_es.search.collected_index import CollectedIndex
from imgsearch_es.search.query_pictures import PictureReader, QueryImage, QueryImages, several
from imgsearch_es.stores.base import IndexSettings, Store, known_settings
from imgsearch_es.stores.settings import LONGEST_NAME, MOST_TAUGHT
from imgsearch_es.vocabulary.words import normalize

_SAMPLE = 1000
"""Pictures of the collection that stand for all without the word."""


@dataclass(frozen=True)
class Word:
    """A word that an index was taught.

    Attributes:
        name: the word, whose ``synset`` is the key that pictures have it by.
        like, unlike: the URIs of the examples.
        quality: mean average precision in cross-validation, from 0 to 1: how well held-out examples
            are found among a sample of the collection. None where they were too few.
        pictures: how many pictures of the index have the word.
    """

    name: str
    synset: str
    like: tuple[str, ...]
    unlike: tuple[str, ...]
    quality: float | None
    pictures: int


class LearningIndex(CollectedIndex):
    """What an ``ImageIndex`` learns."""

    _can_name = True

    def teach(
        self,
        word: str,
        like: QueryImages,
        unlike: QueryImages = (),
        *,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Word:
        """Teach the index a word by two pictures that show it, or more.

        All pictures of the index that fit get it as a synset, by their stored deep features, and so
        do those that are added later. Taught again, it is learnt from the new examples alone. If
        synsets have this name already, the word then means them and the taught one.

        >>> index.teach("coin", ["photos/coins.jpg", "photos/coins-mirrored.jpg"]).pictures
        4
        >>> index.search("coin").total
        2

        Args:
            word: one word or several, as it will be searched for.
            like: pictures that show it, as ``search`` takes them.
            unlike: pictures that do not, such as wrong hits.
            progress: called with pictures looked at and all pictures.

        Raises:
            ConfigurationError: there are no deep features, or this can be no word.
            QueryError: there are too few examples, or one is both liked and unliked.
        """
        self._settings()
        with self._for_one_index():
            return _teach(self.store, lambda: self.analyzer, word, like, unlike, progress)

    def forget(
        self, word: str, *, progress: Callable[[int, int], None] = lambda done, total: None
    ) -> int:
        """Take back a word that was taught; gives how many pictures had it.

        >>> _ = index.teach("coin", ["photos/coins.jpg", "photos/coins-mirrored.jpg"])
        >>> index.forget("coin")
        4
        """
        settings, store, changed = self._settings(), self.store, 0
        known = _find(settings, word)
        if known is None:
            names = ", ".join(each.name for each in settings.taught) or "none"
            raise QueryError(
                f"{store.location} was not taught {word!r}; the words taught are: {names}"
            )
        key = known.key
        with self._for_one_index(), store.patient():
            store.change_taught(
                lambda now: now.with_taught(
                    w.forgotten() if w.key == key else w for w in now.taught
                )
            )
            if gone := next((w for w in known_settings(store).taught if w.key == key), None):
                changed = store.apply_taught(gone, progress)
                store.finish()
            store.change_taught(  # unless another program taught it again meanwhile
                lambda now: now.with_taught(
                    w for w in now.taught if w.key != key or w != w.forgotten()
                )
            )
        return changed

    def words(self) -> list[Word]:
        """The words that the index was taught, with their quality and numbers of pictures.

        >>> _ = index.teach("coin", ["photos/coins.jpg", "photos/coins-mirrored.jpg"])
        >>> [(word.name, word.pictures) for word in index.words()]
        [('coin', 4)]
        """
        return [_word(self.store, word) for word in self._settings().taught]

    def word_name(self, key: str) -> str:
        """A visual word with its best synsets, see `Analyzer.word_name`; else as it is.

        >>> index.word_name("vw412")
        'vw412: military uniform, pomegranate, coil'
        """
        if self._can_name:
            try:
                return self.analyzer.word_name(key)
            except ImgsearchError:  # an index without a model, or its weights are not here
                self._can_name = False
        return key

    def word_names(self) -> dict[str, str]:
        """The names of all visual words of the index; QueryError where it has none.

        >>> _ = index.reindex(visual_words=16)
        >>> len(index.word_names())
        2560
        """
        settings = self._settings()
        if not settings.visual_words:
            raise QueryError(
                f"{self.location} has no visual words: `imgsearch reindex --visual-words` adds them"
            )
        keys = map(word_key, range(2 * settings.embedding_dimensions))
        return {key: self.word_name(key) for key in keys}

    def read_text(
        self,
        where: Where | None = None,
        *,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> TextReport:
        """Read the text in pictures (OCR), which conditions such as ``ocr:"flight 42"`` then find.

        Only pictures are read whose text is not known yet, so another run goes on after one that
        was interrupted, or with pictures that are new.

        >>> index.read_text("filename=page.jpg").with_text
        1
        >>> index.search('ocr:"segmentation"').total
        1

        Args:
            where: conditions on the pictures, as ``search`` takes them; by default all.
            progress: called with pictures read and all that are to be.

        Raises:
            MissingDependencyError: the extra ``ocr`` is not installed.
            ConfigurationError: the index is of a form that earlier versions write to, which would
                take documents with a text for harmed.
        """
        settings = self._settings()
        if settings.has_model and not settings.vocabulary.has_colors:
            raise ConfigurationError(
                f"{self.location} was made before text was kept: `imgsearch reindex` brings it up "
                "to date and analyzes nothing; then run this again"
            )
        with self._for_one_index(), self.store.patient():
            return read_texts(self.store, to_filters(where, self.vocabulary), progress)

    def _teach_again(
        self, store: Store, analyzer: Analyzer, words: Sequence[TaughtWord]
    ) -> list[tuple[str, str]]:
        lost = []
        for word in words:
            try:
                _teach(store, lambda: analyzer, word.name, list(word.like), list(word.unlike))
            except (ConfigurationError, ImageError, QueryError) as error:  # not of a server or disk
                lost.append((word.name, str(error)))
        return lost

    def learn_whitening(
        self,
        path: PathLike,
        *,
        dimensions: int | None = None,
        force: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> Whitening:
        """Learn PCA whitening on the stored deep features, and write it into a file.

        An analyzer uses it by the embedding filter ``{"name": "pca_whiten", "path": path}``: for a
        new index, or for this one by ``reindex``.

        The file ends in .npz; one that exists is overwritten by ``force``. By default all
        dimensions are kept in which the features vary.

        >>> index.learn_whitening("whitening.npz", dimensions=16).components
        16

        Raises:
            ConfigurationError: there are no deep features, or too few for so many dimensions.
            ExchangeError: the file exists or cannot be written.
        """
        return learn_whitening(
            self.store, whole(path), dimensions=dimensions, force=force, progress=progress
        )


def _teach(
    store: Store,
    analyzer: Callable[[], Analyzer],
    name: str,
    like: QueryImages,
    unlike: QueryImages = (),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Word:
    settings = known_settings(store)
    _check_name(settings, name)
    if not settings.embedding_dimensions:
        raise ConfigurationError(
            f"{store.location} has no deep features to learn {name!r} from: index the pictures "
            "again with an analyzer whose embedding is not false"
        )
    good, bad = _examples(PictureReader(store, analyzer), name, several(like), several(unlike))
    uris = {example.uri for example in (*good, *bad)}
    seen = _distinct([*good, *bad], name)
    others = [
        d.embedding
        for d in store.sample(_SAMPLE + len(uris))
        if d.uri not in uris and d.embedding is not None and d.embedding.tobytes() not in seen
    ]
    if not others and not bad:
        raise ConfigurationError(
            f"{store.location} has no other pictures to tell {name!r} from: add some, or name some "
            "that do not show it by unlike= (--unlike)"
        )
    size = settings.embedding_dimensions
    vectors = [e.embedding for e in good], others, [e.embedding for e in bad]
    learnt = teaching.learn(*(np.asarray(some, np.float32).reshape(-1, size) for some in vectors))
    made: list[TaughtWord] = []

    def taught(settings: IndexSettings) -> IndexSettings:
        if made and any(made[-1].key == each.key for each in settings.taught):
            return settings  # this word, or one that was taught in its place since
        before, first = _check_name(settings, name), len(settings.vocabulary.base)
        taken = {each.number for each in settings.taught}
        free = (n for n in range(first, first + MOST_TAUGHT) if n not in taken)
        word = TaughtWord(
            name=before.name if before else " ".join(name.split()),
            key=before.key if before else settings.vocabulary.key_for(name),
            number=before.number if before else next(free),
            weights=learnt.weights,
            bias=learnt.bias,
            like=tuple(example.uri for example in good),
            unlike=tuple(example.uri for example in bad),
            quality=learnt.quality,
        )
        made.append(word)
        others = (each for each in settings.taught if each.key != word.key)
        return settings.with_taught([*others, word])

    with store.patient():
        store.change_taught(taught)
        store.apply_taught(made[-1], progress)
        store.finish()
    return _word(store, made[-1])


def _check_name(settings: IndexSettings, name: str) -> TaughtWord | None:
    """The word of this name that was taught before; ConfigurationError if it can be none."""
    letters = " ".join(name.split())
    if not normalize(name) or any(unicodedata.category(c) in ("Cc", "Cs") for c in letters):
        raise ConfigurationError(f"{name!r} is no word: write letters, such as 'dining table'")
    if len(name) > LONGEST_NAME:
        raise ConfigurationError(f"a word has {LONGEST_NAME} characters at most, not {len(name)}")
    before = _find(settings, name)
    if is_word(settings.vocabulary.key_for(name)):
        raise ConfigurationError(f"{name!r} is how a visual word is called: choose another name")
    for known in (*settings.vocabulary.base, *settings.vocabulary.ancestors):
        is_key = name == known.wnid or (name == known.key and normalize(known.name) != name)
        if before is None and is_key and known.wnid and known.wnid in name:
            raise ConfigurationError(
                f"{name} is the key of a synset, not a word: teach {known.lemmas[0]!r}, then both "
                "count"
            )
    if before is None and len(settings.taught) >= MOST_TAUGHT:
        raise ConfigurationError(
            f"an index has at most {MOST_TAUGHT} taught words: forget one first"
        )
    return before


def _find(settings: IndexSettings, name: str) -> TaughtWord | None:
    form = normalize(name)
    found = (w for w in settings.taught if name == w.key or normalize(w.name) == form)
    return next(found, None)


def _examples(
    reader: PictureReader, name: str, like: Sequence[QueryImage], unlike: Sequence[QueryImage]
) -> tuple[list[Example], list[Example]]:
    """The examples, each once, read from the index where they are, else from their files."""
    good, bad = (_distinct(reader.read(each), name) for each in (like, unlike))
    if both := [good[feature].uri for feature in good if feature in bad]:
        raise QueryError(f"{min(both)} is given as like and as unlike: leave out one of them")
    if len(good) < teaching.LEAST:
        count = "none was" if not good else f"{len(good)} was"
        raise QueryError(
            f"{name!r} takes at least {teaching.LEAST} different pictures that show it, {count} "
            "given: name more by like= (--like)"
        )
    return list(good.values()), list(bad.values())


def _distinct(examples: Sequence[Example], name: str) -> dict[bytes, Example]:
    """Examples by their deep features: a copy of a picture tells nothing new of a word."""
    found: dict[bytes, Example] = {}
    for example in examples:
        if example.embedding is None or not np.isfinite(example.embedding).all():
            raise QueryError(f"{example.uri} has no deep feature to learn {name!r} from")
        found.setdefault(example.embedding.tobytes(), example)
    return found


def _word(store: Store, word: TaughtWord) -> Word:
    count = store.statistics([word.key]).frequencies.get(word.key, 0)
    return Word(word.name, word.key, word.like, word.unlike, word.quality, count)
