// A stroke of the brush: the cells of a plane that it covered.

import type { Cells } from "./types";

export class Stroke {
  private readonly rows = new Map<number, [number, number][]>();
  private last: [number, number] | null = null;

  /** `radii`: of the brush in cells, down the rows and along the columns; `shape`: of the plane. */
  constructor(
    readonly radii: [number, number],
    readonly shape: [number, number],
  ) {}

  /** Move the brush (its middle, in cells) here, in a straight line from where it was. */
  to(row: number, column: number): void {
    const [lastRow, lastColumn] = this.last ?? [row, column];
    const far = Math.max(Math.abs(row - lastRow) / this.radii[0], Math.abs(column - lastColumn) / this.radii[1]);
    const steps = Math.max(1, Math.ceil(far * 3));
    for (let i = this.last ? 1 : steps; i <= steps; i++) {
      this.dab(lastRow + ((row - lastRow) * i) / steps, lastColumn + ((column - lastColumn) * i) / steps);
    }
    this.last = [row, column];
  }

  /** The covered cells, each once, row by row. */
  cells(): Cells[] {
    const cells: Cells[] = [];
    for (const [row, spans] of [...this.rows].sort((a, b) => a[0] - b[0])) {
      let [first, end] = [-1, -1];
      for (const [from, to] of spans.sort((a, b) => a[0] - b[0])) {
        if (from > end) {
          if (end > first) cells.push([row, first, end - first]);
          [first, end] = [from, to];
        } else end = Math.max(end, to);
      }
      if (end > first) cells.push([row, first, end - first]);
    }
    return cells;
  }

  private dab(row: number, column: number): void {
    const [tall, wide] = this.radii;
    // the cell under the pointer is always painted, however small the brush
    this.add(Math.floor(row), Math.floor(column), Math.floor(column) + 1);
    for (let r = Math.floor(row - tall); r <= row + tall; r++) {
      const away = (r + 0.5 - row) / tall;
      if (Math.abs(away) > 1) continue;
      const half = wide * Math.sqrt(1 - away * away);
      this.add(r, Math.round(column - half), Math.round(column + half));
    }
  }

  private add(row: number, first: number, end: number): void {
    const from = Math.max(0, first);
    const to = Math.min(this.shape[1], end);
    if (row < 0 || row >= this.shape[0] || from >= to) return;
    const spans = this.rows.get(row);
    if (!spans) this.rows.set(row, [[from, to]]);
    else spans.push([from, to]);
  }
}
