"""How good are digits in one to eight steps, by each method of few steps from the same teacher?

    python -m diffjax.train --config=configs/digits_vp.py --workdir=runs/digits
    python -m experiments.few_step.digits --workdir=runs/digits --runs=runs/few_digits \\
        --out=experiments/few_step

Every method begins with the weights of the teacher and trains for minutes on two CPU cores; how
all are measured is in `distilled`. Writes digits.json, of which what is there is neither trained
nor sampled again, digits-samples.png and digits-curves.png. After an interruption the same command
resumes.
"""

from __future__ import annotations

from dataclasses import replace

from experiments.few_step.distilled import Subject, main
from experiments.few_step.ways import Halvings, Run, Way

CORNERS = ("loss.draw=logit_normal:mean=0.0,std=2.0", "loss.condition_dropout=0.0")
"""Times of flow maps: more of them near both ends, from which and to which one step leads."""
ENDS = "loss.draw=logit_normal:mean=0.0,std=4.0"
"""Still more of them there."""
TAUGHT = (*CORNERS, "loss.velocity=teacher", "loss.diagonal=0.25")
SEMIGROUP = (*TAUGHT, "loss.rule=semigroup")
CONSISTENT = ("loss.rule=discrete:gap=False", "loss.diagonal=0.0", "loss.condition_dropout=0.0")
NEIGHBOURS = "loss.velocity=teacher", "loss.pair=neighbours:first=18"
RATIO = "loss.velocity=conditional", "loss.pair=ratio:first=3,most=6,every=125"
EVEN = "loss.draw=uniform:importance=False"
SMOOTH = ("parameterization.c_noise=t", "network.conditions.to.scale=1.0")
"""For the Eulerian rule, which differentiates the network in t."""
RELABELLED = "copy with label t"
"""The method with which those begin: the teacher's label is 1000 t."""
HALVED = ("train.batch_size=64", "optimizer.learning_rate=1e-3", "loss.condition_dropout=0.0")
FRESH = "flow_map:gamma=1.0"
"""A map to the data alone, with fresh noise between steps."""
LMD = Run("digits_lmd", 500, TAUGHT)
GENERATOR = Run("digits_dmd", 600, ("loss.critic_steps=2",), rate=5e-4, sampler="ddim", nfe=(1,))
REFLOW = Run(
    "digits_vp",
    500,
    ("loss.pairing=stored", "loss.condition_dropout=0.0", "data.labels=True"),
    taught=False,
    pairs=2000,
    sampler="ddim",
)
METHODS: dict[str, Way] = {
    "progressive from 16": Halvings(16, 150, HALVED),
    "progressive from 32": Halvings(32, 200, HALVED),
    "LMD": LMD,
    "LMD, 2nd run": replace(LMD, begins="LMD"),
    "LMD, 3rd run": replace(LMD, begins="LMD, 2nd run"),
    "LMD, 2nd run, ends": replace(LMD, changes=(*TAUGHT, ENDS), begins="LMD"),
    "LSD": Run("digits_lsd", 500, CORNERS, taught=False),
    "PSD": Run("digits_lmd", 400, SEMIGROUP),
    "shortcut": Run("digits_lmd", 500, (*SEMIGROUP, "loss.pair=dyadic:steps=32")),
    RELABELLED: Run("digits_lmd", 300, (*TAUGHT, *SMOOTH, "loss.diagonal=1.0"), nfe=()),
    "MeanFlow": Run("digits_lmd", 400, (*TAUGHT, *SMOOTH, "loss.rule=eulerian"), begins=RELABELLED),
    "iMF": Run(
        "digits_lsd",
        400,
        (*CORNERS, *SMOOTH, "loss.rule=eulerian"),
        taught=False,
        begins=RELABELLED,
    ),
    "CD": Run("digits_lmd", 500, (*CONSISTENT, *NEIGHBOURS, EVEN), sampler=FRESH),
    "ECT": Run("digits_lsd", 500, (*CONSISTENT, *RATIO, EVEN), taught=False, sampler=FRESH),
    "DMD": GENERATOR,
    "SiD": replace(GENERATOR, changes=(*GENERATOR.changes, "loss.divergence=fisher")),
    "reflow": REFLOW,
    "reflow, 2nd run": replace(REFLOW, begins="reflow"),
}
DIGITS = Subject("digits", METHODS)


if __name__ == "__main__":
    raise SystemExit(main(DIGITS, __doc__))
