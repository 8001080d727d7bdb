import re

from benchmarks.page import page

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
