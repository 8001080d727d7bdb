"""Taps: which call of which submodule gives a modality's feature, and where in its output it lies.

A tap is written "name", "name#2" (the second call), "name[1]" or "name[last_hidden_state]" (an element of the
output); of a tuple the first element is taken. Names go with or without the "module." of a wrapper.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from concordant.attach.structure import Path, at_path, described
from concordant.errors import UsageError

_WRITTEN = re.compile(r"(?P<name>[^#\[\]]+)(#(?P<call>[1-9][0-9]*))?(?P<path>(\[[^\[\]]+\])*)")
_INNER = ("module", "_orig_mod")  # how wrappers (DDP, DataParallel, torch.compile) call what they wrap


@dataclass(frozen=True)
class Tap:
    """Where a feature comes out.

    Args:
        written: the tap as it was given.
        name: of the submodule, without the names that wrappers add in front.
        call: which of its calls, from 1; None = its only one.
        path: where in the output; empty = the output, or the first element of a tuple.
    """

    written: str
    name: str
    call: int | None
    path: Path

    def find(self, output: object, modality: str) -> tuple[Tensor, Path]:
        """Return the feature in a module's output, and where it lies.

        Raises:
            UsageError: there is no tensor there.
        """
        path = self.path
        try:
            found = at_path(output, path)
        except (LookupError, TypeError):
            raise UsageError(
                f"the tap {self.written!r} of {modality!r} asks for {list(path)} of {described(output)}; "
                "name what is there"
            ) from None
        if not path and isinstance(found, (tuple, list)) and len(found) and not isinstance(found, PackedSequence):
            found, path = found[0], (0,)
        if not isinstance(found, Tensor):
            raise UsageError(
                f"the tap {self.written!r} of {modality!r} must give a tensor; found {described(found)}; "
                f'name an element of it ("{self.name}[...]"), or tap another submodule'
            )
        return found, path


def read_tap(written: object, what: str) -> Tap:
    """Read a tap as it is written.

    Args:
        written: the tap.
        what: what is tapped there, for the error: "taps['audio']".

    Raises:
        UsageError: it is not written like a tap.
    """
    match = _WRITTEN.fullmatch(written) if isinstance(written, str) else None
    if match is None:
        raise UsageError(
            f'{what} must be the name of a submodule, such as "net.audio", "net.audio#2" (its second '
            f'call) or "net.audio[0]" (an element of its output); found {written!r}'
        )
    path = tuple(int(key) if key.lstrip("-").isdigit() else key for key in re.findall(r"\[([^\[\]]+)\]", match["path"]))
    call = None if match["call"] is None else int(match["call"])
    return Tap(str(written), match["name"], call, path)


def find_module(root: nn.Module, name: str, what: str) -> nn.Module:
    """Return a submodule by name; segments that wrappers add may be there or not.

    Args:
        root: the model.
        name: the submodule's name, as `named_modules` gives it.
        what: what asks for it, for the error.

    Raises:
        UsageError: there is none; near names are listed.
    """
    found: nn.Module | None = root
    for position, segment in enumerate(name.split(".")):
        while found is not None and segment not in found._modules and (inner := wrapped(found)) is not None:
            found = inner
        if found is None:
            break
        child = found._modules.get(segment)
        if child is None and segment in _INNER:  # the wrapper is not there, or was taken off
            continue
        found = child
        if found is None and position == 0:
            break
    if found is None or found is root:
        names = [known for known, _ in root.named_modules() if known]
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5) or [n for n in names if "." not in n][:8]
        raise UsageError(f"{what} is {name!r}, which the model does not have; near are: {', '.join(near) or 'none'}")
    return found


def wrapped(module: nn.Module) -> nn.Module | None:
    """Return what a wrapper (DistributedDataParallel, DataParallel, a compiled module) wraps, or None."""
    if isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        inner: nn.Module = module.module
        return inner
    return module._modules.get("_orig_mod")


def core_of(model: nn.Module) -> nn.Module:
    """Return the model inside its wrappers."""
    while (inner := wrapped(model)) is not None:
        model = inner
    return model


def check_taps(root: nn.Module, taps: Mapping[str, Tap]) -> None:
    """Refuse taps of submodules that are not there, that are the same, or that lie inside one another.

    Raises:
        UsageError: says which.
    """
    where = {name: find_module(root, tap.name, f"taps[{name!r}]") for name, tap in taps.items()}
    for first, module in where.items():
        inside = {id(child) for child in module.modules()} - {id(module)}
        for second, other in where.items():
            if id(other) in inside:
                raise UsageError(
                    f"the tap {taps[second].written!r} of {second!r} lies inside {taps[first].written!r} of {first!r}, "
                    "so one depends on the other; tap features that meet later"
                )
            same = first < second and other is module
            if same and (taps[first].call, taps[first].path) == (taps[second].call, taps[second].path):
                raise UsageError(
                    f"{first!r} and {second!r} are both tapped at {taps[first].written!r}; if it is called once for "
                    f'each, say which call: "{taps[first].name}#1", "{taps[first].name}#2"'
                )
