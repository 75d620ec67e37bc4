"""How owners share the runners of a machine that has too few for all."""

from __future__ import annotations

from collections.abc import Mapping


def shares(demand: Mapping[str, int], held: Mapping[str, int], capacity: int) -> dict[str, int]:
    """How many runners each owner may have (max-min fairness): no owner gets more than demanded,
    and the others get what is left. A remainder goes to the owners that have the most runners
    already, so that runners do not move back and forth.

    Args:
        demand: runners that each owner's models want.
        held: runners that each owner has now.
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
