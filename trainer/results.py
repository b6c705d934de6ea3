"""Writes the tables of trainer/RESULTS.md that are made from trainer/results.json, one file of a run a row.

    python3 trainer/results.py            rewrites what stands between the two marks
    python3 trainer/results.py --check    fails if that would change something
"""
import json
import math
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
BEGIN, END = "<!-- made by trainer/results.py -->\n", "<!-- end -->\n"
KEYS = ("model dataset relus_total relus_kept recipe removed deploy branch epochs precision seed revision command "
        "clean n_clean corrupted n_corrupted pgd20 n_pgd20 autoattack autoattack_version n_autoattack").split()


def half_width(percent, n):
    """Half of the 95 % Wilson interval, in percent."""
    z, p = 1.959963984540054, percent / 100
    return 100 * z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)


def score(row, key, note=""):
    if row[key] is None:
        return "-"
    return "%.2f ±%.2f%s" % (row[key], half_width(row[key], row["n_" + key]), note)


def line(row):
    kept = "{:,}".format(row["relus_kept"])
    version = " (%s, %s)" % (row["autoattack_version"], "{:,}".format(row["n_autoattack"] or 0))
    cells = [row["recipe"], kept, row["removed"] if row["relus_kept"] < row["relus_total"] else "-", row["branch"], str(row["epochs"]), str(row["seed"]),
             score(row, "clean"), score(row, "corrupted"), score(row, "pgd20"), score(row, "autoattack", version),
             row["precision"], row["revision"]]
    return "| " + " | ".join(cells) + " |\n"


def tables(rows):
    text = BEGIN
    for network in sorted({(r["model"], r["dataset"]) for r in rows}):
        text += "\n**%s, %s**\n\n" % network
        text += ("| recipe | ReLUs | removed | branch | epochs | seed | clean % | corrupted % | PGD-20 % | AutoAttack % "
                 "(version, n) | precision | revision |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n")
        text += "".join(line(r) for r in rows if (r["model"], r["dataset"]) == network)
    return text + "\n" + END


def main():
    with open(os.path.join(HERE, "results.json"), encoding="utf-8") as f:
        rows = json.load(f)
    for row in rows:
        if sorted(row) != sorted(KEYS):
            sys.exit("results.json: a row has the keys %s" % sorted(row))
    path = os.path.join(HERE, "RESULTS.md")
    with open(path, encoding="utf-8") as f:
        old = f.read()
    new = old[:old.index(BEGIN)] + tables(rows) + old[old.index(END) + len(END):]
    if "--check" in sys.argv:
        sys.exit("trainer/RESULTS.md: its tables are not those of results.json; run `make results`" if new != old else 0)
    with open(path, "w", encoding="utf-8") as f:
        f.write(new)


main()
