"""Steps that `rapid` needs for the best distance that `iddpm` reaches, beside diffusers' unconditional recipe.

``python benchmarks/convergence.py --data digits --log convergence.jsonl`` trains the same small UNet on the same
images, batch size and sampler alike, with three seeds. Every finished training is appended to the log, and a benchmark
that is started again goes on from there.

- ``iddpm``: the recipe to the letter (learned variances, T = 4000), at the best of several learning rates, each judged
  by the better of its raw weights and a length-scaled average, at every point of its way. No dropout: it harms networks
  of this size (``--dropout`` tries it).
- ``diffusers``: its example ``train_unconditional.py`` in its own classes, again at the best learning rate, raw or
  average.
- ``rapid``: our defaults, whose learning rate falls to zero at the budget's end, so that it is trained with shorter and
  shorter budgets as long as it reaches the distance.

The distance is a Fréchet distance in the features of a network trained on the images' labels.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reporting import report
from small_images import averaged
from torch import nn

from nni_diffnas.evaluators.diffusion import DiffusionEvaluation
from nni_diffnas.evaluators.sampling.solvers import initial_noise, sample, to_uint8
from nni_diffnas.evaluators.training.denoising import Training, call_network
from nni_diffnas.evaluators.training.ema import PowerAverage
from nni_diffnas.evaluators.training.losses import EpsilonPrediction
from nni_diffnas.evaluators.training.noise_schedules import LinearSchedule
from nni_diffnas.evaluators.training.recipe import Recipe
from nni_diffnas.search_spaces.unet.family import UNetFamily

BATCH = 64
SEEDS = (0, 1, 2)
RATES = (1.5e-3, 4e-3, 1e-2, 2.5e-2)  # of the baselines; their own, 1e-4, is far too slow here
SHARES = (1 / 2, 1 / 3, 1 / 4, 1 / 6, 1 / 8)  # of iddpm's budget, for rapid; beyond the first only where it reaches
LONGER = (3 / 4, 1.0)  # where it does not reach at the first


@dataclass(frozen=True)
class Case:
    """What is trained on, with which network, for how long.

    Args:
        data: of the evaluation.
        space: options of the network's family; its default network is trained.
        steps: of the baselines.
        points: of each curve.
        images: generated at each of these.
        sampler_steps: network evaluations an image.
    """

    data: Mapping[str, Any]
    space: Mapping[str, Any]
    steps: int
    points: int
    images: int
    sampler_steps: int

    def network(self, seed: int, *, learned_sigma: bool = False) -> nn.Module:
        """The network, its weights drawn by the seed."""
        family = UNetFamily(**self.space, learned_sigma=learned_sigma)
        torch.manual_seed(seed)
        return family.build(family.default)

    @property
    def macs(self) -> int:
        """Of the network that predicts no variances."""
        family = UNetFamily(**self.space, learned_sigma=False)
        return family.cost(family.default).macs

    @cached_property
    def evaluation(self) -> DiffusionEvaluation:
        """Holds the images and the feature network."""
        made = DiffusionEvaluation(self.data, training={"images": 1}, extractor="labels")
        made.prepare()
        return made

    @cached_property
    def pixels(self) -> torch.Tensor:
        """The training images, uint8 ``[images, channels, height, width]``."""
        images = self.evaluation.images
        return torch.from_numpy(np.ascontiguousarray(images.pixels[images.training]))

    def distance(self, model: nn.Module, recipe: Recipe | None) -> float:
        """Distance of generated images from the training images; without a recipe, diffusers' schedule."""
        was_training = model.training
        model.eval()
        schedule = LinearSchedule(1000) if recipe is None else recipe.noise_schedule()
        noise = initial_noise(self.images, self.evaluation.images.shape, 0)
        generated = sample(
            lambda images, times, labels: call_network(model, images, times, labels),
            noise,
            schedule.alpha_bar(),
            EpsilonPrediction() if recipe is None else recipe.parameterisation(),
            self.sampler_steps,
        )
        model.train(was_training)
        return self.evaluation.scoring.score(to_uint8(generated).numpy())["rfid"]


def cases(root: Path, folder: Path) -> dict[str, Case]:
    """The data sets, with networks that two cores can train; ``folder`` keeps the averaged images."""
    small = {
        "dropout": 0.0, "width_factors": [1.0], "width_multiple": 8, "depths": [1], "attention": [False],
        "middle": ["residual"], "heads": [2], "inner_width": [1.0], "norm_groups": 8, "default_depth": 1,
        "default_attention": [False], "default_heads": 2,
    }  # fmt: skip
    grey = {"preset": "digits", "base_width": 8, "multipliers": [1, 2], "time_embedding": [4], **small}
    colour = {"preset": "cifar10", "base_width": 8, "multipliers": [1, 2, 4], "time_embedding": [8], **small}
    narrow = {"sample_size": 16, "base_width": 16, "multipliers": [1, 1.5, 1.5], "time_embedding": [4]}
    return {
        "digits": Case({"source": "digits"}, grey, 400, 4, 250, 10),
        "cifar10": Case({"source": str(root / "cifar10_train_0.npz")}, colour, 500, 4, 300, 10),
        "cifar16": Case({"source": str(folder / "cifar10_16.npz")}, {**colour, **narrow}, 500, 4, 300, 10),
    }


