import ctypes
import subprocess
import sys

import pytest

from concordant.robustness import heap

# What is kept of answers is cut out of the holes that blocks just below glibc's 32 MiB leave.
SCRIPT = """
import numpy as np, pyarrow as pa, torch
from concordant.robustness import predict as asking
x = np.ones((300, 400, 64), np.float32)
part = asking.Split({"x": x}, np.zeros(300, np.int64), np.arange(300).astype(str), None, {}, {})
layer = torch.nn.Linear(64, 64)
def model(features):
    scaled = features["x"] * torch.sigmoid(features["x"].mean(1)).unsqueeze(1)
    return torch.relu(layer(scaled)).mean(1)
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20
kept, seen = [], []
for _ in range(16):
    answer = asking.ask(model, part)
    ids = pa.array(part.ids.tolist())
    kept.append(pa.table({"id": ids, "first": answer.logits[:, 0].copy(), "said": answer.predictions()}))
    seen.append(resident())
print(seen[-1] - seen[2])
"""


def glibc():
    try:
        return hasattr(ctypes.CDLL(None), "malloc_trim") and sys.platform == "linux"
    except (OSError, TypeError):
        return False


@pytest.mark.skipif(not glibc(), reason="another C library than glibc")
def test_asking_many_times_takes_no_more_memory():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, check=True)
    assert float(done.stdout) < 100  # MiB


@pytest.mark.parametrize("error", [OSError, TypeError, AttributeError])
def test_another_c_library_is_left_alone(monkeypatch, error):
    def refuse(_):
        raise error

    heap._trim.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", refuse)
    heap.give_back()
    assert heap._trim() is None
    heap._trim.cache_clear()
