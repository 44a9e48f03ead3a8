// Points and polygons.

export type Point = [number, number];

/** The points (x, y, x, y, ...) inside a polygon, by the even-odd rule. */
export function insidePolygon(polygon: Point[], points: Float32Array): number[] {
  const found: number[] = [];
  const xs = polygon.map((p) => p[0]);
  const ys = polygon.map((p) => p[1]);
  const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  for (let i = 0; i < points.length / 2; i++) {
    const x = points[2 * i] as number;
    const y = points[2 * i + 1] as number;
    if (x < left || x > right || y < low || y > high) continue;
    let inside = false;
    for (let a = 0, b = polygon.length - 1; a < polygon.length; b = a++) {
      const [xa, ya] = polygon[a] as Point;
      const [xb, yb] = polygon[b] as Point;
      if (ya > y !== yb > y && x < ((xb - xa) * (y - ya)) / (yb - ya) + xa) inside = !inside;
    }
    if (inside) found.push(i);
  }
  return found;
}

/** The point nearest to a place, no farther than `most`; -1 where there is none. `shown` says which count. */
export function nearest(x: number, y: number, most: number, points: Float32Array, shown: (i: number) => boolean): number {
  let best = -1;
  let least = most * most;
  for (let i = 0; i < points.length / 2; i++) {
    const away = ((points[2 * i] as number) - x) ** 2 + ((points[2 * i + 1] as number) - y) ** 2;
    if (away <= least && shown(i)) {
      best = i;
      least = away;
    }
  }
  return best;
}
