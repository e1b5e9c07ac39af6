"""Finds what `make test` needs besides Python's packages, and brings what this machine lacks.

    python3 tools/prepare.py check    # before .venv is made: stops where anything is out of reach
    .venv/bin/python tools/prepare.py # brings what is lacking, and says each step in one line
    ... --some                        # says what is out of reach, and lets chosen tests run

Elasticsearch to start nodes from, because there are tests that kill theirs or start two: the cache,
Elastic's archive, or Maven Central with a JDK. Elasticsearch 8, too, or the server that
IMGSEARCH_ES8_URL names, a running node, or Docker. A browser: the one that IMGSEARCH_BROWSER names,
an installed Chromium or Chrome, or Playwright's own.
"""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import elasticsearch_node
import system_packages as system
from elasticsearch_provision import (
    DISTRIBUTIONS,
    NodeError,
    archive_url,
    checksum,
    copy_of,
    fetch,
    java_for,
    open_to_account,
    say,
    tail,
)

ROOT = Path(__file__).resolve().parent.parent
ASKING_LIMIT_S = 7.0
"""All questions to the network together; a name server that hangs is not waited for."""
MAVEN = "https://repo.maven.apache.org/maven2"
PLAYWRIGHT = "https://cdn.playwright.dev"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
APPLICATIONS = (
    Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"),
    Path("/Applications/Chromium.app/Contents/MacOS/Chromium"),
)
DRIVER_LIBRARIES = ("libatomic.so.1",)
"""What Playwright itself takes from the system, and no browser brings."""
LIBRARIES = ("libnss3.so", "libatk-bridge-2.0.so.0", "libgbm.so.1", "libasound.so.2")
"""Some of those that Playwright's own Chromium takes from the system."""


@dataclass
class Lack:
    """Something that is not here: how it comes, or why it cannot.

    Attributes:
        what: it, in words.
        packages: what the system's package manager shall bring for it, by system_packages.
        bring: what fetches it after that.
        refusal: why it cannot be had; empty where it can.
    """

    what: str
    packages: tuple[str, ...] = ()
    bring: Callable[[], object] | None = None
    refusal: str = ""

    def refuse_packages(self) -> None:
        """Refuse where there are packages to install, and none known or somebody else's to do."""
        if self.packages and (system.root() is None or not system.commands(self.packages)):
            self.refusal = f"needs {system.words(self.packages)}"


# -- what there is -------------------------------------------------------------------------------


def find_browser() -> str | None:
    """The path of a browser that is named or installed, or None."""
    if named := os.environ.get("IMGSEARCH_BROWSER"):
        return named
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    return found or next((str(place) for place in APPLICATIONS if place.is_file()), None)


def has_browser() -> bool:
    """Whether there is one, Playwright's own with what it takes from the system included."""
    return find_browser() is not None or (playwright_has_one() and has_libraries(LIBRARIES))


def playwright_has_one() -> bool:
    caches = "Library/Caches" if sys.platform == "darwin" else ".cache"
    default = Path.home() / caches / "ms-playwright"
    folder = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or default)
    return any(folder.glob("chromium-*/INSTALLATION_COMPLETE"))


def has_java(version: str) -> bool:
    try:
        return bool(java_for(version))
    except NodeError:
        return False


def has_copy(version: str) -> bool:
    """Whether the cache has this Elasticsearch, with a JDK for it."""
    home = copy_of(version)
    return home.is_dir() and open_to_account(home) and has_java(version)


def has_libraries(names: tuple[str, ...]) -> bool:
    if sys.platform == "darwin":
        return True
    try:
        return all(ctypes.CDLL(name) for name in names)
    except OSError:
        return False


# -- what could be had ---------------------------------------------------------------------------


def reach(url: str) -> None:
    """Have any answer of a server, whatever it says; an OSError says why there is none."""
    with contextlib.suppress(urllib.error.HTTPError):
        urllib.request.urlopen(url, timeout=5).close()  # noqa: S310


def reach_maven() -> None:
    """Reach Maven Central, unless the user's settings may name a mirror: that Maven finds out."""
    if not (Path.home() / ".m2/settings.xml").is_file():
        reach(MAVEN)


def ask() -> dict[str, str]:
    """Ask all that may help, at once: why each fails, nothing where it does not."""
    questions: dict[str, Callable[[], object]] = {
        version: partial(checksum, archive_url(distribution))
        for version, distribution in DISTRIBUTIONS.items()
    }
    questions["maven"] = reach_maven
    questions["playwright"] = partial(
        reach, os.environ.get("PLAYWRIGHT_DOWNLOAD_HOST") or PLAYWRIGHT
    )
    answers = dict.fromkeys(questions, f"no answer within {ASKING_LIMIT_S:.0f} s")

    def put(name: str) -> None:
        try:
            questions[name]()
        except (OSError, ValueError, http.client.HTTPException) as error:
            answers[name] = str(getattr(error, "reason", "") or error)
        else:
            answers[name] = ""

    threads = [threading.Thread(target=put, args=(name,), daemon=True) for name in questions]
    deadline = time.monotonic() + ASKING_LIMIT_S
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0, deadline - time.monotonic()))
    return dict(answers)


