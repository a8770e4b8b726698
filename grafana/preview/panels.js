// The panels of a dashboard: their frame, and those that are no charts.

import { Chart, cells, lines, states } from "./charts.js";
import { DASH, colour, el, figure, known, named, naturally, palette, turbo } from "./format.js";
import { Away, frame, series } from "./prometheus.js";

const REDUCE = {
  lastNotNull: ["Last", (values) => values.findLast(known)],
  max: ["Max", (values) => values.filter(known).reduce((a, b) => Math.max(a, b), -Infinity)],
};
const CHARTS = { timeseries: lines, heatmap: cells, "state-timeline": states };
const WORDS = { stat: showTile, bargauge: showBars, table: showTable };
const DRAWN = { ...CHARTS, ...WORDS };
const UNIT_PX = 30, GAP_PX = 8; // of Grafana's grid, as in preview.css
const HIGHEST = 10; // units; a longer table scrolls

/** What an override changes of the field that is called so, over the defaults. */
function field(panel, name) {
  const { defaults, overrides } = panel.fieldConfig, found = { ...defaults };
  for (const { matcher, properties } of overrides) {
    if (matcher.id === "byName" && matcher.options === name) for (const { id, value } of properties) found[id] = value;
  }
  return found;
}

/** Series with what is known of their fields: name, unit, color. Those of a query are in the order of their names. */
function fields(panel, answers) {
  const found = answers.flatMap(({ target, rows }) => (
    rows.map((row) => ({ ...row, name: named(target.legendFormat, row.labels) }))
      .sort((a, b) => naturally(a.name, b.name))
  ));
  return found.map(({ name, labels, values }, i) => {
    const { unit, decimals, color, thresholds } = field(panel, name);
    return { name, labels, values, unit, decimals, color: colourOf(color, thresholds, values.findLast(known), i) };
  });
}

function colourOf(color, thresholds, value, i) {
  if (color?.mode === "fixed") return colour(color.fixedColor);
  if (color?.mode !== "thresholds") return palette(i);
  const passed = (thresholds?.steps ?? []).filter((s) => s.value === null || value >= s.value);
  return colour(passed.at(-1)?.color ?? "text");
}

export class Panel {
  /** ``moved`` is called when the panel has to be placed anew: with its first data, without data, at another height. */
  constructor(json, host, moved) {
    this.json = json;
    this.host = host;
    this.moved = moved;
    this.height = json.gridPos.h;
    this.element = el("section", `panel ${json.type}`);
    const head = el("header"), info = el("span", "info", "i");
    info.title = json.description ?? "";
    info.setAttribute("aria-label", info.title);
    info.tabIndex = 0;
    head.append(el("h3", "", json.title), info);
    this.body = el("div", "body");
    this.foot = el("div", "foot");
    this.element.append(head, this.body, this.foot);
    this.chart = json.type in CHARTS ? new Chart(this.body, host.zoom) : null;
  }

  get width() {
    return this.json.gridPos.w;
  }

  get noValue() {
    return this.json.fieldConfig.defaults.noValue;
  }

  get isEmpty() {
    return this.element.dataset.state === "none";
  }

  /** Ask and show, as of a turn of the page; raises Away. */
  async refresh(turn) {
    this.turn = turn.number;
    const asked = frame(turn.range, turn.scrape_s, Math.max(this.host.widthOf(this.width), this.element.clientWidth));
    try {
      if (!(this.json.type in DRAWN)) throw new Error(`This page does not draw panels of type ${this.json.type}`);
      const answers = await Promise.all(this.json.targets.map(async (target) => (
        { target, rows: await series(target, turn.values, asked) }
      )));
      if (this.turn === turn.number) this.show(answers, asked, turn);
    } catch (error) {
      if (error instanceof Away) throw error;
      if (this.turn === turn.number) this.say("error", error.message);
    }
  }

  show(answers, asked, turn) {
    const found = fields(this.json, answers);
    const drawn = this.chart && CHARTS[this.json.type](this.json, found, asked);
    const nothing = drawn?.empty || !found.some(({ values }) => values.some(known));
    if (nothing) return this.say("none", this.noValue);
    this.state("there");
    if (!drawn) return WORDS[this.json.type](this, found, answers);
    this.foot.replaceChildren(...footOf(this.json, found, drawn));
    this.chart.show(drawn, turn.range, turn.marks);
  }

  /** Forget the chart, and what is asked still. */
  leave() {
    this.turn = null;
    this.chart?.clear();
  }

  say(state, text) {
    this.state(state);
    this.chart?.clear();
    this.foot.replaceChildren();
    this.body.replaceChildren(el("p", "said", text));
  }

  /** Take the height that the content of the body needs, whatever the dashboard gives it. */
  fit(content) {
    const needed = this.element.clientHeight - this.body.clientHeight + content.offsetHeight + GAP_PX;
    const height = Math.min(HIGHEST, Math.ceil(needed / (UNIT_PX + GAP_PX)));
    if (height === this.height) return;
    this.height = height;
    this.moved();
  }

  // What was said in words goes where a chart comes.
  state(state) {
    const wasEmpty = this.isEmpty;
    this.element.dataset.state = state;
    if (this.isEmpty !== wasEmpty) this.moved();
    if (this.chart) this.body.querySelector(".said")?.remove();
  }
}

// -- below a chart

function footOf(json, found, drawn) {
  if (json.type === "heatmap") return [scaleOf(drawn.most)];
  const { legend } = json.options;
  return legend?.showLegend ? [legendOf(found, legend.calcs)] : [];
}

