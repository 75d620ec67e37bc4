"""Who gets the runners of a machine that has not enough of them: owners share it evenly."""

from __future__ import annotations

from collections.abc import Mapping


def shares(demand: Mapping[str, int], held: Mapping[str, int], capacity: int) -> dict[str, int]:
    """How many runners each owner may have (max-min fairness): nobody gets more than they want, and
    what one does not want the others have. What cannot be divided goes to who holds more already,
    so that no runner moves to and fro.

    Args:
        demand: runners that each owner's models shall have.
        held: runners that each owner has.
    """
    given = dict.fromkeys(demand, 0)
    left, open_ = capacity, {owner for owner, wanted in demand.items() if wanted}
    while left >= len(open_) > 0:
        step = min(left // len(open_), min(demand[owner] - given[owner] for owner in open_))
        for owner in open_:
            given[owner] += step
        left -= step * len(open_)
        open_ = {owner for owner in open_ if given[owner] < demand[owner]}
    for owner in sorted(open_, key=lambda owner: (-held.get(owner, 0), owner))[:left]:
        given[owner] += 1
    return given
