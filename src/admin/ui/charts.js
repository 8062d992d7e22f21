// Lines over time: small ones on the cards, and charts that share one cursor.
import { at, h, svg } from "./dom.js";
import { clock, time } from "./words.js";

// The colors of versions, in the file's order.
export const hue = (i) => "var(--v" + (i % 6) + ")";

const WIDTH = 240;
const HEIGHT = 44;

// A line with the area below it; gaps stay gaps. `most`: the top, if it should not be the highest value.
export function spark(values, kind, most) {
  const top = Math.max(most || 0, ...values.filter((v) => v !== null), 1e-9) * 1.08;
  const x = (i) => (values.length < 2 ? WIDTH : (i / (values.length - 1)) * WIDTH);
  const y = (v) => HEIGHT - 1 - (v / top) * (HEIGHT - 2);
  let line = "";
  let area = "";
  let from = null;
  const close = (i) => {
    if (from !== null) area += "L" + x(i - 1).toFixed(1) + " " + HEIGHT + "L" + x(from).toFixed(1) + " " + HEIGHT + "Z";
    from = null;
  };
  values.forEach((value, i) => {
    if (value === null) return close(i);
    const to = x(i).toFixed(1) + " " + y(value).toFixed(1);
    line += (from === null ? "M" : "L") + to;
    area += (from === null ? "M" : "L") + to;
    if (from === null) from = i;
  });
  close(values.length);
  return svg("svg", {
    class: "spark " + kind, viewBox: "0 0 " + WIDTH + " " + HEIGHT, preserveAspectRatio: "none", "aria-hidden": "true",
  }, svg("path", { class: "area", d: area }), svg("path", { class: "line", d: line }));
}

// How the latencies of versions are spread, each as an outline over one logarithmic axis, so that they can be told apart
// however few requests one of them gets. `each`: `{hue, from_ms, bins, requests}`.
export function spread(each, label) {
  const some = each.filter((one) => one.requests > 0).map(middle);
  if (some.length === 0) return h("p", { class: "faint" }, "Nothing ended yet.");
  const low = Math.log(Math.min(...some.map((one) => one.from_ms)));
  const high = Math.max(low + 1e-6, Math.log(Math.max(...some.map((one) => one.bins.at(-1)[0]))));
  const part = (one) => Math.max(...one.bins.map(([, n]) => n)) / one.requests;
  const top = Math.max(...some.map(part)) * 1.06;
  const x = (ms) => (((Math.log(ms) - low) / (high - low)) * SPREAD).toFixed(1);
  const y = (n, one) => (TALL - (n / one.requests / top) * TALL).toFixed(1);
  const outline = (one) => {
    let path = "M" + x(one.from_ms) + " " + TALL;
    let from = one.from_ms;
    for (const [end, n] of one.bins) {
      path += "L" + x(from) + " " + y(n, one) + "L" + x(end) + " " + y(n, one);
      from = end;
    }
    return path + "L" + x(from) + " " + TALL;
  };
  const ticks = marks(Math.exp(low), Math.exp(high));
  return h("div", { class: "spread" },
    svg("svg", { viewBox: "0 0 " + SPREAD + " " + TALL, preserveAspectRatio: "none", role: "img", "aria-label": label },
      some.map((one) => svg("path", { d: outline(one), style: { color: one.hue } }))),
    h("div", { class: "scale", "aria-hidden": "true" }, ticks.map((ms) => {
      const at = (x(ms) / SPREAD) * 100;
      // Those at the ends stay inside.
      return h("span", { style: { left: at.toFixed(1) + "%", transform: "translateX(-" + (at < 6 ? 0 : at > 94 ? 100 : 50) + "%)" } }, time(ms));
    })));
}

// Without the few at either end: one straggler would press all others together. Percentiles tell of them.
const TAIL = 0.005;

function middle(one) {
  let { from_ms, bins } = one;
  const few = one.requests * TAIL;
  for (let n = bins[0][1]; bins.length > 1 && n <= few; n += bins[0][1]) {
    from_ms = bins[0][0];
    bins = bins.slice(1);
  }
  for (let n = bins.at(-1)[1]; bins.length > 1 && n <= few; n += bins.at(-1)[1]) bins = bins.slice(0, -1);
  return { ...one, from_ms, bins };
}

const SPREAD = 600;
const TALL = 120;

