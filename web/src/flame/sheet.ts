// The boxes of a flame graph as pixels. All lines of a row of boxes are the same
// but the lowest, so a row is filled once, as one line, and copied: a picture of
// tens of thousands of boxes costs what it costs to copy its pixels.

/** A colour as a canvas has it in memory. */
export type Pixel = number;

const pack = (r: number, g: number, b: number): Pixel => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;

/** a over b, by a share of a. */
export function mixed(a: Pixel, b: Pixel, share: number): Pixel {
  const one = (shift: number) => Math.round(((a >>> shift) & 255) * share + ((b >>> shift) & 255) * (1 - share));
  return pack(one(0), one(8), one(16));
}

/** Reads colours as the browser writes them, whatever their notation; each once. */
export function pixelReader(): (colour: string) => Pixel {
  const known = new Map<string, Pixel>();
  let c: CanvasRenderingContext2D | null = null;
  return (colour) => {
    let p = known.get(colour);
    if (p === undefined) {
      if (!c) {
        const one = document.createElement("canvas");
        one.width = one.height = 1;
        c = one.getContext("2d", { willReadFrequently: true })!;
      }
      c.fillStyle = colour;
      c.fillRect(0, 0, 1, 1);
      const [r, g, b] = c.getImageData(0, 0, 1, 1).data;
      known.set(colour, (p = pack(r!, g!, b!)));
    }
    return p;
  };
}

export interface Sheet {
  width: number;
  height: number;
  pixels: Uint32Array;
  /** The row that is being filled, and its lowest lines, which marks are on. */
  line: Uint32Array;
  low: Uint32Array;
}

export const newSheet = (width: number, height: number, pixels: Uint32Array): Sheet => ({ width, height, pixels, line: new Uint32Array(width), low: new Uint32Array(width) });

/** Copies the filled row to where it belongs: height lines of it, the last marks of them from low, and a line's gap of nothing. */
export function putRow(s: Sheet, y: number, height: number, marks: number): void {
  for (let n = Math.max(0, -y), end = Math.min(height, s.height - y); n < end; n++) s.pixels.set(n >= height - marks ? s.low : s.line, (y + n) * s.width);
}
