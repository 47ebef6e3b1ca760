// Requests to the server: the token, a full server, errors as sentences.

const TOKEN = "mrcnn-token";
const MOST_TRIES = 60;

export class ServerError extends Error {}

/** The answer of the server; askToken() is awaited if it wants a token. */
export async function ask(path, options, askToken) {
  for (let tries = 0; tries < MOST_TRIES; tries++) {
    const answer = await send(path, options);
    if (answer.status === 401) {
      sessionStorage.setItem(TOKEN, await askToken());
    } else if (answer.status === 503) {
      await pause(1000 * Number(answer.headers.get("Retry-After") ?? 1));
    } else if (!answer.ok) {
      throw new ServerError(await reason(answer));
    } else {
      return answer;
    }
  }
  throw new ServerError("The server stayed full. Try again later.");
}

async function send(path, options) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  try {
    return await fetch(path, { ...options, headers });
  } catch {
    throw new ServerError("The server does not answer. Try again when it runs.");
  }
}

async function reason(answer) {
  try {
    return (await answer.json()).error ?? answer.statusText;
  } catch {
    return `${answer.status} ${answer.statusText}`;
  }
}

function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
