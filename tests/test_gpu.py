"""What a GPU must show: the same results as on the CPU, compiled or not, and every command on it."""

import json
import re

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from concordant import Perturbation, attach, fit_plugin
from concordant.cli.main import app
from concordant.errors import ConcordantError
from concordant.rivals import CALIBRATORS

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="PyTorch sees no CUDA device here, or CONCORDANT_TEST_GPU is not 1"
)
SHAPES = {"one": (8, 40, 6), "two": (8, 6, 7, 9), "three": (8, 6)}
LAYOUTS = {"one": "btd", "two": "bchw", "three": "bd"}
NAMES = sorted(name for name in CALIBRATORS if not CALIBRATORS[name].fused)


def build(name, *, train=False, **options):
    torch.manual_seed(0)
    module = CALIBRATORS[name].build(dict.fromkeys(SHAPES, 6), layouts=LAYOUTS, **options).train(train)
    draws = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        parameter.data.add_(0.2 * torch.randn(parameter.shape, generator=draws))
    return module


def inputs():
    draws = torch.Generator().manual_seed(0)
    features = {name: torch.randn(shape, generator=draws) for name, shape in SHAPES.items()}
    masks = {"one": torch.arange(40) < torch.randint(1, 41, (8, 1), generator=draws)}
    return features, masks


def there(values):
    return {name: value.cuda() for name, value in values.items()}


@pytest.mark.parametrize("name", NAMES)
def test_a_gpu_gives_what_the_cpu_gives(name):
    module = build(name, **({"classes": 4} if CALIBRATORS[name].classes else {}))
    features, masks = inputs()
    here = module(features, masks)
    gpu = module.cuda()(there(features), there(masks))
    torch.testing.assert_close(gpu.reliability.cpu(), here.reliability, rtol=1e-4, atol=1e-5)
    for key, x in here.features.items():
        torch.testing.assert_close(gpu.features[key].cpu(), x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_of_training_has_gradients_and_a_finite_loss(name):
    module = build(name, train=True, **({"classes": 4} if CALIBRATORS[name].classes else {})).cuda()
    features, masks = (there(values) for values in inputs())
    leaves = {key: x.requires_grad_() for key, x in features.items()}
    draws = torch.Generator(device="cuda").manual_seed(0)
    out = module(leaves, masks, labels=torch.arange(8, device="cuda") % 4, generator=draws)
    loss = sum(x.square().sum() for x in out.features.values()) + out.auxiliary_loss
    loss.backward()
    assert loss.isfinite()
    assert all(leaf.grad.isfinite().all() for leaf in leaves.values())


@pytest.mark.parametrize("mode", [None, "reduce-overhead"])
def test_a_compiled_calibrator_is_the_same_and_refuses_nan(mode):
    module = build("context").cuda()
    features, masks = (there(values) for values in inputs())
    compiled = torch.compile(module, mode=mode)
    with torch.inference_mode():
        expected = module(features, masks)
        for _ in range(3):
            found = compiled(features, masks)
            torch.testing.assert_close(found.reliability, expected.reliability, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(found.features["one"], expected.features["one"], rtol=1e-4, atol=1e-4)
        features["two"][3, 1, 2, 2] = float("nan")
        with pytest.raises(ConcordantError, match=re.escape("'two' (1 of 8)")):
            compiled(features, masks)
    torch.compiler.reset()


def test_a_compiled_step_of_training_learns():
    module = build("context", train=True, classes=4).cuda()
    features, masks = (there(values) for values in inputs())
    labels = torch.arange(8, device="cuda") % 4
    perturbed = torch.zeros(8, 3, dtype=torch.bool, device="cuda")
    perturbed[2, 0] = True
    losses = []
    for run in (module, torch.compile(module)):
        torch.manual_seed(0)
        module.zero_grad()
        leaves = {key: x.clone().requires_grad_() for key, x in features.items()}
        out = run(leaves, masks, labels=labels, perturbed=perturbed)
        loss = sum(x.square().sum() for x in out.features.values()) + out.auxiliary_loss
        loss.backward()
        assert all(leaf.grad.isfinite().all() for leaf in leaves.values())
        losses.append(loss.item())
    torch.compiler.reset()
    assert abs(losses[0] - losses[1]) < 0.2 * abs(losses[0])  # dropout differs


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_short_numbers_stay_short(dtype):
    module = build("context").cuda()
    features, masks = (there(values) for values in inputs())
    short = {name: x.to(dtype) for name, x in features.items()}
    out = module(short, masks)
    assert all(x.dtype == dtype for x in out.features.values())
    exact = module({name: x.float() for name, x in short.items()}, masks)
    torch.testing.assert_close(out.reliability, exact.reliability, rtol=1e-3, atol=1e-3)
    with torch.autocast("cuda", dtype=dtype):
        again = module(features, masks)
    assert again.reliability.dtype == torch.float32


def test_perturbations_repeat_with_their_generator():
    module = build("context", train=True, perturbation=Perturbation()).cuda()
    features, masks = (there(values) for values in inputs())
    outs = []
    for _ in range(2):
        torch.manual_seed(0)
        outs.append(module(features, masks, generator=torch.Generator(device="cuda").manual_seed(3)))
    assert torch.equal(outs[0].perturbed, outs[1].perturbed)
    assert bool(outs[0].perturbed.any())


class _Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.text, self.audio = nn.Linear(10, 8), nn.Linear(12, 8)
        self.head = nn.Linear(16, 3)

    def forward(self, text, audio):
        return self.head(torch.cat([self.text(text).relu(), self.audio(audio).relu()], 1))


def _batches(count):
    draws = torch.Generator().manual_seed(0)
    for _ in range(count):
        labels = torch.randint(3, (16,), generator=draws)
        shift = labels.unsqueeze(1).float()
        yield (torch.randn(16, 10, generator=draws) + shift, torch.randn(16, 12, generator=draws) - shift), labels


def test_a_plugin_is_attached_and_trained_on_the_gpu():
    model = _Two().cuda()
    attached = attach(model, {"text": "text", "audio": "audio"}, example=tuple(x.cuda() for x in next(_batches(1))[0]))
    assert next(attached.parameters()).is_cuda
    again = _Two()
    fitted = fit_plugin(
        again,
        list(_batches(8)),
        {"text": "text", "audio": "audio"},
        steps=20,
        validation=list(_batches(2)),
        device="cuda",
    )
    (text, audio), _ = next(_batches(1))
    assert fitted(text.cuda(), audio.cuda()).isfinite().all()


WORDS = ["run", "digits", "--calibrators", "none,context", "--seeds", "2", "--steps", "60", "--jobs", "1", "--out"]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_a_whole_experiment_runs_on_the_gpu(tmp_path, precision):
    done = CliRunner().invoke(app, [*WORDS, str(tmp_path / "r"), "--precision", precision])
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "r" / "results.json").read_text())
    assert found["hardware"]["accelerator"].startswith("NVIDIA")


