"""Wheel and source archive: what is in them, and that the wheel works where nothing else is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

import imgsearch_es
from tests.conftest import ROOT

PACKAGE = ROOT / "imgsearch_es"
CARRIED = ("imgsearch_es", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheel and source archive, built of a copy so that the checkout stays as it is."""
    source = tmp_path_factory.mktemp("source")
    for name in CARRIED:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(ROOT / name, source / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, source)
    target = source / "dist"
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", target, source)
    return target


@pytest.fixture(scope="module")
def wheel(archives: Path) -> Path:
    (found,) = archives.glob("*.whl")
    return found


def run(*command: object, **options: Any) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def package_files() -> set[str]:
    """All files of the package's folder: programs, data, templates, static files."""
    files = (path for path in PACKAGE.rglob("*") if path.is_file())
    return {p.relative_to(ROOT).as_posix() for p in files if "__pycache__" not in p.parts}


def test_the_wheel_has_all_files_of_the_package(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == package_files()


def test_the_source_archive_has_them_too(archives: Path):
    (source,) = archives.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert package_files() <= names


def test_the_metadata_is_in_order(archives: Path):
    run(sys.executable, "-m", "twine", "check", "--strict", *archives.iterdir())


def test_there_is_one_version(wheel: Path):
    version = imgsearch_es.__version__
    assert wheel.name == f"imgsearch_es-{version}-py3-none-any.whl"
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (.+)$", citation, re.MULTILINE)[1] == version
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert version in changes


@pytest.mark.model
def test_the_demo_works_from_the_wheel_and_what_it_requires(wheel: Path, tmp_path: Path):
    """In an environment that has the wheel and the packages that it requires, and no other.

    The required packages are those of the environment of the tests, linked there: this
    shows that the declared requirements are enough, not that an index of packages has them.
    """
    python = environment(tmp_path / "venv", wheel)
    isolated = {name: os.environ[name] for name in ("HOME", "PATH") if name in os.environ}
    ask = (
        "import imgsearch_es, importlib.util as u; print(imgsearch_es.__file__, u.find_spec('{}'))"
    )
    place, other = run(python, "-c", ask.format("pytest"), cwd=tmp_path, env=isolated).split()
    assert Path(place).is_relative_to(tmp_path)
    assert other == "None"
    printed = run(python.with_name("imgsearch"), "demo", cwd=tmp_path, env=isolated)
    assert "76 added, 0 updated, 0 unchanged, 0 rejected" in printed
    assert re.search(r"1 +0\.3\d+ +demo/photos/chelsea", printed)
    assert (tmp_path / "demo" / "by-picture.html").is_file()


def environment(folder: Path, wheel: Path) -> Path:
    """A virtual environment with the wheel and links to what it requires; gives its Python."""
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    (packages,) = folder.glob("lib/python3*/site-packages")
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index")
    run(*pip, "--no-deps", wheel)
    (metadata,) = packages.glob("imgsearch_es-*.dist-info")
    for package in required(Distribution.at(metadata)):
        link(package, packages)
    return python


def required(package: Distribution) -> list[Distribution]:
    """The packages that a package requires without extras, and those that they require in turn."""
    found: dict[tuple[str, str], Distribution] = {}
    wanted = [(package, "")]
    while wanted:
        needing, extra = wanted.pop()
        for line in needing.requires or []:
            needed = Requirement(line)
            if needed.marker is not None and not needed.marker.evaluate({"extra": extra}):
                continue
            for option in ("", *needed.extras):
                if (needed.name, option) not in found:
                    found[needed.name, option] = distribution(needed.name)
                    wanted.append((found[needed.name, option], option))
    return list({each.name: each for each in found.values()}.values())


def link(package: Distribution, target: Path):
    """Put what a package has where another environment finds it."""
    for name in {file.parts[0] for file in package.files or ()} - {"..", "__pycache__"}:
        if not (target / name).exists():
            (target / name).symlink_to(Path(str(package.locate_file(name))).resolve())
