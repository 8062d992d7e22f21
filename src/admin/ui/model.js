// One model: its canary, its versions side by side, its mirror.
import { button } from "./actions.js";
import { Charts, hue, spread } from "./charts.js";
import { h } from "./dom.js";
import { chip, errorMood, figure, shares, standings, windowOf } from "./overview.js";
import { list, ofModel } from "./problems.js";
import { ask } from "./stream.js";
import { canaryMood, count, lasting, left, percent, place, plural, rate, spaced, time } from "./words.js";

const CHARTS = [
  { key: "requests_per_second", title: "Requests per second", show: rate, least: 1 },
  { key: "tokens_per_second", title: "Tokens per second", show: rate, least: 1, ifAny: true },
  { key: "errors_percent", title: "Errors", show: percent, least: 1 },
  { key: "p50_ms", title: "Median", show: time },
  { key: "p95_ms", title: "95th percentile", show: time },
  { key: "p99_ms", title: "99th percentile", show: time },
  { key: "first_byte_p95_ms", title: "First byte, 95th percentile", show: time },
];

const charts = new Charts();
let report = { model: null, at: 0, said: null };

// Points that are each of some seconds.
function lines(state, model, key) {
  const line = state.lines.models.find((each) => each.name === model.name);
  const times = state.lines.times;
  return [times.map((ms) => ms / 1e3), ...model.versions.map((version) => {
    const points = line?.versions?.find((each) => each.name === version.name)?.line[key] || [];
    return [...Array(Math.max(0, times.length - points.length)).fill(null), ...points];
  })];
}

// Those that have something to show: what makes no tokens has no line of them.
const chartsOf = (state, model) =>
  CHARTS.filter(({ key, ifAny }) => !ifAny || lines(state, model, key).slice(1).some((line) => line.some((value) => value > 0)));

const PAUSED = ["paused", "undecided"];
const RUNS = ["collecting", "passing", "failing"];

function orders(model) {
  const canary = model.canary;
  const data = { model: model.name };
  const runs = RUNS.includes(canary.state);
  const holds = PAUSED.includes(canary.state);
  return h("div", { class: "buttons" },
    !runs && !holds ? button("start", "Start…", data) : null,
    runs ? button("pause", "Pause…", data) : null,
    holds ? button("resume", "Resume…", data) : null,
    runs || holds ? [button("promote", "Promote…", data), button("abort", "Abort…", data, "grave")] : null);
}

function ladder(canary) {
  const done = canary.state === "promoted";
  const out = ["rolled_back", "idle"].includes(canary.state);
  return h("ol", { class: "ladder", "aria-label": "steps" }, canary.steps.map((step, i) => {
    const is = done || (!out && i < canary.step) ? "past" : !out && i === canary.step ? "present" : "future";
    return h("li", { class: is, "aria-current": is === "present" ? "step" : null }, percent(step));
  }));
}

// Evidence against the candidate, on the way to where it ends the canary.
function gauge(canary) {
  const most = canary.evidence_at_most;
  const part = most > 0 ? Math.min(1, Math.max(0, canary.evidence / most)) : 0;
  const mood = part >= 1 ? "bad" : part > 0.5 ? "warn" : "good";
  return h("div", { class: "gauge" },
    h("div", { class: "track", role: "meter", "aria-label": "evidence against the candidate", "aria-valuemin": 0,
      "aria-valuemax": most, "aria-valuenow": canary.evidence },
    h("span", { class: "fill " + mood, style: { width: (part * 100).toFixed(1) + "%" } })),
    h("p", null, h("b", null, canary.evidence.toFixed(2)), " of ", h("b", null, most.toFixed(2)),
      " at which it is rolled back", canary.evidence < 0 ? " (below zero: it speaks for the candidate)" : ""));
}

const part = (hits, requests) => (requests > 0 ? percent((100 * hits) / requests) : "–");

// Once it is over, nothing is compared any more.
const compares = (canary) => canary.checks.some((check) => check.candidate_requests + check.stable_requests > 0);

function checks(canary) {
  const row = (check) => h("tr", { "data-key": check.metric },
    h("th", { scope: "row" }, check.metric, check.note ? h("small", null, " " + check.note) : null),
    h("td", { "data-label": "candidate" }, count(check.candidate_hits) + " of " + count(check.candidate_requests),
      h("small", null, " " + part(check.candidate_hits, check.candidate_requests))),
    h("td", { "data-label": "stable" }, count(check.stable_hits) + " of " + count(check.stable_requests),
      h("small", null, " " + part(check.stable_hits, check.stable_requests))),
    h("td", { "data-label": "evidence" }, check.evidence.toFixed(2)),
    h("td", { "data-label": "weight" }, percent(check.weight * 100)),
    h("td", { "data-label": "proven" }, check.passes ? chip("good", "no worse") : chip("calm", "not yet")));
  return h("div", { class: "wide" }, h("table", null,
    h("caption", { class: "unseen" }, "Checks of the canary"),
    h("thead", null, h("tr", null, ["check", "candidate", "stable", "evidence", "weight", "on this step"].map((title) =>
      h("th", { scope: "col" }, title)))),
    h("tbody", null, canary.checks.map(row))));
}

