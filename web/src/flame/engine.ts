// The page's end of the worker: questions with answers. The work is done on the
// page itself where a worker cannot be had.
import workerUrl from "virtual:flame-worker";
import type { FlameColumns } from "../api/profile";
import { trustedWorker } from "../api/workers";
import type { Around } from "../model/flame/table";
import type { Frames } from "../model/flame/tree";
import type { ViewSpec } from "../model/flame/view";
import { Job, type Answer, type Ask, type Shown } from "./job";

type Question = Ask extends infer A ? (A extends { id: number } ? Omit<A, "id"> : never) : never;

export class Engine {
  private next = 1;
  private worker: Worker | null = null;
  private job: Job | null = null;
  private waiting = new Map<number, { resolve: (a: Answer) => void; reject: (err: Error) => void }>();
  // What was asked so far, for a job of our own if the worker never comes up.
  private early: Ask[] | null = [];

  constructor() {
    try {
      if (typeof Worker === "undefined") throw new Error("there are no workers");
      this.worker = new Worker(trustedWorker(workerUrl), { type: "module", name: "flame" });
      this.worker.onmessage = (e: MessageEvent<Answer>) => {
        this.early = null;
        this.take(e.data);
      };
      this.worker.onerror = () => this.alone();
    } catch {
      this.alone();
    }
  }

  async load(frames: Frames, columns: FlameColumns): Promise<void> {
    await this.ask({ type: "load", frames: { names: frames.names, files: frames.files, lines: Array.from(frames.lines) }, columns });
  }

  async view(spec: ViewSpec): Promise<Shown> {
    const a = await this.ask({ type: "view", spec });
    if (a.type !== "view") throw new Error("the worker answered something else");
    return a.shown;
  }

  async around(frame: number): Promise<Around> {
    const a = await this.ask({ type: "around", frame });
    if (a.type !== "around") throw new Error("the worker answered something else");
    return a.around;
  }

  close(): void {
    this.worker?.terminate();
    this.waiting.clear();
  }

  private ask(q: Question): Promise<Answer> {
    const a = { ...q, id: this.next++ } as Ask;
    return new Promise((resolve, reject) => {
      this.waiting.set(a.id, { resolve, reject });
      if (this.worker) {
        this.early?.push(a);
        this.worker.postMessage(a);
      } else queueMicrotask(() => this.take(this.job!.do(a).answer));
    });
  }

  private alone(): void {
    if (this.job) return;
    this.worker?.terminate();
    this.worker = null;
    this.job = new Job();
    const early = this.early ?? [];
    this.early = null;
    for (const a of early) this.take(this.job.do(a).answer);
  }

  private take(a: Answer): void {
    const w = this.waiting.get(a.id);
    this.waiting.delete(a.id);
    if (a.type === "failed") w?.reject(new Error(a.message));
    else w?.resolve(a);
  }
}
