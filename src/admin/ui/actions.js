// What can be ordered from the page. Each asks why, and shows the same order as a command.
import { at, h } from "./dom.js";
import { curl, shell } from "./shell.js";
import { Refused, order } from "./stream.js";

const canary = (verb, title, what, more) => ({
  title: (d) => title + " of " + d.model + "?", what, say: title,
  path: (d) => "api/v1/models/" + encodeURIComponent(d.model) + "/canary/" + verb,
  body: () => ({}), command: (d) => ["canary", verb, d.model], ...more,
});

const target = (d) => [d.model, d.version, d.replica].filter(Boolean).join("/");

const replicas = (verb, say, what, more) => ({
  title: (d) => say + " " + (d.replica || d.model + "/" + d.version) + "?", what, say,
  path: () => "api/v1/replicas/" + verb,
  body: (d) => ({ model: d.model, version: d.version, ...(d.replica ? { replica: d.replica } : {}) }),
  command: (d) => [verb, target(d)], ...more,
});

const ACTIONS = {
  start: canary("start", "Start the canary", "It begins at its first step. What is known of the candidate is judged anew."),
  pause: canary("pause", "Pause the canary", "The share stays as it is until the canary is resumed. It is still judged."),
  resume: canary("resume", "Resume the canary", "It goes on from its present step."),
  promote: canary("promote", "Promote the candidate", "The candidate gets all requests at once, without further evidence."),
  abort: canary("abort", "Abort the canary", "The candidate gets no further requests.", { grave: true }),
  drain: replicas("drain", "Drain", "No new requests are sent there; those that run are finished.", { lasts: true }),
  undrain: replicas("undrain", "Undrain", "Requests are sent there again, few at first."),
  eject: replicas("eject", "Eject",
    "It is taken out as if it had failed, and must prove itself before it serves again.", { lasts: true, grave: true }),
  restore: replicas("restore", "Restore", "The ejection ends at once: it serves again, slowly at first."),
  probe: replicas("probe", "Probe", "A health check is made now.", { command: null }),
  reload: {
    title: () => "Reload the file?", say: "Reload",
    what: "The file is read again. One with errors changes nothing.",
    path: () => "api/v1/reload", body: () => ({}), command: () => ["reload"],
  },
};

// One field a version, which sum to 100.
function shareFields(data) {
  const versions = JSON.parse(data.shares);
  const inputs = versions.map(([name, share], i) => h("input", {
    id: "act-share-" + i, type: "number", min: 0, max: 100, step: "any", value: share, required: true, "aria-describedby": "act-sum",
  }));
  const sum = h("p", { id: "act-sum", class: "faint", role: "status" });
  const all = () => inputs.reduce((so_far, input) => so_far + (parseFloat(input.value) || 0), 0);
  const right = () => Math.abs(all() - 100) < 1e-6;
  return {
    nodes: [h("div", { class: "fields" }, versions.map(([name], i) => [h("label", { for: "act-share-" + i }, name + ", percent"), inputs[i]])), sum],
    // What is wrong with it, if anything is.
    check() {
      sum.textContent = right() ? "The shares sum to 100." : "The shares sum to " + Number(all().toFixed(6)) + ", and must to 100.";
      return right();
    },
    shares: () => Object.fromEntries(versions.map(([name], i) => [name, parseFloat(inputs[i].value) || 0])),
  };
}

const splits = (more) => ({ path: (d) => "api/v1/models/" + encodeURIComponent(d.model) + "/split", ...more });

ACTIONS.split = splits({
  title: (d) => "Set the split of " + d.model + "?", say: "Set the split", lasts: true, fields: shareFields,
  what: "It holds for the time below, then the file's split holds again. While a canary runs, pause that first.",
  body: (d, fields) => ({ shares: fields.shares() }),
  command: (d, fields) => ["split", d.model, ...Object.entries(fields.shares()).map(([name, share]) => name + "=" + share)],
});
ACTIONS.unsplit = splits({
  title: (d) => "Take back the split of " + d.model + "?", say: "Take it back",
  what: "What was there before it was set holds again.",
  body: () => ({ reset: true }), command: (d) => ["split", d.model, "--reset"],
});

const LASTING = [["5m", "5 minutes"], ["15m", "15 minutes"], ["1h", "an hour"], ["4h", "4 hours"], ["", "until it is undone"]];

// A button that opens the dialog of an action.
export function button(act, label, data, kind) {
  const attributes = { type: "button", class: kind || null, "data-act": act };
  for (const [name, value] of Object.entries(data || {})) attributes["data-" + name] = value;
  return h("button", attributes, label);
}

function commandLine(action, data, body, fields) {
  if (!action.command) return curl("POST", location.origin + "/" + action.path(data), JSON.stringify(body));
  const words = ["evener", ...action.command(data, fields)];
  if (body.for) words.push("--for", body.for);
  if (body.reason) words.push("--reason", body.reason);
  if (location.host !== "127.0.0.1:9900") words.push("--admin", location.origin);
  return shell(words);
}

export async function copy(button, code) {
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "Copied";
  } catch {
    // Without the right to copy, it is selected, so that one key does it.
    getSelection().selectAllChildren(code);
    button.textContent = "Selected";
  }
}

let fading = null;

export function note(text) {
  at("note").textContent = text;
  clearTimeout(fading);
  fading = setTimeout(() => { at("note").textContent = ""; }, 6000);
}

// Opens the dialog of the action that a button names.
export function open(pressed) {
  const action = ACTIONS[pressed.dataset.act];
  const data = { ...pressed.dataset };
  const reason = h("input", { id: "act-reason", autocomplete: "off", maxlength: 300, placeholder: "for the timeline" });
  const lasts = h("select", { id: "act-for" },
    LASTING.map(([value, text]) => h("option", { value, selected: value === "15m" }, text)));
  const code = h("code", { tabindex: 0, "aria-label": "The same as a command" });
  const wrong = h("p", { class: "wrong", role: "alert" });
  const copier = h("button", { type: "button", class: "quiet" }, "Copy");
  const cancel = h("button", { type: "button" }, "Cancel");
  const go = h("button", { class: action.grave ? "main grave" : "main" }, action.say);
  const fields = action.fields ? action.fields(data) : null;
  const body = () => ({
    ...action.body(data, fields),
    ...(action.lasts && lasts.value ? { for: lasts.value } : {}),
    ...(reason.value.trim() ? { reason: reason.value.trim() } : {}),
  });
  const show = () => {
    go.disabled = fields !== null && !fields.check();
    code.textContent = commandLine(action, data, body(), fields);
  };
  const form = h("form", null,
    h("h2", { id: "act-title" }, action.title(data)), h("p", null, action.what), fields?.nodes,
    h("label", { for: "act-reason" }, "Why"), reason,
    action.lasts ? [h("label", { for: "act-for" }, "For"), lasts] : null,
    h("span", { class: "label" }, "The same as a command"), h("div", { class: "command" }, code, copier),
    wrong, h("div", { class: "buttons" }, cancel, go));
  const dialog = at("act");
  form.addEventListener("input", show);
  copier.addEventListener("click", () => copy(copier, code));
  cancel.addEventListener("click", () => dialog.close());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    go.disabled = true;
    try {
      const answer = await order(action.path(data), body());
      dialog.close();
      note(action.say + (answer.result === "unchanged" ? ": nothing had changed." : ": done."));
    } catch (error) {
      wrong.textContent = error instanceof Refused ? error.message : "It did not answer: " + error.message;
      go.disabled = false;
    }
  });
  show();
  dialog.replaceChildren(form);
  dialog.showModal();
  (form.querySelector("input") || go).focus();
}
