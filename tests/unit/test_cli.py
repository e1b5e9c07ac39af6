"""The command line: what each command prints, its JSON, its exit codes, its one sentence."""

from __future__ import annotations

import errno
import json
import logging.config
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest.mock import Mock

import pytest
import typer
from PIL import Image

from imgsearch_es import ImageIndex
from imgsearch_es.interfaces.cli import app
from imgsearch_es.interfaces.cli.output import printable, say
from imgsearch_es.retrieval.strategies import STRATEGIES
from imgsearch_es.stores.interrupts import STOPPED, interrupt

COMMANDS = (
    "demo", "doctor", "models", "index", "watch", "remove", "stats", "rejected", "search",
    "explain", "word", "analyze", "facets", "duplicates", "evaluate", "judge", "hardest", "compare",
    "sweep", "reproduce", "benchmark", "clicks", "teach", "words", "forget", "ocr", "train",
    "groups", "whiten", "quantize", "relocate", "tag", "export", "import", "reindex",
    "verify", "serve", "map", "kibana",
)  # fmt: skip


def sentence(result) -> str:
    """What a failed command says: one line on stderr, nothing on stdout."""
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("imgsearch: ")
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("imgsearch: ").strip()


def test_a_list_of_values_is_given_once(run):
    twice = run("evaluate", "--measures", "AP", "-j", "labels", "--measures", "P@3", code=2)
    assert sentence(twice) == "--measures is given twice: give it once, as --measures A,B"


# -- index --------------------------------------------------------------------------------------


def test_index_lists(run, photos, tmp_path):
    place = tmp_path / "a.duckdb"
    (photos / "one.csv").write_text("path,label\ncats/cat.0.png,tom\n")
    (photos / "two.txt").write_text("dogs/dog.0.png\ndogs/dog.1.png\n")
    lists = ["--from", photos / "one.csv", "--from", photos / "two.txt"]
    run("index", photos / "cats" / "cat.1.png", *lists, "-i", place, "-m", "fake")
    with ImageIndex(place) as index:
        assert index.count() == 4
        assert index.get(photos / "cats" / "cat.0.png").labels == ("tom",)
    (photos / "one.csv").write_text("path,label\n,tom\n")
    wrong = run("index", *lists, "-i", place, code=1)
    assert sentence(wrong).endswith("one.csv, line 2: the picture's path or URI is empty")


def test_index_engines(run, photos, tmp_path, monkeypatch):
    options = [photos, "-i", tmp_path / "a.duckdb", "-m", "fake", "--engine"]
    wrong = run("index", *options, "spark", code=1)
    assert sentence(wrong) == "there is no engine 'spark'; known are local and ray"
    monkeypatch.setattr("imgsearch_es.indexing.find.find_spec", lambda name: None)
    missing = run("index", *options, "ray", code=1)
    assert "is not installed (ray): pip install '.[ray]' in a clone" in sentence(missing)
    assert not (tmp_path / "a.duckdb").exists()


def test_index(run, photos, tmp_path):
    place = tmp_path / "a.duckdb"
    (photos / "bad.jpg").write_text("no picture")
    out = run("index", photos, "-i", place, "-m", "fake").stdout.splitlines()
    summary = f"{place}: 12 added, 0 updated, 0 unchanged, 1 rejected in "
    assert out[0].startswith(summary)
    assert out[1].startswith("  work: find ")
    rejected = "".join(out[2:])  # a long line is folded
    assert rejected.startswith(f"  rejected {photos / 'bad.jpg'}: not a picture of a known format")
    assert "WEBP)" in rejected


def test_index_json(asked, photos, tmp_path):
    (photos / "bad.jpg").touch()
    arguments = ("index", photos, "-i", tmp_path / "a.duckdb")
    report = asked(*arguments, "-m", "fake")
    wanted = {"added": 12, "updated": 0, "unchanged": 0, "removed": 0}
    assert report.items() >= wanted.items()
    (rejected,) = report["rejected"]
    assert (rejected["uri"], rejected["reason"]) == (str(photos / "bad.jpg"), "the file is empty")
    report = asked(*arguments)
    assert report.items() >= {**wanted, "added": 0, "unchanged": 12, "as_before": 1}.items()
    assert report["rejected"] == [rejected]
    (photos / "cats" / "cat.0.png").unlink()
    report = asked(*arguments, "--prune", "--label", "x", "--label", "y")
    assert report.items() >= {**wanted, "added": 0, "updated": 11, "removed": 1}.items()


