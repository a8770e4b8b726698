"""The picture of the comparison: cost of a token and error of the first one, by tool, on logarithmic scales."""

import json
from pathlib import Path
from typing import Any

from benchmarks.compare import COST, ERROR

_OURS, _THEIRS = "#0072B2", "#E69F00"
"""Blue and orange of Okabe and Ito, told apart by everyone; the marks differ as well."""
_PANELS = (
    (COST, "CPU-seconds per million tokens"),
    (f"{ERROR} p99, ms", "error of TTFT, p99, ms"),
)


def draw(folder: Path) -> Path | None:
    """Draw ``peers.svg`` from the figures saved there; None where there are none of peers."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    rows = json.loads((folder / "figures.json").read_text())
    row = rows.get("peers", rows.get("peers tokens"))
    if row is None:
        return None
    mpl.rcParams.update({"svg.fonttype": "path", "svg.hashsalt": "loadgen", "font.size": 11})
    figure, axes = plt.subplots(1, len(_PANELS), figsize=(11, 0.5 * len(row["cases"]) + 1.6), layout="constrained")
    for axis, (name, label) in zip(axes, _PANELS, strict=True):
        _panel(axis, {tool: figures[name] for tool, figures in row["cases"].items() if name in figures}, label)
    figure.suptitle(f"{row['title']}\n{row['machine']}, {row['date']}", fontsize=9)
    path = folder / "peers.svg"
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return path


def _panel(axis: Any, tools: dict[str, dict[str, float]], label: str) -> None:  # noqa: ANN401 matplotlib's
    """Mark the median of each tool and its range, the best on top; what cannot stand on a log scale is left out."""
    shown = sorted(((t, f) for t, f in tools.items() if f["min"] > 0), key=lambda item: -item[1]["median"])
    for at, (tool, found) in enumerate(shown):
        ours = tool.startswith("loadgen")
        colour, mark = (_OURS, "o") if ours else (_THEIRS, "s")
        axis.plot([found["min"], found["max"]], [at, at], color=colour, linewidth=2)
        axis.plot(found["median"], at, mark, color=colour, markersize=9)
        axis.annotate(
            f"{found['median']:.2g}" if found["median"] < 100 else f"{found['median']:,.0f}",  # noqa: PLR2004
            (found["median"], at),
            xytext=(0, 8),
            textcoords="offset points",
            ha="center",
            fontsize=9,
        )
    axis.set_xscale("log")
    axis.set_yticks(range(len(shown)), [tool for tool, _ in shown])
    axis.set_ylim(-0.6, len(shown) - 0.2)
    axis.set_xlabel(f"{label} (less is better)")
    axis.grid(axis="x", which="major", alpha=0.4)
    axis.margins(x=0.12)
