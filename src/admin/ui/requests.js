// Live requests: the last that were decided, newest first, and why each went where it went.
import { copy } from "./actions.js";
import { at, h } from "./dom.js";
import { chip } from "./overview.js";
import { curl } from "./shell.js";
import { ask, follow } from "./stream.js";
import { clock, count, outcomeMood, percent, plural, spaced, time } from "./words.js";

const SHOWN = 200;
// Where more come in a second than anybody reads, so few are drawn until it is paused.
const FLOOD = { rate: 100, shown: 50 };
// Those that another filter may look for.
const KEPT = 2000;
// However many come, they are drawn so often at most, in milliseconds, and less often where drawing is slow: so that it
// takes a tenth of the browser's time.
const DRAWN_EVERY = [300, 1500];
// The server says something at least every 15 s.
const SILENCE = 25000;
const PATH = "api/v1/decisions";

const wanted = { model: "", version: "", replica: "", outcome: "", slower: "" };
let all = [];
let rows = [];
// What is shown meanwhile: all that were here, and how many came since.
let paused = null;
let missed = 0;
let drawing = null;
let cost = 0;
let fresh = { since: 0, rows: 0 };
let stream = null;

const bad = (each) => !["success", "client_error", "cancelled"].includes(each.outcome) || each.error !== undefined;

const fits = (each) =>
  (!wanted.model || each.model === wanted.model) &&
  (!wanted.version || each.version === wanted.version) &&
  (!wanted.replica || (each.replica || "").includes(wanted.replica)) &&
  (!wanted.outcome || (wanted.outcome === "errors" ? bad(each) : each.outcome === wanted.outcome)) &&
  (!wanted.slower || each.duration_ms >= parseFloat(wanted.slower));

function take(each) {
  all.push(each);
  if (all.length > 2 * KEPT) all = all.slice(-KEPT);
  if (paused !== null) {
    paused.since += 1;
  } else if (fits(each)) {
    rows.push(each);
    fresh.rows += 1;
    if (rows.length > 2 * SHOWN) rows = rows.slice(-SHOWN);
  }
  later();
}

function later() {
  const [soonest, latest] = DRAWN_EVERY;
  drawing ??= setTimeout(() => {
    drawing = null;
    draw(paused !== null);
  }, Math.min(latest, Math.max(soonest, 10 * cost)));
}

const sieve = () => { rows = (paused?.all || all).filter(fits).slice(-SHOWN); };

// Follows while the page is looked at.
export function attend(looking) {
  if (looking === (stream !== null)) return;
  if (!looking) {
    stream.abort();
    stream = null;
    return;
  }
  stream = new AbortController();
  const { signal } = stream;
  follow(PATH, signal, (event, said) => {
    if (event === "missed") missed += said;
    else take(said);
  }, () => {}, SILENCE);
  ask(PATH + "?limit=" + SHOWN).then(({ decisions }) => {
    if (signal.aborted) return;
    const known = new Set(all.map((each) => each.request_id));
    all = [...decisions.filter((each) => !known.has(each.request_id)), ...all];
    if (paused === null) sieve();
    later();
  }, () => {});
}

export function pause() {
  paused = paused === null ? { all: [...all], since: 0 } : null;
  sieve();
  draw();
}

// A key that means something here: one for the pause, and those that lead from row to row, which are one stop of Tab.
export function keyed(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || event.target.closest("input, select, textarea, dialog")) return false;
  if (event.key === "p") {
    pause();
    return true;
  }
  const row = event.target.closest("#request-rows tr");
  const next = { ArrowDown: row?.nextSibling, ArrowUp: row?.previousSibling }[event.key];
  next?.querySelector("button").focus();
  return Boolean(next);
}

const OUTCOMES = ["success", "client_error", "server_error", "overloaded", "timeout", "connect_failure", "reset", "cancelled", "refused"];
const FIELDS = { "request-model": "model", "request-version": "version", "request-replica": "replica",
  "request-outcome": "outcome", "request-slower": "slower" };

