// Roles: permissions, and limits per model.

import { h } from "../dom.js";
import { count, instant } from "../format.js";
import { getAll } from "../http.js";
import { resourcePage } from "../resource.js";

export const title = "Roles and limits";

const PERMISSIONS = [["admin", "Administration"], ["provide_models", "Provide models"], ["read_metric", "Read metrics"], ["read_organization_usage", "Read the usage of the organization"], ["create_public_collection", "Create public collections"]];
const TYPES = ["rpm", "rpd", "tpm", "tpd"];

async function lookups() {
  const routers = await getAll("/v1/admin/routers");
  return { names: new Map(routers.map((router) => [router.id, router.name])), ids: new Map(routers.map((router) => [router.name, router.id])) };
}

// "simulator rpm 60" is a line; without a figure there is no limit.
function toText(limits, { names }) {
  return limits.map((limit) => [names.get(limit.router) ?? limit.router, limit.type, limit.value ?? ""].join(" ").trim()).join("\n");
}

function toLimits(text, { ids }) {
  return text.split("\n").map((line) => line.trim()).filter(Boolean).map((line) => {
    const found = /^(.+?)\s+(rpm|rpd|tpm|tpd)(?:\s+(\d+))?$/.exec(line);
    const router = found && (ids.get(found[1]) ?? (/^\d+$/.test(found[1]) ? Number(found[1]) : null));
    if (!found || router === null) throw new Error(`“${line}” is no limit: expected a model, one of ${TYPES.join(", ")}, and a figure or nothing.`);
    return { router, type: found[2], value: found[3] === undefined ? null : Number(found[3]) };
  });
}

export const render = resourcePage({
  title, noun: "role", path: "/v1/admin/roles",
  lead: "What users may do, and which models they may use how much. A model without a limit in a role does not exist for its users.",
  deletion: "Only one without users can be deleted.",
  nameOf: (row) => row.name,
  lookups,
  columns: [
    { name: "Id", numeric: true, cell: (row) => String(row.id) },
    { name: "Name", head: true, cell: (row) => h("span", { class: "clip", title: row.name }, row.name) },
    { name: "Users", numeric: true, cell: (row) => count(row.users) },
    { name: "Permissions", cell: (row) => row.permissions.join(", ") || "–" },
    { name: "Limits", cell: (row, { names }) => limitsOf(row, names) },
    { name: "Created", cell: (row) => instant(row.created) },
  ],
  fields: (row, found) => [
    { name: "name", label: "Name", required: true, value: row?.name },
    { name: "permissions", label: "Permissions", kind: "checks", options: PERMISSIONS, value: row?.permissions },
    { name: "limits", label: "Models and limits", kind: "textarea", rows: 7, value: row ? toText(row.limits, found) : "",
      placeholder: `${[...found.ids.keys()][0] ?? "model"} rpm 60`,
      hint: "One a line: model, rpm | rpd | tpm | tpd (requests or tokens per minute or day), figure. No figure is no limit; 0 forbids the model. " + `Models: ${[...found.ids.keys()].join(", ") || "none yet"}.` },
  ],
  toBody: (values, _row, found) => ({ ...values, limits: toLimits(values.limits ?? "", found) }),
  before: (row) => ({ ...row, limits: row.limits.map(({ router, type, value }) => ({ router, type, value })) }),
});

function limitsOf(row, names) {
  const lines = row.limits.map((limit) => `${names.get(limit.router) ?? limit.router} ${limit.type} ${limit.value === null ? "∞" : count(limit.value)}`);
  if (lines.length === 0) return "no model";
  if (lines.length <= 3) return lines.join(", ");
  return h("details", {}, h("summary", {}, `${lines.length} limits`), lines.map((line) => h("div", {}, line)));
}
