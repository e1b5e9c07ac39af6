"""Learning: metric learning on the features of an index, and classifiers with 8 bits.

A small network is trained on stored features, so that pictures of one object come near
(docs/metric-learning.md). To be read in the order of an experiment: ``made_groups`` (pictures of
the same objects, where there are none at hand), ``head`` (the network), ``examples`` (features and
objects of an index), ``learner`` (losses, mining, one step) and ``training``. ``head_filter`` makes
a head part of an analyzer, ``analysis/models/keras_file`` one with a shallow network.
``quantizing`` stands alone.
"""

from imgsearch_es.learning.examples import features_and_groups
from imgsearch_es.learning.head import apply_head, build_head, load_head
from imgsearch_es.learning.learner import LOSSES, MINING, Epoch, TrainingOptions, TrainingReport
from imgsearch_es.learning.made_groups import make_groups
from imgsearch_es.learning.training import train, train_head

__all__ = [
    "LOSSES", "MINING", "Epoch", "TrainingOptions", "TrainingReport", "apply_head", "build_head",
    "features_and_groups", "load_head", "make_groups", "train", "train_head",
]  # fmt: skip
