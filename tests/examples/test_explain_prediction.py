import re

from tests.commands import example


def run(*words, check=True):
    return example("explain_prediction", *words, check=check)


def test_the_view_that_was_spoilt_is_the_one_that_is_distrusted(tmp_path):
    from PIL import Image

    out = run("--out", str(tmp_path / "pictures")).stdout
    told = out.split("\n\n")
    assert "less than usual" not in told[0]
    for words, spoilt in ((told[1], "left"), (told[2], "right")):
        found = {name: float(value) for name, value in re.findall(r"^  (\w+): reliability (\S+)", words, re.MULTILINE)}
        assert min(found, key=found.get) == spoilt
        assert found[spoilt] < 0.6
        assert re.search(rf"^  {spoilt}: reliability \S+ \(usually \S+, less than usual\)", words, re.MULTILINE)
    assert sorted(re.findall(r"picture: (.*)", out)) == sorted(str(one) for one in (tmp_path / "pictures").iterdir())
    assert re.search(r"with swapped left halves: [456]\d% without calibration, [89]\d% with", out)
    for path in (tmp_path / "pictures").iterdir():
        with Image.open(path) as picture:
            assert picture.size == (1300, 299 if path.stem == "rescued" else 728)
            assert len(picture.convert("RGB").getcolors(1 << 20)) > 100


def test_a_run_is_opened_and_a_digit_chosen(digits_run, tmp_path):
    from concordant.training.runs import open_runs

    sample = str(open_runs(digits_run).task(0, None).test.ids[5])
    out = run("--out", str(tmp_path), "--run", str(digits_run), "--sample", sample).stdout
    assert out.startswith(f"{sample}, a ")
    assert len(list(tmp_path.iterdir())) == 4


def test_a_digit_that_is_not_in_the_test_part_is_refused(digits_run):
    done = run("--run", str(digits_run), "--sample", "digit-x", check=False)
    assert done.returncode == 2
    assert re.search(r"--sample must be one of the test part, such as digit-\d+, .*; found 'digit-x'", done.stderr)
