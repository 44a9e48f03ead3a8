// Requests to the server, and the two ways in which they fail: refused with a remedy, or not answered at all.

/** The server answered with a problem and what to do about it. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    readonly problem: string,
    readonly remedy: string,
    readonly waitingFor: string | null,
  ) {
    super(`${problem}; ${remedy}`);
  }
}

/** The server did not answer. */
export class Unreachable extends Error {}

async function send(path: string, init?: RequestInit): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, init);
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Unreachable("the server does not answer");
  }
  if (response.ok) return response;
  const body: unknown = await response.json().catch(() => null);
  const said = typeof body === "object" && body !== null ? (body as Record<string, unknown>) : {};
  const text = (name: string, otherwise: string): string => (typeof said[name] === "string" ? said[name] : otherwise);
  throw new Refused(
    response.status,
    text("problem", `the server refused the request (${response.status})`),
    text("remedy", response.status === 403 ? "open the link that the server printed" : "reload the page and try again"),
    typeof said["waiting_for"] === "string" ? said["waiting_for"] : null,
  );
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return (await send(path, signal ? { signal } : undefined)).json() as Promise<T>;
}

export async function post<T>(path: string, body: object): Promise<T> {
  const init = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  return (await send(path, init)).json() as Promise<T>;
}

export async function bytes(path: string, signal?: AbortSignal): Promise<{ data: ArrayBuffer; headers: Headers }> {
  const response = await send(path, signal ? { signal } : undefined);
  return { data: await response.arrayBuffer(), headers: response.headers };
}
