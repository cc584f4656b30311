"""Pictures, uint8 arrays (H, W, 3): `save` writes one to a file, `show` shows it in a notebook."""

from diffjax.data.kinds.drawing import grid, save
from diffjax.data.kinds.figures import scatter
from diffjax.plot.drawn import Shown, show
from diffjax.plot.images import captioned, closest, colours, noised, samples, strips
from diffjax.plot.lines import curves, lines, table
from diffjax.plot.paths import animation, film, trajectory
from diffjax.plot.points import clouds, field, heat, paths, plane

__all__ = [
    "Shown",
    "animation",
    "captioned",
    "closest",
    "clouds",
    "colours",
    "curves",
    "field",
    "film",
    "grid",
    "heat",
    "lines",
    "noised",
    "paths",
    "plane",
    "samples",
    "save",
    "scatter",
    "show",
    "strips",
    "table",
    "trajectory",
]
