// Pieces: the connected piece under a click, and rules for many at once.

import { get } from "./api";
import { ClassSelect } from "./class_select";
import { swatch } from "./class_table";
import { fill, h } from "./dom";
import type { Session } from "./session";
import type { Piece, Triple } from "./types";
import type { View } from "./view";
import { length, several, volume } from "./words";

type Rule = "smaller" | "touching" | "border";

export class PiecesPanel {
  readonly element = h("div", { class: "pane" });
  selected: Piece | null = null;
  private seed: Triple = [0, 0, 0];
  private readonly facts = h("div", { class: "facts", "aria-live": "polite" });
  private readonly becomes: ClassSelect;
  private readonly assign: HTMLButtonElement;
  private key: string;
  private asking: AbortController | null = null;

  constructor(
    private readonly session: Session,
    private readonly view: View,
    private readonly changed: () => void,
  ) {
    this.key = session.state.key;
    this.becomes = new ClassSelect("Class that the piece becomes", session, [], () => view.set({ active: this.becomes.id }));
    this.assign = h("button", { type: "button", class: "main", disabled: true, onclick: () => this.reassign() }, "Reassign");
    this.element.append(
      h("h3", {}, "One piece"),
      this.facts,
      h("div", { class: "line" }, h("span", {}, "becomes"), this.becomes.element, this.assign),
      h("h3", {}, "Many pieces"),
      this.bulk(),
    );
    session.on("state", (state) => {
      if (state.key !== this.key) this.drop();
      this.key = state.key;
    });
    view.listen((changes) => {
      if (changes.has("active")) this.becomes.value = String(view.values.active);
    });
    this.becomes.value = String(view.values.active);
    this.show();
  }

  /** Select the piece at a voxel. */
  async pick(seed: Triple): Promise<void> {
    this.asking?.abort();
    this.asking = new AbortController();
    this.view.set({ tab: "pieces" });
    this.element.classList.add("busy");
    try {
      const [z, y, x] = seed;
      this.selected = await get<Piece>(`/api/piece?z=${z}&y=${y}&x=${x}`, this.asking.signal);
      this.seed = seed;
      this.key = this.session.state.key;
    } catch (error) {
      this.session.failed(error);
      return;
    } finally {
      this.element.classList.remove("busy");
    }
    this.show();
    this.changed();
  }

  drop(): void {
    if (!this.selected) return;
    this.selected = null;
    this.show();
    this.changed();
  }

  reassign(): void {
    if (!this.selected || !this.becomes.id) return;
    void this.session.act({ act: "piece", seed: this.seed, class: this.becomes.id });
  }

  private show(): void {
    this.assign.disabled = !this.selected;
    const piece = this.selected;
    if (!piece) {
      fill(this.facts, h("p", { class: "quiet" }, "Choose the Piece tool (P) and click in a slice: the whole connected piece is selected, in all three dimensions."));
      return;
    }
    const one = this.session.named(piece.class);
    const { voxel_size } = this.session.state.run;
    const sides = piece.box[1].map((end, a) => length((end - (piece.box[0][a] ?? 0)) * (voxel_size[a] ?? 1))).reverse();
    fill(
      this.facts,
      h("p", {}, swatch(one), h("b", {}, one?.name ?? ""), ` · ${volume(piece.volume_um3)} · ${several(piece.voxels, "voxel")}`),
      h(
        "p",
        { class: "quiet" },
        `${sides.join(" × ")} (x × y × z)${piece.border ? " · touches the border of the volume" : ""}${piece.whole ? "" : " · only a part of it was counted"}`,
      ),
    );
  }

  private bulk(): HTMLFormElement {
    const { session } = this;
    const of = new ClassSelect("Pieces of this class", session);
    const becomes = new ClassSelect("Class that the pieces become", session);
    const touched = new ClassSelect("Class that they touch", session);
    becomes.element.selectedIndex = Math.min(1, becomes.element.length - 1);
    const size = h("input", { type: "number", min: 2, step: 1, value: 500, "aria-label": "Voxels", oninput: () => told() });
    const inUm = h("span", { class: "quiet" });
    const told = (): void => {
      const side = session.state.run.voxel_size.reduce((a, b) => a * b, 1);
      inUm.textContent = `voxels (${volume((Number(size.value) * side) / 1e9)})`;
    };
    told();
    let rule: Rule = "smaller";
    const choice = (value: Rule, ...children: (Node | string)[]): HTMLElement =>
      h(
        "label",
        { class: "line" },
        h("input", { type: "radio", name: "rule", value, checked: value === rule, onchange: () => (rule = value) }),
        ...children,
      );
    return h(
      "form",
      {
        onsubmit: (event: SubmitEvent) => {
          event.preventDefault();
          const act = { act: "pieces", of: of.id, class: becomes.id } as const;
          if (rule === "smaller") void session.act({ ...act, smaller_than: Number(size.value) });
          else if (rule === "touching") void session.act({ ...act, touching: touched.id });
          else void session.act({ ...act, border: true });
        },
      },
      h("div", { class: "line" }, h("span", {}, "All pieces of"), of.element, h("span", {}, "that")),
      choice("smaller", "are smaller than", size, inUm),
      choice("touching", "touch", touched.element),
      choice("border", "touch the border of the volume"),
      h("div", { class: "line" }, h("span", {}, "become"), becomes.element, h("button", {}, "Reassign all")),
    );
  }
}
