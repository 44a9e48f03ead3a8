// Scribbles: what to paint, with which brush, what the classifier makes of it, and where to paint next.

import { get } from "./api";
import { ClassSelect } from "./class_select";
import { chips } from "./class_table";
import { h } from "./dom";
import type { Session } from "./session";
import type { Spot, Triple } from "./types";
import type { View } from "./view";
import { several } from "./words";

export class ScribblePanel {
  readonly element = h("div", { class: "pane" });
  private readonly status = h("p", { class: "quiet", "aria-live": "polite" });
  private readonly spot = h("span", { class: "quiet", "aria-live": "polite" });
  private readonly uncertainty: HTMLInputElement;
  private readonly scribbles: HTMLInputElement;
  private readonly size: HTMLInputElement;
  private readonly sizeText = h("output", {});
  private readonly needing: HTMLButtonElement[];
  private number = 0;
  private taught: boolean;

  constructor(
    private readonly session: Session,
    private readonly view: View,
    private readonly go: (place: Triple) => void,
  ) {
    const within = new ClassSelect("Voxels that may change", session, [["", "all voxels"]]);
    this.size = h("input", {
      type: "range",
      min: 1,
      max: 60,
      "aria-label": "Size of the brush, voxels",
      oninput: () => view.set({ brush: Number(this.size.value) }),
    });
    const box = (name: "uncertainty" | "scribbles"): HTMLInputElement => {
      const input = h("input", { type: "checkbox", onchange: () => view.set({ [name]: input.checked }) });
      return input;
    };
    this.uncertainty = box("uncertainty");
    this.scribbles = box("scribbles");
    const preview = h("button", { type: "button", onclick: () => view.set({ map: "preview" }) }, "Show the preview");
    const next = h("button", { type: "button", onclick: () => void this.next() }, "Where should I paint next?");
    const apply = h(
      "button",
      {
        type: "button",
        class: "main",
        onclick: () => {
          void session.act({ act: "classify", within: within.value ? [within.id] : null }).then((answer) => {
            if (answer) view.set({ map: "labels", uncertainty: false });
          });
        },
      },
      "Apply to the volume",
    );
    this.needing = [preview, next, apply];
    this.element.append(
      h("div", { class: "line" }, h("span", {}, "Brush"), this.size, this.sizeText),
      chips(session, view),
      this.status,
      h(
        "div",
        { class: "line" },
        h("label", { class: "line" }, this.scribbles, "Scribbles"),
        h("label", { class: "line" }, this.uncertainty, "Uncertain places"),
        preview,
      ),
      h("div", { class: "line" }, next, this.spot),
      h("div", { class: "line" }, h("span", {}, "Within"), within.element, apply),
    );
    this.taught = session.untaught === null;
    session.on("state", () => this.update());
    view.listen(() => this.update());
    this.update();
  }

  /** Go to the next place where a scribble would teach most. */
  async next(): Promise<void> {
    try {
      const spot = await get<Spot>(`/api/next?number=${this.number}`);
      this.number = spot.number + 1;
      this.spot.textContent = `Place ${spot.number + 1} of ${spot.of}: ${several(spot.voxels, "uncertain voxel")}`;
      this.view.set({ tab: "scribbles" });
      this.go(spot.voxel);
    } catch (error) {
      this.session.failed(error);
    }
  }

  private update(): void {
    const { values } = this.view;
    this.size.value = String(values.brush);
    this.sizeText.textContent = several(values.brush, "voxel");
    this.uncertainty.checked = values.uncertainty;
    this.scribbles.checked = values.scribbles;
    const { untaught, painted, state } = this.session;
    for (const button of this.needing) button.disabled = untaught !== null;
    const voxels = painted.reduce((sum, id) => sum + (state.scribbles.voxels[String(id)] ?? 0), 0);
    this.status.textContent = untaught ?? `${several(voxels, "voxel")} of ${painted.length} classes painted. The preview shows what they teach.`;
    // the first preview shows by itself
    if (!untaught && !this.taught && this.painting() && values.map === "labels") this.view.set({ map: "preview" });
    this.taught = untaught === null;
    if (untaught) this.number = 0;
  }

  private painting(): boolean {
    return this.view.values.tool === "brush" || this.view.values.tool === "eraser";
  }
}
