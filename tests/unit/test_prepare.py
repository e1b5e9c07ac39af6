"""What `make test` does on a machine that lacks what tests need."""

from __future__ import annotations

import hashlib
import io
import tarfile
import time
from pathlib import Path

import elasticsearch_provision as provision
import prepare
import pytest
import system_packages as system
from elasticsearch_provision import DISTRIBUTIONS, NodeError, archive_url, copy_of, fetch, java_for

APT = "apt-get install -y --no-install-recommends"


@pytest.fixture(autouse=True)
def bare(tmp_path, monkeypatch) -> None:
    """No cache, no programs, no libraries, no network, an ordinary user of Debian 12."""
    for name in ("IMGSEARCH_ES_URL", "IMGSEARCH_ES8_URL", "IMGSEARCH_JAVA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("IMGSEARCH_BROWSER", "")
    monkeypatch.setenv("IMGSEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("IMGSEARCH_ES_ARCHIVE", str(tmp_path / "mirror"))
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path))
    monkeypatch.setattr(provision, "java_homes", lambda *_: [])
    monkeypatch.setattr(provision, "open_to_account", lambda path: True)
    monkeypatch.setattr(prepare, "open_to_account", lambda path: True)
    monkeypatch.setattr(prepare, "APPLICATIONS", ())
    monkeypatch.setattr(prepare, "reach", refused)
    monkeypatch.setattr(prepare, "has_libraries", lambda names: False)
    monkeypatch.setattr(prepare, "python", list)
    monkeypatch.setattr(system, "this_system", lambda: "debian bookworm")
    monkeypatch.setattr(system, "root", lambda: None)


def refused(url: str) -> None:
    raise OSError("no network")


def publish(version: str) -> Path:
    """Elastic's archive of a version, on the mirror."""
    name = archive_url(DISTRIBUTIONS[version]).rpartition("/")[2]
    archive = copy_of(version).parents[1] / "mirror" / name
    archive.parent.mkdir(exist_ok=True)
    with tarfile.open(archive, "w:gz") as tar:
        for path, mode in (("bin/elasticsearch", 0o750), ("jdk/bin/java", 0o750), ("a.yml", 0o600)):
            member = tarfile.TarInfo(f"{copy_of(version).name}/{path}")
            member.mode, member.size = mode, 1
            tar.addfile(member, io.BytesIO(b"x"))
        link = tarfile.TarInfo(f"{copy_of(version).name}/jdk/b.yml")
        link.type, link.linkname = tarfile.LNKTYPE, member.name
        tar.addfile(link)
    digest = hashlib.sha512(archive.read_bytes()).hexdigest()
    archive.with_name(f"{name}.sha512").write_text(f"{digest}  {name}\n")
    return archive


def test_the_archive_of_elastic_brings_its_jdk():
    publish("9")
    home = fetch("9")
    assert java_for("9") == home / "jdk"
    modes = {path.name: path.stat().st_mode & 0o777 for path in home.rglob("*")}
    assert (modes["elasticsearch"], modes["a.yml"], modes["bin"]) == (0o755, 0o644, 0o755)
    assert (home / "jdk/b.yml").read_text() == "x"


def test_an_archive_with_another_checksum_is_refused(monkeypatch):
    archive = publish("9")
    archive.write_bytes(archive.read_bytes() + b"more")
    with pytest.raises(NodeError, match=r"elasticsearch-9\.4\.3-.*is not what its checksum says"):
        fetch("9")
    monkeypatch.setitem(provision.SHA512, publish("9").name, "0" * 128)  # is right by the mirror
    with pytest.raises(NodeError, match="is not what its checksum says"):
        fetch("9")
    assert not copy_of("9").exists()


def test_a_mirror_is_a_folder_or_one_archive():
    nine, eight = DISTRIBUTIONS["9"], DISTRIBUTIONS["8"]
    name = archive_url(nine).rpartition("/")[2]
    mirrors = {"IMGSEARCH_ES_ARCHIVE": "http://mirror/es/"}
    assert archive_url(nine, mirrors) == f"http://mirror/es/{name}"
    one = {"IMGSEARCH_ES_ARCHIVE": f"/x/{name}"}
    assert archive_url(nine, one) == f"file:///x/{name}"
    assert archive_url(eight, one).startswith("https://artifacts.elastic.co/")


