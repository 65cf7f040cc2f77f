// What a chat may be asked for besides its messages.  Kept for this tab, without the prompts.

import { h } from "../dom.js";
import { field, filled, readFields } from "../form.js";

const NAME = "sluice.parameters";

// Return {element, read, set}.
export function makeParameters(models) {
  const kept = load();
  const first = [
    { name: "model", label: "Model", kind: "select", options: models.map((model) => [model.id, model.id]), value: kept.model },
    { name: "max_tokens", label: "Max tokens", kind: "integer", min: 1, value: kept.max_tokens ?? 512 },
    { name: "system", label: "System prompt", kind: "textarea", rows: 3 },
  ];
  const pair = [
    { name: "temperature", label: "Temperature", kind: "number", min: 0, max: 2, value: kept.temperature },
    { name: "top_p", label: "Top p", kind: "number", min: 0, max: 1, value: kept.top_p },
    { name: "seed", label: "Seed", kind: "integer", value: kept.seed },
    { name: "frequency_penalty", label: "Freq. penalty", kind: "number", min: -2, max: 2, value: kept.frequency_penalty },
  ];
  const more = [
    { name: "stop", label: "Stop at", hint: "Texts, separated by commas.", isList: true, value: (kept.stop ?? []).join(", ") },
    { name: "extra", label: "Other members", kind: "json", rows: 3, placeholder: "{\"reasoning_effort\": \"low\"}", hint: "A JSON object that is added to the body.", value: kept.extra ? JSON.stringify(kept.extra) : "" },
  ];
  const all = [...first, ...pair, ...more];
  const element = h("form", { class: "params" }, first.map(field),
    h("details", {}, h("summary", {}, "More parameters"), h("div", { class: "params" }, h("div", { class: "pair" }, pair.map(field)), more.map(field))));
  element.addEventListener("submit", (event) => event.preventDefault());

  function read() {
    const { model, system, extra, ...others } = readFields(element, all);
    if (!model) throw new Error("There is no model to ask.");
    if (extra !== null && (typeof extra !== "object" || Array.isArray(extra))) throw new Error("“Other members” is no JSON object.");
    const parameters = filled(others);
    sessionStorage.setItem(NAME, JSON.stringify({ ...parameters, model, extra }));
    return { model, system, parameters: { ...parameters, ...extra } };
  }

  function set(model, system) {
    if (models.some((one) => one.id === model)) element.elements.namedItem("model").value = model;
    element.elements.namedItem("system").value = system;
  }

  return { element, read, set };
}

function load() {
  try {
    return JSON.parse(sessionStorage.getItem(NAME)) ?? {};
  } catch {
    return {};
  }
}
