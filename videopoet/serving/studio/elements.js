// Making elements, and the few icons there are.

/** An element; functions among the attributes listen, and what is null or false is left out. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") made.addEventListener(name, value);
    else if (name === "text") made.textContent = value;
    else if (["value", "checked", "muted", "srcObject"].includes(name)) made[name] = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export function button(text, press, kind = "") {
  return element("button", { type: "button", class: kind, click: press, text });
}

export const words = (name) => name.replaceAll("_", " ");

/** A sentence that goes away by itself. */
export function note(text, kind = "error") {
  const place = document.querySelector("#notes");
  const line = element("div", { class: `note ${kind}` }, element("span", { text }));
  line.append(button("Close", () => line.remove(), "quiet"));
  place.append(line);
  setTimeout(() => line.remove(), 12000);
}
