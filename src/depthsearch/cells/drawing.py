"""A genotype as a picture: by Graphviz where its program `dot` is installed, by Matplotlib elsewhere."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from depthsearch.cells.genotype import CellGenotype, Genotype

FORMATS = ("png", "pdf", "svg")
ENGINES = ("dot", "matplotlib")
SOURCES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9", "#444444")  # one a state, in turns
FILLS = {"sep": "#fde7b0", "dil": "#fbd3a5", "conv": "#f5c6c6", "max": "#cfe5f5", "avg": "#cfe5f5", "skip": "#e4e4e4"}
OTHER_FILL = "#d9ecd0"


@dataclass(frozen=True)
class Picture:
    """One cell as it is drawn: states are numbered, the inputs first; a node is its edges (label, state)."""

    title: str
    inputs: tuple[str, ...]
    nodes: tuple[tuple[tuple[str, int], ...], ...]
    concat: tuple[int, ...]
    output: str

    def name(self, state: int) -> str:
        """What stands at a state."""
        return (*self.inputs, *(str(i) for i in range(len(self.nodes))))[state]


def pictures(g: Genotype) -> list[Picture]:
    """The cells of a genotype; nodes are numbered from 0 as in the papers."""
    if not isinstance(g, CellGenotype):
        return [Picture("recurrent cell", ("x, h",), tuple((edge,) for edge in g.recurrent), g.concat, "mean")]
    return [
        Picture(title, ("k-2", "k-1"), tuple(zip(edges[::2], edges[1::2], strict=True)), concat, "k")
        for title, edges, concat in (
            ("normal cell", g.normal, g.normal_concat),
            ("reduction cell", g.reduce, g.reduce_concat),
        )
    ]


def draw(g: Genotype, path: str | Path, engine: str | None = None) -> str:
    """Draws a genotype into a file, PNG, PDF or SVG by its ending.

    Args:
        engine: "dot" or "matplotlib"; without it "dot" where it is installed.

    Returns:
        the engine that drew.

    Raises:
        ValueError: the ending or the engine is none of these, "dot" is asked for but not installed, or it fails.
        OSError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix[1:].lower() not in FORMATS:
        raise ValueError(f"{path}: a drawing ends in .{', .'.join(FORMATS)}")
    engine = engine or ("dot" if shutil.which("dot") else "matplotlib")
    if engine not in ENGINES:
        raise ValueError(f"unknown engine {engine!r}; one of {', '.join(ENGINES)}")
    if engine == "dot":
        path.write_bytes(_run_dot(dot_source(g), path.suffix[1:].lower()))
    else:
        _draw_by_matplotlib(pictures(g), path)
    return engine


def dot_source(g: Genotype) -> str:
    """The genotype as a graph in Graphviz's language."""
    lines = [
        "digraph genotype {",
        'rankdir=LR; newrank=true; nodesep=0.12; ranksep=0.35; fontname="Helvetica"; dpi=150;',
        'node [fontname="Helvetica", shape=box, style="rounded,filled", height=0.35, penwidth=0];',
        'edge [fontname="Helvetica", fontsize=11, arrowsize=0.6];',
    ]
    for number, picture in reversed(list(enumerate(pictures(g)))):  # dot puts what comes last on top
        lines += [f"subgraph cluster_{number} {{", f'label="{picture.title}"; labeljust=l; color="#dddddd";']
        lines += [*_dot_cell(picture, f"c{number}_"), "}"]
    return "\n".join([*lines, "}"]) + "\n"


def _dot_cell(picture: Picture, prefix: str) -> list[str]:
    names = [f"{prefix}{state}" for state in range(len(picture.inputs) + len(picture.nodes))]
    fills = ["#c9dcf2"] * len(picture.inputs) + ["#f0f0f0"] * len(picture.nodes)
    lines = [
        f'{name} [label="{picture.name(state)}", fillcolor="{fill}"];'
        for state, (name, fill) in enumerate(zip(names, fills, strict=True))
    ]
    lines.append(f'{prefix}out [label="{picture.output}", fillcolor="#f7e3a1"];')
    for node, edges in enumerate(picture.nodes):
        for label, state in edges:
            color = SOURCES[state % len(SOURCES)]
            target = names[len(picture.inputs) + node]
            lines.append(f'{names[state]} -> {target} [label="{label}", color="{color}", fontcolor="{color}"];')
    return lines + [f'{names[state]} -> {prefix}out [color="#999999"];' for state in picture.concat]


