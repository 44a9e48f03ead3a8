// The columns of the dots: where they lie, which voxels they are, what colours them.

import { bytes, Refused } from "./api";
import { classTable, referenceTable, scaleTable } from "./colours";
import { tell } from "./toasts";
import type { Session } from "./session";
import type { Scatter } from "./scatter";
import type { Triple } from "./types";
import type { View } from "./view";

export class Dots {
  private voxels = new Uint32Array(0);
  private readonly columns = new Map<string, { version: string; values: Uint8Array }>();
  private turn = 0;

  constructor(
    private readonly session: Session,
    private readonly view: View,
    private readonly scatter: Scatter,
    private readonly say: (text: string) => void,
  ) {}

  async load(): Promise<void> {
    try {
      const [, voxels] = await Promise.all([this.loadLayout(), bytes("/api/dots/voxels")]);
      this.voxels = new Uint32Array(voxels.data);
      await this.colour();
    } catch (error) {
      if (error instanceof Refused && error.waitingFor) this.say("The dots are being placed…");
      else this.session.failed(error);
    }
  }

  async loadLayout(): Promise<void> {
    const { data } = await bytes("/api/dots/layout");
    this.scatter.setPlaces(new Float32Array(data));
  }

  voxel(dot: number): Triple | null {
    if (dot * 3 + 2 >= this.voxels.length) return null;
    return [...this.voxels.subarray(dot * 3, dot * 3 + 3)] as Triple;
  }

  /** Colour the dots as chosen; asks the server only for what changed. */
  async colour(): Promise<void> {
    const turn = ++this.turn;
    const by = this.view.values.dots;
    if (by === "uncertainty" && this.session.untaught) return this.say(this.session.untaught);
    const { state } = this.session;
    const version = { class: this.session.labels, cluster: `k${state.k}`, uncertainty: state.scribbles.key, reference: "", confidence: `k${state.k}` }[by];
    try {
      let column = this.columns.get(by);
      if (column?.version !== version) {
        column = { version, values: new Uint8Array((await bytes(`/api/dots/${by}?state=${version}`)).data) };
        this.columns.set(by, column);
      }
      if (turn === this.turn) {
        this.scatter.setValues(column.values, this.table());
        this.say("");
      }
    } catch (error) {
      if (turn !== this.turn) return;
      if (error instanceof Refused && (error.status === 409 || error.status === 422)) {
        this.say(`${error.problem}: ${error.remedy}`);
      } else if (error instanceof Refused) tell(error);
      else this.session.failed(error);
    }
  }

  private table(): Uint8Array {
    const by = this.view.values.dots;
    if (by === "class") return classTable(this.session.state.classes);
    if (by === "cluster") return classTable(this.session.state.classes.map((one) => ({ ...one, merged_into: null, hidden: false })));
    return by === "reference" ? referenceTable(70) : scaleTable();
  }
}
