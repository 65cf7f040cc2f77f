// Webhook endpoints, and what was sent to them.

import { button, h, link } from "../dom.js";
import { confirmDialog, formDialog, secretDialog } from "../dialog.js";
import { filled } from "../form.js";
import { instant } from "../format.js";
import { get, post } from "../http.js";
import { emptyBox } from "../notice.js";
import { badge, cursorList } from "../table.js";
import { renderDelivery } from "./delivery.js";
import { renderWebhook } from "./webhook.js";

export const title = "Webhooks";

const COLUMNS = [
  { name: "Name", head: true, cell: (one) => link(one.name, `#/webhooks/${one.id}`) },
  { name: "State", cell: (one) => badge(one.status) },
  { name: "URL", cell: (one) => h("span", { class: "clip", title: one.url }, one.url) },
  { name: "Events", cell: (one) => h("span", { class: "clip", title: one.event_types.join(", ") }, one.event_types.join(", ")) },
  { name: "Secret", cell: (one) => h("code", {}, one.signing_secret_hint) },
  { name: "Created", cell: (one) => instant(one.created_at) },
];

export async function render(main, { rest, query, signal }) {
  if (rest[0] === "deliveries" && rest[1]) return renderDelivery(main, rest[1], signal);
  if (rest[0]) return renderWebhook(main, rest[0], query, signal);
  const types = (await get("/v1/webhook_event_types", { signal })).data;
  const list = cursorList({
    path: "/v1/webhook_endpoints", caption: "Webhook endpoints", columns: COLUMNS, signal,
    empty: emptyBox("No endpoint yet. One that you add is told when jobs and batches are over.", button("New endpoint", () => create(types))),
  });
  main.append(h("div", { class: "head" },
    h("div", {}, h("h1", { tabindex: "-1" }, title), h("p", { class: "lead" }, "Receivers that are told of what becomes of jobs and batches, signed, at least once.")),
    h("div", { class: "actions" }, button("New endpoint", () => create(types), { class: "primary" }))), list.element);
}

export function endpointFields(types, endpoint) {
  return [
    { name: "name", label: "Name", required: true, value: endpoint?.name },
    { name: "url", label: "URL", required: true, value: endpoint?.url, placeholder: "https://example.com/hooks" },
    { name: "description", label: "Description", value: endpoint?.description },
    { name: "event_types", label: "Events", kind: "checks", options: types.map((one) => [one]), value: endpoint?.event_types ?? ["job.completed", "job.failed", "batch.completed", "batch.failed"].filter((one) => types.includes(one)) },
    { name: "include_result", label: "Send results of up to 256 kB along", kind: "checkbox", value: endpoint?.include_result },
  ];
}

function create(types) {
  formDialog({
    title: "New endpoint", fields: endpointFields(types), action: "Create",
    save: async (values) => {
      const made = await post("/v1/webhook_endpoints", filled(values));
      location.hash = `#/webhooks/${made.id}`;
      secretDialog({ title: `Endpoint “${made.name}”`, text: "With this secret the receiver checks signatures (Standard Webhooks).", secret: made.signing_secret });
    },
  });
}

export function deletion(endpoint, run) {
  confirmDialog({ title: "Delete the endpoint?", text: `Nothing is sent to “${endpoint.name}” any more, and its deliveries are gone.`, action: "Delete", run });
}
