// Forms: fields as data, read back as the API wants them.
// A field: {name, label, kind, value, hint, required, stays, options: [[value, text]], min, max, step, placeholder}.

import { h, newId } from "./dom.js";

export function field(spec) {
  if (spec.kind === "checks") return checks(spec);
  const id = newId("field");
  const hint = spec.hint ? newId("hint") : null;
  const shared = { id, name: spec.name, "aria-describedby": hint, required: spec.required };
  const label = h("label", { for: id }, spec.label, spec.required ? h("span", { class: "muted" }, " (required)") : null);
  const input = control(spec, shared);
  const note = hint ? h("p", { id: hint, class: "hint" }, spec.hint) : null;
  if (spec.kind === "checkbox") return h("div", { class: "field check" }, input, label, note);
  return h("div", { class: "field" }, label, input, note);
}

function control(spec, shared) {
  if (spec.kind === "select") {
    const select = h("select", shared, spec.options.map(([value, text]) => h("option", { value }, text ?? value)));
    const value = spec.value ?? spec.options[0]?.[0] ?? "";
    select.value = String(value);
    return select;
  }
  if (spec.kind === "checkbox") {
    const input = h("input", { ...shared, type: "checkbox" });
    input.checked = Boolean(spec.value);
    return input;
  }
  if (spec.kind === "textarea" || spec.kind === "json") {
    const area = h("textarea", { ...shared, rows: spec.rows ?? 4, placeholder: spec.placeholder, spellcheck: spec.kind === "json" ? "false" : null });
    area.value = spec.value ?? "";
    return area;
  }
  const type = { number: "number", integer: "number", instant: "datetime-local" }[spec.kind] ?? spec.kind ?? "text";
  const step = spec.step ?? (spec.kind === "number" ? "any" : spec.kind === "instant" ? "1" : null);
  const input = h("input", {
    ...shared, type, step, min: spec.min, max: spec.max, minlength: spec.minlength, placeholder: spec.placeholder,
    autocomplete: spec.autocomplete ?? "off", accept: spec.accept,
  });
  if (type !== "file") input.value = spec.kind === "instant" ? toLocal(spec.value) : spec.value ?? "";
  return input;
}

function checks(spec) {
  const chosen = new Set(spec.value ?? []);
  const boxes = spec.options.map(([value, text]) => {
    const id = newId("check");
    const input = h("input", { id, type: "checkbox", name: spec.name, value });
    input.checked = chosen.has(value);
    return h("div", { class: "check" }, input, h("label", { for: id }, text ?? value));
  });
  return h("fieldset", { class: "field checks" }, h("legend", {}, spec.label),
    spec.hint ? h("p", { class: "hint" }, spec.hint) : null, h("div", { class: "boxes" }, boxes));
}

// Return {name: value} of a form; what is empty is null.  Raises Error for what is no JSON.
export function readFields(form, fields) {
  const found = {};
  for (const spec of fields) {
    if (spec.kind === "checks") {
      found[spec.name] = [...form.querySelectorAll(`input[name="${spec.name}"]`)].filter((one) => one.checked).map((one) => one.value);
    } else {
      found[spec.name] = readOne(form.elements.namedItem(spec.name), spec);
    }
  }
  return found;
}

function readOne(input, spec) {
  if (spec.kind === "checkbox") return input.checked;
  if (spec.kind === "file") return input.files[0] ?? null;
  const text = spec.kind === "password" ? input.value : input.value.trim();
  if (text === "") return null;
  if (spec.kind === "number" || spec.kind === "integer" || spec.isNumber) return Number(text);
  if (spec.kind === "instant") return Math.floor(new Date(text).getTime() / 1000);
  if (spec.kind === "json") return parse(text, spec.label);
  if (spec.isList) return text.split(/[\n,]/).map((one) => one.trim()).filter(Boolean);
  return text;
}

function parse(text, label) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`“${label}” is not JSON: ${error.message}`);
  }
}

function toLocal(seconds) {
  const at = new Date(seconds * 1000);
  if (!seconds || Number.isNaN(at.getTime())) return "";  // an address may hold anything
  return new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}

// Return only what has a value: the body of a creation.
export function filled(values) {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== null && !(Array.isArray(value) && value.length === 0)));
}

// Return only what differs from before: the body of a change.  Raises Error for an emptied field that is required or `stays`, since
// there null means no change.
export function changed(values, before, fields = []) {
  const same = (one, other) => JSON.stringify(one ?? null) === JSON.stringify(other ?? null);
  const found = Object.fromEntries(Object.entries(values).filter(([name, value]) => !same(value, before[name])));
  const emptied = fields.find((spec) => (spec.required || spec.stays) && found[spec.name] === null);
  if (emptied) throw new Error(`“${emptied.label}” can be changed, but not emptied.`);
  return found;
}
