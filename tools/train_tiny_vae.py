"""Trains the tiny autoencoder on the built-in world and writes its weights beside the encoder that loads them.

    python tools/train_tiny_vae.py --minutes 12

Noise is added to the latents while training, so that latents a little off, as a denoiser makes them, still decode to a
clean picture, and a diffusion model finds a smooth space to work in.
"""

import argparse
import time

import numpy as np
import torch
from einops import rearrange
from safetensors.torch import save_file

from mpgen.encoders.tiny import WEIGHTS, TinyVAENetwork
from mpgen.world.families import sample_scene
from mpgen.world.render import render_scene
from mpgen.world.settings import WorldSettings


def groups_of_four(num_scenes: int, seed: int) -> torch.Tensor:
    """Frames as the network sees them, uint8 [n, 12, h, w], one still in five."""
    rng = np.random.default_rng(seed)
    families = sorted(WorldSettings().families)
    groups = []
    for i in range(num_scenes):
        settings = WorldSettings(size_px=64, seed=1_000_000 + seed)
        scene = sample_scene(settings, families[i % len(families)], 61, (seed, i))
        frames = render_scene(scene, 64)
        for start in rng.integers(0, len(frames) - 4, size=6):
            group = frames[start : start + 4]
            groups.append(np.repeat(group[:1], 4, 0) if rng.random() < 0.2 else group)
    return rearrange(torch.from_numpy(np.stack(groups)), "n f h w c -> n (c f) h w").contiguous()


def train(minutes: float, num_scenes: int, noise: float, seed: int) -> None:
    torch.manual_seed(seed)
    net = TinyVAENetwork()
    print(f"{sum(p.numel() for p in net.parameters()):,} parameters")
    pool, held_out = groups_of_four(num_scenes, seed), groups_of_four(40, seed + 1)
    print(f"{len(pool):,} groups of four frames")
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-4)
    began, step = time.monotonic(), 0
    while (done := (time.monotonic() - began) / 60 / minutes) < 1:
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1, step / 100) * 0.5 * (1 + np.cos(np.pi * done))
        x = pool[torch.randint(len(pool), (32,))]
        if torch.rand(()) < 0.5:
            x = x.flip(-1)
        if torch.rand(()) < 0.5:
            x = x.flip(-2)
        if torch.rand(()) < 0.5:
            x = x.transpose(-1, -2)
        x = x.float() / 127.5 - 1
        latents = net.encoder(x)
        # A unit-variance latent to which noise means something: the penalty keeps the encoder from growing out of it.
        scale = latents.pow(2).mean((0, 2, 3))
        level = noise * torch.rand(len(x), 1, 1, 1)
        out = net.decoder(latents + level * torch.randn_like(latents))
        error = out - x
        loss = error.abs().mean() + 2 * error.pow(2).mean() + 0.02 * (scale - 1).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        if step % 200 == 0:
            print(
                f"step {step} done {done:.0%} loss {loss.item():.4f} psnr {psnr(net, held_out, 0.0):.2f} dB", flush=True
            )
        step += 1
    with torch.no_grad():
        latents = net.encoder(pool[:2000].float() / 127.5 - 1)
        net.latent_mean.copy_(latents.mean((0, 2, 3)))
        net.latent_std.copy_(latents.std((0, 2, 3)))
    for level in (0.0, 0.1, 0.2, 0.4):
        print(f"held out, latent noise {level}: {psnr(net, held_out, level):.2f} dB")
    save_file({name: tensor.half().contiguous() for name, tensor in net.state_dict().items()}, WEIGHTS)
    print(f"wrote {WEIGHTS} ({WEIGHTS.stat().st_size / 1024:.0f} KiB)")


@torch.no_grad()
def psnr(net: TinyVAENetwork, groups: torch.Tensor, noise: float) -> float:
    x = groups.float() / 127.5 - 1
    latents = net.encoder(x)
    out = net.decoder(latents + noise * torch.randn_like(latents)).clamp(-1, 1)
    return float(10 * torch.log10(4 / (out - x).pow(2).mean()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=12.0, help="training time")
    parser.add_argument("--scenes", type=int, default=1200, help="scenes of the built-in world to draw frames from")
    parser.add_argument("--noise", type=float, default=0.3, help="largest standard deviation of the latent noise")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    train(arguments.minutes, arguments.scenes, arguments.noise, arguments.seed)
