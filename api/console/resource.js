// Pages of the administration: a list, and dialogs that create, change and delete what is in it.

import { button, h, replace } from "./dom.js";
import { confirmDialog, formDialog } from "./dialog.js";
import { changed, filled } from "./form.js";
import { get, patch, post, remove, withQuery } from "./http.js";
import { emptyBox, notify, showError } from "./notice.js";
import { table } from "./table.js";

const SIZE = 50;

// page: {title, lead, noun, path, columns, fields(row, lookups), lookups(), nameOf(row), created(made, values), empty, deletion, canEdit,
// toBody(values, row, lookups), before(row)}.  `row` is undefined for a new one; `before` is a row as `toBody` would spell it.
export function resourcePage(page) {
  return async (main, { signal }) => {
    const state = { page, offset: 0, place: h("div"), signal, lookups: {} };
    const add = button(`New ${page.noun}`, () => create(state), { class: "primary", disabled: true });
    main.append(h("div", { class: "head" },
      h("div", {}, h("h1", { tabindex: "-1" }, page.title), h("p", { class: "lead" }, page.lead)),
      h("div", { class: "actions" }, add)), state.place);
    await refresh(state);
    add.disabled = false;
  };
}

async function refresh(state) {
  const { page, place, offset } = state;
  try {
    state.lookups = (await page.lookups?.()) ?? {};
    const found = await get(withQuery(page.path, { limit: SIZE, offset }), { signal: state.signal });
    if (found.data.length === 0 && offset > 0) {
      state.offset = Math.max(0, offset - SIZE);
      await refresh(state);
      return;
    }
    replace(place, found.data.length ? table({ caption: page.title, columns: columns(state), rows: found.data }) : emptyBox(page.empty ?? `No ${page.noun} yet.`),
      found.total > SIZE ? pager(state, found) : null);
  } catch (error) {
    showError(place, error);
  }
}

function columns(state) {
  const { page } = state;
  const known = page.columns.map((column) => ({ ...column, cell: (row) => column.cell(row, state.lookups) }));
  const actions = (row) => h("span", { class: "actions" },
    page.canEdit === false ? null : button("Edit", () => edit(state, row), { "aria-label": `Edit ${page.nameOf(row)}` }),
    button("Delete", () => askDelete(state, row), { "aria-label": `Delete ${page.nameOf(row)}` }));
  return [...known, { name: "Actions", kind: "doing", cell: actions }];
}

function pager(state, found) {
  const last = Math.min(found.offset + found.data.length, found.total);
  const move = (by) => async () => {
    state.offset += by;
    await refresh(state);
    state.place.querySelector(".scroll").focus();
  };
  return h("div", { class: "pager" },
    button("Previous", move(-SIZE), { disabled: found.offset === 0 }), button("Next", move(SIZE), { disabled: last >= found.total }),
    h("span", { class: "muted", role: "status" }, `${found.offset + 1} to ${last} of ${found.total}`));
}

function create(state) {
  const { page } = state;
  formDialog({
    title: `New ${page.noun}`, fields: page.fields(undefined, state.lookups), action: "Create",
    save: async (values) => {
      const made = await post(page.path, filled(page.toBody?.(values, undefined, state.lookups) ?? values));
      await refresh(state);
      if (page.created) page.created(made, values);
      else notify(`The ${page.noun} was created.`);
    },
  });
}

function edit(state, row) {
  const { page } = state;
  const fields = page.fields(row, state.lookups);
  formDialog({
    title: `Change ${page.nameOf(row)}`, fields, action: "Save",
    save: async (values) => {
      const body = changed(page.toBody?.(values, row, state.lookups) ?? values, page.before?.(row) ?? row, fields);
      if (Object.keys(body).length) await patch(`${page.path}/${row.id}`, body);
      await refresh(state);
      notify("Saved.");
    },
  });
}

function askDelete(state, row) {
  const { page } = state;
  confirmDialog({
    title: `Delete ${page.nameOf(row)}?`, text: page.deletion ?? "This cannot be taken back.", action: "Delete",
    run: async () => {
      await remove(`${page.path}/${row.id}`);
      await refresh(state);
      notify("Deleted.");
    },
  });
}
