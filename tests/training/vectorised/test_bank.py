import torch

from concordant import seeding
from concordant.training.batches import endless_rows, to_tensors
from concordant.training.vectorised.bank import Bank


def test_every_seed_gets_its_own_rows_in_its_own_order(small):
    parts = [to_tensors(small.task(seed, sizes=(size, 4, 4)).train) for seed, size in enumerate((30, 21, 26))]
    bank = Bank(parts, [5, 6, 7], 8)
    orders = [endless_rows(len(p), 8, seeding.generator(s, "batches")) for p, s in zip(parts, (5, 6, 7), strict=True)]
    for turn in range(6):
        if turn == 4:
            bank.keep([0, 2])
            parts, orders = [parts[0], parts[2]], [orders[0], orders[2]]
        found = bank.next()
        for place, (part, order) in enumerate(zip(parts, orders, strict=True)):
            expected = part.take(next(order))
            assert torch.equal(found.labels[place], expected.labels)
            for name, x in expected.inputs.items():
                assert torch.equal(found.inputs[name][place], x)
            assert torch.equal(found.masks["steps"][place], expected.masks["steps"])
            assert torch.equal(found.present["vector"][place], expected.present["vector"])


def test_presence_that_one_seed_does_not_mention_is_presence_throughout(small):
    first, second = (to_tensors(small.task(seed).train) for seed in range(2))
    second.present.clear()
    found = Bank([first, second], [0, 1], 8).next()
    assert found.present["vector"][1].all()
    assert not Bank([first, second], [0, 1], 40).next().present["vector"][0].all()
