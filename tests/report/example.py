"""Documents with plausible numbers from one seeded generator, for the tests of the report.

In them "context" is best under corruption and a little below the twin when clean, and audio carries the task.
"""

import itertools

import numpy as np

from concordant.report.folder import RunDocuments
from concordant.statistics.comparisons import family_of

LABELS = ("none", "none+perturbed", "gmu", "context")
MODALITIES = ("audio", "image")
KINDS = (
    ("gaussian-noise", "noise is added", "values", "standard deviations", [0.25, 0.45, 1.5, 3, 4], True),
    (
        "impulse",
        "single values are set to extremes",
        "values",
        "share of the values",
        [0.02, 0.05, 0.1, 0.2, 0.4],
        False,
    ),
    ("time-masking", "one stretch is set to 0", "time", "share of the steps", [0.1, 0.25, 0.5, 0.75, 0.9], False),
    ("swap", "mixed with an instance of another class", "instances", "weight", [0.2, 0.4, 0.6, 0.8, 1], True),
    ("blur", "Gaussian blur", "image", "pixels", [0.5, 1, 1.5, 2, 3], False),
)
AROUND = {
    "versions": {"concordant": "0.1.0", "python": "3.11.7", "torch": "2.13.0+cpu"},
    "hardware": {"processor": "AMD EPYC", "cores": 2, "accelerator": "none"},
}
SKILL = {"none": 0.0, "none+perturbed": 0.45, "gmu": 0.5, "context": 0.8}

# One grey pixel.
PICTURE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
)


def share(value):
    return float(np.clip(value, 0, 1))


def head(kind, benchmark, fusion, modalities=MODALITIES):
    return {
        "schema": f"concordant.{kind}/1",
        "benchmark": benchmark,
        "fusion": fusion,
        "modalities": list(modalities),
        **AROUND,
        "command": f"concordant stress runs/example --{kind}",
    }


def example_results(
    draws, benchmark="av-digits", fusion="transformer", *, labels=LABELS, seeds=3, modalities=MODALITIES
):
    runs, kinds = [], ("noise", "dimensions", "swap", "zero")
    for label, seed in itertools.product(labels, range(seeds)):
        clean = 0.9 + 0.01 * draws.normal() - (0.01 if label == "context" else 0)

        def corrupted(label=label, clean=clean):
            return {"accuracy": share(clean - 0.35 * (1 - SKILL.get(label, 0.5)) + 0.02 * draws.normal())}

        knows = label in ("gmu", "context")
        runs.append(
            {
                "calibrator": label.split("+")[0],
                "perturbed_training": label != "none",
                "seed": seed,
                "parameters": {"none": 0, "none+perturbed": 0}.get(label, 14146),
                "model_parameters": 66102,
                "clean": {"accuracy": share(clean)},
                "corruption": {kind: corrupted() for kind in kinds},
                "removal": {name: {"accuracy": share(0.55 + 0.03 * draws.normal())} for name in modalities},
                "detection_auroc": {
                    kind: {
                        "which": share(0.9 + 0.03 * draws.normal()) if knows else None,
                        "whether": share(0.85 + 0.03 * draws.normal()) if knows else None,
                    }
                    for kind in kinds
                },
                "best_step": 400,
                "train_seconds": 20.0,
            }
        )
    conditions = [
        "clean",
        "corruption.mean",
        *(f"corruption.{kind}" for kind in kinds),
        *(f"removal.{m}" for m in modalities),
    ]
    return {
        "schema": "concordant.results/1",
        "benchmark": benchmark,
        "fusion": fusion,
        "config": {
            "benchmark": benchmark,
            "fusion": fusion,
            "calibrators": [label for label in labels if label != "none+perturbed"],
            "seeds": seeds,
            "protocol": "speakers",
            "modalities": list(modalities),
            "preset": "small",
            "recipe": {"steps": 400, "batch": 64, "learning_rate": 0.003},
        },
        **AROUND,
        "runs": runs,
        "comparisons": [compared(draws, other, one) for other in labels if other != "context" for one in conditions],
    }


