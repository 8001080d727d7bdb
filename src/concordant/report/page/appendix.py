"""The appendix of the page: configuration, versions, hardware, and the commands that reproduce a run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from concordant.report.folder import ANALYSES, RunDocuments
from concordant.training.config import command_words


def settings(documents: RunDocuments) -> list[tuple[str, str]]:
    """Return configuration, versions and hardware as pairs of texts."""
    main = documents.results or documents.grid
    if main is None:
        return []
    pairs = [(key, as_text(value)) for key, value in main["config"].items()]
    pairs += [(f"version of {key}", as_text(value)) for key, value in main["versions"].items()]
    pairs += [(f"hardware: {key}", as_text(value)) for key, value in main["hardware"].items()]
    return pairs


def as_text(value: object) -> str:
    """Return a value of a configuration as text.

    >>> as_text(["a", "b"]), as_text({"steps": 400, "width": 64}), as_text(None), as_text(True)
    ('a, b', 'steps 400, width 64', '-', 'yes')
    """
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {as_text(one)}" for key, one in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(as_text(one) for one in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)


def commands(documents: RunDocuments) -> list[str]:
    """Return the commands that made the documents, each once; quoted for a shell."""
    # The command that recorded training is the one that trained, with an option more.
    found = [run_command(documents) if documents.dynamics is None else documents.dynamics["command"]]
    for one in (documents, *documents.rows.values()):
        found += [document["command"] for kind in ANALYSES if (document := getattr(one, kind)) is not None]
    return list(dict.fromkeys(line for line in found if line))


def run_command(documents: RunDocuments) -> str:
    """Return the command that trained the runs; the one that is recorded, or one put together from the settings."""
    main = documents.results or documents.grid
    if main is None:
        return ""
    if isinstance(main.get("command"), str):
        return str(main["command"])
    rows = [str(row["row"]) for row in main["rows"]] if "rows" in main else [str(main["fusion"])]
    return shlex.join(command_words({**main["config"], "benchmark": main["benchmark"]}, fusion=",".join(rows)))
