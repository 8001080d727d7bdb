"""Taps: the submodule calls that give the modality features, and the layouts of these features.

A tap is written "name", "name#2" (the second call), "name[1]" or "name[last_hidden_state]" (an element of the output;
of a tuple the first is the default). Names may include or omit the "module." of a wrapper.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from concordant.attach.containers import Path, at_path, described
from concordant.errors import UsageError, shown
from concordant.modalities import AUTO, BY_AXES, LAYOUTS, LayoutName

WrittenLayout = LayoutName | Literal["(b t)d", "(b t)chw", "(b t)hwc"]
# Layouts with frames in the batch axis, as a 2-D network over all frames of a video has them: "(b t)chw" is
# (B * T, C, H, W), "(b t)d" its pooled form. As written -> as the calibrator takes it.
FOLDED = {"(b t)d": "btd", "(b t)chw": "bcthw", "(b t)hwc": "bthwc"}

_WRITTEN = re.compile(r"(?P<name>[^#\[\]]+)(#(?P<call>[1-9][0-9]*))?(?P<path>(\[[^\[\]]+\])*)")
_INNER = ("module", "_orig_mod")  # where wrappers (DDP, DataParallel, torch.compile) hold the wrapped module


@dataclasses.dataclass(frozen=True)
class Tap:
    """One element of the output of one call of a submodule.

    Args:
        written: the tap as given by the user.
        name: the submodule's name, without the prefixes of wrappers.
        call: the number of the call, from 1; None = the only one.
        path: the path inside the output; empty = the output, or the first element of a tuple.
    """

    written: str
    name: str
    call: int | None
    path: Path

    def find(self, output: object, modality: str) -> tuple[Tensor, Path]:
        """Return the feature in a module's output, and its path.

        Raises:
            UsageError: the path does not exist or does not lead to a tensor.
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
        if isinstance(found, PackedSequence):
            found, path = found.data, (*path, 0)
        if not isinstance(found, Tensor):
            raise UsageError(
                f"the tap {self.written!r} of {modality!r} must give a tensor; found {described(found)}; "
                f'name an element of it ("{self.name}[...]"), or tap another submodule'
            )
        return found, path


def read_tap(written: object, what: str) -> Tap:
    """Parse a tap; raise UsageError naming `what`, such as "taps['audio']", if the syntax is wrong."""
    match = _WRITTEN.fullmatch(written) if isinstance(written, str) else None
    if match is None:
        raise UsageError(
            f'{what} must be the name of a submodule, such as "net.audio", "net.audio#2" (its second '
            f'call) or "net.audio[0]" (an element of its output); found {shown(written)}'
        )
    path = tuple(
        int(key) if re.fullmatch(r"-?[0-9]{1,9}", key) else key for key in re.findall(r"\[([^\[\]]+)\]", match["path"])
    )
    call = None if match["call"] is None else int(match["call"])
    return Tap(str(written), match["name"], call, path)


def check_taps(root: nn.Module, taps: Mapping[str, Tap]) -> None:
    """Raise UsageError if a tapped submodule is missing, or if two taps are equal or nested."""
    modules = {name: find_module(root, tap.name, f"taps[{name!r}]") for name, tap in taps.items()}
    for first, module in modules.items():
        for second, other in modules.items():
            if other is not module and any(child is other for child in module.modules()):
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


def find_module(root: nn.Module, name: str, what: str) -> nn.Module:
    """Return a submodule by its name in `named_modules`, where the prefixes of wrappers are optional.

    Raises:
        UsageError: the submodule does not exist; the message names the argument `what`, and similar names.
    """
    found = root
    for segment in name.split("."):
        while segment not in found._modules and (inner := wrapped(found)) is not None:
            found = inner
        child = dict(found._modules.items()).get(segment)
        if child is not None:
            found = child
        elif segment not in _INNER:  # else the name of a wrapper that was taken off
            found = root
            break
    if found is root:
        names = [known for known, _ in root.named_modules() if known]
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5) or [n for n in names if "." not in n][:8]
        raise UsageError(f"{what} is {name!r}, which the model does not have; near are: {', '.join(near) or 'none'}")
    return found


def wrapped(module: nn.Module) -> nn.Module | None:
    """Return the module inside a wrapper (DistributedDataParallel, DataParallel, torch.compile), or None."""
    if isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        inner: nn.Module = module.module
        return inner
    return dict(module._modules.items()).get("_orig_mod")  # `_modules` of a scripted module has no `get`


def core_of(model: nn.Module) -> nn.Module:
    """Return the model inside its wrappers."""
    while (inner := wrapped(model)) is not None:
        model = inner
    return model


