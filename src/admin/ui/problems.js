// What is wrong, as the server says it: the same list, in the same words, as `evener status`.
import { h } from "./dom.js";
import { place } from "./words.js";

const moods = { critical: "bad", warning: "warn", notice: "calm" };
export const moodOf = (problem) => moods[problem.severity] || "warn";

const OF_REPLICAS = ["no_usable_replica", "version_without_replica", "wrong_model_name", "replicas_unhealthy",
  "replicas_ejected", "ejections_refused", "replicas_by_hand"];
const OF_THE_FILE = ["file_rejected", "restart_needed", "certificate_ends", "certificate_not_yet_valid",
  "certificate_rejected", "keys_rejected"];

// The page that shows more of it.
export function whereOf(problem) {
  if (problem.model !== null) return place(OF_REPLICAS.includes(problem.code) ? "replicas" : "model", problem.model);
  if (OF_THE_FILE.includes(problem.code)) return place("configuration");
  return place(problem.code === "requests_fail" ? "errors" : "events");
}

export const ofModel = (tick, name) => tick.problems.filter((problem) => problem.model === name);

// The sentence itself, and what follows: since when, and what to do.
export const parts = (problem) => [problem.sentence, problem.text.slice(problem.sentence.length)];

// What stands between backticks is a command, a key or a name.
export const worded = (text) => text.split("`").map((part, i) => (i % 2 ? h("code", null, part) : part));

export function list(problems, label) {
  if (problems.length === 0) return null;
  return h("ul", { class: "problems", "aria-label": label, "data-key": "problems" }, problems.map((problem) => {
    const [sentence, rest] = parts(problem);
    return h("li", { class: moodOf(problem), "data-key": problem.code + " " + problem.subject },
      h("a", { href: whereOf(problem) }, worded(sentence)), h("small", null, worded(rest)));
  }));
}