def compared(draws, other, condition):
    gain = -0.01 if condition == "clean" else 0.35 * (SKILL["context"] - SKILL.get(other, 0.5))
    gain += 0.005 * draws.normal()
    return {
        "of": "context",
        "to": other,
        "condition": condition,
        "metric": "accuracy",
        "family": family_of(other, condition),
        "mean_of": 0.8,
        "mean_to": 0.8 - gain,
        "difference": float(gain),
        "ci95": [float(gain) - 0.03, float(gain) + 0.03],
        "p_bootstrap": 0.001 if gain > 0.05 else 0.4,
        "p_holm": 0.008 if gain > 0.05 else 0.9,
        "p_wilcoxon": None,
        "seeds": 3,
    }


def example_removal(
    draws, benchmark="av-digits", fusion="transformer", *, labels=LABELS, seeds=3, modalities=MODALITIES
):
    runs = []
    weight = {name: 1 / (2 + place) for place, name in enumerate(modalities)}
    for label, seed in itertools.product(labels, range(seeds)):
        full = share(0.9 + 0.01 * draws.normal())
        subsets = []
        for count in range(1, len(modalities) + 1):
            for present in itertools.combinations(modalities, count):
                left = sum(weight[name] for name in present) / sum(weight.values())
                score = full if count == len(modalities) else share(0.1 + 0.75 * left + 0.01 * draws.normal())
                subsets.append({"present": list(present), "score": score, "retained": score / full})
        rates = [round(0.1 * step, 1) for step in range(10)]
        scores = [share(full - 0.6 * (1 - 0.4 * SKILL.get(label, 0.5)) * rate) for rate in rates]
        runs.append(
            {
                "label": label,
                "seed": seed,
                "empty": 0.1,
                "full": full,
                "subsets": subsets,
                "shapley": {name: (full - 0.1) * part / sum(weight.values()) for name, part in weight.items()},
                "shapley_error": None,
                "rates": [{"rate": r, "score": s, "retained": s / full} for r, s in zip(rates, scores, strict=True)],
                "rate_area": float(np.mean(scores)),
            }
        )
    return {**head("removal", benchmark, fusion, modalities), "metric": "accuracy", "rates": rates, "runs": runs}


def example_corruption(
    draws, benchmark="av-digits", fusion="transformer", *, labels=LABELS, seeds=3, modalities=MODALITIES
):
    runs, oracle = [], []
    fall = np.array([0.02, 0.08, 0.2, 0.33, 0.42])
    for label, seed in itertools.product(labels, range(seeds)):
        knows = label in ("gmu", "context")
        kinds = {}
        for name, *_ in KINDS:
            scores = [share(0.9 - one * (1 - 0.7 * SKILL.get(label, 0.5)) + 0.01 * draws.normal()) for one in fall]
            found = [share(0.55 + 0.09 * level + 0.01 * draws.normal()) for level in range(5)] if knows else None
            kinds[name] = {"scores": scores, "which": found, "whether": found, "area": float(np.mean(scores))}
        worst = min(kinds, key=lambda name: kinds[name]["scores"][4])
        middle = float(np.mean([kind["scores"] for kind in kinds.values()]))
        runs.append(
            {
                "label": label,
                "seed": seed,
                "clean": share(0.9 + 0.01 * draws.normal()),
                "kinds": kinds,
                "mean": middle,
                "area": middle,
                "mean_corruption_error": 1.0 if label == "none+perturbed" else 1.2 - 0.5 * SKILL.get(label, 0.5),
                "worst": {"kind": worst, "severity": 5, "score": kinds[worst]["scores"][4]},
                "diagram": diagram(draws) if knows else None,
            }
        )
    for seed in range(seeds):
        kinds = {name: {"scores": [share(0.88 - 0.3 * one) for one in fall]} for name, *_ in KINDS}
        oracle.append({"label": "none+perturbed", "seed": seed, "kinds": kinds, "mean": 0.82})
    return {
        **head("corruption", benchmark, fusion, modalities),
        "metric": "accuracy",
        "kinds": [
            {
                "name": name,
                "summary": summary,
                "group": group,
                "unit": unit,
                "severities": severities,
                "seen": seen,
                "modalities": list(modalities),
                "at": "inputs",
            }
            for name, summary, group, unit, severities, seen in KINDS
        ],
        "runs": runs,
        "oracle": oracle,
        "covered": [
            {
                "label": label,
                "twin": "none+perturbed",
                "share": SKILL.get(label, 0.5),
                "by_kind": {name: SKILL.get(label, 0.5) if name != "blur" else None for name, *_ in KINDS},
            }
            for label in labels
            if label not in ("none", "none+perturbed")
        ],
    }


