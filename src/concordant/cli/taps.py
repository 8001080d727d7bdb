"""`concordant taps`: where a calibrator can be attached to a model."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from importlib import import_module
from typing import Annotated, Any

import typer

from concordant.cli.terminal import JsonOption, make_console, put_json
from concordant.errors import UsageError, foreign


def taps_command(
    factory: Annotated[
        str, typer.Argument(help="package.module:name of a function that returns (model, example), or a model.")
    ],
    example: Annotated[
        str | None, typer.Option(help="package.module:name of one batch of inputs, or of a function that returns it.")
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(help="A modality and its arguments, as text=input_ids or av=audio,video; once per modality."),
    ] = None,
    json_to: JsonOption = None,
) -> None:
    """Find where the modalities of a model can be tapped, and print the line that attaches a calibrator there."""
    from torch import nn

    from concordant.attach.find import find_taps

    made = _made(factory, "FACTORY")
    batch = None if example is None else _made(example, "--example")
    model = made
    if isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], nn.Module):
        model, batch = made[0], made[1] if batch is None else batch
    if not isinstance(model, nn.Module):
        raise UsageError(f"{factory} must return a model, or (model, example); found {type(model).__name__}")
    if batch is None:
        raise UsageError(f"{factory} returns a model without an example; name one batch of inputs by --example")
    found = find_taps(model, batch, _grouping(inputs))
    if json_to is not None:
        listed = [{**asdict(candidate), "line": candidate.line} for candidate in found]
        put_json(json_to, {"schema": "concordant.taps/1", "model": factory, "candidates": listed})
    if json_to != "-":
        console = make_console(json_to)
        console.print(f"{found}\n\n{found[0].line}", markup=False, highlight=False, soft_wrap=True)


def _made(written: str, what: str) -> Any:  # noqa: ANN401
    """Return what a name in a module stands for, or what it returns if it is a function or class."""
    module, _, name = written.partition(":")
    if not module or not name.isidentifier():
        raise UsageError(f"{what} must be package.module:name; found {written!r}")
    sys.path.insert(0, os.getcwd())
    try:
        found = getattr(import_module(module), name)
    except Exception as error:  # a module may raise anything
        text = f"{what} {written!r} cannot be imported ({foreign(error)})"
        raise UsageError(f"{text}; run the command in its folder") from error
    finally:
        sys.path.pop(0)
    from torch import nn

    if not callable(found) or isinstance(found, nn.Module):
        return found
    try:
        return found()
    except Exception as error:
        text = f"{what} {written!r} raised {type(error).__name__} ({foreign(error)})"
        raise UsageError(f"{text}; call it in Python to see where") from error


def _grouping(inputs: list[str] | None) -> dict[str, list[str]] | None:
    """Return modality -> names of arguments."""
    if not inputs:
        return None
    pairs = [one.partition("=") for one in inputs]
    for name, _, arguments in pairs:
        if not name or not arguments:
            raise UsageError(f"--inputs must be modality=argument,argument; found {name!r}")
    return {name: arguments.split(",") for name, _, arguments in pairs}
