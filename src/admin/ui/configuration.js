// The file that serves, the one that was rejected, and how it came to this.
import { button } from "./actions.js";
import { h } from "./dom.js";
import { chip } from "./overview.js";
import { ask } from "./stream.js";
import { clock, count, day, plural } from "./words.js";

let known = { of: null, said: null };

const resultMood = { applied: "good", unchanged: "calm", rejected: "bad" };

// Asked for again whenever something was loaded.
function refresh(tick, again) {
  const of = tick.generation + " " + tick.config.last_reload.at;
  if (known.of === of) return;
  known.of = of;
  ask("api/v1/config").then((said) => {
    known.said = said;
    again();
  }, () => { known.of = null; });
}

function rejected(reload, text) {
  const line = (each) => h("li", { class: each.severity === "error" ? "bad" : "warn" },
    h("b", null, each.line === undefined ? "the file" : "line " + each.line), " ", each.message,
    each.help ? h("small", null, " " + each.help) : null);
  return h("section", { class: "card bad", "data-key": "rejected", "aria-label": "rejected file" },
    h("h2", null, "The file on disk is rejected", h("small", null, "read at " + clock(reload.at))),
    h("p", null, "What ran before keeps serving. Once the file is right, it is applied by itself."),
    h("ul", { class: "diagnostics" }, reload.diagnostics.map(line)),
    text ? h("pre", { tabindex: 0, "aria-label": "diagnostics at their lines" }, text) : null);
}

const signMood = { "+": "plus", "-": "minus", "@": "place" };

// What the file on disk says otherwise than the one that runs.
function onDisk(said) {
  const { same, diff } = said.on_disk;
  const line = (text) => h("span", { class: signMood[text[0]] || null }, text + "\n");
  const shown = same ? h("p", null, "The file on disk is what runs.")
    : diff === null ? h("p", null, "It is empty, or cannot be read.")
      : diff === "" ? h("p", null, "It differs in a secret alone, or in how lines end.")
        : h("pre", { class: "diff", tabindex: 0, "aria-label": "difference of running and on disk" },
          diff.trimEnd().split("\n").map(line));
  return h("section", { class: "card", "data-key": "disk", "aria-label": "on disk" },
    h("h2", null, "On disk", same ? chip("good", "the same") : chip("warn", "differs")), shown,
    same || !diff ? null : h("p", { class: "faint" }, "− runs, + is on disk. Secrets are masked, and so not compared."));
}

function numbered(yaml) {
  return h("pre", { class: "numbered", tabindex: 0, "aria-label": "running configuration" },
    yaml.trimEnd().split("\n").map((line) => h("span", null, line + "\n")));
}

function history(said) {
  const row = (each) => h("tr", { "data-key": each.at },
    h("th", { scope: "row" }, clock(each.at), h("small", null, " " + day(each.at))),
    h("td", { "data-label": "result" }, chip(resultMood[each.result], each.result)),
    h("td", { "data-label": "generation" }, String(each.generation)), h("td", { "data-label": "who" }, each.who),
    h("td", { "data-label": "hash" }, h("code", null, each.hash.slice(0, 12))),
    h("td", { "data-label": "what", class: "why" }, each.result === "rejected"
      ? plural(each.diagnostics.length, "diagnostic") : each.changes.join("; ")));
  return h("section", { class: "card", "data-key": "history", "aria-label": "history" }, h("h2", null, "History"),
    h("div", { class: "wide" }, h("table", null, h("caption", { class: "unseen" }, "Attempts to load the file"),
      h("thead", null, h("tr", null, ["when", "result", "generation", "who", "hash", "what changed"].map((title) =>
        h("th", { scope: "col" }, title)))),
      h("tbody", null, said.history.toReversed().map(row)))));
}

export function configuration(state, again) {
  const tick = state.tick;
  refresh(tick, again);
  const said = known.said;
  const reload = tick.config.last_reload;
  const fact = (name, value) => h("div", null, h("dt", null, name), h("dd", null, value));
  return [
    h("div", { class: "title", "data-key": "title" }, h("h1", null, "Configuration"), h("span", { class: "push" }), button("reload", "Reload…")),
    reload.result === "rejected" ? rejected(reload, said?.rejected) : null,
    h("section", { class: "card", "data-key": "facts", "aria-label": "running" },
      h("h2", null, "Running", chip(resultMood[reload.result], "last reload " + reload.result)),
      h("dl", { class: "facts" }, fact("file", tick.config.file), fact("generation", count(tick.generation)),
        fact("hash", h("code", null, tick.config.hash.slice(0, 16))), fact("loaded", clock(tick.config.loaded_at)),
        tick.listeners.flatMap((each) => each.certificates || []).map((each) => fact("certificate " + each.name,
          [(Date.parse(each.not_after) < Date.parse(tick.at) ? "ended on " : "until ") + day(each.not_after) + ", " + clock(each.not_after),
            each.fault ? h("small", { class: "bad" }, " its new files are of no use: " + each.fault) : null])),
        tick.listeners.map((each) => fact(each.name === each.address ? "listener" : "listener " + each.name,
          [(each.scheme === "https" ? "https:" + "//" : "") + each.address, h("small", null, " " + plural(each.connections, "connection"))]))),
      h("details", null, h("summary", null, "With all defaults, secrets masked"), said ? numbered(said.yaml) : "Looking…")),
    said ? onDisk(said) : null,
    said ? history(said) : null,
  ].filter(Boolean);
}
