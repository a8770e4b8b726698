// Panels over time, drawn by uPlot: lines, heat maps, states. They share the axis of time, the cursor and annotations.

import { clock, colour, day, el, figure, known, shortened, theme, ticks, turbo } from "./format.js";
import { times } from "./prometheus.js";

const FONT = "11px system-ui, sans-serif", PX = uPlot.pxRatio;
const POWERS_OF_2 = Array.from({ length: 60 }, (_, i) => 2 ** i);
const ROW_PX = 15; // between two labels of a heat map's axis
// Only where the pointer is, not what is chosen by dragging.
const SYNC = { key: "board", setSeries: false, filters: { pub: (type) => /^mouse(move|leave)$/.test(type) } };
const measuring = document.createElement("canvas").getContext("2d");

function widthOf(text) {
  measuring.font = FONT;
  return measuring.measureText(text).width;
}

const widest = (_, texts) => 10 + Math.max(24, ...(texts ?? []).map(widthOf));

/** A chart in a box. ``zoom`` is told the times that are chosen by dragging. */
export class Chart {
  constructor(box, zoom) {
    this.box = box;
    this.zoom = zoom;
    new ResizeObserver(() => this.resize()).observe(box);
  }

  size() {
    return { width: Math.max(80, this.box.clientWidth), height: Math.max(50, this.box.clientHeight) };
  }

  resize() {
    const now = this.size(), was = this.plot;
    if (was && (was.width !== now.width || was.height !== now.height)) was.setSize(now);
  }

  clear() {
    this.plot?.destroy();
    this.plot = this.key = null;
  }

  /** Draw what a kind of chart has made of its series; ``key``: what it takes to keep the old plot. */
  show(drawn, { from, to }, marks) {
    Object.assign(this, { drawn, span: [from / 1000, to / 1000], marks });
    const key = JSON.stringify([drawn.key, theme("page")]);
    if (this.plot && this.key === key) {
      this.plot.setData(drawn.data);
      return;
    }
    this.clear();
    this.key = key;
    this.plot = new uPlot(this.options(), drawn.data, this.box);
    this.plot.over.addEventListener("mouseleave", hidePointed);
  }

  options() {
    const axis = { stroke: theme("quiet"), font: FONT, ticks: { show: false } };
    const grid = { stroke: theme("faint"), width: 1 };
    return {
      ...this.size(),
      padding: [14, 26, 0, 0], // half a label of the time is right of its mark
      legend: { show: false },
      scales: { x: { time: true, range: () => this.span }, y: { range: (_, _least, most) => this.drawn.range(most) } },
      axes: [
        { ...axis, grid, size: 26, gap: 8, space: 70, values: timeLabels },
        { ...axis, grid, gap: 6, size: widest, ...this.drawn.axis() },
      ],
      series: [{}, ...this.drawn.series],
      bands: this.drawn.bands,
      cursor: { y: false, sync: SYNC, drag: { x: true, y: false, setScale: false } },
      hooks: {
        draw: [(u) => this.drawn.also?.(u), (u) => drawMarks(u, this.marks)],
        setCursor: [(u) => this.point(u)],
        setSelect: [(u) => this.select(u)],
      },
    };
  }

  select(u) {
    const { left, width } = u.select;
    if (width < 5) return;
    this.zoom(u.posToVal(left, "x") * 1000, u.posToVal(left + width, "x") * 1000);
    u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
  }

  // Only the chart under the pointer says figures; the others show the line that is synchronized.
  point(u) {
    if (!u.over.matches(":hover") || u.cursor.left < 0) return;
    const { idx, left } = u.cursor, near = this.marks.filter(({ time }) => Math.abs(u.valToPos(time, "x") - left) < 4);
    const marks = near.map(({ title, text, colour: name }) => ({ name: title, text, color: colour(name) }));
    showPointed(u, this.drawn.data[0][idx] ?? 0, [...this.drawn.rows(u, idx), ...marks]);
  }
}

function timeLabels(u, values, _axis, _space, gap) {
  const days = u.scales.x.max - u.scales.x.min > 86400 * 1.5;
  return values.map((v) => (days ? `${day(v * 1000).slice(5)} ${clock(v * 1000, false)}` : clock(v * 1000, gap < 60)));
}

function clipped(u, draw) {
  const { left, top, width, height } = u.bbox, { ctx } = u;
  ctx.save();
  ctx.beginPath();
  ctx.rect(left, top, width, height);
  ctx.clip();
  draw(ctx);
  ctx.restore();
}

