// The page: fetch the state, put the parts together, tell each of what the others do.

import { get, Refused } from "./api";
import { ClassTable } from "./class_table";
import { byId, copy, copyable, dialog, fill, h } from "./dom";
import { DotsPanel } from "./dots_panel";
import { showExport } from "./export_dialog";
import { AXES, clamp, COLUMNS, PLANES, ROWS } from "./geometry";
import { showHelp } from "./help";
import { Here } from "./here";
import { save, takePicture } from "./picture";
import { PiecesPanel } from "./pieces_panel";
import { ScribblePanel } from "./scribble_panel";
import { Session } from "./session";
import { listenToKeys } from "./shortcuts";
import { SliceView, type Hands } from "./slice_view";
import { showTabs } from "./tabs";
import { startTheme } from "./theme";
import { Tiles } from "./tiles";
import { tell, toast } from "./toasts";
import { showToolbar, type Acts } from "./toolbar";
import type { ServerState, Triple } from "./types";
import { View } from "./view";
import { showWork } from "./work";

async function start(): Promise<void> {
  startTheme();
  let state: ServerState;
  try {
    state = await get<ServerState>("/api/state");
  } catch (error) {
    const said = error instanceof Refused ? `${error.problem}; ${error.remedy}.` : "The server does not answer; start it again and reload.";
    banner(said);
    return;
  }
  document.title = `${state.run.name} – vemosaic`;
  const session = new Session(state);
  const view = new View(state.run);
  const tiles: Tiles = new Tiles(
    state.run,
    () => redraw(),
    (error) => session.failed(error),
  );
  const pieces = new PiecesPanel(session, view, () => redraw());
  const hands: Hands = {
    moved: (place) => view.set({ place }),
    picked: (place) => (view.set({ place }), void pieces.pick(place)),
    painted: async (axis, index, runs, paint) => (await session.act({ act: "scribble", axis, index, runs, class: paint }))?.number ?? null,
    hovered: (place) => showHover(place),
    piece: () => pieces.selected,
  };
  const slices = AXES.map((axis) => new SliceView(axis, byId(`view-${PLANES[axis]}`), session, view, tiles, hands));
  const redraw = (pixels = true): void => slices.forEach((slice) => slice.invalidate(pixels));
  const jump = (place: Triple): void => view.set({ place });
  const dots = new DotsPanel(byId("dots"), session, view, jump);
  new Here(byId("here"), session, view, (found) => dots.highlight(found));
  const scribbles = new ScribblePanel(session, view, jump);
  showTabs(byId("panel"), view, [
    ["classes", "Classes", new ClassTable(session, view).element],
    ["pieces", "Pieces", pieces.element],
    ["scribbles", "Scribbles", scribbles.element],
  ]);
  const acts: Acts = {
    fit: () => fit(slices, view),
    link: () => void giveLink(view.link()),
    picture: () => void takePicture([byId("volume"), byId("dots")], session.classes).then((blob) => save(blob, `${state.run.name}.png`), tell),
    take: () => void showExport(session, view),
    help: showHelp,
  };
  showToolbar(byId("bar"), session, view, acts);
  const showHover = showFoot(session);
  listenToKeys({ session, view, acts, slices, pieces, scribbles, letGo: () => (pieces.drop(), dots.hideCircled()) });

  view.listen((changed) => {
    if (changed.has("place")) follow(slices, view, state);
    for (const slice of slices) slice.host.dataset["tool"] = view.values.tool;
    redraw();
  });
  session.on("state", (now) => {
    if (now.run.shape.join() !== state.run.shape.join()) location.reload();
    if (!session.classes.some((one) => one.id === view.values.active)) view.set({ active: session.classes[0]?.id ?? 1 });
    redraw();
  });
  session.on("link", (link) => {
    if (link === "up") tiles.retry();
    if (link === "down") banner("The server does not answer. Nothing is lost: every act was saved before it was shown. The page goes on by itself as soon as the server is back.");
    else if (link === "refused") banner("The server was started again with a new key. Nothing is lost: open the link that it printed.");
    else banner(null);
  });
  session.connect();
  if (state.run.no_raw) toast("The map is shown without the raw volume.", { remedy: state.run.no_raw, error: true });
  if (view.values.zoom === 0) fit(slices, view);
  redraw();
}

/** Zoom so that all three planes are seen whole. */
function fit(slices: SliceView[], view: View): void {
  const { shape, voxel_size } = view.run;
  const zooms = slices.flatMap((slice) => {
    const [width, height] = slice.size();
    const [rows, columns] = [ROWS[slice.axis], COLUMNS[slice.axis]];
    return [(0.96 * width) / (shape[columns] * voxel_size[columns]), (0.96 * height) / (shape[rows] * voxel_size[rows])];
  });
  view.set({ zoom: Math.max(1e-5, Math.min(...zooms)), centre: shape.map((n) => n / 2) as Triple });
}

/** Keep the crosshair in sight. */
function follow(slices: SliceView[], view: View, state: ServerState): void {
  const { place, centre, zoom } = view.values;
  const moved = [...centre] as Triple;
  for (const slice of slices) {
    const [width, height] = slice.size();
    for (const [axis, pixels] of [[ROWS[slice.axis], height], [COLUMNS[slice.axis], width]] as const) {
      const half = pixels / 2 / (zoom * state.run.voxel_size[axis]);
      const away = place[axis] + 0.5 - moved[axis];
      if (Math.abs(away) > half) moved[axis] += away - clamp(away, -half * 0.8, half * 0.8);
    }
  }
  if (moved.some((n, axis) => n !== centre[axis])) view.set({ centre: moved });
}

function banner(text: string | null): void {
  const element = byId("banner");
  element.hidden = text === null;
  element.textContent = text;
}

async function giveLink(link: string): Promise<void> {
  if (await copy(link)) toast("The link to this view is copied.");
  else dialog("Link to this view", copyable(link, "the link"));
}

function showFoot(session: Session): (place: Triple | null) => void {
  const hover = h("span", { class: "hover" });
  const saved = h("span", { class: "quiet" });
  const work = h("div", { class: "work", "aria-label": "Work of the server" });
  fill(byId("foot"), hover, work, saved);
  const count = (): void => {
    const { number, incomplete } = session.state;
    saved.textContent = incomplete ? "Saved; some acts are still being worked into the map" : number ? `All ${number} acts saved` : "";
  };
  session.on("state", count);
  count();
  showWork(work, session);
  return (place) => {
    hover.textContent = place ? `x ${place[2]} · y ${place[1]} · z ${place[0]}` : "";
  };
}

start().catch(tell);
