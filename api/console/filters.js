// Filters of a list.  They are part of the page's address, so that a filtered list can be linked to and gone back to.

import { button, h } from "./dom.js";
import { field, readFields } from "./form.js";
import { withQuery } from "./http.js";

// Return a form over the list; `more` are fields that are folded away.
export function filterForm(page, fields, query, { more = [], actions = [] } = {}) {
  const known = [...fields, ...more];
  const filling = (spec) => field({ ...spec, value: query.get(spec.name) ?? spec.value });
  const folded = more.length
    ? h("details", { open: more.some((spec) => query.get(spec.name)) }, h("summary", {}, "More filters"), h("div", { class: "filters" }, more.map(filling)))
    : null;
  const form = h("form", { class: "filters", "aria-label": "Filters" }, fields.map(filling), folded,
    h("div", { class: "actions" }, h("button", { type: "submit", class: "primary" }, "Filter"), button("Clear", () => go(page, {})), actions));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    go(page, readFields(form, known));
  });
  return form;
}

// Return the filters of an address as the query of the API; `metadata` is written name=value.  Raises Error for one that is not.
filterForm.query = (query) => {
  const found = Object.fromEntries(query);
  if (!found.metadata) return found;
  const [name, ...rest] = found.metadata.split("=");
  const value = rest.join("=").trim();
  if (!name.trim() || !value) throw new Error(`The filter of metadata is to be written name=value, not “${found.metadata}”.`);
  delete found.metadata;
  return { ...found, [`metadata[${name.trim()}]`]: value };
};

function go(page, values) {
  const target = withQuery(`#/${page}`, values);
  if (location.hash === target) window.dispatchEvent(new HashChangeEvent("hashchange"));
  else location.hash = target;
}
