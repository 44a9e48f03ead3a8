// The page's half of the run: the server's state, the acts, and what other pages do.

import { get, post, Refused, Unreachable } from "./api";
import { tell, toast } from "./toasts";
import type { Act, ActAnswer, ClassFacts, Job, Message, ServerState } from "./types";

export type Link = "up" | "down" | "refused";

interface Listeners {
  state: (state: ServerState) => void;
  job: (job: Job, before: Job | undefined) => void;
  layout: () => void;
  link: (link: Link) => void;
}

export class Session {
  /** This page among the pages on the run. */
  readonly page = Math.random().toString(36).slice(2);
  link: Link = "up";
  /** How often jobs changed the labels without an act: part of what the slices of the map are kept under. */
  private revision = 0;
  private readonly listeners: { [name in keyof Listeners]: Listeners[name][] } = { state: [], job: [], layout: [], link: [] };
  private readonly jobs = new Map<string, Job>();
  private order: Promise<unknown> = Promise.resolve();
  private fetching: Promise<void> | null = null;
  private again = false;

  constructor(public state: ServerState) {
    for (const job of state.jobs) this.jobs.set(job.id, job);
  }

  on<K extends keyof Listeners>(name: K, listener: Listeners[K]): void {
    this.listeners[name].push(listener);
  }

  /** Which labels are shown: another text, other slices. */
  get labels(): string {
    return `${this.state.key}.${this.revision}`;
  }

  /** Ids of classes that were painted. */
  get painted(): number[] {
    return Object.entries(this.state.scribbles.voxels).flatMap(([id, n]) => (n > 0 ? [Number(id)] : []));
  }

  /** What is missing before there can be a preview; null where nothing is. */
  get untaught(): string | null {
    if (!this.state.ready.texture) return "The texture of the volume is still being read. Scribbles are kept, and the preview follows.";
    if (this.painted.length === 0) return "Take the brush (B), choose a class and paint some voxels of it in any slice; then paint a second class.";
    return this.painted.length === 1 ? "Now paint some voxels of a second class." : null;
  }

  /** Classes that are there, without those merged away. */
  get classes(): ClassFacts[] {
    return this.state.classes.filter((one) => one.merged_into === null);
  }

  named(id: number): ClassFacts | undefined {
    const found = this.state.classes.find((one) => one.id === id);
    return found?.merged_into != null ? this.named(found.merged_into) : found;
  }

  get work(): Job[] {
    return [...this.jobs.values()];
  }

  /** Do an act, after those before it; null where it failed, which has then been told. */
  act(act: Act): Promise<ActAnswer | null> {
    const done = this.order.then(async () => {
      try {
        const answer = await post<ActAnswer>("/api/acts", { ...act, page: this.page });
        this.take(answer.state);
        return answer;
      } catch (error) {
        this.failed(error);
        return null;
      }
    });
    this.order = done;
    return done;
  }

  /** Begin a job, or one again that was cancelled. */
  async begin(body: { kind: string; to?: string; class?: number }): Promise<Job | null> {
    try {
      const job = await post<Job>("/api/jobs", body);
      this.heard(job);
      return job;
    } catch (error) {
      this.failed(error);
      return null;
    }
  }

  async cancel(job: Job): Promise<void> {
    try {
      this.heard(await post<Job>(`/api/jobs/${job.id}/cancel`, {}));
    } catch (error) {
      this.failed(error);
    }
  }

  /** Fetch the state; calls while one is on its way are answered by one more fetch. */
  refresh(): Promise<void> {
    this.again = this.fetching !== null;
    this.fetching ??= this.fetchState().finally(() => {
      this.fetching = null;
      if (this.again) void this.refresh();
    });
    return this.fetching;
  }

  /** Listen to the server, and find it again when it is gone. */
  connect(): void {
    const events = new EventSource("/api/events");
    let opened = 0;
    events.onopen = () => {
      if (opened++ > 0 || this.link !== "up") void this.refresh();
    };
    events.onmessage = (event: MessageEvent<string>) => this.hear(JSON.parse(event.data) as Message);
    events.onerror = () => {
      events.close();
      this.lost("down");
    };
  }

  /** Note that a request failed: tell it, or say that the server is gone. */
  failed(error: unknown): void {
    if (error instanceof Unreachable) this.lost("down");
    else if (error instanceof Refused && error.status === 403) this.lost("refused");
    else tell(error);
  }

  private lost(link: Link): void {
    const before = this.link;
    this.setLink(link);
    if (before !== "down" && link === "down") setTimeout(() => void this.retry(), 500);
  }

  private async retry(): Promise<void> {
    try {
      const state = await get<ServerState>("/api/state");
      this.jobs.clear();
      this.state = state;
      this.setLink("up");
      this.take(state);
      this.connect();
    } catch (error) {
      if (error instanceof Refused && error.status === 403) this.setLink("refused");
      else setTimeout(() => void this.retry(), 1000);
    }
  }

  private async fetchState(): Promise<void> {
    try {
      this.take(await get<ServerState>("/api/state"));
    } catch (error) {
      this.failed(error);
    }
  }

  private hear(message: Message): void {
    switch (message.type) {
      case "job":
        return this.heard(message.job);
      case "problem":
        return toast(message.problem, { remedy: "Look at what the server printed.", error: true });
      case "journal":
        if (message.page === this.page) return;
        break;
      case "labels":
        this.revision++;
        break;
      case "layout":
        for (const listener of this.listeners.layout) listener();
    }
    void this.refresh();
  }

  private heard(job: Job): void {
    const before = this.jobs.get(job.id);
    this.jobs.set(job.id, job);
    for (const listener of this.listeners.job) listener(job, before);
    if (job.state === "done" && before?.state !== "done") void this.refresh();
  }

  private take(state: ServerState): void {
    if (state.number < this.state.number && state.run.path === this.state.run.path) return;
    this.state = state;
    for (const job of state.jobs) this.jobs.set(job.id, job);
    for (const listener of this.listeners.state) listener(state);
  }

  private setLink(link: Link): void {
    if (link === this.link) return;
    this.link = link;
    for (const listener of this.listeners.link) listener(link);
  }
}
