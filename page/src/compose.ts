// The pixels of a slice: grey image, map over it (filled or outlined), uncertainty, scribbles, the selected piece.

import type { Frame } from "./layer";

export interface Picture {
  raw: Uint8Array | null;
  grey: Uint8Array; // table of 256 greys
  map: Uint8Array | null;
  mapColours: Uint8Array; // tables of 256 RGBA colours
  opacity: number;
  outlines: boolean;
  uncertainty: Uint8Array | null;
  uncertaintyColours: Uint8Array;
  scribbles: Uint8Array | null;
  scribbleColours: Uint8Array;
  piece: Uint8Array | null;
}

/** Lay everything over one another, for the pixels inside the volume; those outside stay transparent. */
export function compose(out: Uint8ClampedArray, frame: Frame, picture: Picture, rows: [number, number], columns: [number, number]): void {
  const { width } = frame;
  let r = 0;
  let g = 0;
  let b = 0;
  const lay = (colours: Uint8Array, value: number, opacity: number): void => {
    const c = value * 4;
    const part = ((colours[c + 3] as number) / 255) * opacity;
    r += ((colours[c] as number) - r) * part;
    g += ((colours[c + 1] as number) - g) * part;
    b += ((colours[c + 2] as number) - b) * part;
  };
  out.fill(0);
  for (let y = rows[0]; y < rows[1]; y++) {
    for (let x = columns[0]; x < columns[1]; x++) {
      const at = y * width + x;
      const grey = picture.raw ? (picture.grey[picture.raw[at] as number] as number) : 96;
      const right = x + 1 < columns[1] ? at + 1 : at;
      const below = y + 1 < rows[1] ? at + width : at;
      r = g = b = grey;
      if (picture.uncertainty) lay(picture.uncertaintyColours, picture.uncertainty[at] as number, 0.85);
      if (picture.map) {
        const value = picture.map[at] as number;
        const other = picture.map[right] === value ? (picture.map[below] as number) : (picture.map[right] as number);
        if (!picture.outlines) lay(picture.mapColours, value, picture.opacity);
        else if (other !== value) {
          // of two neighbours the one that is shown gives the line its colour
          lay(picture.mapColours, picture.mapColours[value * 4 + 3] ? value : other, 0.4 + 0.6 * picture.opacity);
        }
      }
      if (picture.scribbles) {
        const value = picture.scribbles[at] as number;
        if (value) lay(picture.scribbleColours, value, 0.9);
        if (picture.scribbles[right] !== value || picture.scribbles[below] !== value) r = g = b = 255;
      }
      if (picture.piece) {
        const value = picture.piece[at];
        if (picture.piece[right] !== value || picture.piece[below] !== value) r = g = b = 255;
        else if (value) {
          r += (255 - r) * 0.25;
          g += (255 - g) * 0.25;
          b += (255 - b) * 0.25;
        }
      }
      out[at * 4] = r;
      out[at * 4 + 1] = g;
      out[at * 4 + 2] = b;
      out[at * 4 + 3] = 255;
    }
  }
}
