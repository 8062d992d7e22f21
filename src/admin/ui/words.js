// Numbers and states as people read them.

export const plural = (n, word) => count(n) + " " + word + (n === 1 ? "" : "s");
export const count = (n) => n.toLocaleString("en");
const trimmed = (value, digits) => Number(value.toFixed(digits)).toLocaleString("en");

export const percent = (share) => (share === null || share === undefined ? "–" : trimmed(share, 2) + "%");

export function rate(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 1e4) return trimmed(value / 1e3, 1) + "k";
  return trimmed(value, value < 10 ? 1 : 0);
}

export function time(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms >= 1e4) return trimmed(ms / 1e3, 0) + " s";
  if (ms >= 1e3) return trimmed(ms / 1e3, 2) + " s";
  return trimmed(ms, ms < 10 ? 1 : 0) + " ms";
}

// How long something lasts.
export function lasting(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 90) return whole + " s";
  if (whole < 5400) return Math.round(whole / 60) + " min";
  if (whole < 129600) return Math.round(whole / 3600) + " h";
  return Math.round(whole / 86400) + " d";
}

// What is left of a while, to the second.
export function left(seconds) {
  const whole = Math.ceil(seconds);
  if (whole < 60) return whole + " s left";
  const minutes = Math.floor(whole / 60);
  const rest = String(whole % 60).padStart(2, "0");
  return (minutes < 60 ? minutes + ":" + rest : Math.floor(minutes / 60) + " h " + (minutes % 60) + " min") + " left";
}

export const ago = (when, now) => lasting((now - new Date(when)) / 1e3);

export const clock = (when) => new Date(when).toLocaleTimeString("en-GB");
export const day = (when) =>
  new Date(when).toLocaleDateString("en-GB", { weekday: "long", day: "numeric", month: "long", year: "numeric" });

export const spaced = (word) => word.replaceAll("_", " ").replaceAll("-", " ");

export const stateMood = {
  healthy: "good", starting: "warn", draining: "warn", probation: "warn", ejected: "bad", unhealthy: "bad",
};

export const canaryMood = {
  collecting: "calm", passing: "good", promoted: "good", failing: "bad", rolled_back: "bad",
  paused: "warn", undecided: "warn", idle: "calm",
};

// The letters of `last_outcomes`.
export const outcomes = {
  s: ["good", "success"], c: ["warn", "client error"], e: ["bad", "server error"], o: ["warn", "overloaded"],
  t: ["bad", "timeout"], f: ["bad", "connect failure"], r: ["bad", "reset"], x: ["calm", "cancelled"],
  "-": ["calm", "refused"],
};

export const outcomeMood = {
  client_error: "warn", overloaded: "warn", cancelled: "calm", refused: "warn",
  server_error: "bad", timeout: "bad", connect_failure: "bad", reset: "bad",
};

// Where pages are.
export const place = (...parts) => "#/" + parts.map(encodeURIComponent).join("/");

// What is wrong, worst first: `[rank, mood, text, where]`. Empty when nothing is.
export function complaints(tick) {
  const found = [];
  const add = (rank, mood, text, where) => found.push({ rank, mood, text, where });
  for (const model of tick.models) {
    const page = place("model", model.name);
    const replicas = place("replicas", model.name);
    for (const version of model.versions) {
      const name = model.name + "/" + version.name;
      const of = (state) => version.replicas[state] || 0;
      const all = Object.values(version.replicas).reduce((sum, n) => sum + n, 0);
      const serving = of("healthy") + of("starting") + of("probation");
      if (version.share > 0 && all > 0 && serving === 0) {
        add(0, "bad", name + " has no usable replica" + (version.fails_open ? " and serves by those that fail." : "."),
          replicas);
        continue;
      }
      if (of("ejected") > 0) {
        add(3, "warn", of("ejected") + " of " + plural(all, "replica") + " of " + name +
          (of("ejected") === 1 ? " is" : " are") + " ejected.", replicas);
      }
      if (of("unhealthy") > 0) {
        add(3, "warn", of("unhealthy") + " of " + plural(all, "replica") + " of " + name +
          (of("unhealthy") === 1 ? " fails its health check." : " fail their health checks."), replicas);
      }
      if (version.ejections_refused > 0) {
        add(2, "bad", plural(version.ejections_refused, "failing replica") + " of " + name +
          (version.ejections_refused === 1 ? " stays" : " stay") + ", because too many are out.", replicas);
      }
    }
    const now = model.now;
    if (now.errors_percent >= 1 && now.requests_per_second >= 0.5) {
      const bad = now.errors_percent >= 5;
      add(bad ? 1 : 4, bad ? "bad" : "warn", percent(now.errors_percent) + " of the requests for " + model.name + " fail.", page);
    }
    const set = model.split_override;
    if (set) {
      add(6, "warn", "The split of " + model.name + " is set by hand" +
        (set.seconds_left === null ? "." : ", " + left(set.seconds_left) + "."), page);
    }
    const canary = model.canary;
    if (canary && canary.state === "failing") {
      add(2, "bad", "The canary " + canary.candidate + " of " + model.name + " is failing.", page);
    } else if (canary && canary.state === "rolled_back") {
      add(4, "warn", "The canary " + canary.candidate + " of " + model.name + " was rolled back.", page);
    } else if (canary && canary.state === "undecided") {
      add(5, "warn", "The canary " + canary.candidate + " of " + model.name + " is undecided.", page);
    }
  }
  if (tick.config.last_reload.result === "rejected") {
    const n = tick.config.last_reload.diagnostics.filter((each) => each.severity === "error").length;
    add(2, "warn", "The file on disk has " + plural(n, "error") + "; generation " + tick.generation +
      " keeps serving.", place("configuration"));
  }
  if (!tick.ready) add(0, "warn", "It is shutting down.", place("events"));
  return found.sort((a, b) => a.rank - b.rank);
}
