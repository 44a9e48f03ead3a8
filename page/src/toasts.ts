// Short messages in the corner: what went wrong and what to do, or what is done.

import { Refused, Unreachable } from "./api";
import { byId, h } from "./dom";

/** Show a message; errors stay until they are closed. */
export function toast(text: string, options: { remedy?: string; error?: boolean; extra?: Node } = {}): void {
  const box = byId("toasts");
  const same = [...box.children].find((other) => other.firstElementChild?.textContent === text);
  same?.remove();
  const close = h("button", { type: "button", class: "icon close", "aria-label": "Close message", onclick: () => note.remove() }, "×");
  const note = h(
    "div",
    { class: options.error ? "toast error" : "toast", role: options.error ? "alert" : "status" },
    h("strong", {}, text),
    options.remedy ? h("span", {}, options.remedy) : null,
    options.extra,
    close,
  );
  box.append(note);
  if (!options.error) setTimeout(() => note.remove(), options.extra ? 30_000 : 5_000);
}

/** Tell of a failure, unless it is one that the page shows otherwise (no server) or meant (a cancelled request). */
export function tell(error: unknown): void {
  if (error instanceof Unreachable || (error instanceof DOMException && error.name === "AbortError")) return;
  if (error instanceof Refused) toast(sentence(error.problem), { remedy: sentence(error.remedy), error: true });
  else {
    console.error(error);
    toast("The page stumbled over something it did not expect.", { remedy: "Reload the page; nothing is lost.", error: true });
  }
}

const sentence = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
