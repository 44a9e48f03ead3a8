// The table of classes: names, colours, hide, merge, how much of the volume each is.

import { get } from "./api";
import { ClassSelect } from "./class_select";
import { css, hex, parseHex } from "./colours";
import { dialog, fill, h, select } from "./dom";
import { icon } from "./icons";
import type { Session } from "./session";
import type { ClassFacts, Table } from "./types";
import type { View } from "./view";
import { count, figure, share } from "./words";

interface Row {
  element: HTMLTableRowElement;
  update: (one: ClassFacts, table: Table | null) => void;
}

export class ClassTable {
  readonly element = h("div", { class: "pane" });
  private readonly rows = new Map<number, Row>();
  private readonly body = h("tbody", {});
  private readonly ticked = new Set<number>();
  private readonly mergeBar = h("div", { class: "line", hidden: true });
  private readonly mergeText = h("span", {});
  private readonly into: ClassSelect;
  private readonly exactness = h("span", { class: "quiet" });
  private readonly scores = h("div", { class: "quiet" });
  private readonly counting: HTMLButtonElement;
  private readonly begin = h("span", { class: "line" });
  private table: Table | null = null;
  private asking = 0;

  constructor(
    private readonly session: Session,
    private readonly view: View,
  ) {
    this.into = new ClassSelect("Merge into", session);
    this.mergeBar.append(
      this.mergeText,
      this.into.element,
      h("button", { type: "button", onclick: () => this.merge() }, "Merge"),
    );
    this.counting = h("button", { type: "button", onclick: () => void session.begin({ kind: "table" }) }, "Count exactly");
    this.element.append(
      h(
        "table",
        { class: "classes" },
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            h("th", { title: "Tick two or more classes to merge them" }, h("span", { class: "hide" }, "Merge")),
            h("th", { colspan: 2 }, "Class"),
            h("th", { class: "number" }, "Volume (µm³)"),
            h("th", { class: "number" }, "Share"),
            h("th", { class: "number", title: "Connected pieces, in three dimensions" }, "Pieces"),
            h("th", {}, h("span", { class: "hide" }, "Shown")),
          ),
        ),
        this.body,
      ),
      this.mergeBar,
      this.newClass(),
      h("div", { class: "line" }, this.exactness, this.counting),
      this.scores,
      this.begin,
    );
    session.on("state", () => this.update());
    session.on("job", (job, before) => {
      if (job.state === "done" && before?.state !== "done") void this.fetch();
    });
    view.listen((changed) => changed.has("active") && this.update());
    this.update();
  }

  private tableKey = "";

  private update(): void {
    const { session } = this;
    const { classes } = session;
    for (const [id, row] of this.rows) {
      if (!classes.some((one) => one.id === id)) {
        row.element.remove();
        this.rows.delete(id);
        this.ticked.delete(id);
      }
    }
    classes.forEach((one, order) => {
      const row = this.rows.get(one.id) ?? this.makeRow(one);
      row.update(one, this.table);
      row.element.classList.toggle("active", one.id === this.view.values.active);
      if (this.body.children[order] !== row.element) this.body.insertBefore(row.element, this.body.children[order] ?? null);
    });
    this.showMerge();
    this.showBegin();
    const key = `${session.labels} ${classes.length}`;
    if (key !== this.tableKey) {
      this.tableKey = key;
      void this.fetch();
    }
  }

  private async fetch(): Promise<void> {
    const asking = ++this.asking;
    try {
      const table = await get<Table>("/api/table");
      if (asking !== this.asking) return;
      this.table = table;
      this.exactness.textContent = table.exact ? `Counted: ${count(table.total)} voxels.` : "Volumes are estimates.";
      this.counting.hidden = table.exact;
      fill(
        this.scores,
        ...Object.entries(table.reference ?? {}).map(([name, dice]) => {
          const best = Object.entries(dice).sort((a, b) => b[1] - a[1])[0];
          if (!best) return null;
          return h("div", {}, `Reference “${name}”: best met by ${this.session.named(Number(best[0]))?.name ?? best[0]}, Dice ${best[1].toFixed(2)}`);
        }),
      );
      for (const one of this.session.classes) this.rows.get(one.id)?.update(one, table);
    } catch (error) {
      this.session.failed(error);
    }
  }

  private makeRow(first: ClassFacts): Row {
    const { id } = first;
    const { session } = this;
    let now = first;
    const tick = h("input", {
      type: "checkbox",
      onchange: () => {
        if (tick.checked) this.ticked.add(id);
        else this.ticked.delete(id);
        this.showMerge();
      },
    });
    const colour = h("input", {
      type: "color",
      onchange: () => void session.act({ act: "edit_class", class: id, colour: parseHex(colour.value) }),
    });
    const name = h("input", {
      type: "text",
      maxlength: 80,
      class: "name",
      onfocus: () => this.view.set({ active: id }),
      onchange: () => this.rename(now, name),
      onkeydown: (event: KeyboardEvent) => {
        if (event.key === "Escape") name.value = now.name;
        if (event.key === "Escape" || event.key === "Enter") name.blur();
      },
    });
    const number = (): HTMLElement => h("td", { class: "number" });
    const [volume, part, pieces] = [number(), number(), number()];
    const shown = h("button", {
      type: "button",
      class: "icon",
      onclick: () => void session.act({ act: "edit_class", class: id, hidden: !now.hidden }),
    });
    const element = h(
      "tr",
      { "data-class": id, onclick: () => this.view.set({ active: id }) },
      h("td", {}, tick),
      h("td", { class: "colour" }, colour),
      h("td", { class: "wide" }, name),
      volume,
      part,
      pieces,
      h("td", {}, shown),
    );
    const row: Row = {
      element,
      update: (one, table) => {
        now = one;
        tick.setAttribute("aria-label", `Merge ${one.name}`);
        colour.setAttribute("aria-label", `Colour of ${one.name}`);
        if (document.activeElement !== colour) colour.value = hex(one.colour);
        name.setAttribute("aria-label", `Name of ${one.name}`);
        if (document.activeElement !== name) name.value = one.name;
        shown.setAttribute("aria-label", `${one.hidden ? "Show" : "Hide"} ${one.name}`);
        shown.title = one.hidden ? "Show" : "Hide";
        shown.replaceChildren(icon(one.hidden ? "hidden" : "eye"));
        element.classList.toggle("hidden-class", one.hidden);
        const facts = table?.classes.find((other) => other.id === id);
        volume.textContent = facts ? (table?.exact ? "" : "≈ ") + figure(facts.volume_um3) : "";
        part.textContent = facts ? share(facts.share) : "";
        pieces.textContent = facts?.pieces != null ? count(facts.pieces) : "–";
      },
    };
    this.rows.set(id, row);
    return row;
  }

  private rename(one: ClassFacts, input: HTMLInputElement): void {
    const name = input.value.trim();
    if (name && name !== one.name) void this.session.act({ act: "edit_class", class: one.id, name });
    else input.value = one.name;
  }

  private showMerge(): void {
    this.mergeBar.hidden = this.ticked.size < 2;
    this.mergeText.textContent = `Merge ${this.ticked.size} classes into`;
    const first = this.session.classes.find((one) => this.ticked.has(one.id));
    if (first && !this.ticked.has(this.into.id)) this.into.value = String(first.id);
  }

  private merge(): void {
    const classes = [...this.ticked];
    this.ticked.clear();
    for (const box of this.body.querySelectorAll<HTMLInputElement>("input[type=checkbox]")) box.checked = false;
    void this.session.act({ act: "merge", classes, into: this.into.id });
  }

  private newClass(): HTMLFormElement {
    const name = h("input", { type: "text", maxlength: 80, placeholder: "New class, e.g. mitochondria", "aria-label": "Name of the new class", required: true });
    return h(
      "form",
      {
        class: "line",
        onsubmit: (event: SubmitEvent) => {
          event.preventDefault();
          const text = name.value.trim();
          if (!text) return;
          name.value = "";
          void this.session.act({ act: "add_class", name: text }).then((answer) => {
            if (answer?.class) this.view.set({ active: answer.class });
          });
        },
      },
      name,
      h("button", {}, "Add"),
    );
  }

  /** Other numbers of clusters to begin from. */
  private showBegin(): void {
    const { k, run } = this.session.state;
    if (run.ks.length < 2 || this.begin.dataset["k"] === String(k)) return;
    this.begin.dataset["k"] = String(k);
    const options = run.ks.map((one): [string, string] => [String(one), `${one} clusters`]);
    const choice = select("Number of clusters that the map begins from", options, String(k), (value) => {
      choice.value = String(k);
      const sheet = dialog(
        `Begin anew from ${value} clusters?`,
        h("p", {}, "Names, corrections and scribbles begin anew. Undo brings them back as they are now."),
        h(
          "div",
          { class: "line end" },
          h("button", { type: "button", onclick: () => sheet.close() }, "Keep what I have"),
          h(
            "button",
            {
              type: "button",
              class: "main",
              onclick: () => {
                sheet.close();
                void this.session.act({ act: "choose_k", k: Number(value) });
              },
            },
            "Begin anew",
          ),
        ),
      );
    });
    fill(this.begin, h("span", { class: "quiet" }, "The map began from"), choice);
  }
}

/** A swatch beside a class's name. */
export function swatch(one: ClassFacts | undefined): HTMLElement {
  const box = h("i", { class: "swatch" });
  if (one) box.style.background = css(one.colour);
  return box;
}

/** The list of classes as buttons: the one that is painted or assigned is pressed. */
export function chips(session: Session, view: View): HTMLElement {
  const element = h("div", { class: "chips", role: "group", "aria-label": "Class to paint" });
  const update = (): void =>
    fill(
      element,
      ...session.classes.map((one, order) => {
        const painted = session.state.scribbles.voxels[String(one.id)];
        return h(
          "button",
          {
            type: "button",
            "data-class": one.id,
            "aria-pressed": String(one.id === view.values.active),
            title: order < 9 ? `Key ${order + 1}` : one.name,
            onclick: () => view.set({ active: one.id }),
          },
          swatch(one),
          h("span", {}, one.name),
          painted ? h("small", {}, count(painted)) : null,
        );
      }),
    );
  session.on("state", update);
  view.listen((changed) => changed.has("active") && update());
  update();
  return element;
}

