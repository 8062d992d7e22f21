// The page: follows the live stream, and shows what the address asks for.
import { open } from "./actions.js";
import { at, become, h } from "./dom.js";
import { configuration } from "./configuration.js";
import { errors } from "./errors.js";
import { events, exported, typed } from "./events.js";
import { drawCharts, modelPage } from "./model.js";
import { overview } from "./overview.js";
import { moodOf, parts, worded } from "./problems.js";
import { pressed, replicas } from "./replicas.js";
import { attend as attendRequests, begin as beginRequests, keyed, know, pause, requests, sifted } from "./requests.js";
import { Refused, follow, hasToken, keepToken } from "./stream.js";
import { openTest } from "./test.js";
import { clock, count, lasting, percent, place, plural, rate } from "./words.js";

const KEPT_EVENTS = 1000;
const POINTS = 180;

const state = {
  tick: null, lines: { step_seconds: 5, times: [], models: [] }, closeup: null, events: [],
  lost: null, ticked: null,
};

// The address: which page, and of which model.
function where() {
  const [page, ...rest] = location.hash.replace(/^#\/?/, "").split("/").map((part) => {
    try { return decodeURIComponent(part); } catch { return part; }
  });
  return { page: page || "overview", model: rest.join("/") || null };
}

// The replicas that are looked at: without a name, those of the first model where something is wrong.
function lookedAt() {
  const { page, model } = where();
  if (page !== "model" && page !== "replicas") return null;
  if (model !== null || state.tick === null) return model;
  const wrong = state.tick.problems.find((problem) => problem.model !== null);
  return wrong?.model ?? state.tick.models[0]?.name ?? null;
}

const PAGES = [["overview", "Overview"], ["replicas", "Replicas"], ["requests", "Requests"], ["errors", "Errors"],
  ["configuration", "Configuration"], ["events", "Events"]];

function content() {
  const { page } = where();
  const model = lookedAt();
  if (page === "overview") return overview(state);
  if (page === "model" && model !== null) return modelPage(state, model);
  if (page === "replicas" && model !== null) return replicas(state, model);
  if (page === "requests") return requests(state);
  if (page === "errors") return errors(state);
  if (page === "configuration") return configuration(state, show);
  if (page === "events") return events(state);
  return [h("p", { class: "empty" }, "There is no such page. "), h("a", { href: "#/" }, "Overview")];
}

// Mood, sentence, and what follows it.
function sentence() {
  if (state.tick === null) return state.lost ? ["bad", "No connection to Evener.", ""] : ["calm", "Looking…", ""];
  const [first, ...others] = state.tick.problems;
  if (first === undefined) return ["good", "All good.", ""];
  const [text, rest] = parts(first);
  const more = others.length ? " (and " + count(others.length) + " more)" : "";
  // It stands by itself below the sentence.
  const then = rest.replace(/^[: ]+/, "");
  return [moodOf(first), text, then + (where().page === "overview" ? "" : more)];
}

function say() {
  const [mood, text, rest] = sentence();
  const said = at("sentence");
  // Only what is new is read out.
  const all = (rest ? text + " " + rest : text).replaceAll("`", "");
  if (said.textContent !== all) said.replaceChildren(...worded(text), ...(rest ? [" ", h("small", null, worded(rest))] : []));
  said.className = "sentence " + mood + (where().page === "overview" ? "" : " small");
  document.title = (mood === "good" || mood === "calm" ? "" : "! ") + "Evener" + (text === "All good." ? "" : ": " + text);
}

function pulse() {
  const lost = at("lost");
  document.body.classList.toggle("stale", state.lost !== null);
  if (state.lost === null) {
    lost.hidden = true;
    lost.textContent = "";
    at("pulse").textContent = "live";
  } else {
    const text = state.ticked === null ? "No connection to Evener. Trying again…"
      : "Connection lost. What is below is of " + clock(state.ticked) + ". Trying again…";
    if (lost.textContent !== text) lost.textContent = text;
    lost.hidden = false;
    at("pulse").textContent = "lost";
  }
  at("pulse").className = "pulse " + (state.lost === null ? "good" : "bad");
}

function show() {
  frame();
  if (state.tick === null || document.hidden) return;
  become(at("main"), content().filter(Boolean));
  if (where().page === "model") drawCharts(state, lookedAt());
  if (where().page === "requests") beginRequests();
}

// What is around the content.
function frame() {
  say();
  pulse();
  const { page } = where();
  become(at("pages"), PAGES.map(([name, title]) => h("a", {
    href: name === "overview" ? "#/" : place(name),
    "aria-current": name === page || (name === "overview" && page === "model") ? "page" : null,
  }, title)));
  if (state.tick === null) return;
  const tick = state.tick;
  const sum = (of) => tick.models.reduce((all, model) => all + (of(model) || 0), 0);
  const requests = sum((model) => model.now.requests_per_second);
  const failing = sum((model) => model.now.requests_per_second * model.now.errors_percent / 100);
  become(at("foot"), [
    h("span", null, rate(requests) + " req/s"), h("span", null, percent(requests ? 100 * failing / requests : null) + " errors"),
    h("span", null, plural(tick.models.length, "model")), h("span", null, "generation " + tick.generation),
    h("span", null, "up " + lasting(tick.uptime_seconds)), h("span", null, "Evener " + tick.version),
  ]);
}

