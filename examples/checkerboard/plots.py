"""Decision boundaries side by side: which class each part of the plane gets from which network.

    draw([Panel("Floats", classes_on_plane, samples), ...], Path("out/checkerboard.png"))

`plane()` gives the points at which a panel's background is computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # draws into files, needs no screen
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
from data import BORDERS, Samples  # noqa: E402
from matplotlib.colors import ListedColormap  # noqa: E402
from matplotlib.lines import Line2D  # noqa: E402

RESOLUTION = 200  # background points a side
EXTENT = 0.54  # the points reach a little beyond the unit square, because of their noise
COLOURS = ("#1f5fa8", "#d9822b")  # blue and orange: told apart by colour-blind readers too
PALE = ("#c3d7ee", "#f8dcbb")


@dataclass(frozen=True)
class Panel:
    title: str
    classes: np.ndarray | None  # of plane(), int [RESOLUTION ** 2]; None leaves the background white
    samples: Samples  # points to show, with the class they are drawn in
    wrong: np.ndarray  # which of them the network gets wrong, bool [n]
    note: str  # one line under the panel


def plane() -> np.ndarray:
    """A fine grid over everything that is drawn, float32 [RESOLUTION ** 2, 2]."""
    axis = np.linspace(-EXTENT, EXTENT, RESOLUTION, dtype=np.float32)
    return np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)


def draw(panels: list[Panel], path: Path) -> None:
    """Writes the panels as one PNG. The folder is made where it is missing."""
    figure, axes = plt.subplots(1, len(panels), figsize=(4.6 * len(panels), 5.6), sharey=True, squeeze=False)
    for axis, panel in zip(axes[0], panels, strict=True):
        _draw_panel(axis, panel)
    figure.legend(handles=_legend(), loc="lower center", ncols=4, frameon=False, fontsize=11)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _draw_panel(axis: plt.Axes, panel: Panel) -> None:
    if panel.classes is not None:
        axis.imshow(
            panel.classes.reshape(RESOLUTION, RESOLUTION),
            origin="lower",
            extent=(-EXTENT, EXTENT, -EXTENT, EXTENT),
            cmap=ListedColormap(PALE),
            vmin=0,
            vmax=1,
            interpolation="nearest",
        )
    for border in BORDERS:
        axis.axhline(border, color="#555555", linewidth=0.8, linestyle=":")
        axis.axvline(border, color="#555555", linewidth=0.8, linestyle=":")
    size = 14 if len(panel.samples) > 100 else 34
    for label, colour in enumerate(COLOURS):
        mine = panel.samples.labels == label
        axis.scatter(*panel.samples.points[mine].T, s=size, color=colour, edgecolors="white", linewidths=0.4)
    axis.scatter(
        *panel.samples.points[panel.wrong].T,
        s=5 * size,
        facecolors="none",
        edgecolors="#c00000",
        linewidths=1.3,
    )
    axis.set_title(panel.title, fontsize=13)
    axis.set_xlabel(panel.note, fontsize=11)
    axis.set_xlim(-EXTENT, EXTENT)
    axis.set_ylim(-EXTENT, EXTENT)
    axis.set_xticks([-0.5, 0, 0.5])
    axis.set_yticks([-0.5, 0, 0.5])
    axis.set_aspect("equal")


def _legend() -> list[Line2D]:
    def dot(colour: str, label: str, **style) -> Line2D:
        return Line2D([], [], linestyle="none", marker="o", color=colour, label=label, **style)

    return [
        dot(COLOURS[0], "point of class 0"),
        dot(COLOURS[1], "point of class 1"),
        dot("#c00000", "wrong prediction", markerfacecolor="none", markersize=11),
        Line2D([], [], color="#555555", linestyle=":", label="true border"),
    ]