function legendOf(found, calcs) {
  const table = el("table", "legend"), head = el("tr");
  head.append(el("th", "", "Name"), ...calcs.map((calc) => el("th", "", REDUCE[calc]?.[0] ?? calc)));
  table.append(head, ...found.map(({ name, values, unit, decimals, color }) => {
    const row = el("tr"), first = el("td"), swatch = el("i");
    swatch.style.background = color;
    first.append(swatch, name);
    row.append(first, ...calcs.map((calc) => el("td", "", figure(REDUCE[calc]?.[1](values), unit, decimals))));
    return row;
  }));
  return table;
}

function scaleOf(most) {
  const scale = el("div", "scale"), bar = el("i");
  const colours = Array.from({ length: 12 }, (_, i) => turbo((i / 11) ** 0.5));
  bar.style.background = `linear-gradient(to right, ${colours.join(", ")})`;
  scale.append("0", bar, `${figure(most, "none")} values/s`);
  return scale;
}

// -- tiles

function showTile(panel, found) {
  const { textMode, reduceOptions } = panel.json.options, reduce = REDUCE[reduceOptions.calcs[0]][1];
  const figures = found.filter(({ values }) => known(reduce(values))).map(({ name, values, unit, decimals, color }) => {
    const box = el("div", `figure ${textMode}`);
    const text = textMode === "name" ? name : figure(reduce(values), unit, decimals);
    if (textMode === "value_and_name") box.append(el("small", "", name));
    const big = el("b", "", text);
    big.style.color = color;
    box.append(big);
    return box;
  });
  const longest = Math.max(...figures.map((f) => f.lastChild.textContent.length));
  panel.body.style.setProperty("--letters", figures.length * (longest + 1));
  panel.body.replaceChildren(...figures);
}

// -- bars

function showBars(panel, found) {
  const last = ({ values }) => values.findLast(known) ?? 0;
  const most = Math.max(...found.map(last)) || 1;
  panel.body.replaceChildren(...found.map((series) => {
    const row = el("div", "bar"), text = el("b", "", figure(last(series), series.unit, series.decimals));
    text.style.color = series.color;
    row.append(el("span", "", series.name), meter(last(series) / most, series.color), text);
    return row;
  }));
}

function meter(share, color) {
  const meter = el("span", "meter"), fill = el("i");
  fill.style.width = `${100 * Math.min(1, Math.max(0, share))}%`;
  fill.style.background = color;
  meter.append(fill);
  return meter;
}

// -- tables

function showTable(panel, _found, answers) {
  const rows = merged(answers), columns = organized(panel.json, rows);
  const [sort] = panel.json.options.sortBy ?? [];
  const { name: key } = columns.find(({ title }) => title === sort?.displayName) ?? columns[0];
  rows.sort((a, b) => (sort?.desc ? -1 : 1) * compared(a[key], b[key]));
  const table = el("table"), head = el("tr");
  for (const column of columns) head.append(el("th", column.number ? "number" : "", column.title));
  table.append(head, ...rows.map((row) => {
    const line = el("tr");
    for (const column of columns) line.append(cell(panel, row, column, columns, rows));
    return line;
  }));
  panel.body.replaceChildren(table);
  panel.fit(table);
}

// Rows of several queries are one where all labels that both have are the same.
function merged(answers) {
  const found = [], several = answers.length > 1;
  for (const { target, rows } of answers) {
    const value = several ? `Value #${target.refId}` : "Value";
    for (const { labels, values } of rows) {
      const agrees = (row) => Object.entries(labels).every(([label, text]) => (row[label] ?? text) === text);
      const same = found.filter((row) => !(value in row) && agrees(row));
      if (!same.length) found.push({ ...labels, [value]: values[0] });
      for (const row of same) Object.assign(row, labels, { [value]: values[0] });
    }
  }
  return found;
}

function organized(json, rows) {
  const { options } = json.transformations.find(({ id }) => id === "organize");
  const names = [...new Set(rows.flatMap(Object.keys))].filter((name) => !options.excludeByName[name]);
  const place = (name) => options.indexByName[name] ?? Infinity;
  return names.sort((a, b) => place(a) - place(b) || 0).map((name) => {
    const title = options.renameByName[name] ?? name;
    return { name, title, number: name.startsWith("Value"), is: field(json, title) };
  });
}

const compared = (a, b) => (known(a) && known(b) ? a - b : naturally(String(a ?? ""), String(b ?? "")));

function cell(panel, row, { name, title, number, is }, columns, rows) {
  const value = row[name], td = el("td", is.unit === "dateTimeAsIso" ? "time" : number ? "number" : "");
  const text = number ? figure(value, is.unit, is.decimals) : value || DASH;
  if (!number) td.style.setProperty("--letters", Math.min(16, text.length)); // longer names take several lines
  if (title === "Reservation" && value) td.append(el("span", "chip", text));
  else if (is.links && value) td.append(linkOf(panel, is.links[0], value, text));
  else td.append(text);
  if (is["custom.cellOptions"]?.type === "gauge" && known(value)) {
    td.prepend(meter(value / (Math.max(...rows.map((r) => r[name] ?? 0)) || 1), colour("green")));
  }
  return td;
}

function linkOf(panel, link, value, text) {
  const a = el("a", "", text);
  a.title = link.title;
  a.href = panel.host.addressOf(link.url.replaceAll("${__value.raw}", encodeURIComponent(value)));
  return a;
}
