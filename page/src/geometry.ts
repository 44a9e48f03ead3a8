// Planes, levels and scale bars: plain arithmetic, no page.

import type { Axis, Level, RunFacts, Triple } from "./types";

/** The axes along which a plane's rows and columns run, for the axis that it is perpendicular to. */
export const ROWS: Record<Axis, Axis> = { 0: 1, 1: 0, 2: 0 };
export const COLUMNS: Record<Axis, Axis> = { 0: 2, 1: 2, 2: 1 };
export const AXES: readonly Axis[] = [0, 1, 2];
export const LETTERS = "zyx";
export const PLANES = ["xy", "xz", "yz"] as const;

export const clamp = (value: number, low: number, high: number): number => Math.min(Math.max(value, low), high);

/** The voxel nearest to a place, inside the volume. */
export function inside(place: Triple, shape: Triple): Triple {
  return AXES.map((a) => clamp(Math.floor(place[a]), 0, shape[a] - 1)) as Triple;
}

/**
 * The pyramid level to draw: the coarsest whose pixels are no larger than about one on the screen.
 *
 * `zoom` is device pixels per nm.
 */
export function levelFor(run: RunFacts, axis: Axis, zoom: number): number {
  let best = 0;
  run.levels.forEach((level, i) => {
    const side = Math.max(...[ROWS[axis], COLUMNS[axis]].map((a) => level.step[a] * run.voxel_size[a]));
    if (side * zoom <= 1.25) best = i;
  });
  return best;
}

/** Whether a level's plane is small enough to be fetched whole, as a stand-in for finer ones. */
export function small(level: Level, axis: Axis, side: number): boolean {
  return level.shape[ROWS[axis]] <= side && level.shape[COLUMNS[axis]] <= side;
}

/** A round length (nm) of at most `most` CSS pixels, for a scale bar. */
export function barLength(zoom: number, most: number): number {
  const longest = most / zoom;
  const power = 10 ** Math.floor(Math.log10(longest));
  return power * (longest / power >= 5 ? 5 : longest / power >= 2 ? 2 : 1);
}
