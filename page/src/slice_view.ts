// One of the three slice views: draws its plane and turns wheel, drag, click and brush into places, views and strokes.

import { Stroke } from "./brush";
import { classTable, css, greyTable, referenceTable, scaleTable } from "./colours";
import { compose } from "./compose";
import { h } from "./dom";
import { clamp, COLUMNS, inside, LETTERS, PLANES, ROWS } from "./geometry";
import { Layer, type Frame, type Need } from "./layer";
import { drawBar, drawBrush, drawCrosshair } from "./marks";
import type { Session } from "./session";
import { sheetsOf, type Sheets } from "./sheets";
import type { Tiles } from "./tiles";
import type { Axis, Cells, Piece, Triple } from "./types";
import type { View } from "./view";
import { length } from "./words";

/** What a view asks of the rest of the page. */
export interface Hands {
  moved: (place: Triple) => void; // the person pointed at a voxel
  picked: (place: Triple) => void; // ... to select its piece
  painted: (axis: Axis, index: number, cells: Cells[], paint: number) => Promise<number | null>;
  hovered: (place: Triple | null) => void;
  piece: () => Piece | null;
}

interface Paint {
  index: number;
  cells: () => Cells[];
  colour: string;
  number: number; // of the journal's line; Infinity until it is there
}

const UNCERTAIN = scaleTable((part) => Math.round(230 * part));

export class SliceView {
  readonly canvas = h("canvas", { class: "pixels" });
  private readonly overlay: HTMLCanvasElement;
  private readonly slider: HTMLInputElement;
  private readonly place = h("output", {});
  private readonly layers: Record<keyof Sheets, Layer>;
  private readonly paints: Paint[] = [];
  private stroke: Stroke | null = null;
  private pointer: [number, number] | null = null;
  private drag: { x: number; y: number; centre: Triple; moved: boolean } | null = null;
  private readonly fingers = new Map<number, [number, number]>();
  private turned = 0;
  private direction = 0; // in which slices were gone through last
  private dirty = { pixels: true, lines: true };
  private scheduled = false;

  constructor(
    readonly axis: Axis,
    readonly host: HTMLElement,
    private readonly session: Session,
    private readonly view: View,
    private readonly tiles: Tiles,
    private readonly hands: Hands,
  ) {
    const run = session.state.run;
    const layer = (): Layer => new Layer(tiles, run);
    this.layers = { raw: layer(), map: layer(), scribbles: layer(), uncertainty: layer(), piece: layer() };
    const letter = LETTERS.charAt(axis);
    this.overlay = h("canvas", {
      class: "lines",
      tabindex: 0,
      role: "application",
      "aria-label": `Slice ${PLANES[axis]}: arrow keys move the crosshair, page keys go through slices`,
    });
    this.slider = h("input", {
      type: "range",
      min: 0,
      max: run.shape[axis] - 1,
      "aria-label": `Slice along ${letter}`,
      oninput: () => this.go(Number(this.slider.value)),
    });
    host.append(
      h("div", { class: "caption" }, h("b", {}, PLANES[axis]), this.slider, this.place),
      h("div", { class: "stage" }, this.canvas, this.overlay),
    );
    this.listen();
    new ResizeObserver(() => this.invalidate()).observe(this.overlay);
  }

