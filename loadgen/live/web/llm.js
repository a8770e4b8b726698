// The page of a run: it asks for the run's data once a second, and shows its progress or, once it has ended, its result.

import { Charts } from "./charts.js";
import { DASH, el, figure, fixed, known, list, span, users, whole } from "./format.js";

const POLL_MS = 1000, TIMEOUT_MS = 10000, MOST_SEGMENTS = 40;
const STATES = { measuring: "on", "warming up": "wait", draining: "wait" };
const LOOKS = { VALID: "ok", WARN: "warn", warn: "warn" };
const SEVERITY = ["invalid", "inconclusive", "warn"];
const $ = (id) => document.getElementById(id);
const look = (status) => LOOKS[status] ?? "bad";

// -- a run

function showRun({ run, now, result }) {
  const title = run.title ?? "LLM", words = list(run.reservations), tail = ` (${words.join(", ")})`;
  document.title = `${run.state} \u00B7 ${title}`;
  $("run").textContent = run.run_id ? `run ${run.run_id}` : "";
  // The caveats at the end of the title are shown as marks that cannot be overlooked.
  $("title").textContent = words.length && title.endsWith(tail) ? title.slice(0, -tail.length) : title;
  for (const word of words) $("title").append(el("span", "chip", word));
  $("state").textContent = run.state;
  $("state").className = STATES[run.state] ?? "";
  const stepped = known(now.step) && !result, parts = [];
  if (stepped) parts.push(`step ${now.step + 1}${known(now.steps) ? ` of ${now.steps}` : ""}`);
  if (known(now.concurrency)) parts.push(users(now.concurrency));
  $("step").textContent = parts.join(", ");
  const time = known(now.elapsed_s) ? [`${span(now.elapsed_s)} ${result ? "in all" : "so far"}`] : [];
  if (known(now.eta_s) && !result) time.push(`${span(now.eta_s)} left${stepped ? " at most" : ""}`);
  $("time").textContent = time.join(", ");
  $("bar").hidden = Boolean(result);
  showBar(now, stepped);
}

// A segment for each step where their number is known; the running one fills.
function showBar(now, stepped) {
  const share = known(now.progress) ? Math.min(1, Math.max(0, now.progress)) : 0, percent = Math.round(100 * share);
  const segmented = stepped && known(now.steps) && now.steps <= MOST_SEGMENTS;
  const count = segmented ? Math.max(now.steps, now.step + 1) : 1, full = segmented ? now.step : 0;
  $("bar").replaceChildren(...Array.from({ length: count }, (_, i) => {
    const fill = el("i", "");
    fill.style.width = `${i < full ? 100 : i === full ? 100 * share : 0}%`;
    return el("span", "", fill);
  }));
  $("bar").setAttribute("aria-valuenow", percent);
  $("bar").setAttribute("aria-label", stepped ? "time of this step" : "progress of the run");
  $("bar").title = `${percent} % of ${stepped ? "this step's time" : "the run"}`;
}

const pairs = (rows) => rows.map(([name, value, look = ""]) => el("div", "", el("dt", "", name), el("dd", look, value)));

function showCounts(now) {
  const rows = ["started", "completed", "failed", "aborted", "dropped"].map((key) => [key, whole(now[key])]);
  if (now.failed > 0) rows[2].push("bad");
  $("counts").replaceChildren(...pairs(rows));
}

function showVerdict({ status, checks }, ended) {
  const of = (name) => list(checks).filter((check) => check.status === name), passed = of("ok"), open = of("not checked");
  $("verdict").replaceChildren(
    el("span", "quiet", ended ? "Verdict: " : "Verdict so far: "),
    el("b", status ? look(status) : "quiet", status ?? "none yet"),
  );
  $("objections").replaceChildren(...SEVERITY.flatMap(of).map((check) => el(
    "li", "", el("b", look(check.status), `${check.name}: `), `${check.value ?? DASH} (limit: ${check.limit ?? DASH}). `,
    el("span", "quiet", [check.effect, check.advice].filter(Boolean).join(" ")),
  )));
  const [summary, items] = $("passed").children, rest = open.length ? `, ${open.length} not checked` : "";
  $("passed").hidden = !passed.length && !open.length;
  summary.textContent = `${passed.length} checks passed${rest}`;
  items.replaceChildren(...[...passed, ...open].map((check) => {
    const found = [check.status === "ok" ? check.value : "not checked", check.limit && `limit: ${check.limit}`];
    return el("li", "", `${check.name}: `, el("span", "quiet", found.filter(Boolean).join("; ")));
  }));
}

// -- its result

function showResult({ run, verdict, result, files }) {
  $("result").hidden = $("timeline").hidden = !result;
  $("files").hidden = !list(files).length;
  $("figures").replaceChildren(...pairs(list(result?.headline.figures)));
  showTables(list(result?.tables));
  if (!result) return;
  const { headline } = result, [value, interval] = $("headline").children;
  $("result").className = look(verdict.status) === "bad" ? "doubtful" : "";
  value.textContent = headline.figure;
  interval.textContent = headline.interval;
  $("of").textContent = headline.of;
  const isPicture = (name) => name.endsWith(".png"), link = linkTo(run), pictures = list(files).filter(isPicture);
  $("files").replaceChildren(el("p", "", ...list(files).filter((name) => !isPicture(name)).map(link)));
  if (pictures.length) $("files").append(el("p", "", el("span", "quiet", "Pictures:"), ...pictures.map(link)));
}

