"""One prediction explained in pictures: `python examples/explain_prediction.py [--out FOLDER] [--run RUN]`.

A scanned digit has three views: its left half, its right half, and the profile of row and column sums. A model is
trained on them (or RUN, a folder of `concordant run digits`, is opened) and evaluated on one test digit three times: as
it was scanned, with the left half of another digit, and with the right half covered. For each, a picture shows the
inputs, the reliability of every view, and the support and conflict behind it; the explanation is printed, too.
A further picture, `rescued.png`, compares the prediction for the swapped half with that of the uncalibrated model.

The cells (`# %%`) can be run one by one in an editor that supports them.
"""

# %% Arguments
from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import softmax

from concordant.data.scaling import apply, fit_chunks
from concordant.data.split import Split
from concordant.deploy.raw import raw_parts
from concordant.estimator import Explanation
from concordant.report.figures.colours import colour_of
from concordant.robustness.predict import predict
from concordant.study.experiment import study
from concordant.training.config import make_config
from concordant.training.model import MultimodalModel
from concordant.training.runs import open_runs
from concordant.visualisation.explain import Usual, explain
from concordant.visualisation.inspection import open_inspected
from concordant.visualisation.trace import Trace, trace_calibration

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, default=Path("explained"), help="where the pictures go; default: explained")
parser.add_argument("--run", type=Path, help="a folder of `concordant run digits`; default: train a small model first")
parser.add_argument(
    "--sample", help="the id of a test digit, such as digit-7; default: the first that a swapped half makes a rescue"
)
parser.add_argument("--steps", type=int, default=250, help="of the training; default: 250")
arguments = parser.parse_known_args()[0]  # an editor passes arguments of its own

# %% A model: trained in seconds, or opened
if arguments.run is None:
    with tempfile.TemporaryDirectory() as folder:
        config = make_config("digits", calibrators=("none", "context"), seeds=1, recipe={"steps": arguments.steps})
        study(config, Path(folder) / "digits", jobs=1)
        inspected = open_inspected(open_runs(Path(folder) / "digits"))
        uncalibrated = inspected.runs.model(inspected.task, inspected.runs.variant("none"), inspected.seed)
else:
    inspected = open_inspected(open_runs(arguments.run))
    if inspected.runs.config.benchmark != "digits":
        parser.error(f"--run must be a run of digits; {arguments.run} is one of {inspected.runs.config.benchmark}")
    if "none" not in inspected.runs.labels:
        parser.error(
            f"--run must have the uncalibrated model too; make {arguments.run} with --calibrators none,context"
        )
    uncalibrated = inspected.runs.model(inspected.task, inspected.runs.variant("none"), inspected.seed)
names, classes = inspected.runs.config.modalities, inspected.task.classes
usual = Usual.of(trace_calibration(inspected.model, inspected.task.valid))  # on unchanged digits

# %% One digit, as it was scanned and with two faults
parts = raw_parts(inspected.runs.config, inspected.seed, inspected.source)
scales = fit_chunks(parts.train.chunks(), parts.layouts)
test = parts.test
ids = [str(one) for one in test.ids]
if arguments.sample is not None and arguments.sample not in ids:
    parser.error(f"--sample must be one of the test part, such as {', '.join(ids[:3])}; found {arguments.sample!r}")
others = np.array([np.flatnonzero(test.labels != label)[0] for label in test.labels])  # of another class


def scaled(part: Split) -> Split:
    """Return a part as the models read it."""
    return part.with_inputs({name: apply(scales[name], x, parts.layouts[name]) for name, x in part.inputs.items()})


def right(model: MultimodalModel, part: Split) -> np.ndarray:
    """Return for every digit whether a model names its class."""
    return predict(model, scaled(part)).logits.argmax(1) == part.labels


swapped = test.with_inputs({**test.inputs, "left": test.inputs["left"][others]})
rescued = right(uncalibrated, test) & ~right(uncalibrated, swapped) & right(inspected.model, swapped)
row = ids.index(arguments.sample) if arguments.sample is not None else int(rescued.argmax())
other = int(others[row])
one = test.take(np.array([row]))
states = {
    "clean": one,
    "left-swapped": one.with_inputs({**one.inputs, "left": test.inputs["left"][[other]]}),
    "right-covered": one.with_inputs({**one.inputs, "right": np.zeros_like(one.inputs["right"])}),
}


