// What the server says and hears. Axes are z, y, x throughout; voxels count from 0.

export type Triple = [number, number, number];
export type Colour = [number, number, number];
export type Axis = 0 | 1 | 2;

export interface Level {
  shape: Triple;
  step: Triple;
}

export interface RunFacts {
  name: string;
  path: string;
  input: string;
  shape: Triple;
  voxel_size: Triple;
  translation: Triple;
  levels: Level[];
  ks: number[];
  default_k: number;
  reference: string[];
  no_raw: string | null;
}

export interface ClassFacts {
  id: number;
  name: string;
  colour: Colour;
  hidden: boolean;
  clusters: number[];
  merged_into: number | null;
}

export type JobState = "waiting" | "running" | "done" | "cancelled" | "failed";

export interface Job {
  id: string;
  kind: string;
  what: string;
  state: JobState;
  done: number;
  total: number;
  seconds_left: number | null;
  problem: string | null;
  remedy: string | null;
  result: { path?: string; download?: string | null; command?: string } | null;
}

export interface ServerState {
  run: RunFacts;
  number: number;
  key: string;
  k: number;
  classes: ClassFacts[];
  undo: string | null;
  redo: string | null;
  scribbles: { key: string; voxels: Record<string, number>; planes: [Axis, number][] };
  pending: number[];
  incomplete: boolean;
  ready: { texture: boolean; grey: boolean; layout: string };
  dots: number;
  applied: { number: number; key: string; path: string } | null;
  jobs: Job[];
  commands: Record<string, string>;
}

/** Cells of one row of a plane: row, first column, how many. */
export type Cells = [number, number, number];

export type Act =
  | { act: "choose_k"; k: number }
  | { act: "add_class"; name: string; colour?: Colour }
  | { act: "edit_class"; class: number; name?: string; colour?: Colour; hidden?: boolean }
  | { act: "merge"; classes: number[]; into: number }
  | { act: "lasso"; dots: number[]; class: number; within: number[] | null }
  | { act: "piece"; seed: Triple; class: number }
  | { act: "pieces"; of: number; class: number; smaller_than?: number; touching?: number; border?: true }
  | { act: "scribble"; axis: Axis; index: number; runs: Cells[]; class: number }
  | { act: "classify"; within: number[] | null }
  | { act: "undo" }
  | { act: "redo" };

export interface ActAnswer {
  number: number;
  state: ServerState;
  class?: number;
}

export interface VoxelFacts {
  voxel: Triple;
  value: number | null;
  cluster: number;
  class: number;
  confidence: number | null;
  reference: string | null;
  scribble: number;
  dots: number[];
}

export interface Piece {
  piece: string;
  class: number;
  voxels: number;
  volume_um3: number;
  box: [Triple, Triple];
  border: boolean;
  whole: boolean;
}

export interface Spot {
  voxel: Triple;
  uncertainty: number;
  voxels: number;
  number: number;
  of: number;
}

export interface Table {
  key: string;
  exact: boolean;
  total: number;
  classes: { id: number; voxels: number; volume_um3: number; share: number; pieces: number | null }[];
  reference: Record<string, Record<string, number>>;
}

export type Message =
  | { type: "journal"; number: number; page: string | null }
  | { type: "job"; job: Job }
  | { type: "labels" }
  | { type: "problem"; problem: string }
  | { type: "layout" }
  | { type: "ready"; what: string };
