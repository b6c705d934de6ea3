"""Writes the tables of trainer/RESULTS.md that are made from trainer/results.json, one file of a run a row, and from
trainer/anchors.json, what others publish. Rows of ours with "headline" stand beside the anchors in the first table.

    python3 trainer/results.py            rewrites what stands between the two marks
    python3 trainer/results.py --check    fails if that would change something
"""
import json
import math
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
BEGIN, END = "<!-- made by trainer/results.py: %s -->\n", "<!-- end -->\n"
KEYS = ("model dataset relus_total relus_kept recipe removed deploy branch epochs precision seed revision command "
        "clean n_clean corrupted n_corrupted pgd20 n_pgd20 autoattack autoattack_version n_autoattack headline").split()


def half_width(percent, n):
    """Half of the 95 % Wilson interval, in percent."""
    z, p = 1.959963984540054, percent / 100
    return 100 * z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)


def score(row, key, note=""):
    if row[key] is None:
        return "-"
    return "%.2f ±%.2f%s" % (row[key], half_width(row[key], row["n_" + key]), note)


def version(row):
    return " (%s, %s)" % (row["autoattack_version"], "{:,}".format(row["n_autoattack"] or 0))


def line(row):
    kept = "{:,}".format(row["relus_kept"])
    recipe = row["recipe"] + (", " + row["options"] if "options" in row else "")  # where rows of one recipe differ by them
    cells = [recipe, kept, row["removed"] if row["relus_kept"] < row["relus_total"] else "-", row["branch"], str(row["epochs"]), str(row["seed"]),
             score(row, "clean"), score(row, "corrupted"), score(row, "pgd20"), score(row, "autoattack", version(row)),
             row["precision"], row["revision"]]
    return "| " + " | ".join(cells) + " |\n"


NETWORK = {"resnet20": "ResNet-20", "resnet18": "ResNet-18"}


def beside_others(rows, anchors):
    text = ("| method | network | ReLUs | file | clean % | corrupted % | AutoAttack % (version, n) | epochs |\n"
            "|---|---|---|---|---|---|---|---|\n")
    for row in rows:
        if not row["headline"]:
            continue
        cells = ["linnet, " + row["recipe"] if row["recipe"] not in ("given", "senet") else row["recipe"],
                 NETWORK[row["model"]], "{:,}".format(row["relus_kept"]), row["branch"],
                 score(row, "clean"), score(row, "corrupted"), score(row, "autoattack", version(row)), str(row["epochs"] or "-")]
        text += "| " + " | ".join(cells) + " |\n"
    for a in anchors:
        attack = "-" if a["autoattack"] is None else "%.2f" % a["autoattack"]
        text += "| %s (%s) | %s | %s | - | %.2f | - | %s | - |\n" % (
            a["method"], a["source"], a["network"], "{:,}".format(a["relus"]) if a["relus"] else "all", a["clean"], attack)
    return text


def all_rows(rows, _):
    text = ""
    for network in sorted({(r["model"], r["dataset"]) for r in rows}):
        text += "\n**%s, %s**\n\n" % network
        text += ("| recipe | ReLUs | removed | branch | epochs | seed | clean % | corrupted % | PGD-20 % | AutoAttack % "
                 "(version, n) | precision | revision |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|\n")
        text += "".join(line(r) for r in rows if (r["model"], r["dataset"]) == network)
    return text


TABLES = {"beside others": beside_others, "all rows": all_rows}


def load(name):
    with open(os.path.join(HERE, name), encoding="utf-8") as f:
        return json.load(f)


def main():
    rows, anchors = load("results.json"), load("anchors.json")
    for row in rows:
        if sorted(set(row) | {"options"}) != sorted([*KEYS, "options"]):
            sys.exit("results.json: a row has the keys %s" % sorted(row))
    path = os.path.join(HERE, "RESULTS.md")
    with open(path, encoding="utf-8") as f:
        old = f.read()
    new = old
    for name, make in TABLES.items():
        begin = BEGIN % name
        first = new.index(begin) + len(begin)
        new = new[:first] + "\n" + make(rows, anchors) + "\n" + new[new.index(END, first):]
    if "--check" in sys.argv:
        sys.exit("trainer/RESULTS.md: its tables are not those of results.json; run `make results`" if new != old else 0)
    with open(path, "w", encoding="utf-8") as f:
        f.write(new)


main()
