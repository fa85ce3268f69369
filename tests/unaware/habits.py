"""Do what scripts do to the process around them, while training."""

import faulthandler
import gc
import io
import os
import sys
import tempfile
import threading

import torch
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.dataloader import _BaseDataLoaderIter

torch.set_num_threads(1)


def train(steps=16):
    torch.manual_seed(0)
    data = TensorDataset(torch.randn(4 * steps, 4))
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for (batch,) in DataLoader(data, batch_size=4):
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()
    return model.weight.sum().item().hex()


def in_a_thread():
    results = []
    thread = threading.Thread(target=lambda: results.append(train()))
    thread.start()
    thread.join()
    return results


def in_two_threads_at_once():
    results = []
    threads = [threading.Thread(target=lambda: results.append(train(4))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(results)


def with_stdout_replaced():
    kept, sys.stdout = sys.stdout, io.StringIO()
    try:
        print(train())
        return sys.stdout.getvalue()
    finally:
        sys.stdout = kept


def with_next_replaced():
    asked = []
    theirs = _BaseDataLoaderIter.__next__

    def counting(self):
        asked.append(1)
        return theirs(self)

    _BaseDataLoaderIter.__next__ = counting
    try:
        return train(), len(asked)
    finally:
        _BaseDataLoaderIter.__next__ = theirs


def with_everything_frozen():
    gc.collect()
    gc.freeze()
    gc.disable()
    faulthandler.enable()
    return train(), gc.get_freeze_count() > 0


def with_a_tracer():
    seen = []
    sys.setprofile(lambda frame, event, _argument: seen.append(event) if not seen else None)
    try:
        return train(4), len(seen)
    finally:
        sys.setprofile(None)


def with_an_error_on_the_way():
    try:
        for _ in DataLoader(["a", None, "b"]):
            pass
    except TypeError as error:
        return str(error).splitlines()[0], len(error.__traceback__.tb_frame.f_code.co_name)
    return None


def in_a_folder_that_is_gone():
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
    return train()


for habit in (
    in_a_thread,
    in_two_threads_at_once,
    with_stdout_replaced,
    with_next_replaced,
    with_everything_frozen,
    with_a_tracer,
    with_an_error_on_the_way,
    in_a_folder_that_is_gone,
):
    print(habit.__name__, habit(), flush=True)
