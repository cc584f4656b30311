"""The table: what its rows mean, what it refuses, and what follows without running it."""

import numpy as np
import pytest
from plain import FRAMES, VARIANTS, label, of_the_ode

from diffjax.samplers import (
    SAMPLERS,
    Combination,
    Program,
    ancestral,
    ddim,
    dpmpp_2m,
    dpmpp_3m,
    heun,
    lms,
    moments,
    rk4,
    unipc,
    unroll,
)
from diffjax.samplers.conformance import DOWN, MEAN, TIMES, VAR, VP_LINEAR, simulate
from diffjax.samplers.program import X, Z
from diffjax.samplers.table import OUTPUTS, READ, WRITE, eps, x0
from diffjax.sde import levels

methods = pytest.mark.parametrize("method", VARIANTS, ids=label)


def program(read=x0):
    """A program that uses every feature: old noise, kept outputs, freed slots, idle noise."""
    p = Program(read)
    a = p.network(0.9, 0.5 * X + 0.25 * Z)
    p.step(0.5 * X + 0.1 * a + 0.3 * Z)
    old = p.noise()
    b = p.network(0.8, X - 0.2 * a + 0.4 * old)
    c = p.network(0.7, X / 2.0 + b)
    p.step(0.3 * X + 0.2 * a - 0.1 * b + 0.7 * c + 0.2 * old + 0.6 * Z)
    d = p.network(0.6, X + 0.1 * c)
    p.step(X - 0.5 * d + 0.25 * c)
    p.network(0.5)
    return p.table()


def direct(net, zs, x):
    """Compute the result of `program` directly from its rows."""
    a = net(0, 0.5 * x + 0.25 * zs[0])
    x = 0.5 * x + 0.1 * a + 0.3 * zs[0]
    b = net(1, x - 0.2 * a + 0.4 * zs[0])
    c = net(2, x / 2 + b)
    x = 0.3 * x + 0.2 * a - 0.1 * b + 0.7 * c + 0.2 * zs[0] + 0.6 * zs[2]
    d = net(3, x + 0.1 * c)
    x = x - 0.5 * d + 0.25 * c
    net(4, x)
    return x


def test_a_table_means_what_its_program_means():
    """Slots would be shifted, freed too early, or overwritten by another row."""
    table = program()
    inputs, basis = [], np.eye(11)

    def net(i, u):
        inputs.append(u)
        return basis[1 + i]

    result = direct(net, basis[6:], basis[0])
    ours = unroll(table)
    np.testing.assert_allclose(ours.inputs, inputs, atol=1e-15)
    np.testing.assert_allclose(ours.result, result, atol=1e-15)
    simulated = simulate(table, lambda i, u: basis[1 + i], basis[0], basis[6:])
    np.testing.assert_allclose(simulated, result, atol=1e-15)
    np.testing.assert_array_equal(table.noisy, [True, False, True, False, False])


@pytest.mark.parametrize("read", [x0, eps], ids=["x0", "eps"])
def test_moments_are_those_of_the_affine_map(read):
    """The distributions that prove the samplers would not be those of their tables."""
    table, law = program(read), (0.3, 1.7)
    at = levels(VP_LINEAR, table.t)
    var = at.alpha**2 * VAR + at.sigma**2
    basis = np.eye(7)  # 1, x_T, z_1 .. z_5: all independent

    def net(i, u):
        eps_hat = at.sigma[i] / var[i] * (u - at.alpha[i] * MEAN * basis[0])
        return eps_hat if read is eps else (u - at.sigma[i] * eps_hat) / at.alpha[i]

    r = direct(net, basis[2:], basis[1])
    exact = r[0] + r[1] * law[0], r[1] ** 2 * law[1] + (r[2:] ** 2).sum()
    np.testing.assert_allclose(moments(table, VP_LINEAR, MEAN, VAR, law), exact, rtol=1e-12)


def test_moments_start_from_the_prior():
    """Bias would be measured from another start than the sampler's."""
    sde = FRAMES["ve"]
    table, sigma = ddim(sde, TIMES), levels(sde, TIMES).sigma[0]
    assert moments(table, sde, MEAN, VAR) == moments(table, sde, MEAN, VAR, (0.0, sigma**2))


