// The audit log: who changed what.

import { button, h, replace } from "../dom.js";
import { filterForm } from "../filters.js";
import { instant } from "../format.js";
import { get, withQuery } from "../http.js";
import { emptyBox } from "../notice.js";
import { table } from "../table.js";

export const title = "Audit";

const SIZE = 50;
const FILTERS = [
  { name: "actor", label: "User who did it", kind: "integer" },
  { name: "object_type", label: "Kind of object" },
  { name: "object_id", label: "Id of the object" },
  { name: "start_time", label: "From", kind: "instant" },
  { name: "end_time", label: "Until", kind: "instant" },
];
const COLUMNS = [
  { name: "Time", head: true, cell: (one) => instant(one.created) },
  { name: "Who", cell: (one) => `${one.actor_email} (${one.actor})` },
  { name: "Action", cell: (one) => one.action },
  { name: "Object", cell: (one) => `${one.object_type} ${one.object_id}` },
  { name: "Address", cell: (one) => one.client_address ?? "–" },
  { name: "Change", cell: change },
];

export async function render(main, { query, signal }) {
  const place = h("div");
  main.append(h("h1", { tabindex: "-1" }, title), h("p", { class: "lead" }, "Every administrative change, written in its own transaction and never altered."),
    filterForm("audit", FILTERS, query), place);
  const rows = [];
  const more = async () => {
    const page = await get(withQuery("/v1/admin/audit", { ...Object.fromEntries(query), limit: SIZE, offset: rows.length }), { signal });
    rows.push(...page.data);
    replace(place, rows.length ? table({ caption: title, columns: COLUMNS, rows }) : emptyBox("No change matches."),
      rows.length < page.total ? button("Load more", more, { class: "more" }) : null);
  };
  await more();
}

function change(one) {
  const names = [...new Set([...Object.keys(one.before ?? {}), ...Object.keys(one.after ?? {})])];
  const differing = names.filter((name) => JSON.stringify(one.before?.[name]) !== JSON.stringify(one.after?.[name]) && name !== "updated");
  if (!differing.length) return "–";
  const spelled = (value) => (value === undefined ? "–" : JSON.stringify(value));
  return h("details", {}, h("summary", {}, differing.slice(0, 3).join(", ") + (differing.length > 3 ? " …" : "")),
    differing.map((name) => h("div", { class: "wrap" }, h("strong", {}, name), `: ${spelled(one.before?.[name])} → ${spelled(one.after?.[name])}`)));
}
