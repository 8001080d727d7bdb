"""The checked arguments of `attach`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from concordant.attach.arguments import Address, Source
from concordant.attach.ragged import Counts
from concordant.attach.taps import FOLDED, Tap
from concordant.calibration.base import Calibrator
from concordant.calibration.calibrator import ContextualCalibrator
from concordant.calibration.perturbation import Perturbation
from concordant.errors import UsageError


@dataclass(frozen=True)
class Settings:
    """The checked arguments of `attach`; `at` is "" for the model's inputs, None where features are tapped.

    Without `at` an address among the taps is of an argument of forward.
    """

    taps: Mapping[str, Tap | Address]
    at: Tap | str | None
    layouts: Mapping[str, str]
    factory: Callable[..., Calibrator] | None
    masks: Mapping[str, Source]
    present: Mapping[str, Source]
    watched: Mapping[str, Tap]
    counts: Mapping[str, Counts]
    batch_size: Callable[..., int] | None
    perturbation: Perturbation | bool
    copies: bool
    freeze: str | None
    seed: int
    method: str | None = None

    @property
    def modules(self) -> dict[str, Tap]:
        """Modality -> tap, of those that a submodule gives; with a submodule as `at`, "at" -> that."""
        given = {"at": self.at} if self.at is not None else self.taps
        return {name: tap for name, tap in given.items() if isinstance(tap, Tap)}

    def build(self, sizes: Mapping[str, int]) -> Calibrator:
        """Return a new calibrator for features of these sizes; raise UsageError if the factory returns none."""
        layouts = {name: FOLDED.get(self.layouts[name], self.layouts[name]) for name in self.taps}
        ordered = {name: sizes[name] for name in self.taps}
        if self.factory is None:
            return ContextualCalibrator(ordered, layouts=layouts, perturbation=self.perturbation, seed=self.seed)
        built = self.factory(ordered, layouts=layouts)
        if not isinstance(built, Calibrator):
            raise UsageError(f"calibrator must return a Calibrator; found {type(built).__name__}")
        return built