def test_many_rejected_are_not_all_listed(run, photos, tmp_path):
    for i in range(25):
        (photos / f"bad{i:02}.jpg").touch()
    out = run("index", photos, "-i", tmp_path / "a.duckdb", "-m", "fake").stdout.splitlines()
    assert len(out) == 2 + 20 + 1 + 1
    assert out[-1] == "  passed over: 1 .txt"
    assert out[-2] == "  ... and 5 more; `imgsearch rejected` lists all"


def test_rejected(run, asked, photos, place):
    assert run("rejected", "-i", place).stdout == f"{place} has no rejected pictures\n"
    (photos / "bad.jpg").write_text("no picture")
    run("index", photos, "-i", place)
    out = run("rejected", "-i", place).stdout.replace("\n", " ")
    assert f"{photos / 'bad.jpg'}: not a picture of a known format" in out
    (entry,) = asked("rejected", "-i", place)
    assert entry["uri"] == str(photos / "bad.jpg")
    assert "(1 as before)" in run("index", photos, "-i", place).stdout
    assert "as before" not in run("index", photos, "-i", place, "--retry").stdout
    Image.new("RGB", (9, 9), "red").save(photos / "bad.jpg")
    out = run("rejected", "-i", place, "--retry").stdout.replace("\n", " ")
    assert "1 added, 0 updated, 0 unchanged, 0 rejected" in out
    assert "has no rejected pictures" in out


def test_index_an_explicit_file_that_is_no_picture(run, photos, tmp_path):
    place = tmp_path / "new.duckdb"
    out = run("index", photos / "notes.txt", "-i", place, "-m", "fake", code=1).output
    assert "0 added, 0 updated, 0 unchanged, 1 rejected" in out
    assert "imgsearch: none of the pictures could be indexed" in out
    assert f"{photos / 'notes.txt'}: not a picture" in run("rejected", "-i", place).stdout


def test_index_nothing(run, tmp_path):
    result = run("index", "-i", tmp_path / "a.duckdb", code=2)
    assert sentence(result) == "which pictures? Give files, folders or URLs, or --from FILE"
    (tmp_path / "empty").mkdir()
    result = run("index", tmp_path / "empty", "-i", tmp_path / "a.duckdb", "--model", "fake")
    assert sentence(result) == f"there are no pictures in {tmp_path / 'empty'}"
    assert not (tmp_path / "a.duckdb").exists()


def test_the_index_comes_from_the_environment(asked, place, monkeypatch):
    monkeypatch.setenv("IMGSEARCH_INDEX", str(place))
    assert asked("stats")["documents"] == 12


# -- search and explain -------------------------------------------------------------------------


def test_search_by_picture_and_both(asked, place, word, cat):
    picture = asked("search", "--image", cat, "-i", place)
    both = asked("search", word, "--image", cat, "-i", place, "--no-exclude-self")
    assert picture["query"] == "image: cat.0.png"
    assert both["query"] == f"image: cat.0.png; words: {word}"
    found = {hit["uri"]: hit["score"] for hit in both["hits"]}
    alone = {hit["uri"]: hit["score"] for hit in picture["hits"]}
    assert found[str(cat)] > alone[str(cat)]
    beside = asked("search", word, "--image", cat, "-i", place)["hits"]
    assert str(cat) not in [hit["uri"] for hit in beside]
    options = ("--exclude-self", "--where", "label=cats", "--where", "width>=30")
    others = asked("search", "--image", cat, "-i", place, *options)["hits"]
    assert str(cat) not in [hit["uri"] for hit in others]
    assert {tuple(hit["labels"]) for hit in others} == {("cats",)}