const linkTo = (run) => (name) => {
  const link = el("a", "", name === "report.html" ? "Report" : name.replace(".png", ""));
  link.href = `llm/runs/${encodeURIComponent(run.run_id)}/${encodeURIComponent(name)}`;
  link.target = "_blank";
  return link;
};

function showTables(tables) {
  $("tables").replaceChildren(...tables.flatMap(({ title, columns, rows, note, words }) => {
    const cells = (tag) => (row) => el(
      "tr", "", ...list(row).map((cell, i) => el(tag, list(words).includes(i) ? "words" : "", cell)),
    );
    const table = el("table", "", el("thead", "", cells("th")(columns)), el("tbody", "", ...list(rows).map(cells("td"))));
    return [el("h2", "", title), el("div", "scroll", table), el("p", "note", note)];
  }));
}

// -- what goes on

function fill(section, columns, rows) {
  const [head, body] = $(section).querySelectorAll("thead, tbody");
  head.replaceChildren(el("tr", "", ...columns.map(([name, look = ""]) => el("th", look, name))));
  body.replaceChildren(...rows.map((row) => el("tr", "", ...row.map((cell, i) => el("td", columns[i][1] ?? "", cell)))));
  $(section).hidden = !rows.length;
}

function showSteps(steps, { rates, step_latencies: latencies }) {
  const shown = list(latencies).filter(({ key }) => steps.some((s) => s.latency?.[key]?.n));
  const [rate, speed] = list(rates).map(({ label }) => [label]);
  const columns = [["users"], rate, ["95 % interval"], speed, ...shown.map(({ heading }) => [heading]), ["steady"]];
  fill("steps", columns, steps.map((s) => {
    const of = s.requests_per_minute, ci = list(of?.ci95);
    return [
      whole(s.concurrency),
      figure(of?.value),
      ci.length === 2 ? `${figure(ci[0])} to ${figure(ci[1])}` : DASH,
      figure(s.output_tokens_per_second),
      ...shown.map(({ key, percentile }) => figure(s.latency?.[key]?.[percentile])),
      s.steady === true ? "yes" : s.steady === false ? el("span", "warn", "no") : DASH,
    ];
  }));
}

function showWorkers(workers) {
  const columns = [
    ["worker", "words"], ["state", "words"], ["last report, s ago"], ["in flight"], ["CPU, share of a core"],
  ];
  fill("workers", columns, workers.map((w) => [
    `${w.worker ?? DASH} ${w.name ?? ""}`,
    w.lost ? el("span", "bad", `lost: ${w.lost}`) : "there",
    known(w.report_age_s) ? fixed(w.report_age_s, 1) : DASH,
    whole(w.in_flight),
    known(w.cpu_share) ? `${Math.round(100 * w.cpu_share)} %` : DASH,
  ]));
}

// -- the page

const charts = new Charts($("charts"));

function show(data) {
  const isIdle = data.run.state === "idle", { result } = data;
  $("idle").hidden = !isIdle;
  $("shown").hidden = isIdle;
  if (isIdle) {
    $("title").textContent = document.title = "LLM";
    $("run").textContent = "";
    return;
  }
  showRun(data);
  showResult(data);
  showCounts(data.now);
  showVerdict(data.verdict, Boolean(result));
  showSteps(result ? [] : list(data.steps), data);
  showWorkers(list(data.workers));
  $("marks").hidden = !list(data.series.concurrency).some(known);
  charts.show(data);
}

let answeredAt = Date.now(), shown = null;

async function ask() {
  const options = { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) };
  const response = await fetch("llm/data", options).catch((error) => {
    throw new Error(error.name === "TimeoutError" ? "Locust is slow to answer" : "Locust does not answer");
  });
  if (response.redirected) throw new Error("Locust asks to log in again");
  if (!response.ok) throw new Error(`Locust answered ${response.status}`);
  return response.text();
}

async function poll() {
  try {
    const text = await ask();
    if (text !== shown) show(JSON.parse(text));
    [shown, answeredAt] = [text, Date.now()];
    $("stale").hidden = true;
  } catch (error) {
    const at = new Date(answeredAt).toLocaleTimeString("en-GB"), ago = span((Date.now() - answeredAt) / 1000);
    $("stale").textContent = `Stale: the last answer came at ${at}, ${ago} ago. ${error.message}; trying again.`;
    $("stale").hidden = false;
  }
  setTimeout(poll, POLL_MS);
}

// Locust's page keeps its theme where this page can read it.
function dress() {
  document.documentElement.style.colorScheme = localStorage.theme ?? "";
  charts.redraw();
}
addEventListener("storage", dress);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", dress);
dress();

// In the LLM tab of Locust's page: as high as its content.
if (frameElement) {
  const root = document.documentElement;
  root.classList.add("embedded");
  new ResizeObserver(() => { frameElement.style.height = `${root.offsetHeight}px`; }).observe(root);
}

poll();
