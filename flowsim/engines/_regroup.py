"""Neurons go from group to group, one after another, compiled."""

from __future__ import annotations

from numba import njit


@njit(cache=True, nogil=True)
def regroup(  # pragma: no cover - compiled
    neurons, key, alive, known, slot, count, used, free, unused, changes
):
    """Put each of `neurons` into the slot of its cell, if it is alive.

    Slots are given back and taken in the order of neurons, which decides the order in which
    groups are summed.

    Parameters
    ----------
    neurons, key, alive : (K,)
        Who, the numbers of their cells, and whether they live.
    known : (C,)
        The slots of these cells, -1 for those that have none; changed in place, as are:
    slot : (m,)
        Of all neurons, -1 for those in none.
    count : (slots,)
        How many neurons a slot holds; there is room for the cells that have none, beyond free ones.
    used, free, unused
        Slots from `used` on have never been taken; free[:unused] are free again.
    changes : (2 K, 2)
        Receives slots, and the numbers of the cells that have taken them, or -1 where they
        have become free.

    Returns
    -------
    used, unused, and how many changes there are.
    """
    owner, changed = count.copy(), 0
    owner[:] = -1
    for c in range(known.shape[0]):
        if known[c] >= 0:
            owner[known[c]] = c
    for i in range(neurons.shape[0]):
        j, c = neurons[i], key[i]
        here = slot[j]
        if here >= 0 and alive[i] and known[c] == here:
            continue
        if here >= 0:
            count[here] -= 1
            if count[here] == 0:
                if owner[here] >= 0:
                    known[owner[here]] = -1
                owner[here] = -1
                free[unused] = here
                changes[changed, 0], changes[changed, 1] = here, -1
                unused += 1
                changed += 1
        slot[j] = -1
        if not alive[i]:
            continue
        if known[c] < 0:
            if unused > 0:
                unused -= 1
                new = free[unused]
            else:
                new = used
                used += 1
            known[c], owner[new] = new, c
            changes[changed, 0], changes[changed, 1] = new, c
            changed += 1
        slot[j] = known[c]
        count[known[c]] += 1
    return used, unused, changed


@njit(cache=True, nogil=True)
def list_by_slot(slot, place, members):  # pragma: no cover - compiled
    """List the neurons by slot, those of one in their order; place (slots,) is where they begin."""
    for j in range(slot.shape[0]):
        if slot[j] >= 0:
            members[place[slot[j]]] = j
            place[slot[j]] += 1


@njit(cache=True, nogil=True)
def find_members(neurons, group, start, members, out):  # pragma: no cover - compiled
    """Write which member of its group each neuron is; those of a group ascend."""
    for i in range(neurons.shape[0]):
        low, high = start[group[i]], start[group[i] + 1]
        while low < high:
            mid = (low + high) // 2
            if members[mid] < neurons[i]:
                low = mid + 1
            else:
                high = mid
        out[i] = low - start[group[i]]