def test_the_version_short_help_and_completion(run, monkeypatch):
    assert run("--version").stdout == "imgsearch 0.1.0\n"
    assert run("search", "-h").stdout == run("search", "--help").stdout
    monkeypatch.setattr("shellingham.detect_shell", lambda: ("bash", "/bin/bash"))
    assert "_IMGSEARCH_COMPLETE" in run("--show-completion").stdout.upper()


@pytest.mark.parametrize(
    ("signed", "code"), [("-poodle", 2), ("-kiwi", 2), ("-indoor", 1), ("-mouse", 1)]
)
def test_a_word_with_a_minus_and_no_quotation_marks(run, signed, code):
    hint = f"to leave out a word, write the line in quotation marks: 'cat {signed}'"
    assert hint in run("search", "cat", signed, code=code).stderr
    assert "quotation" not in run("search", "cat", "-p", code=2).stderr


def test_search_by_a_file_among_the_words(run, asked, place, word, cat):
    for command, key in (("search", "hits"), ("explain", "explanations")):
        named = asked(command, word, "--image", cat, "-i", place)
        assert asked(command, cat, word, "-i", place)[key] == named[key]
    assert asked("search", cat, cat, "-i", place)["query"] == "image: cat.0.png, cat.0.png"
    assert asked("facets", cat, "-i", place)["label"]
    missing = sentence(run("search", "none.jpg", "-i", place, code=1))
    assert missing.startswith("none.jpg is no file here and no picture of ")


def test_search_prints_a_table(run, place, word, cat, monkeypatch):
    monkeypatch.chdir(cat.parent)
    out = run("search", word, "-i", place).stdout
    assert re.search(r"rank +score +picture +synsets", out)
    assert re.search(rf"\d  +\d\.\d+  +cat\.0\.png +{word} 0\.\d\d", out)
    assert re.search(
        rf"\d+ for words: {word}; \d+ more that show a trace of it follow  \(\d+ ms, ex", out
    )


def test_search_that_finds_nothing(run, asked, place):
    out = run("search", "toilet tissue", "-i", place, "--where", "width>100").stdout
    assert out.startswith('no picture matches words: "toilet tissue"; width:>100')
    answer = asked("search", "dog", "-i", place, "--where", "width>99")
    assert (answer["total"], answer["hits"]) == (0, [])


def test_search_by_the_language_and_by_conditions(asked, place, word):
    def found(*arguments):
        return asked("search", *arguments, "-i", place)

    line = found(f"{word} -label:cats width:>=30")
    options = found(word, "--where", "label!=cats", "--where", "width>=30")
    assert line["query"] == options["query"] == f"words: {word}; -label:cats; width:>=30"
    assert line["hits"] == options["hits"]
    assert not any("cats" in hit["labels"] for hit in line["hits"])
    scored = found(word, "--where", f"score({word})>0.5")
    assert scored["query"] == f"words: {word}; score({word})>0.5"


def test_what_was_left_out_or_taken_for_another_gives_a_hint(run, asked, place):
    out = run("search", "fluffy cow", "-i", place).stdout
    hints = [
        "'cow' is no class of this index; searched for what is near: ox 0.74",
        "'fluffy' is not in this index's vocabulary and was left out",
    ]
    assert out.splitlines()[-2:] == [f"hint: {hint}" for hint in hints]
    answer = asked("search", "fluffy cow", "-i", place)
    assert (answer["hints"], answer["left_out"]) == (hints, ["fluffy"])
    assert asked("search", "cat", "-i", place)["hints"] == []
    run("search", "fluffy cow", "-i", place, "--html", place.with_suffix(".html"))
    assert all(
        hint.replace("'", "&#39;") in place.with_suffix(".html").read_text() for hint in hints
    )


def test_search_writes_a_page(run, place, word, tmp_path):
    out = run("search", word, "-i", place, "--html", tmp_path / "page.html").stdout
    assert out.splitlines()[-1] == f"gallery: {tmp_path / 'page.html'}"
    assert (tmp_path / "page.html").read_text().lower().startswith("<!doctype html>")
    for page, why in (("", "Is a directory"), ("none/a.html", "No such file or directory")):
        wrong = run("search", word, "-i", place, "--html", tmp_path / page, code=1)
        assert sentence(wrong) == f"cannot write {tmp_path / page}: {why}"


