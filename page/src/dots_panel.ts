// Everything round the dots: what colours them, the legend, and the class of those that were circled.

import { ClassSelect } from "./class_select";
import { scaleTable } from "./colours";
import { Dots } from "./dots";
import { fill, h, iconButton, select } from "./dom";
import { icon } from "./icons";
import { Scatter } from "./scatter";
import type { Session } from "./session";
import { tell } from "./toasts";
import type { Triple } from "./types";
import type { View, ViewValues } from "./view";
import { count, several } from "./words";

export class DotsPanel {
  readonly scatter: Scatter;
  private readonly dots: Dots;
  private readonly note = h("div", { class: "note", role: "status" });
  private readonly legend = h("div", { class: "legend" });
  private readonly form = h("form", { class: "circled", hidden: true });
  private readonly circledText = h("b", {});
  private readonly target: ClassSelect;
  private readonly within: ClassSelect;
  private readonly newName = h("input", { type: "text", maxlength: 80, placeholder: "Name of the new class", "aria-label": "Name of the new class" });
  private circled: number[] = [];
  private awaited = 0; // answers of the server

  constructor(
    host: HTMLElement,
    private readonly session: Session,
    private readonly view: View,
    private readonly go: (place: Triple) => void,
  ) {
    const stage = h("div", { class: "stage" });
    this.scatter = new Scatter(stage, { clicked: (dot) => this.clicked(dot), circled: (dots) => this.showCircled(dots) });
    this.dots = new Dots(session, view, this.scatter, (text) => {
      this.note.textContent = text;
      this.note.hidden = !text;
    });
    this.target = new ClassSelect("Class that they become", session, [["new", "new class…"]], () => this.showName());
    this.within = new ClassSelect("Voxels that may change", session, [["", "everywhere"]]);
    this.fillForm();
    const lasso = iconButton(icon("lasso"), "Lasso: draw round dots (L, or hold Shift)", () => view.set({ lasso: !view.values.lasso }));
    const by: [string, string][] = [["class", "class"], ["cluster", "cluster"]];
    if (session.state.run.reference.length) by.push(["reference", "reference"]);
    by.push(["confidence", "confidence"], ["uncertainty", "uncertainty of the preview"]);
    const colour = select("Colour of the dots", by, view.values.dots, (value) => view.set({ dots: value as ViewValues["dots"] }));
    const layout = h("span", { class: "quiet" });
    const tellLayout = (): void => {
      const { ready, dots } = session.state;
      layout.textContent = `${count(dots)} voxels · ${ready.layout === "tsne" ? "t-SNE" : "first sketch (PCA); t-SNE is on its way"}`;
    };
    tellLayout();
    host.append(
      h(
        "div",
        { class: "caption" },
        h("b", {}, "Dots"),
        h("label", { class: "line" }, "by", colour),
        lasso,
        iconButton(icon("fit"), "Show all dots", () => this.scatter.fit()),
        layout,
      ),
      stage,
      this.legend,
      this.form,
    );
    stage.append(this.note);
    const follow = (): void => {
      colour.value = view.values.dots;
      lasso.setAttribute("aria-pressed", String(view.values.lasso));
      this.scatter.lasso = view.values.lasso;
      stage.classList.toggle("lasso", view.values.lasso);
      this.showLegend();
    };
    view.listen((changed) => {
      if (changed.has("dots") || changed.has("lasso")) follow();
      if (changed.has("dots")) void this.busyWith(this.dots.colour());
    });
    session.on("state", () => {
      tellLayout();
      void this.busyWith(this.dots.colour());
      if (this.circled.length === 0) this.hideCircled();
    });
    session.on("layout", () => void this.busyWith(this.dots.loadLayout().catch(tell)));
    session.on("link", (link) => link === "up" && void this.busyWith(this.dots.load()));
    follow();
    void this.busyWith(this.dots.load());
  }

  /** Say that the dots are not yet what they will be, to screen readers too. */
  private async busyWith(work: Promise<void>): Promise<void> {
    this.awaited++;
    this.scatter.overlay.setAttribute("aria-busy", "true");
    try {
      await work;
    } finally {
      this.awaited--;
      this.scatter.overlay.setAttribute("aria-busy", String(this.awaited > 0));
    }
  }

  highlight(dots: number[]): void {
    this.scatter.highlight(dots);
  }

  hideCircled(): void {
    this.circled = [];
    this.form.hidden = true;
    this.scatter.clearLasso();
  }

  private clicked(dot: number): void {
    this.hideCircled();
    const place = this.dots.voxel(dot);
    if (place) this.go(place);
  }

  private showCircled(dots: number[]): void {
    this.circled = dots;
    if (dots.length === 0) return this.hideCircled();
    this.circledText.textContent = several(dots.length, "dot");
    this.form.hidden = false;
    this.showName();
  }

  private showName(): void {
    this.newName.hidden = this.target.value !== "new";
    this.newName.required = !this.newName.hidden;
  }

  private fillForm(): void {
    this.form.append(
      h("div", { class: "line" }, this.circledText, h("span", {}, "become"), this.target.element, this.newName),
      h(
        "div",
        { class: "line" },
        h("span", {}, "changing"),
        this.within.element,
        h("button", { class: "main" }, "Assign"),
        h("button", { type: "button", onclick: () => this.hideCircled() }, "Cancel"),
      ),
      h("p", { class: "quiet" }, "Rule: each voxel takes the kind of texture (prototype) it is nearest to; where most dots of that kind lie inside your line, its voxels become this class."),
    );
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.assign();
    });
  }

  private async assign(): Promise<void> {
    const dots = this.circled;
    const within = this.within.value ? [this.within.id] : null;
    let id = this.target.id;
    if (this.target.value === "new") {
      const name = this.newName.value.trim();
      if (!name) return;
      id = (await this.session.act({ act: "add_class", name }))?.class ?? 0;
      if (!id) return;
      this.target.value = String(id);
      this.newName.value = "";
      this.view.set({ active: id });
    }
    if (await this.session.act({ act: "lasso", dots, class: id, within })) this.hideCircled();
  }

  private showLegend(): void {
    const by = this.view.values.dots;
    const ends = by === "confidence" ? ["unsure", "sure"] : by === "uncertainty" ? ["sure", "unsure"] : null;
    this.legend.hidden = !ends;
    if (!ends) return;
    const bar = h("i", {});
    const table = scaleTable();
    const stops = [0, 36, 73, 109, 146, 182, 219, 255].map((i) => `rgb(${table[i * 4]} ${table[i * 4 + 1]} ${table[i * 4 + 2]})`);
    bar.style.background = `linear-gradient(90deg, ${stops.join(", ")})`;
    fill(this.legend, ends[0], bar, ends[1]);
  }
}
