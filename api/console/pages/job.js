// One job: its state as it changes, its output as it comes, attempts, request and result.

import { button, h, link, replace } from "../dom.js";
import { count, duration, energy, grams, instant, money, words } from "../format.js";
import { TERMINAL } from "../conversation.js";
import { get, post } from "../http.js";
import { followJob } from "../follow.js";
import { attempt, emptyBox, errorBox, notify, showError } from "../notice.js";
import { watchVersions } from "../poll.js";
import { downloadAny } from "../saving.js";
import { badge, facts, table } from "../table.js";

const HAS_RESULT = new Set(["completed", "incomplete"]);
const RETRIED = new Set(["failed", "cancelled", "expired"]);
const path = (id, rest = "") => `/v1/jobs/${encodeURIComponent(id)}${rest}`;

export async function renderJob(main, id, signal) {
  const place = { head: h("div", { class: "actions" }), facts: h("div", { class: "panel" }), problems: h("div"), output: h("div"), attempts: h("div") };
  main.append(
    h("div", { class: "head" }, h("div", {}, h("h1", { tabindex: "-1" }, "Job"), h("p", { class: "lead mono" }, id)), place.head),
    place.problems, place.facts, h("h2", {}, "Output"), place.output, h("h2", {}, "Attempts"), place.attempts);
  const state = { isFollowed: false };
  watchVersions(path(id), (job) => showJob(place, job, state, signal), (job) => TERMINAL.has(job.status), signal)
    .catch((error) => showError(place.problems, error));
}

function showJob(place, job, state, signal) {
  replace(place.head, actions(place, job));
  replace(place.facts, job.error ? errorBox(job.error) : null, facts(known(job)));
  showAttempts(place.attempts, job, signal);
  if (state.isFollowed) return;
  state.isFollowed = true;
  showOutput(place.output, job, signal);
}

function actions(place, job) {
  const isOver = TERMINAL.has(job.status);
  const cancel = () => attempt(place.problems, async () => {
    await post(path(job.id, "/cancel"));
    notify("The job is being cancelled.");
  });
  const retry = () => attempt(place.problems, async () => {
    const again = await post(path(job.id, "/retry"));
    location.hash = `#/jobs/${again.id}`;
  });
  return [
    isOver ? null : button("Cancel", cancel, { class: "danger", disabled: job.cancel_requested_at !== null }),
    RETRIED.has(job.status) ? button("Retry", retry, { class: "primary" }) : null,
    HAS_RESULT.has(job.status) ? button("Download result", () => attempt(place.problems, () => downloadAny(path(job.id, "/result"), job.id))) : null,
    link("Request log", `#/logs?job_id=${encodeURIComponent(job.id)}`, { class: "button" }),
  ].filter(Boolean);
}

function known(job) {
  const used = job.usage;
  const other = (id) => (id ? link(id, `#/jobs/${id}`, { class: "mono" }) : null);
  return [
    ["State", badge(job.status)], ["Kind", job.kind], ["Model", job.model], ["Band", job.band],
    ["Created", instant(job.created_at)], ["Started", instant(job.started_at)], ["Ended", instant(job.completed_at)],
    ["Attempts", `${job.attempt} of ${job.max_attempts}`],
    job.queue_position === null ? null : ["Position in the queue", count(job.queue_position)],
    job.next_attempt_at === null ? null : ["Next attempt", instant(job.next_attempt_at)],
    ["Tokens", used ? `${count(used.prompt_tokens)} in, ${count(used.completion_tokens)} out` : null],
    ["Cost", money(used?.cost)], ["Energy", energy(used?.impacts.kWh)], ["Carbon", used ? `${grams(used.impacts.kgCO2eq * 1000)} CO2e` : null],
    ["Result kept until", instant(job.result_expires_at)], ["Custom id", job.custom_id],
    job.batch_id ? ["Batch", link(job.batch_id, `#/batches/${job.batch_id}`, { class: "mono" })] : null,
    job.retry_of ? ["Retry of", other(job.retry_of)] : null, job.retried_by ? ["Retried by", other(job.retried_by)] : null,
    job.dropped_params.length ? ["Dropped parameters", job.dropped_params.join(", ")] : null,
    Object.keys(job.metadata).length ? ["Metadata", Object.entries(job.metadata).map(([name, value]) => `${name}=${value}`).join(", ")] : null,
    ["Request id", h("span", { class: "mono" }, job.request_id)],
  ];
}

// The events of a job that streams are its output; the others have a result at the end.
async function showOutput(place, job, signal) {
  const text = h("pre", { class: "output", tabindex: "0", role: "log", "aria-label": "Output", "aria-live": "off" });
  const events = h("p", { class: "muted", role: "status" }, "Waiting for events …");
  let last = "";
  replace(place, events);
  try {
    const end = await followJob(job.id, ({ event, data }) => {
      if (event === "job.restarted") text.textContent = "";
      if (event !== null) last = event.replace("job.", "");
      const more = event === null ? piece(data) : "";
      if (more) text.append(more);
      if (more && !text.isConnected) place.append(text);
      events.textContent = `Last event: ${words(last)}`;
    }, signal);
    const status = end?.status ?? job.status;
    if (text.isConnected) events.textContent = `Streamed; ${words(status)}.`;
    else if (HAS_RESULT.has(status)) await showResult(place, job, signal);
    else replace(place, emptyBox("It produced no output."));
  } catch (error) {
    showError(place, error);
  }
}

function piece(chunk) {
  const choice = chunk.choices?.[0];
  if (choice) return choice.delta?.content ?? choice.text ?? "";
  return chunk.type === "response.output_text.delta" ? chunk.delta : "";
}

async function showResult(place, job, signal) {
  if (job.kind === "audio.speech") return replace(place, emptyBox("The result is sound: download it."));
  const result = await get(path(job.id, "/result"), { signal });
  const shown = JSON.stringify(result, null, 2);
  const isCut = shown.length > 20_000;
  replace(place, h("pre", { class: "output", tabindex: "0" }, isCut ? `${shown.slice(0, 20_000)}\n… (download it to see all)` : shown));
}

async function showAttempts(place, job, signal) {
  try {
    const { data } = await get(path(job.id, "/attempts"), { signal });
    replace(place, data.length ? table({ caption: "Attempts", columns: ATTEMPTS, rows: data }) : emptyBox("Not tried yet."));
  } catch (error) {
    showError(place, error);
  }
}

const ATTEMPTS = [
  { name: "No.", head: true, cell: (one) => String(one.number) },
  { name: "State", cell: (one) => badge(one.status) },
  { name: "Provider", cell: (one) => (one.provider_id === null ? "–" : `${one.provider_id}, ${one.provider_type}, ${one.provider_model}`) },
  { name: "HTTP", numeric: true, cell: (one) => one.http_status ?? "–" },
  { name: "First token", numeric: true, cell: (one) => duration(one.ttft_ms) },
  { name: "Latency", numeric: true, cell: (one) => duration(one.latency_ms) },
  { name: "Tokens", numeric: true, cell: (one) => `${count(one.usage.total_tokens)}${one.usage.estimated ? " est." : ""}` },
  { name: "Cost", numeric: true, cell: (one) => money(one.cost) },
  { name: "Carbon", numeric: true, cell: (one) => (one.footprint ? grams((one.footprint.operational_kgCO2eq + one.footprint.embodied_kgCO2eq) * 1000) : "–") },
  { name: "Error", cell: (one) => h("span", { class: "wrap" }, one.error?.message ?? "") },
];