MISTAKES = """
--image CAT --region 1,2 => a region is four numbers
--image CAT --region a,b => --region is left,top,right,bottom, four numbers, not 'a,b'
--image CAT --fuse image=x => --fuse image takes numbers, not 'x'
--image CAT --fuse image=1,image=2 => --fuse 'image=2' is the second of its name
--image CAT --fuse image=1, => --fuse '' is no name=number
--image CAT --fusion rrf => go with --fuse
--image CAT --rocchio 1,2 => --rocchio is alpha,beta,gamma, three numbers, not '1,2'
--image CAT --rocchio 1,x,2 => --rocchio is alpha,beta,gamma, three numbers
--image CAT --parameter k1 => --parameter 'k1' is no name=number
--image CAT --parameter k1=x => --parameter k1 takes numbers, not 'x'
--image CAT --parameter k1=1 --parameter k1=2 => is the second of its name
cat --image /nowhere.jpg => /nowhere.jpg: cannot be opened: no such file
cat --where red => 'red' is no condition such as label=indoor
"""


def test_search_mistakes(run, place, cat):
    for line in MISTAKES.strip().splitlines():
        arguments, message = line.replace("CAT", str(cat)).split(" => ")
        assert message in sentence(run("search", *arguments.split(), "-i", place, code=1))


def test_explain(run, place, word, cat, monkeypatch):
    out = run("explain", word, "-i", place, "--picture", cat).stdout
    assert f"{cat}  score 0." in out
    assert re.search(r"synset +query +picture +product", out)
    assert re.search(rf"{word} +1\.0+ +0\.\d+ +0\.\d+", out)
    out = run("explain", "cat", "-i", place, "--where", "width>99").stdout
    assert out.startswith("nothing to explain: no picture matches words: cat")
    monkeypatch.chdir(cat.parent)  # paths are shown as seen from here, as by a search
    assert run("explain", "--image", cat, "-i", place, "-k", 1).stdout.startswith("1. cat.0.png  ")


def test_explain_a_picture_as_it_was_found(asked, place, word, cat):
    """Beside a picture the weights of words follow from what meets the conditions."""
    query = ("--image", cat, word, "-i", place)
    for hit in asked("search", *query)["hits"][:3]:
        (found,) = asked("explain", *query, "--picture", hit["id"])["explanations"]
        assert found["score"] == hit["score"]


# -- analyze, remove, stats, models, doctor -----------------------------------------------------


def test_analyze(run, cat):
    out = run("analyze", cat, "--model", "fake").stdout
    assert out.startswith(f"{cat}\n")
    assert re.search(r"token +score +wnid +words", out)
    assert len(re.findall(r" n\d{8} ", out)) == 50


def test_analyze_json(asked, cat, place, tmp_path):
    (tmp_path / "a.toml").write_text('model = "fake"')
    answer = asked("analyze", cat, "-m", "fake")
    assert answer == asked("analyze", cat, "-i", place)
    assert answer == asked("analyze", cat, "--analyzer", tmp_path / "a.toml")
    assert answer["analyzer"]["model"] == {"name": "fake", "weights": "one"}
    (picture,) = answer["pictures"]
    assert picture["uri"] == str(cat)
    tokens = [token["token"] for token in picture["tokens"]]
    assert [token["position"] for token in picture["tokens"]] == list(range(len(tokens)))
    assert all(token.startswith("color:") == (i >= 50) for i, token in enumerate(tokens))
    assert picture["tokens"][0].keys() == {"position", "token", "score", "wnid", "words"}


def test_analyze_what_is_no_picture(run, photos, cat):
    notes = photos / "notes.txt"
    alone = run("analyze", notes, "-m", "fake", code=1)
    assert sentence(alone).startswith(f"{notes}: not a picture of a known format")
    result = run("analyze", notes, cat, "-m", "fake", code=1)
    assert result.stdout == run("analyze", cat, "-m", "fake").stdout
    assert result.stderr == alone.stderr