def _run_dot(source: str, kind: str) -> bytes:
    try:
        done = subprocess.run(["dot", f"-T{kind}"], input=source.encode(), capture_output=True, check=True)
    except FileNotFoundError:
        raise ValueError("Graphviz's program dot is not installed; the engine matplotlib draws without it") from None
    except subprocess.CalledProcessError as error:
        raise ValueError(f"dot failed: {error.stderr.decode(errors='replace').strip()}") from None
    return done.stdout


# By Matplotlib: a staircase. Node i stands at (i + 1, -i - 1); each edge has a row of its own. It leaves its state
# downwards, turns right into the row, and passes through a box with its operation, so that nothing overlaps.


def _draw_by_matplotlib(cells: list[Picture], path: Path) -> None:
    from matplotlib.figure import Figure

    columns = max(len(cell.nodes) for cell in cells)
    edges = max(len(node) for cell in cells for node in cell.nodes)
    size = (1.1 + 0.45 * edges) * columns * 0.65 + 1.3, (0.27 * edges + 0.16) * columns + 0.8
    figure = Figure(figsize=(size[0], size[1] * len(cells)), layout="constrained")
    for axes, cell in zip(figure.subplots(len(cells), squeeze=False)[:, 0], cells, strict=True):
        _staircase(axes, cell)
    figure.savefig(path, dpi=150)


def _staircase(axes, cell: Picture) -> None:
    """Draws one cell into Matplotlib axes."""
    n, n_inputs = len(cell.nodes), len(cell.inputs)
    x = [0.25 * i - 0.3 * (n_inputs - 1) for i in range(n_inputs)] + [i + 1.0 for i in range(n)]
    y = [0.0] * n_inputs + [-i - 1.0 for i in range(n)]
    right = n + 0.75
    box = {"boxstyle": "round,pad=0.3", "edgecolor": "none"}
    for node, edges in enumerate(cell.nodes):
        place = n_inputs + node
        for i, (label, state) in enumerate(edges):
            row = y[place] + (0.22 * (len(edges) - 1 - 2 * i) if len(edges) > 1 else 0.0)
            color = SOURCES[state % len(SOURCES)]
            axes.plot([x[state], x[state], x[place]], [y[state], row, row], color=color, linewidth=1.4, zorder=1)
            axes.plot(x[place] - 0.11, row, ">", color=color, markersize=4, zorder=2)
            fill = FILLS.get(label.split("_")[0], OTHER_FILL)
            text = {"ha": "center", "va": "center", "fontsize": 7.5, "zorder": 3}
            axes.text(
                x[place] - 0.52, row, label, bbox={**box, "facecolor": fill, "boxstyle": "round,pad=0.22"}, **text
            )
    for state in range(n_inputs + n):
        fill = SOURCES[state % len(SOURCES)]
        tall = state >= n_inputs and len(cell.nodes[state - n_inputs]) > 1
        label = f"\n{cell.name(state)}\n" if tall else cell.name(state)
        text = {"ha": "center", "va": "center", "fontsize": 9, "color": "white", "zorder": 4}
        axes.text(x[state], y[state], label, bbox={**box, "facecolor": fill}, **text)
    for state in cell.concat:
        axes.plot([x[state], right], [y[state], y[state]], color="#999999", linewidth=1.4, zorder=1)
    ends = [y[state] for state in cell.concat]
    axes.plot([right, right], [min(ends), max(ends)], color="#999999", linewidth=1.4, zorder=1)
    axes.text(right, sum(ends) / len(ends), cell.output, ha="center", va="center", fontsize=9, zorder=4,
              bbox={**box, "facecolor": "#f7e3a1"})  # fmt: skip
    axes.set(xlim=(min(x) - 0.25, right + 0.3), ylim=(-n - 0.5, 0.4))
    axes.set_title(cell.title, fontsize=10, loc="left")
    axes.axis("off")
