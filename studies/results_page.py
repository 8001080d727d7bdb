"""The pages results/README.md and results/GRIDS.md, made of the JSON files beside them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from concordant.errors import ConcordantError
from concordant.report.format import Document, pairs_text, seeds_of
from concordant.report.record import markdown
from concordant.report.sentences import grid_lines
from concordant.report.tables.grids import grid_scores
from concordant.report.tables.scores import result_tables

START = "<!-- results: made by studies/experiments.py -->"
END = "<!-- /results -->"

HEAD = """# Results

Made by `make results-experiments` (`python -m studies.experiments`); the numbers are those of the JSON files
beside this page.
Accuracy in percent, mean ± standard deviation over seeds. One random modality of every test instance is corrupted;
"mean" is over the four corruptions. Differences are paired, with a 95 % interval and a p-value from a hierarchical
bootstrap over seeds and test instances (whole groups where instances are grouped), Holm-corrected over all comparisons
of the benchmark, removals included; Wilcoxon's signed-rank test over seeds stands beside it from 8 seeds up.
"""

GRIDS_HEAD = """# Grids

Made by `make results-experiments` (`python -m studies.experiments`); the numbers are those of the JSON files
beside this page.
One row a fusion: accuracy in percent on clean test instances, and the mean over four corruptions of one random modality
of every instance; mean ± standard deviation over seeds. "calibrated at" says where the calibrator stands. Differences
are paired, with p-values from a hierarchical bootstrap over seeds and test instances.
"""


def fill(text: str, block: str, *, start: str = START) -> str:
    """Return a document with the text between its two results marks replaced.

    Args:
        text: the document.
        block: the new text.
        start: the first mark, which names the script.

    Raises:
        ConcordantError: the document has no such marks.
    """
    before, found, rest = text.partition(start)
    _, ended, after = rest.partition(END)
    if not found or not ended:
        raise ConcordantError(f"the document has no lines {start!r} and {END!r}, between which results are written")
    return f"{before}{start}\n\n{block}\n{END}{after}"


def results_page(results: Mapping[str, Document], references: Mapping[str, str] | None = None) -> str:
    """Return a page with one section per named result.

    Args:
        results: name -> results.json.
        references: benchmark -> a paragraph on published results there.
    """
    known = references if references is not None else {}
    return "\n".join([HEAD, *(_section(name, one, known.get(one["benchmark"])) for name, one in results.items())])


def grids_page(grids: Mapping[str, Document]) -> str:
    """Return a page with one section per named grid."""
    return "\n".join([GRIDS_HEAD, *(_grid_section(name, grid) for name, grid in grids.items())])


def _section(name: str, results: Document, reference: str | None) -> str:
    config = results["config"]
    parts = [
        f"## {name}\n",
        f"{results['benchmark']}, protocol {config['protocol']}, modalities {', '.join(config['modalities'])}, "
        f"fusion {results['fusion']}, {seeds_of(results['runs'])} seeds.\n",
        f"**{results['remark']}**\n" if "remark" in results else "",
        *result_tables(results),
        f"Elsewhere: {reference}\n" if reference is not None else "",
        f"Recipe: {pairs_text(config['recipe'], ' ')}. Versions: {pairs_text(results['versions'], ' ')}. "
        f"Hardware: {pairs_text(results['hardware'])}.\n",
    ]
    return "\n".join(part for part in parts if part)


def _grid_section(name: str, grid: Document) -> str:
    config, table = grid["config"], grid_scores(grid, deviations=True)
    minutes = sum(row["train_minutes"] for row in grid["rows"])
    return "\n".join(
        [
            f"## {name}\n",
            f"{grid['benchmark']}, protocol {config['protocol']}, modalities {', '.join(config['modalities'])}, "
            f"{config['preset']} preset, {config['encoders']} encoders, method {config['method']}, "
            f"{config['seeds']} seeds.\n",
            *([f"**{grid['remark']}**\n"] if "remark" in grid else []),
            markdown(table),
            f"{table.note}\n",
            *(f"- {line}" for line in grid_lines(grid)),
            "",
            f"Majority class: {100 * np.mean([row['majority'] for row in grid['rows']]):.1f}. "
            f"Training took {minutes:.0f} minutes of one core in all, by row: "
            + ", ".join(f"{row['row']} {row['train_minutes']:.1f}" for row in grid["rows"])
            + f". Recipe: {pairs_text(config['recipe'], ' ')}. Versions: {pairs_text(grid['versions'])}. "
            f"Hardware: {pairs_text(grid['hardware'])}.\n",
        ]
    )
