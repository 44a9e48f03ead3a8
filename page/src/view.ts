// What the person looks at: kept in the address, so that a link opens the same view. No server needed.

import { clamp, inside } from "./geometry";
import type { RunFacts, Triple } from "./types";

export const MAPS = ["labels", "clusters", "preview", "reference", "none"] as const;
export const DOT_COLOURS = ["class", "cluster", "reference", "confidence", "uncertainty"] as const;
export const TOOLS = ["look", "piece", "brush", "eraser"] as const;
export const TABS = ["classes", "pieces", "scribbles"] as const;

export interface ViewValues {
  place: Triple; // the crosshair's voxel
  centre: Triple; // voxel coordinates in the middle of the three views
  zoom: number; // CSS pixels per nm
  map: (typeof MAPS)[number];
  opacity: number; // of the map, 0 to 1
  outlines: boolean;
  window: [number, number]; // grey values shown black and white, 0 to 255
  scribbles: boolean;
  uncertainty: boolean;
  dots: (typeof DOT_COLOURS)[number];
  tool: (typeof TOOLS)[number];
  brush: number; // diameter, voxels
  active: number; // the class that is painted and assigned
  tab: (typeof TABS)[number];
  lasso: boolean;
}

type Name = keyof ViewValues;

export class View {
  readonly values: ViewValues;
  private readonly listeners: ((changed: Set<Name>) => void)[] = [];
  private changed = new Set<Name>();
  private saving = 0;

  constructor(readonly run: RunFacts) {
    const middle = run.shape.map((n) => n / 2) as Triple;
    this.values = {
      place: inside(middle, run.shape),
      centre: middle,
      zoom: 0,
      map: "labels",
      opacity: 0.45,
      outlines: false,
      window: [0, 255],
      scribbles: true,
      uncertainty: false,
      dots: "class",
      tool: "look",
      brush: 7,
      active: 1,
      tab: "classes",
      lasso: false,
    };
    this.read(location.hash);
    addEventListener("hashchange", () => {
      if (location.hash === this.hash()) return;
      this.read(location.hash);
      this.tell(new Set(Object.keys(this.values) as Name[]));
    });
  }

  /** Be told of changes, once for all that happen together. */
  listen(listener: (changed: Set<Name>) => void): void {
    this.listeners.push(listener);
  }

  set(values: Partial<ViewValues>): void {
    Object.assign(this.values, values);
    // rounded as in the address, so that a link opens the very same view
    this.values.zoom = Number(this.values.zoom.toPrecision(5));
    this.values.centre = this.values.centre.map((c) => Number(c.toFixed(2))) as Triple;
    if (this.changed.size === 0) {
      queueMicrotask(() => {
        const changed = this.changed;
        this.changed = new Set();
        this.tell(changed);
      });
    }
    for (const name of Object.keys(values)) this.changed.add(name as Name);
  }

  /** The address of this very view. */
  link(): string {
    return `${location.origin}${location.pathname}${this.hash()}`;
  }

  private tell(changed: Set<Name>): void {
    for (const listener of this.listeners) listener(changed);
    clearTimeout(this.saving);
    this.saving = setTimeout(() => history.replaceState(null, "", this.hash()), 250);
  }

  private hash(): string {
    const v = this.values;
    const flags = [v.outlines && "outlines", v.uncertainty && "uncertainty", !v.scribbles && "noscribbles"].filter(Boolean);
    const parts = [
      `at=${v.place.join(",")}`,
      `centre=${v.centre.join(",")}`,
      `zoom=${v.zoom}`,
      `map=${v.map}`,
      `opacity=${Number(v.opacity.toFixed(2))}`,
      `grey=${v.window.join(",")}`,
      `dots=${v.dots}`,
      `tab=${v.tab}`,
    ];
    if (flags.length) parts.push(`show=${flags.join(",")}`);
    return `#${parts.join("&")}`;
  }

  /** Take what is sound in an address; whatever is not stays as it is. */
  private read(hash: string): void {
    const said = new URLSearchParams(hash.slice(1));
    const v = this.values;
    const numbers = (name: string, n: number): number[] | null => {
      const found = (said.get(name) ?? "").split(",").map(Number);
      return said.has(name) && found.length === n && found.every(Number.isFinite) ? found : null;
    };
    const one = <T extends string>(name: string, of: readonly T[], otherwise: T): T =>
      of.find((value) => value === said.get(name)) ?? otherwise;
    v.place = inside((numbers("at", 3) as Triple | null) ?? v.place, this.run.shape);
    const centre = numbers("centre", 3) ?? v.centre;
    v.centre = centre.map((c, a) => clamp(c, 0, this.run.shape[a] ?? 0)) as Triple;
    v.zoom = Math.max(0, numbers("zoom", 1)?.[0] ?? v.zoom);
    v.map = one("map", MAPS, v.map);
    v.opacity = clamp(numbers("opacity", 1)?.[0] ?? v.opacity, 0, 1);
    const [low, high] = numbers("grey", 2) ?? v.window;
    if (low !== undefined && high !== undefined && low < high) v.window = [clamp(low, 0, 254), clamp(high, 1, 255)];
    v.dots = one("dots", DOT_COLOURS, v.dots);
    v.tab = one("tab", TABS, v.tab);
    const flags = said.get("show")?.split(",") ?? [];
    if (said.has("at")) {
      v.outlines = flags.includes("outlines");
      v.uncertainty = flags.includes("uncertainty");
      v.scribbles = !flags.includes("noscribbles");
    }
  }
}
