import re

from benchmarks.page import TARGETS, Target, dearer_than_joint, page

MADE = {
    "schema": "concordant.speed/1",
    "quick": True,
    "command": "python -m benchmarks.speed --quick",
    "versions": {"concordant": "0.1.0", "torch": "2.13.0"},
    "hardware": {"processor": "a processor", "cores": 2, "accelerator": "none"},
    "skipped": [],
}


def overhead(calibrator, ratio, phase="train", fusion="lf-dnn", setting="vectors"):
    return {
        "setting": setting,
        "fusion": fusion,
        "preset": "small",
        "calibrator": calibrator,
        "phase": phase,
        "ratio": ratio,
        "ratio_low": ratio - 0.1,
        "ratio_high": ratio + 0.1,
        "milliseconds": 1.0,
    }


def rows_of(text, heading):
    """Return the cells of the first table below a heading, without its head."""
    (below,) = re.findall(rf"^{re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    lines = re.search(r"(?:^\|.*\n?)+", below, re.MULTILINE).group().splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_a_document_without_measurements_is_its_head():
    text = page(MADE)
    assert "`python -m benchmarks.speed --quick --json results/speed.json --page docs/performance.md`" in text
    assert "a processor, 2 cores, accelerator none, concordant 0.1.0, torch 2.13.0" in text
    assert "##" not in text


def test_bounds_that_are_missed_are_said_to_be():
    records = [overhead("none", 1.0), overhead("context", 1.62), overhead("joint", 1.4)]
    rows = rows_of(page({**MADE, "overhead": records}), "## What it is held to")
    assert rows == [
        ["`lf-dnn` on vectors, training step, `context` over `none`", "at most 1.5", "**missed**", "1.62"],
        [
            "training step, `context` over `joint`, at its dearest (`lf-dnn`, vectors)",
            "at most 1.1",
            "**missed**",
            "1.16",
        ],
    ]
    records = [overhead("none", 1.0, "inference"), overhead("context", 1.2, "inference")]
    rows = rows_of(page({**MADE, "overhead": records}), "## What it is held to")
    assert rows == [["`lf-dnn` on vectors, inference, `context` over `none`", "at most 1.4", "kept", "1.20"]]


def test_a_row_a_fusion_and_a_column_a_calibrator():
    records = [
        overhead("none", 1.0),
        overhead("context", 1.3),
        overhead("none", 1.0, fusion="concat", setting="audio-visual"),
        overhead("context", 1.01, fusion="concat", setting="audio-visual"),
        overhead("gmu", 1.02, fusion="concat", setting="audio-visual"),
    ]
    text = page({**MADE, "overhead": records})
    assert "| fusion | preset | inputs | context | gmu |" in text
    rows = rows_of(text, "## What a calibrator adds to a model")
    assert rows == [
        ["`lf-dnn`", "small", "vectors", "1.30", ""],
        ["`concat`", "small", "audio-visual", "1.01", "1.02"],
    ]
    assert "*vectors* of cmu-mosi-utterance (text 100, audio 73, video 100; batches of 64)" in text


def test_the_other_sections():
    bound = {"calibrator": "context", "shape": [64, 500, 512], "masked": True, "compiled": False}
    bound |= {"ratio": 1.3, "ratio_low": 1.2, "ratio_high": 1.4, "warm_ratio": 1.5}
    grown = {"axis": "steps", "values": [10, 10_000], "fixed": {"modalities": 3}, "calibrator": "context"}
    grown |= {"phase": "train", "ratio": [1, 57.4], "exponent": 0.946, "peak_over_features": [6.4, 4.3]}
    peak = {"setting": "vectors", "fusion": "lf-dnn", "preset": "small", "calibrator": "context", "phase": "train"}
    many = {"benchmark": "b", "fusion": "lf-dnn", "modalities": ["x", "y"], "calibrator": "context"}
    many |= {"seeds": 10, "steps": 700}
    many |= {"speedup": 4.2, "chosen": True}
    route = {"fusion": "lf-dnn", "instances": 512, "route": "read ahead", "ratio": 1.05, "loading_share": 0.005}
    text = page(
        {
            **MADE,
            "bandwidth_bound": [bound],
            "remark": "Measured by itself.",
            "remark_of_all": "Of all.",
            "vectorised_seeds": [many],
            "epoch": [route],
            "operators": [{**peak, "operators": 175, "ratio": 2.734}],
            "memory": [{**peak, "peak_mebibytes": 1.789, "ratio": 2.168}],
            "growth": [grown],
            "rows": [{"rows": [1_000, 100_000], "setting": "vectors", "ratio": [1.0, 1.078]}],
            "skipped": ["vectorised_seeds of utd-mhad (utd_mhad.npz is expected in x, and is not)"],
        }
    )
    assert "Measured by itself.\n" in text
    assert text.index("Of all.\n") < text.index("## ")
    assert rows_of(text, "## The calibrator alone, against memory") == [
        ["(64, 500, 512)", "yes", "", "1.30 (1.20 to 1.40)", "1.50"]
    ]
    seeds = ["b", "`lf-dnn`", "x, y", "context", "10", "700", "4.20", "yes"]
    assert rows_of(text, "## Many seeds at once") == [seeds]
    assert rows_of(text, "## Loading") == [["read ahead", "1.05", "0.5%"]]
    assert rows_of(text, "## Operators") == [["`lf-dnn`", "vectors", "train", "context", "175", "2.73"]]
    assert rows_of(text, "## Peaks of memory") == [["`lf-dnn`", "vectors", "train", "context", "1.79", "2.17"]]
    assert "Steps (3 modalities):" in text
    assert rows_of(text, "## Growth") == [["context", "train", "1.00", "57.40", "0.95", "6.40"]]
    assert "| 1,000 rows | 100,000 rows |" in text
    assert "Not measured: vectorised_seeds of utd-mhad (utd_mhad.npz is expected in x, and is not)." in text


def test_what_was_compiled_stands_beside_both_bases():
    spreads = {"compiled": 1.4, "compiled_low": 1.3, "compiled_high": 1.5}
    spreads |= {name.replace("compiled", "compiled_over_none"): value + 0.6 for name, value in spreads.items()}
    records = [overhead("none", 1.0, "inference"), {**overhead("context", 2.6, "inference"), **spreads}]
    text = page({**MADE, "overhead": records})
    assert "| `lf-dnn` | small | vectors | context | 1.40 (1.30 to 1.50) | 2.00 (1.90 to 2.10) |" in text
    assert "compiled as a whole" not in page({**MADE, "overhead": records[:1]})


def test_whole_steps_stand_beside_their_bounds():
    steps = [
        {"fusion": "mult", "setting": "unaligned", "calibrator": "context", "limit": 1.08, "ratio": ratio}
        for ratio in (1.05, 1.1)
    ]
    steps.append({**steps[0], "calibrator": "context, compiled", "limit": None})
    assert rows_of(page({**MADE, "whole_step": steps}), "## Whole training steps") == [
        ["`mult`", "unaligned", "context", "at most 1.08", "1.05"],
        ["`mult`", "unaligned", "context", "**at most 1.08**", "1.10"],
        ["`mult`", "unaligned", "context, compiled", "", "1.05"],
    ]


GPU = {
    "schema": "concordant.speed/1",
    "quick": False,
    "device": "cuda",
    "command": "python -m benchmarks.speed --device cuda",
    "versions": {"torch": "2.11.0"},
    "hardware": {"processor": "a processor", "cores": 16, "accelerator": "a GPU"},
    "skipped": ["one thing"],
    "remark": "As it was.",
    "vectorised_seeds": [
        {
            "benchmark": "digits",
            "fusion": "lf-dnn",
            "modalities": ["upper", "lower"],
            "calibrator": "context",
            "seeds": 10,
            "steps": 60,
            "speedup": 12.5,
            "chosen": True,
            "loss_apart": apart,
            "score_apart": 0.0,
        }
        for apart in (0.5, 0.25)
    ],
    "bandwidth_bound": [
        {
            "shape": [2, 3, 4],
            "masked": False,
            "compiled": compiled,
            "mode": mode,
            "ratio": 2.0,
            "ratio_low": 1.9,
            "ratio_high": 2.1,
            "bound_milliseconds": 0.5,
        }
        for compiled, mode in ((False, None), (True, None), (True, "reduce-overhead"))
    ],
}


def test_a_page_of_a_gpu_says_how_it_was_timed():
    text = page(GPU)
    assert text.startswith("# Performance on a GPU\n")
    assert (
        "`python -m benchmarks.speed --device cuda --json results/speed-gpu.json --page docs/performance-gpu.md`"
        in text
    )
    assert "a processor, 16 cores, accelerator a GPU, torch 2.11.0" in text
    assert "| (2, 3, 4) |  | eager | 2.00 (1.90 to 2.10) | 0.50 |" in text
    assert "| (2, 3, 4) |  | compiled | 2.00 (1.90 to 2.10) | 0.50 |" in text
    assert "| (2, 3, 4) |  | compiled, reduce-overhead | 2.00 (1.90 to 2.10) | 0.50 |" in text
    assert "| digits | `lf-dnn` | upper, lower | context | 10 | 60 | 12.50 | yes |" in text
    assert "mean losses differed by 0.5 at most, validation scores by 0." in text
    assert "As it was." in text
    assert text.endswith("Not measured: one thing.\n")
    assert "What it is held to" not in text  # those bounds are of a CPU


def test_what_was_not_measured_has_no_section():
    bare = {name: value for name, value in GPU.items() if name not in ("vectorised_seeds", "bandwidth_bound", "remark")}
    assert "##" not in page(bare)


def test_a_target_reads_the_records_that_it_is_for():
    target = Target("x", "overhead", {"fusion": "mult", "phase": "train"}, 1.08)
    document = {
        "overhead": [
            {"fusion": "mult", "phase": "train", "ratio": 1.07},
            {"fusion": "mult", "phase": "inference", "ratio": 3.0},
            {"fusion": "concat", "phase": "train", "ratio": 2.0},
        ]
    }
    assert target.measured(document) == [1.07]
    assert target.kept(1.08)
    assert not target.kept(1.081)
    assert target.measured({}) == []


def test_a_target_from_below():
    target = Target("x", "vectorised_seeds", {}, 4.0, field="speedup", at_least=True)
    assert target.measured({"vectorised_seeds": [{"speedup": 4.5}]}) == [4.5]
    assert target.kept(4.0)
    assert not target.kept(3.9)


def test_the_bounds_are_those_promised():
    limits = {(t.section, t.where.get("fusion"), t.where.get("phase")): t.limit for t in TARGETS}
    assert limits["overhead", "concat", "train"] == 1.05
    assert limits["overhead", "concat", "inference"] == 1.03
    assert limits["overhead", "mult", "train"] == 1.08
    assert limits["overhead", "mult", "inference"] == 1.05
    assert limits["overhead", "lf-dnn", "train"] == 1.5
    assert limits["overhead", "lf-dnn", "inference"] == 1.4
    assert limits["bandwidth_bound", None, None] == 1.5
    assert limits["vectorised_seeds", "lf-dnn", None] == 4
    assert limits["vectorised_seeds", "transformer", None] == 2.5


def test_context_is_compared_with_joint_in_the_same_place():
    base = {"setting": "vectors", "fusion": "lf-dnn", "preset": "small", "phase": "train"}
    records = [
        {**base, "calibrator": "context", "ratio": 1.4},
        {**base, "calibrator": "joint", "ratio": 1.25},
        {**base, "phase": "inference", "calibrator": "context", "ratio": 1.1},
    ]
    assert dearer_than_joint({"overhead": records}) == [{**base, "ratio": 1.12}]
    assert dearer_than_joint({}) == []
