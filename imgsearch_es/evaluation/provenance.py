"""Where a run comes from: the machine, versions, time and energy, as ir_metadata has them.

The schema is that of Breuer, Keller and Schaer, "ir_metadata: an extensible metadata schema for IR
experiments", SIGIR 2022 (https://www.ir-metadata.org), version 0.1; time and energy are under
``resources``, as the TIREx tracker writes them. A header is YAML in comment lines before a run.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from imgsearch_es.analysis.plugins import installed_version
from imgsearch_es.errors import EvaluationError, needed

_PACKAGES = (
    *("imgsearch-es", "numpy", "scipy", "ir-measures", "pytrec-eval-terrier"),
    *("duckdb", "elasticsearch", "keras", "tensorflow", "openvino", "pillow"),
)
_START, _END = "# ir_metadata.start", "# ir_metadata.end"
_RAPL = Path("/sys/class/powercap")


def versions() -> dict[str, str]:
    """Of Python, the machine and the packages that figures may depend on."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    return found | {name: number for name in _PACKAGES if (number := installed_version(name))}


def measured() -> Callable[[], dict[str, Any]]:
    """Start a clock; what it gives says how long, and how much energy, it was until it is asked."""
    begun, clock, used = datetime.now(timezone.utc), perf_counter(), process_time()
    energy = _energy()

    def resources() -> dict[str, Any]:
        ended = datetime.now(timezone.utc)
        found: dict[str, Any] = {
            "runtime": {
                "start time": begun.isoformat(timespec="milliseconds"),
                "stop time": ended.isoformat(timespec="milliseconds"),
                "wallclock": f"{1000 * (perf_counter() - clock):.0f} ms",
                "user": f"{1000 * (process_time() - used):.0f} ms",
            }
        }
        if (joules := _difference(energy, _energy())) is not None:
            found["cpu"] = {"energy used system": f"{joules:.1f} J"}
        return found

    return resources


def about(
    strategy: str, analyzer: Mapping[str, Any], resources: Mapping[str, Any]
) -> dict[str, Any]:
    """The metadata of a run, as ir_metadata arranges them.

    It does not know who made it, why, and of what collection: "actor" and the like are empty.
    """
    known = versions()
    del known["machine"]
    return {
        "schema-version": 0.1,
        "run-version": 1.0,
        "tag": strategy,
        "platform": {
            "hardware": _hardware(),
            "operating system": {
                "kernel": f"{platform.system()} {platform.release()}",
                "distribution": _distribution(),
            },
            "software": {
                "libraries": {"python": [f"{name}=={value}" for name, value in known.items()]},
                "retrieval toolkit": [f"imgsearch-es=={known.get('imgsearch-es', '')}"],
            },
        },
        "research goal": {},
        "implementation": {"source": {"lang": ["Python"]}},
        "method": {
            "automatic": True,
            "indexing": {"analyzer": json.loads(json.dumps(dict(analyzer)))},
            "retrieval": [{"name": strategy}],
        },
        "actor": {},
        "data": {},
        "resources": dict(resources),
    }


def to_header(metadata: Mapping[str, Any]) -> list[str]:
    """Comment lines with metadata in YAML; EvaluationError where it cannot hold a value."""
    yaml = needed("yaml", "metadata of runs need PyYAML", "evaluation")
    try:
        text = yaml.safe_dump(dict(metadata), sort_keys=False, allow_unicode=True, width=4096)
    except yaml.YAMLError as error:
        raise EvaluationError(f"the metadata of the run are no YAML: {error}") from error
    return [_START, *(f"# {line}" for line in text.splitlines()), _END]


def from_header(lines: Sequence[tuple[int, str]], where: str) -> tuple[dict[str, Any], int]:
    """What a run's first lines say of it, and how many they are: none without a header."""
    if not lines or lines[0][1].rstrip() != _START:
        return {}, 0
    ends = [place for place, (_, line) in enumerate(lines) if line.rstrip() == _END]
    if not ends:
        raise EvaluationError(f"{where}: the header has no line {_END!r}")
    yaml = needed("yaml", f"{where} has a header, which needs PyYAML", "evaluation")
    rows = [line.rstrip("\r").removeprefix("#").removeprefix(" ") for _, line in lines[1 : ends[0]]]
    try:
        found = yaml.safe_load("\n".join(rows))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        text = " ".join(str(error).split())
        raise EvaluationError(f"{where}: the header is no YAML: {text}") from error
    if not isinstance(found, dict):
        raise EvaluationError(f"{where}: the header is no mapping of names to values")
    return found, ends[0] + 1


def _hardware() -> dict[str, Any]:
    cpu = {
        "model": _first("/proc/cpuinfo", "model name") or platform.processor() or "unknown",
        "architecture": platform.machine(),
        "operation mode": platform.architecture()[0].replace("bit", "-bit"),
        "number of cores": os.cpu_count() or 0,
    }
    kilobytes = _first("/proc/meminfo", "MemTotal").partition(" ")[0]
    return {"cpu": cpu} | ({"ram": f"{int(kilobytes) / 2**20:.0f} GB"} if kilobytes else {})


def _first(path: str, name: str) -> str:
    """The first value of a name in a file of Linux, or nothing."""
    try:
        with Path(path).open(encoding="utf-8", errors="replace") as file:
            rows = (line.partition(":") for line in file)
            return next((value.strip() for key, _, value in rows if key.strip() == name), "")
    except OSError:
        return ""


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")
    except OSError:
        return platform.platform(terse=True)


def _energy() -> dict[Path, tuple[int, int]]:
    """By processor package, Intel's and AMD's counter (RAPL) of microjoules, and where it turns.

    Linux lets root alone read it, unless told otherwise; nothing is measured where it does not.
    """
    found = {}
    for zone in sorted(_RAPL.glob("*-rapl:?")):
        try:
            highest = int((zone / "max_energy_range_uj").read_text())
            found[zone] = int((zone / "energy_uj").read_text()), highest
        except (OSError, ValueError):
            continue
    return found


def _difference(
    before: Mapping[Path, tuple[int, int]], after: Mapping[Path, tuple[int, int]]
) -> float | None:
    """Joules between two readings of all packages; None where there is none."""
    if not before or before.keys() != after.keys():
        return None
    turned = ((after[zone][0] - was) % (highest + 1) for zone, (was, highest) in before.items())
    return sum(turned) / 1e6
