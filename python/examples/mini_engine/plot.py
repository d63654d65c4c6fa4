"""A line plot as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 720, 420, 70, 60, 40, 20
COLOURS = ("#c0392b", "#2471a3", "#229954")


def _step(least: float) -> float:
    """1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * digit for digit in (1, 2, 5, 10) if power * digit >= least)


def draw(
    path: Path,
    title: str,
    across: str,
    up: str,
    x: Sequence[float],
    lines: Mapping[str, Sequence[float]],
) -> None:
    """Both axes begin at 0."""
    most_x = max(x)
    highest = max(max(line) for line in lines.values()) * 1.02
    step = _step(highest / 6)
    marks = math.ceil(highest / step)
    most_y = marks * step

    def at(point_x: float, point_y: float) -> tuple[float, float]:
        return (
            LEFT + point_x / most_x * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - point_y / most_y * (HEIGHT - BOTTOM - TOP),
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}"'
        ' font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{WIDTH / 2}" y="22" text-anchor="middle" font-size="15">{title}</text>',
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 12}" text-anchor="middle">{across}</text>',
        f'<text x="16" y="{HEIGHT / 2}" text-anchor="middle"'
        f' transform="rotate(-90 16 {HEIGHT / 2})">{up}</text>',
    ]
    for mark in range(marks + 1):
        _, y = at(0, mark * step)
        words = f"{mark * step:,.10g}"
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{words}</text>')
    for value in x:
        place, y = at(value, 0)
        parts.append(
            f'<text x="{place:.1f}" y="{y + 18:.1f}" text-anchor="middle">{value:.0f}</text>'
        )
    for number, (name, line) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = [at(a, b) for a, b in zip(x, line, strict=True)]
        path_words = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        parts.append(
            f'<polyline points="{path_words}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}"/>' for a, b in points]
        y = TOP + 18 + 20 * number
        parts.append(f'<path d="M{LEFT + 14} {y - 4}h22" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{LEFT + 44}" y="{y}">{name}</text>')
    path.write_text("\n".join([*parts, "</svg>"]) + "\n", encoding="utf-8")
