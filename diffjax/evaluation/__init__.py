"""How good samples and networks are. A metric is an entry of a catalogue here.

Those of samples are `(real, samples, **settings) -> result`, those of the network on a set of
images `(subject, **settings) -> result`.
"""

from diffjax.arrays import catalogue
from diffjax.evaluation.cells import Cell, Made
from diffjax.evaluation.images import Subject
from diffjax.evaluation.judge import Agreement, Judge, fit
from diffjax.evaluation.likelihood import bpd, vlb
from diffjax.evaluation.metrics import Frechet, Memorization, frechet_with_floor, nearest
from diffjax.evaluation.samples import Real, Samples, classifier, features, frechet, memorization

OF_SAMPLES = catalogue(frechet, classifier, memorization)
OF_NETWORK = catalogue(bpd, vlb)

__all__ = [
    "OF_NETWORK",
    "OF_SAMPLES",
    "Agreement",
    "Cell",
    "Frechet",
    "Judge",
    "Made",
    "Memorization",
    "Real",
    "Samples",
    "Subject",
    "bpd",
    "features",
    "fit",
    "frechet_with_floor",
    "nearest",
    "vlb",
]
