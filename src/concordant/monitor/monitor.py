"""Monitor: wraps a calibrated model in production, and finds the modality that has gone bad.

It learns what is usual on clean data, then watches a stream, with a rate of false alarms that the user sets and that
is guaranteed as long as clean data and stream are exchangeable. The model's outputs are never touched.
Shapes: features in their layouts, batch first; reliability (B, M).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from concordant.attach.containers import map_tensors
from concordant.attach.taps import core_of
from concordant.attach.wrapper import Attached
from concordant.calibration import Calibration, Calibrator
from concordant.errors import DataError, UsageError, checks, shown
from concordant.files import read_json, write_json
from concordant.modalities import AUTO, LAYOUTS
from concordant.monitor.alarm import Alarm
from concordant.monitor.batches import alone, as_tensors, batches, is_rows, is_single, joined
from concordant.monitor.evidence import Evidence, evidence_of
from concordant.monitor.sequential import Guarantee, check_guarantee
from concordant.monitor.watch import Watch
from concordant.robustness.predict import Model, calibration_of, call, device_of, evaluating, parameters_of
from concordant.training.batches import Tensors

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

SCHEMA = "concordant.monitor/1"


class Monitor:
    """Watches the modalities of a calibrated model.

    The guarantee is about the first false alarm, over all modalities and tests, after `learn` or `reset`, on average
    over draws of the clean data, and it needs clean data and stream to be exchangeable: the same subjects, devices
    and surroundings, instances that do not depend on their neighbours. Where they differ, the monitor is right to
    raise an alarm, but it is no broken sensor.

    Args:
        model: a calibrator, a model of `concordant run`, an attached model, or any callable whose output is a
            `Calibration`, has one as `.calibration`, or that itself keeps the last one as `.calibration`.
        rate: with "run-length": a false alarm comes after 1 / rate instances or more on average, and within n
            instances with a chance of at most n rate / 2. With "ever": the chance that one ever comes.
        guarantee: "run-length" or "ever"; the second one is slower to see a change.
        seed: of the draws that break ties.
        layouts: modality -> layout of what the model gets; None = read off the number of axes.

    Raises:
        UsageError: the rate, the guarantee or the model is none.
    """

    def __init__(
        self,
        model: Model,
        *,
        rate: float = 1e-4,
        guarantee: Guarantee = "run-length",
        seed: int = 0,
        layouts: Mapping[str, str] | None = None,
    ) -> None:
        check_guarantee(rate, guarantee)
        self.model, self.rate, self.guarantee = model, float(rate), guarantee
        with checks() as check:
            found = type(model).__name__
            check.require(callable(model), f"model must be a module or another callable; found {found}")
            self.seed = check.integer("seed", seed, 0, 2**63 - 1)
            known = (AUTO, *LAYOUTS)
            fine = layouts is None or (isinstance(layouts, Mapping) and all(x in known for x in layouts.values()))
            message = f"layouts must be modality -> one of {', '.join(known)}; found {shown(layouts)}"
            check.require(fine, message)
        self.layouts = dict(layouts) if layouts is not None else _layouts_of(model)
        self._watch: Watch | None = None
        self._axes: dict[str, int] = {}

    def learn(
        self,
        data: Any,  # noqa: ANN401 - features, a split or a loader
        masks: Mapping[str, Tensor] | None = None,
        present: Mapping[str, Tensor] | None = None,
        *,
        ordered: bool = True,
    ) -> Monitor:
        """Learn the usual evidence from clean data outside the training data; return the monitor.

        Args:
            data: modality -> tensor (N, ...), with other arguments of the model beside them (flags, None) if it takes
                any; or a split; or a loader of these, of tuples whose first is that, or of a model's (inputs, targets).
            masks: modality -> bool (N, T), True at valid steps; for features by modality.
            present: modality -> bool (N,); for features by modality.
            ordered: the data come as a stream would bring them. False = their order means nothing, as in a dataset
                that is sorted by class; they are shuffled, or neighbours would be too much alike.

        Raises:
            UsageError: fewer than 20 instances with some modality, or the model gives no calibration.
        """
        draws = np.random.default_rng(self.seed)
        before, self._axes = self._axes, {}
        try:
            found = list(self.evidence(data, masks, present))
            if not found:
                raise UsageError("data must hold instances to learn from; found none")
            clean = joined(found)
            if not ordered:
                clean = clean.take(draws.permutation(len(clean)))
            self._watch = Watch(clean, rate=self.rate, guarantee=self.guarantee, draws=draws)
        except BaseException:
            self._axes = before  # what was learnt before still holds
            raise
        return self

    def evidence(
        self,
        data: Any,  # noqa: ANN401 - as for `learn`
        masks: Mapping[str, Tensor] | None = None,
        present: Mapping[str, Tensor] | None = None,
    ) -> Iterator[Evidence]:
        """Yield the evidence of data, batch by batch, without changing the state; arguments as for `learn`."""
        for inputs, mask, here in batches(as_tensors(data), as_tensors(masks), as_tensors(present), self.layouts):
            if isinstance(inputs, Mapping) and not self._axes:
                self._axes = {name: x.dim() for name, x in inputs.items() if is_rows(x)}
            yield self._asked(inputs, mask, here)

    def update(
        self,
        features: Any,  # noqa: ANN401 - whatever the model takes
        masks: Mapping[str, Tensor] | None = None,
        present: Mapping[str, Tensor] | None = None,
    ) -> list[Alarm]:
        """Run the model on the next instances of the stream, in order; return the alarms raised.

        Args:
            features: modality -> tensor of a batch, or of a single instance without its batch axis; or what else the
                model takes, a tensor or a tuple of arguments. In the form in which the clean data were given.
            masks: modality -> bool, True at valid steps.
            present: modality -> bool.

        Raises:
            UsageError: nothing was learnt yet, or the model gives no calibration.
        """
        watch = self.watch
        features, masks, present = as_tensors(features), as_tensors(masks), as_tensors(present)
        if isinstance(features, Mapping) and is_single(features, self._axes):
            features, masks, present = alone(features, self.layouts, self._axes), alone(masks), alone(present)
        return watch.step(self._asked(features, masks, present))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever the model takes and returns
        """Call the model, take in its evidence, and return its output unchanged; see `status` and `alarms`.

        Raises:
            UsageError: nothing was learnt yet, or the model is in training mode.
        """
        watch = self.watch
        if isinstance(self.model, nn.Module) and self.model.training:
            raise UsageError("the model is in training mode, where reliability is no measurement; call .eval() first")
        out = self.model(*args, **kwargs)
        masks = kwargs.get("masks", args[1] if len(args) > 1 and isinstance(args[1], Mapping) else None)
        watch.step(self._evidence(out, self._delivered(args, kwargs), masks))
        return out

    @property
    def watch(self) -> Watch:
        """The watch that `learn` created.

        Raises:
            UsageError: nothing was learnt yet.
        """
        if self._watch is None:
            raise UsageError("the monitor does not know what is usual yet; call learn(...) on clean data first")
        return self._watch

    @property
    def learnt(self) -> bool:
        """Whether `learn` has been called."""
        return self._watch is not None

    @property
    def status(self) -> dict[str, dict[str, Any]]:
        """The present state of each modality.

        "state" is "ok" or the kind of its alarm, "since" the instance at which that began (None while "ok"),
        "reliability" the place of its last reliabilities among the clean ones (0.5 = as usual; None without any),
        "martingale" the largest statistic of its tests, of which `threshold` raises an alarm.
        """
        watch, found = self.watch, {}
        for name in watch.names:
            alarm = watch.alarms.get(name)
            found[name] = {
                "state": "ok" if alarm is None else alarm.kind,
                "since": None if alarm is None else alarm.since,
                "reliability": watch.reliability(name),
                "martingale": watch.statistic(name),
            }
        return found

    @property
    def alarms(self) -> list[Alarm]:
        """The standing alarms, at most one per modality, oldest first."""
        return sorted(self.watch.alarms.values(), key=lambda alarm: alarm.number)

    @property
    def threshold(self) -> float:
        """The statistic at which an alarm is raised."""
        return self.watch.threshold

    def reset(self, modality: str | None = None) -> None:
        """Take a modality as repaired, or all of them: its tests begin again, with their guarantee.

        Raises:
            UsageError: there is no such modality.
        """
        if modality is not None and modality not in self.watch.names:
            raise UsageError(f"unknown modality {shown(modality)}; choose from: {', '.join(self.watch.names)}")
        self.watch.reset(modality)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the monitor as plain values, without the model."""
        return {
            "schema": SCHEMA,
            "rate": self.rate,
            "guarantee": self.guarantee,
            "seed": self.seed,
            "layouts": self.layouts,
            "axes": self._axes,
            "watch": self.watch.state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state that `state_dict` returned.

        Raises:
            DataError: it is of something else.
        """
        if state.get("schema") != SCHEMA:
            raise DataError(f"state must be a monitor's, of the schema {SCHEMA}; found {state.get('schema')!r}")
        try:
            watch = Watch.restore(state["watch"], guarantee=state["guarantee"])
            self.rate, self.guarantee, self.seed = state["rate"], state["guarantee"], state["seed"]
            self.layouts, self._axes = dict(state["layouts"]), dict(state["axes"])
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise DataError(f"state is not whole ({type(error).__name__}: {error}); save the monitor again") from None
        self._watch = watch

    def save(self, path: Path | str) -> None:
        """Write the monitor's state, without the model, as JSON."""
        write_json(Path(path), self.state_dict())

    @classmethod
    def load(cls, path: Path | str, model: Model) -> Monitor:
        """Return the monitor that `save` wrote, around the model it watched.

        Raises:
            DataError: the file cannot be read, or is no monitor's.
        """
        monitor = cls(model)
        try:
            monitor.load_state_dict(read_json(Path(path)))
        except DataError as error:
            message = str(error)
            raise DataError(message if str(path) in message else f"{path}: {message}") from None
        return monitor

    def register(self, registry: CollectorRegistry | None = None) -> None:
        """Register the metrics with Prometheus; see `concordant.monitor.metrics`."""
        from concordant.monitor.metrics import register

        register(self, registry)

    def serve_metrics(self, port: int, address: str = "127.0.0.1") -> Any:  # noqa: ANN401 - a server
        """Serve the metrics at http://address:port/metrics; return the server."""
        from concordant.monitor.metrics import serve

        return serve(self, port, address)

    def _asked(
        self,
        inputs: Any,  # noqa: ANN401
        masks: Mapping[str, Tensor] | None,
        present: Mapping[str, Tensor] | None,
    ) -> Evidence:
        """Return the evidence of a batch, from the model in evaluation mode.

        Raises:
            UsageError: some instances lack a modality, and the model cannot be told.
        """
        absent = [name for name, here in (present or {}).items() if not torch.as_tensor(here).all()]
        if absent and "present" not in parameters_of(self.model):
            raise UsageError(
                f"present says that {', '.join(absent)} is absent, and the model takes no `present`; give it as the "
                "arguments that the model takes, and for an attached model say `present=` in attach"
            )
        with evaluating(self.model):
            device = device_of(self.model)
            if isinstance(inputs, Mapping):
                given = (dict(one or {}) for one in (inputs, masks, present))
                named, mask, here = map_tensors(tuple(given), lambda x: x.to(device))
                return self._evidence(call(self.model, Tensors(named, torch.empty(0), mask, here)), named, mask)
            moved = map_tensors(inputs, lambda x: x.to(device))
            args = tuple(moved) if isinstance(moved, (tuple, list)) else (moved,)
            return self._evidence(self.model(*args), self._delivered(args, {}), None)

    def _delivered(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the inputs of a call by name: the keys of its only mapping, or the names of its arguments."""
        first = args[0] if args else kwargs.get("features", kwargs.get("inputs"))
        if isinstance(first, Mapping):
            return first
        named = {**dict(zip(parameters_of(self.model), args, strict=False)), **kwargs}
        return {name: x for name, x in named.items() if isinstance(x, Tensor)}

    def _evidence(self, out: Any, given: Mapping[str, Any], masks: Mapping[str, Tensor] | None) -> Evidence:  # noqa: ANN401
        """Return the evidence of a calibration.

        Level and change are measured on what was given, if the clean data were given by modality; else on the features
        that the calibrator got. A stream is measured as the clean data were.
        """
        calibration = calibration_of(self.model, out)
        if not isinstance(calibration, Calibration):
            raise UsageError(
                f"model must return a Calibration, or an object that has one as `.calibration`, or keep the last one "
                f"as `.calibration` itself; found {type(out).__name__} without one"
            )
        if not all(name in self._axes for name in calibration.names):
            core = core_of(self.model) if isinstance(self.model, nn.Module) else self.model
            return evidence_of(calibration, layouts=_layouts_of(getattr(core, "calibrator", core)) or self.layouts)
        if not any(name in calibration.names for name in given):
            raise UsageError(
                f"the clean data were given by modality ({', '.join(calibration.names)}), so that the stream must be "
                f"too; found {', '.join(given) or 'nothing that has a name'}"
            )
        return evidence_of(calibration, given, masks, self.layouts)


def _layouts_of(model: object) -> dict[str, str]:
    """Return the layouts of a calibrator, or of one attached at the inputs of a model."""
    if isinstance(model, Attached) and model.settings.at == "":
        model = model.calibrator
    return dict(model.layouts) if isinstance(model, Calibrator) else {}
