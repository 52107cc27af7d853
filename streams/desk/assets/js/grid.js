// A grid that draws only the rows in view: 20,000 rows cost what 40 do. The focus stays on the grid
// and aria-activedescendant names the active cell (WAI-ARIA Authoring Practices, grid pattern).
import { html, useEffect, useLayoutEffect, useRef, useState } from "./lib.js";

const ROW_PX = 34; // as in css/views.css
const EXTRA_ROWS = 5; // above and below, so that a fast wheel shows no gap

const clamp = (value, low, high) => Math.max(low, Math.min(high, value));

/**
 * `columns`: {key, name, width, number, help, cell(row)}; `total` rows, `row(index)` gives one with
 * `id`; `sort` is {key, descending}. Enter opens the active row, on a head it sorts.
 */
export function Grid({ label, columns, total, row, sort, onSort, onOpen, onActive, className = "" }) {
  const frame = useRef(null);
  const [top, setTop] = useState(0);
  const [height, setHeight] = useState(600);
  const [active, setActive] = useState({ row: 0, column: 0 }); // row 0 is the head
  const [focused, setFocused] = useState(false);

  useLayoutEffect(() => {
    const watch = new ResizeObserver(() => setHeight(frame.current.clientHeight));
    watch.observe(frame.current);
    return () => watch.disconnect();
  }, []);
  useEffect(() => {
    if (active.row > total) setActive({ ...active, row: total });
  }, [total]);

  const first = clamp(Math.floor(top / ROW_PX) - EXTRA_ROWS, 0, Math.max(total - 1, 0));
  const last = clamp(Math.ceil((top + height) / ROW_PX) + EXTRA_ROWS, 0, total);
  const template = columns.map((one) => one.width).join(" ");
  const activeId = `cell-${active.row}-${active.column}`;
  const drawn = active.row === 0 || (active.row > first && active.row <= last);

  function reach(rowIndex, column) {
    const next = { row: clamp(rowIndex, 0, total), column: clamp(column, 0, columns.length - 1) };
    setActive(next);
    if (next.row) onActive?.(row(next.row - 1), columns[next.column]);
    show(next);
  }

  function show(next) {
    const box = frame.current;
    const head = box.querySelector("[role=columnheader]").offsetHeight;
    if (next.row > 0) {
      const from = (next.row - 1) * ROW_PX;
      if (from < box.scrollTop) box.scrollTop = from;
      const below = from + ROW_PX + head - box.clientHeight;
      if (below > box.scrollTop) box.scrollTop = below;
    }
    const cell = box.querySelectorAll("[role=columnheader]")[next.column];
    const fixed = box.querySelector("[role=columnheader]").offsetWidth;
    if (next.column === 0) box.scrollLeft = 0;
    else if (cell.offsetLeft - fixed < box.scrollLeft) box.scrollLeft = cell.offsetLeft - fixed;
    else if (cell.offsetLeft + cell.offsetWidth > box.scrollLeft + box.clientWidth) {
      box.scrollLeft = cell.offsetLeft + cell.offsetWidth - box.clientWidth;
    }
  }

  function pressed(event) {
    if (event.altKey || event.metaKey) return;
    const page = Math.max(Math.floor(height / ROW_PX) - 2, 1);
    const moves = {
      ArrowDown: [active.row + 1, active.column],
      ArrowUp: [active.row - 1, active.column],
      ArrowRight: [active.row, active.column + 1],
      ArrowLeft: [active.row, active.column - 1],
      PageDown: [active.row + page, active.column],
      PageUp: [active.row - page, active.column],
      Home: [event.ctrlKey ? 0 : active.row, 0],
      End: [event.ctrlKey ? total : active.row, columns.length - 1],
    };
    const move = moves[event.key];
    if (move) reach(...move);
    else if (event.key === "Enter" || event.key === " ") chosen();
    else return;
    event.preventDefault();
  }

  function chosen() {
    if (active.row === 0) onSort(columns[active.column].key);
    else if (total) onOpen(row(active.row - 1));
  }

  const state = (rowIndex, column) =>
    focused && active.row === rowIndex && active.column === column ? "active" : "";
  const head = columns.map(
    (one, column) => html`<div role="columnheader" key=${one.key} id=${`cell-0-${column}`}
      class=${`cell ${one.number ? "number" : ""} ${state(0, column)}`} aria-colindex=${column + 1}
      aria-sort=${sort.key === one.key ? (sort.descending ? "descending" : "ascending") : "none"}
      title=${one.help} onClick=${() => onSort(one.key)}>${one.name}
      ${sort.key === one.key && html`<span class="arrow" aria-hidden="true">${sort.descending ? "▼" : "▲"}</span>`}</div>`,
  );
  // A row that scrolls out is drawn again as the one that scrolls in: its nodes stay.
  const slots = Math.ceil(height / ROW_PX) + 2 * EXTRA_ROWS + 1;
  const rows = [];
  for (let index = first; index < last; index += 1) {
    rows.push(line(row(index), index));
  }

  function line(one, index) {
    return html`<div role="row" key=${index % slots} aria-rowindex=${index + 2} data-id=${one.id}
      class=${`row ${one.className ?? ""}`}
      style=${{ top: `${index * ROW_PX}px`, gridTemplateColumns: template }}
      onClick=${(event) => clicked(event, one, index)}>
      ${columns.map(
        (column, place) => html`<div role="gridcell" key=${column.key} id=${`cell-${index + 1}-${place}`}
          aria-colindex=${place + 1} class=${`cell ${column.number ? "number" : ""} ${state(index + 1, place)}`}
          >${column.cell(one)}</div>`,
      )}</div>`;
  }

  function clicked(event, one, index) {
    const cell = event.target.closest("[role=gridcell]");
    reach(index + 1, cell ? Number(cell.getAttribute("aria-colindex")) - 1 : 0);
    if (event.target.closest("a")) return;
    frame.current.focus({ preventScroll: true });
    if (event.detail === 2) onOpen(one);
  }

  return html`<div role="grid" ref=${frame} class=${`grid ${className}`} tabindex="0" aria-label=${label}
    aria-rowcount=${total + 1} aria-colcount=${columns.length}
    aria-activedescendant=${drawn ? activeId : undefined}
    onKeyDown=${pressed} onFocus=${() => setFocused(true)} onBlur=${() => setFocused(false)}
    onScroll=${(event) => setTop(event.currentTarget.scrollTop)}>
    <div role="rowgroup" class="grid-head"><div role="row" class="row" aria-rowindex="1"
      style=${{ gridTemplateColumns: template }}>${head}</div></div>
    <div role="rowgroup" class="grid-body" style=${{ height: `${total * ROW_PX}px` }}>${rows}</div>
  </div>`;
}