def diagram(draws):
    edges = [round(0.1 * place, 1) for place in range(11)]
    predicted = [None if place == 0 else 0.1 * place + 0.05 for place in range(10)]
    intact = [None if one is None else share(one + 0.06 * draws.normal()) for one in predicted]
    return {
        "edges": edges,
        "predicted": predicted,
        "intact": intact,
        "count": [0, *[20 * n for n in range(1, 10)]],
        "error": 0.05,
    }


def example_dynamics(
    draws, benchmark="av-digits", fusion="transformer", *, labels=LABELS, seeds=3, modalities=MODALITIES, steps=400
):
    every, runs = 10, []
    some = np.arange(every, steps + 1, every)
    few = np.linspace(steps / 10, steps, 10).astype(int)
    parts = [*(f"encoder.{name}" for name in modalities), "calibrator", "fusion"]

    def one(quantity, of, at, value, spread):
        noisy = value + spread * draws.normal(size=len(at))
        return {"quantity": quantity, "of": of, "step": at.tolist(), "value": noisy.tolist()}

    for label, seed in itertools.product(labels, range(seeds)):
        every_step = np.arange(1, steps + 1)
        series = [
            one("task_loss", "", every_step, 2.3 * np.exp(-every_step / 90) + 0.1, 0.05),
            one("loss", "", every_step, 2.3 * np.exp(-every_step / 90) + 0.2, 0.05),
            one("validation_loss", "", few, 2.2 * np.exp(-few / 100) + 0.35, 0.02),
            one("validation_score", "", few, 0.9 * (1 - np.exp(-few / 80)), 0.01),
        ]
        for place, name in enumerate(modalities):
            series.append(one("gradient_norm", name, some, 0.5 / (1 + place) * np.exp(-some / 200) + 0.05, 0.003))
            series.append(one("probe", name, few, 0.3 + 0.5 * (1 - np.exp(-few / 120)) / (1 + place), 0.01))
            for quantity in ("reliability", "gate") if label not in ("none", "none+perturbed") else ():
                for quantile, shift in (("q10", -0.25), ("q50", 0.0), ("q90", 0.05)):
                    level = 0.95 + shift * some / steps
                    series.append(one(f"{quantity}_{quantile}", name, some, level, 0.004))
        for a, b in itertools.combinations(modalities, 2):
            series.append(one("conflict", f"{a}|{b}", some, 0.3 * np.exp(-some / 150) - 0.05, 0.05))
        series += [one("update_ratio", part, some, 0.01 * np.exp(-some / 250) + 0.001, 0.0001) for part in parts]
        runs.append(
            {
                "label": label,
                "seed": seed,
                "seconds": 20 + draws.random(),
                "observing_seconds": 1.2,
                "series": series,
                "stability": {"loss_variance": 0.002, "spikes": 0, "final_score": 0.88, "sharpness": 0.01},
            }
        )
    summary = [
        {
            "label": label,
            "seeds": seeds,
            "loss_variance": {"mean": 0.002 + 0.001 * (label == "none"), "std": 0.0003},
            "spikes": {"mean": 0.0, "std": 0.0},
            "final_score": {"mean": 0.88, "std": 0.01},
            "sharpness": {"mean": 0.012, "std": 0.002},
        }
        for label in labels
    ]
    return {**head("dynamics", benchmark, fusion, modalities), "every": every, "runs": runs, "summary": summary}


