// The dots on the screen: pan, zoom, click a dot, draw round some (lasso), highlight.

import { dotPainter, type DotPainter } from "./dot_painter";
import { h } from "./dom";
import { clamp } from "./geometry";
import { insidePolygon, nearest, type Point } from "./polygon";

interface Hands {
  clicked: (dot: number) => void;
  circled: (dots: number[]) => void;
}

export class Scatter {
  readonly canvas = h("canvas", { class: "pixels" });
  readonly overlay = h("canvas", {
    class: "lines",
    tabindex: 0,
    role: "application",
    "aria-label": "Dots: click one to see its voxel, hold Shift and drag to draw round some",
  });
  lasso = false;
  private readonly painter: DotPainter;
  private xy: Float32Array = new Float32Array(0);
  private values: Uint8Array = new Uint8Array(0);
  private table: Uint8Array = new Uint8Array(1024);
  private highlights: number[] = [];
  private polygon: Point[] = []; // in the dots' coordinates
  private zoom = 1;
  private middle: Point = [0, 0];
  private drag: { x: number; y: number; middle: Point; moved: boolean; drawing: boolean } | null = null;
  private scheduled = false;
  private pixelsDirty = true;

  constructor(
    host: HTMLElement,
    private readonly hands: Hands,
  ) {
    host.append(this.canvas, this.overlay);
    this.painter = dotPainter(this.canvas);
    const { overlay } = this;
    overlay.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    overlay.addEventListener("pointerdown", (event) => this.down(event));
    overlay.addEventListener("pointermove", (event) => this.move(event));
    overlay.addEventListener("pointerup", (event) => this.up(event));
    overlay.addEventListener("pointercancel", () => (this.drag = null));
    overlay.addEventListener("dblclick", () => this.fit());
    new ResizeObserver(() => this.invalidate()).observe(overlay);
  }

  setPlaces(xy: Float32Array): void {
    this.xy = xy;
    this.painter.places(xy);
    this.clearLasso();
    this.invalidate();
  }

  setValues(values: Uint8Array, table: Uint8Array): void {
    if (values !== this.values) this.painter.values(values);
    this.values = values;
    this.table = table;
    this.painter.colours(table);
    this.invalidate();
  }

  highlight(dots: number[]): void {
    this.highlights = dots;
    this.invalidate(false);
  }

  clearLasso(): void {
    this.polygon = [];
    this.invalidate(false);
  }

  fit(): void {
    this.zoom = 1;
    this.middle = [0, 0];
    this.invalidate();
  }

  /** A dot's place on the page, CSS pixels within the view. */
  placeOf(dot: number): Point {
    const { scale, x, y } = this.mapping();
    return [x + (this.xy[2 * dot] as number) * scale, y - (this.xy[2 * dot + 1] as number) * scale];
  }

  private mapping(): { scale: number; x: number; y: number } {
    const { clientWidth: width, clientHeight: height } = this.overlay;
    const scale = (Math.min(width, height) / 2) * 0.94 * this.zoom;
    return { scale, x: width / 2 - this.middle[0] * scale, y: height / 2 + this.middle[1] * scale };
  }

  private under(event: MouseEvent): Point {
    const { scale, x, y } = this.mapping();
    return [(event.offsetX - x) / scale, (y - event.offsetY) / scale];
  }

  private invalidate(pixels = true): void {
    this.pixelsDirty ||= pixels;
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => {
      this.scheduled = false;
      this.draw();
    });
  }

  private draw(): void {
    const ratio = devicePixelRatio;
    const { clientWidth: width, clientHeight: height } = this.overlay;
    if (width === 0) return;
    const { scale, x, y } = this.mapping();
    if (this.pixelsDirty) {
      for (const canvas of [this.canvas, this.overlay]) {
        if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
        if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
      }
      const crowd = Math.sqrt((width * height) / Math.max(1, this.xy.length / 2));
      const size = clamp(crowd * 1.2 * Math.sqrt(this.zoom), 2, 9) * ratio;
      this.painter.draw({ scale: scale * ratio, x: x * ratio, y: y * ratio, size });
      this.pixelsDirty = false;
    }
    const context = this.overlay.getContext("2d") as CanvasRenderingContext2D;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    this.drawLasso(context, scale, x, y);
    this.highlights.forEach((dot, order) => {
      const [px, py] = this.placeOf(dot);
      for (const [colour, thick] of [["#000", 4], ["#fff", 2]] as const) {
        context.strokeStyle = colour;
        context.lineWidth = thick;
        context.beginPath();
        context.arc(px, py, order === 0 ? 8 : 4.5, 0, 7);
        context.stroke();
      }
    });
  }

  private drawLasso(context: CanvasRenderingContext2D, scale: number, x: number, y: number): void {
    if (this.polygon.length < 2) return;
    context.beginPath();
    for (const [px, py] of this.polygon) context.lineTo(x + px * scale, y - py * scale);
    context.closePath();
    context.fillStyle = "rgb(128 128 128 / 25%)";
    context.fill();
    for (const [colour, thick] of [["#000", 3], ["#fff", 1.5]] as const) {
      context.strokeStyle = colour;
      context.lineWidth = thick;
      context.stroke();
    }
  }

  private wheel(event: WheelEvent): void {
    event.preventDefault();
    this.zoomBy(Math.exp(-clamp(event.deltaY, -120, 120) / (event.ctrlKey ? 60 : 300)), this.under(event));
  }

  zoomBy(factor: number, point: Point = this.middle): void {
    const zoom = clamp(this.zoom * factor, 0.5, 200);
    const part = this.zoom / zoom;
    this.middle = [point[0] + (this.middle[0] - point[0]) * part, point[1] + (this.middle[1] - point[1]) * part];
    this.zoom = zoom;
    this.invalidate();
  }

  private down(event: PointerEvent): void {
    this.overlay.setPointerCapture(event.pointerId);
    const drawing = event.button === 0 && (this.lasso || event.shiftKey);
    if (drawing) this.polygon = [this.under(event)];
    this.drag = { x: event.offsetX, y: event.offsetY, middle: this.middle, moved: false, drawing };
  }

  private move(event: PointerEvent): void {
    const { drag } = this;
    if (!drag) return;
    const [dx, dy] = [event.offsetX - drag.x, event.offsetY - drag.y];
    if (Math.hypot(dx, dy) >= 4) drag.moved = true;
    if (!drag.moved) return;
    if (drag.drawing) {
      this.polygon.push(this.under(event));
      this.invalidate(false);
    } else {
      const { scale } = this.mapping();
      this.middle = [drag.middle[0] - dx / scale, drag.middle[1] + dy / scale];
      this.invalidate();
    }
  }

  private up(event: PointerEvent): void {
    const { drag } = this;
    this.drag = null;
    if (!drag) return;
    if (drag.drawing && drag.moved && this.polygon.length > 2) {
      this.hands.circled(insidePolygon(this.polygon, this.xy).filter((dot) => this.shown(dot)));
    } else if (!drag.moved) {
      this.clearLasso();
      const dot = nearest(...this.under(event), 10 / this.mapping().scale, this.xy, (i) => this.shown(i));
      if (dot >= 0) this.hands.clicked(dot);
    }
  }

  /** Dots of hidden classes are neither drawn nor caught. */
  private shown(dot: number): boolean {
    return this.table[(this.values[dot] ?? 0) * 4 + 3] !== 0;
  }
}
