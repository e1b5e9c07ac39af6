"""Prepare the collections of reproduction.toml: pets, groups of four, and objects with their names.

    python benchmarks/reproduction.py --pets dogs-vs-cats --photos imagenet-sample \
        --objects coco/labels.tsv --out matrix
    imgsearch reproduce benchmarks/reproduction.toml --pictures matrix

--pets holds photos called as Kaggle's dog.17.jpg; of each of --photos four pictures are made
(`imgsearch groups`); --objects names, for each photo in its folder, the objects that are in it,
with commas between them (its first line is a heading). No photo is copied, but listed.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

from imgsearch_es.learning import make_groups


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pets", type=Path, required=True, metavar="DIR")
    parser.add_argument("--photos", type=Path, required=True, metavar="DIR")
    parser.add_argument("--objects", type=Path, required=True, metavar="TSV")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    pets = sorted(options.pets.resolve().glob("*.jpg"))
    (options.out / "pets.txt").write_text("".join(f"{path}\n" for path in pets), encoding="utf-8")
    folder = options.objects.resolve().parent
    with (
        options.objects.open(newline="", encoding="utf-8") as told,
        (options.out / "objects.csv").open("w", newline="", encoding="utf-8") as listed,
    ):
        rows = csv.writer(listed)
        rows.writerow(["path", "label"])
        for name, objects, *_ in list(csv.reader(told, delimiter="\t"))[1:]:
            rows.writerow([folder / name, json.dumps(list(filter(None, objects.split(","))))])
    made = make_groups(options.photos, options.out / "groups")
    print(f"{options.out}: {len(pets)} pets, {len(made)} groups")


if __name__ == "__main__":
    main()
