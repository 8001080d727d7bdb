"""From what taps give to the features that a calibrator takes, and back.

Rows of several instances are padded or put on an axis of their own, and a batch of one gets back its axis where the
model has squeezed it away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from concordant.attach.arguments import Arguments, batch_size, evaluate_sources
from concordant.attach.containers import tensors_of
from concordant.attach.ragged import Rows, require_equal_parts, rows_of, suspects
from concordant.attach.settings import Settings
from concordant.attach.taps import FOLDED, feature_size, fold, in_order_of, letters_of, unfold
from concordant.errors import UsageError
from concordant.modalities import AUTO


@dataclass(frozen=True)
class TappedFeatures:
    """The features of one call of the model.

    Args:
        features: modality -> feature as a calibrator takes it, batch first.
        masks: modality -> valid steps (B, T); None = all.
        present: modality -> presence (B,); None = all.
        layouts: modality -> layout as written.
        original: modality -> feature as the tap gave it, with a batch axis.
        ragged: modality -> where its rows lie, for those with different numbers of rows per instance.
        squeezed: modality -> the axis of a batch of one, where the tap gave none.
    """

    features: dict[str, Tensor]
    masks: dict[str, Tensor] | None
    present: dict[str, Tensor] | None
    layouts: Mapping[str, str]
    original: Mapping[str, Tensor]
    ragged: Mapping[str, Rows]
    squeezed: Mapping[str, int]

    def restored(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return calibrated features as the taps gave theirs.

        They are copies, since the model may change them in place, and views of one tensor do not allow that.
        """
        flat = {name: fold(x, self.layouts[name]) for name, x in features.items()}
        taken = {name: self.ragged[name].take(x) if name in self.ragged else x for name, x in flat.items()}
        made = {name: in_order_of(x, self.original[name]) for name, x in taken.items()}
        return {name: x.squeeze(self.squeezed[name]) if name in self.squeezed else x for name, x in made.items()}


class FeatureReader:
    """Read what the taps of a model give; what earlier calls have shown about their shapes is kept."""

    def __init__(self) -> None:
        self._axes: dict[str, int] = {}  # modality -> number of axes, where the layout does not say it
        self._suspects: dict[str, set[str]] = {}  # modality -> arguments that look like numbers of rows

    def __call__(
        self,
        settings: Settings,
        found: Mapping[str, Any],
        given: Arguments,
        *,
        doubled: bool,
        build: Callable[[dict[str, int], torch.device], None] | None,
    ) -> TappedFeatures:
        """Return the features of one call.

        Args:
            settings: the arguments of `attach`.
            found: modality -> what its tap gave; "packed.MODALITY" -> the packed sequence that it is the data of;
                the taps that masks, presence and counts name -> what they gave.
            given: the arguments of the model.
            doubled: the rest of the model gets 2B rows.
            build: called with the size of each feature and their device before they are used; None = no need.

        Raises:
            UsageError: shapes, layouts, masks, presence or numbers of rows do not go together.
        """
        layouts = dict(settings.layouts)
        original, squeezed = self._with_batch_axis({name: found[name] for name in settings.taps}, settings, given)
        rows_in = {name: _rows(name, x, settings, found, given, doubled=doubled) for name, x in original.items()}
        ragged = {name: rows for name, rows in rows_in.items() if rows is not None}
        raw = original
        for name, rows in ragged.items():
            raw = {**raw, name: rows.pad(raw[name])}
            layouts[name] = _folded(layouts[name], raw[name], name)
        if build is not None:
            sizes = {name: feature_size(x, layouts[name], name) for name, x in raw.items()}
            build(sizes, next(iter(raw.values())).device)
        size = next((len(rows.valid) for rows in ragged.values()), -1)
        size = size if size >= 0 else batch_size(raw, layouts, settings.batch_size, given)
        features = {name: unfold(x, layouts[name], size, name) for name, x in raw.items()}
        folded = {name: x for name, x in raw.items() if layouts[name] in FOLDED and name not in ragged}
        self._require_equal_parts(size, given, folded)
        masks = evaluate_sources("masks", settings.masks, found, given)
        for name, rows in ragged.items():
            mask = (masks or {}).get(name, rows.valid)
            if mask.shape != rows.valid.shape:
                shapes = (
                    f"{tuple(rows.valid.shape)}, as `counts` or the packed sequence has it; found {tuple(mask.shape)}"
                )
                raise UsageError(f"masks[{name!r}] must have shape {shapes}")
            masks = {**(masks or {}), name: mask & rows.valid}
        present = evaluate_sources("present", settings.present, found, given)
        return TappedFeatures(features, masks, present, layouts, original, ragged, squeezed)

    def _with_batch_axis(
        self, raw: dict[str, Tensor], settings: Settings, given: Arguments
    ) -> tuple[dict[str, Tensor], dict[str, int]]:
        """Return the features, with the axis of a batch of one that a model has squeezed away; and where it is."""
        single = any(x.dim() and x.shape[0] == 1 for x in tensors_of((given.args, given.kwargs)))
        squeezed = {}
        for name, x in raw.items():
            letters = letters_of(settings.layouts[name])
            axes = self._axes.setdefault(name, x.dim()) if letters == AUTO else len(letters)
            if single and x.dim() == axes - 1:
                squeezed[name] = 0 if letters == AUTO else letters.index("b")
        return {name: x.unsqueeze(squeezed[name]) if name in squeezed else x for name, x in raw.items()}, squeezed

    def _require_equal_parts(self, size: int, given: Arguments, folded: Mapping[str, Tensor]) -> None:
        """Refuse equal parts where an argument shows others, at first or in every batch so far."""
        for name, x in folded.items() if size else ():
            seen = suspects(len(x), size, given)
            before = self._suspects.get(name, set(seen))
            self._suspects[name] = before & set(seen)
            require_equal_parts(name, len(x), size, {label: seen[label] for label in self._suspects[name]})


def _rows(
    name: str, x: Tensor, settings: Settings, found: Mapping[str, Any], given: Arguments, *, doubled: bool
) -> Rows | None:
    """Return where the rows of a feature with different numbers of them per instance lie; None for others."""
    packed = found.get(f"packed.{name}")
    if packed is None:
        counts = settings.counts.get(name)
        return None if counts is None else rows_of(name, counts, x, found, given)
    if doubled:
        raise UsageError(
            f"copies=True cannot double the packed sequence of {name!r}, whose order is part of it; use "
            "copies=False, a tap behind pad_packed_sequence, or fit_plugin with learn='reliability'"
        )
    return Rows.of_packed(packed)


def _folded(written: str, x: Tensor, name: str) -> str:
    """Return the layout of rows (N, ...) of several instances; raise UsageError if that written is another."""
    if written in FOLDED:
        return written
    by_axes = {2: "(b t)d", 4: "(b t)chw"}
    if written not in (AUTO, FOLDED.get(by_axes.get(x.dim(), ""))):
        raise UsageError(
            f"layout[{name!r}] must be {', '.join(FOLDED)} or auto, as its rows are those of several instances; found "
            f"{written!r}"
        )
    if x.dim() not in by_axes:
        raise UsageError(f"the rows of {name!r} must be vectors or maps; found shape {tuple(x.shape)}")
    return by_axes[x.dim()]
