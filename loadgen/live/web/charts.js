// The charts of a run, drawn by uPlot. They share the axis of run time, the marks of the steps and the cursor.

import { el, figure, fixed, known, list, span, whole } from "./format.js";

const HEIGHT = 180, FONT = "11px system-ui, sans-serif", SHORTEST_S = 30;
const TIMES = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400, 172800, 604800];
const INCREMENTS = Array.from({ length: 16 }, (_, i) => [1, 2, 5].map((n) => n * 10 ** (i - 5))).flat();

const percentiles = ({ key, title }) => ({
  title,
  lines: ["p50", "p90", "p99"].map((p) => ({
    name: p, colour: p, of: (series) => series[key]?.[p], now: (now) => now.latency?.[key]?.[p],
  })),
});
const single = ({ key, title }) => ({
  title, lines: [{ name: "", colour: "p50", of: (series) => series[key], now: (now) => now[key] }],
});
const IN_FLIGHT = {
  title: "Requests in flight",
  counts: true,
  lines: [
    { name: "users", colour: "users", stepped: true, of: (s) => s.concurrency, now: (now) => now.concurrency },
    { name: "in flight", colour: "p50", of: (s) => s.in_flight, now: (now) => now.in_flight },
  ],
};

/** The charts in a box. */
export class Charts {
  constructor(box) {
    this.box = box;
    this.charts = [];
    this.probe = box.appendChild(el("i", "probe"));
    new ResizeObserver(() => this.resize()).observe(box);
  }

  /** Show the data of a run: a chart for each figure that it has. */
  show(data) {
    this.data = data;
    this.times = list(data.series.t_s);
    const latencies = list(data.latencies).filter(({ key }) => isMeasured(data, key)), rates = list(data.rates);
    const keys = [...latencies, ...rates].map(({ key }) => key).join();
    if (keys !== this.keys) this.build([...latencies.map(percentiles), ...rates.map(single), IN_FLIGHT]);
    this.keys = keys;
    for (const chart of this.charts) {
      // uPlot draws a gap for null; it would bridge undefined.
      const rows = chart.lines.map(({ of }) => this.times.map((_, i) => of(data.series)?.[i] ?? null));
      chart.plot.setData([this.times, ...rows]);
      this.read(chart);
    }
  }

  redraw() {
    for (const { plot } of this.charts) plot.redraw();
  }

  build(kinds) {
    for (const { plot } of this.charts) plot.destroy();
    this.box.replaceChildren(this.probe);
    this.charts = kinds.map((kind) => ({ ...kind, values: el("div", "values"), plane: el("div", "plane") }));
    for (const chart of this.charts) {
      const { title, values, plane } = chart;
      this.box.append(el("figure", "", el("figcaption", "", title), values, plane));
      Object.assign(plane, { tabIndex: 0, role: "img" });
      plane.addEventListener("keydown", (event) => this.step(event));
      plane.addEventListener("blur", () => this.point(null));
      chart.plot = new uPlot(this.options(chart), [[], ...chart.lines.map(() => [])], plane);
    }
  }

  options(chart) {
    const axis = { stroke: () => this.colour("quiet"), font: FONT, ticks: { show: false }, gap: 6 };
    const grid = { stroke: () => this.colour("faint"), width: 1 };
    return {
      width: chart.plane.clientWidth,
      height: HEIGHT,
      padding: [18, 14, 0, 0],
      legend: { show: false },
      scales: {
        x: { time: false, range: (_, _first, last) => [0, Math.max(last ?? 0, this.data.result ? 1 : SHORTEST_S)] },
        y: { range: (_, _least, most) => [0, most > 0 ? most * 1.06 : 1] },
      },
      axes: [
        { ...axis, grid: { show: false }, incrs: TIMES, space: 64, size: 24, values: (_, times) => times.map(span) },
        {
          ...axis, grid, size: widest, space: 28, incrs: chart.counts ? INCREMENTS.filter((n) => n >= 1) : INCREMENTS,
          values: (_, values, _axis, _space, increment) => values.map((v) => fixed(v, decimals(increment))),
        },
      ],
      series: [{}, ...chart.lines.map((line) => this.line(line))],
      cursor: { y: false, drag: { x: false, y: false }, sync: { key: "run", setSeries: false } },
      hooks: { draw: [(plot) => this.mark(plot)], setCursor: [() => this.read(chart)] },
    };
  }

