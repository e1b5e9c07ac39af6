"""A matrix: one file, several collections, and the same tables again."""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from imgsearch_es.errors import EvaluationError, WeightsError
from imgsearch_es.evaluation.sweeps import Matrix, matrix, reproduce, sweep
from tests.fakes import FakeModel, register

pytestmark = pytest.mark.slow
PLAN = """
models = ["lost", "fake", "fake+tiles"]
top_k = [2, 5]
query_terms = 2
compare = "auto/plain/2/2"
timed = 0

[collections.pets]
pictures = "photos"
judgements = "folder"
strategies = "auto,auto+visual-words,visual-words,dense-cosine"
measures = "P@3,AP"

[collections.objects]
list = "objects.csv"
judgements = "words"
models = "fake"
top_k = 2
measures = "AP"
strategies = "auto"
"""


class Lost(FakeModel):
    """A model whose weights cannot be had."""

    def fingerprint(self) -> str:
        raise WeightsError("the weights of lost are lost")


@pytest.fixture
def place(monkeypatch, fake_model, photos, tmp_path) -> Path:
    """A matrix in a folder, with a collection beside it and one elsewhere."""
    register(monkeypatch, "lost", "tests.unit.test_matrix:Lost")
    (tmp_path / "photos").symlink_to(photos)
    with (tmp_path / "objects.csv").open("w", newline="") as file:
        rows = [("path", "label"), (photos / "cats" / "cat.0.png", '["dog", "cat"]')]
        rows += [(photos / "dogs" / f"dog.{i}.png", "dog") for i in range(5)]
        csv.writer(file).writerows(rows)
    made = tmp_path / "matrix.toml"
    made.write_text(PLAN)
    return made


def files(folder: Path, names: tuple[str, ...] = ("table.md", "commands.txt", "manifest.json")):
    return [(folder / name).read_bytes() for name in names]


def test_the_same_tables_again(run, asked, place: Path, tmp_path: Path, monkeypatch):
    out, other, swept = tmp_path / "out", tmp_path / "other", []

    def stopped(**options):
        swept.append(options["systems"])
        if len(swept) == 2:
            raise KeyboardInterrupt
        return sweep(**options)

    monkeypatch.setattr(matrix, "sweep", stopped)
    assert "goes on" in run("reproduce", place, "--out", out, "--no-plots", code=130).output
    text = run("reproduce", place, "--out", out, "--no-plots").output
    assert len(swept) == 3  # the first collection was whole
    assert "no row of lost: the weights of lost are lost" in text
    assert "pets: 10 rows" in text  # 2 settings of 2 systems and 2 models; the deep feature's 2
    table = (out / "table.md").read_text()
    for expected in ("| fake+tiles | auto |", "Against fake auto/plain/2/2", "No row of lost"):
        assert expected in table
    first, seen = files(out), FakeModel.calls
    run("reproduce", place, "--out", out, "--no-plots")
    assert (FakeModel.calls, len(swept)) == (seen, 3)
    assert files(out) == first
    again = run("reproduce", out / "manifest.json", "--pictures", tmp_path, "--out", other)
    assert "to the last bit" in again.output
    assert (other / "pets" / "pareto-bytes.png").is_file()
    assert files(other, ("table.md",)) == first[:1]
    assert json.loads(first[2]) == json.loads(files(other)[2])
    assert str(tmp_path) not in first[2].decode()

    row = "pets fake+tiles auto+visual-words/plain/5/2"
    assert f"imgsearch reproduce {place} --row '{row}'" in first[1].decode()
    assert f"manifest.json --pictures {tmp_path} --row '{row}'" in files(other)[1].decode()
    alone = run("reproduce", place, "--out", out, "--row", row).output
    shown = "fake+tiles | auto+visual-words | plain | 5 | 2 |"
    (line,) = [line for line in table.splitlines() if shown in line]
    assert line.split("|")[-4].split()[0] in alone

    kept = json.loads(first[2])
    kept["collections"]["pets"]["figures"]["fake"]["dense-cosine"]["AP"] = 0.5
    (tmp_path / "wrong.json").write_text(json.dumps(kept))
    told = asked("reproduce", tmp_path / "wrong.json", "--out", out, "--no-plots", code=1)
    assert told["differences"][0].startswith("figures, fake, dense-cosine, AP of pets: ")
    (tmp_path / "wrong.json").write_text(json.dumps({**kept, "collections": {"pets": [1]}}))
    told = asked("reproduce", tmp_path / "wrong.json", "--out", out, "--no-plots", code=1)
    assert told["differences"]
    asked_before = len(swept)
    place.write_text(PLAN.replace('measures = "AP"', 'measures = "RR"'))
    run("reproduce", place, "--out", out, "--no-plots")
    assert swept[asked_before:] == ["auto"]  # of the objects alone something else is asked for
    monkeypatch.setattr(Lost, "fingerprint", lambda self: "sha256:found")
    assert "no row of" not in run("reproduce", place, "--out", out, "--no-plots").output
    table = (out / "table.md").read_text()  # with the weights there, it is added and compared with
    assert {"| lost | auto |" in table, "Against lost auto/plain/2/2" in table} == {True}


