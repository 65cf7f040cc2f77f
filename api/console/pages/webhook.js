// One webhook endpoint with its deliveries.

import { button, h, replace } from "../dom.js";
import { formDialog, secretDialog } from "../dialog.js";
import { changed } from "../form.js";
import { filterForm } from "../filters.js";
import { count, duration, instant } from "../format.js";
import { get, post, remove } from "../http.js";
import { attempt, emptyBox, notify } from "../notice.js";
import { keepFresh } from "../poll.js";
import { badge, cursorList, facts, idLink } from "../table.js";
import { deletion, endpointFields } from "./webhooks.js";

const STATES = ["pending", "delivering", "delivered", "failed", "exhausted", "paused", "aborted"];
const UNSETTLED = new Set(["pending", "delivering", "failed"]);
const path = (id, rest = "") => `/v1/webhook_endpoints/${encodeURIComponent(id)}${rest}`;

export async function renderWebhook(main, id, query, signal) {
  const types = (await get("/v1/webhook_event_types", { signal })).data;
  const place = { head: h("div", { class: "actions" }), title: h("h1", { tabindex: "-1" }, "Endpoint"), facts: h("div", { class: "panel" }), problems: h("div") };
  main.append(h("div", { class: "head" }, h("div", {}, place.title, h("p", { class: "lead mono" }, id)), place.head), place.problems, place.facts);
  const list = deliveries(id, query, signal, place);
  const show = (endpoint) => {
    place.title.textContent = endpoint.name;
    replace(place.head, actions(place, endpoint, types, show, list));
    replace(place.facts, facts(known(endpoint)));
  };
  show(await get(path(id), { signal }));
  main.append(h("h2", {}, "Deliveries"), filterForm(`webhooks/${encodeURIComponent(id)}`, [
    { name: "status", label: "State", kind: "select", options: [["", "Any"], ...STATES.map((one) => [one])] },
    { name: "event_type", label: "Event", kind: "select", options: [["", "Any"], ...types.map((one) => [one])] },
    { name: "created_after", label: "From", kind: "instant" },
    { name: "created_before", label: "Until", kind: "instant" },
  ], query), list.element);
  keepFresh(list, (one) => UNSETTLED.has(one.status), signal);
}

function known(endpoint) {
  return [
    ["State", badge(endpoint.status)], endpoint.disabled_reason ? ["Disabled because", endpoint.disabled_reason] : null,
    endpoint.resting_until ? ["Rests after failures until", instant(endpoint.resting_until)] : null,
    ["URL", endpoint.url], ["Description", endpoint.description], ["Events", endpoint.event_types.join(", ")],
    ["Kinds", endpoint.kinds?.join(", ") ?? "all"], ["With result", endpoint.include_result ? "yes" : "no"],
    ["Secret", h("code", {}, endpoint.signing_secret_hint)], ["Created", instant(endpoint.created_at)], ["Changed", instant(endpoint.updated_at)],
  ];
}

function actions(place, endpoint, types, show, list) {
  const guarded = (action) => () => attempt(place.problems, action);
  const toggle = endpoint.status === "enabled" ? "disable" : "enable";
  const test = async () => {
    const result = await post(path(endpoint.id, "/test"), { event_type: endpoint.event_types[0] });
    notify(result.success ? `The receiver answered ${result.status_code}.` : `That failed: the receiver answered ${result.status_code || "nothing"}.`);
    await list.refresh();
  };
  const recover = () => formDialog({
    title: "Send again what got lost", action: "Recover", lead: "Everything of this time that did not arrive, at most 14 days.",
    fields: [
      { name: "since", label: "From", kind: "instant", required: true, value: Math.floor(Date.now() / 1000) - 86_400 },
      { name: "until", label: "Until", kind: "instant" },
    ],
    save: async (values) => {
      const { matched } = await post(path(endpoint.id, "/recover"), values);
      notify(`${count(matched)} deliveries are sent again.`);
      await list.refresh();
    },
  });
  const rotate = () => formDialog({
    title: "New secret", action: "Rotate", lead: "Receivers must know the new secret once the old one ends.",
    fields: [{ name: "keep_old_secret_active_for_24_hours", label: "Both sign for 24 hours", kind: "checkbox", value: true }],
    save: async (values) => {
      const made = await post(path(endpoint.id, "/rotate_secret"), values);
      show(await get(path(endpoint.id)));
      secretDialog({ title: "New secret", text: "With this secret the receiver checks signatures.", secret: made.signing_secret });
    },
  });
  const edit = () => formDialog({
    title: "Change the endpoint", fields: endpointFields(types, endpoint), action: "Save",
    save: async (values) => show(await post(path(endpoint.id), changed(values, endpoint))),
  });
  return [
    button("Send a test", guarded(test)), button("Edit", edit),
    button(toggle === "enable" ? "Enable" : "Disable", guarded(async () => show(await post(path(endpoint.id, `/${toggle}`))))),
    button("Recover", recover), button("Rotate secret", rotate),
    button("Delete", () => deletion(endpoint, async () => {
      await remove(path(endpoint.id));
      location.hash = "#/webhooks";
    }), { class: "danger" }),
  ];
}

function deliveries(id, query, signal, place) {
  const redeliver = (one) => attempt(place.problems, async () => {
    await post(`/v1/webhook_deliveries/${encodeURIComponent(one.id)}/redeliver`);
    notify("It is sent again.");
    await list.refresh();
  });
  const columns = [
    { name: "Delivery", head: true, cell: (one) => idLink(one.id, `#/webhooks/deliveries/${one.id}`) },
    { name: "Event", cell: (one) => one.event_type },
    { name: "State", cell: (one) => badge(one.status) },
    { name: "Created", cell: (one) => instant(one.created_at) },
    { name: "Tries", numeric: true, cell: (one) => count(one.attempts.length) },
    { name: "Last answer", cell: (one) => answer(one.attempts.at(-1)) },
    { name: "Next try", cell: (one) => instant(one.next_attempt_at) },
    { name: "Actions", kind: "doing", cell: (one) => button("Redeliver", () => redeliver(one), { "aria-label": `Redeliver ${one.id}` }) },
  ];
  const list = cursorList({
    path: path(id, "/deliveries"), query: Object.fromEntries(query), caption: "Deliveries", columns, signal,
    empty: emptyBox("Nothing was sent that matches. “Send a test” tries whether the receiver answers."),
  });
  return list;
}

export function answer(attempted) {
  if (!attempted) return "–";
  return `${attempted.status_code ?? attempted.error_class ?? "–"}, ${duration(attempted.latency_ms)}`;
}
