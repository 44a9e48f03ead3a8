// A choice of classes that follows the state without losing what is chosen.

import { h } from "./dom";
import type { Session } from "./session";

export class ClassSelect {
  readonly element: HTMLSelectElement;

  /** `first`: choices before the classes, value and text. */
  constructor(
    label: string,
    private readonly session: Session,
    private readonly first: [string, string][] = [],
    onchange: () => void = () => undefined,
  ) {
    this.element = h("select", { "aria-label": label, title: label, onchange });
    this.update();
    session.on("state", () => this.update());
  }

  get value(): string {
    return this.element.value;
  }

  set value(value: string) {
    this.element.value = value;
    if (this.element.selectedIndex < 0) this.element.selectedIndex = 0;
  }

  /** The chosen class, or NaN for one of the first choices. */
  get id(): number {
    return Number.parseInt(this.value, 10);
  }

  private update(): void {
    const options = [...this.first, ...this.session.classes.map((one): [string, string] => [String(one.id), one.name])];
    const now = [...this.element.options].map((option): [string, string] => [option.value, option.text]);
    if (JSON.stringify(now) === JSON.stringify(options)) return;
    const { value } = this;
    this.element.replaceChildren(...options.map(([id, text]) => h("option", { value: id }, text)));
    this.value = value;
  }
}
