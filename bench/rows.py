"""One shape for the figures of every bench, and how they are shown.

A row is one figure of one case: the median over interleaved repetitions and how far they lay apart, and beside
it the figure of the disk or of a peer that did the same work in the same run. `-o json` of every bench prints one
document:

    {"bench": "down", "machine": {...},       absent when a bench is run directly
     "rows": [{"row": "1 node", "figure": "records/s", "value": 812.0, "low": 790.0, "high": 830.0, "repeat": 3,
               "beside": "etcd", "beside_value": 95.0, "ratio": 8.5, "goal": 10.0, "goal_of": "ratio",
               "better": "more", "holds": false, "note": null}]}

  ratio    ours over theirs, the median over the repetitions: with "better": "less" a small one is good
  goal     what the project wants of the ratio or of the value (goal_of); null where it named nothing
  holds    whether it is so; null without a goal, or when it could not be measured
  value    null when it could not be measured: then the note is the reason
  bench    only in the document of all benches, {"bench": "all"}: whose row it is

A bench collects with Figures:

    figures = Figures("down")
    for turn in range(options.repeat):
        figures.add("1 node", "records/s", ours, beside="etcd", beside_value=theirs, goal=10, goal_of="ratio")
    document_print(figures.document(), options.output)
"""
import csv
import json
import statistics
import sys

FORMS = ("table", "csv", "json")
FIELDS = ["row", "figure", "value", "low", "high", "repeat", "beside", "beside_value", "ratio", "goal", "goal_of",
          "better", "holds", "note"]


class Figures:
    """Values of one bench, kept by row, figure and peer until they are all there."""

    def __init__(self, bench):
        self.bench, self.kept = bench, {}

    def add(self, row, figure, value, better="more", beside=None, beside_value=None, goal=None, goal_of="value",
            note=None):
        """What one repetition found. Value or beside_value may be None: not measured; say why in the note."""
        if better not in ("more", "less") or goal_of not in ("ratio", "value"):
            raise ValueError(f"{row}, {figure}: better is more or less, goal_of is ratio or value")
        kept = self.kept.setdefault((row, figure, beside), {"pairs": []})
        kept["pairs"].append((value, beside_value))
        kept.update(better=better, goal=goal, goal_of=goal_of, note=note)

    def rows(self):
        return [row_made(*key, **kept) for key, kept in self.kept.items()]

    def document(self):
        return {"bench": self.bench, "rows": self.rows()}


def row_made(row, figure, beside, pairs, better, goal, goal_of, note):
    values = [ours for ours, _ in pairs if ours is not None]
    theirs = [other for _, other in pairs if other is not None]
    ratios = [ours / other for ours, other in pairs if ours is not None and other]
    made = {
        "row": row, "figure": figure,
        "value": statistics.median(values) if values else None,
        "low": min(values, default=None), "high": max(values, default=None), "repeat": len(values),
        "beside": beside, "beside_value": statistics.median(theirs) if theirs else None,
        "ratio": statistics.median(ratios) if ratios else None,
        "goal": goal, "goal_of": goal_of, "better": better, "note": note,
    }
    made["holds"] = row_holds(made)
    return made


def row_holds(row):
    found = row[row["goal_of"]]
    if row["goal"] is None or found is None:
        return None
    return found >= row["goal"] if row["better"] == "more" else found <= row["goal"]


def row_failed(bench, why):
    """The row of a bench that did not come to an end."""
    return {**dict.fromkeys(FIELDS), "bench": bench, "row": "", "figure": "failed", "repeat": 0, "goal_of": "value",
            "better": "more", "holds": False, "note": why}


def row_key(row, bench):
    return row.get("bench", bench), row["row"], row["figure"], row["beside"]


def documents_merged(documents):
    """One document of several runs of one bench: medians of their medians, and the widest spread."""
    runs = {}
    for document in documents:
        for row in document["rows"]:
            runs.setdefault(row_key(row, document["bench"]), []).append(row)
    merged = []
    for rows in runs.values():
        made = dict(rows[-1])
        for key in ("value", "beside_value", "ratio"):
            values = [row[key] for row in rows if row[key] is not None]
            made[key] = statistics.median(values) if values else None
        made["low"] = min((row["low"] for row in rows if row["low"] is not None), default=None)
        made["high"] = max((row["high"] for row in rows if row["high"] is not None), default=None)
        made["repeat"] = sum(row["repeat"] for row in rows)
        made["holds"] = row_holds(made) if made["figure"] != "failed" else False
        merged.append(made)
    return {**documents[-1], "rows": merged}


# -- showing ---------------------------------------------------------------------------------------------------


