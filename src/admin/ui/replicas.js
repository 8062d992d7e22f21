// The replicas of one model: why each stands as it does.
import { button } from "./actions.js";
import { hue } from "./charts.js";
import { h } from "./dom.js";
import { chip } from "./overview.js";
import { ago, clock, count, left, outcomes, place, spaced, stateMood } from "./words.js";

const ROWS = 100;
let shown = { model: null, rows: ROWS, state: "" };

// The endings that each row showed a second ago: most rows show the same ones again.
let drawn = new Map();

function dots(key, letters, before) {
  drawn.set(key, letters);
  if (letters !== "" && before.get(key) === letters) return h("span", { "data-keep": letters });
  if (letters.length === 0) return h("span", { class: "faint" }, "none yet");
  const sums = {};
  for (const letter of letters) sums[outcomes[letter][1]] = (sums[outcomes[letter][1]] || 0) + 1;
  const told = Object.entries(sums).map(([name, n]) => n + " " + name).join(", ");
  return h("span", { class: "outcomes", role: "img", "aria-label": "last " + letters.length + ": " + told, title: told, "data-keep": letters },
    [...letters].map((letter) => h("i", { class: outcomes[letter][0] })));
}

// Why it stands so: with the countdown of an ejection, or what keeps it from happening.
function reason(replica) {
  const ejection = replica.ejection;
  const why = replica.reason || "";
  if (ejection?.refused) return [chip("bad", "not ejected"), " " + ejection.refused];
  if (replica.state !== "ejected" || !ejection) return why;
  const rest = ejection.seconds_left;
  const until = rest === null ? "until it is restored" : rest > 0 ? left(rest) : "waits for its health check";
  return [chip("bad", until), " " + why];
}

function evidence(replica) {
  const seen = replica.ejection?.evidence;
  if (!seen || replica.state === "healthy") return null;
  return h("small", null, seen.failures + " of " + seen.requests + " failed; of its peers " +
    seen.peers_failures + " of " + seen.peers_requests);
}

function weight(replica) {
  if (replica.ramp === undefined) return String(replica.weight);
  return [String(replica.weight), h("small", null, " × " + replica.ramp + " starting slowly")];
}

function probe(replica, now) {
  if (!replica.probe) return h("span", { class: "faint" }, "none");
  const when = ago(replica.probe.at, now) + " ago";
  return replica.probe.failed === null ? [h("span", { class: "good" }, "passed"), h("small", null, " " + when)]
    : [h("span", { class: "bad" }, replica.probe.failed), h("small", null, " " + when)];
}

function row(model, version, i, replica, now, before) {
  const data = { model, version, replica: replica.url };
  const out = ["ejected", "probation"].includes(replica.state);
  return h("tr", { "data-key": version + " " + replica.url },
    h("th", { scope: "row" }, h("i", { class: "swatch", style: { "background-color": hue(i) }, "aria-hidden": "true" }),
      h("span", null, replica.url, h("small", null, version))),
    h("td", { "data-label": "state" }, h("span", { class: "state " + stateMood[replica.state], title: "since " + clock(replica.since) },
      h("i", { class: "dot " + stateMood[replica.state], "aria-hidden": "true" }), replica.state),
    h("small", null, ago(replica.since, now))),
    h("td", { "data-label": "why", class: "why" }, reason(replica), evidence(replica)),
    h("td", { "data-label": "in flight" }, h("b", null, count(replica.in_flight)),
      replica.slots === undefined ? null : h("small", null, " of " + replica.slots)),
    h("td", { "data-label": "weight" }, weight(replica)),
    h("td", { "data-label": "slowness", class: replica.slowness >= 2 ? "warn" : null }, replica.slowness.toFixed(2) + "×"),
    h("td", { "data-label": "last 20" }, dots(version + " " + replica.url, replica.last_outcomes, before)),
    h("td", { "data-label": "failed" }, count(replica.failures_total), h("small", null, " of " + count(replica.requests_total))),
    h("td", { "data-label": "health check" }, probe(replica, now)),
    h("td", { class: "acts" },
      replica.state === "draining" ? button("undrain", "Undrain…", data, "small") : button("drain", "Drain…", data, "small"),
      out ? button("restore", "Restore…", data, "small") : button("eject", "Eject…", data, "small"),
      button("probe", "Probe…", data, "small"), button("test", "Test…", data, "small")));
}

