"""Maps of a collection: pictures in the plane, those with similar deep features near each other.

t-SNE (van der Maaten and Hinton, JMLR 2008) comes from scikit-learn, UMAP (McInnes, Healy and
Melville, 2018) from umap-learn. On both maps neighborhoods mean something, and distances between
clusters, their sizes and the axes do not. The same features and seed give the same map.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis.models.runtime import quiet
from imgsearch_es.errors import ConfigurationError, ImgsearchError, QueryError, needed
from imgsearch_es.interfaces.html import words
from imgsearch_es.interfaces.plots import make_figure, save_figure
from imgsearch_es.pictures.thumbnails import shrink_all
from imgsearch_es.retrieval.language import Where, to_filters

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from imgsearch_es.index import ImageIndex

METHODS = ("tsne", "umap")
COLORINGS = ("label", "synset")
LARGEST = 5_000
"""Pictures of a map, at most, unless told; of more a random part."""
_COLORS = (
    "#0b7a75", "#b5532d", "#3a5a9b", "#b8860b", "#7b4b94",
    "#4d7c3a", "#c2477f", "#2f9ec4", "#8a5a44", "#5f6b73",
)  # fmt: skip
_OTHER, _OTHERS_COLOR = "others", "#c3c8cc"


@dataclass(frozen=True, slots=True, eq=False)
class CollectionMap:
    """Pictures in the plane.

    Attributes:
        points: float64 of shape (pictures, 2), between 0 and 1.
        uris: of the pictures.
        kinds: what each is colored by: its first label or its best synset.
        method: "tsne" or "umap".
    """

    points: NDArray[np.float64]
    uris: tuple[str, ...]
    kinds: tuple[str, ...]
    method: str

    def plot(
        self, *, thumbnails: int = 150, title: str = "", figsize: tuple[float, float] = (10, 8)
    ) -> Figure:
        """A dot for each picture, and so many thumbnails where they do not hide one another.

        Raises:
            MissingDependencyError: matplotlib is not installed.
        """
        figure = make_figure(figsize)
        axes = figure.add_subplot()
        kinds = Counter(sorted(self.kinds))
        colors = {kind: c for (kind, _), c in zip(kinds.most_common(), _COLORS, strict=False)}
        groups = [kind if kind in colors else _OTHER for kind in self.kinds]
        if _OTHER in groups:
            colors[_OTHER] = _OTHERS_COLOR
        for group, color in colors.items():
            rows = [i for i, own in enumerate(groups) if own == group]
            label = f"{words(group)} ({len(rows)})"
            x, y = self.points[rows].T
            axes.scatter(x, y, s=26, color=color, label=label, linewidths=0, zorder=3)
        if thumbnails:
            self._draw_thumbnails(axes, thumbnails, [colors[group] for group in groups])
        axes.set(xticks=[], yticks=[], xlim=(-0.05, 1.05), ylim=(-0.05, 1.05))
        axes.spines[:].set_visible(False)
        axes.set_title(title, loc="left", fontweight="bold", parse_math=False)
        legend = figure.legend(loc="outside right upper", frameon=False)
        for text in legend.get_texts():
            text.set_parse_math(False)
        return figure

    def save(self, path: str | os.PathLike[str], **options: Any) -> None:
        """Draw the map into a file, PNG, SVG or PDF by its name; takes what ``plot`` takes.

        Raises:
            ConfigurationError: the file cannot be written.
        """
        save_figure(self.plot(**options), path, "map", dpi=150)

    def _draw_thumbnails(self, axes: Axes, most: int, colors: Sequence[str]) -> None:
        from matplotlib.offsetbox import AnnotationBbox, OffsetImage

        side = max(28, min(72, round(420 / math.sqrt(max(len(self.uris), 1)))))
        rows = _apart(self.points, most, distance=side / 640)
        images = shrink_all([self.uris[i] for i in rows], 2 * side)
        for i, image in zip(rows, images, strict=True):
            if isinstance(image, ImgsearchError):
                continue  # its dot is there
            box = AnnotationBbox(
                OffsetImage(np.asarray(image), zoom=side / max(image.size)),
                tuple(self.points[i]),
                pad=0.1,
                bboxprops={"edgecolor": colors[i], "linewidth": 1.5},
            )
            axes.add_artist(box)


def map_collection(
    index: ImageIndex,
    *,
    method: str = "tsne",
    color: str = "label",
    where: Where | None = None,
    limit: int = LARGEST,
    seed: int = 0,
) -> CollectionMap:
    """Lay out the pictures of an index by their stored deep features.

    Args:
        index: an index whose documents have deep features.
        method: "tsne" or "umap".
        color: by "label", the first one, or "synset", the best one.
        where: conditions, as of ``search``.
        limit: of more pictures, so many are chosen at random.
        seed: of the choice and the layout.

    Raises:
        QueryError: fewer than three pictures meet the conditions, or have no deep feature.
        MissingDependencyError: the method's package is not installed.
    """
    if color not in COLORINGS:
        raise ConfigurationError(f"a map is colored by {' or '.join(COLORINGS)}, not {color!r}")
    if limit < 3:
        raise ConfigurationError(f"a map is of three pictures or more, not {limit}")
    if not 0 <= seed < 2**32:
        raise ConfigurationError(f"the seed of a map is 0 to {2**32 - 1:,}, not {seed}")
    filters = to_filters(where, index.vocabulary)
    found = sorted(index.store.documents(filters), key=lambda document: document.uri)
    documents = [document for document in found if document.embedding is not None]
    if len(documents) < 3:
        raise QueryError(
            f"{index.location}: {len(documents)} pictures have a deep feature and meet the "
            "conditions; a map takes three or more"
        )
    if len(documents) > limit:
        chosen = np.random.default_rng(seed).permutation(len(documents))[:limit]
        documents = [documents[i] for i in sorted(chosen)]
    features = np.stack([np.asarray(document.embedding) for document in documents])
    points = project(features, method=method, seed=seed)
    uris = tuple(document.uri for document in documents)
    if color == "label":
        kinds = [document.labels[0] if document.labels else "none" for document in documents]
    else:
        kinds = [document.terms[0].key if document.terms else "none" for document in documents]
    return CollectionMap(points, uris, tuple(kinds), method)


def project(
    features: NDArray[np.float32], *, method: str = "tsne", seed: int = 0
) -> NDArray[np.float64]:
    """Lay out features of shape (pictures, dimensions) in the plane, by cosine distance.

    The points are float64 of shape (pictures, 2), between 0 and 1.
    """
    if method not in METHODS:
        raise ConfigurationError(f"there is no map {method!r}; there are {', '.join(METHODS)}")
    if features.ndim != 2 or len(features) < 3:
        raise ConfigurationError(f"a map takes three features or more, not shape {features.shape}")
    others = len(features) - 1
    if method == "tsne":
        make = needed("sklearn.manifold", "t-SNE needs scikit-learn", "research").TSNE
        options = {"perplexity": min(30.0, others / 3), "init": "random"}
    else:
        with quiet():  # it imports TensorFlow where that is installed
            make = needed("umap", "UMAP needs umap-learn", "umap").UMAP
        start = "spectral" if others >= 10 else "random"  # too few have no spectrum
        options = {"n_neighbors": min(15, others), "init": start, "n_jobs": 1}
    layout = make(metric="cosine", random_state=seed, **options).fit_transform(features)
    points = np.asarray(layout, dtype=np.float64)
    low, high = points.min(axis=0), points.max(axis=0)
    return np.asarray((points - low) / np.where(high > low, high - low, 1))


def _apart(points: NDArray[np.float64], most: int, distance: float) -> list[int]:
    """Points that are farther than a distance from each other, in their order."""
    kept: list[int] = []
    for i, point in enumerate(points):
        if len(kept) == most:
            break
        if not kept or np.abs(points[kept] - point).max(axis=1).min() > distance:
            kept.append(i)
    return kept
