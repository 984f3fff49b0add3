# pyright: reportMissingImports=false
"""Draws what the benchmarks measured, from their JSON files, as one SVG.

    python bench/report.py FILE.json [FILE.json ...] --svg REPORT.svg

Bars show medians, with a thin line from the lowest to the highest value, synk in blue; the floor of
the same run is a dashed line. Quantities that were measured for several sizes become curves, and
single waits a share of all that were no longer. The colours are readable on light and dark. It
needs matplotlib:

    pip install -e '.[bench]'
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from figures import FLOOR, SYNK, percentile
from showing import number

try:
    import matplotlib as mpl
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
except ImportError:
    raise SystemExit("it needs matplotlib: pip install -e '.[bench]'") from None

if TYPE_CHECKING:
    from collections.abc import Callable

mpl.use("svg")

BLUE, GREY, ORANGE, TEXT = "#2f80c8", "#9aa0a6", "#d9822b", "#7d8287"
OTHERS = ("#6a8f5f", "#a0679b", "#b08d3c", "#5f9ea0", "#b5655a", "#7a7fb5", "#8a8a5c", "#5c8a74")
WIDTH_IN, LEFT_IN, RIGHT_IN = 10.0, 2.5, 2.3
BETWEEN_IN = 0.75
BAR_IN = 0.23
FAR_ABOVE = 4.0
"""A floor more than so many times the longest bar is said and not drawn."""

LINE_POINTS = 11.0
MOST_SPREAD = 60.0
"""A scale becomes logarithmic where the largest is more than so many times the smallest."""

SIZED = re.compile(r"^([\d.,]+) ([^:]+): (.+)$")
"""A quantity that was measured for several sizes: ``20 ms jobs: share of the CPUs``."""

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica", "Arial", "DejaVu Sans"],
    "font.size": 9,
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "axes.edgecolor": TEXT,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "grid.color": GREY,
    "grid.alpha": 0.25,
}


@dataclass
class Figures:
    """One file."""

    benchmark: str
    content: dict[str, Any]
    by_quantity: dict[str, dict[str, dict[str, Any]]] = field(
        default_factory=dict[str, dict[str, dict[str, Any]]]
    )

    @classmethod
    def read(cls, path: Path) -> Figures | None:
        content = json.loads(path.read_text())
        if "benchmark" not in content:
            print(f"{path} is left out: it is not in the common form", file=sys.stderr)
            return None
        figures = cls(content["benchmark"], content)
        for figure in content["figures"]:
            figures.by_quantity.setdefault(figure["quantity"], {})[figure["of"]] = figure
        return figures


@dataclass
class Panel:
    """A part of the picture."""

    title: str
    height_in: float
    draw: Callable[[Any], None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("files", type=Path, nargs="+", help="what scripts wrote with --json")
    parser.add_argument("--svg", type=Path, required=True, help="the picture")
    options = parser.parse_args()
    files = [figures for path in options.files if (figures := Figures.read(path)) is not None]
    panels = [panel for figures in files for panel in panels_of(figures)]
    if not panels:
        raise SystemExit("there is nothing to draw")
    with mpl.rc_context(STYLE):
        draw(panels, facts_of(files), options.svg)


def draw(panels: list[Panel], facts: str, path: Path) -> None:
    """All panels under each other, each as high as it asks to be."""
    height = sum(panel.height_in + BETWEEN_IN for panel in panels) + 0.4
    figure = plt.figure(figsize=(WIDTH_IN, height))
    width = (WIDTH_IN - LEFT_IN - RIGHT_IN) / WIDTH_IN
    top = height - 0.05
    for panel in panels:
        top -= panel.height_in + BETWEEN_IN
        place = (LEFT_IN / WIDTH_IN, (top + 0.35) / height, width, panel.height_in / height)
        axes = figure.add_axes(place)
        axes.set_title(panel.title, color=TEXT)
        panel.draw(axes)
    figure.text(0.1 / WIDTH_IN, 0.1 / height, facts, fontsize=7.5, color=TEXT)
    figure.savefig(path, transparent=True)


def facts_of(files: list[Figures]) -> str:
    """The machine in a line, and when; of the first file, with the versions that matter."""
    machine = files[0].content["machine"]
    server = files[0].content["facts"].get("server", {}).get("server_version", "")
    parts = [f"{machine['cpus']} CPUs", str(machine["cpu"]), f"Python {machine['python']}"]
    parts += [f"PostgreSQL {server}"] if server else []
    loads = [figures.content["machine"]["load"] for figures in files]
    parts += [f"synk {machine['synk']}", f"load {min(loads)} to {max(loads)}"]
    return ", ".join([*parts, str(files[0].content["at"])[:10]])


# -- which panels ---------------------------------------------------------------------------------


def panels_of(figures: Figures) -> list[Panel]:
    panels: list[Panel] = []
    curves: dict[tuple[str, str], dict[str, dict[float, float]]] = {}
    lonely: dict[str, list[dict[str, Any]]] = {}
    waits = {name.partition("|")[0].removesuffix(", ms") for name in figures.content["samples"]}
    for quantity, found in figures.by_quantity.items():
        if quantity.rpartition(": ")[0] in waits:
            continue
        if sized := SIZED.match(quantity):
            size, unit, what = sized.groups()
            for name, figure in found.items():
                curve = curves.setdefault((unit, what), {}).setdefault(name, {})
                curve[float(size.replace(",", ""))] = figure["median"]
        elif len(found) > 1:
            panels.append(bars_panel(figures, quantity, found))
        else:
            lonely.setdefault(quantity.rpartition(", ")[2], []).extend(found.values())
    panels += [curve_or_bars(figures, *key, curve) for key, curve in curves.items()]
    panels += waits_panels(figures)
    panels += [lonely_panel(figures, unit, some) for unit, some in lonely.items()]
    return panels


def bars_panel(figures: Figures, quantity: str, found: dict[str, dict[str, Any]]) -> Panel:
    floor = found.get(FLOOR)
    shown = sorted(
        (figure for name, figure in found.items() if name != FLOOR), key=lambda each: each["median"]
    )

    def draw_bars(axes: Any) -> None:
        bars(axes, [str(figure["of"]) for figure in shown], shown)
        if floor:
            draw_floor(axes, floor["median"], max(figure["highest"] for figure in shown))

    return Panel(f"{figures.benchmark}: {quantity}", BAR_IN * len(shown), draw_bars)


def lonely_panel(figures: Figures, unit: str, found: list[dict[str, Any]]) -> Panel:
    """Quantities of synk alone, in one unit."""
    shown = found[::-1]
    names = [str(figure["quantity"]).rpartition(", ")[0] for figure in shown]
    return Panel(
        f"{figures.benchmark}: {unit}",
        BAR_IN * len(shown),
        lambda axes: bars(axes, names, shown),
    )


def curve_or_bars(
    figures: Figures, unit: str, what: str, curves: dict[str, dict[float, float]]
) -> Panel:
    sizes = sorted({size for curve in curves.values() for size in curve})
    if len(sizes) == 1:
        quantity = next(q for q in figures.by_quantity if q.endswith(f"{unit}: {what}"))
        return bars_panel(figures, quantity, figures.by_quantity[quantity])
    title = f"{figures.benchmark}: {what}, by {unit}"
    return Panel(title, 2.2, lambda axes: draw_curves(axes, curves, sizes))


def waits_panels(figures: Figures) -> list[Panel]:
    groups: dict[str, dict[str, list[float]]] = {}
    for name, values in figures.content["samples"].items():
        what, _, of = name.partition("|")
        groups.setdefault(what, {})[of] = values
    return [
        Panel(f"{figures.benchmark}: {what}", 1.6, lambda axes, some=some: draw_waits(axes, some))
        for what, some in groups.items()
    ]


# -- how they are drawn ---------------------------------------------------------------------------


def bars(axes: Any, names: list[str], shown: list[dict[str, Any]]) -> None:
    medians = [figure["median"] for figure in shown]
    colours = [BLUE if figure["of"] == SYNK else GREY for figure in shown]
    places = range(len(shown))
    axes.barh(places, medians, color=colours, height=0.62)
    for place, figure in zip(places, shown, strict=True):
        axes.plot([figure["lowest"], figure["highest"]], [place, place], color=TEXT, linewidth=1)
        axes.annotate(
            number(figure["median"]),
            (max(figure["highest"], figure["median"]), place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_yticks(places, names)
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 1.12 * max(figure["highest"] for figure in shown))
    axes.set_ylim(-0.5, len(shown) - 0.5)
    axes.xaxis.set_major_formatter(FuncFormatter(short))
    axes.grid(axis="x")
    axes.set_axisbelow(True)


def draw_floor(axes: Any, floor: float, highest: float) -> None:
    text = f"floor {number(floor)}"
    if floor > FAR_ABOVE * highest:
        text += ", off the scale"
    else:
        axes.axvline(floor, color=ORANGE, linestyle="--", linewidth=1.2)
        axes.set_xlim(right=max(axes.get_xlim()[1], floor * 1.02))
    axes.set_title(text, loc="right", color=ORANGE, fontweight="normal", fontsize=8)


def draw_curves(axes: Any, curves: dict[str, dict[float, float]], sizes: list[float]) -> None:
    ends: list[tuple[float, float, str, str]] = []
    for name, curve in curves.items():
        xs = sorted(curve)
        style = "--" if name == FLOOR else "-"
        axes.plot(
            xs,
            [curve[x] for x in xs],
            style,
            color=colour_of(name, curves),
            marker="o",
            markersize=3,
            linewidth=2 if name == SYNK else 1.2,
        )
        ends.append((xs[-1], curve[xs[-1]], name, colour_of(name, curves)))
    values = [value for curve in curves.values() for value in curve.values()]
    if max(values) > MOST_SPREAD * min(values) > 0:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    if sizes[-1] > 8 * sizes[0]:
        axes.set_xscale("log")
    axes.set_xticks(sizes, [short(size) for size in sizes])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(short))
    axes.grid()
    label_ends(axes, ends)


def draw_waits(axes: Any, groups: dict[str, list[float]]) -> None:
    """For each group which share of the waits was no longer."""
    ends: list[str] = []
    for name, values in groups.items():
        ordered = sorted(values)
        shares = [(place + 1) / len(ordered) for place in range(len(ordered))]
        axes.step(
            ordered,
            shares,
            where="post",
            color=colour_of(name, groups),
            linestyle="--" if name == FLOOR else "-",
            linewidth=2 if name == SYNK else 1.2,
        )
        p50, p99 = (percentile(ordered, share) for share in (0.5, 0.99))
        ends.append(f"{name}: p50 {number(p50)}, p99 {number(p99)}")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(short))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.grid()
    legend = axes.legend(ends, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    for text, name in zip(legend.get_texts(), groups, strict=True):
        text.set_color(colour_of(name, groups))


def colour_of(name: str, among: dict[str, Any]) -> str:
    if name in (SYNK, FLOOR):
        return BLUE if name == SYNK else ORANGE
    rest = [other for other in among if other not in (SYNK, FLOOR)]
    return OTHERS[rest.index(name) % len(OTHERS)]


def label_ends(axes: Any, ends: list[tuple[float, float, str, str]]) -> None:
    """Names beside the ends of their curves, moved apart where they would touch."""
    axes.figure.canvas.draw()
    lowest: dict[float, float] = {}
    for x, value, name, colour in sorted(ends):
        place = axes.transData.transform((x, value))[1] / axes.figure.dpi * 72
        lowest[x] = max(place, lowest.get(x, float("-inf")) + LINE_POINTS)
        axes.annotate(
            name,
            (x, value),
            xytext=(8, lowest[x] - place),
            textcoords="offset points",
            color=colour,
            va="center",
            fontsize=8,
            annotation_clip=False,
        )


def short(value: float, _position: int | None = None) -> str:
    """Thousands and millions by their letter."""
    for limit, letter in ((1e6, " M"), (1e3, " k")):
        if abs(value) >= limit:
            return f"{value / limit:g}{letter}"
    return f"{value:g}"


if __name__ == "__main__":
    main()
