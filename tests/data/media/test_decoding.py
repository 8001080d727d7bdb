import errno
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from concordant.data.media.decoding import Clip, decode
from concordant.errors import DataError

SOURCE = Path(__file__).parents[3] / "src"


def make(folder, count=6):
    clips = []
    for number in range(count):
        file = folder / f"{number}.txt"
        file.write_text(str(number))
        clips.append(Clip(f"clip {number}", (file,), (("times", 2),)))
    return clips


class Counting:
    """Reads a number; says in a file that it was asked."""

    def __init__(self, broken=()):
        self.broken, self.asked = broken, []

    def __call__(self, clip):
        self.asked.append(clip.id)
        value = int(clip.files[0].read_text())
        if value in self.broken:
            raise DataError(f"{clip.files[0].name} is broken")
        return {"value": np.full(3, value * dict(clip.options)["times"])}


def run(clips, work, cache, **options):
    return list(decode(clips, work, cache=cache, parameters={"a": 1}, **options))


def test_clips_come_in_order_and_broken_ones_with_their_reason(tmp_path):
    clips = make(tmp_path)
    seen = []
    note = lambda done, total, name: seen.append((done, total))  # noqa: E731
    found = run(clips, Counting({2}), tmp_path / "cache", may_fail=0.5, progress=note)
    assert [clip.id for clip, _, _ in found] == [clip.id for clip in clips]
    assert [None if arrays is None else arrays["value"][0] for _, arrays, _ in found] == [0, 2, None, 6, 8, 10]
    assert [reason for _, _, reason in found if reason is not None] == ["2.txt is broken"]
    assert seen == [(k + 1, 6) for k in range(6)]


def test_a_run_that_was_stopped_goes_on_where_it_was(tmp_path):
    clips = make(tmp_path)
    work = Counting()
    started = decode(clips, work, cache=tmp_path / "cache", parameters={"a": 1})
    for _ in range(3):
        next(started)
    started.close()
    again = Counting()
    assert [arrays["value"][0] for _, arrays, _ in run(clips, again, tmp_path / "cache")] == [0, 2, 4, 6, 8, 10]
    assert work.asked == [f"clip {k}" for k in range(3)]
    assert again.asked == [f"clip {k}" for k in range(3, 6)]


def test_other_parameters_and_changed_files_are_decoded_anew(tmp_path):
    clips = make(tmp_path, 2)
    run(clips, Counting(), tmp_path / "cache")
    other = Counting()
    list(decode(clips, other, cache=tmp_path / "cache", parameters={"a": 2}))
    assert len(other.asked) == 2
    (tmp_path / "1.txt").write_text("77")
    changed = Counting()
    assert [arrays["value"][0] for _, arrays, _ in run(clips, changed, tmp_path / "cache")] == [0, 154]
    assert changed.asked == ["clip 1"]


def test_more_failures_than_may_be_end_it(tmp_path):
    clips = make(tmp_path)
    with pytest.raises(
        DataError,
        match=r"2 of 6 clips could not be decoded, more than the 20 % that may fail; "
        r"first: clip 1 \(1\.txt is broken\); --may-fail allows more",
    ):
        run(clips, Counting({1, 4}), tmp_path / "cache", may_fail=0.2)
    clips[3].files[0].unlink()
    (*_, (_, _, reason), _, _) = run(clips, Counting(), tmp_path / "cache", may_fail=0.2)
    assert reason.endswith("3.txt is not there")


def test_a_cache_file_that_is_damaged_is_removed(tmp_path):
    clips = make(tmp_path, 1)
    run(clips, Counting(), tmp_path / "cache")
    (file,) = (tmp_path / "cache").iterdir()
    file.write_bytes(b"x")
    ((_, _, reason),) = run(clips, Counting(), tmp_path / "cache", may_fail=1)
    assert "its file in the cache cannot be read" in reason
    assert run(clips, Counting(), tmp_path / "cache")[0][1]["value"][0] == 0


def test_processes_give_the_same_and_one_that_dies_takes_one_clip_along(tmp_path):
    make(tmp_path, 8)
    (tmp_path / "work.py").write_text(
        textwrap.dedent("""
        import os, sys
        from pathlib import Path
        import numpy as np
        from concordant.data.media.decoding import Clip, decode

        def work(clip):
            value = int(clip.files[0].read_text())
            if value == 5:
                os._exit(1)
            return {"value": np.array([value])}

        if __name__ == "__main__":
            clips = [Clip(f"c{k}", (Path(f"{k}.txt"),)) for k in range(8)]
            for clip, arrays, reason in decode(
                clips, work, cache=Path("cache"), parameters={}, processes=2, may_fail=0.5
            ):
                print(clip.id, None if arrays is None else arrays["value"].tolist(), reason)
        """)
    )
    done = subprocess.run(
        [sys.executable, "work.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    wanted = [f"c{k} [{k}] None" for k in range(8)]
    wanted[5] = "c5 None the process that decoded it died (a broken codec, or out of memory)"
    assert done.stdout.splitlines() == wanted


class Failing(Counting):
    """Meets a fault of the machine or of a clip."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def __call__(self, clip):
        raise self.error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), None),
        (OSError(errno.EMFILE, "Too many open files"), None),
        (OSError(errno.EINVAL, "Invalid argument"), "Invalid argument"),
        (ValueError("odd\nfault"), "odd fault"),
    ],
)
def test_a_fault_of_the_machine_is_not_a_fault_of_the_clip(error, reason, tmp_path):
    clips = make(tmp_path, 1)
    if reason is None:
        with pytest.raises(OSError, match=error.strerror):
            run(clips, Failing(error), tmp_path / "cache", may_fail=1)
    else:
        ((_, arrays, found),) = run(clips, Failing(error), tmp_path / "cache", may_fail=1)
        assert arrays is None
        assert reason in found
        assert "\n" not in found


def test_a_cache_that_cannot_be_written_ends_it(tmp_path, monkeypatch):
    def full(path, **arrays):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left on device"):
        run(make(tmp_path, 1), Counting(), tmp_path / "cache", may_fail=1)
