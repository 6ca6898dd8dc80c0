// What travels beside the calls, over plain HTTP: files down, bundles up, and
// the tools' own pages.
import { path } from "./base";
import { httpError } from "./errors";

const seg = encodeURIComponent;

export interface ArtifactRef {
  capture: string;
  instance: string;
  name: string;
}

export const artifactUrl = (r: ArtifactRef): string => path(`api/captures/${seg(r.capture)}/${seg(r.instance)}/${seg(r.name)}`);
export const bundleUrl = (capture: string): string => path(`api/captures/${seg(capture)}/bundle.zip`);

/** pprof's own page on a profile. */
export const pprofUrl = (r: ArtifactRef): string => path(`pprof/${seg(r.capture)}/${seg(r.instance)}/${seg(r.name)}/`);

/** pprof's flame graph of a profile, of what matches focus alone; "" = all of it. */
export const pprofFlameUrl = (r: ArtifactRef, focus: string): string => pprofUrl(r) + "flamegraph" + (focus ? `?f=${seg(focus)}` : "");
export const pprofTopUrl = (r: ArtifactRef): string => pprofUrl(r) + "top";

/** pprof's own page on what a profile has more, or less, than base. */
export const pprofDiffUrl = (r: ArtifactRef, base: ArtifactRef): string => pprofUrl(r) + `vs/${seg(base.capture)}/${seg(base.instance)}/${seg(base.name)}/`;

/** A profile in the format of speedscope, every sample type in it. */
export const speedscopeUrl = (r: ArtifactRef): string => artifactUrl(r) + "/speedscope.json";

/** The trace viewer's page on a window; its path comes from the centre. */
export const traceWindowUrl = (relative: string): string => path(relative);

/**
 * Sends a bundle and returns the id of the capture it became, or "" if the
 * centre did not say. fetch cannot tell how far an upload is, hence the old way.
 */
export function importBundle(file: Blob, onProgress: (share: number) => void, signal: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    const x = new XMLHttpRequest();
    const abort = () => x.abort();
    const end = () => signal.removeEventListener("abort", abort);
    x.upload.onprogress = (e) => e.lengthComputable && onProgress(e.loaded / e.total);
    x.onabort = () => (end(), reject(new DOMException("aborted", "AbortError")));
    x.onerror = () => (end(), reject(new TypeError("no answer")));
    x.onload = () => {
      end();
      if (x.status < 200 || x.status > 299) return reject(httpError(x.status, x.responseText));
      resolve(captureIdOf(x.responseText));
    };
    if (signal.aborted) return reject(new DOMException("aborted", "AbortError"));
    signal.addEventListener("abort", abort);
    x.open("POST", path("api/import"));
    x.setRequestHeader("Content-Type", "application/zip");
    x.send(file);
  });
}

function captureIdOf(body: string): string {
  try {
    const j = JSON.parse(body) as { id?: unknown; capture?: { id?: unknown } };
    const id = j.id ?? j.capture?.id;
    return typeof id === "string" ? id : "";
  } catch {
    return "";
  }
}
