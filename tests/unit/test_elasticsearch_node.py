from __future__ import annotations

import zipfile
from pathlib import Path

import elasticsearch_node
import elasticsearch_provision as provision
import pytest
from elasticsearch_node import node, settings
from elasticsearch_provision import NodeError, cache_dir, find_java, parse_java_version

FULL = "java.base@25\njdk.incubator.vector@25\njdk.jdi@25\n"


@pytest.fixture(autouse=True)
def nothing_at_hand(tmp_path, monkeypatch) -> None:
    for name in ("IMGSEARCH_ES_URL", "IMGSEARCH_ES8_URL", "IMGSEARCH_JAVA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("IMGSEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(provision, "open_to_account", lambda path: True)


def fake_jdk(home: Path, version: str, modules: str = FULL) -> Path:
    (home / "bin").mkdir(parents=True)
    (home / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{version}"\n')
    (home / "bin/java").write_text(f"#!/bin/sh\nprintf '{modules}'\n".replace("\n'", "'"))
    (home / "bin/java").chmod(0o755)
    return home


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ('IMPLEMENTOR="Eclipse Adoptium"\nJAVA_VERSION="25.0.3"\n', 25),
        ('openjdk version "17.0.15" 2025-04-15\nOpenJDK Runtime Environment', 17),
        ('java version "1.8.0_392"', 8),
        ('openjdk version "26-ea" 2026-03-17', 26),
        ("sh: java: not found", None),
    ],
)
def test_java_version_is_read_from_both_formats(text, version):
    assert parse_java_version(text) == version


def test_the_jdk_that_is_whole_or_named_on_purpose(tmp_path):
    old = fake_jdk(tmp_path / "old", "17.0.1")
    trimmed = fake_jdk(tmp_path / "cache/trimmed", "24.0.1", "java.base@24\n")
    full = fake_jdk(tmp_path / "cache/full", "26.0.1")
    environ = {"JAVA_HOME": str(old), "IMGSEARCH_CACHE": str(trimmed.parent), "PATH": ""}
    assert find_java(26, environ) == find_java(26, {"IMGSEARCH_JAVA_HOME": str(full)}) == full
    with pytest.raises(NodeError, match=r"JDK of 21 or newer and IMGSEARCH_JAVA_HOME=.*old is not"):
        find_java(21, {**environ, "IMGSEARCH_JAVA_HOME": str(old)})


def test_cache_folder():
    assert cache_dir({"IMGSEARCH_CACHE": "/x", "HOME": "/home/a"}, uid=0) == Path("/x")
    assert cache_dir({"HOME": "/root"}, uid=0) == Path("/var/cache/imgsearch_es")
    assert cache_dir({"HOME": "/h", "XDG_CACHE_HOME": "/c"}, uid=7) == Path("/c/imgsearch_es")


def test_a_cache_folder_is_whole_or_absent(tmp_path):
    def interrupted(folder: Path) -> None:
        (folder / "half").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        provision.cached("thing", interrupted)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".lock"]
    made = provision.cached("thing", lambda folder: (folder / "whole").touch())
    assert provision.cached("thing", interrupted) == made
    assert [path.name for path in made.iterdir()] == ["whole"]


def test_unpack_takes_one_folder_and_makes_it_readable(tmp_path):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        for name, mode in [("es/bin/run", 0o750), ("es/config/yml", 0o600), ("other/big", 0o644)]:
            member = zipfile.ZipInfo(name)
            member.external_attr = mode << 16
            zipped.writestr(member, name)
    provision.unpack(archive, "es/", tmp_path / "out")
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == ["bin", "config"]
    assert (out / "bin/run").stat().st_mode & 0o777 == 0o755
    assert (out / "config/yml").stat().st_mode & 0o777 == 0o644


def test_a_module_that_is_absent_is_not_configured(tmp_path):
    (tmp_path / "modules/x-pack-ml").mkdir(parents=True)
    chosen = settings(tmp_path, tmp_path / "run")
    assert chosen["xpack.ml.enabled"] == "false"
    assert "ingest.geoip.downloader.enabled" not in chosen
    assert chosen["network.host"] == "127.0.0.1"


@pytest.mark.parametrize("first", range(4))
def test_order(first, monkeypatch):
    """The server that is named, the one left running, Docker, a copy in the cache."""
    answers = [
        ("named", "http://named"),
        ("_running_url", "http://running"),
        ("_docker", elasticsearch_node.Node("http://docker", "docker:none")),
        ("_provisioned", (elasticsearch_node.Node("http://copy", ""), None)),
    ]
    for number, (name, answer) in enumerate(answers):
        chosen = answer if number >= first else None
        monkeypatch.setattr(elasticsearch_node, name, lambda *_, chosen=chosen: chosen)
    monkeypatch.setattr(elasticsearch_node, "stop", lambda handle, process=None: None)
    with node() as url:
        assert url == ("http://named", "http://running", "http://docker", "http://copy")[first]
