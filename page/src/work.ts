// Jobs: what the server works on, how far it is, and a way to stop and take up again.

import { fill, h } from "./dom";
import type { Session } from "./session";
import { toast } from "./toasts";
import type { Job } from "./types";
import { timeLeft } from "./words";

const RESUMABLE = new Set(["texture", "layout", "grey", "classify", "pieces", "apply", "table"]);

export function showWork(host: HTMLElement, session: Session): void {
  const closed = new Set<string>();
  let scheduled = false;
  const draw = (): void => {
    scheduled = false;
    const latest = new Map(session.work.map((job) => [job.kind, job]));
    const shown = session.work.filter(
      (job) =>
        job.state === "running" ||
        job.state === "waiting" ||
        ((job.state === "failed" || job.state === "cancelled") && !closed.has(job.id) && latest.get(job.kind) === job),
    );
    fill(host, ...shown.map((job) => row(job, session, () => (closed.add(job.id), draw()))));
  };
  const soon = (): void => {
    if (!scheduled) setTimeout(draw, 100);
    scheduled = true;
  };
  session.on("state", soon);
  session.on("job", (job, before) => {
    soon();
    if (job.state === "done" && before && before.state !== "done") finished(job);
  });
  draw();
}

function row(job: Job, session: Session, close: () => void): HTMLElement {
  const active = job.state === "running" || job.state === "waiting";
  const part = job.total > 0 ? job.done / job.total : 0;
  const words = { waiting: "waits its turn", running: `${Math.round(part * 100)} % ${timeLeft(job.seconds_left)}`, cancelled: "stopped", failed: `failed: ${job.problem ?? ""}; ${job.remedy ?? ""}`, done: "" };
  const button = (text: string, act: () => void): HTMLElement =>
    h("button", { type: "button", "aria-label": `${text}: ${job.what}`, onclick: act }, text);
  const again = RESUMABLE.has(job.kind) ? button(job.state === "failed" ? "Try again" : "Go on", () => void session.begin({ kind: job.kind })) : null;
  return h(
    "div",
    { class: `job ${job.state}`, "data-kind": job.kind, "data-state": job.state },
    h("span", {}, job.what),
    active ? h("progress", { max: 1, value: part, "aria-label": job.what }) : null,
    h("span", { class: "quiet", title: words[job.state] }, words[job.state]),
    active ? button("Cancel", () => void session.cancel(job)) : again,
    active ? null : button("Dismiss", close),
  );
}

function finished(job: Job): void {
  const { result } = job;
  if (job.kind === "export" && result) {
    const link = result.download ? h("a", { href: result.download, download: "" }, "Download") : null;
    toast(`Exported to ${result.path ?? ""}`, { extra: h("span", { class: "line" }, link) });
  } else if (job.kind === "apply") toast(`The edited map is written: ${result?.path ?? ""}`);
  else if (job.kind === "classify" || job.kind === "pieces") toast(`Done: ${job.what}`);
}