def example_features(
    draws, benchmark="av-digits", fusion="transformer", *, modalities=MODALITIES, classes=10, points=400, size=64
):
    names = [f"digit {number}" for number in range(classes)]
    label = draws.integers(classes, size=points)
    ids = [f"speaker{number % 6}/{number:04d}" for number in range(points)]
    middles = draws.normal(size=(classes, 2))

    def places(spread):
        return (3 * middles[label] + spread * draws.normal(size=(points, 2))).tolist()

    maps = {
        name: {kind: {"before": places(1.6), "after": places(0.9)} for kind in ("pca", "tsne")} for name in modalities
    }
    for name in modalities[1:]:  # the last modality is absent once
        for kind in maps[name].values():
            kind["before"][3] = kind["after"][3] = None
    reliability = {name: draws.beta(9, 1.2, size=points).tolist() for name in modalities}
    kinds = [name for name, *_ in KINDS]
    matrix = lambda high: (high * draws.random((len(modalities), len(modalities)))).tolist()  # noqa: E731
    return {
        **head("features", benchmark, fusion, modalities),
        "command": "concordant inspect runs/example",
        "label": "context",
        "seed": 0,
        "classes": names,
        "points": {
            "id": ids,
            "label": label.tolist(),
            "prediction": np.where(draws.random(points) < 0.1, (label + 1) % classes, label).tolist(),
            "reliability": reliability,
            "maps": maps,
        },
        "separation": {
            name: {
                "silhouette": {"before": 0.11 + 0.02 * place, "after": 0.18 + 0.02 * place},
                "probe": {"before": 0.71, "after": 0.76},
            }
            for place, name in enumerate(modalities)
        },
        "gates": {
            "by_class": {
                name: (1 + 0.15 * draws.normal(size=(classes, size))).clip(0.5, 1.5).tolist() for name in modalities
            },
            "by_corruption": {
                "kinds": ["clean", *kinds],
                "values": {
                    name: (1 + 0.15 * draws.normal(size=(1 + len(kinds), size))).clip(0.5, 1.5).tolist()
                    for name in modalities
                },
            },
        },
        "agreement": [{"condition": one, "support": matrix(0.6), "conflict": matrix(0.2)} for one in ("clean", *kinds)],
        "distrusted": [
            {
                "id": ids[number],
                "modality": modalities[number % len(modalities)],
                "reliability": 0.05 * (number + 1),
                "usual": 0.93,
                "z": -6.0 + 0.5 * number,
                "label": names[label[number]],
                "prediction": names[label[number]],
                "right": number % 3 > 0,
                "supported_by": None,
                "contradicted_by": modalities[(number + 1) % len(modalities)],
                "modalities": [{"name": one, "reliability": 0.5, "picture": PICTURE} for one in modalities],
            }
            for number in range(8)
        ],
    }


def example_check():
    return {
        "schema": "concordant.check/1",
        "folder": "data/av-digits",
        "failed": False,
        "findings": [
            {"level": "warning", "subject": "audio", "text": "2 of 64 features are the same in every instance"},
            {"level": "note", "subject": "labels", "text": "the largest class, '0', makes up 10.0 % of training"},
        ],
        "counts": {},
        "modalities": {},
    }


def example(seed=0, **options):
    """Return the documents of a run with everything analysed."""
    draws = np.random.default_rng(seed)
    return RunDocuments(
        name="av-digits-transformer",
        results=example_results(draws, **options),
        removal=example_removal(draws, **options),
        corruption=example_corruption(draws, **options),
        dynamics=example_dynamics(draws, **options),
        features=example_features(draws, **{k: v for k, v in options.items() if k not in ("labels", "seeds")}),
        checks=[example_check()],
        folder="runs/av-digits-transformer",
    )


