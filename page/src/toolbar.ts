// The bar on top: tools, what the slices show, undo and redo, and what leaves the page.

import { h, iconButton, select } from "./dom";
import { clamp } from "./geometry";
import { icon, type IconName } from "./icons";
import type { Session } from "./session";
import { switchTheme } from "./theme";
import type { View, ViewValues } from "./view";

export interface Acts {
  fit: () => void;
  link: () => void;
  picture: () => void;
  take: () => void;
  help: () => void;
}

const TOOL_NAMES: [ViewValues["tool"], string, string][] = [
  ["look", "Look", "Look: click moves the crosshair (V)"],
  ["piece", "Piece", "Piece: click selects a connected piece (P)"],
  ["brush", "Brush", "Brush: paint the chosen class (B)"],
  ["eraser", "Eraser", "Eraser: take scribbles away (E)"],
];

export function mapChoices(session: Session): [ViewValues["map"], string][] {
  const { reference } = session.state.run;
  return [
    ["labels", "edited map"],
    ["clusters", "clusters as found"],
    ["preview", "preview of scribbles"],
    ...(reference.length ? ([["reference", "reference"]] as [ViewValues["map"], string][]) : []),
    ["none", "none"],
  ];
}

export function showToolbar(host: HTMLElement, session: Session, view: View, acts: Acts): void {
  const { run } = session.state;
  const tools = TOOL_NAMES.map(([tool, name, title]) => {
    const button = h("button", { type: "button", title, "data-tool": tool, onclick: () => view.set({ tool, ...(tool === "piece" ? { tab: "pieces" } : tool === "look" ? {} : { tab: "scribbles" }) }) });
    button.append(icon(tool as IconName), h("span", {}, name));
    return button;
  });
  const map = select("Map over the image", mapChoices(session), view.values.map, (value) => view.set({ map: value as ViewValues["map"] }));
  const slider = (label: string, min: number, max: number, oninput: (value: number) => void): HTMLInputElement => {
    const input = h("input", { type: "range", min, max, "aria-label": label, title: label, oninput: () => oninput(Number(input.value)) });
    return input;
  };
  const opacity = slider("Opacity of the map", 0, 100, (value) => view.set({ opacity: value / 100 }));
  const outlines = iconButton(icon("outline"), "Outlines instead of filled areas (O)", () => view.set({ outlines: !view.values.outlines }));
  const black = slider("Contrast: grey shown black", 0, 254, (value) => view.set({ window: [value, Math.max(view.values.window[1], value + 1)] }));
  const white = slider("Contrast: grey shown white", 1, 255, (value) => view.set({ window: [clamp(view.values.window[0], 0, value - 1), value] }));
  const undo = iconButton(icon("undo"), "Undo", () => void session.act({ act: "undo" }));
  const redo = iconButton(icon("redo"), "Redo", () => void session.act({ act: "redo" }));
  const group = (label: string, ...children: Node[]): HTMLElement => h("div", { class: "group", role: "group", "aria-label": label }, ...children);
  const take = h("button", { type: "button", class: "main", title: "Export the map, tables and meshes", onclick: acts.take }, "Export");
  host.append(
    h("h1", { title: `${run.path}\n${run.input}` }, run.name),
    group("Tools", ...tools),
    group("Undo and redo", undo, redo),
    group("Map", h("label", { class: "line" }, h("span", {}, "Map"), map), opacity, outlines),
    group("Contrast", h("span", {}, "Contrast"), h("div", { class: "window" }, black, white)),
    group("View", iconButton(icon("fit"), "Show the whole volume (F)", acts.fit)),
    h("div", { class: "space" }),
    group(
      "Take away",
      iconButton(icon("link"), "Copy a link to this view", acts.link),
      iconButton(icon("picture"), "Save a picture of this view", acts.picture),
      take,
    ),
    group("Page", iconButton(icon("theme"), "Light or dark", switchTheme), iconButton(icon("help"), "Help and keys (?)", acts.help)),
  );
  const follow = (): void => {
    const v = view.values;
    for (const button of tools) button.setAttribute("aria-pressed", String(button.dataset["tool"] === v.tool));
    map.value = v.map;
    opacity.value = String(Math.round(v.opacity * 100));
    outlines.setAttribute("aria-pressed", String(v.outlines));
    black.value = String(v.window[0]);
    white.value = String(v.window[1]);
  };
  const followState = (): void => {
    for (const [button, what, key] of [[undo, session.state.undo, "Undo"], [redo, session.state.redo, "Redo"]] as const) {
      button.disabled = what === null;
      button.title = what === null ? `Nothing to ${key.toLowerCase()}` : `${key}: ${what}`;
    }
  };
  view.listen(follow);
  session.on("state", followState);
  follow();
  followState();
}
