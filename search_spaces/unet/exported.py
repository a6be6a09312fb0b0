"""The network of an exported pipeline that stock diffusers cannot express, as a diffusers model."""

from __future__ import annotations

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d import UNet2DOutput

from .layers import Resample, Skips
from .network import UNet
from .plan import Attention, BlockKind, Middle, UNetConfig, UpDepth


class DiffNASUNet(UNet, ModelMixin, ConfigMixin):  # type: ignore[misc]  # as diffusers' own models
    """A searched UNet that loads, saves and runs like ``UNet2DModel``; its arguments are those of `UNetConfig`."""

    @register_to_config  # type: ignore[untyped-decorator]  # diffusers'
    def __init__(
        self,
        sample_size: int,
        in_channels: int,
        out_channels: int,
        widths: tuple[int, ...],
        depths: tuple[int, ...],
        attention: tuple[Attention | bool, ...],
        middle: Middle,
        heads: int,
        inner_width: float,
        inner_multiple: int,
        time_embedding_dim: int,
        num_classes: int | None,
        norm_groups: int,
        scale_shift: bool,
        dropout: float,
        blocks: tuple[BlockKind, ...] = (),
        kernels: tuple[int, ...] = (),
        expansion: int = 4,
        resample: Resample = "convolution",
        skips: Skips = "all",
        up_depth: UpDepth = "more",
        patch: int = 1,
    ) -> None:
        super().__init__(
            UNetConfig(
                sample_size=sample_size,
                in_channels=in_channels,
                out_channels=out_channels,
                widths=tuple(widths),
                depths=tuple(depths),
                attention=tuple(attention),  # type: ignore[arg-type]  # truth values become words
                middle=middle,
                heads=heads,
                inner_width=inner_width,
                inner_multiple=inner_multiple,
                time_embedding_dim=time_embedding_dim,
                num_classes=num_classes,
                norm_groups=norm_groups,
                scale_shift=scale_shift,
                dropout=dropout,
                blocks=tuple(blocks),
                kernels=tuple(kernels),
                expansion=expansion,
                resample=resample,
                skips=skips,
                up_depth=up_depth,
                patch=patch,
            ),
        )

    def forward(  # type: ignore[override]  # a pipeline wants the prediction wrapped
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor | float,
        class_labels: torch.Tensor | None = None,
        return_dict: bool = True,
    ) -> UNet2DOutput | tuple[torch.Tensor]:
        """Predict as `UNet.forward` does.

        A network conditioned on classes that is given no labels (``DDPMPipeline`` gives none) draws the classes in
        turn: image ``i`` of the batch is of class ``i`` modulo their number, at every step.
        """
        if class_labels is None and self.num_classes is not None:
            class_labels = torch.arange(sample.shape[0], device=sample.device) % self.num_classes
        prediction = super().forward(sample, timestep, class_labels)
        return UNet2DOutput(sample=prediction) if return_dict else (prediction,)