class Ours:
    """A training by one of our recipes."""

    def __init__(self, case: Case, settings: Mapping[str, Any], seed: int, steps: int) -> None:
        self.recipe = Recipe(**{"batch_size": BATCH, **settings, "steps": steps})
        self.model = case.network(seed, learned_sigma=self.recipe.learned_sigma)
        self.training = Training(self.model, case.pixels, None, self.recipe, seed)
        parameters = self.training.optimizer.parameters
        ours = isinstance(self.training.average, PowerAverage)
        self.average = self.training.average if ours else PowerAverage(parameters)
        self.steps, self.done = steps, 0

    def step(self) -> None:
        """One optimiser step."""
        self.training.gradient(self.training.batches.draw())
        self.done += 1
        self.training.update(self.done / self.steps)
        if self.average is not self.training.average:
            self.average.update()


class Diffusers:
    """diffusers' ``examples/unconditional_image_generation/train_unconditional.py``, its defaults but the batch size.

    Without its random flips, which would make digits that are none, and with a tenth of the steps for warm-up, which
    are 500 there: here that would be the whole training.
    """

    recipe = None

    def __init__(self, case: Case, settings: Mapping[str, Any], seed: int, steps: int) -> None:
        from diffusers import DDPMScheduler
        from diffusers.optimization import get_scheduler
        from diffusers.training_utils import EMAModel

        self.model, self.pixels = case.network(seed), case.pixels
        self.parameters = list(self.model.parameters())
        self.scheduler = DDPMScheduler(num_train_timesteps=1000)
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=settings["learning_rate"], betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8
        )
        self.rate = get_scheduler("cosine", self.optimizer, num_warmup_steps=steps // 10, num_training_steps=steps)
        self.ema = EMAModel(self.parameters, decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=3 / 4)
        self.average = PowerAverage(self.parameters)
        self.batches = self._shuffled()
        torch.manual_seed(seed)
        self.model.train()

    def _shuffled(self) -> Iterator[torch.Tensor]:
        while True:
            for chosen in torch.randperm(len(self.pixels)).split(BATCH):
                if len(chosen) == BATCH:
                    yield self.pixels[chosen].float() / 127.5 - 1.0

    def step(self) -> None:
        """One optimiser step."""
        clean = next(self.batches)
        noise = torch.randn_like(clean)
        times = torch.randint(0, 1000, (BATCH,))
        noised = self.scheduler.add_noise(clean, noise, times)
        nn.functional.mse_loss(self.model(noised, times), noise).backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.rate.step()
        self.ema.step(self.parameters)
        self.average.update()
        self.optimizer.zero_grad()


def curve(case: Case, name: str, settings: Mapping[str, Any], seed: int, steps: int) -> dict[str, Any]:
    """Train and score on the way; the seconds are the process's own, without those of scoring."""
    training: Any = (Diffusers if name == "diffusers" else Ours)(case, settings, seed, steps)
    at = {max(1, round(steps * (point + 1) / case.points)) for point in range(case.points)}
    points, seconds, began = [], 0.0, time.process_time()
    for step in range(1, steps + 1):
        training.step()
        if step in at:
            seconds += time.process_time() - began
            found = {"raw": case.distance(training.model, training.recipe)} if name != "rapid" else {}
            training.average.swap()
            found["average"] = case.distance(training.model, training.recipe)
            training.average.swap()
            if name == "diffusers":
                training.ema.store(training.parameters)
                training.ema.copy_to(training.parameters)
                found["ema"] = case.distance(training.model, training.recipe)
                training.ema.restore(training.parameters)
            points.append({"step": step, "seconds": round(seconds, 2), **found})
            began = time.process_time()
    return {"points": points, "seconds": round(seconds, 2)}


class Log:
    """Finished trainings, one JSON line each; those that are there are not repeated."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: dict[str, dict[str, Any]] = {}
        for line in path.read_text().splitlines() if path.exists() else ():
            entry = json.loads(line)
            self.known[json.dumps(entry["key"], sort_keys=True)] = entry["result"]

    def get(self, key: Mapping[str, Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The result of a training, made now where the log has none."""
        name = json.dumps(key, sort_keys=True)
        if name not in self.known:
            self.known[name] = make()
            with self.path.open("a") as file:
                file.write(json.dumps({"key": key, "result": self.known[name]}) + "\n")
        return self.known[name]


def best(result: Mapping[str, Any]) -> tuple[float, int, float]:
    """Smallest distance on the way, with its step and seconds."""
    found = [
        (point[kind], point["step"], point["seconds"])
        for point in result["points"]
        for kind in ("raw", "average", "ema")
        if kind in point
    ]
    return min(found)


def reached(result: Mapping[str, Any], distance: float) -> tuple[int, float] | None:
    """Step and seconds at which the distance was reached."""
    for point in result["points"]:
        if min(point[kind] for kind in ("raw", "average", "ema") if kind in point) <= distance:
            return point["step"], point["seconds"]
    return None


def throughput(case: Case, rounds: int = 7, steps: int = 12) -> float:
    """Images a CPU second of our loop relative to the plain one (diffusers' above): median over alternating rounds."""
    ours = Ours(case, {"recipe": "rapid"}, 0, 10**6)
    plain = Diffusers(case, {"learning_rate": 1e-4}, 0, 10**6)
    ratios = []
    for _ in range(rounds + 1):
        taken = []
        for training in (ours, plain):
            began = time.process_time()
            for _ in range(steps):
                training.step()
            taken.append(time.process_time() - began)
        ratios.append(taken[1] / taken[0])
    return statistics.median(ratios[1:])


def main() -> None:
    """Train, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=("digits", "cifar10", "cifar16"), default="digits")
    parser.add_argument("--root", type=Path, default=Path("../shared/data"), help="folder of the CIFAR-10 shards")
    parser.add_argument("--log", type=Path, default=Path("convergence.jsonl"))
    parser.add_argument("--steps", type=int, help="of the baselines")
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--dropout", type=float, default=0.0, help="of iddpm; its authors' is 0.3")
    parser.add_argument("--rapid", type=json.loads, default={}, help="settings of rapid to try, as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.data == "cifar16":
        averaged(arguments.log.parent, arguments.root)
    case, log = cases(arguments.root, arguments.log.parent)[arguments.data], Log(arguments.log)
    steps, seeds = arguments.steps or case.steps, SEEDS[: arguments.seeds]

    def run(name: str, seed: int, settings: Mapping[str, Any], length: int) -> dict[str, Any]:
        key = {"data": arguments.data, "recipe": name, "seed": seed, "steps": length, **settings}
        result = log.get(key, lambda: curve(case, name, settings, seed, length))
        distance, step, seconds = best(result)
        print(f"{key}: {distance:.4g} at step {step}, {seconds:.0f} s", flush=True)
        return result

    own: dict[str, dict[str, Any]] = {"iddpm": {"recipe": "iddpm", "dropout": arguments.dropout}, "diffusers": {}}
    rows, targets = [], {}
    for name in own:
        tried = {rate: best(run(name, seeds[0], {**own[name], "learning_rate": rate}, steps))[0] for rate in RATES}
        rate = min(tried, key=lambda value: tried[value])
        results = [run(name, seed, {**own[name], "learning_rate": rate}, steps) for seed in seeds]
        targets[name] = [best(result) for result in results]
        rows.append((name, rate, results))
    rapid: dict[str, list[tuple[float, int, float] | None]] = {name: [] for name in targets}
    for index, seed in enumerate(seeds):
        tried_runs = []
        goal = targets["iddpm"][index][0]
        for share in SHARES:
            tried_runs.append(run("rapid", seed, {"recipe": "rapid", **arguments.rapid}, round(steps * share)))
            if reached(tried_runs[-1], min(goal, targets["diffusers"][index][0])) is None:
                break
        if len(tried_runs) == 1:
            tried_runs += [
                run("rapid", seed, {"recipe": "rapid", **arguments.rapid}, round(steps * share)) for share in LONGER
            ]
        for name, found in targets.items():
            hits = [hit for result in tried_runs if (hit := reached(result, found[index][0])) is not None]
            rapid[name].append(None if not hits else (found[index][0], *min(hits)))

    table, body = [], {}
    for name, rate, _ in rows:
        ratios, seconds = [], []
        for (_, step, taken), hit in zip(targets[name], rapid[name], strict=True):
            ratios.append(step / hit[1] if hit else 0.0)
            seconds.append(taken / hit[2] if hit else 0.0)
        distances = [target[0] for target in targets[name]]
        table.append([
            name, rate, f"{np.mean(distances):.3g} +- {np.std(distances):.2g}",
            f"{np.mean([target[1] for target in targets[name]]):.0f}",
            ", ".join(str(hit[1]) if hit else "never" for hit in rapid[name]),
            f"{np.mean(ratios):.2f} +- {np.std(ratios):.2f}", f"{np.mean(seconds):.2f}",
        ])  # fmt: skip
        body[name] = {
            "learning_rate": rate, "distances": distances, "steps": [target[1] for target in targets[name]],
            "rapid_steps": [hit[1] if hit else None for hit in rapid[name]], "ratios": ratios, "second_ratios": seconds,
        }  # fmt: skip
    ratio = throughput(case)
    columns = [
        "baseline",
        "rate",
        "its best distance",
        "at step",
        "rapid reaches it at",
        "fewer steps",
        "fewer seconds",
    ]
    report(columns, table, {
        "benchmark": "convergence", "data": arguments.data, "macs": case.macs, "batch": BATCH, "steps": steps,
        "seeds": list(seeds), "rapid": arguments.rapid, **body, "throughput_ratio": round(ratio, 3),
    })  # fmt: skip


if __name__ == "__main__":
    main()
