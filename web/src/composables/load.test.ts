import { expect, test } from "vitest";
import { effectScope, nextTick, ref } from "vue";
import { useLoad } from "./load";

/** Reads that the test answers by hand. */
function reads() {
  const list: { answer: (v: string) => void; fail: (e: unknown) => void; signal: AbortSignal }[] = [];
  const read = (signal: AbortSignal) =>
    new Promise<string>((answer, fail) => {
      list.push({ answer, fail, signal });
    });
  return { list, read };
}
const settle = async () => {
  await nextTick();
  await nextTick();
};

test("another thing's answer is forgotten, and a late one ignored", async () => {
  const { list, read } = reads();
  const id = ref("a");
  const scope = effectScope();
  const load = scope.run(() => useLoad(read, [id]))!;
  list[0]!.answer("first");
  await settle();
  expect([load.data.value, load.loading.value]).toEqual(["first", false]);
  id.value = "b";
  await settle();
  expect([load.data.value, load.loading.value]).toEqual([null, true]);
  id.value = "c";
  await settle();
  expect(list[1]!.signal.aborted).toBe(true);
  list[2]!.answer("third");
  list[1]!.answer("second, too late");
  await settle();
  expect(load.data.value).toBe("third");
  scope.stop();
  expect(list[2]!.signal.aborted).toBe(true);
});

test("a failure is told and the last answer stays; trying again clears it", async () => {
  const { list, read } = reads();
  const scope = effectScope();
  const load = scope.run(() => useLoad(read))!;
  list[0]!.answer("good");
  await settle();
  void load.reload();
  list[1]!.fail(new TypeError("no network"));
  await settle();
  expect([load.data.value, load.problem.value?.retry]).toEqual(["good", true]);
  void load.reload();
  list[2]!.answer("better");
  await settle();
  expect([load.data.value, load.problem.value]).toEqual(["better", null]);
  scope.stop();
});
