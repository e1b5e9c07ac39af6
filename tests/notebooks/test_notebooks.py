"""Runs every notebook from its first cell to its last, on the embedded store and on a real node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
CELL_SECONDS = 240
SCORES = """
import json
json.dumps({
    name: [[hit.uri, hit.score] for hit in value]
    for name, value in globals().items() if name.endswith("_hits")
})
"""
"""Added as the last cell: all hits that the notebook holds."""

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the notebooks run; both stores index the same photos, so ids are the same too."""
    return tmp_path_factory.mktemp("notebooks")


@pytest.fixture(scope="module")
def embedded(workplace: Path) -> dict[str, Run]:
    """The notebooks, run on the embedded store."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("IMGSEARCH_INDEX", raising=False)
        patch.delenv("IMGSEARCH_PHOTOS", raising=False)
        return {path.name: Run(path, workplace) for path in NOTEBOOKS}


class Run:
    """A notebook that was run: what its cells printed, and its hits."""

    def __init__(self, path: Path, workplace: Path) -> None:
        notebook = nbformat.read(path, as_version=4)
        notebook.cells.append(nbformat.v4.new_code_cell(SCORES, id="test-scores"))
        client = NotebookClient(
            notebook,
            timeout=CELL_SECONDS,
            kernel_name="python3",
            resources={"metadata": {"path": str(workplace)}},
        )
        client.execute()
        self._outputs = {cell.id: cell.get("outputs", []) for cell in notebook.cells}
        (answer,) = self._outputs["test-scores"]
        self.hits: dict[str, list[tuple[str, float]]] = {
            name: [(uri, score) for uri, score in hits]
            for name, hits in json.loads(answer.data["text/plain"][1:-1]).items()
        }

    def printed(self, cell: str) -> str:
        return "".join(output.get("text", "") for output in self._outputs[cell])

    def shown(self, cell: str, kind: str) -> str:
        return "".join(output.get("data", {}).get(kind, "") for output in self._outputs[cell])

    def names(self, hits: str) -> list[str]:
        return [Path(uri).name for uri, _ in self.hits[hits]]

    def stderr(self) -> str:
        return "".join(
            output.text
            for outputs in self._outputs.values()
            for output in outputs
            if output.get("name") == "stderr"
        )


def test_there_are_notebooks():
    assert [path.name for path in NOTEBOOKS] == [
        "01_quickstart.ipynb", "04_evaluation.ipynb", "05_how_many_terms.ipynb",
    ]  # fmt: skip


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_committed_without_outputs(path: Path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_runs_on_the_embedded_store_without_a_murmur(path: Path, embedded: dict[str, Run]):
    assert embedded[path.name].stderr() == ""


def test_quickstart_analyzes_a_cat(embedded: dict[str, Run]):
    terms = [line.split()[1] for line in quickstart(embedded).printed("analyze").splitlines()]
    assert len(terms) == 10
    assert set(terms[:3]) == {"tabby", "tiger_cat", "Egyptian_cat"}


def test_quickstart_indexes_once(embedded: dict[str, Run]):
    run = quickstart(embedded)
    assert run.printed("add") == "76 added, 0 updated, 0 unchanged, 0 rejected\n"
    assert "0 added, 0 updated, 76 unchanged, 0 rejected" in run.printed("add-again")
    document = json.loads(run.printed("figure2").partition("\nand ")[0])
    ((key, synset),) = document["synset"].items()
    assert set(synset) == {"wind", "words", "score"}
    assert synset["words"] == key == "tiger_cat"


def test_quickstart_finds(embedded: dict[str, Run]):
    run = quickstart(embedded)
    chelsea = {
        "chelsea.jpg", "chelsea-mirrored.jpg", "chelsea-cropped.jpg", "chelsea-small.webp",
    }  # fmt: skip
    assert set(run.names("cat_hits")[:4]) == chelsea
    assert set(run.names("word_hits")) == chelsea
    assert all(name.startswith("motorcycle_") for name in run.names("second_hits"))
    assert len(run.names("second_hits")) == 8
    assert {name.partition("-")[0].partition(".")[0] for name in run.names("both_hits")} == {
        "motorcycle_left", "motorcycle_right", "astronaut",
    }  # fmt: skip
    assert all(name.endswith(".webp") for name in run.names("filtered_hits"))
    assert run.printed("words-dog-code").startswith("118 synsets\n")
    assert "Did you mean 'motorcycle'" in run.printed("words-unknown-code")


def test_quickstart_explains_and_shows(embedded: dict[str, Run]):
    run = quickstart(embedded)
    head, *rows = run.printed("explain-code").splitlines()
    score = float(head.split()[-1])
    assert sum(float(row.split()[-1]) for row in rows) == pytest.approx(score, rel=1e-3)
    assert score == pytest.approx(run.hits["both_hits"][0][1], rel=1e-5)
    assert "<img" in run.shown("cat", "text/html")
    assert run.shown("cat-plot", "image/png")
    assert run.shown("explain-code", "image/png")
    assert sparse_vector(run.printed("impact-body")) == {"tabby": 1.0}


def test_quickstart_measures(embedded: dict[str, Run]):
    run = quickstart(embedded)
    rows = [line.split("|") for line in run.shown("evaluation-code", "text/plain").splitlines()]
    means = {row[1].strip(): row[2:4] for row in rows if len(row) == 5}
    assert means["auto"] == means["script"]
    kinds = [line.split() for line in run.printed("evaluation-kinds-code").splitlines()]
    assert [float(mean) for mean, _ in kinds] == sorted(float(mean) for mean, _ in kinds)


def test_evaluation_finds_and_repeats(embedded: dict[str, Run]):
    run = embedded["04_evaluation.ipynb"]
    rows = [line.split("|") for line in run.shown("systems", "text/plain").splitlines()]
    means = {
        row[1].strip(): float(row[3].split()[0])
        for row in rows
        if len(row) == 5 and row[3].strip()[0] == "0"
    }
    assert means["dense-cosine"] > means["sqrt"] > means["auto"]
    by_numpy, by_index = map(float, run.printed("numpy-code").split())
    assert by_numpy == pytest.approx(by_index, abs=1e-9)
    assert run.printed("manifest") == "nothing differs\n"
    for cell in ("differences", "precision-recall", "hardest"):
        assert run.shown(cell, "image/png")


def test_a_sweep_answers_with_figures(embedded: dict[str, Run]):
    run = embedded["05_how_many_terms.ipynb"]
    assert "dense-cosine" in run.shown("sweep-code", "text/html")
    assert run.shown("figure-code", "image/png")
    assert run.shown("filters-code", "image/png")
    lines = run.printed("enough-code").splitlines()
    assert [line.partition(":")[0] for line in lines] == ["auto", "sqrt"]
    assert all("terms; AP" in line for line in lines)
    assert run.printed("lost-code").count("p = ") == 4
    assert run.printed("keep-code").splitlines()[-1].endswith("manifest.json")
    assert ">100%<" in run.shown("scorers-code", "text/html")  # impact, and script itself


@pytest.mark.node
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_same_hits_on_elasticsearch(
    path: Path,
    workplace: Path,
    embedded: dict[str, Run],
    elasticsearch_url: str,
    fresh_index_name: str,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("IMGSEARCH_INDEX", f"{elasticsearch_url}/{fresh_index_name}")
    monkeypatch.delenv("IMGSEARCH_PHOTOS", raising=False)
    run, other = Run(path, workplace), embedded[path.name]
    assert run.hits.keys() == other.hits.keys()
    for name, hits in run.hits.items():
        assert [uri for uri, _ in hits] == [uri for uri, _ in other.hits[name]], name
        # the classifier ran twice: its own last digits are not the stores' concern
        scores = [score for _, score in other.hits[name]]
        assert [score for _, score in hits] == pytest.approx(scores, rel=1e-5), name
    assert run.stderr() == ""


def quickstart(runs: dict[str, Run]) -> Run:
    return runs["01_quickstart.ipynb"]


def sparse_vector(body: str) -> Any:
    return json.loads(body)["query"]["bool"]["must"][0]["sparse_vector"]["query_vector"]
