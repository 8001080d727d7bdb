from concordant.training.vectorised.groups import alike


def test_seeds_whose_batches_have_one_shape_are_together(small):
    tasks = {
        4: small.task(0, sizes=(40, 20, 12)),
        5: small.task(1, sizes=(33, 10, 12)),
        6: small.task(2, sizes=(10, 20, 12)),  # fewer than a batch
        7: small.task(3, ("steps",)),
    }
    assert alike(tasks, 16) == [[4, 5], [6], [7]]