def test_combinations_are_linear():
    """A coefficient would be lost where both sides, or only one, have the register."""
    both = 2.0 * (X + 0.5 * Z) - X / 4.0
    assert both == {"x": 1.75, "z": 1.0}
    assert 2 * X == {"x": 2.0}  # whole numbers too
    assert X - Combination(y0=1.0) == {"x": 1.0, "y0": -1.0}


def test_program_refuses_what_a_table_cannot_hold():
    """A typing error would be a coefficient of zero, or a sixth output overwrite another."""
    with pytest.raises(ValueError, match="at least one row"):
        Program().table()
    p = Program()
    p.network(0.5, Combination(noise=1.0))
    with pytest.raises(ValueError, match=r"row 0: no such register 'noise'; known: \['x', "):
        p.table()
    p = Program()
    p.network(0.5, X + Combination(y0=1.0))  # its own output, before there is one
    with pytest.raises(ValueError, match="row 0: no such register 'y0'"):
        p.table()
    p = Program()
    ys = [p.network(0.9 - 0.1 * i) for i in range(OUTPUTS + 2)]
    for y in ys:
        p.step(X + sum(ys[1:], ys[0])) if y is ys[-1] else None
    with pytest.raises(ValueError, match=r"row 5: needs more registers .*: \['y0', .*'y4'\]"):
        p.table()
    p = Program()
    olds = []
    for i in range(3):
        p.network(0.9 - 0.1 * i)
        p.step(X + 0.1 * Z)
        olds.append(p.noise())
    p.step(X + olds[0] + olds[1])
    with pytest.raises(ValueError, match="row 1: needs more registers than exist"):
        p.table()


def test_as_many_outputs_as_fit_are_kept_by_reuse():
    """A long multistep method would run out of slots, or read another row's output."""
    times = np.linspace(0.9, 0.02, 41)
    table = lms(VP_LINEAR, times, order=4)
    assert len(table) == 40 and set(table.keep) <= set(range(OUTPUTS + 1))
    lines = str(table).splitlines()
    assert lines[0] == "40 rows, y = eps"
    for i, line in enumerate(lines[1:]):
        update = line.split("x = ")[1].split()[2:]
        used = {int(name[1:]) for name in update[1::2]}
        assert used == set(range(max(0, i - 3), i + 1))


def test_printed_table_shows_what_is_in_it():
    """A printed table would hide coefficients, guidance, learned variance or idle rows."""
    p = Program(eps)
    a = p.network(0.5)
    p.step(0.25 * X - 2.0 * Z, spread=0.125)
    p.network(0.25, Combination())
    p.step(a)
    table = p.table().pad(3)
    table.weight[1] = 3.0
    lines = [" ".join(line.split()) for line in str(table).splitlines()]
    assert lines[0] == "3 rows, y = eps"
    assert lines[1] == "0 t = 0.500000 u = +1 x x = +0.25 x -2 z0 z exp(0.125 r)"
    assert lines[2] == "1 t = 0.250000 u = 0 x = +1 y0 w = 3"
    assert lines[3].endswith("(idle)")
    assert table.learned and not ddim(VP_LINEAR, DOWN).learned


@methods
def test_padding_changes_nothing(method):
    """A padded table would be another method."""
    name, settings = method
    table = SAMPLERS[name](VP_LINEAR, DOWN, **settings)
    rows = len(table)
    padded = table.pad(rows + 5)
    assert len(padded) == rows + 5 and not padded.active[rows:].any() and padded.active[:rows].all()
    ours, theirs = unroll(padded), unroll(table)
    keep = np.r_[0 : 1 + rows, 6 + rows : 6 + 2 * rows]
    np.testing.assert_array_equal(ours.result[keep], theirs.result)
    np.testing.assert_array_equal(ours.inputs[:, keep], theirs.inputs)
    assert moments(padded, VP_LINEAR, 0.7, 0.3) == moments(table, VP_LINEAR, 0.7, 0.3)
    with pytest.raises(ValueError, match=rf"rows=3: the table has {rows} rows already"):
        table.pad(3)


LATE = ("unipc", "sa_solver")


