// Jobs: the caller's own, newest first, with what waits in the queue.

import { h, replace } from "../dom.js";
import { filterForm } from "../filters.js";
import { count, duration, instant, money, words } from "../format.js";
import { TERMINAL } from "../conversation.js";
import { get } from "../http.js";
import { emptyBox } from "../notice.js";
import { keepFresh } from "../poll.js";
import { badge, cursorList, facts, idLink } from "../table.js";
import { renderJob } from "./job.js";

export const title = "Jobs";

const STATES = ["queued", "in_progress", "completed", "incomplete", "failed", "cancelled", "expired"];
const FILTERS = [
  { name: "status", label: "State", kind: "select", options: [["", "Any"], ...STATES.map((one) => [one, words(one)])] },
  { name: "kind", label: "Kind", placeholder: "chat.completion" },
  { name: "model", label: "Model" },
  { name: "band", label: "Band", kind: "select", options: [["", "Any"], ["interactive"], ["background"], ["batch"]] },
  { name: "batch_id", label: "Batch", placeholder: "batch_…" },
  { name: "custom_id", label: "Custom id" },
  { name: "created_after", label: "Created after", kind: "instant" },
  { name: "created_before", label: "Created before", kind: "instant" },
];
const COLUMNS = [
  { name: "Job", head: true, cell: (job) => idLink(job.id, `#/jobs/${job.id}`) },
  { name: "State", cell: (job) => badge(job.status) },
  { name: "Kind", cell: (job) => job.kind },
  { name: "Model", cell: (job) => h("span", { class: "clip", title: job.model }, job.model) },
  { name: "Band", cell: (job) => job.band },
  { name: "Created", cell: (job) => instant(job.created_at) },
  { name: "Took", numeric: true, cell: took },
  { name: "Tries", numeric: true, cell: (job) => `${job.attempt}/${job.max_attempts}` },
  { name: "Tokens", numeric: true, cell: (job) => count(job.usage?.total_tokens) },
  { name: "Cost", numeric: true, cell: (job) => money(job.usage?.cost) },
  { name: "Error", cell: (job) => job.error?.code ?? "" },
];

// Instants of jobs are whole seconds.
function took(job) {
  if (job.completed_at === null) return "–";
  const seconds = job.completed_at - job.created_at;
  return seconds === 0 ? "< 1 s" : duration(seconds * 1000);
}

export async function render(main, { rest, query, signal }) {
  if (rest[0]) return renderJob(main, rest[0], signal);
  const queue = h("div", { class: "panel" });
  main.append(h("h1", { tabindex: "-1" }, title),
    h("p", { class: "lead" }, "Every request of yours, as long as its result is kept. What is unfinished is shown live."),
    queue, filterForm("jobs", FILTERS, query));
  const list = cursorList({
    path: "/v1/jobs", query: filterForm.query(query), caption: "Jobs", columns: COLUMNS, signal,
    empty: emptyBox("No job matches. Every request to a model becomes one: send a prompt in the playground, or a batch."),
  });
  main.append(list.element);
  await showQueue(queue, signal);
  keepFresh(list, (job) => !TERMINAL.has(job.status), signal, () => showQueue(queue, signal));
}

async function showQueue(place, signal) {
  try {
    const queue = await get("/v1/queue", { signal });
    replace(place, facts([
      ["Waiting", count(queue.depth)], ["Running", count(queue.in_progress)],
      ["Waits longest", queue.depth ? duration(queue.oldest_queued_seconds * 1000) : "–"],
      ...queue.bands.map((band) => [`Waiting, ${band.band}`, count(band.queued)]),
    ], "dense"));
  } catch {
    place.hidden = true;  // without the queue the list is still of use
  }
}
