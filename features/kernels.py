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
HERE, LAST_HERE, PRICE_SUM, PRICED = 20, 21, 22, 23
OWN_COLUMNS = 24

# Columns of what they say of each kind of item.
K_AGAIN, K_DECAY_60D, K_HERE = 0, 1, 2
KIND_COLUMNS = 3

# Columns of what they say of each group of items.
G_WEIGHT, G_SESSIONS, G_FIRST, G_LAST, G_RECENT = 0, 1, 2, 3, 4
GROUP_COLUMNS = 5

# What they say of the user.
U_SESSIONS, U_ITEMS, U_SIZE, U_LAST_SIZE, U_MOMENT_SIZE, U_SINCE, U_GAP, U_REPEAT = 0, 1, 2, 3, 4, 5, 6, 7
U_HERE, U_HERE_SIZE = 8, 9
USER_COLUMNS = 10

# What a session weighs at a moment: how close its hour of the day is, how much all of it is like the moment, how fresh
# it is, whether it was at the same place.
S_NEAR, S_MOMENT, S_FRESH, S_HERE = 0, 1, 2, 3
SESSION_COLUMNS = 4


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
def number_codes(code):
    """Distinct codes from 0 up, ascending [g], and the position of each [n] among them, -1 for a code below 0."""
    n = len(code)
    top = -1
    for at in range(n):
        top = max(top, code[at])
    position = np.full(n, -1, np.int64)
    if top > 32 * n + 4096:
        # A mark for each possible code would cost more than the sort.
        order = np.argsort(code)
        distinct = np.empty(n, np.int64)
        g = 0
        for at in range(n):
            if code[order[at]] >= 0:
                if g == 0 or code[order[at]] != distinct[g - 1]:
                    distinct[g] = code[order[at]]
                    g += 1
                position[order[at]] = g - 1
        return distinct[:g].copy(), position
    mark = np.zeros(top + 1, np.int64)
    for at in range(n):
        if code[at] >= 0:
            mark[code[at]] = 1
    g = 0
    for value in range(top + 1):
        g += mark[value]
    distinct = np.empty(g, np.int64)
    g = 0
    for value in range(top + 1):
        if mark[value]:
            distinct[g] = value
            mark[value] = g
            g += 1
    for at in range(n):
        if code[at] >= 0:
            position[at] = mark[code[at]]
    return distinct, position


