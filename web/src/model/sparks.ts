// Where the points of a small line go. Pure: what draws them is a canvas.

export interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}

/** What of a canvas a line needs; a Path2D in life. */
export interface Pen {
  moveTo(x: number, y: number): void;
  lineTo(x: number, y: number): void;
  rect(x: number, y: number, width: number, height: number): void;
  closePath(): void;
}

/**
 * Adds a line to a path, and the area below it to another. Each unbroken run is
 * a line; a lone point is a dot in the area. NaN breaks.
 */
export function trace(points: Float32Array, top: number, box: Box, line: Pen, area: Pen): void {
  const step = (box.width - 1) / (points.length - 1);
  const x = (i: number) => box.x + 0.5 + i * step;
  const floor = box.y + box.height;
  const y = (v: number) => floor - 1.5 - Math.min(1, top > 0 ? v / top : 0) * (box.height - 3);
  for (let i = 0; i < points.length; ) {
    if (Number.isNaN(points[i]!)) {
      i++;
      continue;
    }
    let j = i;
    while (j + 1 < points.length && !Number.isNaN(points[j + 1]!)) j++;
    if (i === j) area.rect(x(i) - 1, y(points[i]!) - 1, 2, 2);
    else {
      area.moveTo(x(i), floor);
      for (let k = i; k <= j; k++) {
        const px = x(k);
        const py = y(points[k]!);
        if (k === i) line.moveTo(px, py);
        else line.lineTo(px, py);
        area.lineTo(px, py);
      }
      area.lineTo(x(j), floor);
      area.closePath();
    }
    i = j + 1;
  }
}
