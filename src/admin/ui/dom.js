// Makes elements, and changes those that stand there into new ones. What comes from the server becomes text.

// The page has one already.
const SVG = document.querySelector("svg").namespaceURI;

export const at = (id) => document.getElementById(id);

function fill(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "style") {
      // Through the object model: the page's policy forbids styles in markup.
      for (const [property, to] of Object.entries(value)) made.style.setProperty(property, to);
    } else {
      made.setAttribute(name, value === true ? "" : String(value));
    }
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false && child !== "") made.append(child);
  }
  return made;
}

export const h = (name, attributes, ...children) => fill(document.createElement(name), attributes, children);

export const svg = (name, attributes, ...children) =>
  fill(document.createElementNS(SVG, name), attributes, children);

const keyOf = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") : null);

const alike = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && keyOf(a) === keyOf(b);

// Makes `old` what `made` is. What has the same `data-keep` is left as it is: it looks after itself.
function morph(old, made) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== made.data) old.data = made.data;
    return;
  }
  const keep = made.getAttribute("data-keep");
  if (keep !== null && keep === old.getAttribute("data-keep")) return;
  for (const { name } of [...old.attributes]) {
    // Whether it is open is the reader's business.
    const theirs = name === "open" && old.nodeName === "DETAILS";
    if (!theirs && name !== "style" && !made.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of made.attributes) {
    if (name !== "style" && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  if (old.style.cssText !== made.style.cssText) old.style.cssText = made.style.cssText;
  become(old, [...made.childNodes]);
}

// Makes these the children of `parent`, and keeps those that are there already.
export function become(parent, children) {
  const keyed = new Map();
  for (const child of parent.childNodes) {
    const key = keyOf(child);
    if (key !== null) keyed.set(key, child);
  }
  const focused = document.activeElement;
  let next = parent.firstChild;
  for (const made of children) {
    const key = keyOf(made);
    const known = key === null ? null : keyed.get(key);
    if (known && alike(known, made)) {
      if (known === next) next = next.nextSibling;
      else parent.insertBefore(known, next);
      morph(known, made);
    } else if (next && key === null && keyOf(next) === null && alike(next, made)) {
      const old = next;
      next = next.nextSibling;
      morph(old, made);
    } else {
      parent.insertBefore(made, next);
    }
  }
  while (next) {
    const old = next;
    next = next.nextSibling;
    old.remove();
  }
  if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
}
