"""Features per second into an index file and out of it, and how much memory that takes.

    python benchmarks/features.py --features 20000 100000 --json features.json

Random vectors, in each kind of file. Each import and export runs in a process of its own, whose
largest size is given: it should not grow with the file as the file does.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from needs import needs  # noqa: E402

from imgsearch_es import ImageIndex  # noqa: E402

with needs("features,parquet"):
    import h5py  # noqa: F401
    import pyarrow  # noqa: F401

KINDS = ("arrays", "features.h5", "features.parquet", "features.csv")


def work(task: str, index: str, file: str) -> None:
    """One import or export; prints seconds and MB."""
    started = time.perf_counter()
    with ImageIndex(index) as opened:
        done = getattr(opened, f"{task}_features")(file)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    number = done.added if task == "import" else done.features
    print(json.dumps({"seconds": seconds, "peak_mb": peak, "features": number}))


def measured(task: str, index: Path, file: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--work", task, str(index), str(file)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603
    found: dict[str, float] = json.loads(answer)
    return found


def size_of(file: Path) -> int:
    files = file.iterdir() if file.is_dir() else [file]
    return sum(part.stat().st_size for part in files)


def measure(number: int, dimensions: int, folder: Path) -> list[dict[str, object]]:
    """Each kind of file: written from one index, and read into a new one."""
    random = np.random.default_rng(0)
    given, rows = folder / "given", []
    given.mkdir()
    np.save(given / "filenames.npy", np.array([f"/photos/{i}.jpg" for i in range(number)]))
    np.save(given / "vectors.npy", random.random((number, dimensions), dtype=np.float32))
    measured("import", folder / "first.duckdb", given)
    for kind in KINDS:
        file = folder / kind
        out = measured("export", folder / "first.duckdb", file)
        into = measured("import", folder / f"{kind}.duckdb", file)
        if into["features"] != number:
            raise SystemExit(f"{kind}: {into['features']} of {number} came back")
        rows.append(
            {
                "kind": kind,
                "features": number,
                "dimensions": dimensions,
                "file_mb": round(size_of(file) / 2**20, 1),
                "export_per_s": round(number / out["seconds"]),
                "export_peak_mb": round(out["peak_mb"]),
                "import_per_s": round(number / into["seconds"]),
                "import_peak_mb": round(into["peak_mb"]),
            }
        )
        (folder / f"{kind}.duckdb").unlink()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--features", type=int, nargs="+", default=[20_000])
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(*options.work)
        return
    found = []
    for number in options.features:
        with tempfile.TemporaryDirectory() as folder:
            found += measure(number, options.dimensions, Path(folder))
    columns = list(found[0])
    print("  ".join(f"{name:>16}" for name in columns))
    for row in found:
        print("  ".join(f"{row[name]!s:>16}" for name in columns))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
