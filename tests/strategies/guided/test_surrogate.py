"""What the surrogates of `DiffusionGuided` see, and the closed form of the acquisition."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from botorch.acquisition import LogExpectedImprovement
from scipy.stats import spearmanr

from nni_diffnas.api.space import Space
from nni_diffnas.search_spaces import MobileNetV3Family, NASBench201Family, UNetFamily
from nni_diffnas.strategies.guided.acquisition import Acquisition
from nni_diffnas.strategies.guided.cost_model import CostModel
from nni_diffnas.strategies.guided.encoding import Encoding
from nni_diffnas.strategies.guided.features import Features
from nni_diffnas.strategies.guided.observations import Known
from nni_diffnas.strategies.guided.prior import AnalyticFlow
from nni_diffnas.strategies.guided.surrogate import fit_gp

FAMILY = NASBench201Family()
ENCODING = Encoding(FAMILY.space)
FEATURES = Features(ENCODING, FAMILY.cuts)


def cell(**operations: str) -> torch.Tensor:
    chosen = {label: operations.get(label.replace("cell/", "e"), "none") for label in FAMILY.space.labels}
    return ENCODING.one_hot(ENCODING.indices([chosen]))


def test_what_lies_behind_a_cut_is_not_seen_and_equal_paths_look_alike() -> None:
    plain = FEATURES.flow(cell(e0_3="conv_3x3", e0_1="conv_1x1"))
    assert torch.equal(plain, FEATURES.flow(cell(e0_3="conv_3x3", e1_2="avg_pool_3x3")))
    assert not torch.equal(plain, FEATURES.flow(cell(e0_3="conv_3x3", e0_1="conv_1x1", e1_3="conv_1x1")))
    through_1 = FEATURES.flow(cell(e0_1="conv_3x3", e1_3="skip_connect"))
    through_2 = FEATURES.flow(cell(e0_2="conv_3x3", e2_3="skip_connect"))
    assert torch.equal(through_1, through_2)
    uncut = Features(ENCODING)
    assert not torch.equal(uncut.flow(cell(e0_1="conv_1x1")), uncut.flow(cell(e1_2="conv_1x1")))


@pytest.mark.parametrize("family", [FAMILY, MobileNetV3Family()], ids=["paths", "edges"])
def test_random_architectures_lie_sqrt_2_apart_in_the_flow(family) -> None:
    encoding = Encoding(family.space)
    features = Features(encoding, family.cuts)
    drawn = features.flow(encoding.one_hot(encoding.sample(2000, np.random.default_rng(5))))
    squares = (drawn[:1000] - drawn[1000:]).square().sum(1)
    assert squares.mean() == pytest.approx(2.0, rel=0.1)


def test_flow_of_relaxed_rows_is_the_expectation_over_independent_rows() -> None:
    p = torch.rand(1, 6, 5, generator=torch.Generator().manual_seed(0))
    p = p / p.sum(2, keepdim=True)
    rng = np.random.default_rng(0)
    drawn = np.stack([rng.choice(5, size=20_000, p=row.numpy() / row.sum().item()) for row in p[0]], axis=1)
    torch.testing.assert_close(FEATURES.flow(p)[0], FEATURES.flow(ENCODING.one_hot(drawn)).mean(0), atol=0.01, rtol=0)


def test_all_points_at_once_are_worth_what_botorch_says_of_each() -> None:
    rng = np.random.default_rng(0)
    observed = ENCODING.one_hot(ENCODING.sample(20, rng))
    targets = torch.randn(20, 1, generator=torch.Generator().manual_seed(0)).double()
    model = fit_gp(FEATURES, observed, targets[:, 0], 0).requires_grad_(False)
    p, pending = (ENCODING.one_hot(ENCODING.sample(n, rng)) for n in (30, 5))
    for waiting, theirs in (
        (pending[:0], model),
        (
            pending,
            model.condition_on_observations(FEATURES.inputs(pending), model.posterior(FEATURES.inputs(pending)).mean),
        ),
    ):
        ours = Acquisition(FEATURES, Known(observed, targets, waiting, 12, torch.zeros(20)), [model], 0)
        best = model.posterior(FEATURES.inputs(observed[:12])).mean.max()  # the others must not win
        expected = LogExpectedImprovement(theirs, best_f=best)(FEATURES.inputs(p)[:, None])
        torch.testing.assert_close(ours(p), expected, atol=1e-4, rtol=1e-4)


def test_surrogates_see_the_costs_once_they_are_known() -> None:
    features = Features(ENCODING, FAMILY.cuts)
    blind = features.inputs(cell()).shape[1]
    model = CostModel(features, FAMILY, ["macs", "params"], architectures=500, steps=300)
    features.known.append(model.standard)
    drawn = ENCODING.sample(200, np.random.default_rng(9))
    seen = features.inputs(ENCODING.one_hot(drawn))
    assert seen.shape[1] == blind + 2
    macs = np.log([FAMILY.cost(a).macs for a in ENCODING.architectures(drawn)])
    assert np.corrcoef(seen[:, blind].numpy(), macs)[0, 1] > 0.98


def test_what_rises_with_a_guess_goes_on_rising_beyond_the_trials() -> None:
    features = Features(ENCODING, FAMILY.cuts)
    flow = AnalyticFlow(features, FAMILY)
    features.known.append(lambda p: flow(p)[..., None])
    features.guesses = 1
    drawn = ENCODING.one_hot(ENCODING.sample(400, np.random.default_rng(4)))
    drawn = drawn[flow(drawn).argsort()]
    small, largest = drawn[:200:10], drawn[-10:]
    rising = flow(small).double()
    for sign in (1, -1):  # nothing says beforehand that large is good
        model = fit_gp(features, small, sign * (rising - rising.mean()) / rising.std(), 0)
        with torch.no_grad():
            believed = sign * model.posterior(features.inputs(largest)).mean[:, 0]
        known = (rising - rising.mean()) / rising.std()
        assert believed.min() > known.max() + 0.5


def test_numbers_are_standard_logarithms_and_an_absent_one_is_the_mean() -> None:
    choices = {"kind": ("plain", "wide"), "width": (8, 16, 32), "use": (False, True), "from_zero": (0, 1), "one": (4,)}
    encoding = Encoding(Space(choices, conditions={"width": (("kind", ("wide",)),)}))
    numbers = Features(encoding).numbers(encoding.one_hot(encoding.sample(4000, np.random.default_rng(1)))).numpy()
    assert numbers.shape == (4000, 1), "of widths alone"
    assert numbers.mean() == pytest.approx(0.0, abs=0.05)
    assert numbers.std() == pytest.approx(1.0, abs=0.05)
    architectures = [{"kind": "wide", "width": width, "use": True, "from_zero": 0, "one": 4} for width in (8, 16, 32)]
    plain = {"kind": "plain", "use": True, "from_zero": 0, "one": 4}
    narrow, middle, wide, absent = Features(encoding).numbers(
        encoding.one_hot(encoding.indices([*architectures, plain]))
    )[:, 0]
    assert absent == 0.0
    assert narrow < middle < wide
    assert middle - narrow == pytest.approx(float(wide - middle), rel=1e-4)


@pytest.mark.parametrize(("trained", "least"), [(12, 0.5), (30, 0.75)])
def test_few_trained_unets_tell_how_others_rank(trained: int, least: float) -> None:
    """Networks that were really trained, by the file that `benchmarks/unet_table.py` keeps; means of five draws."""
    journal = Path(__file__).parents[3] / "benchmarks" / "journals" / "unet_table.jsonl"
    records = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    scores = np.array([-record["metrics"]["held_out_loss"] for record in records])
    family = UNetFamily("pixels16")
    encoding = Encoding(family.space)
    features = Features(encoding, family.cuts)
    features.known.append(CostModel(features, family, ["macs", "params"]).standard)
    rows = encoding.one_hot(encoding.indices([record["architecture"] for record in records]))
    agreements = []
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(records))
        known, others = order[:trained], order[trained:]
        targets = torch.from_numpy((scores[known] - scores[known].mean()) / scores[known].std())
        model = fit_gp(features, rows[known], targets, seed)
        with torch.no_grad():
            believed = model.posterior(features.inputs(rows[others])).mean[:, 0].numpy()
        agreements.append(spearmanr(believed, scores[others]).statistic)
    assert np.mean(agreements) > least, agreements
