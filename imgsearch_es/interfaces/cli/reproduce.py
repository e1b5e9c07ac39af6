"""``imgsearch reproduce``: the same sweep on several collections, and its tables once again."""

from __future__ import annotations

from pathlib import Path

from imgsearch_es.interfaces.cli.evaluate import print_tables
from imgsearch_es.interfaces.cli.output import answer, fail, say, waiting, warn
from imgsearch_es.stores.interrupts import interrupt


def reproduce(
    *,
    file: Path,
    row: list[str] | None = None,
    pictures: Path | None = None,
    out: Path = Path("reproduction"),
    plots: bool = True,
    runtime: str | None = None,
) -> None:
    """Measure models, terms and strategies on several collections.

    Each model sees each picture once. After Ctrl-C the same command goes on; what is whole in --out
    is not measured again. A manifest's matrix is measured again and compared with it.

    Options:
        file FILE: A TOML file (docs/reproduction.md), or the manifest.json that a run wrote.
        --row ROW: Measure this row alone and print it: "pets efficientnet-lite0 auto/plain/50/10",
            as commands.txt in --out names it. May be repeated.
        --pictures DIR: The folder that holds the collections. By default that of the file.
        --out DIR: Where tables, plots and the manifest go, and what the models said of pictures.
            By default reproduction.
        --plots: Draw plots.
        --runtime: What runs the models: tensorflow, openvino, or auto.
    """
    from imgsearch_es.evaluation.sweeps import Matrix, measure_row, reproduce

    matrix = Matrix.read(file, pictures)
    try:
        with waiting("reading the pictures ...") as progress:
            found = [measure_row(matrix, name, out, runtime, progress) for name in row or ()]
            done = None if row else reproduce(matrix, out, runtime, progress, plots=plots)
    except KeyboardInterrupt:
        fail(f"stopped; the same command goes on with what is kept in {out}", code=interrupt.code)
    for one in found:
        print_tables(one, "table", {})
    if done is None:
        return
    for model, why in done.missing.items():
        warn(f"no row of {model}: {why.rstrip('.')}; then the same command adds its rows")
    different = [] if matrix.expected is None else done.differences()
    files = done.write(out, str(file))
    extra = {"files": list(map(str, files)), "differences": list(map(str, different))}
    if not answer(done.manifest() | extra):
        say(*(f"differs: {one}" for one in different))
        for name in done.tables:
            rows = sum(each.startswith(f"{name} ") for each in done.rows())
            say(f"{name}: {rows} rows, table and plots in {out / name}")
        say(f"all tables in {files[0]}, a command for each row in {files[1]}")
    if any(one.what.startswith("figures") for one in different):
        fail(f"the figures are not those of {file}")
    if matrix.expected is not None:
        say(f"the figures are those of {file}, to the last bit")