def test_remove(run, asked, place, cat, photos):
    assert run("remove", cat, "-i", place).stdout == "1 removed\n"
    assert run("remove", cat, "-i", place).stdout == "0 removed\n"
    dog = photos / "dogs" / "dog.1.png"
    assert asked("remove", dog, "-i", place) == {"removed": 1}
    assert asked("stats", "-i", place)["documents"] == 10


def test_remove_by_words_asks_first(run, asked, place, word):
    result = run("remove", "--text", word, "-i", place, stdin="n\n", code=1)
    assert result.stderr.endswith("imgsearch: nothing was removed\n")
    assert asked("stats", "-i", place)["documents"] == 12
    removed = asked("remove", "--text", word, "-i", place, "--yes")
    assert removed["removed"] >= 1
    assert run("remove", "--text", word, "-i", place, stdin="y\n").stdout.endswith("0 removed\n")


def test_stats(run, asked, place):
    out = run("stats", "-i", place).stdout
    assert out.startswith(f"{place}  (embedded)\n  pictures  12\n")
    assert "-> fake(weights=one) -> top_k(k=50); a query picture asks with 10" in out
    assert re.search(r"cats +6", out)
    figures = asked("stats", "-i", place)
    assert figures["documents"] == 12
    assert figures["analyzer"]["model"]["name"] == "fake"


def test_models(run, asked):
    out = run("models").stdout
    assert {"vgg16", "efficientnet-lite0", "keras:PATH", "fake"} <= set(out.split())
    listed = asked("models")
    assert {"name", "description", "available"} <= listed[0].keys()
    assert "vgg16" in [model["name"] for model in listed]


def test_strategies(run, asked):
    listed = asked("models", "--strategies")
    assert [(item["name"], item["cost"]) for item in listed] == [
        (name, way.cost) for name, way in STRATEGIES.items()
    ]
    approximable = [item["name"] for item in listed if item["can_be_approximate"]]
    assert approximable == ["dense-cosine", "dense-dot", "dense-euclidean"]
    assert run("models", "--strategies").stdout.count("or approximate") == 3


def test_a_file_has_no_shards(run, photos, tmp_path):
    arguments = ("index", photos, "-i", tmp_path / "new.duckdb", "--model", "fake")
    refused = run(*arguments, "--shards", "2", code=1).stderr
    assert "is a file, which has no option 'shards'" in refused
    assert not (tmp_path / "new.duckdb").exists()


def test_doctor(run, asked, place):
    findings = asked("doctor", "-i", place)
    by_name = {finding["what"]: finding for finding in findings}
    assert by_name["duckdb"]["ok"] is True
    assert by_name["index"] == {"what": "index", "ok": True, "detail": f"{place}: 12 pictures"}
    assert "fake" in by_name["analyzer"]["detail"]
    assert "ok" in run("doctor", "-i", place).stdout


def test_doctor_finds_a_problem(run, photos):
    result = run("doctor", "-i", photos / "notes.txt", "--json", code=1)
    (finding,) = [f for f in json.loads(result.stdout) if f["what"] == "index"]
    assert finding["ok"] is False
    assert "is not an index of imgsearch" in finding["detail"]
    result = run("doctor", "-i", "http://localhost:9/pets", code=1)
    assert "PROBLEM" in result.stdout
    assert "cannot reach Elasticsearch at http://localhost:9" in result.stdout


@pytest.mark.parametrize("part", ["models.runtime.is_installed", "models.available_models"])
def test_doctor_goes_on_where_a_folder_cannot_be_read(run, place, monkeypatch, part):
    refused = PermissionError(errno.EACCES, "Permission denied", "/cache")
    monkeypatch.setattr(f"imgsearch_es.analysis.{part}", Mock(side_effect=refused))
    findings = json.loads(run("doctor", "-i", place, "--json", code=1).stdout)
    details = {f["detail"] for f in findings if f["ok"] is False}
    assert details == {"[Errno 13] Permission denied: '/cache'"}
    assert "analyzer" in [f["what"] for f in findings]