  /** Draw again soon; `pixels` false where only the lines over them changed. */
  invalidate(pixels = true): void {
    this.dirty.lines = true;
    this.dirty.pixels ||= pixels;
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => {
      this.scheduled = false;
      this.draw();
    });
  }

  /** Width and height, CSS pixels. */
  size(): [number, number] {
    const { clientWidth, clientHeight } = this.overlay;
    return [clientWidth, clientHeight];
  }

  /** CSS pixels per voxel along an axis. */
  private scale(axis: Axis): number {
    return this.view.values.zoom * this.session.state.run.voxel_size[axis];
  }

  private frame(): Frame {
    const [width, height] = this.size();
    const ratio = devicePixelRatio;
    const { centre } = this.view.values;
    const [rows, columns] = [ROWS[this.axis], COLUMNS[this.axis]];
    return {
      width: Math.max(1, Math.round(width * ratio)),
      height: Math.max(1, Math.round(height * ratio)),
      top: centre[rows] - height / 2 / this.scale(rows),
      left: centre[columns] - width / 2 / this.scale(columns),
      rowStep: 1 / this.scale(rows) / ratio,
      columnStep: 1 / this.scale(columns) / ratio,
    };
  }

  /** The point of the volume under a pointer, level-0 voxels with fractions. */
  private under(x: number, y: number): Triple {
    const frame = this.frame();
    const point = [...this.view.values.place] as Triple;
    point[ROWS[this.axis]] = frame.top + y * devicePixelRatio * frame.rowStep;
    point[COLUMNS[this.axis]] = frame.left + x * devicePixelRatio * frame.columnStep;
    return point;
  }

  private holds(point: Triple): boolean {
    const { shape } = this.session.state.run;
    return point.every((value, a) => value >= 0 && value < (shape[a] as number));
  }

  private draw(): void {
    if (this.view.values.zoom === 0) return;
    const frame = this.frame();
    if (this.dirty.pixels) this.drawPixels(frame);
    if (this.dirty.lines) this.drawLines(frame);
    this.dirty = { pixels: false, lines: false };
    const { shape, voxel_size } = this.session.state.run;
    const index = this.view.values.place[this.axis];
    this.slider.value = String(index);
    this.place.textContent = `${LETTERS.charAt(this.axis)} ${index} of ${shape[this.axis] - 1} · ${length(index * voxel_size[this.axis])}`;
  }

  private drawPixels(frame: Frame): void {
    const sheets = sheetsOf(this.axis, this.session, this.view, this.tiles, this.hands.piece());
    const needs: Need[] = [];
    const sampled = (name: keyof Sheets, empty = 0): Uint8Array | null => {
      const sheet = sheets[name];
      if (!sheet) {
        this.layers[name].reset();
        return null;
      }
      needs.push(...this.layers[name].sample(sheet, frame, empty));
      return this.layers[name].pixels;
    };
    const { run, classes, number } = this.session.state;
    const values = this.view.values;
    const all = {
      raw: sampled("raw"),
      map: sampled("map"),
      scribbles: sampled("scribbles"),
      uncertainty: sampled("uncertainty"),
      piece: sampled("piece"),
    };
    this.tiles.want(this, needs.length ? needs : this.ahead(sheets, frame));
    if (!sheets.scribbles || this.layers.scribbles.complete) this.settle(number);
    const extent = (axis: Axis, start: number, step: number, n: number): [number, number] => [
      clamp(Math.ceil(-start / step - 0.5), 0, n),
      clamp(Math.ceil((run.shape[axis] - start) / step - 0.5), 0, n),
    ];
    resize(this.canvas, frame);
    const context = this.canvas.getContext("2d") as CanvasRenderingContext2D;
    const image = context.createImageData(frame.width, frame.height);
    compose(
      image.data,
      frame,
      {
        ...all,
        grey: greyTable(values.window),
        mapColours: values.map === "reference" ? referenceTable(0) : classTable(classes),
        opacity: values.opacity,
        outlines: values.outlines || values.uncertainty,
        uncertaintyColours: UNCERTAIN,
        scribbleColours: classTable(classes, true),
      },
      extent(ROWS[this.axis], frame.top, frame.rowStep, frame.height),
      extent(COLUMNS[this.axis], frame.left, frame.columnStep, frame.width),
    );
    context.putImageData(image, 0, 0);
    this.host.setAttribute("aria-busy", String(needs.length > 0));
  }

  /** What the next slice in the direction of the wheel will need. */
  private ahead(sheets: Sheets, frame: Frame): Need[] {
    const index = this.view.values.place[this.axis] + this.direction;
    if (this.direction === 0 || index < 0 || index >= this.session.state.run.shape[this.axis]) return [];
    return (["raw", "map"] as const).flatMap((name) => {
      const sheet = sheets[name];
      return sheet ? this.layers[name].lacking({ ...sheet, index }, frame) : [];
    });
  }

  /** Forget strokes that the server's scribbles now show. */
  private settle(number: number): void {
    for (let i = this.paints.length - 1; i >= 0; i--) {
      if ((this.paints[i] as Paint).number <= number) this.paints.splice(i, 1);
    }
  }

  private drawLines(frame: Frame): void {
    resize(this.overlay, frame);
    const context = this.overlay.getContext("2d") as CanvasRenderingContext2D;
    context.clearRect(0, 0, frame.width, frame.height);
    context.save();
    context.scale(devicePixelRatio, devicePixelRatio);
    const [width, height] = this.size();
    const [tall, wide] = [this.scale(ROWS[this.axis]), this.scale(COLUMNS[this.axis])];
    const [index, row, column] = [this.axis, ROWS[this.axis], COLUMNS[this.axis]].map(
      (axis) => this.view.values.place[axis as Axis],
    ) as Triple;
    for (const paint of this.paints) {
      if (paint.index !== index) continue;
      context.fillStyle = paint.colour;
      for (const [r, first, n] of paint.cells()) {
        context.fillRect((first - frame.left) * wide, (r - frame.top) * tall, n * wide + 0.3, tall + 0.3);
      }
    }
    const middle = (place: number, first: number, step: number): number => Math.floor((place + 0.5 - first) * step) + 0.5;
    drawCrosshair(context, middle(column, frame.left, wide), middle(row, frame.top, tall), width, height);
    if (this.pointer && this.painting()) {
      const [high, long] = this.radii();
      drawBrush(context, this.pointer, long * wide, high * tall);
    }
    drawBar(context, this.view.values.zoom, height);
    context.restore();
  }

  private painting(): boolean {
    return this.view.values.tool === "brush" || this.view.values.tool === "eraser";
  }

  /** The brush is round on the screen: its size counts the smallest voxel side. */
  private radii(): [number, number] {
    const { voxel_size } = this.session.state.run;
    const nm = (this.view.values.brush / 2) * Math.min(...voxel_size);
    return [nm / voxel_size[ROWS[this.axis]], nm / voxel_size[COLUMNS[this.axis]]];
  }

  private go(index: number): void {
    const place = [...this.view.values.place] as Triple;
    this.direction = Math.sign(index - place[this.axis]);
    place[this.axis] = clamp(index, 0, this.session.state.run.shape[this.axis] - 1);
    this.view.set({ place });
  }

  /** Go through slices. */
  step(n: number): void {
    this.go(this.view.values.place[this.axis] + n);
  }

  /** Move the crosshair within the plane. */
  nudge(down: number, right: number): void {
    const place = [...this.view.values.place] as Triple;
    place[ROWS[this.axis]] += down;
    place[COLUMNS[this.axis]] += right;
    this.hands.moved(inside(place, this.session.state.run.shape));
  }

  /** Zoom by a factor, with a point (CSS pixels) kept where it is. */
  zoom(factor: number, x = this.size()[0] / 2, y = this.size()[1] / 2): void {
    const { zoom, centre } = this.view.values;
    const { voxel_size } = this.session.state.run;
    const next = clamp(zoom * factor, 1e-5, 64 / Math.min(...voxel_size));
    const point = this.under(x, y);
    const moved = [...centre] as Triple;
    for (const axis of [ROWS[this.axis], COLUMNS[this.axis]]) {
      moved[axis] = point[axis] + ((moved[axis] - point[axis]) * zoom) / next;
    }
    this.view.set({ zoom: next, centre: moved });
  }

  private listen(): void {
    const canvas = this.overlay;
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.up(event));
    canvas.addEventListener("pointercancel", (event) => this.up(event));
    canvas.addEventListener("pointerleave", () => {
      this.pointer = null;
      this.hands.hovered(null);
      this.invalidate(false);
    });
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  }

  private wheel(event: WheelEvent): void {
    event.preventDefault();
    if (event.ctrlKey) {
      this.zoom(Math.exp(-clamp(event.deltaY, -60, 60) / (event.deltaMode ? 10 : 120)), event.offsetX, event.offsetY);
      return;
    }
    // a notch of a wheel is a slice; small steps of a trackpad add up to one
    this.turned += (event.deltaY || event.deltaX) * (event.deltaMode ? 40 : 1);
    const n = Math.abs(this.turned) >= 30 ? Math.max(1, Math.round(Math.abs(this.turned) / 100)) * Math.sign(this.turned) : 0;
    if (n === 0) return;
    this.turned = 0;
    this.step(event.shiftKey ? n * 10 : n);
  }

  private down(event: PointerEvent): void {
    this.overlay.focus({ preventScroll: true });
    this.overlay.setPointerCapture(event.pointerId);
    this.fingers.set(event.pointerId, [event.offsetX, event.offsetY]);
    if (this.painting() && event.button === 0 && this.fingers.size === 1) {
      const { shape } = this.session.state.run;
      this.stroke = new Stroke(this.radii(), [shape[ROWS[this.axis]], shape[COLUMNS[this.axis]]]);
      const { tool, active, place } = this.view.values;
      const one = this.session.named(active);
      const colour = tool === "brush" && one ? css(one.colour) : "rgb(160 160 160 / 70%)";
      const stroke = this.stroke;
      this.paints.push({ index: place[this.axis], cells: () => stroke.cells(), colour, number: Infinity });
      this.paint(event);
    } else {
      this.stroke = null;
      this.drag = { x: event.offsetX, y: event.offsetY, centre: [...this.view.values.centre], moved: false };
    }
  }

  private move(event: PointerEvent): void {
    this.pointer = [event.offsetX, event.offsetY];
    const point = this.under(event.offsetX, event.offsetY);
    this.hands.hovered(this.holds(point) ? inside(point, this.session.state.run.shape) : null);
    if (this.pinch(event)) return;
    if (this.stroke) this.paint(event);
    else if (this.drag) this.pan(event, this.drag);
    if (this.painting()) this.invalidate(false);
  }

  /** Two fingers zoom. */
  private pinch(event: PointerEvent): boolean {
    if (this.fingers.size !== 2 || !this.fingers.has(event.pointerId)) return false;
    const apart = (): number => {
      const [a, b] = [...this.fingers.values()] as [[number, number], [number, number]];
      return Math.hypot(a[0] - b[0], a[1] - b[1]);
    };
    const before = apart();
    this.fingers.set(event.pointerId, [event.offsetX, event.offsetY]);
    if (this.drag) this.drag.moved = true;
    this.zoom(apart() / Math.max(1, before), event.offsetX, event.offsetY);
    return true;
  }

  private pan(event: PointerEvent, drag: NonNullable<SliceView["drag"]>): void {
    const [dx, dy] = [event.offsetX - drag.x, event.offsetY - drag.y];
    if (!drag.moved && Math.hypot(dx, dy) < 4) return;
    drag.moved = true;
    const { shape } = this.session.state.run;
    const centre = [...this.view.values.centre] as Triple;
    for (const [axis, by] of [[ROWS[this.axis], dy], [COLUMNS[this.axis], dx]] as const) {
      centre[axis] = clamp(drag.centre[axis] - by / this.scale(axis), 0, shape[axis]);
    }
    this.view.set({ centre });
  }

  private paint(event: PointerEvent): void {
    const point = this.under(event.offsetX, event.offsetY);
    this.stroke?.to(point[ROWS[this.axis]], point[COLUMNS[this.axis]]);
    this.invalidate(false);
  }

  private up(event: PointerEvent): void {
    this.fingers.delete(event.pointerId);
    const { stroke, drag } = this;
    this.stroke = null;
    this.drag = null;
    if (stroke) void this.finish(stroke);
    else if (drag && !drag.moved && event.type === "pointerup") {
      const point = this.under(event.offsetX, event.offsetY);
      if (!this.holds(point)) return;
      const place = inside(point, this.session.state.run.shape);
      if (this.view.values.tool === "piece") this.hands.picked(place);
      else this.hands.moved(place);
    }
  }

  private async finish(stroke: Stroke): Promise<void> {
    const paint = this.paints.at(-1);
    const cells = stroke.cells();
    const { tool, active } = this.view.values;
    if (!paint) return;
    paint.cells = () => cells;
    paint.number =
      (cells.length && (await this.hands.painted(this.axis, paint.index, cells, tool === "brush" ? active : 0))) || -1;
    this.invalidate();
  }
}

function resize(canvas: HTMLCanvasElement, frame: Frame): void {
  if (canvas.width !== frame.width) canvas.width = frame.width;
  if (canvas.height !== frame.height) canvas.height = frame.height;
}
