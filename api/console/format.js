// Figures and instants as people read them, always with their unit.

const LOCALE = "en-GB";
const WHOLE = new Intl.NumberFormat(LOCALE);

export const DASH = "–";

export function count(value) {
  return value === null || value === undefined ? DASH : WHOLE.format(value);
}

// A figure with enough digits to tell it from 0.
export function amount(value, digits = 3) {
  if (value === null || value === undefined) return DASH;
  if (value === 0) return "0";
  if (Math.abs(value) >= 1000) return WHOLE.format(Math.round(value));
  return new Intl.NumberFormat(LOCALE, { maximumSignificantDigits: digits }).format(value);
}

// Money, to the micro-unit that the ledger counts in.
export function money(value) {
  if (value === null || value === undefined) return DASH;
  return new Intl.NumberFormat(LOCALE, { minimumFractionDigits: 2, maximumFractionDigits: 6 }).format(value);
}

// "1.2 mg", "3.4 g", "5.6 kg" of CO2 equivalents.
export function grams(value) {
  if (value === null || value === undefined) return DASH;
  if (value === 0) return "0 g";
  for (const [unit, size] of [["kg", 1000], ["g", 1], ["mg", 1e-3], ["µg", 1e-6]]) {
    if (Math.abs(value) >= size) return `${amount(value / size)} ${unit}`;
  }
  return `${amount(value / 1e-9)} ng`;
}

export function energy(kwh) {
  if (kwh === null || kwh === undefined) return DASH;
  if (kwh === 0) return "0 Wh";
  if (kwh >= 1) return `${amount(kwh)} kWh`;
  return kwh >= 1e-3 ? `${amount(kwh * 1e3)} Wh` : `${amount(kwh * 1e6)} mWh`;
}

export function share(value) {
  return value === null || value === undefined ? DASH : `${amount(value * 100)} %`;
}

// "812 ms", "4.2 s", "3 min 5 s"
export function duration(ms) {
  if (ms === null || ms === undefined) return DASH;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${amount(ms / 1000)} s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}

export function bytes(value) {
  if (value === null || value === undefined) return DASH;
  if (value < 1000) return `${value} B`;
  return value < 1e6 ? `${amount(value / 1e3)} kB` : `${amount(value / 1e6)} MB`;
}

// Local time, such as 2026-11-22 14:03:07.
export function instant(seconds) {
  if (seconds === null || seconds === undefined) return DASH;
  const at = new Date(seconds * 1000);
  const two = (value) => String(value).padStart(2, "0");
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return `${day} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

export function words(name) {
  return name.replaceAll("_", " ");
}

// What has an id, by its name if it still has one.
export function named(name, id) {
  return name ?? (id === null || id === undefined ? DASH : `id ${id}`);
}
