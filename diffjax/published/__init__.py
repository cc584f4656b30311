"""Converters of published networks: one file per code base, from named tensors to parameters."""

from diffjax.io.contents import Contents
from diffjax.published import (
    diffusers,
    dit,
    edm,
    edm2,
    flux,
    guided,
    pixart,
    score_sde,
    sd3,
    stable,
)
from diffjax.published.controls import READERS
from diffjax.published.family import Converted, Family
from diffjax.published.names import cleaned, prefixes, unwrapped

FAMILIES = {
    "diffusers": Family(
        diffusers.convert,
        diffusers.MARKS,
        lambda contents: (
            prefixes(contents.tensors, diffusers.MARKS) != [] and not stable.recognises(contents)
        ),
    ),
    "stable_diffusion": Family(stable.convert, stable.MARKS, stable.recognises),
    "pixart": Family(pixart.convert, pixart.MARKS),
    "sd3": Family(sd3.convert, sd3.MARKS),
    "flux": Family(flux.convert, flux.MARKS),
    "dit": Family(dit.dit, dit.MARKS),
    "sit": Family(dit.sit, dit.MARKS),
    "edm": Family(edm.convert, recognises=edm.recognises),
    "edm2": Family(edm2.convert, recognises=edm2.recognises),
    "guided": Family(guided.convert, guided.MARKS),
    "score_sde": Family(score_sde.convert, recognises=score_sde.recognises),
}

__all__ = ["FAMILIES", "Converted", "Family", "bare", "recognised"]


def recognised(contents: Contents) -> str:
    """Return the name of the family of these contents.

    Raises ValueError where no family, or more than one, recognises them.

    >>> recognised(Contents({"w": 0}, {}))
    Traceback (most recent call last):
    ValueError: family: ...
    """
    if (kind := str((contents.config or {}).get("_class_name"))) in READERS:
        raise ValueError(f"family: a {kind} acts beside a network: name it by --adapter=PATH")
    contents = cleaned(contents)
    known = [name for name, family in FAMILIES.items() if family.knows(contents)]
    if len(known) == 1:
        return known[0]
    some = ", ".join(sorted(contents.tensors)[:4])
    raise ValueError(
        f"family: the tensors ({some}, ...) fit {' and '.join(known) or 'none'}; set one of "
        f"{', '.join(FAMILIES)}"
    )


def bare(contents: Contents, family: Family) -> tuple[Contents, tuple[str, ...]]:
    """Return the tensors of the network alone, by its own names, and a note on what is left out.

    Raises ValueError where they are not the tensors of this family.

    >>> family = Family(lambda contents: None, marks=("w",))
    >>> contents, notes = bare(Contents({"net.w": 0, "net.b": 0}, {}), family)
    >>> [*contents.tensors]
    ['w', 'b']
    """
    contents = cleaned(contents)
    return unwrapped(contents, family.marks) if family.marks else (contents, ())
