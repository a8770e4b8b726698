"""The picture of the report's cost: CPU time and memory against the size of the run, on logarithmic scales."""

import json
from pathlib import Path
from typing import Any

from benchmarks.sizes import CPU, CPU_LIMIT_S, MEMORY, MEMORY_LIMIT_MB

_STYLES = (("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#000000", "v"))
"""Colours of Okabe and Ito, told apart by everyone; the marks differ as well."""
_PANELS = ((CPU, "CPU-seconds", CPU_LIMIT_S), (MEMORY, "peak resident memory, MB", MEMORY_LIMIT_MB))


def draw(folder: Path) -> Path | None:
    """Draw ``sizes.svg`` from the figures saved there; None where there are none of sizes."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    row = json.loads((folder / "figures.json").read_text()).get("sizes")
    if row is None:
        return None
    mpl.rcParams.update({"svg.fonttype": "path", "svg.hashsalt": "loadgen", "font.size": 11})
    figure, axes = plt.subplots(1, len(_PANELS), figsize=(11, 5), layout="constrained")
    for axis, (name, label, limit) in zip(axes, _PANELS, strict=True):
        for (case, figures), (colour, mark) in zip(row["cases"].items(), _STYLES, strict=False):
            axis.plot(*_points(figures, name), color=colour, marker=mark, label=case)
        axis.axhline(limit, color="0.4", linestyle=(0, (4, 3)), linewidth=1)
        axis.set(xscale="log", yscale="log", xlabel="requests of the run", ylabel=label)
        axis.grid(which="major", alpha=0.4)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
    figure.suptitle(f"{row['title']}; dashed: the limit\n{row['machine']}, {row['date']}", fontsize=9)
    path = folder / "sizes.svg"
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return path


def _points(figures: dict[str, Any], name: str) -> tuple[list[int], list[float]]:
    """Return the sizes that were measured, and the median of a figure at each."""
    found = sorted(
        (int(size.replace(",", "")), figure["median"])
        for size, what, figure in ((*key.split(" requests: "), figure) for key, figure in figures.items())
        if what == name
    )
    return [size for size, _ in found], [value for _, value in found]
