// The shared worker: one stream for all pages of this browser. Over plain
// HTTP/1.1 a browser opens six connections to the centre and no more; a stream
// in every tab would leave the seventh tab waiting for ever.
import { Hub, type Listener } from "./hub";
import type { PageMessage } from "./protocol";
import { watchStream } from "./stream";

let hub: Hub | undefined;

function serve(port: MessagePort): void {
  let listener: Listener | undefined;
  const close = () => {
    listener?.close();
    port.close();
  };
  port.onmessage = ({ data: m }: MessageEvent<PageMessage>) => {
    switch (m.type) {
      case "hello":
        hub ??= new Hub({ open: watchStream(m.origin, m.base) });
        listener = hub.listen((x) => port.postMessage(x));
        // The page holds this lock for life: we get it when the page is gone, crashed ones included.
        if (m.lock) void navigator.locks?.request(m.lock, close);
        return;
      case "visible":
        return listener?.setVisible(m.visible);
      case "metrics":
        return listener?.setMetrics(m.ids);
      case "retry":
        return listener?.retry();
      case "bye":
        return close();
    }
  };
}

// The type library of workers clashes with the DOM's, which the rest needs.
(globalThis as unknown as { onconnect: (e: MessageEvent) => void }).onconnect = (e) => serve(e.ports[0]!);
