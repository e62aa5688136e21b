#!/usr/bin/env python3
"""What scripts/paper_run.sh asks of its run:

    python3 scripts/paper_check.py CONFIGURATION METRICS

Are the rows drawn by their weights (chi-square over all rows, p > 0.01), and every row at least once? Does the loss of each
row fall: is the mean of the last third of its iterations below that of the first third? The metrics must have been
written at every step (log_every=1). Ends with 1 where an answer is no."""

import json
import math
import re
import sys


def weights(path):
    """Names and weights of the rows of `tasks`, whose entries begin with `- {name: NAME, ... weight: W`."""
    with open(path, encoding="utf-8") as f:
        rows = re.findall(r"- \{name: ([^,]+),.*?weight: ([0-9.]+)", f.read(), re.DOTALL)
    return {name: float(weight) for name, weight in rows}


def losses(path):
    """The loss of each iteration of each task, in order."""
    found = {}
    with open(path, encoding="utf-8") as f:
        for line in f:
            for name, task in json.loads(line)["tasks"].items():
                if task["iterations"] != 1:
                    sys.exit(f"{path}: {name}: {task['iterations']} iterations in a line: wants log_every=1, accumulate=1")
                found.setdefault(name, []).append(task["loss"])
    return found


def chi_square_tail(x, freedom):
    """P(X > x): the regularised upper gamma function Q(freedom / 2, x / 2), by the series of its complement."""
    a, half = freedom / 2, x / 2
    if half == 0:
        return 1.0
    term = total = 1 / a
    n = a
    while term > total * 1e-16:
        n += 1
        term *= half / n
        total += term
    return max(0.0, 1 - total * math.exp(a * math.log(half) - half - math.lgamma(a)))


def mean_and_error(values):
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, math.inf
    return mean, math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values))


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    rows, found = weights(sys.argv[1]), losses(sys.argv[2])
    unknown = set(found) - set(rows)
    if unknown:
        sys.exit(f"{sys.argv[2]}: not in {sys.argv[1]}: {', '.join(sorted(unknown))}")
    total, drawn = sum(rows.values()), sum(len(v) for v in found.values())
    square, falls = 0.0, 0
    print("| Row | Weight | Expected | Drawn | Loss, first third | last third | fall in standard errors |")
    print("|---|---|---|---|---|---|---|")
    for name, weight in rows.items():
        values, expected = found.get(name, []), drawn * weight / total
        square += (len(values) - expected) ** 2 / expected
        line = f"| {name} | {weight:g} | {expected:.1f} | {len(values)} |"
        if len(values) < 6:
            print(f"{line} | | |")
            continue
        third = len(values) // 3
        first, first_error = mean_and_error(values[:third])
        last, last_error = mean_and_error(values[-third:])
        falls += last < first
        fall = (first - last) / math.hypot(first_error, last_error)
        print(f"{line} {first:.3f} ± {first_error:.3f} | {last:.3f} ± {last_error:.3f} | {fall:.1f} |")
    p = chi_square_tail(square, len(rows) - 1)
    print(f"\niterations: {drawn}; rows: {len(rows)}, of them drawn: {len(found)}; loss falls: {falls}")
    print(f"chi-square against the weights: {square:.2f}, {len(rows) - 1} degrees of freedom, p = {p:.3f}")
    sys.exit(0 if p > 0.01 and len(found) == falls == len(rows) else 1)


main()
