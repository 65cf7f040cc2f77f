// Tables, and lists that are read page by page.

import { button, h, newId, replace } from "./dom.js";
import { get, withQuery } from "./http.js";
import { emptyBox, showError } from "./notice.js";

// columns: [{name, cell: row => node or text, numeric, head, kind}]; the column with `head` names its row.  `foot` is a last row with sums.
export function table({ caption, columns, rows, foot }) {
  const head = columns.map((column) => h("th", { scope: "col", class: classOf(column) }, column.name));
  const body = h("tbody", {}, rows.map((row) => line(columns, row)));
  const label = newId("table");
  return h("div", { class: "scroll", role: "region", tabindex: "0", "aria-labelledby": label },
    h("table", {}, h("caption", { id: label, class: "unseen" }, caption), h("thead", {}, h("tr", {}, head)), body, foot ? h("tfoot", {}, line(columns, foot)) : null));
}

const classOf = (column) => (column.numeric ? "numeric" : column.kind ?? null);

function line(columns, row) {
  return h("tr", { "data-id": row.id }, columns.map((column) => {
    const content = column.cell(row);
    const attributes = { class: classOf(column) };
    return column.head ? h("th", { ...attributes, scope: "row" }, content) : h("td", attributes, content);
  }));
}

// Return {element, refresh, rows}: a list read by cursor, with a button for more.  `refresh` reads it anew as far as shown.
export function cursorList({ path, query = {}, caption, columns, empty, limit = 50, signal, onRows }) {
  const place = h("div", { "aria-busy": "true" }, h("p", { class: "muted" }, "Loading …"));
  const list = { element: place, rows: [], refresh };
  let shown = "";

  async function read(after, size) {
    return get(withQuery(path, { ...query, limit: size, after }), { signal });
  }

  function show(hasMore) {
    const focused = focusIn(place);
    const more = hasMore ? button("Load more", loadMore, { class: "more" }) : null;
    const found = list.rows.length ? table({ caption, columns, rows: list.rows }) : empty ?? emptyBox("Nothing here.");
    replace(place, found, more);
    place.setAttribute("aria-busy", "false");
    refocus(place, focused);
    onRows?.(list.rows);
  }

  async function loadMore() {
    await guarded(async () => {
      const page = await read(list.rows.at(-1).id, limit);
      list.rows.push(...page.data);
      show(page.has_more);
      (place.querySelector(".more") ?? place.querySelector(".scroll")).focus();
    });
  }

  // Once more than a page is shown it stays as it was read, so that nothing moves under the reader.
  async function refresh() {
    await guarded(async () => {
      if (list.rows.length > limit) return;
      const page = await read(undefined, limit);
      const text = JSON.stringify(page);
      if (text === shown) return;
      shown = text;
      list.rows = page.data;
      show(page.has_more);
    });
  }

  async function guarded(action) {
    try {
      await action();
    } catch (error) {
      place.setAttribute("aria-busy", "false");
      shown = "";
      showError(place, error);
    }
  }

  list.ready = refresh();
  return list;
}

// A list that is read anew keeps the focus on the same control of the same row.
function focusIn(place) {
  const row = place.contains(document.activeElement) ? document.activeElement.closest("tr[data-id]") : null;
  return row && { id: row.dataset.id, index: [...row.querySelectorAll("a, button")].indexOf(document.activeElement) };
}

function refocus(place, focused) {
  if (!focused) return;
  const row = [...place.querySelectorAll("tr[data-id]")].find((one) => one.dataset.id === focused.id);
  row?.querySelectorAll("a, button")[focused.index]?.focus();
}

// Return a list of names and values.
export function facts(pairs, kind = "") {
  return h("dl", { class: `facts ${kind}` }, pairs.filter(Boolean).map(([name, value]) =>
    h("div", {}, h("dt", {}, name), h("dd", {}, value ?? "–"))));
}

const TONES = {
  completed: "good", delivered: "good", enabled: "good", green: "good", closed: "good", succeeded: "good",
  failed: "bad", exhausted: "bad", red: "bad", open: "bad", lost: "bad", refused: "bad", aborted: "bad", disabled: "bad",
  in_progress: "busy", delivering: "busy", validating: "busy", finalizing: "busy", cancelling: "busy",
  cancelled: "warn", expired: "warn", incomplete: "warn", paused: "warn", yellow: "warn", half_open: "warn",
};

// Return a link to something with a long id: its end is enough to tell it from its neighbours.
export function idLink(id, address) {
  const shown = id.length > 24 ? `${id.slice(0, id.lastIndexOf("_") + 1)}…${id.slice(-10)}` : id;
  return h("a", { href: address, class: "mono", title: id, "aria-label": id }, shown);
}

// Return a state as a word with a coloured dot.
export function badge(status, text = status.replaceAll("_", " ")) {
  return h("span", { class: `badge ${TONES[status] ?? "idle"}` }, text);
}
