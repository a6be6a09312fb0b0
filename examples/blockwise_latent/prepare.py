"""Step 1: two small latent teachers on real digits: a VQ one without text (LDMPipeline), and a KL one that reads text.

Writes the enlarged digits to ./teachers/digits16.npz and the pipelines to ./teachers/latent and ./teachers/text.
"""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, LDMPipeline, UNet2DConditionModel, UNet2DModel, VQModel
from sklearn.datasets import load_digits
from torch import Tensor, nn

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
PROMPTS = [f"the digit {word}" for word in WORDS]
SCHEDULER = DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, timestep_spacing="trailing")
STEPS, BATCH = 1000, 32


def digits() -> tuple[Tensor, Tensor]:
    """Scikit-learn's digits enlarged to 16x16 in [-1, 1], and their classes."""
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32)[:, None] / 8.0 - 1.0
    return nn.functional.interpolate(images, scale_factor=2, mode="bilinear"), torch.tensor(data.target)


def fit(parameters: list[nn.Parameter], loss_of: Callable[[], Tensor], name: str) -> None:
    optimizer = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=0.0)
    for step in range(STEPS):
        loss = loss_of()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if (step + 1) % max(1, STEPS // 4) == 0:
            print(f"{name} {step + 1}/{STEPS}: loss {loss.item():.4f}", flush=True)


def autoencoders(images: Tensor) -> tuple[VQModel, AutoencoderKL]:
    """Both halve the side and make four latent channels; scaled to unit variance."""
    sizes = {"in_channels": 1, "out_channels": 1, "latent_channels": 4, "norm_num_groups": 4}
    sizes |= {"block_out_channels": (8, 16), "layers_per_block": 1}
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    vq = VQModel(**sizes, **blocks, num_vq_embeddings=64)
    kl = AutoencoderKL(**sizes, **blocks, sample_size=16)

    def picked() -> Tensor:
        return images[torch.randint(len(images), (BATCH,))]

    def vq_loss() -> Tensor:
        clean = picked()
        made = vq(clean)
        return (made.sample - clean).square().mean() + made.commit_loss.mean()

    def kl_loss() -> Tensor:
        clean = picked()
        posterior = kl.encode(clean).latent_dist
        return (kl.decode(posterior.sample()).sample - clean).square().mean() + 1e-4 * posterior.kl().mean()

    fit(list(vq.parameters()), vq_loss, "vq")
    fit(list(kl.parameters()), kl_loss, "kl")
    with torch.no_grad():
        vq.register_to_config(scaling_factor=float(1 / vq.encode(images[:256]).latents.std()))
        kl.register_to_config(scaling_factor=float(1 / kl.encode(images[:256]).latent_dist.mode().std()))
    return vq.eval(), kl.eval()


def noise_loss(network: nn.Module, clean: Tensor, **condition: Tensor) -> Tensor:
    noise, times = torch.randn_like(clean), torch.randint(1000, (len(clean),))
    noised = SCHEDULER.add_noise(clean, noise, times)
    return (network(noised, times, **condition).sample - noise).square().mean()


def save_text(folder: Path, **parts: nn.Module) -> None:
    """Save the parts, with the code of those that diffusers does not have."""
    shutil.rmtree(folder, ignore_errors=True)
    index = {"_class_name": ["pipeline", "WordsToImage"], "_diffusers_version": "0.38.0"}
    for name, part in parts.items():
        part.save_pretrained(folder / name)
        own = name == "text_encoder"
        index[name] = ["words" if own else "diffusers", type(part).__name__]
    shutil.copy(HERE / "words.py", folder / "text_encoder" / "words.py")
    shutil.copy(HERE / "pipeline.py", folder / "pipeline.py")
    SCHEDULER.save_pretrained(folder / "scheduler")
    index["scheduler"] = ["diffusers", type(SCHEDULER).__name__]
    (folder / "model_index.json").write_text(json.dumps(index, indent=2))


def main() -> None:
    from words import WordEncoder

    torch.manual_seed(0)
    folder = HERE / "teachers"
    images, labels = digits()
    folder.mkdir(parents=True, exist_ok=True)
    pixels = ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    np.savez(folder / "digits16.npz", images=pixels.permute(0, 2, 3, 1).numpy(), labels=labels.numpy())
    vq, kl = autoencoders(images)
    with torch.no_grad():
        vq_latents = vq.encode(images).latents * vq.config.scaling_factor
        kl_latents = kl.encode(images).latent_dist.mode() * kl.config.scaling_factor
    sizes = {
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (16, 32),
        "norm_num_groups": 4,
    }
    plain = UNet2DModel(
        **sizes,
        layers_per_block=1,
        attention_head_dim=8,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )
    reading = UNet2DConditionModel(
        **sizes,
        layers_per_block=1,
        attention_head_dim=2,
        cross_attention_dim=16,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )
    words = WordEncoder(["the", "digit", *WORDS])

    def plain_loss() -> Tensor:
        return noise_loss(plain, vq_latents[torch.randint(len(images), (BATCH,))])

    def reading_loss() -> Tensor:
        chosen = torch.randint(len(images), (BATCH,))
        texts = words([PROMPTS[int(label)] for label in labels[chosen]])
        return noise_loss(reading, kl_latents[chosen], encoder_hidden_states=texts)

    fit(list(plain.parameters()), plain_loss, "unconditional UNet")
    fit([*reading.parameters(), *words.parameters()], reading_loss, "text-conditioned UNet")
    LDMPipeline(vqvae=vq, unet=plain.eval(), scheduler=SCHEDULER).save_pretrained(folder / "latent")
    save_text(folder / "text", vae=kl, text_encoder=words, unet=reading.eval())
    print(f"teachers: {folder}")


if __name__ == "__main__":
    main()
