"""A GAN: 60 batches, for each of them an update of the critic and one of the generator."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

loader = DataLoader(TensorDataset(torch.randn(8 * 60, 16)), batch_size=8)
generator, critic = nn.Linear(4, 16), nn.Linear(16, 1)
of_generator = torch.optim.Adam(generator.parameters())
of_critic = torch.optim.Adam(critic.parameters())
for (real,) in loader:
    fake = generator(torch.randn(8, 4))
    of_critic.zero_grad()
    (critic(fake.detach()).mean() - critic(real).mean()).backward()
    of_critic.step()
    of_generator.zero_grad()
    (-critic(fake).mean()).backward()
    of_generator.step()
