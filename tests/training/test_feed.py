"""The thread that prepares batches: order, errors, and limited waiting."""

import itertools
import threading
import time
from contextlib import closing

import pytest

from diffjax.training.feed import Feed, Stalled


def test_items_come_in_order_and_one_ahead():
    made = []
    with closing(Feed(made.append(k) or k for k in itertools.count())) as feed:
        assert [feed.take() for _ in range(5)] == [0, 1, 2, 3, 4]
    assert made[:5] == [0, 1, 2, 3, 4] and len(made) <= 7


def test_what_the_data_raise_is_raised_where_they_are_taken():
    def items():
        yield 1
        raise OSError("gone")

    with closing(Feed(items())) as feed:
        assert feed.take() == 1
        with pytest.raises(OSError, match="gone"):
            feed.take()


@pytest.mark.parametrize("how", ["limit", "stopped"])
def test_a_wait_ends_at_its_limit_or_when_asked(how):
    """A hung disk would block the run for ever, or a stopped run not stop."""
    come = threading.Event()
    with closing(Feed((come.wait() for _ in range(3)), 0.3 if how == "limit" else 0.0)) as feed:
        began = time.monotonic()
        with pytest.raises(Stalled, match=r"\d\.\d s"):
            feed.take(lambda: how == "stopped")
        assert time.monotonic() - began < 30
        come.set()
        assert feed.take() is True