// Annotations: dotted lines; titles above the plot, where they do not touch.
function drawMarks(u, marks) {
  const { ctx, bbox } = u;
  ctx.save();
  ctx.font = `${10 * PX}px system-ui, sans-serif`;
  ctx.textAlign = "center";
  ctx.lineWidth = PX;
  let free = -Infinity;
  for (const mark of marks) {
    const x = Math.round(u.valToPos(mark.time, "x", true));
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.strokeStyle = ctx.fillStyle = colour(mark.colour);
    ctx.setLineDash([2 * PX, 3 * PX]);
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    const half = ctx.measureText(mark.title).width / 2;
    const at = Math.min(Math.max(x, bbox.left + half), ctx.canvas.width - half);
    if (at - half < free) continue;
    free = at + half + 6 * PX;
    ctx.fillText(mark.title, at, bbox.top - 4 * PX);
  }
  ctx.restore();
}

// -- what is under the pointer

const pointed = document.getElementById("pointed");
const hidePointed = () => { pointed.hidden = true; };

function showPointed(u, time, rows) {
  if (!rows.length) return hidePointed();
  pointed.replaceChildren(el("time", "", `${day(time * 1000)} ${clock(time * 1000)}`));
  for (const { name, text, color } of rows) {
    const row = el("div"), swatch = el("i");
    swatch.style.background = color;
    row.append(swatch, el("span", "", name), el("b", "", text));
    pointed.append(row);
  }
  pointed.hidden = false;
  const over = u.over.getBoundingClientRect(), { width, height } = pointed.getBoundingClientRect();
  const x = over.left + u.cursor.left + 14, y = over.top + u.cursor.top + 14;
  pointed.style.left = `${x + width > innerWidth ? Math.max(0, x - width - 28) : x}px`;
  pointed.style.top = `${y + height > innerHeight ? Math.max(0, y - height - 28) : y}px`;
}

// -- lines

/** Lines, or areas that add up. ``series``: of each name, values, unit and color. */
export function lines(panel, series, frame) {
  const { defaults } = panel.fieldConfig, { custom = {} } = defaults;
  const stacked = custom.stacking?.mode === "normal";
  const drawn = stacked ? sums(series.map((s) => s.values)) : series.map((s) => s.values);
  const dashed = custom.thresholdsStyle?.mode === "dashed";
  const limits = dashed ? defaults.thresholds.steps.filter(({ value }) => known(value)) : [];
  return {
    key: [frame.step, series.map((s) => [s.name, s.color])],
    data: [times(frame), ...drawn],
    series: series.map((s) => line(s, custom)),
    bands: stacked ? series.slice(1).map((_, i) => ({ series: [i + 2, i + 1] })) : [],
    range: (most) => [defaults.min ?? 0, defaults.max ?? upper(most)],
    axis: () => ({
      values: (_, values) => ticks(values, defaults.unit),
      space: 28,
      ...(defaults.unit === "bytes" ? { incrs: POWERS_OF_2 } : {}),
    }),
    also: (u) => drawLimits(u, limits),
    rows: (_, i) => series
      .filter((s) => known(s.values[i]))
      .sort((a, b) => b.values[i] - a.values[i])
      .map((s) => ({ name: s.name, text: figure(s.values[i], s.unit, s.decimals), color: s.color })),
  };
}

const upper = (most) => (known(most) && most > 0 ? most * 1.06 : 1);

function line({ color }, custom) {
  const opacity = Math.round(2.55 * (custom.fillOpacity ?? 0)).toString(16).padStart(2, "0");
  return {
    stroke: color,
    fill: custom.fillOpacity ? color + opacity : undefined,
    width: (custom.lineWidth ?? 1) * 1.25,
    spanGaps: false,
    points: { size: 4, fill: color, filter: alone },
  };
}

// Values without a neighbour, which no line shows; all of them where there is room, as uPlot says by ``show``.
function alone(u, at, show) {
  if (show) return null;
  const values = u.data[at];
  return values.flatMap((v, i) => (known(v) && !known(values[i - 1]) && !known(values[i + 1]) ? [i] : []));
}

// Each over those before it; what is missing adds nothing.
function sums(rows) {
  const sum = new Array(rows[0]?.length ?? 0).fill(0);
  return rows.map((values) => values.map((v, i) => {
    sum[i] += v ?? 0;
    return rows.some((row) => known(row[i])) ? sum[i] : null;
  }));
}

function drawLimits(u, limits) {
  clipped(u, (ctx) => {
    ctx.setLineDash([8 * PX, 5 * PX]);
    ctx.lineWidth = 1.5 * PX;
    for (const limit of limits) {
      const y = Math.round(u.valToPos(limit.value, "y", true));
      ctx.strokeStyle = colour(limit.color);
      ctx.beginPath();
      ctx.moveTo(u.bbox.left, y);
      ctx.lineTo(u.bbox.left + u.bbox.width, y);
      ctx.stroke();
    }
  });
}

