"""Whether seeds are trained in one vectorised pass, and if not, why: decided before training, from one look.

What decides is neither luck nor the clock, so that the same command trains the same way everywhere: a pass is
watched, and runs on two seeds under vmap. Where it can be made it pays as long as the operators are small: then one
call serves all seeds for little more than one. Once an operator computes longer than it takes to be called, there is
nothing left to share, and attention and convolutions have faster kernels for one seed than for several. Steps of ten
seeds, measured on one core of a server: 4.2 times as fast as one by one at 10,000 floating point operations an operator
(`cmu-mosi-utterance`, `lf-dnn`), 2.6 at 46,000 (`mult`), 1.6 at 320,000 (`digits`, `centralnet`), 1.0 at 510,000
(`utd-mhad`, `lf-dnn`), and slower beyond. A GPU computes what is large much faster and starts operators no faster: on
an H200 it is 24 times as fast at 23,000 and 6 at 1.9 million (`utd-mhad`, `transformer`); how far beyond that it pays
was not measured, and the bound there is a guess.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from concordant.calibration import Perturbation
from concordant.data.split import Split, Task
from concordant.errors import ConcordantError
from concordant.training.batches import to_tensors
from concordant.training.config import Config, Variant
from concordant.training.model import build_model
from concordant.training.step import LOSSES
from concordant.training.vectorised.bank import Bank
from concordant.training.vectorised.draws import Draws
from concordant.training.vectorised.step import RECORDING, LossOf, Step

Wish = Literal["auto", "on", "off"]
WISHES: tuple[Wish, ...] = ("auto", "on", "off")
# Device -> floating point operations of a forward pass, an operator; above, a pass does not pay.
MOST_WORK = {"cpu": 400_000, "cuda": 10_000_000}
SHARE = 0.2  # of a single step, that a further seed adds to a vectorised one at the most
_RECURRENT = (nn.LSTM, nn.GRU, nn.RNN, nn.LSTMCell, nn.GRUCell, nn.RNNCell)
_BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class Choice:
    """How a variant's seeds are trained.

    Args:
        together: in one vectorised pass.
        reason: why not; "" where they are.
        possible: whether they could be.
    """

    together: bool
    reason: str = ""
    possible: bool = True


def choose(
    config: Config,
    variant: Variant,
    task: Task,
    *,
    seeds: int,
    wish: Wish = "auto",
    apart: str | None = None,
    device: str = "cpu",
) -> Choice:
    """Choose how a variant's seeds are trained.

    Args:
        config: the experiment.
        variant: the calibrator, and whether training perturbs.
        task: the split of any seed.
        seeds: how many are to be trained.
        wish: "auto" chooses what is faster, "on" a vectorised pass wherever one can be made, "off" none.
        apart: why the runs have to be trained one by one, whatever the model; None = nothing says so.
        device: where they are trained.
    """
    if wish == "off":
        return Choice(False, "--vectorise off")
    reason = _plain_reason(config, task, seeds, apart, device)
    if reason is None and isinstance(task.train, Split):
        reason = _reason_of_model(config, variant, task, task.train, device)
    if reason is not None:
        return Choice(False, reason, possible=False)
    if wish == "on" or not isinstance(task.train, Split):
        return Choice(True)
    work, most = work_an_operator(config, variant, task, task.train), MOST_WORK[device]
    if work > most:
        return Choice(
            False,
            f"operators are large enough by themselves ({work / 1e6:.1f} million floating point operations each, "
            f"above {most / 1e6:.2f})",
        )
    if not pays(seeds, config.recipe.steps):
        return Choice(False, f"with {config.recipe.steps} steps, preparing a pass takes longer than it saves")
    return Choice(True)


def pays(seeds: int, steps: int) -> bool:
    """Say whether a pass of small operators is faster than run by run.

    A step of S seeds costs as much as 1 + 0.2 S single ones or less, and recording it as much as 15 such steps, as
    measured on `cmu-mosi-utterance` with `lf-dnn`.

    >>> pays(10, 700), pays(3, 10)
    (True, False)
    """
    return (steps + RECORDING) * (1 + SHARE * seeds) < steps * seeds


def _plain_reason(config: Config, task: Task, seeds: int, apart: str | None, device: str) -> str | None:
    """Return what stands in the way before any model is looked at."""
    if seeds < 2:
        return "there is one seed to train"
    if device not in MOST_WORK:
        return f"training is on {device}, and random numbers are drawn seed by seed on {' and '.join(MOST_WORK)} alone"
    if apart is not None:
        return apart
    if config.method != "none":
        return f"the training method {config.method} needs a loop of its own"
    if not isinstance(task.train, Split) or not isinstance(task.valid, Split):
        return "the data are not in memory"
    return None


def _reason_of_model(config: Config, variant: Variant, task: Task, train: Split, device: str) -> str | None:
    """Return why the model cannot take a vectorised step, if it cannot; two seeds try."""
    models = [build_model(task, config, variant, seed).to(device) for seed in range(2)]
    for kinds, what in ((_RECURRENT, "recurrent layers"), (_BATCH_NORM, "batch normalisation")):
        if any(isinstance(module, kinds) for module in models[0].modules()):
            return f"{config.fusion} has {what}" if config.encoders == "small" else f"the model has {what}"
    part = to_tensors(train).to(device)
    some = part.take(slice(min(config.recipe.batch, len(part))))
    fallback: Any = torch._C._functorch
    before = fallback._is_vmap_fallback_enabled()
    fallback._set_vmap_fallback_enabled(False)  # what would be slow is refused
    try:
        step = Step(models[0], _settings(variant), LOSSES[task.kind], some)
        sources = ([torch.Generator(device).manual_seed(seed) for seed in range(2)] for _ in range(2))
        draws = Draws(step.draws, *sources, device=device)
        parameters, others = _stacked(models)
        with torch.no_grad():
            step.losses(parameters, others, Bank([part, part], range(2), config.recipe.batch).next(), draws.next())
    except ConcordantError as error:
        return str(error)
    except RuntimeError as error:  # what vmap says of operators that it has no rule for
        return f"PyTorch's vmap cannot follow it ({str(error).strip().splitlines()[0].rstrip('.')})"
    finally:
        fallback._set_vmap_fallback_enabled(before)
    return None


def _stacked(models: Sequence[nn.Module]) -> tuple[dict[str, Any], dict[str, Any]]:
    parameters, others = torch.func.stack_module_state(list(models))
    return parameters, others


def _settings(variant: Variant) -> Perturbation | None:
    return Perturbation() if variant.perturbed else None


def work_an_operator(config: Config, variant: Variant, task: Task, train: Split) -> float:
    """Return the floating point operations of a training step's forward pass, of one seed, by the operators it calls.

    Those of matrix products, attention and convolutions are counted.
    """
    model = copy.deepcopy(build_model(task, config, variant, 0)).train()
    loss = LossOf(model, _settings(variant), LOSSES[task.kind])
    part = to_tensors(train)
    some = part.take(slice(min(config.recipe.batch, len(part))))
    with torch.random.fork_rng(devices=[]), FlopCounterMode(display=False) as flops, _Calls() as calls:
        loss(some.inputs, some.masks, some.present, some.labels, torch.Generator().manual_seed(0))
    total: float = flops.get_total_flops() / max(calls.count, 1)
    return total


class _Calls(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Count the operators that are called."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401 - an operator
        types: Any,  # noqa: ANN401
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Call the operator."""
        self.count += 1
        return func(*args, **dict(kwargs or {}))
