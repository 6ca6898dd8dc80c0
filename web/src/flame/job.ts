// What the page asks of the worker, and the work itself: where there is no
// worker the page does it alone.
import type { Layout } from "../model/flame/layout";
import { around, type Around, type Table } from "../model/flame/table";
import { treeOf, type Frames, type Tree } from "../model/flame/tree";
import { view, type ViewSpec } from "../model/flame/view";
import type { FlameColumns } from "../api/profile";

/** What is drawn, and the table beside it. */
export interface Shown {
  layout: Layout;
  table: Table;
  total: number;
  baseTotal: number;
  missing: string[];
}

export type Ask = { id: number } & ({ type: "load"; frames: Frames; columns: FlameColumns } | { type: "view"; spec: ViewSpec } | { type: "around"; frame: number });
export type Answer = { id: number } & ({ type: "done" } | { type: "view"; shown: Shown } | { type: "around"; around: Around } | { type: "failed"; message: string });

export class Job {
  private tree: Tree | null = null;
  private frames: Frames | null = null;
  private main: Layout | null = null;

  do(a: Ask): { answer: Answer; transfer: ArrayBufferLike[] } {
    try {
      return this.work(a);
    } catch (err) {
      return { answer: { id: a.id, type: "failed", message: String(err) }, transfer: [] };
    }
  }

  private work(a: Ask): { answer: Answer; transfer: ArrayBufferLike[] } {
    if (a.type === "load") {
      const { frame, depth, self, base } = a.columns;
      this.frames = a.frames;
      this.tree = treeOf(frame, depth, self, base);
      this.main = null;
      return { answer: { id: a.id, type: "done" }, transfer: [] };
    }
    if (!this.tree || !this.frames) throw new Error("nothing was loaded");
    if (a.type === "around") {
      if (!this.main) throw new Error("nothing is shown");
      return { answer: { id: a.id, type: "around", around: around(this.main, a.frame) }, transfer: [] };
    }
    const { main, layout, table, total, baseTotal, missing } = view(this.tree, this.frames, a.spec);
    this.main = main;
    const buffers = (of: object): ArrayBufferLike[] => Object.values(of).flatMap((v) => (ArrayBuffer.isView(v) ? [v.buffer] : []));
    // What stays here is copied, everything else goes over.
    return { answer: { id: a.id, type: "view", shown: { layout, table, total, baseTotal, missing } }, transfer: [...buffers(table), ...(layout === main ? [] : buffers(layout))] };
  }
}