def is_compiled(model: nn.Module) -> bool:
    """Return whether a model is compiled as a whole, inside or outside its wrappers."""
    while model._compiled_call_impl is None and "_orig_mod" not in model._modules:
        inner = wrapped(model)
        if inner is None:
            return False
        model = inner
    return True


def is_sharded_alone(model: nn.Module) -> bool:
    """Return whether FSDP shards a model over several processes, and nothing around it."""
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return False
    state = getattr(core_of(model), "_get_fsdp_state", None)
    return torch.distributed.get_world_size() > 1 and state is not None and bool(state()._is_root)


def require_in_reach(root: nn.Module, taps: Mapping[str, Tap]) -> None:
    """Raise UsageError if a tap lies inside a compiled or scripted submodule, whose calls nothing can follow."""
    names = {id(module): name for name, module in root.named_modules()}
    for label, tap in taps.items():
        segments = names[id(find_module(root, tap.name, label))].split(".")
        for end in range(1, len(segments)):
            name = ".".join(segments[:end])
            module = root.get_submodule(name)
            scripted = isinstance(module, torch.jit.ScriptModule)
            if scripted or module._compiled_call_impl is not None or "_orig_mod" in module._modules:
                how = "scripted or traced" if scripted else "compiled"
                instead = "use the module that it was made of" if scripted else "compile the tapped module instead"
                raise UsageError(
                    f"the tap {tap.written!r} of {label!r} lies inside {name!r}, which is {how}, where no tap can "
                    f"follow; tap {name!r} itself, or {instead}"
                )


def read_layouts(layout: str | Mapping[str, str], names: tuple[str, ...]) -> dict[str, str]:
    """Return modality -> layout as written; raise UsageError for unknown layouts and modalities."""
    if not isinstance(layout, str | Mapping):
        raise UsageError(f"layout must be one for all features, or modality -> layout; found {shown(layout)}")
    given = dict.fromkeys(names, layout) if isinstance(layout, str) else dict(layout)
    choices = (AUTO, *LAYOUTS, *FOLDED)
    for name, written in given.items():
        if name not in names:
            raise UsageError(f"layout names {name!r}, which taps does not; the modalities are {', '.join(names)}")
        if not isinstance(written, str) or written not in choices:
            raise UsageError(f"unknown layout {shown(written)} for {name!r}; choose from: {', '.join(choices)}")
    return {name: given.get(name, AUTO) for name in names}


def unfold(x: Tensor, written: str, batch: int, name: str) -> Tensor:
    """Return a feature with its frames on their own axis: (B T, C, H, W) -> (B, C, T, H, W), (B T, D) -> (B, T, D).

    Raises:
        UsageError: the number of rows is not a multiple of the batch size, or the number of axes is wrong.
    """
    if written not in FOLDED:
        return x
    axes = len(letters_of(written))
    if x.dim() != axes or batch < 1 or x.shape[0] % batch:
        raise UsageError(
            f"the tap of {name!r} must have layout {written!r}: {axes} axes, the first a multiple of the batch "
            f"size {batch}; found shape {tuple(x.shape)}; if instances have different numbers of rows, give attach "
            "`counts`"
        )
    frames: Tensor = x.unflatten(0, (batch, -1))  # type: ignore[no-untyped-call]  # (B, T, ...)
    return frames.transpose(1, 2) if written == "(b t)chw" else frames


def fold(x: Tensor, written: str) -> Tensor:
    """Return a feature with its frames back in the batch axis; the inverse of `unfold`."""
    if written not in FOLDED:
        return x
    return (x.transpose(1, 2) if written == "(b t)chw" else x).flatten(0, 1)


def in_order_of(x: Tensor, original: Tensor) -> Tensor:
    """Return a copy of x whose axes lie in memory in the order of those of `original`.

    A `view` behind a tap needs that order, and operators choose their kernels by it.
    """
    # On the meta device, which gives dense strides to views and expanded tensors too.
    strides = torch.empty_like(original, device="meta").stride()
    order = sorted(range(x.dim()), key=lambda axis: -strides[axis])
    copied = x.permute(order).clone(memory_format=torch.contiguous_format)
    return copied.permute([order.index(axis) for axis in range(x.dim())])


def feature_size(x: Tensor, written: str, name: str) -> int:
    """Return the feature size D of a tap's output before unfolding; raise UsageError if the layout does not fit."""
    letters = BY_AXES.get(x.dim(), "") if written == AUTO else letters_of(written)
    if x.dim() != len(letters) or not letters:
        raise UsageError(
            f"the tap of {name!r} must give features in layout {written!r}; found shape {tuple(x.shape)}; say which "
            "layout it has, or tap another submodule"
        )
    return int(x.shape[max(letters.find("c"), letters.find("d"))])


def letters_of(written: str) -> str:
    """Return one letter per axis of a layout as written; rows of frames count as the batch axis."""
    return written.replace("(b t)", "b")
