from benchmarks.page import page

MADE = {
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
    text = page(MADE)
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
    assert "a mean loss was 0.5 apart at the most, and a validation score 0." in text
    assert "As it was." in text
    assert text.endswith("Not measured: one thing.\n")
    assert "What it is held to" not in text  # those bounds are of a CPU


def test_what_was_not_measured_has_no_section():
    bare = {
        name: value for name, value in MADE.items() if name not in ("vectorised_seeds", "bandwidth_bound", "remark")
    }
    assert "##" not in page(bare)
