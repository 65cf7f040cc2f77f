// One batch: progress, lines, results as files.

import { button, h, link, replace } from "../dom.js";
import { count, grams, instant, money, words } from "../format.js";
import { post } from "../http.js";
import { attempt, emptyBox, notify, showError } from "../notice.js";
import { watch } from "../poll.js";
import { downloadLarge } from "../saving.js";
import { badge, cursorList, facts, idLink, table } from "../table.js";

const OVER = new Set(["completed", "failed", "expired", "cancelled"]);
const path = (id, rest = "") => `/v1/batches/${encodeURIComponent(id)}${rest}`;

export function renderBatch(main, id, signal) {
  const place = {
    head: h("div", { class: "actions" }), problems: h("div"), progress: h("div", { class: "panel" }), facts: h("div", { class: "panel" }),
    requests: h("section"), lines: h("div"),
  };
  const bar = h("progress", { max: "1", value: "0", "aria-label": "Requests that are over" });
  const said = h("p", { class: "muted", role: "status" });
  main.append(
    h("div", { class: "head" }, h("div", {}, h("h1", { tabindex: "-1" }, "Batch"), h("p", { class: "lead mono" }, id)), place.head),
    place.problems, place.progress, place.facts, place.requests);
  place.progress.append(bar, said);
  place.requests.append(h("h2", {}, "Requests"), place.lines);
  const lines = showLines(place.lines, id, signal);
  let shown = "";
  watch(path(id), (batch) => {
    const text = JSON.stringify(batch);
    if (text === shown) return;
    shown = text;
    place.progress.hidden = place.requests.hidden = hasNothing(batch);
    showProgress(bar, said, batch);
    replace(place.head, actions(place, batch));
    replace(place.facts, faults(batch), facts(known(batch)));
    lines();
  }, (batch) => OVER.has(batch.status), signal).catch((error) => showError(place.problems, error));
}

// Return whether the batch ended without any request, for instance since its file has faults.
function hasNothing(batch) {
  return OVER.has(batch.status) && batch.request_counts.total === 0;
}

function showProgress(bar, said, batch) {
  const { counts } = batch.sluice;
  const over = counts.completed + counts.failed + counts.cancelled + counts.expired;
  const { total } = batch.request_counts;
  bar.value = total ? over / total : OVER.has(batch.status) ? 1 : 0;
  const parts = Object.entries(counts).filter(([, value]) => value).map(([name, value]) => `${count(value)} ${words(name)}`);
  said.textContent = `${count(over)} of ${count(total)} are over${parts.length ? `: ${parts.join(", ")}` : ""}.`;
}

function actions(place, batch) {
  const save = (text, url, name, accept) => button(text, () => attempt(place.problems, () => downloadLarge(url, name, accept)));
  const file = (id) => `/v1/files/${encodeURIComponent(id)}/content`;
  const isOver = OVER.has(batch.status);
  const cancel = () => attempt(place.problems, async () => {
    await post(path(batch.id, "/cancel"));
    notify("The batch is being cancelled; what is done stays.");
  });
  const retry = () => attempt(place.problems, async () => {
    const again = await post(path(batch.id, "/retry"), { statuses: ["failed", "cancelled", "expired"] });
    location.hash = `#/batches/${again.id}`;
  });
  const { counts } = batch.sluice;
  return [
    isOver ? null : button("Cancel", cancel, { class: "danger", disabled: batch.status === "cancelling" }),
    isOver && counts.failed + counts.cancelled + counts.expired ? button("Retry what did not succeed", retry, { class: "primary" }) : null,
    batch.output_file_id ? save("Download output", file(batch.output_file_id), `${batch.id}_output.jsonl`) : null,
    batch.error_file_id ? save("Download errors", file(batch.error_file_id), `${batch.id}_errors.jsonl`) : null,
    batch.request_counts.total ? save(isOver ? "Download all results" : "Download results so far", path(batch.id, "/results"), `${batch.id}_results.jsonl`) : null,
  ].filter(Boolean);
}

function known(batch) {
  const { carbon, estimated_completion_at: estimate, starts_at: starts, retry_of: before } = batch.sluice;
  return [
    ["State", badge(batch.status)], ["Endpoint", batch.endpoint], ["Model", batch.model], ["Window", batch.completion_window],
    ["Created", instant(batch.created_at)], starts ? ["Starts", instant(starts)] : null, ["Ends by", instant(batch.expires_at)],
    OVER.has(batch.status) ? ["Ended", instant(batch.completed_at ?? batch.cancelled_at ?? batch.expired_at ?? batch.failed_at)] : ["Expected end", instant(estimate)],
    ["Tokens", `${count(batch.usage.input_tokens)} in, ${count(batch.usage.output_tokens)} out`], ["Cost", money(batch.sluice.cost)],
    carbon ? ["Carbon", `${grams(carbon.actual_gco2eq)} CO2e (at once: ${grams(carbon.baseline_gco2eq)})`] : null,
    before ? ["Retry of", link(before, `#/batches/${before}`, { class: "mono" })] : null,
    batch.metadata ? ["Metadata", Object.entries(batch.metadata).map(([name, value]) => `${name}=${value}`).join(", ")] : null,
  ];
}

function faults(batch) {
  const found = batch.errors?.data ?? [];
  if (!found.length) return null;
  const columns = [
    { name: "Line", head: true, numeric: true, cell: (one) => one.line ?? "–" }, { name: "Code", cell: (one) => h("code", {}, one.code) },
    { name: "What is wrong", cell: (one) => h("span", { class: "wrap" }, one.message) },
  ];
  return [h("h2", {}, "Nothing ran: the file has faults"), table({ caption: "Faults of the file", columns, rows: found }), h("h2", {}, "About it")];
}

const COLUMNS = [
  { name: "Line", head: true, numeric: true, cell: (one) => count(one.line) },
  { name: "Custom id", cell: (one) => h("span", { class: "clip", title: one.custom_id }, one.custom_id) },
  { name: "State", cell: (one) => badge(one.status) },
  { name: "Job", cell: (one) => idLink(one.job_id, `#/jobs/${one.job_id}`) },
  { name: "Tokens", numeric: true, cell: (one) => count(one.usage?.total_tokens) },
  { name: "Error", cell: (one) => h("span", { class: "wrap" }, one.error ? `${one.error.code}: ${one.error.message}` : "") },
];

// Show the lines, all of them or those in one state; returns what reads them anew.
function showLines(place, id, signal) {
  const select = h("select", { id: "line-state" }, [["", "Any"], ["queued"], ["in_progress", "in progress"], ["completed"], ["failed"], ["cancelled"], ["expired"]]
    .map(([value, text]) => h("option", { value }, text ?? value)));
  const found = h("div");
  let list;
  const show = () => {
    list = cursorList({
      path: path(id, "/requests"), query: { status: select.value }, caption: "Requests of the batch", columns: COLUMNS, signal,
      empty: emptyBox("No request here: the file is being read, or none is in this state."),
    });
    replace(found, list.element);
  };
  select.addEventListener("change", show);
  replace(place, h("div", { class: "filters" }, h("div", { class: "field" }, h("label", { for: "line-state" }, "State"), select)), found);
  show();
  return () => list.refresh();
}
