import pytest

from concord.sweep.trial import perform


class Here:
    """Does trials in this process, one after the other: what a sweep does but for Ray."""

    local = True

    def __init__(self, outcomes=None, lacking=None, stop_after=None):
        self.outcomes = outcomes or {}  # name -> what becomes of it, without doing it
        self.lacking = lacking
        self.stop_after = stop_after
        self.done = []

    def __call__(self):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *about):
        pass

    def shortage(self, resources):
        return self.lacking

    def run(self, trials, *, resources, retries, done, lost):
        waiting = list(trials)
        while waiting:
            if len(self.done) == self.stop_after:
                raise KeyboardInterrupt
            trial = waiting.pop(0)
            outcome = self.outcomes.get(trial.name) or perform(trial)
            self.done.append(trial.name)
            waiting += done(trial, {**outcome, "attempts": 1})


@pytest.fixture
def here():
    """The class of an engine that needs no Ray."""
    return Here


@pytest.fixture
def grid_file(tmp_path):
    """A function that writes a grid file."""

    def write(text, name="grid.yaml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write
