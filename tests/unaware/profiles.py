"""Use torch.profiler, with a schedule and without, while others may want it, too."""

import torch
from torch.profiler import ProfilerActivity, profile, schedule

torch.set_num_threads(1)
torch.manual_seed(0)
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
traces = []


def train(steps, after=lambda: None):
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.ones(2, 4)).square().mean().backward()
        optimizer.step()
        after()


def ready(profiler):
    names = sorted(event.key for event in profiler.key_averages())
    traces.append(
        (profiler.step_num, [name for name in names if "linear" in name or "SGD" in name])
    )


train(12)  # a window of somebody else's would be open now
with profile(
    activities=[ProfilerActivity.CPU],
    schedule=schedule(wait=1, warmup=1, active=2, repeat=2),
    on_trace_ready=ready,
) as scheduled:
    train(12, scheduled.step)
train(30)
with torch.autograd.profiler.profile() as old:
    train(2)
calls = {event.key: event.count for event in old.key_averages() if event.key == "aten::addmm"}
train(30)
print(traces, calls, any("speedprof" in event.key for event in old.key_averages()))
print(model.weight.sum().item().hex())
