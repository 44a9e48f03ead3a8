// Which pictures a slice view shows at the moment, and under which versions they are kept.

import { levelFor } from "./geometry";
import type { Session } from "./session";
import type { Sheet, Tiles } from "./tiles";
import type { Axis, Piece } from "./types";
import type { View } from "./view";

export type Sheets = Record<"raw" | "map" | "scribbles" | "uncertainty" | "piece", Sheet | null>;

export function sheetsOf(axis: Axis, session: Session, view: View, tiles: Tiles, piece: Piece | null): Sheets {
  const { state } = session;
  const values = view.values;
  const index = values.place[axis];
  const level = levelFor(state.run, axis, values.zoom * devicePixelRatio);
  const sheet = (what: string, version: string, query = ""): Sheet => ({ what, axis, index, level, version, query });
  const made = state.scribbles.key;
  const edited = sheet("labels", session.labels);
  const preview = sheet("preview", made);
  const maps = {
    labels: edited,
    clusters: sheet("clusters", `k${state.k}`, `k=${state.k}`),
    preview: session.untaught || tiles.refusal(preview) ? edited : preview,
    reference: sheet("reference", "0"),
    none: null,
  };
  const uncertainty = sheet("uncertainty", made);
  return {
    raw: state.run.no_raw ? null : sheet("raw", "0"),
    map: maps[values.map],
    scribbles: values.scribbles && Object.keys(state.scribbles.voxels).length ? sheet("scribbles", made) : null,
    uncertainty: values.uncertainty && !session.untaught && !tiles.refusal(uncertainty) ? uncertainty : null,
    piece: piece ? sheet("piece", piece.piece, `piece=${encodeURIComponent(piece.piece)}`) : null,
  };
}