def elasticsearch(version: str, failures: dict[str, str]) -> Lack:
    """What is to be done for an Elasticsearch to start nodes from."""
    lack = Lack(f"Elasticsearch {DISTRIBUTIONS[version].number}", bring=partial(fetch, version))
    has_files = copy_of(version).is_dir()
    if not has_files and not failures[version]:
        return lack
    lack.packages = () if has_java(version) else ("java",)
    if not has_files and not shutil.which("mvn"):
        lack.packages += ("maven",)
    lack.refuse_packages()
    if not has_files and failures["maven"]:
        lack.packages, lack.refusal = (), f"cannot be reached ({failures['maven']})"
    if not has_files and lack.refusal:
        lack.refusal = (
            f"Elastic's archive cannot be had ({failures[version]}; IMGSEARCH_ES_ARCHIVE names a "
            f"mirror), and Maven Central {lack.refusal}"
        )
    return lack


def browser(failures: dict[str, str]) -> Lack:
    """What is to be done for a browser: of the system's packages, or else Playwright's own."""
    lack = Lack("a browser (Chromium or Chrome)", ("browser",))
    lack.refuse_packages()
    if lack.refusal and failures["playwright"]:
        lack.refusal += f", as Playwright's own cannot be reached ({failures['playwright']})"
    elif lack.refusal:
        own = Lack(lack.what, () if has_libraries(LIBRARIES) else ("libraries",), fetch_chromium)
        own.refuse_packages()
        return own if not own.refusal or system.commands(own.packages) else lack
    return lack


def lacking() -> list[Lack]:
    """All that is not here; nothing is asked of the network where nothing is lacking."""
    found = [] if (ROOT / ".venv/.installed").exists() else python()
    wanted = []
    for version, distribution in DISTRIBUTIONS.items():
        try:
            elasticsearch_node.named(version)
        except NodeError as error:
            found.append(Lack(f"Elasticsearch {distribution.number}", refusal=str(error)))
        if not has_copy(version) and (version == "9" or not elasticsearch_node.at_hand(version)):
            wanted.append(version)
    if (named := os.environ.get("IMGSEARCH_BROWSER")) and not shutil.which(named):
        refusal = f"IMGSEARCH_BROWSER names {named}, which is no program"
        found.append(Lack("a browser", refusal=refusal))
    if not has_libraries(DRIVER_LIBRARIES):
        found.append(Lack("Playwright, which drives the browser", ("libatomic",)))
        found[-1].refuse_packages()
    if has_browser() and not wanted:
        return found
    failures = ask()
    found += [elasticsearch(version, failures) for version in wanted]
    return found if has_browser() else [*found, browser(failures)]


def python() -> list[Lack]:
    """What tools/make_venv.sh says of Python."""
    command = ["sh", str(ROOT / "tools/make_venv.sh"), "check"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode == 0:
        return []
    package = "venv" if "virtual environments" in run.stderr else "python"
    packages = (package,) if system.commands([package]) else ()
    return [Lack("Python", packages, refusal=run.stderr.strip().replace("error: ", ""))]


# -- bringing it ---------------------------------------------------------------------------------


def install(packages: list[str]) -> None:
    """Have the system's package manager bring packages, as root."""
    for command in system.commands(packages):
        say(f"running {command} ...")
        run = subprocess.run(
            [*(system.root() or []), "sh", "-c", command],
            cwd=ROOT, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, check=False,
        )  # fmt: skip
        if run.returncode:
            say(f"{command} failed: {tail(run.stdout, lines=5)}")


def fetch_chromium() -> None:
    """Have Playwright fetch a Chromium of its own."""
    say("having Playwright fetch a Chromium (about 150 MB, once) ...")
    command = [sys.executable, "-m", "playwright", "install", "chromium"]
    subprocess.run(command, check=False, stdout=sys.stderr)


def bring(lacks: list[Lack]) -> None:
    """Bring all of it, packages first; what fails is said, and found lacking afterwards."""
    if packages := sorted({name for lack in lacks for name in lack.packages}):
        install(packages)
    for lack in lacks:
        try:
            if lack.bring:
                lack.bring()
        except (NodeError, OSError) as error:
            say(f"error: {error}")


def report(lacks: list[Lack], *, is_choice: bool) -> int:
    """Say in one list what cannot be had, and what brings it; the exit status."""
    if not lacks:
        return 0
    say("`make test` needs what is not here and cannot be fetched:")
    for lack in lacks:
        say(f"  - {lack.what}: {lack.refusal or 'not brought, as said above'}")
    packages = sorted({name for lack in lacks for name in lack.packages})
    known = [name for name in packages if system.commands([name])]
    for names in (known, [name for name in packages if name not in known]):
        if names:
            say(f"{system.words(names)}: {system.how(names)}")
    if is_choice:
        say("Tests that need it will fail.")
        return 0
    say('Or choose tests: make check, which needs Python alone, or make test ARGS="-k word".')
    return 1


def main(arguments: list[str]) -> int:
    """The command line; returns the exit status."""
    lacks = lacking()
    if "check" not in arguments and any(not lack.refusal for lack in lacks):
        bring([lack for lack in lacks if not lack.refusal])
        lacks = lacking()
    elif "check" in arguments:
        lacks = [lack for lack in lacks if lack.refusal]
    return report(lacks, is_choice="--some" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
