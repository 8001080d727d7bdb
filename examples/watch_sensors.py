"""Three sensors, one of which freezes: `python examples/watch_sensors.py [--out FOLDER]`.

A camera, a lidar and a radar see one hidden state. A calibrator learns how they agree, a monitor learns what is usual,
and then the camera repeats its last picture. `monitor.png` shows the evidence of every instance. Ten seconds on
two cores.
"""

from __future__ import annotations

import argparse
from pathlib import Path

# --8<-- [start:sensors]
import torch
from torch import Tensor

from concordant import ContextualCalibrator, Monitor

SENSORS = ("camera", "lidar", "radar")
FROZEN = 100  # from this instance on, the camera repeats itself


def sense(count: int, seed: int) -> dict[str, Tensor]:
    """Return what each sensor makes of a hidden state, (B, 4)."""
    draws = torch.Generator().manual_seed(seed)
    state = torch.randn(count, 4, generator=draws)
    return {
        name: state.roll(place, 1) + 0.2 * torch.randn(count, 4, generator=draws) for place, name in enumerate(SENSORS)
    }


# --8<-- [end:sensors]
# --8<-- [start:calibrator]
def trained(steps: int = 200) -> ContextualCalibrator:
    """Return a calibrator that has learned how the sensors agree."""
    torch.manual_seed(0)
    calibrator = ContextualCalibrator(dict.fromkeys(SENSORS, 4), seed=0)
    optimizer = torch.optim.Adam(calibrator.parameters(), 0.01)
    for step in range(steps):
        loss = calibrator(sense(64, step)).auxiliary_loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return calibrator.eval()


# --8<-- [end:calibrator]
def main() -> None:
    """Train, learn what is usual, watch a stream, and draw the evidence."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="the folder for monitor.png; default: no picture")
    arguments = parser.parse_args()
    calibrator = trained()
    # --8<-- [start:learn]
    monitor = Monitor(calibrator, rate=1e-4)  # at most one false alarm in 10,000 instances, on average
    monitor.learn(sense(300, 1001))  # clean data that the calibrator was not trained on
    # --8<-- [end:learn]
    # --8<-- [start:stream]
    stream = sense(200, 1002)
    stream["camera"][FROZEN:] = stream["camera"][FROZEN]
    evidence = []
    for number in range(200):
        for alarm in monitor.update({name: values[number] for name, values in stream.items()}):
            print(alarm)
        evidence.append([monitor.status[name]["martingale"] for name in stream])
    print({name: monitor.status[name]["state"] for name in stream})
    # --8<-- [end:stream]
    if arguments.out:
        draw(torch.tensor(evidence), monitor.threshold, arguments.out / "monitor.png")
    # --8<-- [start:repair]
    monitor.reset("camera")  # repaired
    print(monitor.status["camera"]["state"])
    # --8<-- [end:repair]


def draw(evidence: Tensor, threshold: float, path: Path) -> None:
    """Draw the largest statistic of each sensor after every instance, on a logarithmic axis."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.8), layout="constrained")
    axes = figure.subplots()
    for place, (name, colour) in enumerate(zip(SENSORS, ("#c9552b", "#3b6ea8", "#8fb3d9"), strict=True)):
        axes.semilogy(range(1, len(evidence) + 1), evidence[:, place], color=colour, label=name)
    axes.axhline(threshold, color="black", linewidth=0.8, linestyle="--")
    axes.text(1, threshold, "threshold of an alarm", va="bottom", fontsize=8)
    axes.axvline(FROZEN + 1, color="grey", linewidth=0.8)
    axes.text(FROZEN + 2, 0.02, "camera freezes", transform=axes.get_xaxis_transform(), fontsize=8)
    axes.set_xlabel("instance")
    axes.set_ylabel("evidence of a fault")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
