// Pieces of planes from the server: fetched nearest need first, cancelled when nobody looks any more, kept while there is room.

import { bytes, Refused } from "./api";
import { COLUMNS, ROWS } from "./geometry";
import type { Axis, RunFacts } from "./types";

export const SIDE = 1024;
const AT_ONCE = 4; // a browser opens six connections to a server: one is for events, one is for acts
const KEPT = 256 << 20; // bytes

/** A plane of one kind of picture, in one state. */
export interface Sheet {
  what: string;
  axis: Axis;
  index: number;
  level: number;
  version: string; // of the labels, scribbles...: another version is another picture
  query?: string; // what else the server needs to know
}

export interface Tile {
  data: Uint8Array;
  row: number; // first row and column, pixels of the level
  column: number;
  rows: number;
  columns: number;
}

interface Wanted {
  key: string;
  sheet: Sheet;
  row: number;
  column: number;
}

export class Tiles {
  private readonly kept = new Map<string, Tile>();
  private size = 0; // bytes kept
  private readonly refused = new Map<string, Refused>();
  private readonly wanted = new Map<object, Wanted[]>();
  private readonly running = new Map<string, AbortController>();

  constructor(
    private readonly run: RunFacts,
    private readonly arrived: () => void,
    private readonly failed: (error: unknown) => void,
  ) {}

  /** A tile that is here already. */
  find(sheet: Sheet, row: number, column: number): Tile | undefined {
    const key = name(sheet, row, column);
    const tile = this.kept.get(key);
    if (tile) {
      this.kept.delete(key); // to the young end
      this.kept.set(key, tile);
    }
    return tile;
  }

  /** Why a sheet can't be had, where the server said so. */
  refusal(sheet: Sheet): Refused | undefined {
    return this.refused.get(name(sheet, -1, -1));
  }

  /** Say what a view needs now, most urgent first; what nobody needs any more is cancelled. */
  want(owner: object, sheets: { sheet: Sheet; row: number; column: number }[]): void {
    const missing = sheets
      .map((one) => ({ ...one, key: name(one.sheet, one.row, one.column) }))
      .filter((one) => !this.kept.has(one.key) && !this.refusal(one.sheet));
    this.wanted.set(owner, missing);
    const keys = new Set([...this.wanted.values()].flat().map((one) => one.key));
    for (const [key, control] of this.running) if (!keys.has(key)) control.abort();
    this.next();
  }

  /** Ask again for what was refused or lost. */
  retry(): void {
    this.refused.clear();
    this.arrived();
  }

  private next(): void {
    const lists = [...this.wanted.values()];
    const longest = Math.max(0, ...lists.map((list) => list.length));
    for (let i = 0; i < longest && this.running.size < AT_ONCE; i++) {
      for (const list of lists) {
        const one = list[i]; // the views take turns
        if (one && this.running.size < AT_ONCE && !this.running.has(one.key)) void this.load(one);
      }
    }
  }

  private async load({ key, sheet, row, column }: Wanted): Promise<void> {
    const control = new AbortController();
    this.running.set(key, control);
    try {
      this.keep(key, await this.request(sheet, row, column, control.signal));
    } catch (error) {
      if (error instanceof Refused) this.refused.set(name(sheet, -1, -1), error);
      if (!(error instanceof Refused && [404, 409, 422].includes(error.status))) this.failed(error);
      if (!control.signal.aborted && !(error instanceof Refused)) {
        this.forget(key);
      }
    } finally {
      this.running.delete(key);
      if (!control.signal.aborted) {
        this.forget(key);
        this.arrived();
      }
      this.next();
    }
  }

  private async request(sheet: Sheet, row: number, column: number, signal: AbortSignal): Promise<Tile> {
    const shape = this.run.levels[sheet.level]?.shape ?? this.run.shape;
    const top = row * SIDE;
    const left = column * SIDE;
    const rows = Math.min(SIDE, shape[ROWS[sheet.axis]] - top);
    const columns = Math.min(SIDE, shape[COLUMNS[sheet.axis]] - left);
    const { what, axis, index, level, version, query } = sheet;
    const address =
      `/api/slice/${what}?axis=${axis}&index=${index}&level=${level}` +
      `&rows=${top}:${top + rows}&columns=${left}:${left + columns}&state=${version}${query ? `&${query}` : ""}`;
    const { data } = await bytes(address, signal);
    return { data: new Uint8Array(data), row: top, column: left, rows, columns };
  }

  private keep(key: string, tile: Tile): void {
    this.kept.set(key, tile);
    this.size += tile.data.length;
    for (const [oldest, { data }] of this.kept) {
      if (this.size <= KEPT || oldest === key) break;
      this.kept.delete(oldest);
      this.size -= data.length;
    }
  }

  private forget(key: string): void {
    for (const [owner, list] of this.wanted) {
      this.wanted.set(
        owner,
        list.filter((one) => one.key !== key),
      );
    }
  }
}

const name = (sheet: Sheet, row: number, column: number): string =>
  `${sheet.what}|${sheet.axis}|${sheet.index}|${sheet.level}|${sheet.version}|${sheet.query ?? ""}|${row}|${column}`;