// Something was typed into a filter. Returns whether it was one.
export function sifted(target) {
  const field = FIELDS[target.id];
  if (field === undefined) return false;
  wanted[field] = target.value.trim();
  sieve();
  draw();
  return true;
}

function filters(models) {
  const versions = [...new Set(models.flatMap((model) => model.versions.map((version) => version.name)))];
  const options = (names, value) => names.map((name) => h("option", { value: name, selected: name === value }, spaced(name)));
  const plain = (names, value) => names.map((name) => h("option", { value: name, selected: name === value }, name));
  const names = models.map((model) => model.name);
  return h("div", { class: "filters", "data-key": "filters", "data-keep": JSON.stringify([names, versions]) },
    h("label", null, "Model ", h("select", { id: "request-model" }, h("option", { value: "" }, "all"), plain(names, wanted.model))),
    h("label", null, "Version ", h("select", { id: "request-version" }, h("option", { value: "" }, "all"), plain(versions, wanted.version))),
    h("label", null, "Replica ", h("input", { id: "request-replica", type: "search", value: wanted.replica, placeholder: "a part of its URL" })),
    h("label", null, "Outcome ", h("select", { id: "request-outcome" }, h("option", { value: "" }, "all"),
      h("option", { value: "errors", selected: wanted.outcome === "errors" }, "errors only"), options(OUTCOMES, wanted.outcome))),
    h("label", null, "Slower than ", h("input", { id: "request-slower", type: "number", min: 0, value: wanted.slower, placeholder: "ms" })));
}

const TITLES = ["time", "request", "model", "version", "replica", "outcome", "took", "first byte", "attempts"];
const mood = (each) => outcomeMood[each.outcome] || "good";
const status = (each) => each.grpc_status == null ? each.status : "grpc-" + each.grpc_status;
const outcome = (each) => chip(mood(each), status(each) + " " + spaced(each.outcome));

// Rows never change: each is made once.
const made = new WeakMap();

function row(each) {
  if (made.has(each)) return made.get(each);
  const tr = h("tr", null,
    h("th", { scope: "row" }, h("button", { type: "button", class: "small", "data-request": "", tabindex: -1, "aria-haspopup": "dialog" }, clock(each.time))),
    h("td", { "data-label": "request", class: "why" }, each.method + " " + target(each)),
    h("td", { "data-label": "model" }, each.model || "–"), h("td", { "data-label": "version" }, each.version || "–"),
    h("td", { "data-label": "replica" }, each.replica || "–"), h("td", { "data-label": "outcome" }, outcome(each)),
    h("td", { "data-label": "took" }, time(each.duration_ms)), h("td", { "data-label": "first byte" }, time(each.first_byte_ms)),
    h("td", { "data-label": "attempts" }, count(each.attempts)));
  tr.addEventListener("click", () => openRequest(each));
  made.set(each, tr);
  return tr;
}

export function requests(state) {
  return [
    h("div", { class: "title", "data-key": "title" }, h("h1", null, "Requests"), h("span", { class: "faint", id: "request-count" , "data-keep": "" }),
      h("span", { class: "push" }), h("button", { type: "button", id: "request-pause", "data-pause": "", "data-keep": "", "aria-keyshortcuts": "p" })),
    filters(state.tick.models),
    h("section", { class: "card wide", "data-key": "table", "data-keep": "", "aria-label": "requests" }, h("table", { class: "requests" },
      h("caption", { class: "unseen" }, "The last requests, newest first"),
      h("colgroup", null, TITLES.map((title) => h("col", { class: "of-" + title.replace(" ", "-") }))),
      h("thead", null, h("tr", null, TITLES.map((title) => h("th", { scope: "col" }, title)))), h("tbody", { id: "request-rows" }))),
  ];
}