@pytest.mark.parametrize("method", [m for m in VARIANTS if m[0] not in LATE], ids=label)
def test_stopping_early_is_planning_for_the_cut_grid(method):
    """A stopped run would have other rows than one that was planned to stop there.

    Exceptions are methods whose state is one row late, and the last step of `unipc`, which has a
    lower order.
    """
    name, settings = method
    cut = SAMPLERS[name](VP_LINEAR, DOWN[:4], **settings)
    rows = len(cut)
    table = SAMPLERS[name](VP_LINEAR, DOWN, **settings)[:rows]
    for ours, theirs in zip(unroll(table), unroll(cut), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


def test_slices_that_need_what_is_cut_are_refused():
    """A late start would read zeros as its history."""
    late = ddim(VP_LINEAR, DOWN)[2:]
    np.testing.assert_allclose(unroll(late).result, unroll(ddim(VP_LINEAR, DOWN[2:])).result)
    for table in (dpmpp_2m(VP_LINEAR, DOWN), dpmpp_3m(VP_LINEAR, DOWN), lms(VP_LINEAR, DOWN)):
        with pytest.raises(ValueError, match=r"row 3 reads registers of rows before 3 .*y\["):
            table[3:]
    with pytest.raises(ValueError, match=r"row 1 reads registers of rows before 1"):
        heun(VP_LINEAR, DOWN)[1:]  # the middle of a step
    assert len(heun(VP_LINEAR, DOWN)[2:]) == len(heun(VP_LINEAR, DOWN[1:]))
    with pytest.raises(ValueError, match="needs consecutive rows"):
        late[::2]
    with pytest.raises(ValueError, match="selects none of the 5 rows"):
        late[7:]


# Increasing times: from the data to noise.


def there_and_back(method, n):
    """Return the largest error of x after inversion and return, in standard deviations."""
    name, settings = method
    times, start = np.linspace(0.1, 0.7, n + 1), np.array([0.0, 1.0])
    there, back = (SAMPLERS[name](VP_LINEAR, t, **settings) for t in (times, times[::-1]))
    noise = moments(there, VP_LINEAR, MEAN, VAR, (start, 0 * start))
    return np.abs(moments(back, VP_LINEAR, MEAN, VAR, noise)[0] - start).max()


INVERTIBLE = [m for m in VARIANTS if of_the_ode(m[0], **m[1])]


@pytest.mark.parametrize("method", INVERTIBLE, ids=label)
def test_inversion_and_back_is_the_identity_at_the_methods_order(method):
    """Increasing times would run another method. The order from a cold start is 2."""
    order = min(SAMPLERS[method[0]].order(**method[1]), 2)
    coarse, fine = there_and_back(method, 32), there_and_back(method, 64)
    assert fine < 0.12
    assert fine < 1e-8 or coarse / fine > 0.8 * 2**order


@pytest.mark.parametrize("method", [m for m in VARIANTS if m not in INVERTIBLE], ids=label)
def test_noise_cannot_be_inverted(method):
    """The sampler would take the root of a negative variance, or add noise twice."""
    name, settings = method
    with pytest.raises(ValueError, match=rf"{name} adds noise, so it cannot be inverted"):
        SAMPLERS[name](VP_LINEAR, TIMES[::-1], **settings)


@pytest.mark.parametrize(
    "times",
    [
        [0.5],
        [0.5, 0.5, 0.0],
        [0.5, 0.6, 0.1],
        [0.5, np.nan, 0.0],
        [1.0, 0.5, -0.1],
        [[1.0, 0.5]],
        [1.1, 0.5, 0.0],
        [0.0, 0.5],
        [0.5, 1.1],
    ],
    ids=lambda times: "_".join(map(str, np.ravel(times))),
)
def test_bad_times_are_refused(times):
    """A sampler would step twice at one time, or call the network outside its range."""
    with pytest.raises(ValueError, match="times"):
        ddim(VP_LINEAR, np.array(times))


def test_sampler_knows_its_order_from_its_settings():
    """Reports and tests would assume the default order for all settings."""
    assert (heun.__name__, heun.order(), rk4.order(), ddim.order(eta=1.0)) == ("heun", 2, 4, 1)
    assert (lms.order(), lms.order(order=2), lms.order(order=2, lower_final=True)) == (4, 2, 2)
    assert (unipc.order(), unipc.order(order=2), unipc.order(corrector=False)) == (4, 3, 3)
    assert (dpmpp_3m.order(), dpmpp_3m.order(eta=1.0)) == (3, 2)
    assert len(READ) == 1 + OUTPUTS + 2 and len(WRITE) == len(READ) + 1
    assert ancestral.passes == 1 and heun.passes == 2
