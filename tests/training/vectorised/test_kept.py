from concordant.training.vectorised.kept import Kept


def test_the_latest_state_within_one_standard_error_of_the_best_is_kept():
    kept, states = Kept(), iter(range(10))
    stale = []
    for step, score in enumerate([0.5, 0.9, 0.89, 0.8, 0.88, 0.1], start=1):
        kept.offer(score, 0.02, step, lambda: {"taken": next(states)})
        stale.append(kept.stale)
    assert stale == [0, 0, 0, 1, 0, 1]
    assert (kept.step, kept.best, kept.state) == (5, 0.9, {"taken": 3})