// Candidate and stable side by side: how long requests take, each by the part of its own requests.
function spreads(state, model) {
  const pools = state.closeup?.name === model.name ? state.closeup.versions : [];
  const chart = (key, title, figures) => {
    const each = pools.map((pool, i) => ({ ...pool[key], hue: hue(i) }));
    const told = (version, i) => {
      const [p50, p95, p99] = figures.map((figure) => time(version.now[figure]));
      return h("li", null, h("i", { style: { "background-color": hue(i) }, "aria-hidden": "true" }), h("b", null, version.name),
        " p50 " + p50 + ", p95 " + p95 + ", p99 " + p99,
        h("small", null, " " + plural(pools[i]?.[key].requests ?? 0, "request") + " in " + lasting(version.now.window_seconds)));
    };
    const words = model.versions.map((version) => version.name + " p95 " + time(version.now[figures[1]])).join(", ");
    return h("div", null, h("h3", null, title), spread(each, title + ": " + words), h("ul", { class: "legend" }, model.versions.map(told)));
  };
  if (pools.length < 2) return null;
  return h("div", { class: "halves" },
    chart("latency", "Whole requests", ["p50_ms", "p95_ms", "p99_ms"]),
    chart("first_byte", "To the first byte", ["first_byte_p50_ms", "first_byte_p95_ms", "first_byte_p99_ms"]));
}

function canaryPanel(state, model) {
  const canary = model.canary;
  const facts = [
    canary.needs_requests ? plural(canary.needs_requests, "more request") + " at least" : null,
    canary.eta_seconds !== null ? "a verdict in about " + lasting(canary.eta_seconds) : null,
  ].filter(Boolean);
  return h("section", { class: "card", "data-key": "canary", "aria-label": "canary" },
    h("h2", null, "Canary " + canary.candidate, chip(canaryMood[canary.state], spaced(canary.state)),
      h("span", { class: "push" }), orders(model)),
    h("p", { class: "saying" }, canary.sentence),
    h("div", { class: "halves" },
      h("div", null, h("h3", null, "Share of the candidate"), ladder(canary),
        h("p", { class: "faint" }, facts.length ? facts.join(" · ") : "\u00a0")),
      compares(canary) ? h("div", null, h("h3", null, "Evidence against it"), gauge(canary)) : null),
    spreads(state, model),
    compares(canary) ? checks(canary) : null);
}

function splitButtons(model) {
  if (model.versions.length < 2) return null;
  const now = JSON.stringify(model.versions.map((version) => [version.name, version.share]));
  return h("div", { class: "buttons" }, button("split", "Set the split…", { model: model.name, shares: now }),
    model.split_override ? button("unsplit", "Take it back…", { model: model.name }) : null);
}

function splitSet(model) {
  const set = model.split_override;
  if (!set) return null;
  return h("details", { class: "set", "data-key": "set" },
    h("summary", null, chip("warn", set.seconds_left === null ? "set by hand" : "set by hand, " + left(set.seconds_left)),
      " by " + set.who + (set.reason ? ": " + set.reason : "")),
    h("p", { class: "faint" }, "These lines in the file would make it last:"), h("pre", { tabindex: 0 }, set.yaml));
}

function versions(model) {
  const row = (version, i) => h("tr", { "data-key": version.name },
    h("th", { scope: "row" }, h("i", { class: "swatch", style: { "background-color": hue(i) }, "aria-hidden": "true" }), version.name),
    h("td", { "data-label": "share" }, h("b", null, percent(version.share)),
      version.share === version.configured_share ? null : h("small", null, " file: " + percent(version.configured_share))),
    h("td", { "data-label": "got" }, percent(version.observed_share)),
    h("td", { "data-label": "req/s" }, rate(version.now.requests_per_second)),
    h("td", { "data-label": "errors", class: errorMood(version.now.errors_percent) }, percent(version.now.errors_percent)),
    h("td", { "data-label": "p50" }, time(version.now.p50_ms)), h("td", { "data-label": "p95" }, time(version.now.p95_ms)),
    h("td", { "data-label": "p99" }, time(version.now.p99_ms)),
    h("td", { "data-label": "first byte p95" }, time(version.now.first_byte_p95_ms)),
    h("td", { "data-label": "in flight" }, count(version.in_flight)),
    h("td", { "data-label": "requests" }, count(version.requests_total)),
    h("td", { class: "acts" }, button("test", "Test…", { model: model.name, version: version.name }), version.replicas.draining
      ? button("undrain", "Undrain…", { model: model.name, version: version.name })
      : button("drain", "Drain…", { model: model.name, version: version.name })));
  const titles = ["version", "share", "got", "req/s", "errors", "p50", "p95", "p99", "first byte p95", "in flight", "requests"];
  return h("section", { class: "card", "data-key": "versions", "aria-label": "versions" },
    h("h2", null, "Versions", h("span", { class: "push" }), splitButtons(model)), shares(model), splitSet(model), standings(model),
    h("div", { class: "wide" }, h("table", null, h("caption", { class: "unseen" }, "Versions of " + model.name),
      h("thead", null, h("tr", null, titles.map((title) => h("th", { scope: "col" }, title)),
        h("th", { scope: "col" }, h("span", { class: "unseen" }, "orders")))),
      h("tbody", null, model.versions.map(row)))));
}

