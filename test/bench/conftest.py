"""Benches print figures, they do not judge them: a run fails only when something was not measured at all,
or when what must never happen (two nodes answering) did. Tables appear at the end of the run and, as JSON,
in build/results/bench/."""
import json
import os
import pathlib
import statistics
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "test/lab"))
os.environ.setdefault("VIPD_BUILD", str(ROOT / "build/release"))

RUNS = int(os.environ.get("VIPD_BENCH_RUNS", "20"))
TABLES = []


def spread(values):
    """(median, 95th percentile, maximum)"""
    ordered = sorted(values)
    return (statistics.median(ordered), ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))], ordered[-1])


class Table:
    def __init__(self, title, columns):
        self.title, self.columns, self.rows = title, columns, []
        TABLES.append(self)

    def row(self, *cells):
        self.rows.append(cells)

    def lines(self):
        def text(cell):
            return f"{cell:.1f}" if isinstance(cell, float) else str(cell)
        body = [[text(cell) for cell in row] for row in [self.columns, *self.rows]]
        widths = [max(len(row[i]) for row in body if len(row) == len(self.columns)) for i in range(len(self.columns))]
        for row in body:
            yield "  ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                            for i, (cell, width) in enumerate(zip(row, widths)))


@pytest.fixture
def table():
    return Table


def pytest_terminal_summary(terminalreporter):
    folder = ROOT / "build/results/bench"
    folder.mkdir(parents=True, exist_ok=True)
    for made in TABLES:
        terminalreporter.write_line("")
        terminalreporter.write_line(made.title)
        for line in made.lines():
            terminalreporter.write_line("  " + line)
        name = "".join(c if c.isalnum() else "-" for c in made.title.split(":")[0].lower())
        (folder / f"{name}.json").write_text(json.dumps(
            {"title": made.title, "columns": made.columns, "rows": made.rows}, indent=1))
