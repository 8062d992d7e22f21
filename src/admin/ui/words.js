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
