"""Which channels should a narrower student keep? How far it is from its teacher before any training.

    python benchmarks/inheriting.py --case digits

For each seed students are drawn from the space, the same for both ways, and channels are chosen by the norms of their
weights or to first order in the teacher's loss, from other images for each seed. Compared is the squared distance of
predictions for held-out images to the teacher's. The teacher is the one of ``retraining.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import geometric_mean

import numpy as np
import torch
from reporting import report
from students import opened, options, uniform
from teachers import evaluation

from nni_diffnas.evaluators.blockwise.importance import taylor_importance
from nni_diffnas.evaluators.blockwise.inherit import fill_fitting
from nni_diffnas.evaluators.blockwise.teacher_pipeline import NoisedImages, TeacherPipeline
from nni_diffnas.evaluators.scores.held_out_loss import HeldOutLoss, mean_loss
from nni_diffnas.evaluators.training.recipe import Recipe
from nni_diffnas.trial.run import build_seeded


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options(__doc__)
    parser.add_argument("--students", type=int, default=5, help="drawn for each seed")
    given = parser.parse_args(arguments)
    studied = opened(given)
    family = studied.family
    judge, teacher = evaluation(studied.case, 1), TeacherPipeline(family)
    state = teacher.network.state_dict()
    clean = teacher.encode(torch.from_numpy(judge.images.pixels[judge.images.training]))
    gap = HeldOutLoss(judge.images, judge.images.validation, Recipe(images=1), 128, 128, teacher.network)
    rows, nearer, ratios = [], 0, []
    for seed in range(given.seeds):
        rng = np.random.default_rng(seed)
        students = [uniform(family), *(family.space.sample(rng) for _ in range(given.students))]
        gaps: dict[str, list[float]] = {}
        importance = taylor_importance(NoisedImages(teacher, clean, None, seed))
        for way, chosen in (("norm", None), ("taylor", importance)):
            for architecture in students:
                student = build_seeded(family, architecture, seed).eval()
                fill_fitting(student, state, chosen)
                gaps.setdefault(way, []).append(mean_loss(gap.levels(student)))
        pairs = list(zip(gaps["taylor"], gaps["norm"], strict=True))
        ratios += [one / other for one, other in pairs]
        nearer += sum(one < other for one, other in pairs)
        rows.append(
            [seed, *(geometric_mean(gaps[way]) for way in ("norm", "taylor")), geometric_mean(ratios[-len(pairs) :])]
        )
    report(
        ["seed", "gap by norm", "gap by Taylor", "ratio"],
        rows,
        {"benchmark": "inheriting", "case": given.case, "rows": rows, "ratio": geometric_mean(ratios),
         "nearer": nearer, "students": len(ratios)},
    )  # fmt: skip


if __name__ == "__main__":
    main()
