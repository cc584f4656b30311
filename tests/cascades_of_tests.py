"""A network with the conditions of a cascade, which compiles in no time."""

import jax.numpy as jnp

from diffjax.nets.network import Network


def network(conditions=()) -> Network:
    """Return a network whose output depends on all of its conditions, each by a local formula."""

    def apply(params, x, c_noise, cond, *, key=None):
        column = lambda a: jnp.asarray(a, x.dtype).reshape(len(x), *(1,) * (x.ndim - 1))
        cond = cond or {}
        y = params["scale"] * x
        y = y + 0.5 * cond["low"] if "low" in cond else y
        y = y + 0.3 * column(cond["tau"]) if "tau" in cond else y
        return y + 0.02 * column(cond["label"]) if "label" in cond else y

    return Network(init=lambda *_: {"scale": jnp.ones(())}, apply=apply)