// Draws for the first time where `requests` has just made room.
export function begin() {
  if (at("request-rows")?.firstChild === null) draw();
}

// Draws what `requests` made room for. A row that has the focus, or is being told of, holds all where they are.
function draw(rowsStay = false) {
  const body = at("request-rows");
  if (body === null || document.hidden) return;
  const button = at("request-pause");
  button.textContent = paused === null ? "Pause (p)" : "Resume (p)";
  button.setAttribute("aria-pressed", String(paused !== null));
  const held = paused === null && (body.contains(document.activeElement) || at("act").open);
  const began = performance.now();
  const floods = paused === null && fresh.rows * 1000 > FLOOD.rate * (began - fresh.since);
  const shown = rows.slice(floods ? -FLOOD.shown : -SHOWN).reverse();
  const said = paused !== null ? "paused, " + plural(paused.since, "request") + " since" : held ? "held while a row is looked at"
    : floods ? "live, the newest " + FLOOD.shown + "; pause to see " + SHOWN : "live";
  at("request-count").textContent = said + (missed ? ", " + count(missed) + " left out" : "");
  if (held || rowsStay) return;
  fresh = { since: began, rows: 0 };
  const none = () => h("tr", null, h("td", { class: "empty", colspan: TITLES.length }, "None of the last requests is like that."));
  body.querySelector("[tabindex='0']")?.setAttribute("tabindex", -1);
  body.replaceChildren(...(shown.length ? shown.map(row) : [none()]));
  body.querySelector("button")?.setAttribute("tabindex", 0);
  // Laid out now, which is most of the work.
  body.getBoundingClientRect();
  cost = performance.now() - began;
}

// Why that version serves.
function reason(each) {
  const { pinned, owner } = each.assignment;
  if (each.fail_open) return "nothing was usable, and it serves all the same";
  if (pinned) return "the request asked for it";
  return each.version === owner ? "the point is in its part" : owner + " owns the point, and had no usable replica";
}

// All points from 0 to 1: the part that holds this one, and where it lies.
function axis({ point, segment: [from, to], owner }) {
  const place = (share) => (100 * share).toFixed(3) + "%";
  return h("div", { class: "axis", role: "img", "aria-label": "the point lies at " + percent(100 * point) + " of all points" },
    h("span", { class: "part", title: owner, style: { left: place(from), width: place(to - from) } }),
    h("span", { class: "point", style: { left: place(point) } }));
}

function candidates(attempt, balance) {
  if (!attempt.candidates?.length) return null;
  const line = (each) => {
    const picked = each.url === attempt.replica;
    return h("tr", { class: picked ? "picked" : null }, h("th", { scope: "row" }, picked ? "→ " : "", each.url, picked ? h("small", null, " picked") : null),
      h("td", { "data-label": "state" }, each.state, each.usable ? null : h("small", null, " not usable")),
      h("td", { "data-label": "in flight" }, count(each.in_flight) + (each.slots === null ? "" : " of " + each.slots)),
      h("td", { "data-label": "slowness" }, each.slowness.toFixed(2) + "×"),
      h("td", { "data-label": "score" }, each.score === null ? "–" : each.score.toFixed(4)));
  };
  return h("div", { class: "wide" }, h("table", null, h("caption", null, "Candidates, by " + balance + ": the least score wins"),
    h("thead", null, h("tr", null, ["replica", "state", "in flight", "slowness", "score"].map((title) => h("th", { scope: "col" }, title)))),
    h("tbody", null, attempt.candidates.map(line))));
}

function attempt(each, i, whole) {
  const part = (ms) => Math.min(100, (100 * ms) / Math.max(whole.duration_ms, 0.001)).toFixed(2) + "%";
  return h("li", null, h("h3", null, "Attempt " + (i + 1)),
    h("p", null, h("b", null, each.version), " " + each.replica + " ", outcome(each), " " + time(each.duration_ms) + ", begun after " + time(each.began_ms)),
    h("div", { class: "span", "aria-hidden": "true" }, h("span", { class: outcomeMood[each.outcome] || "good", style: { left: part(each.began_ms), width: part(each.duration_ms) } })),
    candidates(each, whole.assignment?.balance));
}

