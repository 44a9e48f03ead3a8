// What is drawn over a slice, in CSS pixels: crosshair, scale bar, the brush's outline. Dark and light, to be seen on any grey.

import { barLength } from "./geometry";
import { length } from "./words";

const GAP = 9; // the crosshair leaves its voxel free

export function drawCrosshair(context: CanvasRenderingContext2D, x: number, y: number, width: number, height: number): void {
  for (const [colour, thick] of [["rgb(0 0 0 / 55%)", 3], ["rgb(255 255 255 / 85%)", 1]] as const) {
    context.strokeStyle = colour;
    context.lineWidth = thick;
    context.beginPath();
    for (const [x0, y0, x1, y1] of [[0, y, x - GAP, y], [x + GAP, y, width, y], [x, 0, x, y - GAP], [x, y + GAP, x, height]] as const) {
      context.moveTo(x0, y0);
      context.lineTo(x1, y1);
    }
    context.stroke();
  }
}

/** `zoom`: CSS pixels per nm. */
export function drawBar(context: CanvasRenderingContext2D, zoom: number, height: number): void {
  const nm = barLength(zoom, 120);
  const text = length(nm);
  const wide = nm * zoom;
  context.font = "12px system-ui, sans-serif";
  const box = Math.max(wide, context.measureText(text).width) + 16;
  context.fillStyle = "rgb(0 0 0 / 60%)";
  context.fillRect(8, height - 36, box, 28);
  context.fillStyle = "#fff";
  context.fillText(text, 16, height - 21);
  context.fillRect(16, height - 15, wide, 3);
}

export function drawBrush(context: CanvasRenderingContext2D, [x, y]: [number, number], wide: number, tall: number): void {
  context.lineWidth = 1;
  for (const [colour, extra] of [["#000", 0], ["#fff", 1]] as const) {
    context.strokeStyle = colour;
    context.beginPath();
    context.ellipse(x, y, wide + extra, tall + extra, 0, 0, 7);
    context.stroke();
  }
}
