// Elements made of names, attributes and children.  Strings become text nodes: nothing here reads markup.

const SVG = "http://www.w3.org/2000/svg";

// Return an element.  `on` holds listeners; false, null and undefined leave an attribute out, true makes it empty.
export function h(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

// Return an element of an SVG drawing.
export function s(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// Put these in the place of all children.
export function replace(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

let last = 0;

// Return an id that no other element has.
export function newId(prefix) {
  last += 1;
  return `${prefix}-${last}`;
}

export function button(text, onClick, attributes = {}) {
  return h("button", { type: "button", on: { click: onClick }, ...attributes }, text);
}

export function link(text, href, attributes = {}) {
  return h("a", { href, ...attributes }, text);
}
