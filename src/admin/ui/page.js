"use strict";
// Shows /api/v1/status once a second. What comes from the server becomes text, never markup.

const at = (id) => document.getElementById(id);
let token = sessionStorage.getItem("evener-token");
let seen = null;

function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined && text !== null) made.textContent = String(text);
  if (kind) made.className = kind;
  return made;
}

const plural = (n, word) => n + " " + word + (n === 1 ? "" : "s");
const percent = (share) => (share === null ? "–" : Number(share.toFixed(2)) + "%");
const count = (n) => n.toLocaleString("en");
const mood = {
  healthy: "good", starting: "warn", draining: "warn", probation: "warn", ejected: "bad", unhealthy: "bad",
};

const canaryMood = {
  passing: "good", promoted: "good", failing: "bad", rolled_back: "bad", paused: "warn", undecided: "warn",
};

// What is wrong, worst first; empty when nothing is.
function complaints(status) {
  const found = [];
  for (const model of status.models) {
    const canary = model.canary;
    if (canary && ["failing", "undecided"].includes(canary.state)) {
      found.push(["warn", "The canary " + canary.candidate + " of " + model.name + " is " + canary.state + "."]);
    }
    for (const version of model.versions) {
      const of = (state) => version.replicas.filter((replica) => replica.state === state).length;
      const name = model.name + "/" + version.name;
      const out = of("unhealthy");
      const ejected = of("ejected");
      const refused = version.replicas.filter((replica) => replica.ejection && replica.ejection.refused).length;
      const all = version.replicas.length;
      const serving = of("healthy") + of("starting") + of("probation");
      if (version.share > 0 && serving === 0 && all > 0) {
        found.push(["bad", name + " has no usable replica."]);
      } else {
        if (ejected > 0) {
          found.push(["warn", ejected + " of " + plural(all, "replica") + " of " + name +
            (ejected === 1 ? " is" : " are") + " ejected."]);
        }
        if (refused > 0) {
          found.push(["warn", plural(refused, "failing replica") + " of " + name +
            (refused === 1 ? " stays" : " stay") + ", because too many are out."]);
        }
        if (out > 0) found.push(["warn", out + " of " + plural(all, "replica") + " of " + name + " fail" +
          (out === 1 ? "s its" : " their") + " health check."]);
      }
    }
  }
  if (status.config.last_reload.result === "rejected") {
    const n = status.config.last_reload.diagnostics.filter((d) => d.severity === "error").length;
    found.push(["warn", "The file on disk has " + plural(n, "error") +
      "; generation " + status.generation + " keeps serving."]);
  }
  if (!status.ready) found.push(["warn", "Shutting down."]);
  return found.sort((a, b) => (a[0] === "bad" ? 0 : 1) - (b[0] === "bad" ? 0 : 1));
}

function say(kind, text) {
  const sentence = at("sentence");
  if (sentence.textContent !== text) sentence.textContent = text;
  sentence.className = kind;
}

// The reason, with the countdown of an ejection or what keeps it from happening.
function why(replica) {
  const ejection = replica.ejection;
  if (!ejection) return replica.reason || "";
  if (ejection.refused) return "not ejected: " + ejection.refused;
  if (replica.state !== "ejected") return replica.reason || "";
  const left = ejection.seconds_left;
  const until = left === null ? "until it is restored"
    : left > 0 ? Math.ceil(left) + " s left" : "waits for its health check";
  return until + "; " + (replica.reason || "");
}

function replicas(version) {
  const table = element("table");
  const head = table.createTHead().insertRow();
  for (const [title, kind] of [["replica"], ["state"], ["reason"], ["in flight", "number"],
    ["slowness", "number"], ["requests", "number"], ["failures", "number"]]) {
    head.append(element("th", title, kind));
  }
  const body = table.createTBody();
  for (const replica of version.replicas) {
    const row = body.insertRow();
    const state = element("td", replica.state, mood[replica.state]);
    state.title = "since " + replica.since;
    const busy = replica.slots === null ? replica.in_flight : replica.in_flight + " / " + replica.slots;
    row.append(
      element("td", replica.url, "url"), state, element("td", why(replica), "faint"),
      element("td", busy, "number"), element("td", replica.slowness.toFixed(2) + "×", "number"),
      element("td", count(replica.requests_total), "number"),
      element("td", count(replica.failures_total), replica.failures_total > 0 ? "number warn" : "number"),
    );
  }
  return table;
}

function card(model) {
  const made = element("section");
  const title = element("h2", model.name);
  if (model.aliases.length > 0) title.append(" ", element("small", "also " + model.aliases.join(", ")));
  made.append(title);
  if (model.canary) {
    const line = element("p", "canary ");
    line.append(element("strong", model.canary.state.replace("_", " "), canaryMood[model.canary.state]),
      ": " + model.canary.sentence);
    made.append(line);
  }
  const mirror = model.mirror;
  if (mirror) {
    const rate = mirror.agreement === null ? "nothing compared yet"
      : percent(mirror.agreement * 100) + " of " + plural(mirror.compared, "answer") + " agree";
    made.append(element("p", "mirror to " + mirror.to + ": " + rate));
  }
  for (const version of model.versions) {
    const line = element("div", null, "version");
    const bar = element("meter");
    bar.max = 100;
    bar.value = version.share;
    bar.title = "share " + percent(version.share);
    line.append(element("strong", version.name), bar,
      element("span", percent(version.share) + " set"),
      element("span", percent(version.observed_share) + " observed", "faint"),
      element("span", plural(version.requests_total, "request"), "faint"));
    made.append(line, replicas(version));
  }
  return made;
}

function show(status) {
  const found = complaints(status);
  if (found.length === 0) say("good", "All good.");
  else say(found[0][0], found.map((each) => each[1]).join(" "));
  at("models").replaceChildren(...status.models.map(card));
  const listening = status.listeners.map((l) => l.name === l.address ? l.address : l.name + " " + l.address);
  at("footer").textContent = "Evener " + status.version + " · generation " + status.generation + " · " +
    status.config.file + " · up " + Math.floor(status.uptime_seconds) + " s · listening on " + listening.join(", ");
}

async function refresh() {
  try {
    const headers = token === null ? {} : { authorization: "Bearer " + token };
    const limit = AbortSignal.timeout(5000);
    const answer = await fetch("api/v1/status", { headers, cache: "no-store", signal: limit });
    document.body.classList.remove("lost");
    if (answer.status === 401) {
      say("warn", token === null ? "This Evener asks for its token." : "That is not its token.");
      at("models").replaceChildren();
      at("door").hidden = false;
      return;
    }
    if (!answer.ok) throw new Error("it answered " + answer.status);
    at("door").hidden = true;
    show(await answer.json());
    seen = new Date();
  } catch (error) {
    document.body.classList.add("lost");
    say("bad", seen === null ? "No connection to Evener."
      : "Connection lost: what is below is of " + seen.toLocaleTimeString() + ".");
  }
}

async function follow() {
  if (!document.hidden) await refresh();
  setTimeout(follow, 1000);
}

at("door").addEventListener("submit", (event) => {
  event.preventDefault();
  token = at("token").value;
  at("token").value = "";
  sessionStorage.setItem("evener-token", token);
  refresh();
});
follow();
