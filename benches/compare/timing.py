"""Rounds of alternate measurements, and what tables make of them. Nothing here knows an engine."""

import statistics


def alternate(engines, rounds):
    """Calls every function of `engines` once a round; gives what each gave, by name, in order of rounds."""
    results = {name: [] for name in engines}
    for _ in range(rounds):
        for name, measure in engines.items():
            results[name].append(measure())
    return results


def ratios(ours, *others):
    """Of every round: ours by the best of the others."""
    return [a / min(rest) for a, *rest in zip(ours, *others)]


def spread(values, unit=1.0, digits=1):
    """Median (least to most)."""
    middle, least, most = (f"{v * unit:.{digits}f}" for v in (statistics.median(values), min(values), max(values)))
    return f"{middle} ({least}-{most})"


def table(head, rows):
    """A table in Markdown."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"
