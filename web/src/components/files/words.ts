// Words of a capture's files, which come with them.
import { words } from "../../i18n";

export const table = {
  speedscope: ["Download for speedscope, with every sample type: drop the file on its page, or run speedscope FILE. It reads the .pprof as well, one sample type at a time.", "下載給 speedscope，包含所有樣本類型：把檔案拖到它的網頁，或執行 speedscope FILE。它也能直接讀 .pprof，但一次只有一種樣本類型。"],
} as const;

export const { t, tn } = words(table);