  line({ colour, stepped }) {
    const stroke = () => this.colour(colour);
    return {
      stroke,
      width: stepped ? 4 : 1.75,
      alpha: stepped ? 0.4 : 1,
      paths: stepped ? uPlot.paths.stepped({ align: 1 }) : undefined,
      points: { show: false, size: 4, fill: stroke, filter: alone },
    };
  }

  // A canvas knows no variables of the style sheet.
  colour(name) {
    this.probe.style.color = `var(--${name})`;
    return getComputedStyle(this.probe).color;
  }

  resize() {
    for (const { plot, plane } of this.charts) {
      if (plane.clientWidth !== plot.width) plot.setSize({ width: plane.clientWidth, height: HEIGHT });
    }
  }

  // Where a step begins: a dotted line, and above it its users where they have room.
  mark(plot) {
    const { ctx, bbox } = plot, px = uPlot.pxRatio, concurrency = list(this.data.series.concurrency);
    let free = -Infinity;
    ctx.save();
    Object.assign(ctx, { font: `${11 * px}px system-ui, sans-serif`, textAlign: "center", lineWidth: px });
    ctx.fillStyle = ctx.strokeStyle = this.colour("quiet");
    ctx.setLineDash([px, 3 * px]);
    concurrency.forEach((n, i) => {
      if (!known(n) || n === concurrency[i - 1]) return;
      const x = Math.round(plot.valToPos(this.times[i], "x", true)), half = ctx.measureText(whole(n)).width / 2;
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      if (x - half < free) return;
      free = x + half + 6 * px;
      ctx.fillText(whole(n), x, bbox.top - 5 * px);
    });
    ctx.restore();
  }

  // The figures above a chart: those at the cursor, or else the present ones, or those of the whole run.
  read(chart) {
    const { now, series, figures_of: of, result } = this.data, at = chart.plot?.cursor.idx ?? null;
    const lines = chart.lines.filter((line) => !line.stepped || list(line.of(series)).some(known));
    const values = lines.map((line) => (at === null ? line.now(now) : list(line.of(series))[at]));
    const write = chart.counts ? whole : figure, isOver = at === null && result && !values.some(known);
    const names = lines.map(({ name, colour }, i) => {
      const shown = el("span", "", el("small", "", name), " ", el("b", "", isOver ? "" : write(values[i])));
      shown.style.color = `var(--${colour})`;
      return shown;
    });
    const label = at !== null ? `at ${span(this.times[at])}` : isOver ? "" : chart.counts ? "now" : of ?? "";
    chart.values.replaceChildren(...names, el("time", "", label));
    chart.plane.setAttribute("aria-label", `${chart.title}: ${chart.values.innerText}`);
  }

  step(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key], last = this.times.length - 1;
    if (event.key === "Escape") this.point(null);
    if (!by || last < 0) return;
    event.preventDefault();
    const at = this.charts[0].plot.cursor.idx;
    this.point(known(at) ? Math.min(last, Math.max(0, at + by)) : last);
  }

  point(at) {
    for (const { plot } of this.charts) {
      plot.setCursor({ left: at === null ? -10 : plot.valToPos(this.times[at], "x"), top: 0 }, true, false);
    }
  }
}

function isMeasured({ now, series }, key) {
  return key in (now.latency ?? {}) || Object.values(series[key] ?? {}).some((values) => list(values).some(known));
}

// Values without a neighbour, which no line shows.
function alone(plot, at) {
  const values = plot.data[at];
  return values.flatMap((v, i) => (known(v) && !known(values[i - 1]) && !known(values[i + 1]) ? [i] : []));
}

const decimals = (increment) => Math.max(0, Math.ceil(-Math.log10(increment) - 1e-9));
const widest = (_, texts) => 12 + 7 * Math.max(3, ...list(texts).map((text) => text.length));
