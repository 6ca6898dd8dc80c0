import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import vue from "@vitejs/plugin-vue";
import type { Plugin } from "vite";
import { configDefaults, defineConfig } from "vitest/config";

// The inputs beside src/ and public/ that decide what dist/ holds. embed_test.go
// has the same list: it recomputes the stamp without Node.
const inputs = ["index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts"];

// stamp writes dist/.src.sha256, the digest of every input but the tests, so
// that a Go test can tell a stale dist.
function stamp(): Plugin {
  return {
    name: "stamp",
    apply: "build",
    closeBundle() {
      const root = import.meta.dirname;
      const files = [...inputs];
      const walk = (dir: string) => {
        for (const e of readdirSync(dir, { withFileTypes: true })) {
          const path = join(dir, e.name);
          if (e.isDirectory()) walk(path);
          else if (!e.name.endsWith(".test.ts")) files.push(relative(root, path).replaceAll("\\", "/"));
        }
      };
      walk(join(root, "src"));
      walk(join(root, "public"));
      const hash = createHash("sha256");
      for (const f of files.sort()) hash.update(f + "\0").update(readFileSync(join(root, f))).update("\0");
      writeFileSync(join(root, "dist/.src.sha256"), hash.digest("hex") + "\n");
    },
  };
}

// workers makes each worker a chunk of the page's own build, so that both run
// the same files of what they share and a browser loads them once; built the
// usual way a worker carries its own copy (40 KB compressed of the protocol's
// runtime). The import says where the worker is.
function workers(entries: Record<string, string>): Plugin {
  let building = false;
  return {
    name: "workers",
    configResolved: (c) => void (building = c.command === "build"),
    resolveId: (source) => (source in entries ? "\0" + source : undefined),
    load(source) {
      const entry = source.startsWith("\0") ? entries[source.slice(1)] : undefined;
      if (!entry) return;
      if (!building) return `export default new URL(${JSON.stringify("/" + entry)}, location.origin).href`;
      // A name of its own: of two files of one name the bundler confuses the references.
      const ref = this.emitFile({ type: "chunk", id: join(import.meta.dirname, entry), name: source.slice("\0virtual:".length) });
      return `export default import.meta.ROLLUP_FILE_URL_${ref}`;
    },
  };
}

const centre = process.env["OPS_URL"] ?? "http://127.0.0.1:8080";

export default defineConfig({
  // Relative, so that one build serves every base path.
  base: "./",
  plugins: [vue(), workers({ "virtual:watch-worker": "src/api/watch/worker.ts", "virtual:flame-worker": "src/flame/worker.ts" }), stamp()],
  define: { __VUE_OPTIONS_API__: "false", __VUE_PROD_DEVTOOLS__: "false" },
  build: {
    target: "es2022",
    reportCompressedSize: false,
    // data: URLs would need the policy to be wider.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: {
    proxy: Object.fromEntries(["/opscenter.api.v1", "/api", "/pprof", "/trace"].map((p) => [p, { target: centre, changeOrigin: true }])),
  },
  test: {
    environment: "happy-dom",
    exclude: [...configDefaults.exclude, "e2e/**"],
    // The first component of a file is compiled within its test: a busy machine takes seconds for it.
    testTimeout: 20_000,
  },
});
