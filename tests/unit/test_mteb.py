"""MTEB's own evaluation, on a task in memory: our rankings, and the figures of ir_measures."""

from __future__ import annotations

import sys

import ir_measures
import numpy as np
import pytest

from imgsearch_es import ImageIndex, Run
from imgsearch_es.errors import ConfigurationError
from tests.fakes import noise

pytestmark = [
    pytest.mark.slow,  # mteb takes seconds to import
    pytest.mark.skipif(sys.version_info < (3, 11), reason="mteb-core needs Python 3.11"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
COUNT = 12


def like(number: int):
    """A picture that is like `noise(number)`."""
    return np.clip(np.asarray(noise(number), int) + 9 * (number % 3), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def task_of():
    """Makes tasks of MTEB of columns."""
    from datasets import Dataset
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
    from mteb.abstasks.task_metadata import TaskMetadata

    def make(corpus, queries, qrels, top_ranked=None):
        class Task(AbsTaskRetrieval):
            metadata = TaskMetadata(
                name="InMemory", description="Pictures of noise.", type="Any2AnyRetrieval",
                reference=None, main_score="ndcg_at_10", category="i2i", modalities=["image"],
                dataset={"path": "none/none", "revision": "0"}, eval_splits=["test"],
                eval_langs=["eng-Latn"], bibtex_citation="",
            )  # fmt: skip

            def load_data(self, num_proc=None, **kwargs):
                data = RetrievalSplitData(
                    corpus=Dataset.from_dict(corpus), queries=Dataset.from_dict(queries),
                    relevant_docs=qrels, top_ranked=top_ranked,
                )  # fmt: skip
                self.dataset = {"default": {"test": data}}
                self.data_loaded = True

        return Task()

    return make


def corpus(more=()):
    numbers = [*range(COUNT), *more]
    return {
        "id": [f"d{place}" for place, _ in enumerate(numbers)],
        "image": [noise(number) for number in numbers],
    }


QRELS = {f"q{n}": {f"d{n}": 1, f"d{(n + 5) % COUNT}": 1, f"d{(n + 1) % COUNT}": 0}
         for n in range(6)}  # fmt: skip


@pytest.mark.parametrize("strategy", ["auto", "auto+dense-cosine:rrf"])
def test_the_figures_are_those_of_our_ranking(task_of, fake_model, tmp_path, strategy):
    import mteb
    from PIL import Image

    from imgsearch_es.mteb import Search

    queries = {"id": [f"q{n}" for n in range(6)],
               "image": [Image.fromarray(like(n)) for n in range(6)]}  # fmt: skip
    model = Search("fake", strategy)
    assert isinstance(model, mteb.SearchProtocol)
    task = task_of(corpus(), queries, QRELS)
    scores = task.evaluate(model, "test", encode_kwargs={})["default"]  # needs no PyTorch
    with ImageIndex(tmp_path / "x.duckdb", model="fake") as index:
        index.add(corpus()["image"])
        found = {
            query: index.search(image, k=COUNT, **model.system.options)
            for query, image in zip(*queries.values(), strict=True)
        }
        names = {hit.id: f"d{n}" for n in range(COUNT) for hit in [index.get(noise_id(n))]}
    ranked = {q: [(names[hit.id], hit.score) for hit in hits] for q, hits in found.items()}
    run = Run(strategy, ranked).to_dict()
    measures = {"ndcg_at_10": "nDCG@10", "map_at_10": "AP@10", "recall_at_3": "R@3"}
    for theirs, name in measures.items():
        measure = ir_measures.parse_measure(name)
        expected = ir_measures.calc_aggregate([measure], QRELS, run)[measure]
        assert scores[theirs] == pytest.approx(expected, abs=1e-5), name
    assert 0 < scores["ndcg_at_10"] < 1
    assert model.mteb_model_meta.name == f"imgsearch_es/fake-{strategy}"


def noise_id(number: int) -> str:
    from imgsearch_es.pictures.files import picture_id
    from imgsearch_es.pictures.images import open_image

    return picture_id(open_image(noise(number)).uri)


def test_words_copies_candidates_and_what_has_no_answer(task_of, fake_model):
    from imgsearch_es.mteb import Search

    model = Search("fake", "sqrt", terms=20)
    data = task_of(corpus(more=[3]), {"id": ["a", "b"], "text": ["tabby", "glorb"]}, {}, None)
    data.load_data()
    split = data.dataset["default"]["test"]
    about = {"task_metadata": data.metadata, "hf_split": "test", "hf_subset": "default"}
    options = {"encode_kwargs": {}, "num_proc": None, **about}
    model.index(split["corpus"], **options)
    with pytest.warns(UserWarning, match="1 queries of InMemory have no answer, such as b: "):
        found = model.search(split["queries"], top_k=5, **options)
    assert found["b"] == {}
    best = model.images.search(text="tabby", strategy="sqrt", k=5)
    assert list(found["a"].values()) == pytest.approx([h.score for h in best][: len(found["a"])])
    copies = task_of({}, {"id": ["c"], "image": [noise(3)]}, {})
    copies.load_data()
    asked = copies.dataset["default"]["test"]["queries"]
    both = model.search(asked, top_k=4, **options)["c"]
    assert list(both)[:2] == ["d3", "d12"]  # two documents are one picture
    assert len(both) == 4
    ranked = model.search(asked, top_k=9, top_ranked={"c": ["d5", "d12", "d0"]}, **options)["c"]
    assert ranked.keys() == {"d5", "d12", "d0"}
    assert next(iter(ranked)) == "d12"
    texts = task_of({"id": ["t"], "text": ["words"]}, {"id": ["c"], "text": ["x"]}, {})
    texts.load_data()
    with pytest.raises(ConfigurationError, match="documents of InMemory have none"):
        model.index(texts.dataset["default"]["test"]["corpus"], **options)
