// uPlot with the page's colours, as wide as its place, and its numbers as a table for who can't see it.
import { html, useEffect, useRef } from "./lib.js";
import { theme } from "./scheme.js";
import uPlot from "../vendor/uplot.js";

export const ink = (name) =>
  getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

const FONT = '12px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';

const SHORT_S = 86400; // ticks nearer than a day need the hour
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", timeZone: "UTC" });
const hour = new Intl.DateTimeFormat(undefined, {
  day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", timeZone: "UTC",
});

const times = (_plot, ticks, _axis, _space, increment) =>
  ticks.map((at) => (increment < SHORT_S ? hour : day).format(at * 1000));

/** Axes in the page's colours. `format` writes the y values, `xFormat` those of x that is no time. */
export function axes(format, xFormat) {
  const common = {
    stroke: ink("muted"), font: FONT, ticks: { show: false }, grid: { stroke: ink("line"), width: 1 },
  };
  const x = { values: xFormat ? (_, ticks) => ticks.map(xFormat) : times, space: xFormat ? 70 : 90 };
  return [
    { ...common, grid: { show: false }, ...x },
    { ...common, size: 74, values: (_, ticks) => ticks.map(format) },
  ];
}

/** A chart; `options()` is called again when data or scheme change. `label` says what it shows. */
export function Chart({ label, options, data, height = 260, table }) {
  const place = useRef(null);
  const scheme = theme.value;
  useEffect(() => {
    const box = place.current;
    const plot = new uPlot(
      { width: box.clientWidth || 300, height, cursor: { points: { size: 7 } }, ...options() }, data, box,
    );
    const watch = new ResizeObserver(() => {
      if (box.clientWidth) plot.setSize({ width: box.clientWidth, height });
    });
    watch.observe(box);
    return () => {
      watch.disconnect();
      plot.destroy();
    };
  }, [data, options, scheme, height]);
  return html`<figure class="chart">
    <div ref=${place} role="img" aria-label=${label} class="plot"></div>
    ${table && html`<details><summary>Show the numbers</summary>${table}</details>`}
  </figure>`;
}

/** A vertical line with a name on top, drawn inside the plot. */
export function mark(plot, value, name, colour, place = 0, dash = []) {
  const { ctx, bbox } = plot;
  const x = plot.valToPos(value, "x", true);
  if (x < bbox.left || x > bbox.left + bbox.width) return;
  const ratio = devicePixelRatio;
  ctx.save();
  ctx.strokeStyle = ctx.fillStyle = colour;
  ctx.lineWidth = 1.5 * ratio;
  ctx.setLineDash(dash.map((one) => one * ratio));
  ctx.beginPath();
  ctx.moveTo(x, bbox.top);
  ctx.lineTo(x, bbox.top + bbox.height);
  ctx.stroke();
  ctx.font = FONT.replace("12px", `${12 * ratio}px`);
  ctx.textAlign = x > bbox.left + bbox.width * 0.75 ? "right" : "left";
  const gap = ctx.textAlign === "left" ? 5 : -5;
  const y = bbox.top + (14 + 15 * place) * ratio;
  const width = ctx.measureText(name).width;
  ctx.fillStyle = ink("surface");
  ctx.fillRect(gap > 0 ? x + 3 * ratio : x - width - 7 * ratio, y - 11 * ratio, width + 4 * ratio, 14 * ratio);
  ctx.fillStyle = colour;
  ctx.fillText(name, x + gap * ratio, y);
  ctx.restore();
}

/** A dot at a point of the plot. */
export function dot(plot, x, y, colour, hollow = false) {
  const { ctx } = plot;
  const ratio = devicePixelRatio;
  ctx.save();
  ctx.beginPath();
  ctx.arc(plot.valToPos(x, "x", true), plot.valToPos(y, "y", true), 5 * ratio, 0, 2 * Math.PI);
  ctx.fillStyle = hollow ? ink("surface") : colour;
  ctx.strokeStyle = colour;
  ctx.lineWidth = 2 * ratio;
  ctx.fill();
  ctx.stroke();
  ctx.restore();
}

/** Shade what lies outside [low, high] of the x axis. */
export function shade(plot, low, high, colour) {
  const { ctx, bbox } = plot;
  const right = bbox.left + bbox.width;
  const inside = (x) => Math.max(bbox.left, Math.min(right, x));
  ctx.save();
  ctx.fillStyle = colour;
  const from = low === null ? bbox.left : inside(plot.valToPos(low, "x", true));
  const to = high === null ? right : inside(plot.valToPos(high, "x", true));
  ctx.fillRect(bbox.left, bbox.top, from - bbox.left, bbox.height);
  ctx.fillRect(to, bbox.top, right - to, bbox.height);
  ctx.restore();
}

export const stepped = uPlot.paths.stepped({ align: 1 });
