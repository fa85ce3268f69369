"""Fork at every fourth step, the child training on: also while somebody's profiler is running."""

import os
import sys

import torch

torch.set_num_threads(1)


def train(steps, at_step=lambda step: None):
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = torch.utils.data.DataLoader([torch.full((4,), i / steps) for i in range(steps)])
    for step, batch in enumerate(loader):
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()
        at_step(step)
    return model.weight.sum().item().hex()


def fork(step):
    if step % 4:
        return
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        print("child", step, train(6), torch.autograd._profiler_enabled())
        sys.stdout.flush()
        os._exit(step)
    print("ended with", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


print("parent", train(40, fork))
