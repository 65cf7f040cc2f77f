// Usage and carbon: sums of the ledger over time, as charts and as the same figures in a table.

import { MOST_SERIES, barChart } from "../chart.js";
import { button, h, link } from "../dom.js";
import { filterForm } from "../filters.js";
import { DASH, amount, count, energy, grams, money, share } from "../format.js";
import { get, withQuery } from "../http.js";
import { attempt, emptyBox } from "../notice.js";
import { download } from "../saving.js";
import { hasPermission, isAdmin, session } from "../session.js";
import { table } from "../table.js";

export const title = "Usage and carbon";

const GROUPS = [["model", "Model"], ["provider", "Provider"], ["key", "Key"]];
const USER = ["user", "User"];
const FOR_MANY = { "": [["organization", "Organization"], USER], organization: [USER], own: [] };
const ONLY = [
  { name: "organization", label: "Only organization", placeholder: "Name or id", of: [""] },
  { name: "user", label: "Only user", placeholder: "Email or id", of: ["", "organization"] },
  { name: "key", label: "Only key", placeholder: "Name or id" },
  { name: "provider_id", label: "Only provider", kind: "integer", min: 0, placeholder: "Id" },
];
const PATHS = { "": "/v1/admin/usage/report", organization: "/v1/organization/usage/report", own: "/v1/usage/report" };

export async function render(main, { query, signal }) {
  const asked = { period: "day", group_by: "model", ...Object.fromEntries(query) };
  const of = kinds().find(([name]) => name === (asked.of ?? ""))?.[0] ?? "own";
  delete asked.of;
  if (asked.group_by === "none") delete asked.group_by;
  const more = ONLY.filter((one) => !one.of || one.of.includes(of));
  for (const one of ONLY) if (!more.includes(one)) delete asked[one.name];
  const path = withQuery(PATHS[of], asked);
  const problems = h("div");
  const csv = button("Export CSV", () => attempt(problems, () => download(path, "usage.csv", "text/csv")));
  main.append(h("h1", { tabindex: "-1" }, title),
    h("p", { class: "lead" }, "Added up from the ledger. Carbon is an estimate with a 90 % range; days are those of UTC."),
    filterForm("usage", fields(of), query, { more, actions: [csv] }), problems);
  const report = await get(path, { signal });
  main.append(h("p", { class: "muted" }, daysOf(report, asked)));
  if (report.total.attempts === 0) {
    main.append(emptyBox("Nothing was used in this time. Choose another one, or send something.", link("To the playground", "#/playground")));
    return;
  }
  main.append(tiles(report.total), charts(report.data, asked), h("h2", {}, "Figures"), figures(report, asked));
}

// Return whose usage the visitor may see, the first choice first.
function kinds() {
  const found = [["own", "My own"]];
  if (hasPermission("read_organization_usage") && session().user.organization) found.push(["organization", "My organization"]);
  return isAdmin() ? [["", "Everybody"], ...found] : found;
}

function fields(of) {
  const groups = [...GROUPS, ...FOR_MANY[of], ["none", "Nothing"]];
  return [
    kinds().length > 1 ? { name: "of", label: "Usage of", kind: "select", options: kinds() } : null,
    { name: "since", label: "From", kind: "date" },
    { name: "until", label: "Until", kind: "date" },
    { name: "period", label: "By", kind: "select", options: [["day", "Day"], ["month", "Month"]] },
    { name: "group_by", label: "Grouped by", kind: "select", options: groups },
    { name: "model", label: "Only model" },
  ].filter(Boolean);
}

function daysOf({ since, until }, asked) {
  const why = asked.since || asked.until ? "" : ": the current month, since no days are chosen";
  return `${since} to ${until}${why}.`;
}

function tiles(total) {
  const tile = (name, value, hint) => h("div", { class: "tile" }, h("dt", {}, name), h("dd", {}, value, hint ? h("p", { class: "hint" }, hint) : null));
  return h("dl", { class: "tiles" },
    tile("Requests", count(total.requests ?? total.attempts), total.requests === null ? "attempts" : null),
    tile("Tokens", count(total.prompt_tokens + total.completion_tokens), `${count(total.prompt_tokens)} in, ${count(total.completion_tokens)} out`),
    tile("Charged", money(total.charge), `cost ${money(total.cost)}`),
    tile("Energy", energy(total.kwh), between(total.kwh_range, energy)),
    tile("Carbon (CO2e)", grams(total.gco2eq.total), between(total.gco2eq.range, grams)),
    tile("CO2e / 1,000 tokens", grams(total.gco2eq_per_1000_tokens), sourcesOf(total)),
    tile("Water", `${amount(total.water_l)} l`));
}