// Round numbers between two, so few that a phone has room for them.
function marks(low, high) {
  const all = [];
  for (let unit = 10 ** Math.floor(Math.log10(low)); unit <= high; unit *= 10) {
    for (const times of [1, 1.5, 2, 3, 5, 7]) if (unit * times >= low && unit * times <= high) all.push(unit * times);
  }
  const step = Math.ceil(all.length / 4);
  return all.filter((_, i) => i % step === 0);
}

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// Charts of one model: each with a line for each version, all on the same axes and under the same cursor.
export class Charts {
  constructor() {
    this.drawn = new Map();
    this.shape = "";
    addEventListener("resize", () => this.fit());
  }

  // `kinds`: `{key, title, show}`; `names`: of the versions; `data(key)`: times, then a list for each version;
  // `present(key)`: what is so now, for each version.
  draw(kinds, names, data, present) {
    const shape = JSON.stringify([names, kinds.map((kind) => kind.key), color("--ink")]);
    const there = [...this.drawn.values()].every((chart) => chart.plot.root.isConnected);
    if (shape !== this.shape || !there) {
      this.clear();
      this.shape = shape;
      for (const kind of kinds) this.make(kind, names);
    }
    for (const kind of kinds) this.tell(kind, names, data(kind.key), present(kind.key));
  }

  make(kind, names) {
    const box = at("chart-" + kind.key);
    const values = h("span", { class: "values" });
    const canvas = h("div");
    box.replaceChildren(h("h3", null, kind.title, values), canvas);
    const ink = color("--faint");
    const grid = { stroke: color("--line"), width: 1 };
    const font = Math.round(this.height() / 14) + "px system-ui, sans-serif";
    const chart = { box, values, kind, names, cursor: null };
    const series = names.map((name, i) => ({
      label: name, stroke: color("--v" + (i % 6)), width: 1.75, points: { show: false }, spanGaps: false,
      dash: kind.dashed && i >= kind.dashed ? [4, 4] : undefined,
    }));
    chart.plot = new uPlot({
      width: this.width(box), height: this.height(), legend: { show: false }, padding: [8, 8, 0, 0],
      cursor: { y: false, drag: { x: false, y: false }, sync: { key: "model" }, points: { size: 6 } },
      scales: { y: { range: (_, low, high) => [0, Math.max(high || 0, kind.least || 0) * 1.1 || 1] } },
      axes: [
        { stroke: ink, font, grid: { show: false }, ticks: { show: false }, space: 80, size: 28,
          values: (_, splits, axis, space, step) => splits.map((s) => clock(s * 1e3).slice(0, step < 60 ? 8 : 5)) },
        { stroke: ink, font, grid, ticks: { show: false }, size: 58, values: (_, splits) => splits.map((s) => kind.show(s)) },
      ],
      series: [{}, ...series],
      hooks: { setCursor: [(plot) => {
        chart.cursor = plot.cursor.left >= 0 ? plot.cursor.idx : null;
        this.say(chart);
      }] },
    }, [[], ...names.map(() => [])], canvas);
    this.drawn.set(kind.key, chart);
  }

  tell(kind, names, data, present) {
    const chart = this.drawn.get(kind.key);
    chart.present = present;
    const times = JSON.stringify([data[0].at(-1), data[0].length]);
    if (times !== chart.times) chart.plot.setData(data);
    chart.times = times;
    this.say(chart);
    const last = names.map((name, i) => name + " " + kind.show(present[i] ?? null));
    chart.box.setAttribute("aria-label", kind.title + " of the last 15 minutes; now " + last.join(", "));
  }

  // The values under the cursor, else the present ones.
  say(chart) {
    const data = chart.plot.data;
    const i = chart.cursor;
    const told = chart.names.map((name, n) => {
      const value = h("span", null, chart.kind.show((i === null ? chart.present?.[n] : data[n + 1][i]) ?? null));
      value.style.color = hue(n);
      return value;
    });
    const when = i === null ? "" : clock(data[0][i] * 1e3);
    chart.values.replaceChildren(when, ...told);
  }

  width(box) {
    return Math.max(200, Math.floor(box.clientWidth - parseFloat(getComputedStyle(box).paddingLeft) * 2));
  }

  height() {
    return 10 * parseFloat(getComputedStyle(document.documentElement).fontSize);
  }

  fit() {
    for (const { plot, box } of this.drawn.values()) {
      if (plot.root.isConnected) plot.setSize({ width: this.width(box), height: this.height() });
    }
  }

  clear() {
    for (const { plot } of this.drawn.values()) plot.destroy();
    this.drawn.clear();
    this.shape = "";
  }
}
