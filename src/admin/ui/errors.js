// What clients were answered that they did not want, grouped.
import { h } from "./dom.js";
import { ago, clock, count, outcomeMood, spaced } from "./words.js";

const when = (ms, now) => [clock(ms), h("small", null, " " + ago(ms, now) + " ago")];

function table(caption, titles, rows) {
  return h("div", { class: "wide" }, h("table", { class: "even" }, h("caption", { class: "unseen" }, caption),
    h("thead", null, h("tr", null, titles.map((title) => h("th", { scope: "col" }, title)))), h("tbody", null, rows)));
}

const where = (each) => (each.model === "" ? "no model" : each.model + (each.version ? "/" + each.version : ""));

function group(each, now) {
  const fresh = now - each.last < 10000;
  return h("tr", { "data-key": each.model + " " + each.version + " " + each.status + each.what },
    h("th", { scope: "row" }, h("span", { class: "state " + (outcomeMood[each.what] || "warn") },
      h("i", { class: "dot " + (outcomeMood[each.what] || "warn"), "aria-hidden": "true" }), spaced(each.what))),
    h("td", { "data-label": "status" }, String(each.status)),
    h("td", { "data-label": "where" }, where(each)),
    h("td", { "data-label": "count" }, h("b", null, count(each.count))),
    h("td", { "data-label": "first seen" }, when(each.first, now)),
    h("td", { "data-label": "last seen", class: fresh ? "fresh" : null }, when(each.last, now)));
}

export function errors(state) {
  const now = Date.parse(state.tick.at);
  const { errors: outcomes, refusals } = state.tick;
  const columns = (first) => [first, "status", "where", "count", "first seen", "last seen"];
  return [
    h("h1", { "data-key": "title" }, "Errors"),
    h("section", { class: "card", "data-key": "outcomes" }, h("h2", null, "What clients got"),
      outcomes.length ? table("What clients got", columns("outcome"), outcomes.map((each) => group(each, now)))
        : h("p", { class: "empty" }, "Nothing but successes since the start.")),
    h("section", { class: "card", "data-key": "refusals" }, h("h2", null, "Why Evener answered itself"),
      refusals.length ? table("Why Evener answered itself", columns("code"), refusals.map((each) => group(each, now)))
        : h("p", { class: "empty" }, "It did not, since the start.")),
  ];
}
