(() => {
  "use strict";
  const PRINT_WIDTH = 680;  // pixels between the margins of an A4 page
  const PRINT_ROWS_MAX = 40;
  const PRINT_PATTERNS_MAX = 24;  // bars of a trace; hatching each of many makes a PDF huge
  const root = document.documentElement;
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const figures = read("figures");
  const dark = read("dark");
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const config = { responsive: true, displayModeBar: false };
  let printing = false;

  const isDark = () => !printing && (root.dataset.theme
    ? root.dataset.theme === "dark" : prefersDark.matches);

  // Colours are exchanged by looking each string up; anything else stays as it is.
  const inked = (value) => {
    if (!isDark()) return structuredClone(value);  // Plotly writes into what it is given
    if (typeof value === "string") return Object.hasOwn(dark, value) ? dark[value] : value;
    if (Array.isArray(value)) return value.map(inked);
    if (value && typeof value === "object" && value.constructor === Object) {
      return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, inked(inner)]));
    }
    return value;
  };

  const dressed = (layout) => {
    const css = getComputedStyle(root);
    const colour = (name) => css.getPropertyValue(`--${name}`).trim();
    const axis = { gridcolor: colour("grid"), linecolor: colour("muted"), zerolinecolor: colour("grid"),
      tickcolor: colour("muted"), tickfont: { color: colour("muted") }, automargin: true };
    const found = { ...inked(layout), autosize: true,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("text") },
      hoverlabel: { bgcolor: colour("soft"), bordercolor: colour("muted"), font: { color: colour("text") } } };
    for (const name of ["xaxis", "yaxis"]) found[name] = { ...axis, ...found[name] };
    if (printing) found.width = PRINT_WIDTH;
    return found;
  };

  const draw = (plot) => {
    const { data, layout } = figures[plot.dataset.figure];
    const drawn = inked(data);
    for (const trace of printing ? drawn : []) {
      if (trace.type === "bar" && trace.x.length > PRINT_PATTERNS_MAX) delete trace.marker.pattern;
    }
    Plotly.react(plot, drawn, dressed(layout), config);
  };
  const shown = (plot) => plot.closest("[hidden]") === null;
  const drawAll = () => document.querySelectorAll(".plot").forEach((plot) => {
    if (shown(plot)) draw(plot); else Plotly.purge(plot);
  });

  for (const chooser of document.querySelectorAll("[data-chooser]")) {
    const choose = chooser.querySelector("select");
    const choices = chooser.querySelectorAll(".choice");
    const show = () => choices.forEach((choice) => { choice.hidden = choice.dataset.choice !== choose.value; });
    choose.addEventListener("change", () => {
      show();
      chooser.querySelectorAll(".plot").forEach((plot) => { if (shown(plot)) draw(plot); else Plotly.purge(plot); });
    });
    show();
  }

  const button = document.getElementById("theme");
  const label = () => button.setAttribute("aria-pressed", String(isDark()));
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    label();
    drawAll();
  });
  prefersDark.addEventListener("change", () => { label(); drawAll(); });
  label();

  // On paper: light, as wide as the page, with every table that is not too long.
  let opened = [];
  let theme;
  addEventListener("beforeprint", () => {
    theme = root.dataset.theme;
    root.dataset.theme = "light";
    printing = true;
    opened = [...document.querySelectorAll("details:not([open])")]
      .filter((one) => Number(one.dataset.rows) <= PRINT_ROWS_MAX);
    opened.forEach((one) => { one.open = true; });
    drawAll();
  });
  addEventListener("afterprint", () => {
    printing = false;
    if (theme === undefined) delete root.dataset.theme; else root.dataset.theme = theme;
    opened.forEach((one) => { one.open = false; });
    drawAll();
  });

  drawAll();
  root.dataset.drawn = "yes";
})();