def number_text(value):
    """Three digits that count, and every digit before the point."""
    if value is None:
        return "-"
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.0001 else f"{value:.1e}"


def table_print(lines, left=2):
    """Lines of cells, the first is the heading; the first `left` columns are words."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        cells = [cell.ljust(width) if i < left else cell.rjust(width)
                 for i, (cell, width) in enumerate(zip(line, widths))]
        print("  ".join(cells).rstrip())


def goal_text(row):
    if row["goal"] is None:
        return "-"
    sign = ">=" if row["better"] == "more" else "<="
    return f"{row['goal_of']} {sign} {number_text(row['goal'])}"


def row_cells(row):
    spread = f"{number_text(row['low'])} .. {number_text(row['high'])}" if row["repeat"] > 1 else "-"
    beside = "-" if row["beside"] is None else f"{row['beside']} {number_text(row['beside_value'])}"
    return [row["row"], row["figure"], number_text(row["value"]), spread, beside, number_text(row["ratio"]),
            goal_text(row), {True: "yes", False: "NO", None: "-"}[row["holds"]]]


def document_table(document):
    """One table of the rows. Notes are named under it, each once."""
    many = any("bench" in row for row in document["rows"])
    lines = [(["bench"] if many else []) + ["row", "figure", "median", "spread", "beside", "ratio", "goal", "holds"]]
    notes = []
    for row in document["rows"]:
        mark = ""
        if row["note"]:
            notes += [row["note"]] if row["note"] not in notes else []
            mark = f" [{notes.index(row['note']) + 1}]"
        cells = row_cells(row)
        cells[1] += mark
        lines.append(([row.get("bench", document["bench"])] if many else []) + cells)
    table_print(lines, 3 if many else 2)
    for number, note in enumerate(notes, 1):
        print(f"[{number}] {note}")


def document_csv(document):
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["bench"] + FIELDS)
    for row in document["rows"]:
        writer.writerow([row.get("bench", document["bench"])] + [row[field] for field in FIELDS])


def document_print(document, form):
    if form == "json":
        print(json.dumps(document, indent=1))
    elif form == "csv":
        document_csv(document)
    else:
        document_table(document)
    sys.stdout.flush()


# -- comparing -------------------------------------------------------------------------------------------------


def compared(old, new):
    """Rows of both documents that are the same case: what they were and what they are.

    `verdict` is better or worse only when the spreads of both do not touch; with fewer than two repetitions on a
    side nobody knows the spread, and it says so.
    """
    before = {row_key(row, old["bench"]): row for row in old["rows"]}
    pairs = []
    for row in new["rows"]:
        was = before.pop(row_key(row, new["bench"]), None)
        if was is None or was["value"] is None or row["value"] is None:
            verdict, change = "only new" if was is None else "not measured", None
        else:
            change = row["value"] / was["value"] - 1 if was["value"] else None
            verdict = comparison_verdict(was, row)
        pairs.append({"bench": row.get("bench", new["bench"]), "row": row["row"], "figure": row["figure"],
                      "beside": row["beside"], "old": was and was["value"], "new": row["value"], "change": change,
                      "verdict": verdict})
    ran = {row_key(row, new["bench"])[0] for row in new["rows"]}
    for (bench, name, figure, beside), was in before.items():
        if bench not in ran:
            continue  # another bench, not a row that is gone
        pairs.append({"bench": bench, "row": name, "figure": figure, "beside": beside, "old": was["value"],
                      "new": None, "change": None, "verdict": "only old"})
    return pairs


def comparison_verdict(was, now):
    if min(was["repeat"], now["repeat"]) < 2:
        return "one run only"
    if now["low"] <= was["high"] and was["low"] <= now["high"]:
        return "within the spread"
    return "better" if (now["value"] > was["value"]) == (now["better"] == "more") else "worse"


def compared_print(pairs, form):
    """Peers of one figure repeat it, and are left out of table and csv."""
    if form == "json":
        print(json.dumps(pairs, indent=1))
        return
    seen, lines = set(), [["bench", "row", "figure", "old", "new", "change", "verdict"]]
    for pair in pairs:
        key = (pair["bench"], pair["row"], pair["figure"])
        if key in seen:
            continue
        seen.add(key)
        change = "-" if pair["change"] is None else f"{pair['change'] * 100:+.1f} %"
        lines.append([*key, number_text(pair["old"]), number_text(pair["new"]), change, pair["verdict"]])
    if form == "csv":
        csv.writer(sys.stdout, lineterminator="\n").writerows(lines)
    else:
        table_print(lines, 3)