@pytest.mark.parametrize(
    ("log", "why"), [("", "it is a folder"), ("none/log.jsonl", "there is no folder")]
)
def test_serve_wants_a_log_that_can_be_written(run, place, tmp_path, log, why):
    assert why in sentence(run("serve", "-i", place, "--log", tmp_path / log, code=1))


def test_demo(run, asked, tmp_path):
    folder = tmp_path / "demo"
    answer = asked("demo", "--folder", folder, "-m", "fake")
    assert answer["index"]["added"] == 76
    assert answer["by_picture"]["hits"][0]["rank"] == 1
    assert all(Path(page).is_file() for page in answer["galleries"])
    again = run("demo", "--folder", folder, "-m", "fake").stdout
    assert "0 added, 0 updated, 76 unchanged" in again
    assert str(folder / "by-picture.html") in again


# -- mistakes and usage -------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["search cat", "remove a.jpg"])
def test_no_index(run, tmp_path, command):
    place = tmp_path / "none.duckdb"
    assert sentence(run(*command.split(), "-i", place, code=1)).startswith(
        f"there is no index at {place}; `imgsearch index`"
    )
    assert "which index?" in sentence(run(*command.split(), code=1))


def test_an_unreachable_server(run):
    result = run("search", "cat", "-i", "http://me:hush@localhost:9/pets", code=1)
    assert sentence(result).startswith("cannot reach Elasticsearch at http://localhost:9: ")
    assert "hush" not in result.output


USAGE = """search|explain|remove|index|watch|nothing||search cat --k none|search cat -k 0
search cat --unknown|index a --label x --label-from-folder|index a.jpg --prune"""


def test_usage(run):
    for arguments in USAGE.replace("\n", "|").split("|"):
        assert "Traceback" not in run(*arguments.split(), code=2).output, arguments


def test_help(run):
    for command in COMMANDS:
        out = run(command, "--help").stdout
        assert out.startswith("Usage: ")
        assert f" {command} [OPTIONS]" in out.splitlines()[0]
        assert not re.search(r"<(str|int|float|list|path|file)", out)  # types of Python


def test_every_option_is_described():
    program = typer.main.get_command(app)
    commands = {**program.commands, **program.commands["kibana"].commands}
    del commands["kibana"]
    found = [(c.name, o.name) for c in commands.values() for o in c.params if not o.help]
    assert found == []


def test_help_lists_every_command_in_a_line(run):
    out = run("--help").stdout.partition("Begin:")[2]
    listed = re.findall(r"^  (\w+) +\S.*$", out, re.MULTILINE)
    assert tuple(listed) == COMMANDS
    assert "..." not in out
    headings = re.findall(r"^(\w.*):$", out, re.MULTILINE)
    assert headings == ["Index", "Search", "Evaluate", "Learn", "Move and mend", "Show and serve"]


def test_help_shows_first_what_most_people_need(run):
    first, *others = run("index", "--help").stdout.partition("Options:")[2].split("\n\n")
    assert re.findall(r"--[a-z-]+", first)[:2] == ["--index", "--from"]
    assert "--help" in first
    headings = {text.partition(":")[0]: text for text in others}
    assert list(headings) == ["Analyzer", "Speed", "Photos", "Elasticsearch"]
    assert "--engine" in headings["Speed"]
    assert "--shards" in headings["Elasticsearch"]


# -- terminals ----------------------------------------------------------------------------------


def test_printable():
    shown = printable("é 猫 a\x1b[31mb\nb\tc \u202eb\x9bc \udcffb")
    assert shown == r"é 猫 a\x1b[31mb\nb\tc \u202eb\x9bc \udcffb"


def test_names_are_no_pictograms(capsys):
    say("/photos/:cat:/a.png")
    assert capsys.readouterr().out == "/photos/:cat:/a.png\n"


