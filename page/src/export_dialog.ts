// Take it away: formats, the command that does the same, and what was exported before.

import { get } from "./api";
import { ClassSelect } from "./class_select";
import { copyable, dialog, fill, h } from "./dom";
import type { Session } from "./session";
import type { View } from "./view";
import { count } from "./words";

const FORMATS: [string, string, string][] = [
  ["ome-zarr", "OME-Zarr 0.5", "the map with all levels, for napari, Fiji (MoBIE) and neuroglancer"],
  ["ome-zarr-0.4", "OME-Zarr 0.4", "the same for older programs"],
  ["tiff", "TIFF", "one stack of class numbers, for ImageJ and Amira"],
  ["csv", "Table of pieces (CSV)", "each connected piece with its volume and place"],
  ["stl", "Mesh (STL)", "the surface of one class, for printing and Blender"],
  ["ply", "Mesh (PLY)", "the surface of one class"],
  ["obj", "Mesh (OBJ)", "the surface of one class"],
];
const MESHES = new Set(["stl", "ply", "obj"]);

interface Commands {
  apply: string;
  export: Record<string, string>;
  classify?: string;
}

interface Exported {
  name: string;
  bytes: number;
  download: string;
}

export async function showExport(session: Session, view: View): Promise<void> {
  if (document.querySelector("dialog.export")) return;
  let commands: Commands;
  let exported: Exported[];
  try {
    [commands, exported] = await Promise.all([get<Commands>("/api/commands"), get<Exported[]>("/api/exports")]);
  } catch (error) {
    session.failed(error);
    return;
  }
  let format = "ome-zarr";
  const command = h("div", {});
  const mesh = new ClassSelect("Class of the mesh", session, [], () => show());
  mesh.value = String(view.values.active);
  const meshLine = h("label", { class: "line" }, "Class", mesh.element);
  const show = (): void => {
    meshLine.hidden = !MESHES.has(format);
    fill(command, copyable((commands.export[format] ?? "").replace("CLASS", mesh.value), "the command"));
  };
  const sheet = dialog(
    "Export",
    h(
      "fieldset",
      {},
      h("legend", { class: "hide" }, "Format"),
      ...FORMATS.map(([value, name, what]) =>
        h(
          "label",
          { class: "format" },
          h("input", { type: "radio", name: "format", value, checked: value === format, onchange: () => ((format = value), show()) }),
          h("span", {}, h("b", {}, name), " ", h("small", { class: "quiet" }, what)),
        ),
      ),
    ),
    meshLine,
    h("p", { class: "quiet" }, "The command that does the same:"),
    command,
    h(
      "div",
      { class: "line end" },
      h(
        "button",
        {
          type: "button",
          class: "main",
          onclick: () => {
            sheet.close();
            void session.begin({ kind: "export", to: format, ...(MESHES.has(format) ? { class: mesh.id } : {}) });
          },
        },
        "Export",
      ),
    ),
    h("h3", {}, "The edited map"),
    h("p", { class: "quiet" }, "Replays all your acts on the whole volume; exports do it first by themselves."),
    copyable(commands.apply, "the command"),
    h(
      "div",
      { class: "line end" },
      h("span", { class: "quiet" }, session.state.applied?.key === session.state.key ? `Written: ${session.state.applied.path}` : ""),
      h("button", { type: "button", onclick: () => (sheet.close(), void session.begin({ kind: "apply" })) }, "Write the edited map"),
    ),
    h("h3", {}, "Neuroglancer"),
    neuroglancer(session, view),
    exported.length ? h("h3", {}, "Exported before") : null,
    h("ul", {}, ...exported.map((one) => h("li", {}, h("a", { href: one.download, download: one.name }, one.name), h("span", { class: "quiet" }, ` ${count(Math.ceil(one.bytes / 1024))} KiB`)))),
  );
  sheet.classList.add("export");
  show();
}

/** A button that asks for a link to the crosshair in neuroglancer, and then shows the link with what it leaves out. */
function neuroglancer(session: Session, view: View): HTMLElement {
  const line = h("div", { class: "line" });
  const ask = async (): Promise<void> => {
    const [z, y, x] = view.values.place;
    try {
      const { link, note } = await get<{ link: string; note: string }>(`/api/neuroglancer?z=${z}&y=${y}&x=${x}`);
      const open = h("a", { href: link, target: "_blank", rel: "noopener noreferrer" }, "Open in neuroglancer");
      fill(line, open, h("span", { class: "quiet" }, note));
      open.focus();
    } catch (error) {
      session.failed(error);
    }
  };
  fill(line, h("button", { type: "button", onclick: () => void ask() }, "Make a link"));
  return line;
}
