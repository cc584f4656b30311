"""Metrics of samples and of networks; each is an entry of a catalogue here.

Metrics of samples are functions `(real, samples, **settings) -> result`, metrics of a network on a
set of images, or in an environment, `(subject, **settings) -> result`.
"""

from diffjax.arrays import catalogue
from diffjax.evaluation.chemistry import molecules
from diffjax.evaluation.clips import motion, one_class, paths
from diffjax.evaluation.clouds import clouds
from diffjax.evaluation.completion import completion
from diffjax.evaluation.conformers import conformers
from diffjax.evaluation.copies import memorization
from diffjax.evaluation.energies import energies
from diffjax.evaluation.ensembles import crps, energy, rank_histogram, spread_skill
from diffjax.evaluation.gaussian import (
    fid,
    fid_infinity,
    fid_per_class,
    frechet,
    frechet_with_floor,
    sfid,
)
from diffjax.evaluation.images import Subject
from diffjax.evaluation.kernels import cmmd, kid
from diffjax.evaluation.likelihood import bpd, vlb
from diffjax.evaluation.neighbours import density_coverage, precision_recall
from diffjax.evaluation.policies import success
from diffjax.evaluation.power import spectrum
from diffjax.evaluation.retrieval import retrieval
from diffjax.evaluation.samples import Real, Samples
from diffjax.evaluation.scores import classifier, clip_score, inception_score
from diffjax.evaluation.spectral import log_spectral
from diffjax.evaluation.tables import closest_record, columns, downstream

OF_SAMPLES = catalogue(
    *(frechet, fid, fid_infinity, fid_per_class, sfid, kid, cmmd),
    *(precision_recall, density_coverage, inception_score, classifier, memorization),
    *(clip_score, retrieval, log_spectral),
    *(columns, closest_record, downstream, energies, clouds, completion),
    *(molecules, conformers),
    *(crps, energy, spread_skill, rank_histogram, spectrum),
    *(one_class, paths, motion),
)
OF_NETWORK = catalogue(bpd, vlb, success)

__all__ = [
    "OF_NETWORK",
    "OF_SAMPLES",
    "Real",
    "Samples",
    "Subject",
    "bpd",
    "frechet_with_floor",
    "vlb",
]
