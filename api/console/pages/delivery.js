// One delivery: its tries and what was sent.

import { button, h, link, replace } from "../dom.js";
import { duration, instant } from "../format.js";
import { post } from "../http.js";
import { attempt, emptyBox, notify, showError } from "../notice.js";
import { watch } from "../poll.js";
import { badge, facts, table } from "../table.js";

const UNSETTLED = new Set(["pending", "delivering", "failed"]);
const TRIES = [
  { name: "No.", head: true, cell: (one) => String(one.number) },
  { name: "Why", cell: (one) => one.trigger },
  { name: "Started", cell: (one) => instant(one.started_at) },
  { name: "Took", numeric: true, cell: (one) => duration(one.latency_ms) },
  { name: "Answer", numeric: true, cell: (one) => one.status_code ?? "–" },
  { name: "Error", cell: (one) => h("span", { class: "wrap" }, one.error ? `${one.error_class}: ${one.error}` : "") },
  { name: "Address", cell: (one) => one.remote_address ?? "–" },
  { name: "Begin of the answer", cell: (one) => h("span", { class: "wrap" }, one.response_snippet ?? "") },
];

export function renderDelivery(main, id, signal) {
  const place = { problems: h("div"), facts: h("div", { class: "panel" }), tries: h("div"), body: h("div") };
  const path = `/v1/webhook_deliveries/${encodeURIComponent(id)}`;
  const show = (delivery) => {
    replace(place.facts, facts([
      ["State", badge(delivery.status)], ["Event", delivery.event_type], ["Event id", h("span", { class: "mono" }, delivery.event_id)],
      ["Endpoint", link(delivery.webhook_endpoint_id, `#/webhooks/${delivery.webhook_endpoint_id}`, { class: "mono" })],
      ["Created", instant(delivery.created_at)], ["Delivered", instant(delivery.delivered_at)], ["Next try", instant(delivery.next_attempt_at)],
    ]));
    replace(place.tries, delivery.attempts.length ? table({ caption: "Tries", columns: TRIES, rows: delivery.attempts }) : emptyBox("Not tried yet."));
    replace(place.body, h("pre", { tabindex: "0", "aria-label": "Body" }, indented(delivery.request_body)));
  };
  let following = null;
  const follow = () => {
    following ??= watch(path, show, (delivery) => !UNSETTLED.has(delivery.status), signal, 1000)
      .catch((error) => showError(place.problems, error)).finally(() => {
        following = null;
      });
    return following;
  };
  const redeliver = () => attempt(place.problems, async () => {
    await post(`${path}/redeliver`);
    notify("It is sent again.");
    await follow();
  });
  main.append(
    h("div", { class: "head" }, h("div", {}, h("h1", { tabindex: "-1" }, "Delivery"), h("p", { class: "lead mono" }, id)),
      h("div", { class: "actions" }, button("Redeliver", redeliver, { class: "primary" }))),
    place.problems, place.facts, h("h2", {}, "Tries"), place.tries, h("h2", {}, "Body"), place.body);
  follow();
}

function indented(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text ?? "";
  }
}
