// The voxel at the crosshair: its patch enlarged and what is known of it; its nearest dots are told on.

import { bytes, get } from "./api";
import { swatch } from "./class_table";
import { greyTable } from "./colours";
import { fill, h } from "./dom";
import type { Session } from "./session";
import type { Triple, VoxelFacts } from "./types";
import type { View } from "./view";
import { figure, length, share } from "./words";

const SIDE = 49; // of the patch, voxels of the finest level

export class Here {
  private readonly facts = h("dl", {});
  private readonly canvas = h("canvas", { width: SIDE, height: SIDE, role: "img", "aria-label": "Patch around the crosshair, enlarged" });
  private readonly caption = h("small", { class: "quiet" });
  private timer = 0;
  private asked: AbortController | null = null;
  private patch: { data: Uint8Array; rows: number; columns: number; top: number; left: number } | null = null;

  constructor(
    host: HTMLElement,
    private readonly session: Session,
    private readonly view: View,
    private readonly found: (dots: number[]) => void,
  ) {
    host.append(h("figure", {}, this.canvas, this.caption), this.facts);
    view.listen((changed) => {
      if (changed.has("place")) this.soon();
      if (changed.has("window")) this.draw();
    });
    let key = "";
    session.on("state", (state) => {
      const now = `${state.key} ${JSON.stringify(state.classes)}`;
      if (now !== key) this.soon();
      key = now;
    });
    this.soon();
  }

  /** Ask when the crosshair rests. */
  private soon(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.ask(), 60);
  }

  private async ask(): Promise<void> {
    this.asked?.abort();
    const control = new AbortController();
    this.asked = control;
    const [z, y, x] = this.view.values.place;
    try {
      const [facts] = await Promise.all([
        get<VoxelFacts>(`/api/voxel?z=${z}&y=${y}&x=${x}&dots=12`, control.signal),
        this.session.state.run.no_raw ? null : this.fetchPatch(this.view.values.place, control.signal),
      ]);
      if (control.signal.aborted) return;
      this.show(facts);
      this.found(facts.dots);
    } catch (error) {
      this.session.failed(error);
    }
  }

  private async fetchPatch([z, y, x]: Triple, signal: AbortSignal): Promise<void> {
    const half = (SIDE - 1) / 2;
    const address =
      `/api/slice/raw?axis=0&index=${z}&level=0` +
      `&rows=${Math.max(0, y - half)}:${y + half + 1}&columns=${Math.max(0, x - half)}:${x + half + 1}`;
    const { data, headers } = await bytes(address, signal);
    this.patch = {
      data: new Uint8Array(data),
      rows: Number(headers.get("X-Rows")),
      columns: Number(headers.get("X-Columns")),
      top: Math.max(0, half - y),
      left: Math.max(0, half - x),
    };
    this.draw();
  }

  private draw(): void {
    const { patch } = this;
    if (!patch) return;
    const context = this.canvas.getContext("2d") as CanvasRenderingContext2D;
    const image = context.createImageData(SIDE, SIDE);
    const grey = greyTable(this.view.values.window);
    for (let row = 0; row < patch.rows; row++) {
      for (let column = 0; column < patch.columns; column++) {
        const value = grey[patch.data[row * patch.columns + column] as number] as number;
        image.data.set([value, value, value, 255], ((row + patch.top) * SIDE + column + patch.left) * 4);
      }
    }
    context.putImageData(image, 0, 0);
    this.caption.textContent = `${length(SIDE * this.session.state.run.voxel_size[2])} wide, xy`;
  }

  private show(facts: VoxelFacts): void {
    const { run } = this.session.state;
    const one = this.session.named(facts.class);
    const [z, y, x] = facts.voxel;
    const place = facts.voxel.map((n, a) => length(n * (run.voxel_size[a] ?? 1)));
    const line = (term: string, ...said: (Node | string)[]): HTMLElement[] => [h("dt", {}, term), h("dd", {}, ...said)];
    fill(
      this.facts,
      ...line("class", swatch(one), one?.name ?? "not mapped"),
      ...line("cluster", facts.cluster ? `${facts.cluster} of ${this.session.state.k}` : "–"),
      ...line("confidence", facts.confidence === null ? "–" : share(facts.confidence)),
      ...(facts.reference === null ? [] : line("reference", facts.reference || "none here")),
      ...(facts.scribble ? line("painted", this.session.named(facts.scribble)?.name ?? "") : []),
      ...line("grey value", facts.value === null ? "–" : figure(facts.value)),
      ...line("voxel", `x ${x} · y ${y} · z ${z}`),
      ...line("place", [...place].reverse().join(" · ")),
    );
  }
}
