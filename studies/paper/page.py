"""The page of the proof: what came of it, the figures, and the scores of every question, each with its files."""

from __future__ import annotations

from collections.abc import Sequence

from studies.paper.blocks import FOLDER
from studies.paper.summary import Summary
from studies.paper.table import Table
from studies.paper.verdict import every_loss, made_line, swaps, what_came
from studies.paper.writing import lines_of, score_lines

HEAD = """# The proof

Every method of a cell is trained on the same splits, initial weights, order of batches and perturbations; its recipe is
chosen on validation data with the same budget as everybody's ([the searches](search)); the test part is scored once.
Accuracy in percent, mean ± standard deviation over seeds. Corruptions hit one random modality of every instance, at
severities that training does not use (but for the swap of a whole modality, which it also sees), and by kinds that it
mostly never saw. Differences are paired, with a 95 % interval
and a p-value from a hierarchical bootstrap over seeds and test instances (whole groups where instances are grouped),
Holm-corrected over a table; Wilcoxon's test over seeds stands beside it from 8 seeds up. A search looks at validation
parts of the first splits, or at a training subject that is left out where the test has new ones; where splits are drawn
at random, rows of these may be test rows of other seeds, which is the same for every method.
"""
SHOWN = ("clean", "corruption", "removal", "oracle", "stability", "ablation", "place", "cost")


def proof_page(summary: Summary, tables: Sequence[Table], figures: Sequence[str]) -> str:
    """Return the page.

    Args:
        summary: of the proof.
        tables: one a question, in order.
        figures: file names of the pictures, beside the tables.
    """
    parts = [
        HEAD,
        f"{made_line(summary.made_with)} {_searched(summary)}\n",
        "## What came of it\n",
        what_came(summary),
        f"{every_loss(tables)}\n",
        lines_of(
            ["swapped with another class, AUROC", "which", "whether"],
            [[name, f"{which:.2f}", f"{whether:.2f}"] for name, which, whether in swaps(summary)],
        ),
        *(f"![{name}]({FOLDER}/{name})\n" for name in figures),
    ]
    for table in tables:
        files = [f"[{table.name}.md]({FOLDER}/{table.name}.md)", f"[scores]({FOLDER}/{table.name}-scores.csv)"]
        files += [f"[comparisons]({FOLDER}/{table.name}.csv)"] if table.compares else []
        parts.append(f"## {table.title}\n\n{table.note} {', '.join(files)}.\n")
        if table.name in SHOWN:
            parts.append(score_lines(table))
    return "\n".join(parts)


def _searched(summary: Summary) -> str:
    searched = summary.made_with["searched"]
    own = [name for name, done in searched.items() if not done]
    made = summary.made_with
    said = f"Severities {', '.join(map(str, made['severities']))} of 1 to 5; {made['resamples']:,} resamples."
    said += "" if made["steps"] == 1 else f" Trained for {made['steps']:g} of the recipe's steps."
    return said + (f" Not searched, with the benchmark's own recipe: {', '.join(own)}." if own else "")