// Adds the points that a second brought to the lines, as the server does.
function grow() {
  const { times, models } = state.lines;
  const now = state.tick.point_at;
  if (now === undefined || (times.length && now <= times.at(-1))) return;
  const add = (line, figures) => {
    for (const [key, values] of Object.entries(line)) {
      values.push(figures?.[key] ?? null);
      if (values.length > POINTS) values.shift();
    }
  };
  times.push(now);
  if (times.length > POINTS) times.shift();
  for (const line of models) {
    const model = state.tick.models.find((each) => each.name === line.name);
    add(line.line, model?.point);
    for (const each of line.versions || []) {
      add(each.line, model?.versions.find((version) => version.name === each.name)?.point);
    }
  }
}

const told = {
  history(lines) { state.lines = lines; },
  tick(tick) {
    state.tick = tick;
    know(tick.listeners);
    state.ticked = new Date();
    state.lost = null;
    grow();
    follows();
    // The replicas, and how latencies are spread, come right behind.
    const model = ["model", "replicas"].includes(where().page) ? lookedAt() : null;
    if (tick.models.some((each) => each.name === model)) frame();
    else show();
  },
  model(closeup) {
    state.closeup = closeup;
    if (["model", "replicas"].includes(where().page)) show();
  },
  events(list) {
    // A new stream begins with all that is kept.
    const newest = state.events.at(-1);
    const again = newest && list[0].id <= newest.id;
    state.events = (again ? list : [...state.events, ...list]).slice(-KEPT_EVENTS);
    if (where().page === "events") show();
  },
};

let stream = null;

// One stream: of the model that is looked at. Opened anew when that is another one.
function follows() {
  attendRequests(where().page === "requests");
  const model = lookedAt();
  if (stream !== null && stream.model === model) return;
  stream?.end.abort();
  stream = { model, end: new AbortController() };
  state.closeup = null;
  const path = "api/v1/live" + (model === null ? "" : "?model=" + encodeURIComponent(model));
  follow(path, stream.end.signal, (event, data) => told[event]?.(data), async (error) => {
    if (error instanceof Refused && error.status === 401) return askToken();
    state.lost = error;
    show();
  });
}

// Browsers open some six connections to one server: tabs that nobody looks at must not hold them all.
const PATIENCE = 10000;
let leaving = null;

function attend() {
  clearTimeout(leaving);
  if (document.hidden) leaving = setTimeout(rest, PATIENCE);
  else follows();
  show();
}

function rest() {
  attendRequests(false);
  stream?.end.abort();
  stream = null;
}

// Resolves once a token was given. Who closed the dialog without one opens it by the button in its stead.
function askToken() {
  at("door-why").textContent = hasToken() ? "That is not its token." : "It is kept in this tab only, and sent in a header.";
  const again = h("button", { type: "button" }, "Give the token");
  again.addEventListener("click", enter);
  at("lost").replaceChildren("This Evener asks for its token.", again);
  enter();
  return new Promise((done) => { entered = done; });
}

let entered = null;

function enter() {
  at("lost").hidden = true;
  at("door").showModal();
  at("token").focus();
}

at("door").addEventListener("close", () => {
  const given = at("token").value;
  at("token").value = "";
  at("lost").hidden = given !== "";
  if (given === "") return;
  keepToken(given);
  entered();
});

const THEMES = ["auto", "light", "dark"];

function setTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  localStorage.setItem("evener-theme", theme);
  at("theme").textContent = theme === "auto" ? "Theme: auto" : "Theme: " + theme;
  at("theme").dataset.theme = theme;
}

setTheme(THEMES.includes(localStorage.getItem("evener-theme")) ? localStorage.getItem("evener-theme") : "auto");
at("theme").addEventListener("click", () => {
  setTheme(THEMES[(THEMES.indexOf(at("theme").dataset.theme) + 1) % THEMES.length]);
  show();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  at("main").focus();
});
at("main").addEventListener("click", (event) => {
  const target = event.target.closest("button");
  if (target === null) return;
  if (target.dataset.act === "test") openTest(target.dataset);
  else if (target.dataset.act !== undefined) open(target);
  else if (target.dataset.pause !== undefined) pause();
  else if (target.dataset.export !== undefined) exported(state);
  else if (pressed(target)) show();
});
at("main").addEventListener("input", (event) => { if (!sifted(event.target) && typed(event.target)) show(); });
addEventListener("keydown", (event) => {
  if (where().page === "requests" && keyed(event)) event.preventDefault();
});
addEventListener("hashchange", () => {
  follows();
  show();
  scrollTo(0, 0);
});
document.addEventListener("visibilitychange", attend);
follows();
show();
