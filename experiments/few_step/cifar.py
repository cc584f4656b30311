"""How good are small CIFAR-10 images in one to eight steps, by methods from the same teacher?

    python -m diffjax.train --config=configs/cifar_vp_small.py --workdir=runs/cifar_few \\
        --config.network.channels=32 --config.train.steps=1200
    python -m experiments.few_step.cifar --workdir=runs/cifar_few --runs=runs/few_cifar \\
        --out=experiments/few_step

Every method begins with the weights of the teacher; how all are measured is in `distilled`. No
classifier judges the samples. Writes cifar.json, of which what is there is neither trained nor
sampled again, cifar-samples.png and cifar-curves.png. After an interruption the same command
resumes. Needs TFDS_DATA_DIR.
"""

from __future__ import annotations

from experiments.few_step.digits import CONSISTENT, EVEN, FRESH, NEIGHBOURS, SEMIGROUP, TAUGHT
from experiments.few_step.distilled import Subject, main
from experiments.few_step.ways import Run, Way

NETWORK = "network.channels=32"
DMD = ("loss={'name': 'distribution_matching', 'critic_steps': 2}", "sampling.steps=1")
STORED = ("loss.pairing=stored", "loss.condition_dropout=0.0", "data.flip=False")
METHODS: dict[str, Way] = {
    "LMD": Run("cifar_lmd", 200, (NETWORK, *TAUGHT)),
    "PSD": Run("cifar_lmd", 200, (NETWORK, *SEMIGROUP)),
    "CD": Run("cifar_lmd", 250, (NETWORK, *CONSISTENT, *NEIGHBOURS, EVEN), sampler=FRESH),
    "DMD": Run("cifar_vp_small", 200, (NETWORK, *DMD), rate=5e-4, sampler="ddim", nfe=(1,)),
    "reflow": Run(
        "cifar_vp_small", 400, (NETWORK, *STORED), taught=False, pairs=2000, sampler="ddim"
    ),
}
CIFAR = Subject("cifar", METHODS, judged=False)


if __name__ == "__main__":
    raise SystemExit(main(CIFAR, __doc__))
