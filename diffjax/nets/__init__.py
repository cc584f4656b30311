"""Networks as pairs `Network(init, apply)`: one file per backbone, and their catalogue.

Flax stays inside this package, and nothing in the package knows about diffusion.

    >>> from diffjax.nets.conditions import Label
    >>> unet(channels=32, multipliers=(1, 2), attention=(4,), conditions=(Label(10),))
    Network(UNet)
"""

from diffjax.arrays import catalogue
from diffjax.nets.adapted import Adapted, adapted
from diffjax.nets.adapters import ADAPTERS
from diffjax.nets.autoencoder import Autoencoder, autoencoder
from diffjax.nets.control import Controlled, ControlNet, controlled
from diffjax.nets.discriminator import DISCRIMINATORS
from diffjax.nets.dit import dit
from diffjax.nets.edm2 import edm2
from diffjax.nets.egnn import egnn
from diffjax.nets.features import T2I
from diffjax.nets.image_prompt import ImagePrompt
from diffjax.nets.mlp import mlp
from diffjax.nets.network import Network, linen
from diffjax.nets.nnx import nnx
from diffjax.nets.unet import unet
from diffjax.nets.wavenet import wavenet

CONTROLS = {"control_net": ControlNet, "t2i": T2I, "image_prompt": ImagePrompt}
NETWORKS = catalogue(unet, edm2, dit, mlp, wavenet, egnn)
AUTOENCODERS = catalogue(autoencoder)
"""Networks of images alone, without a noise level, which no denoising objective can train."""

__all__ = [
    "ADAPTERS",
    "AUTOENCODERS",
    "CONTROLS",
    "DISCRIMINATORS",
    "NETWORKS",
    "Adapted",
    "Autoencoder",
    "Controlled",
    "Network",
    "adapted",
    "autoencoder",
    "controlled",
    "dit",
    "edm2",
    "egnn",
    "linen",
    "mlp",
    "nnx",
    "unet",
    "wavenet",
]