# %% Drawing
OURS, DISTRUST, GREY = colour_of("context"), colour_of("modality-dropout"), colour_of("none")
COLOURS = mpl.colors.LinearSegmentedColormap.from_list("distrust to trust", [DISTRUST, "#f7f7f5", OURS])
COLOURS.set_bad("#e3e3e0")


mean = usual.mean()
spread = np.array([usual.reliability[usual.present[:, k], k].std() for k in range(len(names))])


def distrusted(seen: Trace, place: int) -> bool:
    """Return whether the reliability of a view is more than two standard deviations below its usual one."""
    return bool(seen.reliability[0, place] < mean[place] - 2 * spread[place])


def draw_input(axes: Axes, x: np.ndarray, title: str, *, distrusted: bool) -> None:
    """Draw one view, pixels or a profile as bars, in a frame whose colour shows whether it is distrusted."""
    if x.ndim == 3:
        axes.imshow(x[0], cmap="gray_r", vmin=0, vmax=16)
    else:
        half = len(x) // 2
        places = np.arange(len(x)) + np.repeat([0, 1], half)  # a gap between rows and columns
        axes.bar(places, x, color=np.repeat(["#5f6875", "#b9bec6"], half))
        axes.set_xlabel("rows, then columns", fontsize=8)
        axes.set_ylim(0, 8 * 16)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(title, fontsize=9, color=DISTRUST if distrusted else "black")
    for spine in axes.spines.values():
        spine.set(visible=True, color=DISTRUST if distrusted else OURS, linewidth=2.5)


def draw_reliability(axes: Axes, seen: Trace) -> None:
    """Draw the reliability of each view beside its usual one: mean and two standard deviations."""
    for place in range(len(names)):
        value = float(seen.reliability[0, place])
        axes.barh(place, value, 0.55, color=DISTRUST if distrusted(seen, place) else OURS)
        axes.errorbar(mean[place], place, xerr=2 * spread[place], fmt="|", color="black", capsize=4, markersize=14)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.25)
    axes.set_xticks([0, 0.5, 1])
    axes.set_title("reliability (black: the usual ± 2 sd)", fontsize=9)


def draw_agreement(axes: Axes, seen: Trace) -> None:
    """Draw support (green) and conflict (red) of every pair of views, as a matrix."""
    agreement = seen.support[0] - seen.conflict[0]
    shown = np.where(np.eye(len(names), dtype=bool), np.nan, agreement)
    axes.imshow(shown, cmap=COLOURS, vmin=-1, vmax=1)
    for i, j in np.argwhere(~np.isnan(shown)):
        ink = "white" if abs(shown[i, j]) > 0.5 else "black"
        value = f"{shown[i, j]:+.2f}".replace("-", "−")
        axes.text(j, i, value, ha="center", va="center", fontsize=9, color=ink)
    axes.spines[:].set_visible(False)
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0)
    axes.set_title("support (+) and conflict (−)", fontsize=9)


def draw_gates(axes: Axes, seen: Trace) -> None:
    """Draw the factor of each feature, gate times reliability, relative to the usual one; 1 is as usual."""
    longest = max(seen.gates[name].shape[1] for name in names)
    ratio = np.full((len(names), longest), np.nan)
    for place, name in enumerate(names):
        now, before = seen.gates[name][0] * seen.reliability[0, place], usual.gates[name] * mean[place]
        ratio[place, : len(now)] = now / before
    image = axes.imshow(ratio, cmap=COLOURS, vmin=0, vmax=2, aspect="auto", interpolation="nearest")
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0)
    axes.set_xlabel("feature", fontsize=8)
    axes.set_title("gate × reliability of every feature (1: as usual)", fontsize=9)
    for edge in np.arange(len(names) - 1) + 0.5:
        axes.axhline(edge, color="white", linewidth=2)
    bar = axes.figure.colorbar(image, ax=axes, ticks=[0, 0.5, 1, 1.5, 2])
    bar.outline.set_visible(False)