def example_grid(seed=0, *, rows=3, labels=LABELS, seeds=3, modalities=MODALITIES):
    """Return the documents of a grid with every row analysed."""
    draws = np.random.default_rng(seed)
    names = [f"fusion{number}" for number in range(rows)]
    inner = {
        name: example(seed + number, fusion=name, labels=labels, seeds=seeds, modalities=modalities)
        for number, name in enumerate(names)
    }
    found = []
    for name in names:
        results = inner[name].results
        found.append(
            {
                "row": name,
                "fusion": name,
                "setting": "sequence",
                "calibrate": "inputs",
                "scores": {
                    label: {
                        "clean": [share(0.9 + 0.01 * draws.normal()) for _ in range(seeds)],
                        "corruption.mean": [share(0.6 + 0.3 * SKILL.get(label, 0.5)) for _ in range(seeds)],
                    }
                    for label in labels
                },
                "comparisons": [
                    one for one in results["comparisons"] if one["condition"] in ("clean", "corruption.mean")
                ],
                "majority": 0.1,
                "alone": {one: [0.7] * seeds for one in modalities},
                "best_alone": modalities[0],
                "against_alone": {
                    label: {"difference": 0.1, "ci95": [0.05, 0.15], "p_holm": 0.001} for label in labels
                },
                "train_minutes": 3.0,
            }
        )
    grid = {
        "schema": "concordant.grid/1",
        "benchmark": "av-digits",
        "config": {**{k: v for k, v in inner[names[0]].results["config"].items() if k != "fusion"}, "method": "none"},
        **AROUND,
        "rows": found,
        "overall": found[0]["comparisons"],
    }
    return RunDocuments(name="av-digits-grid", grid=grid, rows=inner, folder="runs/av-digits-grid")


def compared_row(to, condition, difference, p_holm):
    family = family_of(to, condition)
    return {
        "of": "context",
        "to": to,
        "condition": condition,
        "family": family,
        "difference": difference,
        "p_holm": p_holm,
    }


def small_row(name, alone=True):
    return {
        "row": name,
        "fusion": name.partition("@")[0],
        "calibrate": name.partition("@")[2] or "maps",
        "scores": {
            "none": {"clean": [0.8, 0.84], "corruption.mean": [0.5, 0.52]},
            "none+perturbed": {"clean": [0.2, 0.22], "corruption.mean": [0.6, 0.6]},
            "context": {"clean": [0.81, 0.83], "corruption.mean": [0.7, 0.72]},
        },
        "comparisons": [
            compared_row("none", "clean", 0.0, 1.0),
            compared_row("none", "corruption.mean", 0.2, 0.001),
            compared_row("none+perturbed", "clean", 0.61, 0.0001),
            compared_row("none+perturbed", "corruption.mean", -0.05 if name == "sum" else 0.11, 0.02),
        ],
        "majority": 0.25,
        "alone": {"a": [0.7, 0.7], "b": [0.1, 0.1]} if alone else {},
        "best_alone": "a" if alone else None,
        "against_alone": {"none": {"difference": 0.12, "p_holm": 0.3 if name == "sum" else 0.01}} if alone else {},
        "train_minutes": 1.25,
    }


def small_grid(**options):
    return {
        "benchmark": "bench",
        "config": {
            "seeds": 2,
            "modalities": ["a", "b"],
            "protocol": "given",
            "preset": "small",
            "encoders": "small",
            "method": "none",
            "recipe": {"steps": 5},
        },
        "versions": {"torch": "2"},
        "hardware": {"cpu": "x"},
        "rows": [small_row("sum", **options), small_row("concat@pooled", **options)],
        "overall": [
            compared_row("none", "clean", 0.0, 1.0),
            compared_row("none", "corruption.mean", 0.2, 0.0004),
            compared_row("none+perturbed", "clean", 0.61, 0.0001),
            compared_row("none+perturbed", "corruption.mean", 0.03, 0.04),
        ],
    }
