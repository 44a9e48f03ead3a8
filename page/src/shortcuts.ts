// The keyboard.

import type { PiecesPanel } from "./pieces_panel";
import type { ScribblePanel } from "./scribble_panel";
import type { Session } from "./session";
import type { SliceView } from "./slice_view";
import { mapChoices, type Acts } from "./toolbar";
import { clamp } from "./geometry";
import type { View } from "./view";

interface Parts {
  session: Session;
  view: View;
  acts: Acts;
  slices: SliceView[];
  pieces: PiecesPanel;
  scribbles: ScribblePanel;
  letGo: () => void;
}

export function listenToKeys({ session, view, acts, slices, pieces, scribbles, letGo }: Parts): void {
  let used = slices[0] as SliceView; // the slice that keys act on: the one the pointer was over last
  for (const slice of slices) {
    slice.host.addEventListener("pointerenter", () => (used = slice));
    slice.host.addEventListener("focusin", () => (used = slice));
  }
  let mapBefore = view.values.map;
  const act = (key: string, shift: boolean): boolean => {
    const v = view.values;
    const far = shift ? 10 : 1;
    const digit = /^[1-9]$/.test(key) ? session.classes[Number(key) - 1] : undefined;
    if (digit) view.set({ active: digit.id });
    else if (key === "PageUp" || key === ",") used.step(-far);
    else if (key === "PageDown" || key === ".") used.step(far);
    else if (key === "ArrowUp") used.nudge(-far, 0);
    else if (key === "ArrowDown") used.nudge(far, 0);
    else if (key === "ArrowLeft") used.nudge(0, -far);
    else if (key === "ArrowRight") used.nudge(0, far);
    else if (key === "+" || key === "=") used.zoom(1.25);
    else if (key === "-") used.zoom(0.8);
    else if (key === "[") view.set({ brush: clamp(v.brush - 1, 1, 60) });
    else if (key === "]") view.set({ brush: clamp(v.brush + 1, 1, 60) });
    else if (key === "Enter") pieces.reassign();
    else if (key === "Escape") letGo();
    else if (key === "?") acts.help();
    else {
      switch (key.toLowerCase()) {
        case "v":
          view.set({ tool: "look" });
          break;
        case "p":
          view.set({ tool: "piece", tab: "pieces" });
          break;
        case "b":
          view.set({ tool: "brush", tab: "scribbles" });
          break;
        case "e":
          view.set({ tool: "eraser", tab: "scribbles" });
          break;
        case "l":
          view.set({ lasso: !v.lasso });
          break;
        case "f":
          acts.fit();
          break;
        case "m": {
          const maps = mapChoices(session).map(([map]) => map);
          view.set({ map: maps[(maps.indexOf(v.map) + 1) % maps.length] ?? "labels" });
          break;
        }
        case "h":
          if (v.map !== "none") mapBefore = v.map;
          view.set({ map: v.map === "none" ? (mapBefore === "none" ? "labels" : mapBefore) : "none" });
          break;
        case "o":
          view.set({ outlines: !v.outlines });
          break;
        case "u":
          view.set({ uncertainty: !v.uncertainty });
          break;
        case "s":
          view.set({ scribbles: !v.scribbles });
          break;
        case "n":
          void scribbles.next();
          break;
        default:
          return false;
      }
    }
    return true;
  };
  document.addEventListener("keydown", (event) => {
    const on = event.target as HTMLElement;
    if (on.closest("dialog") || (on.matches("input:not([type=range], [type=checkbox], [type=radio]), select, textarea"))) return;
    if (event.ctrlKey || event.metaKey) {
      const key = event.key.toLowerCase();
      if (key === "z" || key === "y") {
        event.preventDefault();
        void session.act({ act: key === "y" || event.shiftKey ? "redo" : "undo" });
      }
      return;
    }
    if (event.altKey || (on.matches("input") && event.key.startsWith("Arrow"))) return;
    if (on.matches("button, a, [role=tab]") && (event.key === "Enter" || event.key.startsWith("Arrow"))) return;
    if (act(event.key, event.shiftKey)) event.preventDefault();
  });
}
