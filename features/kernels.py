"""The loops behind `features.transforms`, compiled by numba: one pass over a user's events, one over the candidates.

As array operations these took a hundred calls into NumPy for each request, most of the time overhead. Compiled without
fast-math: sums run in one order in every process. Compiled code is cached beside this file.
"""

# mypy: disable-error-code="no-untyped-def,var-annotated"

from __future__ import annotations

import math

import numpy as np
from numba import njit

from features.repurchase import SIZE_POWER

DAY = 86_400.0
HOURS = 2.0
"""Width (standard deviation) of the likeness of two hours of the day."""
EXPECTED_SESSIONS = 150
"""Newest sessions whose chances count for what was expected: bounds the cost of long histories."""

# Columns of what a user's events say of each item they had.
WEIGHT, SESSIONS, FIRST, LAST, PREVIOUS, LAST_SESSION = 0, 1, 2, 3, 4, 5
DECAY_14D, DECAY_60D, FAST, SLOW, RECENT_3, RECENT_5 = 6, 7, 8, 9, 10, 11
VALUE_LAST, VALUE_SUM, EVENTS, EXPECTED, MOMENT, HOUR, HAZARD, AGAIN = 12, 13, 14, 15, 16, 17, 18, 19
OWN_COLUMNS = 20

# Columns of what they say of each group of items.
G_WEIGHT, G_SESSIONS, G_FIRST, G_LAST, G_RECENT = 0, 1, 2, 3, 4
GROUP_COLUMNS = 5

# What they say of the user.
U_SESSIONS, U_ITEMS, U_SIZE, U_LAST_SIZE, U_MOMENT_SIZE, U_SINCE, U_GAP, U_REPEAT = 0, 1, 2, 3, 4, 5, 6, 7
USER_COLUMNS = 8


@njit(cache=True, nogil=True)
def number_sessions(session):
    """Events [n] by session: each one's ordinal, by first appearance [n]; the first event of each session [sessions];
    and the events session by session [n], bounded by [sessions + 1].

    Sessions of a user may overlap in time, so their events need not be neighbours.
    """
    n = len(session)
    ordinal = np.empty(n, np.int64)
    first = np.empty(n, np.int64)
    seen = {}
    count = 0
    for event in range(n):
        if event and session[event] == session[event - 1]:
            ordinal[event] = ordinal[event - 1]
            continue
        if session[event] in seen:
            ordinal[event] = seen[session[event]]
        else:
            seen[session[event]] = count
            ordinal[event] = count
            first[count] = event
            count += 1
    starts = np.zeros(count + 1, np.int64)
    for event in range(n):
        starts[ordinal[event] + 1] += 1
    for s in range(count):
        starts[s + 1] += starts[s]
    walk, fill = np.empty(n, np.int64), starts[:-1].copy()
    for event in range(n):
        walk[fill[ordinal[event]]] = event
        fill[ordinal[event]] += 1
    return ordinal, first[:count].copy(), walk, starts


@njit(cache=True, nogil=True)
def number_items(item, order):
    """Distinct keys, ascending [m], and the position of each event's key among them [n]; ``order`` sorts ``item``."""
    n = len(item)
    keys = np.empty(n, np.int64)
    code = np.empty(n, np.int64)
    m = 0
    for at in range(n):
        event = order[at]
        if at == 0 or item[event] != keys[m - 1]:
            keys[m] = item[event]
            m += 1
        code[event] = m - 1
    return keys[:m].copy(), code


