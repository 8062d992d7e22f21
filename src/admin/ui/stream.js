// The one live stream, and whatever else is asked of the API. The token goes in a header, never in a URL.

let token = sessionStorage.getItem("evener-token");

export function keepToken(given) {
  token = given;
  sessionStorage.setItem("evener-token", given);
}

export const hasToken = () => token !== null;

const head = () => (token === null ? {} : { authorization: "Bearer " + token });

export class Refused extends Error {
  constructor(status, answer) {
    super(answer?.error?.message || "it answered " + status);
    this.status = status;
    this.answer = answer;
  }
}

async function answered(response) {
  const answer = await response.json().catch(() => null);
  if (!response.ok) throw new Refused(response.status, answer);
  return answer;
}

export async function ask(path) {
  return answered(await fetch(path, { headers: head(), cache: "no-store", signal: AbortSignal.timeout(10000) }));
}

export async function order(path, body, patience = 30000) {
  const headers = { ...head(), "content-type": "application/json" };
  const signal = AbortSignal.timeout(patience);
  return answered(await fetch(path, { method: "POST", headers, body: JSON.stringify(body), signal }));
}

// Nothing for so long: the connection is dead, whatever the browser thinks.
const SILENCE = 5000;
const PAUSES = [300, 1000, 2000, 3000];

// Follows `path` until it is aborted. `told(event, data)` for each event; `lost(error)` when it broke, before it is
// tried again; `lost` may wait, as for a token.
export async function follow(path, signal, told, lost, silence = SILENCE) {
  let failures = 0;
  while (!signal.aborted) {
    try {
      await read(path, signal, (event, data) => {
        failures = 0;
        told(event, data);
      }, silence);
      throw new Error("it ended");
    } catch (error) {
      if (signal.aborted) return;
      await lost(error);
      const pause = PAUSES[Math.min(failures, PAUSES.length - 1)];
      failures += 1;
      await new Promise((done) => setTimeout(done, pause));
    }
  }
}

async function read(path, signal, told, silence) {
  const dead = new AbortController();
  const end = () => dead.abort();
  signal.addEventListener("abort", end);
  let watch = setTimeout(end, silence);
  try {
    const headers = { ...head(), accept: "text/event-stream" };
    const response = await fetch(path, { headers, cache: "no-store", signal: dead.signal });
    if (!response.ok) await answered(response);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(watch);
      watch = setTimeout(end, silence);
      text += value;
      let from = 0;
      for (let to = text.indexOf("\n\n"); to >= 0; to = text.indexOf("\n\n", from)) {
        const said = { event: "message", data: null };
        for (const line of text.slice(from, to).split("\n")) {
          const at = line.indexOf(": ");
          if (at > 0) said[line.slice(0, at)] = line.slice(at + 2);
        }
        if (said.data !== null) told(said.event, JSON.parse(said.data));
        from = to + 2;
      }
      text = text.slice(from);
    }
  } finally {
    clearTimeout(watch);
    signal.removeEventListener("abort", end);
    end();
  }
}
