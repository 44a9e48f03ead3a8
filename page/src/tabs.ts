// Three panes of which one is seen.

import { h } from "./dom";
import type { View, ViewValues } from "./view";

export function showTabs(host: HTMLElement, view: View, panes: [ViewValues["tab"], string, HTMLElement][]): void {
  const buttons = panes.map(([tab, name, pane]) => {
    pane.id = `pane-${tab}`;
    pane.setAttribute("role", "tabpanel");
    pane.setAttribute("aria-label", name);
    return h("button", { type: "button", role: "tab", "aria-controls": pane.id, onclick: () => view.set({ tab }) }, name);
  });
  const list = h(
    "div",
    {
      role: "tablist",
      class: "tabs",
      onkeydown: (event: KeyboardEvent) => {
        const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
        if (!by) return;
        const now = panes.findIndex(([tab]) => tab === view.values.tab);
        const next = (now + by + panes.length) % panes.length;
        view.set({ tab: (panes[next] as (typeof panes)[number])[0] });
        buttons[next]?.focus();
      },
    },
    ...buttons,
  );
  host.append(list, ...panes.map(([, , pane]) => pane));
  const follow = (): void =>
    panes.forEach(([tab, , pane], i) => {
      const chosen = tab === view.values.tab;
      pane.hidden = !chosen;
      buttons[i]?.setAttribute("aria-selected", String(chosen));
      buttons[i]?.setAttribute("tabindex", chosen ? "0" : "-1");
    });
  view.listen((changed) => changed.has("tab") && follow());
  follow();
}
