// The help sheet: what the page is for, in the order in which it is done, and the keys.

import { dialog, h } from "./dom";

const KEYS: [string, string][] = [
  ["Wheel, Page Up / Down, , and .", "go through slices (Shift: ten at a time)"],
  ["Ctrl + wheel, pinch, + and −", "zoom"],
  ["Drag", "pan (with the middle button while painting)"],
  ["Click, arrow keys", "move the crosshair"],
  ["F", "show the whole volume"],
  ["V · P · B · E", "look · select pieces · brush · eraser"],
  ["L, or Shift + drag over dots", "lasso"],
  ["1 to 9", "choose the class to paint and assign"],
  ["[ and ]", "smaller and larger brush"],
  ["Enter", "reassign the selected piece to the chosen class"],
  ["M", "map: edited, clusters, preview, reference, none"],
  ["H", "hide and show the map"],
  ["O · U · S", "outlines · uncertain places · scribbles"],
  ["N", "where to paint next"],
  ["Ctrl + Z · Ctrl + Shift + Z", "undo · redo"],
  ["Escape", "let go of a selection, close a dialog"],
  ["?", "this sheet"],
];

const STEPS = [
  "Look: each colour is a class of similar texture. Click a dot to see the voxel it stands for; click in a slice to see its dots.",
  "Name: give the classes their names in the table, merge those that belong together, hide the rest.",
  "Correct: circle dots with the lasso, or take the Piece tool and reassign connected pieces, one or many.",
  "Teach: paint a few strokes of two or more classes; the preview follows each stroke. Apply it when it is right.",
  "Take away: Export writes the map, tables and meshes. The same commands work without the page.",
];

export function showHelp(): void {
  if (document.querySelector("dialog.help")) return;
  const sheet = dialog(
    "Help",
    h("ol", {}, ...STEPS.map((step) => h("li", {}, step))),
    h("table", { class: "keys" }, h("tbody", {}, ...KEYS.map(([key, what]) => h("tr", {}, h("th", {}, key), h("td", {}, what))))),
    h("p", { class: "quiet" }, "Every act is saved in the run's journal before it is shown: close the page whenever you like."),
  );
  sheet.classList.add("help");
}
