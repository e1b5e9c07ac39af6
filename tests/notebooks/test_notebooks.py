"""Runs every notebook from its first cell to its last, on the embedded store and on a real node."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tools.site_notebooks import LARGEST, page

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
ON_A_NODE_ONLY = {"06_elasticsearch_and_kibana.ipynb"}
"""Run by tests of their own."""
NOTEBOOKS = sorted(path for path in FOLDER.glob("*.ipynb") if path.name not in ON_A_NODE_ONLY)
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


@pytest.fixture
def on_a_node(elasticsearch_url: str, fresh_index_name: str) -> str:
    """Where there is no index yet."""
    return f"{elasticsearch_url}/{fresh_index_name}"


@pytest.fixture
def quickstart(embedded: dict[str, Run]) -> Run:
    return embedded["01_quickstart.ipynb"]


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
        return "".join(str(output.get("data", {}).get(kind, "")) for output in self._outputs[cell])

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
    assert [path.name[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04", "05", "07", "08"]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.name)
def test_committed_without_outputs(path: Path):
    assert path.stat().st_size < LARGEST
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_runs_on_the_embedded_store_without_a_murmur(path: Path, embedded: dict[str, Run]):
    assert embedded[path.name].stderr() == ""


def test_quickstart_analyzes_a_cat(quickstart):
    terms = [line.split()[1] for line in quickstart.printed("analyze").splitlines()]
    assert len(terms) == 10
    assert set(terms[:3]) == {"tabby", "tiger_cat", "Egyptian_cat"}


def test_quickstart_indexes_once(quickstart):
    assert quickstart.printed("add") == "76 added, 0 updated, 0 unchanged, 0 rejected\n"
    assert "0 added, 0 updated, 76 unchanged, 0 rejected" in quickstart.printed("add-again")
    document = json.loads(quickstart.printed("figure2").partition("\nand ")[0])
    ((key, synset),) = document["synset"].items()
    assert set(synset) == {"wind", "words", "score"}
    assert synset["words"] == key == "tiger_cat"


def test_quickstart_finds(quickstart):
    chelsea = {
        "chelsea.jpg", "chelsea-mirrored.jpg", "chelsea-cropped.jpg", "chelsea-small.webp",
    }  # fmt: skip
    assert set(quickstart.names("cat_hits")[:4]) == chelsea
    assert set(quickstart.names("word_hits")) == chelsea
    assert all(name.startswith("motorcycle_") for name in quickstart.names("second_hits"))
    assert len(quickstart.names("second_hits")) == 8
    assert {name.partition("-")[0].partition(".")[0] for name in quickstart.names("both_hits")} == {
        "motorcycle_left", "motorcycle_right", "astronaut",
    }  # fmt: skip
    assert all(name.endswith(".webp") for name in quickstart.names("filtered_hits"))
    assert quickstart.printed("words-dog-code").startswith("118 synsets\n")
    assert set(quickstart.names("magic_hits")) == chelsea
    assert "Did you mean 'motorcycle'" in quickstart.printed("words-unknown-code")


def test_quickstart_explains_and_shows(quickstart):
    head, *rows = quickstart.printed("explain-code").splitlines()
    score = float(head.split()[-1])
    assert sum(float(row.split()[-1]) for row in rows) == pytest.approx(score, rel=1e-3)
    assert score == pytest.approx(quickstart.hits["both_hits"][0][1], rel=1e-5)
    assert "<img" in quickstart.shown("cat", "text/html")
    assert quickstart.shown("cat-plot", "image/png")
    assert quickstart.shown("explain-code", "image/png")
    assert "Indexed 76 pictures in " in quickstart.shown("add", "text/plain")
    assert 'class="ig-facets"' in quickstart.shown("magic-code", "text/html")
    assert quickstart.shown("browse-code", "application/vnd.jupyter.widget-view+json")
    assert sparse_vector(quickstart.printed("impact-body")) == {"tabby": 1.0}


def test_quickstart_measures(quickstart):
    rows = [
        line.split("|") for line in quickstart.shown("evaluation-code", "text/plain").splitlines()
    ]
    means = {row[1].strip(): row[2:4] for row in rows if len(row) == 5}
    assert means["auto"] == means["script"]
    kinds = [line.split() for line in quickstart.printed("evaluation-kinds-code").splitlines()]
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


def test_features_by_distance_above_a_threshold_and_of_eight_neighbors(embedded: dict[str, Run]):
    run = embedded["02_features_and_distances.ipynb"]
    for hits in ("chi2_hits", "new_hits"):
        assert {photo(name) for name in run.names(hits)[:4]} == {"coffee"}
        assert photo(run.names(hits)[4]) != "coffee"
    assert run.hits["chi2_hits"][0][1] == 0
    assert run.hits["file_hits"] == run.hits["chi2_hits"]
    assert "76 features of 1280 dimensions" in run.printed("a-index")
    scores = [score for _, score in run.hits["similar_hits"]]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) >= 0.65
    assert {photo(name) for name in run.names("similar_hits")} == {
        "motorcycle_left", "motorcycle_right",
    }  # fmt: skip
    assert len(run.names("cat_hits")) == 8
    assert {photo(name) for name in run.names("cat_hits")[:4]} == {"chelsea"}
    assert run.hits["more_hits"][0][1] == pytest.approx(1)
    assert run.hits["fewer_hits"][0][0] != run.hits["more_hits"][0][0]
    quality = dict(line.split() for line in run.printed("quality-code").splitlines())
    assert float(quality["dense-cosine"]) > 0.9 > float(quality["auto"])
    measured = [float(line.split()[-3]) for line in run.printed("extractors").splitlines()]
    assert len(measured) == 2
    assert min(measured) > 0.9


@pytest.mark.parametrize("prefixes", [("a-",), ("b-",), ("c-", "quality-code")])
def test_each_part_on_features_is_short_and_has_a_figure(embedded, prefixes):
    path = FOLDER / "02_features_and_distances.ipynb"
    cells = nbformat.read(path, as_version=4).cells
    mine = [c for c in cells if c.cell_type == "code" and c.id.startswith(prefixes)]
    lines = [line for cell in mine for line in cell.source.splitlines() if line.strip()]
    assert 0 < len(lines) <= 30
    assert any(embedded[path.name].shown(cell.id, "image/png") for cell in mine)


def test_metric_learning_raises_the_score_of_objects_put_aside(embedded: dict[str, Run]):
    run = embedded["03_metric_learning.ipynb"]
    lines = run.printed("evaluate").splitlines()[:2] + run.printed("learned").splitlines()
    before, after, unlearned, learned = (float(line.split()[2].rstrip(",")) for line in lines)
    assert after > before
    assert learned > unlearned
    assert len(run.hits["montage_hits"]) == 12
    for cell in ("train", "use", "map"):
        assert run.shown(cell, "image/png")


def test_from_pyterrier_to_a_table_of_significance(embedded: dict[str, Run]):
    run = embedded["08_from_pyterrier.ipynb"]
    assert "map p-value corrected" in run.shown("experiment-code", "text/html")
    assert float(run.printed("own-code").split()[-1]) < 1e-6
    assert "chelsea.jpg" in run.shown("pipeline-code", "text/plain")
    assert run.printed("runs-code").splitlines()[-1].endswith(" sqrt")
    for cell in ("terms-code", "figure-code"):
        assert run.shown(cell, "image/png"), cell


def test_a_notebook_is_a_page_of_the_site():
    path = FOLDER / "08_from_pyterrier.ipynb"
    text, figures = page(path, run=False)
    cells = nbformat.read(path, as_version=4).cells
    assert figures == {}
    assert "](../how-to/pyterrier.md)" in text
    assert text.count("```python") == sum(cell.cell_type == "code" for cell in cells)


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


def test_more_is_seen(embedded: dict[str, Run]):
    run = embedded["07_see_more.ipynb"]
    lines = [
        line.rpartition("by words")[2].split() for line in run.printed("terms-code").splitlines()
    ]
    assert lines == sorted(lines)
    assert [float(line[0]) for line in lines] == pytest.approx([0.5, 0.81, 1], abs=0.05)
    assert [float(line[-1]) for line in lines] == pytest.approx([0.62, 0.81, 0.9], abs=0.05)
    for cell in ("scenes-code", "terms-code", "tiles-code", "words-code"):
        assert run.shown(cell, "image/png"), cell
    assert re.match(r"vw\d+: \w.*, ", run.printed("names-code"))
    assert "'astronaut' is no class of this index" in run.printed("before-code")
    _, *held_out = run.printed("teach-code").splitlines()
    assert [line.split()[-1] for line in held_out] == ["True"] * 4 + ["False"] * 2
    assert "astronaut (taught from 5 pictures)" in run.printed("explain-taught")


@pytest.mark.node
@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=[pytest.mark.long] * (path != NOTEBOOKS[0])) for path in NOTEBOOKS],
    ids=lambda path: path.name,
)
def test_same_hits_on_elasticsearch(path, workplace, embedded, on_a_node, monkeypatch):
    monkeypatch.setenv("IMGSEARCH_INDEX", on_a_node)
    monkeypatch.delenv("IMGSEARCH_PHOTOS", raising=False)
    run, other = Run(path, workplace), embedded[path.name]
    assert run.hits.keys() == other.hits.keys()
    for name, hits in run.hits.items():
        assert [uri for uri, _ in hits] == [uri for uri, _ in other.hits[name]], name
        # the classifier ran twice: its own last digits are not the stores' concern
        scores = [score for _, score in other.hits[name]]
        assert [score for _, score in hits] == pytest.approx(scores, rel=1e-5), name
    assert run.stderr() == ""


def photo(name: str) -> str:
    """Which photo a file is a variant of."""
    return Path(name).stem.partition("-")[0]


def sparse_vector(body: str) -> Any:
    return json.loads(body)["query"]["bool"]["must"][0]["sparse_vector"]["query_vector"]
