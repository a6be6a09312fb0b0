"""The single file of an exported network: self-contained, and the same network."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from unet_configs import random_config

from nni_diffnas.search_spaces.unet.network import UNet
from nni_diffnas.search_spaces.unet.one_file import one_file_source


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Any:
    file: Path = tmp_path_factory.mktemp("single") / "diffnas_single.py"
    file.write_text(one_file_source(), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("diffnas_single", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["diffnas_single"] = module
    spec.loader.exec_module(module)
    return module


def test_it_imports_nothing_of_ours_and_defines_no_name_twice() -> None:
    tree = ast.parse(one_file_source())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert all(node.level == 0 and not (node.module or "").startswith("nni") for node in imports)
    names = Counter(node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef))
    assert not [name for name, count in names.items() if count > 1]


@pytest.mark.parametrize("seed", range(12))
def test_it_is_the_same_network(single: Any, seed: int) -> None:
    config = random_config(np.random.default_rng(seed), num_classes=None)
    torch.manual_seed(seed)
    ours, theirs = UNet(config).eval(), single.DiffNASUNet(**asdict(config)).eval()
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    theirs.load_state_dict(ours.state_dict())
    image = torch.randn(2, config.in_channels, 16, 16)
    with torch.no_grad():
        expected = ours(image, 17)
        assert expected.std() > 1e-3
        torch.testing.assert_close(theirs(image, 17).sample, expected)


def test_a_configuration_of_version_0_1_loads(single: Any) -> None:
    older = {
        "sample_size": 8, "in_channels": 1, "out_channels": 1, "widths": [8, 16], "depths": [1, 2],
        "attention": [False, True], "middle": "attention", "heads": 2, "inner_width": 1.5, "inner_multiple": 8,
        "time_embedding_dim": 32, "num_classes": None, "norm_groups": 8, "scale_shift": True, "dropout": 0.0,
    }  # fmt: skip
    network = single.DiffNASUNet.from_config(older)
    assert network(torch.randn(2, 1, 8, 8), 3).sample.shape == (2, 1, 8, 8)
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS_IN_0_1


PARAMETERS_IN_0_1 = 94_161
