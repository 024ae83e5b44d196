"""Where the boxes of a layered drawing go: Sugiyama's method, small and the same on every run.

Nodes stand in layers, an edge leads from a layer to a lower one, and where it passes layers in between it has a place
of its own there, so that no edge runs through a box. Barycenters order each layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

Node: TypeAlias = str
_Bend: TypeAlias = tuple[Node, Node, int]
_Place: TypeAlias = Node | _Bend
_SWEEPS: Final = 8
_BEND_WIDTH: Final = 12.0


@dataclass(frozen=True, slots=True)
class Size:
    """Width and height, in pixels."""

    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Layout:
    """``at``: left and top of each node. ``bends``: the points an edge passes on its way. All in pixels."""

    at: Mapping[Node, tuple[float, float]]
    bends: Mapping[tuple[Node, Node], tuple[tuple[float, float], ...]]
    width: float
    height: float


def layered(
    sizes: Mapping[Node, Size], edges: Sequence[tuple[Node, Node]], gap: float = 24.0, layer_gap: float = 56.0
) -> Layout:
    """A place for every node of ``sizes``; ``edges`` (upper, lower) between them, cycles allowed.

    Of equal input the output is equal; what the input's order leaves open follows that order.
    """
    down = _without_cycles(list(sizes), [edge for edge in dict.fromkeys(edges) if edge[0] != edge[1]])
    depth = _depths(list(sizes), down)
    layers: list[list[_Place]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for node in sizes:
        layers[depth[node]].append(node)
    links: list[tuple[_Place, _Place]] = []
    for upper, lower in down:
        chain: list[_Place] = [upper]
        for level in range(depth[upper] + 1, depth[lower]):
            bend = (upper, lower, level)
            layers[level].append(bend)
            chain.append(bend)
        links.extend(zip(chain, [*chain[1:], lower]))
    _untangle(layers, links)
    widths = {place: sizes[place].width if isinstance(place, str) else _BEND_WIDTH for row in layers for place in row}
    center = _centers(layers, links, widths, gap)
    return _laid_out(sizes, edges, layers, depth, center, layer_gap)


def _without_cycles(nodes: list[Node], edges: list[tuple[Node, Node]]) -> list[tuple[Node, Node]]:
    """The edges with those turned round that close a cycle in depth-first order."""
    below: dict[Node, list[Node]] = {node: [] for node in nodes}
    for upper, lower in edges:
        below[upper].append(lower)
    state: dict[Node, int] = {}
    kept: dict[tuple[Node, Node], None] = {}
    for root in nodes:
        stack = [(root, iter(below[root]))] if root not in state else []
        state.setdefault(root, 1)
        while stack:
            node, rest = stack[-1]
            for lower in rest:
                kept[(lower, node) if state.get(lower) == 1 else (node, lower)] = None
                if lower not in state:
                    state[lower] = 1
                    stack.append((lower, iter(below[lower])))
                    break
            else:
                state[node] = 2
                stack.pop()
    return list(kept)


def _depths(nodes: list[Node], edges: list[tuple[Node, Node]]) -> dict[Node, int]:
    """The longest way from above, so that a shared node stands below all that lead to it."""
    below: dict[Node, list[Node]] = {node: [] for node in nodes}
    waiting = dict.fromkeys(nodes, 0)
    for upper, lower in edges:
        below[upper].append(lower)
        waiting[lower] += 1
    depth = dict.fromkeys(nodes, 0)
    ready = [node for node in nodes if not waiting[node]]
    for node in ready:
        for lower in below[node]:
            depth[lower] = max(depth[lower], depth[node] + 1)
            waiting[lower] -= 1
            if not waiting[lower]:
                ready.append(lower)
    return depth


def _untangle(layers: list[list[_Place]], links: list[tuple[_Place, _Place]]) -> None:
    """Order each layer by the mean position of its neighbours above, then below, a few times over."""
    above, below = _neighbours(links)
    for sweep in range(_SWEEPS):
        neighbours, order = (above, layers[1:]) if sweep % 2 == 0 else (below, layers[-2::-1])
        position = {place: float(i) for row in layers for i, place in enumerate(row)}
        for row in order:
            mean = {place: _mean([position[near] for near in neighbours.get(place, ())]) for place in row}
            # A place without neighbours there keeps its position.
            row.sort(key=lambda place: position[place] if mean[place] is None else mean[place])  # type: ignore[arg-type,return-value]
            position.update((place, float(i)) for i, place in enumerate(row))


def _neighbours(
    links: list[tuple[_Place, _Place]],
) -> tuple[dict[_Place, list[_Place]], dict[_Place, list[_Place]]]:
    above: dict[_Place, list[_Place]] = {}
    below: dict[_Place, list[_Place]] = {}
    for upper, lower in links:
        below.setdefault(upper, []).append(lower)
        above.setdefault(lower, []).append(upper)
    return above, below


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _centers(
    layers: list[list[_Place]], links: list[tuple[_Place, _Place]], widths: Mapping[_Place, float], gap: float
) -> dict[_Place, float]:
    """Horizontal centers: packed, then drawn towards the neighbours as far as order and gaps allow."""
    above, below = _neighbours(links)
    center: dict[_Place, float] = {}
    for row in layers:
        left = 0.0
        for place in row:
            center[place] = left + widths[place] / 2
            left += widths[place] + gap
    for sweep in range(_SWEEPS):
        neighbours, order = (below, layers[::-1]) if sweep % 2 == 0 else (above, layers)
        for row in order:
            wish = [_mean([center[near] for near in neighbours.get(place, ())]) for place in row]
            wanted = [center[place] if want is None else want for place, want in zip(row, wish)]
            center.update(zip(row, _spread(wanted, [widths[place] for place in row], gap)))
    return center


def _spread(wanted: list[float], widths: list[float], gap: float) -> list[float]:
    """The centers nearest to ``wanted`` (least squares) with no overlap: pool adjacent violators."""
    offset, offsets = 0.0, []
    for here, after in zip(widths, [*widths[1:], 0.0]):
        offsets.append(offset)
        offset += here / 2 + gap + after / 2
    blocks: list[tuple[float, int]] = []  # mean of (wanted - offset), how many
    for want, shift in zip(wanted, offsets):
        mean, count = want - shift, 1
        while blocks and blocks[-1][0] > mean:
            other, size = blocks.pop()
            mean, count = (mean * count + other * size) / (count + size), count + size
        blocks.append((mean, count))
    means = [mean for mean, count in blocks for _ in range(count)]
    return [mean + shift for mean, shift in zip(means, offsets)]


def _laid_out(
    sizes: Mapping[Node, Size],
    edges: Sequence[tuple[Node, Node]],
    layers: list[list[_Place]],
    depth: Mapping[Node, int],
    center: Mapping[_Place, float],
    layer_gap: float,
) -> Layout:
    heights = [max([sizes[place].height for place in row if isinstance(place, str)], default=0.0) for row in layers]
    tops = [sum(heights[:level]) + layer_gap * level for level in range(len(layers))]
    left = min((center[node] - sizes[node].width / 2 for node in sizes), default=0.0)
    left = min([left, *(x - _BEND_WIDTH / 2 for place, x in center.items() if not isinstance(place, str))])
    at = {node: (center[node] - sizes[node].width / 2 - left, tops[depth[node]]) for node in sizes}
    bends: dict[tuple[Node, Node], tuple[tuple[float, float], ...]] = {}
    for start, end in dict.fromkeys(edges):
        upper, lower = (start, end) if depth[start] <= depth[end] else (end, start)
        # Straight down to the layer's rim first: a neighbour may reach lower than this box.
        points = [(center[upper] - left, tops[depth[upper]] + heights[depth[upper]])]
        for level in range(depth[upper] + 1, depth[lower]):
            x = center[upper, lower, level] - left
            points += [(x, tops[level]), (x, tops[level] + heights[level])]
        bends[start, end] = tuple(points if upper == start else points[::-1])
    right = [at[node][0] + sizes[node].width for node in sizes] + [x for way in bends.values() for x, _ in way]
    return Layout(at, bends, max(right, default=0.0), (tops[-1] + heights[-1]) if layers else 0.0)
