// One prompt and its reply, with what the reply used.

import { h, link, replace } from "../dom.js";
import { count, grams, money } from "../format.js";
import { errorBox } from "../notice.js";
import { TERMINAL } from "../conversation.js";

// Return {element, update}; `update` shows the turn as it is now.
export function turnView(turn) {
  const text = h("p", { class: "said" });
  const reasoning = h("p", { class: "said muted" });
  const thought = h("details", { hidden: true }, h("summary", {}, "Reasoning"), reasoning);
  const after = h("div");
  const reply = h("div", { class: "reply" }, h("p", { class: "who-said" }, turn.job.model), thought, text, after);
  const element = h("article", { class: "turn", "data-job": turn.job.id },
    h("div", { class: "prompt" }, h("p", { class: "who-said" }, "You"), h("p", { class: "said" }, turn.prompt ?? "(removed)")), reply);

  function update() {
    const { job } = turn;
    const isOver = TERMINAL.has(job.status);
    if (text.textContent !== turn.text) text.textContent = turn.text;
    if (reasoning.textContent !== turn.reasoning) reasoning.textContent = turn.reasoning;
    thought.hidden = !turn.reasoning;
    reply.setAttribute("aria-busy", String(!isOver));
    replace(after, isOver ? ending(job) : null);
  }

  update();
  return { element, update };
}

function ending(job) {
  const problem = job.error && job.status !== "cancelled" ? errorBox(job.error) : null;
  return [problem, bill(job)];
}

function bill(job) {
  const used = job.usage;
  const parts = job.status === "completed" ? [] : [h("span", {}, `Reply ${job.status}`)];
  if (used) {
    parts.push(h("span", {}, `${count(used.prompt_tokens)} + ${count(used.completion_tokens)} tokens`), h("span", {}, `cost ${money(used.cost)}`), h("span", {}, carbon(used)));
  }
  return h("p", { class: "bill" }, parts, link("Job", `#/jobs/${job.id}`));
}

function carbon(used) {
  if (used.impacts.kWh === 0 && !used.cache) return "carbon not known";
  const range = used.carbon.kgCO2eq;
  return `${grams(used.impacts.kgCO2eq * 1000)} CO2e (${grams(range.min * 1000)} to ${grams(range.max * 1000)})`;
}
