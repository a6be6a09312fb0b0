"""Step 1: train a small teacher on scikit-learn's digits and save it as a diffusers pipeline in ./teacher."""

from pathlib import Path

import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from sklearn.datasets import load_digits

STEPS, BATCH = 2000, 64


def main() -> None:
    torch.manual_seed(0)
    images = torch.tensor(load_digits().images, dtype=torch.float32)[:, None] / 8.0 - 1.0
    network = UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(16, 32),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=8,
        norm_num_groups=4,
    )
    scheduler = DDPMScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", timestep_spacing="trailing"
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, betas=(0.9, 0.99), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=STEPS, pct_start=0.1)
    average = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995)
    )
    for step in range(STEPS):
        clean = images[torch.randint(len(images), (BATCH,))]
        noise, times = torch.randn_like(clean), torch.randint(1000, (BATCH,))
        prediction = network(scheduler.add_noise(clean, noise, times), times).sample
        loss = (prediction - scheduler.get_velocity(clean, noise, times)).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        average.update_parameters(network)
        if (step + 1) % 250 == 0:
            print(f"step {step + 1}/{STEPS}: loss {loss.item():.3f}", flush=True)
    folder = Path(__file__).parent / "teacher"
    DDPMPipeline(average.module, scheduler).save_pretrained(folder)
    print(f"teacher: {folder}")


if __name__ == "__main__":
    main()
