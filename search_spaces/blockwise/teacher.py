"""Reading a teacher: the UNet of a diffusers pipeline folder, its blocks and layers, their sizes and costs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nni_diffnas.api.cost import Cost
from nni_diffnas.api.errors import JobError, SpaceError
from nni_diffnas.files.pipeline_parts import load_part

if TYPE_CHECKING:
    from torch import nn

__all__ = ["AttentionLayer", "ResamplingLayer", "ResidualLayer", "TeacherBlock", "TeacherLayer", "TeacherUNet"]

CLASSES = ("UNet2DModel", "UNet2DConditionModel")
DEFAULT_TOKENS = 77


@dataclass(frozen=True)
class ResidualLayer:
    """Sizes of one residual block; ``pixels`` is height times width of its feature maps.

    ``time`` counts the numbers that the time embedding gives to each inner channel: 0 (none), 1 or 2; ``scale`` is what
    the output is divided by.
    """

    name: str
    inputs: int
    inner: int
    outputs: int
    groups: int
    time_features: int
    time: int
    pixels: int
    scale: float

    def cost(self, inner: int, kernel1: int, kernel2: int) -> Cost:
        """What changes with the shape: both convolutions, the second normalisation, the time projection."""
        first, second = self.inputs * inner * kernel1**2, inner * self.outputs * kernel2**2
        time = self.time_features * self.time * inner
        return Cost(
            macs=(first + second) * self.pixels + time,
            params=first + inner + second + self.outputs + 2 * inner + time + self.time * inner,
        )

    def convnext_cost(self, inner: int, kernel: int) -> Cost:
        """What a `ConvNeXtBlock` in its place costs, the shortcut left out."""
        depthwise, dense = self.inputs * kernel**2, inner * (self.inputs + self.outputs)
        time = self.time_features * (2 * self.inputs + self.outputs)
        biases = self.inputs + inner + self.outputs + 2 * self.inputs + self.outputs
        return Cost(
            macs=(depthwise + dense) * self.pixels + time,
            params=depthwise + dense + time + biases + 2 * self.inputs + 2 * inner,
        )

    @property
    def norm1_params(self) -> int:
        """Parameters that vanish together with the residual branch."""
        return 2 * self.inputs


@dataclass(frozen=True)
class AttentionLayer:
    """One attention layer, or transformer, and what it costs."""

    name: str
    cost: Cost


@dataclass(frozen=True)
class ResamplingLayer:
    """What leads to another level: a 3x3 convolution, with stride 2 or behind the repetition of each pixel.

    ``pixels`` is height times width of the smaller map.
    """

    name: str
    inputs: int
    outputs: int
    pixels: int
    cost: Cost

    @property
    def pooled_cost(self) -> Cost:
        """That of a 1x1 convolution of the smaller map."""
        weights = self.inputs * self.outputs
        return Cost(weights * self.pixels, weights + self.outputs)


TeacherLayer = ResidualLayer | AttentionLayer | ResamplingLayer


@dataclass(frozen=True)
class TeacherBlock:
    """One block of the teacher: its module's name, all layers that could be searched in forward order, its cost."""

    name: str
    path: str
    layers: tuple[TeacherLayer, ...]
    cost: Cost