const between = ({ min, max }, show) => `${show(min)} to ${show(max)}`;

// Return where the footprints come from, by share of the tokens.
function sourcesOf({ sources }) {
  const named = Object.entries(sources).map(([name, part]) => `${share(part)} ${name === "none" ? "unknown" : name}`);
  return named.join(", ") || DASH;
}

const MEASURES = [
  ["Tokens", (line) => line.prompt_tokens + line.completion_tokens, (value) => count(Math.round(value))],
  ["Cost", (line) => line.cost, money],
  ["Carbon (CO2e)", (line) => line.gco2eq.total, grams],
];

function charts(lines, asked) {
  const periods = periodsOf(lines, asked.period);
  const groups = groupsOf(lines, asked.group_by);
  return h("div", { class: "charts" }, MEASURES.map(([name, value, show]) =>
    barChart({ title: name, periods, series: seriesOf(lines, periods, groups, (line) => label(line, asked.group_by), value), show })));
}

// Return every day or month from the first to the last with usage, so that gaps are seen.
export function periodsOf(lines, period) {
  const found = [...new Set(lines.map((line) => line.period))].sort();
  if (found.length < 2) return found;
  const all = [];
  const spelled = (at) => at.toISOString().slice(0, period === "day" ? "2026-11-22".length : "2026-11".length);
  for (const at = new Date(found[0]); spelled(at) <= found.at(-1);) {
    all.push(spelled(at));
    if (period === "day") at.setUTCDate(at.getUTCDate() + 1);
    else at.setUTCMonth(at.getUTCMonth() + 1);
  }
  return all;
}

// Return the groups with most tokens, each of which gets the same colour in all charts; the others share one.
function groupsOf(lines, group) {
  const sums = new Map();
  for (const line of lines) {
    const name = label(line, group);
    sums.set(name, (sums.get(name) ?? 0) + line.prompt_tokens + line.completion_tokens);
  }
  const ordered = [...sums.keys()].sort((one, other) => sums.get(other) - sums.get(one) || one.localeCompare(other));
  return ordered.length > MOST_SERIES ? [...ordered.slice(0, MOST_SERIES - 1), "others"] : ordered;
}

function seriesOf(lines, periods, groups, nameOf, value) {
  const series = new Map(groups.map((name) => [name, periods.map(() => 0)]));
  for (const line of lines) {
    const values = series.get(nameOf(line)) ?? series.get("others");
    values[periods.indexOf(line.period)] += value(line);
  }
  return [...series].map(([name, values]) => ({ name, values }));
}

const NAMES = { organization: "organization_name", user: "user_email", key: "key_name", provider: "provider_name" };

function label(line, group) {
  if (!group) return "all";
  const value = group === "model" ? line.model : line[`${group}_id`];
  if (value === null) return `no ${group}`;
  if (group === "model") return value;
  const name = line[NAMES[group]];
  return name ? `${name} (${value})` : `${group} ${value}`;
}

function figures(report, asked) {
  const columns = [
    { name: "Period", head: true, cell: (line) => line.period ?? "Sum" },
    asked.group_by ? { name: "Group", cell: (line) => (line === report.total ? "" : label(line, asked.group_by)) } : null,
    { name: "Requests", numeric: true, cell: (line) => count(line.requests) },
    { name: "Attempts", numeric: true, cell: (line) => count(line.attempts) },
    { name: "Tokens in", numeric: true, cell: (line) => count(line.prompt_tokens) },
    { name: "Tokens out", numeric: true, cell: (line) => count(line.completion_tokens) },
    { name: "Cost", numeric: true, cell: (line) => money(line.cost) },
    { name: "Charged", numeric: true, cell: (line) => money(line.charge) },
    { name: "CO2e", numeric: true, cell: (line) => grams(line.gco2eq.total) },
    { name: "90 % range", numeric: true, cell: (line) => between(line.gco2eq.range, grams) },
    { name: "CO2e / 1,000 tokens", numeric: true, cell: (line) => grams(line.gco2eq_per_1000_tokens) },
    { name: "Source, by tokens", cell: sourcesOf },
    { name: "operational", numeric: true, cell: (line) => grams(line.gco2eq.operational) },
    { name: "embodied", numeric: true, cell: (line) => grams(line.gco2eq.embodied) },
    { name: "Energy", numeric: true, cell: (line) => energy(line.kwh) },
    { name: "90 % range of it", numeric: true, cell: (line) => between(line.kwh_range, energy) },
  ].filter(Boolean);
  return table({ caption: "Figures of the charts", columns, rows: report.data, foot: report.total });
}
