// Stacked bars as a drawing.  A table with the same figures belongs beside it: the drawing is not the only way to them.

import { h, s } from "./dom.js";

const WIDTH = 420;
const HEIGHT = 200;
const LEFT = 58;
const BOTTOM = 24;
const TOP = 10;
const WIDEST_NAME = 52;  // "2026-11" in the size of .tick
export const MOST_SERIES = 8;

// periods: [text]; series: [{name, values: [number per period]}]; `show` spells a figure.
export function barChart({ title, periods, series, show }) {
  const totals = periods.map((_, index) => series.reduce((sum, one) => sum + one.values[index], 0));
  const top = roundUp(Math.max(...totals, 0));
  const sum = totals.reduce((one, other) => one + other, 0);
  const label = `${title}: ${show(sum)} in ${periods.length} ${periods.length === 1 ? "period" : "periods"}; the figures are in the table below.`;
  const drawing = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label, class: "chart" },
    grid(top, show), bars(periods, series, top, show), names(periods));
  const legend = series.length > 1
    ? h("ul", { class: "legend" }, series.map((one, index) => h("li", {}, h("span", { class: `swatch series-${index}` }), one.name)))
    : null;
  return h("figure", { class: "panel" }, h("figcaption", {}, h("span", {}, title), h("strong", {}, show(sum))), drawing, legend);
}

const x = (index, length) => LEFT + ((WIDTH - LEFT - 8) * index) / length;
const y = (value, top) => HEIGHT - BOTTOM - ((HEIGHT - BOTTOM - TOP) * value) / top;

function grid(top, show) {
  return [0, 0.25, 0.5, 0.75, 1].map((part) => {
    const at = y(part * top, top);
    return s("g", {},
      s("line", { x1: LEFT, x2: WIDTH - 8, y1: at, y2: at, class: "grid" }),
      s("text", { x: LEFT - 8, y: at + 4, class: "tick", "text-anchor": "end" }, show(part * top)));
  });
}

function bars(periods, series, top, show) {
  const room = (WIDTH - LEFT - 8) / periods.length;
  const width = Math.min(room * 0.72, 40);
  return periods.map((period, index) => {
    let below = 0;
    return series.map((one, place) => {
      const value = one.values[index];
      if (!value) return null;
      const upper = y(below + value, top);
      const lower = y(below, top);
      below += value;
      return s("rect", {
        x: x(index, periods.length) + (room - width) / 2, y: upper, width, height: Math.max(lower - upper, 0.75),
        class: `series-${place}`, "data-period": period, "data-series": one.name, "data-value": value,
      }, s("title", {}, `${period}, ${one.name}: ${show(value)}`));
    });
  });
}

function names(periods) {
  const every = Math.ceil(periods.length / 6);
  const room = (WIDTH - LEFT - 8) / periods.length;
  return periods.map((period, index) => (index % every === 0 ? name(short(period), x(index, periods.length) + room / 2) : null));
}

// A name in the middle of its bar; one that would leave the drawing on the right ends with the lines of the grid instead.
function name(text, middle) {
  const place = middle > WIDTH - WIDEST_NAME / 2 ? { x: WIDTH - 8, "text-anchor": "end" } : { x: middle, "text-anchor": "middle" };
  return s("text", { ...place, y: HEIGHT - 6, class: "tick" }, text);
}

function short(period) {
  return /^\d{4}-\d{2}-\d{2}$/.test(period) ? period.slice(5) : period;
}

// Return the next figure of the form 1, 2, 4, 6 or 8 × 10^n, which four lines divide well.
function roundUp(value) {
  if (value <= 0) return 1;
  const size = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 6, 8, 10].map((step) => step * size).find((step) => step >= value) ?? 10 * size;
}