def test_what_others_wrote_is_not_written_over(run, place: Path, tmp_path: Path):
    out, seen = tmp_path / "my 'out'", FakeModel.calls
    for name in ("table.md", "pets/sweep.csv"):
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text("mine")
        refused = run("reproduce", place, "--out", out, "--no-plots", code=1).output
        assert "is there, and of no earlier" in refused
        assert (out / name).read_text() == "mine"
        (out / name).unlink()
    assert FakeModel.calls == seen  # refused before the work
    run("reproduce", place.rename(out / "m.toml"), "--pictures", tmp_path, "--out", out)
    first = (out / "commands.txt").read_text().splitlines()[0]
    assert shlex.split(first)[2:6] == [str(out / "m.toml"), "--pictures", str(tmp_path), "--row"]
    same = run("reproduce", out / "manifest.json", "--pictures", tmp_path, "--out", out, code=1)
    assert "and its figures: name another folder" in " ".join(same.output.split())


@pytest.mark.parametrize(
    ("was", "now", "message"),
    [
        ("[collections.", "[[collections.", "not valid TOML"),
        ('list = "objects.csv"', "", "objects has no pictures"),
        ("timed = 0", "tims = 0", "pets cannot have tims = 0"),
        ("timed = 0", "timed = true", "cannot have timed = True"),
        ("timed = 0", 'timed = "0"', "cannot have timed = '0'"),
        ("timed = 0", "timed = 0\nsample = 1.5", "cannot have sample = 1.5"),
        ("timed = 0", "timed = 0\nfilters = [5]", r"cannot have filters = \[5\]"),
        ("collections.pets", "collections.posteriors", "cannot be called 'posteriors'"),
        ('["lost", "fake", "fake+tiles"]', '"lost"', "no model of pets has weights: the weights"),
        ('"auto/plain/2/2"', '"auto/plain/3/2"', "compare names auto/plain/3/2"),
        ('"auto/plain/2/2"', '"other auto/plain/2/2"', "compare names other"),
        (PLAN, "timed = 0", r"no \[collections.NAME\]"),
        (PLAN, "collections = {pets = 3}", "the collection pets has no settings"),
    ],
)
def test_a_matrix_that_makes_no_sense(place: Path, tmp_path: Path, was, now, message):
    place.write_text(PLAN.replace(was, now))
    with pytest.raises(EvaluationError, match=message):
        reproduce(Matrix.read(place), tmp_path / "out", plots=False)


def test_rows_and_manifests_that_are_none(run: Callable, place: Path, tmp_path: Path):
    for row in ("zoo fake auto/plain/2/2", "pets other auto/plain/2/2", "pets fake auto/plain"):
        assert "there is no row" in run("reproduce", place, "--row", row, code=1).output
    for content in ("{", "[]", '{"imgsearch_matrix": 1}'):
        (tmp_path / "x.json").write_text(content)
        assert "x.json is no" in run("reproduce", tmp_path / "x.json", code=1).output
