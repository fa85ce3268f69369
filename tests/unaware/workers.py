"""Start processes in every way, with classes of the main module."""

import multiprocessing
import os
import pickle
import subprocess
import sys

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

BATCHES = 6


class Slotted(Dataset):
    __slots__ = ("length",)

    def __init__(self, length):
        self.length = length

    def __getstate__(self):
        return self.length

    def __setstate__(self, length):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return torch.full((4,), float(index))


class Endless(IterableDataset):
    def __iter__(self):
        info = get_worker_info()
        start = info.id if info else 0
        while True:
            yield torch.full((4,), float(start))
            start += 2


class Mine(DataLoader):
    """A loader that goes its own way."""

    def __iter__(self):
        for batch in super().__iter__():
            yield batch * 2


class Result:
    def __init__(self, value):
        self.value = value


def square(value):
    return Result(value * value)


def say(queue, value):
    import __main__

    queue.put((__name__ != "__main__", os.path.basename(__main__.__file__), value))


def initialise(worker):
    assert get_worker_info().id == worker
    torch.manual_seed(worker)


def collate(samples):
    return torch.stack(samples)


def train(batches):
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    for _, batch in zip(range(BATCHES), batches, strict=False):
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()
    return model.weight.sum().item().hex()


def by_hand():
    for index in range(BATCHES):
        yield torch.full((2, 4), float(index))


def main():
    torch.set_num_threads(1)
    for method in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        with context.Pool(1) as pool:
            print(method, [result.value for result in pool.map(square, range(4))])
        queue = context.SimpleQueue()
        process = context.Process(target=say, args=(queue, method))
        process.start()
        print(queue.get())
        process.join()
        print(process.exitcode)
    common = {"batch_size": 2, "collate_fn": collate, "worker_init_fn": initialise}
    data = Slotted(2 * BATCHES)
    print("none", train(DataLoader(data, batch_size=2)))
    print("fork", train(DataLoader(data, num_workers=2, **common)))
    print(
        "spawn", train(DataLoader(data, num_workers=1, multiprocessing_context="spawn", **common))
    )
    print("iterable", train(DataLoader(Endless(), num_workers=2, **common)))
    print("subclass", train(Mine(data, num_workers=1, **common)))
    print("generator", train(by_hand()))
    again = DataLoader(data, num_workers=1, persistent_workers=True, **common)
    print("persistent", train(again), train(again))
    nested = (batch for batch in iter(again))
    print("nested", train(nested))
    print("pickled", len(pickle.loads(pickle.dumps(DataLoader(data, batch_size=3)))))
    print(subprocess.check_output([sys.executable, "-c", "print('child')"]))
    print([type(result).__module__ for result in [square(1)]], DataLoader.__init__.__name__)


if __name__ == "__main__":
    main()