function decided(each) {
  const { route, key, point, hash, segment: [from, to], owner, shares, generation } = each.assignment;
  const step = (title, ...said) => h("li", null, h("h3", null, title), said);
  return [
    step("Route", h("p", null, route ? "line " + route.line + " of the file, which takes " + route.takes : "none in the file: every path is served")),
    step("Model", h("p", null, h("b", null, each.model), ", by generation " + generation)),
    step("Point", h("p", null, point.toFixed(6), h("small", null, " " + hash), key ? ", by the key " + key : ", the next of the sequence: it brought no key"), axis(each.assignment),
      h("p", { class: "faint" }, owner + " owns " + from.toFixed(6) + " to " + to.toFixed(6) + "; shares: " +
        shares.map((share) => share.version + " " + percent(share.share)).join(", "))),
    step("Version", h("p", null, h("b", null, each.version || "none"), each.version ? ": " + reason(each) : "")),
  ];
}

// Secrets of the query are masked where it is logged.
const target = (each) => each.path + (each.query == null ? "" : "?" + each.query);

// As a client would ask it again; its body and headers are not kept.
function command(each, listeners) {
  const listener = listeners.find((known) => known.name === each.listener) || { address: "HOST:PORT", scheme: "http" };
  const body = ["POST", "PUT", "PATCH"].includes(each.method) ? "BODY" : null;
  const url = listener.scheme + ":" + "//" + listener.address.replace(/^(0\.0\.0\.0|\[::\])(?=:)/, "127.0.0.1") + target(each).replace(/=\*\*\*(?=[&;]|$)/g, "=SECRET");
  return curl(each.method, url, body);
}

let listeners = [];
export const know = (known) => { listeners = known; };

function openRequest(each) {
  const fact = (name, value) => h("div", null, h("dt", null, name), h("dd", null, value));
  const code = h("code", { tabindex: 0, "aria-label": "as a command" }, command(each, listeners));
  const copier = h("button", { type: "button", class: "quiet" }, "Copy");
  const close = h("button", { type: "button", class: "main" }, "Close");
  const dialog = at("act");
  copier.addEventListener("click", () => copy(copier, code));
  close.addEventListener("click", () => dialog.close());
  dialog.replaceChildren(h("div", { class: "explained" },
    h("h2", { id: "act-title" }, each.method + " " + target(each)),
    h("dl", { class: "facts" }, fact("time", clock(each.time) + (each.time.match(/\.\d{3}/)?.[0] || "")), fact("client", each.client), fact("listener", each.listener),
      fact("protocol", each.protocol), fact("bytes", count(each.bytes_in) + " in, " + count(each.bytes_out) + " out"), fact("request id", each.request_id)),
    h("ol", { class: "tree", "aria-label": "how it was decided" },
      each.assignment ? decided(each) : h("li", null, h("h3", null, "Model"), h("p", null, each.model || "none"),
        h("p", { class: "faint" }, "Nobody wanted to know the reasons when it came.")),
      (each.attempt_log || []).map((one, i) => attempt(one, i, each)),
      h("li", null, h("h3", null, "Outcome"), h("p", null, outcome(each), each.error ? " " + each.error : "", " after " + time(each.duration_ms),
        each.first_byte_ms === null ? "" : ", first byte after " + time(each.first_byte_ms)))),
    h("span", { class: "label" }, "Ask it again (its body is not kept)"), h("div", { class: "command" }, code, copier),
    h("div", { class: "buttons" }, close)));
  dialog.showModal();
  close.focus();
  dialog.scrollTop = 0;
}
