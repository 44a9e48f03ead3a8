// A picture of the view: slices, dots and the names of the classes, as a PNG.

import { css } from "./colours";
import type { ClassFacts } from "./types";

/** Draw the canvases of the page where they lie, and a legend below. */
export async function takePicture(panels: HTMLElement[], classes: ClassFacts[]): Promise<Blob> {
  const ratio = devicePixelRatio;
  const boxes = panels.map((panel) => panel.getBoundingClientRect());
  const left = Math.min(...boxes.map((box) => box.left));
  const top = Math.min(...boxes.map((box) => box.top));
  const width = Math.max(...boxes.map((box) => box.right)) - left;
  const height = Math.max(...boxes.map((box) => box.bottom)) - top;
  const shown = classes.filter((one) => !one.hidden);
  const perRow = Math.max(1, Math.floor(width / 180));
  const legend = Math.ceil(shown.length / perRow) * 22 + 10;
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round((height + legend) * ratio);
  const context = canvas.getContext("2d") as CanvasRenderingContext2D;
  context.scale(ratio, ratio);
  const style = getComputedStyle(document.body);
  context.fillStyle = style.backgroundColor;
  context.fillRect(0, 0, width, height + legend);
  for (const panel of panels) {
    for (const part of panel.querySelectorAll("canvas")) {
      const box = part.getBoundingClientRect();
      if (box.width > 0) context.drawImage(part, box.left - left, box.top - top, box.width, box.height);
    }
  }
  context.font = "13px system-ui, sans-serif";
  context.textBaseline = "middle";
  shown.forEach((one, i) => {
    const x = (i % perRow) * 180 + 8;
    const y = height + 14 + Math.floor(i / perRow) * 22;
    context.fillStyle = css(one.colour);
    context.fillRect(x, y - 7, 14, 14);
    context.fillStyle = style.color;
    context.fillText(one.name, x + 20, y, 152);
  });
  return new Promise((resolve, reject) =>
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("no picture could be made"))), "image/png"),
  );
}

/** Let the browser save a file. */
export function save(blob: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
