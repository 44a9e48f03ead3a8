// Elements from a line of code. Text is always set as text, so names with markup in them stay names.

type Attributes = Record<string, string | number | boolean | ((event: never) => void) | null | undefined>;
type Child = Node | string | number | null | undefined | false;

/** Make an element: `on…` attributes are listeners, true and false set or leave out an attribute. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value as EventListener);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, String(value));
  }
  element.append(...keep(children));
  return element;
}

/** Replace what an element holds. */
export function fill(element: Element, ...children: Child[]): void {
  element.replaceChildren(...keep(children));
}

export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  return document.getElementById(id) as T;
}

/** A choice between named values. */
export function select(
  label: string,
  options: [string, string][],
  chosen: string,
  onchange: (value: string) => void,
): HTMLSelectElement {
  const element = h(
    "select",
    { "aria-label": label, title: label, onchange: () => onchange(element.value) },
    ...options.map(([value, text]) => h("option", { value }, text)),
  );
  element.value = chosen;
  return element;
}

/** A button with a picture, and its name for those who can't see it. */
export function iconButton(icon: SVGElement, label: string, onclick: () => void, more: Attributes = {}): HTMLButtonElement {
  const button = h("button", { type: "button", class: "icon", "aria-label": label, title: label, onclick, ...more });
  button.append(icon);
  return button;
}

/** A dialog over the page, closed by Escape, its button, or a click beside it. */
export function dialog(title: string, ...children: Child[]): HTMLDialogElement {
  const close = h("button", { type: "button", class: "icon close", "aria-label": "Close", onclick: () => element.close() }, "×");
  const element: HTMLDialogElement = h(
    "dialog",
    {
      "aria-label": title,
      onclose: () => element.remove(),
      onclick: (event: MouseEvent) => event.target === element && element.close(),
    },
    h("div", { class: "sheet" }, h("header", {}, h("h2", {}, title), close), ...children),
  );
  document.body.append(element);
  element.showModal();
  return element;
}

/** A line of text with a button that copies it. */
export function copyable(text: string, label: string): HTMLElement {
  const button = h("button", { type: "button", "aria-label": `Copy ${label}` }, "Copy");
  button.addEventListener("click", () => {
    void copy(text).then((done) => {
      button.textContent = done ? "Copied" : "Select and copy";
      setTimeout(() => (button.textContent = "Copy"), 2000);
    });
  });
  return h("div", { class: "command" }, h("code", { tabindex: 0 }, text), button);
}

/** Copy a text; false where the browser forbids it. */
export async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

function keep(children: Child[]): (Node | string)[] {
  return children
    .filter((child): child is Node | string | number => child != null && child !== false)
    .map((child) => (typeof child === "number" ? String(child) : child));
}
