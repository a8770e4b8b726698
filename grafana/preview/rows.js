// The rows of a dashboard. Panels with data fill lines of 24 columns. A panel without data takes a line of text, and a
// row without any data is collapsed.

import { el } from "./format.js";
import { Panel } from "./panels.js";

const COLUMNS = 24;

/** The rows of a dashboard, in its order: each heading with the panels up to the next one. */
export function rowsOf(board, host) {
  const rows = [];
  for (const json of board.panels) {
    if (json.type === "row") rows.push({ title: json.title, panels: [] });
    else rows.at(-1).panels.push(json);
  }
  return rows.map(({ title, panels }) => new Row(title, panels, host));
}

class Row {
  constructor(title, panels, host) {
    this.panels = panels.map((json) => new Panel(json, host, () => this.arrange()));
    this.element = el("details", "row");
    this.element.open = true;
    this.reason = el("span", "reason");
    this.grid = el("div", "grid");
    this.lines = el("div", "lines");
    const heading = el("summary");
    heading.append(el("h2", "", title), this.reason);
    this.element.append(heading, this.grid, this.lines);
    this.arrange();
  }

  get isEmpty() {
    return this.panels.every((panel) => panel.isEmpty);
  }

  /** Place the panels; called again when one of them gets its first data, loses them, or has another height. */
  arrange() {
    const full = this.panels.filter((panel) => !panel.isEmpty), empty = this.panels.filter((panel) => panel.isEmpty);
    for (const line of linesOf(full)) fill(line);
    this.grid.replaceChildren(...full.map(({ element }) => element));
    this.lines.replaceChildren(...empty.map(({ element }) => element));
    if (this.isEmpty !== this.wasEmpty) this.element.open = !this.isEmpty; // else it stays as the reader has set it
    this.wasEmpty = this.isEmpty;
    const reasons = [...new Set(empty.map(({ noValue }) => noValue))];
    const reason = reasons.length > 1 ? `${empty.length} panels without data` : reasons[0];
    this.reason.textContent = this.isEmpty ? reason : "";
  }

  /** Note whether an element of this row is in the window. */
  see(target, isInside) {
    for (const each of [this, ...this.panels]) if (each.element === target) each.isSeen = isInside;
  }

  /** The panels to ask for: those in the window, and all of a collapsed row, which opens as soon as there are data. */
  get asked() {
    return this.panels.filter((panel) => panel.isSeen || (this.isSeen && this.isEmpty));
  }
}

function* linesOf(panels) {
  let line = [], free = COLUMNS;
  for (const panel of panels) {
    if (panel.width > free) {
      yield line;
      [line, free] = [[], COLUMNS];
    }
    line.push(panel);
    free -= panel.width;
  }
  if (line.length) yield line;
}

// The panels of a line share its columns, and are all as high as the highest.
function fill(line) {
  const total = line.reduce((sum, { width }) => sum + width, 0), factor = COLUMNS / total;
  const height = Math.max(...line.map((panel) => panel.height));
  let left = 0, end = 0;
  for (const panel of line) {
    end += panel.width * factor;
    panel.element.style.setProperty("--w", Math.round(end) - left);
    panel.element.style.setProperty("--h", height);
    panel.element.style.setProperty("--own-h", panel.height);
    left = Math.round(end);
  }
}
