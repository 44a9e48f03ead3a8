// Numbers as a biologist writes them.

const COUNT = new Intl.NumberFormat("en");

export const count = (n: number): string => COUNT.format(n);

/** Three significant figures, without a power of ten where it can be helped. */
export function figure(value: number): string {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1000) return COUNT.format(Math.round(value));
  if (size < 0.0001) return value.toExponential(1);
  return String(Number(value.toPrecision(3)));
}

export const volume = (um3: number): string => `${figure(um3)} µm³`;

export const share = (part: number): string => `${(part * 100).toFixed(part < 0.1 ? 2 : 1)} %`;

/** A length in nm, µm or mm. */
export function length(nm: number): string {
  if (nm >= 1e6) return `${figure(nm / 1e6)}\u00a0mm`;
  return nm >= 1000 ? `${figure(nm / 1000)}\u00a0µm` : `${figure(nm)}\u00a0nm`;
}

export function timeLeft(seconds: number | null): string {
  if (seconds === null) return "";
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s left`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min left` : `${Math.round(seconds / 3600)} h left`;
}

/** One of a thing, several of it. */
export const several = (n: number, thing: string): string => `${count(n)} ${thing}${n === 1 ? "" : "s"}`;