@njit(cache=True, nogil=True)
def sum_up(code, time, first, walk, starts, weight, value, m, now, kind, factor, hazard, bin_of_day, mean_size):
    """What a user's events [n] say at ``now``: of each item [m, OWN_COLUMNS] and of the user [USER_COLUMNS].

    ``code``, ``first``, ``walk``, ``starts``: as from the functions above. ``kind``, ``factor`` [m]: see
    `features.repurchase.Repurchase`, of the user's items.
    """
    n, sessions = len(code), len(first)
    own = np.zeros((m, OWN_COLUMNS))
    user = np.full(USER_COLUMNS, np.nan)
    user[U_SESSIONS], user[U_ITEMS], user[U_SIZE], user[U_REPEAT] = sessions, m, 0.0, 0.0
    if n == 0:
        return own, user
    for item in range(m):
        own[item, FIRST], own[item, PREVIOUS] = np.nan, np.nan
        own[item, LAST_SESSION] = -1
    decay_14d, decay_60d = 0.0, 0.0
    for event in range(n):
        # Events of a basket share their time: powers are dear.
        if event == 0 or time[event] != time[event - 1]:
            age = (now - time[event]) / DAY
            decay_14d, decay_60d = 2.0 ** (-age / 14.0), 2.0 ** (-age / 60.0)
        row = own[code[event]]
        row[WEIGHT] += weight[event]
        row[DECAY_14D] += weight[event] * decay_14d
        row[DECAY_60D] += weight[event] * decay_60d
        row[VALUE_LAST] = value[event]
        row[VALUE_SUM] += value[event]
        if row[EVENTS] == 0.0:
            row[FIRST] = time[event]
        row[EVENTS] += 1.0
        row[LAST] = time[event]
    size = np.empty(sessions)
    for s in range(sessions):
        size[s] = starts[s + 1] - starts[s]

    # How much each session is like this moment, and how close its hour of the day.
    hour, weekend = (now % 86400) / 3600.0, (now // 86400 + 3) % 7 >= 5
    since = (now - time[first[sessions - 1]]) / DAY
    moment, near = np.empty(sessions), np.empty(sessions)
    all_moments, all_near, moment_size = 0.0, 0.0, 0.0
    for s in range(sessions):
        at = time[first[s]]
        apart = abs((at % 86400) / 3600.0 - hour)
        apart = min(apart, 24.0 - apart)
        near[s] = math.exp(-0.5 * (apart / HOURS) ** 2)
        alike = 1.0 if ((at // 86400 + 3) % 7 >= 5) == weekend else 0.5
        pause = 0.5
        if s:
            gap = (at - time[first[s - 1]]) / DAY
            pause = math.exp(-abs(math.log((gap + 0.3) / (since + 0.3))))
        moment[s] = near[s] * alike * pause * 2.0 ** (-(now - at) / DAY / 60.0)
        all_moments += moment[s]
        all_near += near[s]
        moment_size += moment[s] * size[s]

    had, latest = np.empty(m, np.int64), np.empty(m, np.int64)
    count, longest = 0, len(bin_of_day) - 1
    for s in range(sessions):
        at = time[first[s]]
        ago = sessions - 1 - s
        if ago < EXPECTED_SESSIONS:
            chance = (size[s] / mean_size) ** SIZE_POWER
            for position in range(count):
                item = had[position]
                days = min(longest, (at - latest[item]) // 86400)
                own[item, EXPECTED] += chance * hazard[kind[item], bin_of_day[days]]
        fast, slow = 0.9**ago, 0.97**ago
        for position in range(starts[s], starts[s + 1]):
            item = code[walk[position]]
            row = own[item]
            if row[LAST_SESSION] == s:
                continue
            if row[LAST_SESSION] < 0:
                had[count] = item
                count += 1
            else:
                row[PREVIOUS] = latest[item]
            row[LAST_SESSION] = s
            row[SESSIONS] += 1.0
            row[FAST] += fast
            row[SLOW] += slow
            if ago < 3:
                row[RECENT_3] += 1.0
            if ago < 5:
                row[RECENT_5] += 1.0
            row[MOMENT] += moment[s]
            row[HOUR] += near[s]
            latest[item] = at
    for item in range(m):
        row = own[item]
        days = min(longest, (now - latest[item]) // 86400)
        row[HAZARD] = hazard[kind[item], bin_of_day[days]]
        row[AGAIN] = row[HAZARD] * (row[SESSIONS] - 1.0 + factor[item]) / (row[EXPECTED] + 1.0)
        row[MOMENT] /= max(all_moments, 1e-300)
        row[HOUR] /= max(all_near, 1e-300)
        row[PREVIOUS] = (latest[item] - row[PREVIOUS]) / DAY
    user[U_SIZE] = n / sessions
    user[U_LAST_SIZE] = size[sessions - 1]
    user[U_MOMENT_SIZE] = moment_size / max(all_moments, 1e-300)
    user[U_SINCE] = since
    if sessions > 1:
        user[U_GAP] = (time[first[sessions - 1]] - time[first[0]]) / DAY / (sessions - 1)
    user[U_REPEAT] = 1.0 - m / n
    return own, user


@njit(cache=True, nogil=True)
def sum_up_groups(group, code, time, walk, starts, weight):
    """Groups the user had, ascending [g], what the events say of each [g, GROUP_COLUMNS], and the weight of all.

    ``group`` [m]: the group of each of the user's items, below 0 for none.
    """
    m, sessions = len(group), len(starts) - 1
    order = np.argsort(group)
    groups, of_item = np.empty(m, np.int64), np.full(m, -1, np.int64)
    g = 0
    for position in range(m):
        item = order[position]
        if group[item] < 0:
            continue
        if g == 0 or group[item] != groups[g - 1]:
            groups[g] = group[item]
            g += 1
        of_item[item] = g - 1
    found = np.zeros((g, GROUP_COLUMNS))
    latest = np.full(g, -1, np.int64)
    total = 0.0
    for event in range(len(code)):
        at = of_item[code[event]]
        if at < 0:
            continue
        if found[at, G_WEIGHT] == 0.0:
            found[at, G_FIRST] = time[event]
        found[at, G_WEIGHT] += weight[event]
        found[at, G_LAST] = time[event]
        total += weight[event]
    for s in range(sessions):
        for position in range(starts[s], starts[s + 1]):
            at = of_item[code[walk[position]]]
            if at < 0 or latest[at] == s:
                continue
            latest[at] = s
            found[at, G_SESSIONS] += 1.0
            if s >= sessions - 10:
                found[at, G_RECENT] += 1.0
    return groups[:g].copy(), found, total


@njit(cache=True, nogil=True)
def find(values, wanted):
    """Position of ``wanted`` in ascending ``values``, -1 where it is not there."""
    low, high = 0, len(values)
    while low < high:
        middle = (low + high) // 2
        if values[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    if low < len(values) and values[low] == wanted:
        return low
    return -1


@njit(cache=True, nogil=True)
def fill_user_items(matrix, at, keys, wanted, own, factor, user, now):
    """Write the user-item and user columns of each candidate from column ``at`` on, co-purchase left out.

    ``keys`` [m]: the user's items, ascending. ``wanted`` [c]: keys of the candidates; ``factor`` [c]: their own.
    """
    sessions = user[U_SESSIONS]
    for candidate in range(len(wanted)):
        out = matrix[candidate, at:]
        item = find(keys, wanted[candidate])
        if item < 0:
            for column in range(24):
                out[column] = np.nan
            for column in (0, 1, 2, 9, 10, 11, 12, 14, 15, 20, 22, 23):
                out[column] = 0.0
        else:
            row = own[item]
            since, begun = (now - row[LAST]) / DAY, (now - row[FIRST]) / DAY
            interval = (begun - since) / (row[SESSIONS] - 1.0) if row[SESSIONS] > 1.0 else np.nan
            out[0] = row[WEIGHT]
            out[1] = row[SESSIONS]
            out[2] = row[SESSIONS] / max(1.0, sessions)
            out[3] = since
            out[4] = begun
            out[5] = interval
            out[6] = since / interval if interval > 0.0 else np.nan
            out[7] = row[PREVIOUS]
            out[8] = since / row[PREVIOUS] if row[PREVIOUS] > 0.0 else np.nan
            out[9] = row[DECAY_14D]
            out[10] = row[DECAY_60D]
            out[11] = row[FAST]
            out[12] = row[SLOW]
            out[13] = sessions - 1.0 - row[LAST_SESSION]
            out[14] = row[RECENT_3]
            out[15] = row[RECENT_5]
            out[16] = row[VALUE_LAST]
            out[17] = row[VALUE_SUM] / row[EVENTS]
            out[18] = row[HAZARD]
            out[19] = row[SESSIONS] - 1.0 - row[EXPECTED]
            out[20] = row[AGAIN]
            out[21] = (row[SESSIONS] - 1.0 + 3.0 * factor[candidate]) / (row[EXPECTED] + 3.0)
            out[22] = row[MOMENT]
            out[23] = row[HOUR]
        for column in range(U_GAP):
            out[25 + column] = user[column]
        out[31] = user[U_GAP]
        out[32] = user[U_SINCE] / user[U_GAP] if user[U_GAP] > 0.0 else np.nan
        out[33] = user[U_REPEAT]


@njit(cache=True, nogil=True)
def fill_kinds(matrix, at, kinds, of_kind, wanted, keys, wanted_keys, own):
    """Write k_again, k_choice and k_need from column ``at`` on.

    ``kinds`` [g]: kinds the user had, ascending; ``of_kind`` [g, OWN_COLUMNS]: `sum_up` of them. ``wanted`` [c]: the
    candidates' kinds, ``wanted_keys`` [c] their keys; ``keys`` [m], ``own``: the user's items.
    """
    for candidate in range(len(wanted)):
        out = matrix[candidate, at:]
        kind = find(kinds, wanted[candidate])
        if kind < 0:
            out[0], out[1], out[2] = 0.0, np.nan, 0.0
            continue
        item = find(keys, wanted_keys[candidate])
        choice = own[item, DECAY_60D] / of_kind[kind, DECAY_60D] if item >= 0 else 0.0
        out[0] = of_kind[kind, AGAIN]
        out[1] = choice
        out[2] = of_kind[kind, AGAIN] * choice


@njit(cache=True, nogil=True)
def fill_groups(matrix, at, groups, found, total, wanted, now):
    """Write the columns of one affinity slot from column ``at`` on; ``wanted`` [c]: the candidates' groups.

    Column 0 of the matrix is the user's weight with the candidate.
    """
    for candidate in range(len(wanted)):
        out = matrix[candidate, at:]
        group = find(groups, wanted[candidate]) if wanted[candidate] >= 0 else -1
        if group < 0:
            out[0], out[1], out[4] = 0.0, 0.0, 0.0
            out[2], out[3], out[5] = np.nan, np.nan, np.nan
            continue
        row = found[group]
        since = (now - row[G_LAST]) / DAY
        interval = (row[G_LAST] - row[G_FIRST]) / DAY / (row[G_SESSIONS] - 1.0) if row[G_SESSIONS] > 1.0 else np.nan
        out[0] = row[G_WEIGHT] / max(total, 1e-9)
        out[1] = row[G_SESSIONS]
        out[2] = since
        out[3] = since / interval if interval > 0.0 else np.nan
        out[4] = row[G_RECENT]
        out[5] = matrix[candidate, 0] / row[G_WEIGHT] if row[G_WEIGHT] > 0.0 else np.nan
