// Line drawings of 24 by 24, made as elements since no markup is ever set from strings.

const PATHS = {
  look: "M12 3v6M12 15v6M3 12h6M15 12h6",
  piece: "M5 9c0-4 4-5 7-5s8 2 7 7-3 4-4 7-7 3-8-1-2-4-2-8zM9 11l2 3 4-5",
  brush: "M20 4c-4 1-8 5-10 8l2 2c3-2 7-6 8-10zM9 13c-3 0-3 3-5 6 4 1 7-1 7-4z",
  eraser: "M4 15l9-10 7 6-8 9H8zM9 10l7 6M12 20h8",
  lasso: "M12 4c5 0 9 2.500 9 6s-4 6-9 6-9-2.500-9-6 4-6 9-6zM8 15c-2 1-2 4 0 4s2 2 0 3",
  undo: "M9 5L4 10l5 5M4 10h10a6 6 0 010 11h-3",
  redo: "M15 5l5 5-5 5M20 10H10a6 6 0 000 11h3",
  link: "M10 14a4 4 0 006 0l3-3a4 4 0 00-6-6l-1.500 1.500M14 10a4 4 0 00-6 0l-3 3a4 4 0 006 6l1.500-1.500",
  picture: "M4 7h4l2-3h4l2 3h4v12H4zM12 9.500a3.500 3.500 0 100 7 3.500 3.500 0 000-7z",
  take: "M12 3v12M7 10l5 5 5-5M4 20h16",
  help: "M9 9a3 3 0 116 0c0 2-3 2.500-3 5M12 18v.5",
  theme: "M20 14A8 8 0 1110 4a6.500 6.500 0 0010 10z",
  eye: "M2 12c3-5 6.500-7 10-7s7 2 10 7c-3 5-6.500 7-10 7s-7-2-10-7zM12 9a3 3 0 100 6 3 3 0 000-6z",
  hidden: "M3 4l18 16M5 8c-1 1-2 2.500-3 4 3 5 6.500 7 10 7 2 0 3.500-.5 5-1.500M10 5c5-.5 9 2 12 7l-2 3",
  fit: "M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5",
  outline: "M5 5h14v14H5z",
} as const;

export type IconName = keyof typeof PATHS;

export function icon(name: IconName): SVGElement {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(space, "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}