def test_control_characters_in_a_name_do_not_reach_the_terminal(run, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    evil = "cat\x1b]0;owned\x07\u202e\x9b\nrejected.png"
    Image.new("RGB", (9, 9), "red").save(folder / evil)
    (folder / f"bad{evil}").touch()
    place = tmp_path / "a.duckdb"
    outputs = [
        run("index", folder, "-i", place, "-m", "fake").stdout,
        run("search", "--image", folder / evil, "-i", place).stdout,
        run("explain", "--image", folder / evil, "-i", place).stdout,
        run("analyze", folder / evil, "-m", "fake").stdout,
        run("search", "--image", folder / f"none{evil}", "-i", place, code=1).stderr,
    ]
    texts = [
        run("index", folder, "-i", place, "--json").stdout,
        run("search", "--image", folder / evil, "-i", place, "--json").stdout,
    ]
    assert json.loads(texts[1])["hits"][0]["uri"] == str(folder / evil)
    for text in outputs + texts:
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text), text
        assert not re.search("^rejected.png", text, re.MULTILINE), text


# -- in a process of its own --------------------------------------------------------------------

IMGSEARCH = (sys.executable, "-W", "error", "-m", "imgsearch_es")


def process(*arguments: object, **options):
    command = [*IMGSEARCH, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_a_mistake_in_a_process_of_its_own(tmp_path):
    done = process("search", "cat", "-i", tmp_path / "none.duckdb")
    assert done.returncode == 1
    assert sentence(done).startswith("there is no index at")
    assert process("search").returncode == 2


@pytest.mark.parametrize(
    ("command", "stream", "code"),
    [
        ("search cat", "stdout", 0),
        ("search cat --all", "stdout", 0),
        ("search --help", "stdout", 0),
        ("search cat -i none.duckdb", "stderr", 1),
        ("doctor -i /dev/null", "stdout", 1),  # its work is done, and says that something is wrong
        ("doctor -i /dev/null --json", "stdout", 1),
    ],
)
def test_a_reader_that_goes_away_changes_no_exit_code(place, command, stream, code):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*IMGSEARCH, *command.split()],
        env={**os.environ, "IMGSEARCH_INDEX": str(place)},
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: writing},
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stdout or b"", done.stderr or b"") == (code, b"", b"")


@pytest.mark.parametrize("form", [(), ("--json",), ("--version",)])
def test_an_output_that_takes_nothing(place, word, form):
    command = [*IMGSEARCH, "search", word, "-i", str(place), *form]
    command = [*IMGSEARCH, *form] if "--version" in form else command
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert re.fullmatch(rb"imgsearch: cannot write: No space left on device; .*\n", done.stderr)


def test_streams_that_are_closed(place, word):
    line = f"exec {shlex.join([*IMGSEARCH, 'search', word, '-i', str(place)])} <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", line], check=False).returncode == 0