function tabs(state, name) {
  if (state.tick.models.length < 2) return null;
  return h("nav", { class: "tabs", "aria-label": "Models", "data-key": "tabs" }, state.tick.models.map((model) =>
    h("a", { href: place("replicas", model.name), "aria-current": model.name === name ? "page" : null }, model.name)));
}

const TITLES = ["replica", "state", "why", "in flight", "weight", "slowness", "last 20", "failed", "health check"];
const STATES = ["unhealthy", "ejected", "probation", "draining", "starting", "healthy"];

export function replicas(state, name) {
  const title = h("div", { class: "title", "data-key": "title" }, h("h1", null, "Replicas of " + name),
    h("a", { class: "push", href: place("model", name) }, "Model"));
  const model = state.tick.models.find((each) => each.name === name);
  if (!model) return [title, tabs(state, name), h("p", { class: "empty" }, "There is no model of this name now.")];
  if (state.closeup?.name !== name) return [title, tabs(state, name), h("p", { class: "empty" }, "Looking…")];
  if (shown.model !== name) shown = { model: name, rows: ROWS, state: "" };
  const now = Date.parse(state.tick.at);
  const hueOf = (version) => model.versions.findIndex((each) => each.name === version);
  const all = state.closeup.versions.flatMap((version) =>
    version.replicas.map((replica) => ({ version: version.name, replica })));
  const sums = {};
  for (const { replica } of all) sums[replica.state] = (sums[replica.state] || 0) + 1;
  const wanted = all.filter(({ replica }) => !shown.state || replica.state === shown.state);
  // With many, those that need a look come first; few stay in the file's order.
  if (wanted.length > ROWS) wanted.sort((a, b) => STATES.indexOf(a.replica.state) - STATES.indexOf(b.replica.state));
  const rows = wanted.slice(0, shown.rows);
  const before = document.querySelector(".replicas") ? drawn : new Map();
  drawn = new Map();
  const filter = (value, text) => h("button", { type: "button", class: "chip calm", "data-show": value,
    "aria-pressed": String(shown.state === value) }, text);
  return [
    title, tabs(state, name),
    h("div", { class: "filters", role: "group", "aria-label": "Show", "data-key": "filters" },
      filter("", "all " + count(all.length)),
      STATES.filter((each) => sums[each]).map((each) => filter(each, spaced(each) + " " + count(sums[each])))),
    h("section", { class: "card wide", "data-key": "table", "aria-label": "replicas" }, h("table", { class: "replicas" },
      h("caption", { class: "unseen" }, "Replicas of " + name),
      h("thead", null, h("tr", null, TITLES.map((each) => h("th", { scope: "col" }, each)),
        h("th", { scope: "col" }, h("span", { class: "unseen" }, "orders")))),
      h("tbody", null, rows.map(({ version, replica }) => row(name, version, hueOf(version), replica, now, before))))),
    wanted.length > rows.length ? h("p", null, h("button", { type: "button", "data-more": "" },
      "Show " + Math.min(ROWS, wanted.length - rows.length) + " more of " + count(wanted.length))) : null,
    state.closeup.left_out ? h("p", { class: "faint" }, count(state.closeup.left_out) + " healthy ones are left out.") : null,
  ].filter(Boolean);
}

// A press on one of the page's own buttons. Returns whether it was one.
export function pressed(target) {
  if (target.dataset.more !== undefined) shown.rows += ROWS;
  else if (target.dataset.show !== undefined) shown.state = target.dataset.show;
  else return false;
  return true;
}
