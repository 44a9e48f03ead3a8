// One picture (raw, map, scribbles, ...) as seen through one view: bytes for each pixel of the screen, from the
// best tiles that are here. While finer or newer ones are on their way, coarser and older ones stand in.

import { COLUMNS, ROWS, small } from "./geometry";
import { SIDE, type Sheet, type Tiles } from "./tiles";
import type { RunFacts } from "./types";

/** Where a view lies in its plane: device pixels, and the level-0 coordinates of its first pixel's corner. */
export interface Frame {
  width: number;
  height: number;
  top: number; // row coordinate of the upper edge, voxels
  left: number;
  rowStep: number; // voxels in a device pixel
  columnStep: number;
}

export interface Need {
  sheet: Sheet;
  row: number;
  column: number;
}

export class Layer {
  pixels = new Uint8Array(0);
  complete = false; // nothing is on its way
  private last: Sheet | null = null;

  constructor(
    private readonly tiles: Tiles,
    private readonly run: RunFacts,
  ) {}

  /** Fill `pixels` for a frame; returns the tiles to ask for. */
  sample(sheet: Sheet, frame: Frame, empty: number): Need[] {
    const size = frame.width * frame.height;
    if (this.pixels.length !== size) this.pixels = new Uint8Array(size);
    const fine = this.cover(sheet, frame);
    const missing = this.lacking(sheet, frame);
    this.complete = missing.length === 0;
    if (this.complete) {
      this.last = sheet;
      this.pixels.fill(empty);
      this.draw(sheet, fine, frame);
      return [];
    }
    this.pixels.fill(empty);
    if (this.last && this.last.what === sheet.what) this.draw(this.last, this.cover(this.last, frame), frame);
    const needs = missing;
    const coarse = this.standIn(sheet);
    if (coarse) {
      const whole = this.cover(coarse, frame);
      this.draw(coarse, whole, frame);
      needs.unshift(...whole.filter(({ row, column }) => !this.tiles.find(coarse, row, column)));
    }
    this.draw(sheet, fine, frame);
    return needs;
  }

  /** The tiles that a frame would lack of a sheet that may be shown next. */
  lacking(sheet: Sheet, frame: Frame): Need[] {
    return this.cover(sheet, frame).filter(({ row, column }) => !this.tiles.find(sheet, row, column));
  }

  /** Drop what stood for another plane. */
  reset(): void {
    this.last = null;
  }

  private standIn(sheet: Sheet): Sheet | null {
    const level = this.run.levels.length - 1;
    const coarsest = this.run.levels[level];
    const own = this.run.levels[sheet.level];
    if (!coarsest || !own || level <= sheet.level || small(own, sheet.axis, SIDE)) return null;
    return small(coarsest, sheet.axis, SIDE) ? { ...sheet, level } : null;
  }

  /** The tiles of a sheet that a frame sees. */
  private cover(sheet: Sheet, frame: Frame): Need[] {
    const level = this.run.levels[sheet.level];
    if (!level) return [];
    const span = (start: number, step: number, n: number, axis: 0 | 1 | 2): [number, number] => {
      const side = SIDE * level.step[axis];
      const last = Math.ceil(level.shape[axis] / SIDE) - 1;
      return [Math.max(0, Math.floor(start / side)), Math.min(last, Math.floor((start + step * n) / side))];
    };
    const [top, bottom] = span(frame.top, frame.rowStep, frame.height, ROWS[sheet.axis]);
    const [left, right] = span(frame.left, frame.columnStep, frame.width, COLUMNS[sheet.axis]);
    const needs: Need[] = [];
    for (let row = top; row <= bottom; row++) {
      for (let column = left; column <= right; column++) needs.push({ sheet, row, column });
    }
    return needs;
  }

  private draw(sheet: Sheet, needs: Need[], frame: Frame): void {
    const level = this.run.levels[sheet.level];
    if (!level) return;
    const rowStep = level.step[ROWS[sheet.axis]];
    const columnStep = level.step[COLUMNS[sheet.axis]];
    const rows = lookUp(frame.top, frame.rowStep, frame.height, rowStep);
    const columns = lookUp(frame.left, frame.columnStep, frame.width, columnStep);
    const { width } = frame;
    for (const { row, column } of needs) {
      const tile = this.tiles.find(sheet, row, column);
      if (!tile) continue;
      const [y0, y1] = within(rows, tile.row, tile.row + tile.rows);
      const [x0, x1] = within(columns, tile.column, tile.column + tile.columns);
      for (let y = y0; y < y1; y++) {
        const start = ((rows[y] as number) - tile.row) * tile.columns - tile.column;
        for (let x = x0, at = y * width + x0; x < x1; x++, at++) {
          this.pixels[at] = tile.data[start + (columns[x] as number)] as number;
        }
      }
    }
  }
}

/** The level's row (or column) under each pixel of the screen: ascending. */
function lookUp(start: number, step: number, n: number, levelStep: number): Int32Array {
  const found = new Int32Array(n);
  for (let i = 0; i < n; i++) found[i] = Math.floor((start + (i + 0.5) * step) / levelStep);
  return found;
}

/** The pixels whose row lies in [low, high). */
function within(rows: Int32Array, low: number, high: number): [number, number] {
  return [firstAtLeast(rows, low), firstAtLeast(rows, high)];
}

function firstAtLeast(rows: Int32Array, value: number): number {
  let low = 0;
  let high = rows.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((rows[middle] as number) < value) low = middle + 1;
    else high = middle;
  }
  return low;
}
