"""Train a small GPT to write like Python's standard library, character by character.

    python examples/charlm.py
    python examples/charlm.py --compile --amp
    speedprof run examples/charlm.py

There is no DataLoader here: `get_batch` cuts random pieces out of one long text. The text is one
that every Python installation brings along, its own standard library: nothing is downloaded.
"""

from __future__ import annotations

import argparse
import sysconfig
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as fn


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a small GPT, character by character.")
    parser.add_argument("--text", type=Path, help="a text of your own")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--context", type=int, default=64)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--evaluate-every", type=int, default=100)
    parser.add_argument("--amp", action="store_true", help="bfloat16 autocast")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def read_text(path: Path | None, limit: int = 2_000_000) -> str:
    """Return the given text, or the start of the standard library's sources."""
    if path is not None:
        return path.read_text(encoding="utf-8")
    sources = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    text = "".join(source.read_text(encoding="utf-8", errors="ignore") for source in sources)
    return text[:limit]


class Block(nn.Module):
    """Attention, then a two-layer perceptron, each around a residual stream."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        parts = self.qkv(self.before_attention(x)).view(batch, length, 3, self.heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        seen = fn.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).reshape(batch, length, width))
        return x + self.mlp(self.before_mlp(x))


class GPT(nn.Module):
    def __init__(self, symbols: int, context: int, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.symbols, self.places = nn.Embedding(symbols, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.last = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.symbols(tokens) + self.places(places)
        return self.last(self.blocks(x)) @ self.symbols.weight.T


def get_batch(data: Tensor, options: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """Cut random pieces of text, and the same pieces one character on."""
    starts = torch.randint(len(data) - options.context - 1, (options.batch_size,))
    pieces = torch.stack([data[start : start + options.context + 1] for start in starts])
    pieces = pieces.to(options.device)
    return pieces[:, :-1], pieces[:, 1:]


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor], options: argparse.Namespace) -> Tensor:
    tokens, following = batch
    with torch.autocast(options.device, torch.bfloat16, enabled=options.amp):
        scores = model(tokens)
    return fn.cross_entropy(scores.flatten(0, 1).float(), following.flatten())


@torch.no_grad()
def evaluate(model: nn.Module, data: Tensor, options: argparse.Namespace) -> float:
    model.eval()
    losses = [loss_of(model, get_batch(data, options), options).item() for _ in range(5)]
    model.train()
    return sum(losses) / len(losses)


@torch.no_grad()
def write(model: nn.Module, text: Tensor, length: int, context: int) -> Tensor:
    """Continue the text by sampling one character after the other."""
    for _ in range(length):
        odds = model(text[None, -context:])[0, -1].softmax(0)
        text = torch.cat([text, torch.multinomial(odds, 1)])
    return text


def train(options: argparse.Namespace) -> None:
    text = read_text(options.text)
    alphabet = sorted(set(text))
    number = {symbol: index for index, symbol in enumerate(alphabet)}
    data = torch.tensor([number[symbol] for symbol in text])
    training, held_out = data[: -len(data) // 10], data[-len(data) // 10 :]

    plain = GPT(len(alphabet), options.context, options.width, options.heads, options.layers)
    plain = plain.to(options.device)
    for table in (plain.symbols, plain.places):
        nn.init.normal_(table.weight, std=0.02)
    model = torch.compile(plain) if options.compile else plain
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr)
    print(f"{len(text):,} characters, {sum(p.numel() for p in plain.parameters()):,} parameters")

    for step in range(1, options.steps + 1):
        loss = loss_of(model, get_batch(training, options), options)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % options.evaluate_every == 0:
            held = evaluate(model, held_out, options)
            print(f"step {step}: loss {loss.item():.3f}, held out {held:.3f}")

    start = torch.tensor([number["d"], number["e"], number["f"]], device=options.device)
    written = write(plain.eval(), start, 120, options.context).tolist()
    print("".join(alphabet[index] for index in written))


def main() -> None:
    options = parse()
    torch.manual_seed(options.seed)
    train(options)


if __name__ == "__main__":
    main()