def test_without_archive_jdk_and_maven_a_sentence_says_what_to_install(monkeypatch):
    with pytest.raises(NodeError, match=r"JDK of 21 .* there is none here: .*tools/install_jdk.sh"):
        fetch("9")
    monkeypatch.setattr(provision, "find_java", lambda minimum: Path("jdk"))
    with pytest.raises(NodeError, match=r"no `mvn` on PATH: .*apt-get install .*maven`, or set"):
        fetch("9")


@pytest.mark.parametrize(
    ("text", "things", "wanted"),
    [
        ("ID=debian\nVERSION_CODENAME=bookworm", ["java"], "`sudo bash tools/install_jdk.sh`"),
        (
            'ID=debian\nVERSION_CODENAME="trixie"',
            ["browser", "java"],
            f"`sudo apt-get update && sudo {APT} chromium openjdk-21-jdk-headless`",
        ),
        (
            "ID=linuxmint\nID_LIKE='ubuntu debian'",
            ["libatomic", "libraries"],
            f"`sudo apt-get update && sudo {APT} libatomic1 && make venv && "
            ".venv/bin/python -m playwright install-deps chromium`",
        ),
        ("ID=ubuntu", ["maven", "browser"], "install it by hand"),  # a snap
        ("ID=rocky\nID_LIKE='rhel fedora'", ["java"], "install it by hand"),
    ],
)
def test_commands_of_each_system(text, things, wanted, tmp_path, monkeypatch):
    monkeypatch.undo()
    (tmp_path / "os-release").write_text(text)
    key = system.this_system(tmp_path / "os-release")
    monkeypatch.setattr(system, "this_system", lambda: key)
    monkeypatch.setattr(system.os, "getuid", lambda: 7)
    monkeypatch.setattr(system.shutil, "which", str)
    assert system.how(things) == wanted


def test_what_cannot_be_had_is_one_list_with_the_command(monkeypatch, capsys):
    monkeypatch.setattr(prepare, "ASKING_LIMIT_S", 0.2)
    monkeypatch.setattr(prepare, "reach", lambda url: time.sleep(5))  # a network that hangs
    assert prepare.main(["check"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n  - ") == 4
    assert "and Maven Central cannot be reached (no answer" in said
    assert f"{APT} chromium libatomic1`" in said
    assert prepare.main(["--some"]) == 0
    assert "Tests that need it will fail" in capsys.readouterr().err


def test_root_has_packages_installed_and_an_ordinary_user_takes_archives(monkeypatch, capsys):
    monkeypatch.setattr(prepare, "reach", lambda url: None)
    monkeypatch.setattr(system, "root", list)
    packages = [lack.packages for lack in prepare.lacking()]
    assert packages == [("libatomic",), ("java", "maven"), ("java", "maven"), ("browser",)]
    monkeypatch.setattr(system, "root", lambda: None)
    monkeypatch.setenv("IMGSEARCH_BROWSER", "/bin/sh")
    publish("9")
    publish("8")
    assert prepare.main([]) == 1  # the archives came, and libatomic is for root
    said = capsys.readouterr().err
    assert said.count("\n  - ") == said.count("browser: needs libatomic\n") == 1
    assert f"apt-get update && {APT} libatomic1`" in said
    monkeypatch.setattr(prepare, "has_libraries", lambda names: True)
    monkeypatch.setattr(prepare, "ask", None)  # nothing is asked when all is here
    assert prepare.main(["check"]) == 0


def test_a_named_server_or_browser_that_is_not_there_stops_the_run(monkeypatch, capsys):
    monkeypatch.setenv("IMGSEARCH_ES_URL", "http://elastic:secret@127.0.0.1:1")
    monkeypatch.setenv("IMGSEARCH_BROWSER", "/no/browser")
    assert prepare.main(["check"]) == 1
    said = capsys.readouterr().err
    assert "nothing answers at 127.0.0.1:1" in said
    assert "secret" not in said
    assert "IMGSEARCH_BROWSER names /no/browser" in said