def draw_classes(axes: Axes, probabilities: np.ndarray, truth: int, title: str = "") -> None:
    """Draw the probability of every class; the true one has a frame."""
    best = int(probabilities.argmax())
    colours = [GREY] * len(classes)
    colours[best] = OURS if best == truth else DISTRUST
    bars = axes.bar(range(len(classes)), probabilities, color=colours)
    bars[truth].set(edgecolor="black", linewidth=1.5)
    axes.set_xticks(range(len(classes)), classes)
    axes.set_ylim(0, 1.02)
    axes.set_yticks([0, 0.5, 1])
    axes.set_xlabel("class", fontsize=8)
    found = f"predicted {classes[best]} with probability {probabilities[best]:.2f} (framed: the truth)"
    axes.set_title(title or found, fontsize=9)


def draw_rescue(part: Split, seen: Trace, path: Path) -> None:
    """Write the picture that compares the predictions for one digit, without and with calibration."""
    predictions = {
        "without calibration": softmax(predict(uncalibrated, scaled(part)).logits[0]),
        "with Concordant": softmax(seen.logits[0]),
    }
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(10, 2.3), layout="constrained")
        axes = figure.subplots(1, 5, width_ratios=(0.75, 0.75, 1.5, 2, 2))
        for place, name in enumerate(names):
            value = float(seen.reliability[0, place])
            draw_input(axes[place], part.inputs[name][0], f"{name}\n{value:.2f}", distrusted=distrusted(seen, place))
        axes[0].set_ylabel("view, reliability", fontsize=9)
        for place, (method, probabilities) in enumerate(predictions.items(), start=3):
            best = classes[int(probabilities.argmax())]
            draw_classes(
                axes[place], probabilities, int(part.labels[0]), f"{method}: {best} ({probabilities.max():.2f})"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=130)


def draw(part: Split, seen: Trace, probabilities: np.ndarray, title: str, path: Path) -> None:
    """Write the picture of one digit."""
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(10, 5.6), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.08, h_pad=0.06)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        above, below = figure.subfigures(2, 1, height_ratios=(1, 1.05))
        top = above.subplots(1, 4, width_ratios=(1, 1, 1.6, 2.2))
        for place, name in enumerate(names):
            value = seen.reliability[0, place]
            caption = f"{name}, reliability {value:.2f}" if place == 2 else f"{name}, {value:.2f}"
            draw_input(top[place], part.inputs[name][0], caption, distrusted=distrusted(seen, place))
        draw_classes(top[3], probabilities, int(part.labels[0]))
        bottom = below.subplots(1, 3, width_ratios=(1.2, 1.1, 1.7))
        draw_reliability(bottom[0], seen)
        draw_agreement(bottom[1], seen)
        draw_gates(bottom[2], seen)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=130)


# %% Explanations as text and pictures
FAULTS = {
    "clean": "as it was scanned",
    "left-swapped": f"with the left half of another digit, a {classes[int(test.labels[other])]}",
    "right-covered": "with the right half covered",
}
for state, part in states.items():
    seen = trace_calibration(inspected.model, scaled(part))
    probabilities = softmax(seen.logits[0])
    best = int(probabilities.argmax())
    verdicts = explain(seen, 0, usual)
    title = f"{ids[row]}, a {classes[int(test.labels[row])]}, {FAULTS[state]}"
    print(f"{title}: {Explanation(classes[best], float(probabilities[best]), verdicts)}")
    path = arguments.out / f"{state}.png"
    draw(part, seen, probabilities, title, path)
    print(f"  picture: {path}\n")
    if state == "left-swapped":
        draw_rescue(part, seen, arguments.out / "rescued.png")
share = right(uncalibrated, swapped).mean(), right(inspected.model, swapped).mean()
print(
    f"right answers for all {len(ids)} test digits with swapped left halves: {share[0]:.0%} without calibration, ",
    end="",
)
print(f"{share[1]:.0%} with; picture: {arguments.out / 'rescued.png'}")
