// All models: a card each, worst first.
import { hue, spark } from "./charts.js";
import { h } from "./dom.js";
import { list, moodOf, ofModel } from "./problems.js";
import { canaryMood, count, lasting, percent, place, rate, spaced, stateMood, time } from "./words.js";

export const figure = (value, label, kind) =>
  h("div", { class: "figure" + (kind ? " " + kind : "") }, h("b", null, value), h("span", null, label));

export const chip = (mood, text) => h("span", { class: "chip " + mood }, text);

export const errorMood = (share) => (share >= 5 ? "bad" : share >= 1 ? "warn" : null);

// Shares as they are set, one part a version; below them a line of what is observed.
export function shares(model) {
  const parts = (of) => model.versions.map((version, i) => (of(version) > 0
    ? h("span", { class: "part", style: { "flex-grow": of(version), "background-color": hue(i) } }) : null));
  const told = model.versions.map((version) => version.name + " " + percent(version.share)).join(", ");
  return h("div", { class: "shares" },
    h("div", { class: "bar", role: "img", "aria-label": "shares: " + told }, parts((v) => v.share)),
    h("div", { class: "bar thin", "aria-hidden": "true" }, parts((v) => v.observed_share)),
    h("ul", { class: "legend" }, model.versions.map((version, i) =>
      h("li", null, h("i", { style: { "background-color": hue(i) }, "aria-hidden": "true" }), h("b", null, version.name),
        " " + percent(version.share), h("small", null, " got " + percent(version.observed_share))))));
}

// A dot for each replica, up to a number that can still be seen; then how many there are in each state.
const DOTS = 48;
const ORDER = ["unhealthy", "ejected", "probation", "draining", "starting", "healthy"];

export function standings(model) {
  const sum = {};
  for (const version of model.versions) {
    for (const [state, n] of Object.entries(version.replicas)) sum[state] = (sum[state] || 0) + n;
  }
  const states = ORDER.filter((state) => sum[state]);
  const told = states.map((state) => count(sum[state]) + " " + state).join(", ") || "no replicas";
  const all = states.reduce((n, state) => n + sum[state], 0);
  const dots = all > DOTS ? [] : states.flatMap((state) =>
    Array.from({ length: sum[state] }, () => h("i", { class: "dot " + stateMood[state] })));
  return h("p", { class: "standings" }, dots.length ? h("span", { class: "dots", "aria-hidden": "true" }, dots) : null,
    h("a", { href: place("replicas", model.name) }, told));
}

const lineOf = (state, model, key) => state.lines.models.find((each) => each.name === model.name)?.line[key] || [];

// With the present second. Percentiles have none: those of now are of a longer time than a point.
const lineToNow = (state, model, key) => [...lineOf(state, model, key), model.now[key]];

// Of which time percentiles are.
export const windowOf = (now) => "of the requests that ended in the last " + lasting(now.window_seconds);

function card(state, model) {
  const now = model.now;
  const mine = ofModel(state.tick, model.name);
  const mood = mine.length && mine[0].severity !== "notice" ? moodOf(mine[0]) : "good";
  const canary = model.canary;
  const errors = lineToNow(state, model, "errors_percent");
  return h("section", { class: "card " + mood, "data-key": model.name, "aria-label": "model " + model.name },
    h("h2", null, h("i", { class: "dot " + mood, "aria-hidden": "true" }), h("a", { href: place("model", model.name) }, model.name),
      canary ? chip(canaryMood[canary.state], "canary " + spaced(canary.state)) : null,
      model.aliases.length ? h("small", null, "also " + model.aliases.join(", ")) : null),
    h("div", { class: "figures" },
      figure(rate(now.requests_per_second), "req/s"),
      figure(percent(now.errors_percent), "errors", errorMood(now.errors_percent)),
      now.tokens_per_second ? figure(rate(now.tokens_per_second), "tokens/s") : null,
      [["p50", now.p50_ms], ["p95", now.p95_ms], ["p99", now.p99_ms]].map(([name, ms]) =>
        figure(time(ms), h("abbr", { title: name + " " + windowOf(now) }, name))),
      figure(time(now.first_byte_p95_ms), h("abbr", { title: "95th percentile of the time to the first byte, " + windowOf(now) }, "first byte"))),
    h("div", { class: "sparks" },
      h("div", null, spark(lineToNow(state, model, "requests_per_second"), "traffic"), h("span", null, "requests, 15 min")),
      h("div", null, spark(lineOf(state, model, "p95_ms"), "speed"), h("span", null, "p95")),
      h("div", null, spark(errors, "errors", 2), h("span", null, "errors"))),
    shares(model),
    canary ? h("p", { class: "faint" }, canary.sentence) : null,
    standings(model));
}

export function overview(state) {
  const tick = state.tick;
  const found = tick.problems;
  const rank = (model) => {
    const mine = found.findIndex((problem) => problem.model === model.name);
    return mine < 0 ? found.length : mine;
  };
  const models = tick.models.map((model, i) => [rank(model), i, model]).sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  return [
    h("h1", { class: "unseen" }, "Overview"),
    list(found.slice(1), "What else is wrong"),
    tick.models.length ? h("div", { class: "cards" }, models.map(([, , model]) => card(state, model)))
      : h("p", { class: "empty" }, "The file has no models."),
  ];
}