class TeacherUNet:
    """The UNet of a pipeline folder, known from its configuration; no weights are read until `load`.

    Args:
        folder: a pipeline folder, as ``save_pretrained`` writes it.

    Raises:
        SpaceError: no pipeline, no UNet in it, a UNet of another kind, missing weights.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        index = _read(folder / "model_index.json", f"{str(folder)!r} is no pipeline folder: it has no model_index.json")
        entry = index.get("unet")
        if not isinstance(entry, list) or len(entry) != 2 or not entry[1]:
            parts = ", ".join(name for name in index if not name.startswith("_"))
            raise SpaceError(
                f"The pipeline {str(folder)!r} has no UNet (its parts are {parts or 'none'}): give one with a unet/."
            )
        self.class_name = str(entry[1])
        if self.class_name not in CLASSES:
            raise SpaceError(
                f"The UNet of {str(folder)!r} is a {self.class_name}: block-wise search takes {' or '.join(CLASSES)}."
            )
        self.config: dict[str, Any] = {
            name: value
            for name, value in _read(folder / "unet" / "config.json", "The teacher has no unet/config.json").items()
            if not name.startswith("_")
        }
        if not any((folder / "unet").glob("diffusion_pytorch_model*")):
            raise SpaceError(f"There are no weights in {str(folder / 'unet')!r}: save the trained teacher there first.")
        for option in ("addition_embed_type", "class_embed_type", "encoder_hid_dim_type", "time_cond_proj_dim"):
            if self.config.get(option) is not None:
                raise SpaceError(
                    f"The teacher's UNet has {option} {self.config[option]!r}, whose further inputs are not known "
                    f"here: take a teacher conditioned on nothing, on class labels or on text alone."
                )

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of what the network denoises."""
        size = self.config.get("sample_size")
        if size is None:
            raise SpaceError(
                "The teacher's unet/config.json names no sample_size: add the size that it was trained at."
            )
        height, width = (size, size) if isinstance(size, int) else size
        return int(self.config.get("in_channels", 3)), int(height), int(width)

    @cached_property
    def tokens(self) -> int:
        """Length of the text that a text-conditioned teacher reads: its tokenizer's, or 77."""
        file = self.folder / "tokenizer" / "tokenizer_config.json"
        known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        length = int(known.get("model_max_length", DEFAULT_TOKENS))
        return length if length < 10_000 else DEFAULT_TOKENS

    def skeleton(self) -> nn.Module:
        """The network without memory for its weights.

        Raises:
            SpaceError: its configuration describes none.
        """
        import diffusers
        import torch

        try:
            with torch.device("meta"):
                network: nn.Module = getattr(diffusers, self.class_name).from_config(self.config)
        except Exception as error:  # diffusers raises whatever the numbers in it lead to
            raise SpaceError(
                f"The teacher's unet/config.json describes no network ({' '.join(str(error).split())[:200]}): save the "
                f"teacher anew."
            ) from error
        return network.eval()

    def load(self) -> nn.Module:
        """The network with its weights.

        Raises:
            SpaceError: the weights cannot be read, or are of another network.
        """
        import diffusers

        try:
            network: nn.Module = load_part(getattr(diffusers, self.class_name), self.folder / "unet")
        except JobError as error:
            raise SpaceError(str(error)) from error
        except Exception as error:  # of configuration and weights that are damaged in any way
            raise SpaceError(
                f"The weights in {str(self.folder / 'unet')!r} cannot be loaded: {' '.join(str(error).split())[:200]}."
            ) from error
        for parameter in network.parameters():
            parameter.data = parameter.data.clone()  # mapped files are not aligned, which changes the last digits
        return network.eval()

    def example(self, device: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments of one forward pass of one image."""
        import torch

        channels, height, width = self.sample_shape
        named: dict[str, Any] = {}
        if self.class_name == "UNet2DConditionModel":
            features = self.config.get("cross_attention_dim", 1280)
            features = features if isinstance(features, int) else features[0]
            named["encoder_hidden_states"] = torch.zeros(1, self.tokens, features, device=device)
        if self.config.get("num_class_embeds"):
            named["class_labels"] = torch.zeros(1, dtype=torch.long, device=device)
        sample = torch.zeros(1, channels, height, width, device=device)
        return (sample, torch.zeros(1, dtype=torch.long, device=device)), named

    @cached_property
    def measured(self) -> tuple[Cost, tuple[TeacherBlock, ...]]:
        """Cost of the whole network, and its blocks, from one forward pass without memory.

        Raises:
            SpaceError: the sample size does not fit the levels.
        """
        import torch
        from diffusers.models.downsampling import Downsample2D
        from diffusers.models.resnet import ResnetBlock2D
        from diffusers.models.upsampling import Upsample2D
        from torch.utils.flop_counter import FlopCounterMode

        network = self.skeleton()
        pixels: dict[nn.Module, int] = {}

        def see(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
            pixels[module] = min(math.prod(map_.shape[-2:]) for map_ in (inputs[0], output))

        watched = (ResnetBlock2D, Downsample2D, Upsample2D)
        hooks = [m.register_forward_hook(see) for m in network.modules() if isinstance(m, watched)]
        inputs, named = self.example("meta")
        try:
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                network(*inputs, **named)
        except RuntimeError as error:
            raise SpaceError(
                f"The teacher's UNet cannot run on its own sample_size {self.config['sample_size']}: "
                f"{' '.join(str(error).split())[:160]}."
            ) from error
        finally:
            for hook in hooks:
                hook.remove()
        flops = {name: sum(counts.values()) for name, counts in counter.get_flop_counts().items()}

        def price(path: str, module: nn.Module) -> Cost:
            macs = flops.get(f"{type(network).__name__}.{path}", 0) // 2
            return Cost(macs, sum(parameter.numel() for parameter in module.parameters()))

        blocks = []
        for name, path, block in _blocks(network):
            layers: list[TeacherLayer] = []
            for child, layer in _layers(block):
                if isinstance(layer, ResnetBlock2D) and type(layer) is ResnetBlock2D:
                    if not (layer.up or layer.down):
                        layers.append(_residual(child, layer, pixels[layer]))
                elif child.startswith("attentions"):
                    layers.append(AttentionLayer(child, price(f"{path}.{child}", layer)))
                elif _is_plain_sampler(layer):
                    sizes = layer.conv.in_channels, layer.conv.out_channels, pixels[layer]
                    layers.append(ResamplingLayer(child, *sizes, price(f"{path}.{child}", layer)))
            blocks.append(TeacherBlock(name, path, tuple(layers), price(path, block)))
        total = Cost(flops["Global"] // 2, sum(parameter.numel() for parameter in network.parameters()))
        return total, tuple(blocks)


def _residual(name: str, layer: Any, pixels: int) -> ResidualLayer:
    time, inner = layer.time_emb_proj, layer.norm2.num_channels
    return ResidualLayer(
        name=name,
        inputs=layer.in_channels,
        inner=inner,
        outputs=layer.conv2.out_channels,
        groups=layer.norm2.num_groups,
        time_features=0 if time is None else time.in_features,
        time=0 if time is None else time.out_features // inner,
        pixels=pixels,
        scale=layer.output_scale_factor,
    )


def _blocks(network: Any) -> Iterator[tuple[str, str, Any]]:
    for index, block in enumerate(network.down_blocks):
        yield f"down{index}", f"down_blocks.{index}", block
    if network.mid_block is not None:
        yield "middle", "mid_block", network.mid_block
    for index, block in enumerate(network.up_blocks):
        yield f"up{index}", f"up_blocks.{index}", block


def _is_plain_sampler(layer: Any) -> bool:
    """Whether it is a 3x3 convolution that halves the side, rounding up, or one behind the repetition of pixels."""
    from diffusers.models.downsampling import Downsample2D
    from diffusers.models.upsampling import Upsample2D

    if not isinstance(layer, Downsample2D | Upsample2D) or layer.norm is not None or not layer.use_conv:
        return False
    if layer.conv.kernel_size != (3, 3) or layer.conv.padding != (1, 1) or layer.conv.bias is None:
        return False
    return isinstance(layer, Downsample2D) or (layer.interpolate and not layer.use_conv_transpose)


def _layers(block: Any) -> Iterator[tuple[str, Any]]:
    """All layers in forward order: in every block of diffusers, attention i follows residual i, and the sampler all."""
    attentions = list(getattr(block, "attentions", []))
    for index, residual in enumerate(block.resnets):
        yield f"resnets.{index}", residual
        if index < len(attentions) and attentions[index] is not None:
            yield f"attentions.{index}", attentions[index]
    for name in ("downsamplers", "upsamplers"):
        for index, sampler in enumerate(getattr(block, name, None) or ()):
            yield f"{name}.{index}", sampler


def _read(file: Path, problem: str) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpaceError(f"{problem}: give a folder that diffusers' save_pretrained has written.") from error
    except ValueError as error:
        raise SpaceError(f"{str(file)!r} is not JSON ({error}): save the pipeline again.") from error
    if not isinstance(content, dict):
        raise SpaceError(f"{str(file)!r} holds no object: save the pipeline again.")
    return content
