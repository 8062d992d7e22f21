// A request that an operator sends to try a model, and what came back.
import { copy } from "./actions.js";
import { at, become, h } from "./dom.js";
import { chip } from "./overview.js";
import { JSON_BODY, shell, withToken } from "./shell.js";
import { Refused, ask, hasToken, order } from "./stream.js";
import { count, plural, time } from "./words.js";

const METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
// Longer than Evener itself waits.
const PATIENCE = 35000;

const indented = (text) => {
  try { return JSON.stringify(JSON.parse(text), null, 2); } catch { return text; }
};

// JSON that stands as it was written here is shorter in a command without being quoted.
function asSent(text) {
  try {
    const value = JSON.parse(text);
    return JSON.stringify(value, null, 2) === text ? value : text;
  } catch { return text; }
}

const mood = (status) => (status < 400 ? "good" : status < 500 ? "warn" : "bad");

// What of it is text, or how much there is.
function body(said) {
  if (said.body === null) return h("p", { class: "faint" }, plural(said.bytes, "byte") + " that are no text.");
  if (said.bytes === 0) return h("p", { class: "faint" }, "No body.");
  return [
    h("pre", { tabindex: 0, "aria-label": "body of the answer" }, said.cut ? said.body : indented(said.body)),
    said.cut ? h("p", { class: "faint" }, "The first 64 KiB of " + plural(said.bytes, "byte") + ".") : null,
  ];
}

function answer(said) {
  const fact = (name, value) => (value === null ? null : h("div", null, h("dt", null, name), h("dd", null, value)));
  return [
    h("h3", null, "Answer"),
    h("p", null, chip(mood(said.status), String(said.status)), said.error ? " " + said.error + " (by Evener itself)" : "",
      said.incomplete ? h("span", { class: "bad" }, " " + said.incomplete) : null,
      said.fail_open ? h("span", { class: "warn" }, " by a replica that is not usable: nothing else was") : null),
    h("dl", { class: "facts" }, fact("version", said.version), fact("replica", said.replica), fact("took", time(said.duration_ms)),
      fact("first byte", said.first_byte_ms === null ? null : time(said.first_byte_ms)),
      fact("attempts", said.attempts === null ? null : count(said.attempts)), fact("request id", said.request_id)),
    body(said),
    h("details", null, h("summary", null, plural(said.headers.length, "header")),
      h("pre", { tabindex: 0 }, said.headers.map(([name, value]) => name + ": " + value).join("\n"))),
  ];
}

// Opens the dialog for the model, version or replica that a button names.
export function openTest({ model, version, replica }) {
  const usual = h("select", { id: "test-usual" });
  const method = h("select", { id: "test-method", "aria-label": "Method" }, METHODS.map((each) => h("option", null, each)));
  const path = h("input", { id: "test-path", required: true, pattern: "/.*", title: "a path, such as /v1/chat/completions", autocomplete: "off", spellcheck: "false" });
  const text = h("textarea", { id: "test-body", rows: 7, spellcheck: "false" });
  const code = h("code", { tabindex: 0, "aria-label": "The same as a command" });
  const wrong = h("p", { class: "wrong", role: "alert" });
  const found = h("div", { id: "test-answer", class: "answer", role: "status" });
  const copier = h("button", { type: "button", class: "quiet" }, "Copy");
  const close = h("button", { type: "button" }, "Close");
  const go = h("button", { class: "main", disabled: true }, "Send");
  const sent = () => ({
    method: method.value, path: path.value, ...(text.value.trim() ? { body: asSent(text.value) } : {}),
    ...(version ? { version } : {}), ...(replica ? { replica } : {}),
  });
  const show = () => {
    const token = hasToken() ? withToken : [];
    code.textContent = shell(["curl", ...token, ...JSON_BODY, JSON.stringify(sent()), location.origin + "/api/v1/test"]);
  };
  const form = h("form", { class: "test" },
    h("h2", { id: "act-title" }, "Send a test to " + [model, version].filter(Boolean).join("/")),
    replica ? h("p", null, "To " + replica + " alone, however it stands.") : null,
    h("p", null, "It passes the data path as a client's request does. It is logged, and counts for no replica, canary or metric."),
    h("label", { for: "test-usual" }, "Kind"), usual,
    h("label", { for: "test-path" }, "Path"), h("div", { class: "line" }, method, path),
    h("label", { for: "test-body" }, "Body"), text,
    h("span", { class: "label" }, "The same as a command"), h("div", { class: "command" }, code, copier),
    wrong, h("div", { class: "buttons" }, close, go), found);
  const dialog = at("act");
  let kinds = [];
  const choose = () => {
    const kind = kinds[usual.selectedIndex];
    if (kind) {
      method.value = kind.method;
      path.value = kind.path;
      text.value = kind.body === null ? "" : JSON.stringify(kind.body, null, 2);
    }
    show();
  };
  const failed = (error) => {
    wrong.textContent = error instanceof Refused ? error.message : "It did not answer: " + error.message;
  };
  usual.addEventListener("change", choose);
  form.addEventListener("input", show);
  copier.addEventListener("click", () => copy(copier, code));
  close.addEventListener("click", () => dialog.close());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    go.disabled = true;
    wrong.textContent = "";
    become(found, [h("p", { class: "faint" }, "Waiting for the answer…")]);
    try {
      become(found, answer(await order("api/v1/test", sent(), PATIENCE)).flat().filter(Boolean));
      found.scrollIntoView({ block: "nearest" });
    } catch (error) {
      become(found, []);
      failed(error);
    }
    go.disabled = false;
  });
  show();
  dialog.replaceChildren(form);
  dialog.showModal();
  path.focus();
  ask("api/v1/test?model=" + encodeURIComponent(model)).then((said) => {
    kinds = said.requests;
    usual.replaceChildren(...kinds.map((each) => h("option", null, each.name)));
    choose();
  }, failed).finally(() => { go.disabled = false; });
}
