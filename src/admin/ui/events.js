// One timeline: reloads, shares, ejections, verdicts, operators, with who and why.
import { note } from "./actions.js";
import { h } from "./dom.js";
import { clock, day, plural, spaced } from "./words.js";

let wanted = { kind: "", text: "" };

const levelMood = { warning: "warn", error: "bad" };

const matching = (events) => events.filter((event) =>
  (!wanted.kind || event.kind === wanted.kind) &&
  (!wanted.text || [event.message, event.who, event.reason].join(" ").toLowerCase().includes(wanted.text.toLowerCase())));

const plain = (text) => text.replace(/[\\`*_[\]<>|#]/g, "\\$&").replace(/\s+/g, " ");

export function markdown(events) {
  const lines = ["# Timeline of Evener", ""];
  let before = null;
  for (const event of events) {
    if (day(event.at) !== before) {
      before = day(event.at);
      lines.push("## " + before, "");
    }
    const why = event.reason ? ", because: " + plain(event.reason) : "";
    lines.push("- **" + event.at + "** " + spaced(event.kind) + ": " + plain(event.message) + " (" + plain(event.who) + why + ")");
  }
  return lines.join("\n") + "\n";
}

function item(event) {
  return h("li", { "data-key": String(event.id), class: levelMood[event.level] || null },
    h("time", { datetime: event.at }, clock(event.at)),
    h("div", null, h("p", null, event.message),
      h("p", { class: "faint" }, spaced(event.kind), " · by " + event.who, event.reason ? " · “" + event.reason + "”" : null)));
}

function controls(kinds) {
  return h("div", { class: "filters", "data-key": "filters", "data-keep": kinds.join() },
    h("label", null, "Kind ", h("select", { id: "event-kind" }, h("option", { value: "" }, "all"),
      kinds.map((kind) => h("option", { value: kind, selected: kind === wanted.kind }, spaced(kind))))),
    h("label", null, "With ", h("input", { id: "event-text", type: "search", value: wanted.text, placeholder: "text" })),
    h("span", { class: "push" }), h("button", { type: "button", "data-export": "" }, "Export as Markdown"));
}

const SHOWN = 300;

export function events(state) {
  const kinds = [...new Set(state.events.map((event) => event.kind))].sort();
  const found = matching(state.events).toReversed();
  const days = new Map();
  for (const event of found.slice(0, SHOWN)) {
    const of = day(event.at);
    if (!days.has(of)) days.set(of, []);
    days.get(of).push(event);
  }
  return [
    h("h1", { "data-key": "title" }, "Events"), controls(kinds),
    ...[...days].map(([name, all]) => h("section", { class: "card", "data-key": name, "aria-label": name },
      h("h2", null, name), h("ol", { class: "timeline" }, all.map(item)))),
    found.length === 0 ? h("p", { class: "empty" }, state.events.length ? "None of the events is like that." : "Nothing happened yet.") : null,
    found.length > SHOWN ? h("p", { class: "faint" }, plural(found.length - SHOWN, "older event") + " more: export has all.") : null,
  ].filter(Boolean);
}

export function typed(target) {
  if (target.id === "event-kind") wanted.kind = target.value;
  else if (target.id === "event-text") wanted.text = target.value;
  else return false;
  return true;
}

export function exported(state) {
  const file = new Blob([markdown(matching(state.events))], { type: "text/markdown" });
  const link = h("a", { href: URL.createObjectURL(file), download: "evener-events.md" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  note("Exported " + plural(matching(state.events).length, "event") + ".");
}