@njit(cache=True, nogil=True)
def weigh_sessions(time, first, starts, places, now, place, user):
    """What each session weighs [sessions, SESSION_COLUMNS]; writes to ``user`` what sessions say of it."""
    sessions = len(first)
    found = np.zeros((sessions, SESSION_COLUMNS))
    hour, weekend = (now % 86400) / 3600.0, (now // 86400 + 3) % 7 >= 5
    since = (now - time[first[sessions - 1]]) / DAY
    all_moments, moment_size, sessions_here, events_here = 0.0, 0.0, 0.0, 0.0
    for s in range(sessions):
        session, at = found[s], time[first[s]]
        size = float(starts[s + 1] - starts[s])
        apart = abs((at % 86400) / 3600.0 - hour)
        apart = min(apart, 24.0 - apart)
        session[S_NEAR] = math.exp(-0.5 * (apart / HOURS) ** 2)
        alike = 1.0 if ((at // 86400 + 3) % 7 >= 5) == weekend else 0.5
        pause = 0.5
        if s:
            gap = (at - time[first[s - 1]]) / DAY
            pause = math.exp(-abs(math.log((gap + 0.3) / (since + 0.3))))
        session[S_FRESH] = 2.0 ** (-(now - at) / DAY / 60.0)
        session[S_MOMENT] = session[S_NEAR] * alike * pause * session[S_FRESH]
        all_moments += session[S_MOMENT]
        moment_size += session[S_MOMENT] * size
        if places[first[s]] == place:
            session[S_HERE] = 1.0
            sessions_here += 1.0
            events_here += size
    user[U_SIZE] = starts[sessions] / sessions
    user[U_LAST_SIZE] = starts[sessions] - starts[sessions - 1]
    user[U_MOMENT_SIZE] = moment_size / max(all_moments, 1e-300)
    user[U_SINCE] = since
    if sessions > 1:
        user[U_GAP] = (time[first[sessions - 1]] - time[first[0]]) / DAY / (sessions - 1)
    user[U_HERE] = sessions_here / sessions
    if sessions_here:
        user[U_HERE_SIZE] = events_here / sessions_here
    return found


@njit(cache=True, nogil=True)
def add_chances(expected, count, chance, pace, place, seen, bins):
    """Add to what was ``expected`` of the first ``count``: a session's ``chance`` times their hazards.

    ``pace``: hazards of several kinds, one after another; ``place``: where in it those of each one's kind begin;
    ``seen``: the session each was last had in; ``bins``: of the days since each session. Unsigned numbers, all these:
    none can count from an array's end, which would be looked at.
    """
    for at in range(count):
        expected[at] += chance * pace[place[at] + bins[seen[at]]]


@njit(cache=True, nogil=True)
def sum_up(
    code,
    time,
    first,
    walk,
    starts,
    weight,
    value,
    places,
    price,
    now,
    place,
    kinds,
    kind,
    factor,
    hazard,
    kind_hazard,
    bin_of_day,
    mean_size,
):
    """What a user's events [n] say at ``now``: of each item [m, OWN_COLUMNS], of each kind of item [g, KIND_COLUMNS]
    and of the user [USER_COLUMNS].

    ``code``, ``first``, ``walk``, ``starts``: as from the functions above. ``places`` [n]: keys; ``place``: the one
    that is asked for. ``price`` [n]: logs, NaN where not told. ``kinds`` [g]: what the user had, and ``kind`` [m]:
    which of these each item is of. ``factor`` [m], the hazards: see `features.repurchase.Repurchase`.
    """
    n, sessions, m, g = len(code), len(first), len(kind), len(kinds)
    own, of_kind = np.zeros((m, OWN_COLUMNS)), np.zeros((g, KIND_COLUMNS))
    user = np.full(USER_COLUMNS, np.nan)
    user[U_SESSIONS], user[U_ITEMS], user[U_SIZE], user[U_REPEAT] = sessions, m, 0.0, 0.0
    if n == 0:
        return own, of_kind, user
    user[U_REPEAT] = 1.0 - m / n
    for item in range(m):
        own[item, FIRST], own[item, PREVIOUS] = np.nan, np.nan
        own[item, LAST_SESSION] = -1
        own[item, LAST_HERE] = np.nan
    decay_14d, decay_60d = 0.0, 0.0
    for event in range(n):
        # Events of a basket share their time: powers are dear.
        if event == 0 or time[event] != time[event - 1]:
            age = (now - time[event]) / DAY
            decay_14d, decay_60d = 2.0 ** (-age / 14.0), 2.0 ** (-age / 60.0)
        item = code[event]
        row = own[item]
        row[WEIGHT] += weight[event]
        row[DECAY_14D] += weight[event] * decay_14d
        row[DECAY_60D] += weight[event] * decay_60d
        of_kind[kind[item], K_DECAY_60D] += weight[event] * decay_60d
        row[VALUE_LAST] = value[event]
        row[VALUE_SUM] += value[event]
        if not math.isnan(price[event]):
            row[PRICE_SUM] += price[event]
            row[PRICED] += 1.0
        if row[EVENTS] == 0.0:
            row[FIRST] = time[event]
        row[EVENTS] += 1.0
        row[LAST] = time[event]

    weights = weigh_sessions(time, first, starts, places, now, place, user)
    all_moments, all_near, all_fresh, fresh_here = 0.0, 0.0, 0.0, 0.0
    for s in range(sessions):
        all_moments += weights[s, S_MOMENT]
        all_near += weights[s, S_NEAR]
        all_fresh += weights[s, S_FRESH]
        if weights[s, S_HERE]:
            fresh_here += weights[s, S_FRESH]

    # Hazards of the user's kinds side by side: the inner loops, sessions times items, look nowhere else.
    wide, longest = hazard.shape[1], len(bin_of_day) - 1
    pace, kind_pace, bins = np.empty(g * wide), np.empty(g * wide), np.zeros(sessions, np.uint64)
    for of in range(g):
        for bucket in range(wide):
            pace[of * wide + bucket] = hazard[kinds[of], bucket]
            kind_pace[of * wide + bucket] = kind_hazard[kinds[of], bucket]
    # Items in order of first appearance, so that the inner loop runs through memory.
    position_of, had, place_at = np.full(m, -1, np.int64), np.empty(m, np.int64), np.empty(m, np.uint64)
    seen, expected, everywhere = np.empty(m, np.uint64), np.zeros(m), np.zeros(m)
    of_position, kinds_had, kind_place = np.full(g, -1, np.int64), np.empty(g, np.int64), np.empty(g, np.uint64)
    kind_seen, kind_expected, kind_everywhere = np.empty(g, np.uint64), np.zeros(g), np.zeros(g)
    kind_sessions = np.zeros(g)
    count, kind_count = 0, 0
    for s in range(sessions):
        at = time[first[s]]
        ago = sessions - 1 - s
        if ago < EXPECTED_SESSIONS:
            chance = ((starts[s + 1] - starts[s]) / mean_size) ** SIZE_POWER
            for earlier in range(s):
                bins[earlier] = bin_of_day[min(longest, int((at - time[first[earlier]]) / DAY))]
            add_chances(expected, count, chance, pace, place_at, seen, bins)
            add_chances(kind_expected, kind_count, chance, kind_pace, kind_place, kind_seen, bins)
        fast, slow = 0.9**ago, 0.97**ago
        near, moment, fresh, here = weights[s, S_NEAR], weights[s, S_MOMENT], weights[s, S_FRESH], weights[s, S_HERE]
        for walked in range(starts[s], starts[s + 1]):
            item = code[walk[walked]]
            row = own[item]
            if row[LAST_SESSION] == s:
                continue
            position = position_of[item]
            if position < 0:
                position = position_of[item] = count
                had[count], place_at[count] = item, kind[item] * wide
                count += 1
            else:
                row[PREVIOUS] = time[first[seen[position]]]
            row[LAST_SESSION] = s
            row[SESSIONS] += 1.0
            row[FAST] += fast
            row[SLOW] += slow
            if ago < 3:
                row[RECENT_3] += 1.0
            if ago < 5:
                row[RECENT_5] += 1.0
            row[MOMENT] += moment
            row[HOUR] += near
            everywhere[position] += fresh
            if here:
                row[HERE] += fresh
                row[LAST_HERE] = at
            seen[position] = s
            of = kind[item]
            position = of_position[of]
            if position < 0:
                position = of_position[of] = kind_count
                kinds_had[kind_count], kind_place[kind_count] = of, of * wide
                kind_count += 1
            elif kind_seen[position] == s:
                continue
            kind_seen[position] = s
            kind_sessions[position] += 1.0
            kind_everywhere[position] += fresh
            if here:
                of_kind[of, K_HERE] += fresh

    for earlier in range(sessions):
        bins[earlier] = bin_of_day[min(longest, int((now - time[first[earlier]]) / DAY))]
    for position in range(count):
        item = had[position]
        row, last = own[item], seen[position]
        row[EXPECTED] = expected[position]
        row[HAZARD] = pace[place_at[position] + bins[last]]
        row[AGAIN] = row[HAZARD] * (row[SESSIONS] - 1.0 + factor[item]) / (row[EXPECTED] + 1.0)
        row[MOMENT] /= max(all_moments, 1e-300)
        row[HOUR] /= max(all_near, 1e-300)
        # A place seldom visited says little: one session everywhere is added to those here.
        row[HERE] = (row[HERE] + everywhere[position] / max(all_fresh, 1e-300)) / (fresh_here + 1.0)
        row[PREVIOUS] = (time[first[last]] - row[PREVIOUS]) / DAY
    for position in range(kind_count):
        of = kinds_had[position]
        row = of_kind[of]
        again = kind_pace[kind_place[position] + bins[kind_seen[position]]]
        row[K_AGAIN] = again * kind_sessions[position] / (kind_expected[position] + 1.0)
        row[K_HERE] = (row[K_HERE] + kind_everywhere[position] / max(all_fresh, 1e-300)) / (fresh_here + 1.0)
    return own, of_kind, user


@njit(cache=True, nogil=True)
def sum_up_groups(group, code, time, walk, starts, weight):
    """Groups the user had, ascending [g], what the events say of each [g, GROUP_COLUMNS], and the weight of all.

    ``group`` [m]: the group of each of the user's items, below 0 for none.
    """
    sessions = len(starts) - 1
    groups, of_item = number_codes(group)
    g = len(groups)
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
    return groups, found, total


@njit(cache=True, nogil=True)
def summarize(
    item,
    order,
    time,
    session,
    weight,
    value,
    places,
    price,
    now,
    place,
    table_keys,
    table_rows,
    key_starts,
    key_bits,
    groups,
    kind_of,
    factor_of,
    hazard,
    kind_hazard,
    bin_of_day,
    mean_size,
):
    """All of a `features.transforms.Profile` from a user's events [n] in one call; ``order`` sorts ``item``.

    ``places``, ``price``, ``place``: see `sum_up`. ``table_keys``, ``table_rows``, ``key_starts``, ``key_bits``: a
    `features.keys.KeyIndex` of the catalog; ``groups`` [items, 3], ``kind_of`` and ``factor_of`` [items]: what is known
    of its items.
    """
    keys, code = number_items(item, order)
    _, first, walk, starts = number_sessions(session)
    m = len(keys)
    rows, kind, factor = np.empty(m, np.int64), np.empty(m, np.int64), np.ones(m)
    group = np.full((3, m), -1, np.int64)
    shift = np.uint64(64 - key_bits)
    for at in range(m):
        # By the key's highest bits, which ascend with the keys once the sign's is turned over.
        low = key_starts[(np.uint64(keys[at]) ^ np.uint64(1 << 63)) >> shift]
        while low < len(table_keys) and table_keys[low] < keys[at]:
            low += 1
        if low < len(table_keys) and table_keys[low] == keys[at]:
            row = table_rows[low]
            rows[at], kind[at], factor[at] = row, kind_of[row], factor_of[row]
            for slot in range(3):
                group[slot, at] = groups[row, slot]
        else:
            rows[at], kind[at] = -1, len(hazard) - 1
    kinds, kind_of_item = number_codes(kind)
    own, of_kind, user = sum_up(
        code,
        time,
        first,
        walk,
        starts,
        weight,
        value,
        places,
        price,
        now,
        place,
        kinds,
        kind_of_item,
        factor,
        hazard,
        kind_hazard,
        bin_of_day,
        mean_size,
    )
    return (
        keys,
        rows,
        own,
        user,
        kinds,
        of_kind,
        sum_up_groups(group[0], code, time, walk, starts, weight),
        sum_up_groups(group[1], code, time, walk, starts, weight),
        sum_up_groups(group[2], code, time, walk, starts, weight),
        len(first),
    )


@njit(cache=True, nogil=True)
def hashed(values):
    """An open-addressing table of distinct ``values``, for `place_of`; those below 0 are left out."""
    size = 16
    while size < 2 * len(values):
        size *= 2
    slots = np.full(size, -1, np.int32)
    for at in range(len(values)):
        if values[at] >= 0:
            slot = (values[at] * 0x9E3779B1 >> 7) & (size - 1)  # Fibonacci hashing: neighbours land far apart
            while slots[slot] >= 0:
                slot = (slot + 1) & (size - 1)
            slots[slot] = at
    return slots


@njit(cache=True, nogil=True)
def place_of(slots, values, wanted):
    """Position of ``wanted`` in the ``values`` of a table, -1 where it is not there."""
    slot = (wanted * 0x9E3779B1 >> 7) & (len(slots) - 1)
    while slots[slot] >= 0 and values[slots[slot]] != wanted:
        slot = (slot + 1) & (len(slots) - 1)
    return slots[slot]


@njit(cache=True, nogil=True)
def fill_user_item(out, row, known, factor, user, now):
    """Write the user-item and user columns of one candidate, co-purchase (24) left out.

    ``row``: what the user's events say of the item, where ``known``; ``factor``: the item's own.
    """
    sessions = user[U_SESSIONS]
    if not known:
        for column in range(24):
            out[column] = np.nan
        for column in (0, 1, 2, 9, 10, 11, 12, 14, 15, 20, 22, 23):
            out[column] = 0.0
    else:
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
        out[21] = (row[SESSIONS] - 1.0 + 3.0 * factor) / (row[EXPECTED] + 3.0)
        out[22] = row[MOMENT]
        out[23] = row[HOUR]
    for column in range(U_GAP):
        out[25 + column] = user[column]
    out[31] = user[U_GAP]
    out[32] = user[U_SINCE] / user[U_GAP] if user[U_GAP] > 0.0 else np.nan
    out[33] = user[U_REPEAT]


@njit(cache=True, nogil=True)
def fill_groups(matrix, column, rows, row_groups, groups, found, total, weight, now):
    """Write the columns of one affinity slot, from ``column`` on.

    ``row_groups`` [items]: the slot's group of every item; ``groups`` [g], ``found`` and ``total``: see
    `sum_up_groups`; ``weight``: the column with the user's weight for each candidate.
    """
    g = len(groups)
    slots = hashed(groups)
    # A group's columns are the same for all its items; behind the groups stands what there is of none.
    ready = np.zeros((g + 1, 5), np.float32)
    ready[g, 2], ready[g, 3] = np.nan, np.nan
    for at in range(g):
        row = found[at]
        since = (now - row[G_LAST]) / DAY
        interval = (row[G_LAST] - row[G_FIRST]) / DAY / (row[G_SESSIONS] - 1.0) if row[G_SESSIONS] > 1.0 else np.nan
        ready[at, 0] = row[G_WEIGHT] / max(total, 1e-9)
        ready[at, 1] = row[G_SESSIONS]
        ready[at, 2] = since
        ready[at, 3] = since / interval if interval > 0.0 else np.nan
        ready[at, 4] = row[G_RECENT]
    for candidate in range(len(rows)):
        at = place_of(slots, groups, np.int64(row_groups[rows[candidate]]))
        out = matrix[candidate]
        for offset in range(5):
            out[column + offset] = ready[at, offset]  # -1 is the last
        # The weight as the matrix holds it, in single precision.
        known = at >= 0 and found[at, G_WEIGHT] > 0.0
        out[column + 5] = out[weight] / found[at, G_WEIGHT] if known else np.nan


@njit(cache=True, nogil=True)
def fill(
    matrix,
    places,
    rows,
    copurchase,
    now,
    hour_at,
    gap,
    own_rows,
    own,
    user,
    kinds,
    of_kind,
    affinities,
    groups,
    kind_of,
    factor_of,
    statistics,
    trends,
    hour_lift,
    gap_lift,
    session_size,
    today,
    told,
    usual,
    recent,
    here_rows,
    here_starts,
    here_shift,
    here_last,
    here_price,
    here_kinds,
):
    """Write the ranking matrix [c, columns] of the candidates ``rows`` [c].

    ``places``: first columns of the user-item part, the three affinity slots, the statistics, the kinds' part, the
    clock's and the prices'. ``hour_at``, ``gap``: buckets of the hour and of the time since the session before, -1 for
    none. ``today``: days since 1970; ``told``: whether a place was; ``usual`` to ``here_kinds``: see
    `features.places`. The rest: a Profile and an ItemTable.
    """
    at_user, at_first, at_second, at_third, at_statistics, at_kinds, at_clock, at_prices = places
    at_slots = (at_first, at_second, at_third)
    item_slots, kind_slots = hashed(own_rows), hashed(kinds)
    hour, weekday = (now % 86_400) // 3_600, (now // 86_400 + 3) % 7
    nothing = np.zeros(OWN_COLUMNS)
    for candidate in range(len(rows)):
        row = rows[candidate]
        out = matrix[candidate]
        item = place_of(item_slots, own_rows, row)
        mine = own[item] if item >= 0 else nothing
        fill_user_item(out[at_user:], mine, item >= 0, factor_of[row], user, now)
        out[at_user + 24] = copurchase[candidate]
        for column in range(statistics.shape[1]):
            out[at_statistics + column] = statistics[row, column]
        kind = kind_of[row]
        out[at_kinds] = hour_lift[kind, hour_at]
        out[at_kinds + 1] = gap_lift[kind, gap] if gap >= 0 else 0.0
        out[at_kinds + 2] = session_size[kind]
        of = place_of(kind_slots, kinds, kind)
        if of < 0:
            out[at_kinds + 3], out[at_kinds + 4], out[at_kinds + 5] = 0.0, np.nan, 0.0
        else:
            choice = mine[DECAY_60D] / of_kind[of, K_DECAY_60D] if item >= 0 else 0.0
            out[at_kinds + 3] = of_kind[of, K_AGAIN]
            out[at_kinds + 4] = choice
            out[at_kinds + 5] = of_kind[of, K_AGAIN] * choice
        out[at_kinds + 6] = trends[row, 0]
        out[at_kinds + 7] = trends[row, 1]
        out[at_clock] = hour
        out[at_clock + 1] = weekday
        out[at_prices] = usual[row]
        out[at_prices + 1] = recent[row] - usual[row]
        paid = mine[PRICE_SUM] / mine[PRICED] if mine[PRICED] > 0.0 else np.nan
        out[at_prices + 2] = recent[row] - paid
        for column in range(at_prices + 3, at_prices + 11):
            out[column] = np.nan
        if not told:
            continue
        out[at_prices + 3] = mine[HERE]
        out[at_prices + 4] = (now - mine[LAST_HERE]) / DAY if item >= 0 else np.nan
        out[at_prices + 5] = of_kind[of, K_HERE] if of >= 0 else 0.0
        out[at_prices + 6] = user[U_HERE]
        out[at_prices + 7] = user[U_HERE_SIZE]
        bucket = row >> here_shift
        if bucket + 1 < len(here_starts):
            for pair in range(here_starts[bucket], here_starts[bucket + 1]):
                if here_rows[pair] == row and here_last[pair] >= 0:
                    out[at_prices + 8] = today - here_last[pair]
                    out[at_prices + 9] = here_price[pair] - usual[row]
        if len(here_kinds):
            out[at_prices + 10] = here_kinds[kind]
    for slot in range(3):
        slot_groups, found, total = affinities[slot]
        fill_groups(matrix, at_slots[slot], rows, groups[:, slot], slot_groups, found, total, at_user, now)
