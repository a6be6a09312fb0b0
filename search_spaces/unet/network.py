"""The denoising UNet: a plain module built from a plan, with the module names of diffusers' ``UNet2DModel``."""

from __future__ import annotations

import torch
from diffusers.models.embeddings import Timesteps
from torch import nn

from .layers import PlannedBlock
from .plan import UNetConfig, plan_of


class UNetBlock(nn.Module):
    """A level on one side of the network, or its middle."""

    def __init__(self, block: PlannedBlock) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(layer.build() for layer in block.residuals)
        if block.attentions:
            self.attentions = nn.ModuleList(layer.build() for layer in block.attentions)
        if block.resampling is not None:
            resampling = nn.ModuleList([block.resampling.build()])
            if block.resampling.down:
                self.downsamplers = resampling
            else:
                self.upsamplers = resampling
        self._attends = bool(block.attentions)
        self._resamples = block.resampling is not None
        self._skips = block.skips

    def down(self, features: torch.Tensor, time: torch.Tensor, skips: list[torch.Tensor]) -> torch.Tensor:
        """Go through the level; push what the way up will need on ``skips``."""
        for index, residual in enumerate(self.resnets):
            features = residual(features, time)
            if self._attends:
                features = self.attentions[index](features)
            if self._skips == "all":
                skips.append(features)
        if self._skips != "all":
            skips.append(features)
        if self._resamples:
            features = self.downsamplers[0](features)
            if self._skips == "all":
                skips.append(features)
        return features

    def across(self, features: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """Go through the middle."""
        features = self.resnets[0](features, time)
        if self._attends:
            features = self.attentions[0](features)
        last: torch.Tensor = self.resnets[1](features, time)
        return last

    def up(self, features: torch.Tensor, time: torch.Tensor, skips: list[torch.Tensor]) -> torch.Tensor:
        """Go through the level; the first residual layer, or each, takes the latest of ``skips``."""
        if self._skips == "added":
            features = features + skips.pop()
        for index, residual in enumerate(self.resnets):
            if self._skips == "all" or (self._skips == "level" and index == 0):
                features = torch.cat([features, skips.pop()], dim=1)
            features = residual(features, time)
            if self._attends:
                features = self.attentions[index](features)
        if self._resamples:
            features = self.upsamplers[0](features)
        return features


class UNet(nn.Module):
    """Predicts noise (or whatever it is trained for) from a noisy image and its timestep.

    Weights start as torch and diffusers start them, except that the last layer of each residual branch, or the gate
    behind it, and the last layer of the network start at zero (IDDPM).
    """

    class_embedding: nn.Module | None
    mid_block: UNetBlock | None

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        plan = plan_of(config)
        self.sample_size = config.sample_size
        self.in_channels = config.in_channels
        self.out_channels = config.out_channels
        self.num_classes = config.num_classes
        self.skips = config.skips
        self.conv_in = plan.stem.build()
        self.time_proj = Timesteps(plan.time.frequencies, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = plan.time.build()
        self.class_embedding = None if plan.classes is None else plan.classes.build()
        self.down_blocks = nn.ModuleList(UNetBlock(block) for block in plan.down)
        self.mid_block = None if plan.middle is None else UNetBlock(plan.middle)
        self.up_blocks = nn.ModuleList(UNetBlock(block) for block in plan.up)
        self.conv_norm_out, self.conv_act, self.conv_out = plan.head.build().children()

    def forward(
        self, sample: torch.Tensor, timestep: torch.Tensor | float, class_labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Predict.

        Args:
            sample: noisy images, ``batch x in_channels x sample_size x sample_size``.
            timestep: of each image, shape ``batch`` or one number for all.
            class_labels: integers of shape ``batch``; needed exactly when the network is conditioned on classes.

        Returns:
            ``batch x out_channels x sample_size x sample_size``.

        Raises:
            ValueError: labels for an unconditional network, or none for a conditional one.
        """
        if (class_labels is None) != (self.class_embedding is None):
            wants = "no class_labels" if self.class_embedding is None else f"class_labels below {self.num_classes}"
            raise ValueError(
                f"This network takes {wants}: {'leave them out' if class_labels is not None else 'pass them'}."
            )
        dtype = next(self.conv_in.parameters()).dtype
        steps = torch.as_tensor(timestep, device=sample.device).expand(sample.shape[0])
        time = self.time_embedding(self.time_proj(steps).to(dtype))
        if self.class_embedding is not None:
            time = time + self.class_embedding(class_labels).to(dtype)
        features = self.conv_in(sample)
        skips = [features] if self.skips == "all" else []
        for block in self.down_blocks:
            assert isinstance(block, UNetBlock)
            features = block.down(features, time, skips)
        if self.mid_block is not None:
            features = self.mid_block.across(features, time)
        for block in self.up_blocks:
            assert isinstance(block, UNetBlock)
            features = block.up(features, time, skips)
        prediction: torch.Tensor = self.conv_out(self.conv_act(self.conv_norm_out(features)))
        return prediction