const share = (rate) => (rate.agreement === null ? "nothing compared yet" : percent(rate.agreement * 100));

const between = (rate) => (rate.agreement === null ? ""
  : " (" + percent(rate.interval[0] * 100) + " to " + percent(rate.interval[1] * 100) + ")");

function pair(each, i) {
  const side = (name, text) => h("div", null, h("h4", null, name), h("pre", { tabindex: 0 }, text ?? "not kept"));
  return h("details", { "data-key": "pair-" + (each.request_id || i) },
    h("summary", null, "differs in " + (each.differs || []).map(spaced).join(", "), each.difference ? h("small", null, " " + each.difference) : null),
    h("div", { class: "halves" }, side("asked", each.request),
      side("served, " + each.from + " " + each.stable.status, each.stable.body),
      side("mirrored, " + each.candidate.status, each.candidate.body)));
}

function mirrorPanel(model) {
  const mirror = model.mirror;
  const said = report.model === model.name ? report.said : null;
  const rows = said ? Object.entries(said.by) : [];
  return h("section", { class: "card", "data-key": "mirror", "aria-label": "mirror" },
    h("h2", null, "Mirror to " + mirror.to, chip("calm", percent(mirror.percent) + " of the requests")),
    h("div", { class: "figures" },
      figure(mirror.agreement === null ? "–" : percent(mirror.agreement * 100), "agree" + between(mirror)),
      figure(count(mirror.compared), "compared"), figure(count(mirror.running), "running")),
    rows.length ? h("div", { class: "wide" }, h("table", null, h("caption", { class: "unseen" }, "Agreement by facet"),
      h("thead", null, h("tr", null, ["facet", "agree", "compared"].map((title) => h("th", { scope: "col" }, title)))),
      h("tbody", null, rows.map(([facet, rate]) => h("tr", { "data-key": facet }, h("th", { scope: "row" }, spaced(facet)),
        h("td", { "data-label": "agree" }, share(rate), h("small", null, between(rate))),
        h("td", { "data-label": "compared" }, count(rate.compared))))))) : null,
    said && said.worst.length ? [h("h3", null, "Pairs that differ most"), said.worst.map(pair)] : null);
}

// What is too much for each second is asked for every five.
function refresh(name) {
  const now = performance.now();
  if (report.model === name && now - report.at < (report.said ? 5000 : 1000)) return;
  const said = report.model === name ? report.said : null;
  report = { model: name, at: now, said };
  ask("api/v1/models/" + encodeURIComponent(name) + "/mirror").then((found) => {
    if (report.model === name) report.said = found;
  }, () => {});
}

export function modelPage(state, name) {
  const model = state.tick.models.find((each) => each.name === name);
  if (!model) return [h("h1", null, name), h("p", { class: "empty" }, "There is no model of this name now.")];
  if (model.mirror) refresh(model.name);
  const now = model.now;
  return [
    h("div", { class: "title", "data-key": "title" }, h("h1", null, model.name),
      model.aliases.length ? h("small", null, "also " + model.aliases.join(", ")) : null,
      h("span", { class: "push" }), button("test", "Send a test…", { model: model.name }),
      h("a", { href: place("replicas", model.name) }, "Replicas")),
    // The worst of all stands above already.
    list(ofModel(state.tick, model.name).filter((problem) => problem !== state.tick.problems[0]), "What is wrong with " + model.name),
    h("div", { class: "figures large", "data-key": "figures" },
      figure(rate(now.requests_per_second), "req/s"), figure(percent(now.errors_percent), "errors", errorMood(now.errors_percent)),
      [["p50", now.p50_ms], ["p95", now.p95_ms], ["p99", now.p99_ms], ["first byte p95", now.first_byte_p95_ms]].map(([name, ms]) =>
        figure(time(ms), h("abbr", { title: name + " " + windowOf(now) }, name))),
      figure(count(model.in_flight), "in flight")),
    model.canary ? canaryPanel(state, model) : null,
    versions(model),
    h("div", { class: "charts", "data-key": "charts" }, chartsOf(state, model).map(({ key }) =>
      h("section", { class: "card chart", id: "chart-" + key, role: "img", "data-keep": name + key, "data-key": key }))),
    model.mirror ? mirrorPanel(model) : null,
  ].filter(Boolean);
}

// After the page stands: what draws itself.
export function drawCharts(state, name) {
  const model = state.tick.models.find((each) => each.name === name);
  if (!model) return;
  charts.draw(chartsOf(state, model), model.versions.map((version) => version.name), (key) => lines(state, model, key),
    (key) => model.versions.map((version) => version.now[key]));
}
