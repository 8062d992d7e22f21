// Commands that people copy into a shell: every word is quoted, whoever chose it.

// Words that mean themselves to a POSIX shell.
const PLAIN = /^[\w@%+=:,./-]+$/;
export const quoted = (word) => (PLAIN.test(word) ? word : "'" + word.replaceAll("'", "'\\''") + "'");

// What gives a command the admin token. The shell is to expand it, so it is the one word that is written as it stands.
const TOKEN = { text: '"authorization: Bearer $EVENER_TOKEN"' };
export const withToken = ["-H", TOKEN];
export const JSON_BODY = ["-H", "content-type: application/json", "-d"];

// One line for a shell.
export const shell = (words) => words.map((word) => (word === TOKEN ? TOKEN.text : quoted(String(word)))).join(" ");

// A curl command for a request. `body`: what it sends, or null.
export function curl(method, url, body) {
  const how = { GET: [], HEAD: ["--head"] }[method] || ["-X", method];
  // Else curl takes brackets and braces for lists of URLs, and resolves dots in the path.
  const asItIs = [...(/[[\]{}]/.test(url) ? ["--globoff"] : []), ...(/\/\.\.?(\/|\?|$)/.test(url) ? ["--path-as-is"] : [])];
  return shell(["curl", ...how, ...asItIs, ...(body === null ? [] : [...JSON_BODY, body]), url]);
}
