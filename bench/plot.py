"""Figures as pictures: an SVG for each figure of each bench, drawn by gnuplot (Debian's gnuplot-nox).

Bars are medians and whiskers the spread; beside ours stands the disk's or the peer's. Figures whose rows lie more
than two decades apart get a logarithmic axis.
"""
import os
import re
import shutil
import subprocess

WIDTH_MIN, WIDTH_OF_BAR, HEIGHT = 480, 56, 420


class PlotError(Exception):
    """Why nothing could be drawn, and what to do."""


def groups(document):
    """Rows by bench and figure, without those that were not measured."""
    found = {}
    for row in document["rows"]:
        if row["value"] is not None:
            found.setdefault((row.get("bench", document["bench"]), row["figure"]), []).append(row)
    return found


def quoted(words):
    """Text for gnuplot, which gives a meaning to these outside of `noenhanced`."""
    return '"' + str(words).replace("\\", "\\\\").replace('"', '\\"') + '"'


def script(bench, figure, rows, path):
    peers = list(dict.fromkeys(row["beside"] for row in rows if row["beside_value"] is not None))
    names = list(dict.fromkeys(row["row"] for row in rows))
    ours = {row["row"]: row for row in rows}
    theirs = {(row["row"], row["beside"]): row["beside_value"] for row in rows}
    lines = []
    for name in names:
        row = ours[name]
        values = [row["value"], row["low"], row["high"]]
        values += [theirs.get((name, peer)) for peer in peers for _ in range(3)]
        lines.append(" ".join([quoted(name)] + ["NaN" if value is None else repr(float(value)) for value in values]))
    drawn = [row["value"] for row in rows] + [value for value in theirs.values() if value is not None]
    wide = min(drawn) > 0 and max(drawn) / min(drawn) > 100
    bars = ", ".join(f"$figures using {2 + 3 * i}:{3 + 3 * i}:{4 + 3 * i}:xtic(1) title {quoted(side)}"
                     for i, side in enumerate(["kelp", *peers]))
    width = max(WIDTH_MIN, WIDTH_OF_BAR * len(names) * (1 + len(peers)))
    return "\n".join([
        f"set terminal svg noenhanced size {width},{HEIGHT} background 'white'",
        f"set output {quoted(path)}",
        f"set title {quoted(f'{bench}: {figure}')}",
        f"set ylabel {quoted(figure)}",
        "set style data histograms",
        "set style histogram errorbars gap 1 linewidth 1",
        "set style fill solid 0.7 border -1",
        "set xtics rotate by -30",
        "set grid ytics",
        "set logscale y" if wide else "set yrange [0:*]",
        "$figures << END", *lines, "END",
        f"plot {bars}",
    ])


def plot(document, directory):
    """Draw into `directory`, made when it is not there. Answers the paths."""
    if shutil.which("gnuplot") is None:
        raise PlotError("gnuplot is not installed, so nothing was drawn; `nodes/packages --bench` installs it")
    os.makedirs(directory, exist_ok=True)
    paths = []
    for (bench, figure), rows in groups(document).items():
        name = re.sub(r"[^a-z0-9]+", "-", f"{bench} {figure}".lower()).strip("-")
        path = os.path.join(directory, f"{name}.svg")
        done = subprocess.run(["gnuplot"], input=script(bench, figure, rows, path), capture_output=True, text=True,
                              check=False)
        if done.returncode != 0:
            raise PlotError(f"gnuplot could not draw {path}: {done.stderr.strip()}")
        paths.append(path)
    return paths