// -- heat maps

/** The buckets of a histogram, which count all values up to their bound: as cells, each without the ones below. */
export function cells(panel, series, frame) {
  const { unit } = panel.options.yAxis, { exponent, steps } = panel.options.color;
  const least = panel.options.filterValues?.le ?? 0;
  const rows = series
    .map(({ labels, values }) => ({ le: Number(labels.le), values }))
    .sort((a, b) => a.le - b.le);
  const above = (v, t, below) => (v === null ? null : v - (below?.values[t] ?? 0));
  const counts = rows.map(({ values }, i) => values.map((v, t) => above(v, t, rows[i - 1])));
  const most = counts.flat().reduce((a, b) => Math.max(a, b ?? 0), 0);
  const shade = (v) => turbo(Math.round((v / most) ** exponent * steps) / steps);
  const at = times(frame), bounds = rows.map(({ le }) => figure(le, unit));
  return {
    key: [frame.step, bounds],
    data: [at, at.map(() => null)],
    series: [{ stroke: "transparent" }],
    most,
    empty: most <= least,
    range: () => [0, rows.length],
    axis: () => ({
      splits: (u) => everyNth(rows.length, u.height - 60),
      values: (_, splits) => splits.map((i) => bounds[i - 1] ?? ""),
      grid: { show: false },
    }),
    also: (u) => drawCells(u, at, frame.step, counts, (v) => (v > least ? shade(v) : null)),
    rows: (u, t) => {
      const i = Math.floor(u.posToVal(u.cursor.top, "y")), count = counts[i]?.[t];
      if (!known(count) || count <= least) return [];
      const name = `${i ? bounds[i - 1] : "0"} to ${bounds[i]}`;
      return [{ name, text: `${figure(count, "none")} /s`, color: shade(count) }];
    },
  };
}

function everyNth(count, height) {
  const nth = Math.max(1, Math.ceil((count * ROW_PX) / Math.max(ROW_PX, height)));
  return Array.from({ length: Math.floor(count / nth) }, (_, i) => count - i * nth).reverse();
}

// A rate looks back, so that a cell ends at its time.
function drawCells(u, at, step, counts, shade) {
  const x = (t) => Math.round(u.valToPos(t, "x", true)), y = (v) => Math.round(u.valToPos(v, "y", true));
  clipped(u, (ctx) => counts.forEach((values, i) => values.forEach((v, t) => {
    const color = known(v) ? shade(v) : null;
    if (color === null) return;
    const left = x(at[t] - step), top = y(i + 1);
    ctx.fillStyle = color;
    ctx.fillRect(left, top, x(at[t]) - left, y(i) - top);
  })));
}

// -- states

/** A row for each series, coloured by the mapping of its value. */
export function states(panel, series, frame) {
  const mapping = panel.fieldConfig.defaults.mappings[0].options, { fillOpacity } = panel.fieldConfig.defaults.custom;
  const at = times(frame), rows = [...series].reverse();
  const look = { step: frame.step, mapping, height: panel.options.rowHeight, fillOpacity };
  return {
    key: [frame.step, rows.map((s) => s.name)],
    data: [at, at.map(() => null)],
    series: [{ stroke: "transparent" }],
    range: () => [0, rows.length],
    axis: () => ({
      splits: () => rows.map((_, i) => i + 0.5),
      values: (u) => rows.map(({ name }) => shortened(name, (text) => widthOf(text) <= u.width * 0.35)),
      grid: { show: false },
      font: rows.length > 14 ? FONT.replace("11px", "9px") : FONT, // they all have to be there
    }),
    also: (u) => rows.forEach(({ values }, i) => drawStates(u, at, values, i, look)),
    rows: (u, t) => {
      const s = rows[Math.floor(u.posToVal(u.cursor.top, "y"))], state = mapping[s?.values[t]];
      return state ? [{ name: s.name, text: state.text, color: colour(state.color) }] : [];
    },
  };
}

function drawStates(u, at, values, row, { step, mapping, height, fillOpacity }) {
  const x = (t) => Math.round(u.valToPos(t, "x", true));
  const top = u.valToPos(row + 0.5 + height / 2, "y", true), bottom = u.valToPos(row + 0.5 - height / 2, "y", true);
  clipped(u, (ctx) => {
    ctx.globalAlpha = fillOpacity / 100;
    for (let i = 0, end; i < values.length; i = end) {
      for (end = i + 1; end < values.length && values[end] === values[i];) end++;
      const state = mapping[values[i]];
      if (!state) continue;
      ctx.fillStyle = colour(state.color);
      ctx.fillRect(x(at[i]), top, x(at[end - 1] + step) - x(at[i]), bottom - top);
    }
  });
}