def test_seeds_share_a_pass_on_the_gpu(tmp_path):
    words = ["run", "digits", "--fusion", "lf-dnn", "--calibrators", "none,context", "--seeds", "3", "--steps", "60"]
    done = CliRunner().invoke(app, [*words, "--vectorise", "on", "--out", str(tmp_path / "r")])
    assert done.exit_code == 0, done.output
    assert "3 seeds in one vectorised pass" in done.output
    runs = json.loads((tmp_path / "r" / "results.json").read_text())["runs"]
    assert {run["vectorised"] for run in runs} == {3}
    assert min(run["clean"]["accuracy"] for run in runs) > 0.5


def test_a_run_on_the_gpu_is_as_good_as_on_the_cpu(tmp_path):
    scores = []
    for kind in ("cpu", "cuda"):
        words = [*WORDS, str(tmp_path / kind), "--accelerator", kind]
        assert CliRunner().invoke(app, words).exit_code == 0
        runs = json.loads((tmp_path / kind / "results.json").read_text())["runs"]
        scores.append({(run["calibrator"], run["seed"]): run["clean"]["accuracy"] for run in runs})
    assert scores[0].keys() == scores[1].keys()
    for key, score in scores[0].items():
        assert abs(score - scores[1][key]) < 0.1


def test_speed_is_measured_on_the_gpu(tmp_path):
    path = tmp_path / "speed.json"
    done = CliRunner().invoke(app, ["speed", "--quick", "--device", "cuda", "--json", str(path)])
    assert done.exit_code == 0, done.output
    found = json.loads(path.read_text())
    assert found["device"] == "cuda"
    assert {r["device"] for r in found["bandwidth_bound"]} == {"cuda"}
    assert {r["calibrator"] for r in found["overhead"]} >= {"none", "joint", "context"}