def test_a_terminal_that_is_not_utf_8(run, place, cat, tmp_path):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "IMGSEARCH_INDEX": str(place)}
    picture = tmp_path / "猫\N{CAT FACE}.png"
    done = process("search", "--image", picture, env=environment)
    assert done.returncode == 1
    assert "\\u732b\\U0001f431.png: cannot be opened" in sentence(done)
    picture.write_bytes(cat.read_bytes())
    run("index", picture, "-i", tmp_path / "a.duckdb", "-m", "fake")
    listed = (*IMGSEARCH, "search", "format:PNG", "-i", str(tmp_path / "a.duckdb"))
    as_json, as_csv = (
        subprocess.run([*listed, form], capture_output=True, check=True, env=environment).stdout
        for form in ("--json", "--csv")
    )
    assert json.loads(as_json)["hits"][0]["uri"] == str(picture)
    assert str(picture) in as_csv.decode()
    done = process("stats", "-i", place, env=environment)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        *((signal.SIGINT, moment) for moment in ("typer", "duckdb", "the end")),
        (signal.SIGTERM, "duckdb"),
    ],
)
def test_signals_at_any_moment(place, word, number, moment):
    code = (
        "import atexit, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == {moment!r}:\n"
        "            sys.meta_path[:] = [f for f in sys.meta_path if type(f) is not Finder]\n"
        f"            signal.raise_signal({int(number)})\n"
        "sys.meta_path.insert(0, Finder())\n"
        "atexit.register(lambda: Finder().find_spec('the end'))\n"
        f"sys.argv = ['imgsearch', 'search', {word!r}, '-i', {str(place)!r}]\n"
        "from imgsearch_es.__main__ import main\nmain()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 128 + number
    assert (done.stdout == "") == (moment != "the end")
    assert done.stderr == (
        "imgsearch: stopped; what was done is stored, run the command again to go on\n"
    )


def test_without_docstrings_there_are_no_options():
    done = subprocess.run(
        [sys.executable, "-OO", "-m", "imgsearch_es", "search", "cat"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "-OO and PYTHONOPTIMIZE=2 take away: run Python without them" in sentence(done)


def test_names_of_files_that_are_not_read_as_utf8_are_refused():
    """By other names than the index has, files would look as if they were gone."""
    ascii_names = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "imgsearch_es", "models"],
        env={**os.environ, **ascii_names},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "takes names of files for ascii here: set PYTHONUTF8=1" in sentence(done)


def test_a_folder_that_was_deleted(run, place, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    said = sentence(run("index", "photos", "-i", place, code=1))
    assert said == "the folder that you are in was deleted: change to another one"
    run("stats", "-i", place)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't start new thread")])
def test_too_little_memory_is_a_sentence(run, place, monkeypatch, error):
    monkeypatch.setattr(ImageIndex, "stats", Mock(side_effect=error))
    assert "there is not enough memory" in sentence(run("stats", "-i", place, code=1))


def test_the_folder_of_nobody(run):
    said = sentence(run("search", "tabby", "-i", "~no-such-user/a.duckdb", code=1))
    assert said == "a path begins with ~ and the name of nobody here: write it out"


def test_a_manifest_that_is_too_deep(run, place, tmp_path):
    (tmp_path / "deep.json").write_text("[" * 100_000)
    said = sentence(run("evaluate", "--manifest", tmp_path / "deep.json", "-i", place, code=1))
    assert "deep.json is no JSON" in said


@pytest.mark.parametrize("command", [("watch", "pets"), ("serve", "--port", 0)])
def test_a_signal_that_an_import_swallowed_ends_what_signals_alone_end(
    run, place, photos, monkeypatch, command
):
    monkeypatch.setattr(interrupt, "came", True)
    # It closes the handlers that others have set; absl's closes pytest's own file.
    monkeypatch.setattr(logging.config, "dictConfig", lambda config: None)
    monkeypatch.chdir(photos)
    (photos / "pets").mkdir()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    try:
        assert STOPPED in run(*command, "-i", place, code=130).stderr
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@pytest.mark.parametrize("command", ["search --vector /dev/zero", "evaluate --manifest /dev/zero"])
def test_a_device_is_not_read(run, place, command):
    assert "/dev/zero" in (said := sentence(run(*command.split(), "-i", place, code=1)))
    assert "it is a device, not a file" in said


def test_a_disk_without_room_for_anything(run, place, photos, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(Path, "write_text", full)
    said = sentence(run("groups", photos, "--out", tmp_path / "g", code=1))
    assert said == "cannot write: Disk quota exceeded; make room and run the command again"
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(
        tempfile,
        "_get_default_tempdir",
        lambda: (_ for _ in ()).throw(
            FileNotFoundError(errno.ENOENT, "No usable temporary directory found")
        ),
    )
    said = sentence(run("sweep", photos, "--models", "fake", "--top-k", "1", code=1))
    assert (
        said == "No usable temporary directory found: make room there, or name a folder by TMPDIR"
    )


def test_a_download_for_a_new_index_is_said_before(run, photos, tmp_path, monkeypatch, place):
    def interrupted(*arguments: object, **options: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr("urllib.request.urlopen", interrupted)
    before = sorted(tmp_path.iterdir())
    said = run("index", photos, "-i", tmp_path / "new.duckdb", code=130).stderr
    assert "a new index takes vgg16" in said
    assert "--model efficientnet-lite" in said
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == before
    assert "vgg16" not in run("index", photos, "-i", place).stderr
    assert "vgg16" not in run("index", photos, "-i", tmp_path / "b", "--model", "fake").stderr
