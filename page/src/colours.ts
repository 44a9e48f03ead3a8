// Colours of classes, greys and scales, as tables for fast lookup.

import type { ClassFacts, Colour } from "./types";

export const css = ([r, g, b]: Colour): string => `rgb(${r} ${g} ${b})`;

export const hex = (colour: Colour): string => `#${colour.map((c) => c.toString(16).padStart(2, "0")).join("")}`;

export const parseHex = (text: string): Colour =>
  [1, 3, 5].map((i) => Number.parseInt(text.slice(i, i + 2), 16)) as Colour;

/** Black or white, whichever is read better on a colour. */
export function ink([r, g, b]: Colour): string {
  return 0.299 * r + 0.587 * g + 0.114 * b > 140 ? "#000" : "#fff";
}

/** A table of 256 RGBA colours; class 0, hidden and unknown ones are transparent. */
export function classTable(classes: ClassFacts[], all = false): Uint8Array {
  const table = new Uint8Array(1024);
  for (const one of classes) {
    const shown = one.merged_into === null ? one : classes.find((other) => other.id === one.merged_into);
    if (shown && (all || !shown.hidden)) table.set([...shown.colour, 255], one.id * 4);
  }
  return table;
}

/** Colours of reference structures: 0 is the rest. Okabe and Ito's, which the colour-blind can tell apart. */
export function referenceTable(rest: number): Uint8Array {
  const colours: Colour[] = [[0, 158, 115], [230, 159, 0], [204, 121, 167], [86, 180, 233], [213, 94, 0], [240, 228, 66], [0, 114, 178]];
  const table = new Uint8Array(1024);
  table.set([128, 128, 128, rest], 0);
  for (let i = 1; i < 256; i++) table.set([...(colours[(i - 1) % colours.length] as Colour), 255], i * 4);
  return table;
}

/** Cividis in eight steps (Nunez, Anderton and Renslow 2018): dark blue to yellow, even to colour-blind eyes. */
const CIVIDIS: Colour[] = [[0, 34, 78], [28, 57, 109], [67, 78, 108], [98, 101, 111], [129, 125, 121], [165, 151, 115], [206, 180, 96], [254, 232, 56]];

export function scaleTable(alpha: (part: number) => number = () => 255): Uint8Array {
  const table = new Uint8Array(1024);
  for (let i = 0; i < 256; i++) {
    const at = (i / 255) * (CIVIDIS.length - 1);
    const low = CIVIDIS[Math.floor(at)] as Colour;
    const high = CIVIDIS[Math.ceil(at)] as Colour;
    low.forEach((c, channel) => (table[i * 4 + channel] = Math.round(c + ((high[channel] as number) - c) * (at % 1))));
    table[i * 4 + 3] = alpha(i / 255);
  }
  return table;
}

/** Grey of each raw value, with `low` black and `high` white. */
export function greyTable([low, high]: [number, number]): Uint8Array {
  const table = new Uint8Array(256);
  for (let i = 0; i < 256; i++) table[i] = Math.round(Math.min(Math.max((i - low) / (high - low), 0), 1) * 255);
  return table;
}
