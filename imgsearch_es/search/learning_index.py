"""What an index learns from its own pictures: words, their text, and whitening."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from imgsearch_es.analysis.analyzer import Analyzer
from imgsearch_es.analysis.terms import TaughtWord
from imgsearch_es.errors import ConfigurationError
from imgsearch_es.indexing.kept_index import PathLike
from imgsearch_es.indexing.photos import TextReport, read_texts
from imgsearch_es.indexing.whitening import Whitening, learn_whitening
from imgsearch_es.retrieval.language import Where, to_filters
from imgsearch_es.search import teaching
from imgsearch_es.search.collected_index import CollectedIndex
from imgsearch_es.search.query_pictures import QueryImages
from imgsearch_es.search.teaching import Word
from imgsearch_es.stores.base import Store


class LearningIndex(CollectedIndex):
    """What an ``ImageIndex`` learns."""

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
            return teaching.teach(self.store, lambda: self.analyzer, word, like, unlike, progress)

    def forget(
        self, word: str, *, progress: Callable[[int, int], None] = lambda done, total: None
    ) -> int:
        """Take back a word that was taught; gives how many pictures had it.

        >>> _ = index.teach("coin", ["photos/coins.jpg", "photos/coins-mirrored.jpg"])
        >>> index.forget("coin")
        4
        """
        self._settings()
        with self._for_one_index():
            return teaching.forget(self.store, word, progress)

    def words(self) -> list[Word]:
        """The words that the index was taught, with their quality and numbers of pictures.

        >>> _ = index.teach("coin", ["photos/coins.jpg", "photos/coins-mirrored.jpg"])
        >>> [(word.name, word.pictures) for word in index.words()]
        [('coin', 4)]
        """
        self._settings()
        return teaching.words(self.store)

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
        with self._for_one_index():
            return read_texts(self.store, to_filters(where, self.vocabulary), progress)

    def _teach_again(
        self, store: Store, analyzer: Analyzer, words: Sequence[TaughtWord]
    ) -> list[tuple[str, str]]:
        return teaching.teach_again(store, lambda: analyzer, words)

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
            self.store, Path(path), dimensions=dimensions, force=force, progress=progress
        )
