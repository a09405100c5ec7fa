/** A client of the API socket that costs the machine as little as it can: blocking calls, a connection for each request. */
import type { Reply, Request } from './protocol.ts';
import * as net from './sockets.ts';

const ANSWER_TIMEOUT_MS = 2000;
const ANSWER_MAX = 4096;
const SHUT_WR = 1;

/** In turns: list, add a forward, list, remove it. */
export function apiCalls(request: Request<'api-calls'>): Reply<'api-calls'> {
  const add = JSON.stringify({
    execute: 'add_hostfwd',
    arguments: {
      proto: 'tcp',
      host_addr: request.address,
      host_port: request.port,
      guest_port: request.port,
    },
  });
  net.sharpTimers();
  const begin = performance.now();
  let made = 0;
  let answered = 0;
  let failed = 0;
  let id = 0;
  for (let now = begin; now - begin < request.durationMs; now = performance.now()) {
    const early = (made * 1e3) / request.perSecond - (now - begin);
    if (early > 0) {
      net.sleepMicroseconds(Math.ceil(early * 1e3));
      continue;
    }
    const step = made++ % 2 === 0 ? 'list' : id === 0 ? 'add' : 'remove';
    const answer = ask(
      request.path,
      step === 'list'
        ? '{"execute":"list_hostfwd"}'
        : step === 'add'
          ? add
          : `{"execute":"remove_hostfwd","arguments":{"id":${id}}}`,
    );
    if (answer === '' || answer.includes('"error"')) failed++;
    else answered++;
    if (step === 'add') id = Number(/"id":\s*(\d+)/.exec(answer)?.[1] ?? 0);
    else if (step === 'remove') id = 0;
  }
  // The next request begins with nothing added.
  if (id !== 0) ask(request.path, `{"execute":"remove_hostfwd","arguments":{"id":${id}}}`);
  return { answered, failed };
}

/** One request; the answer, or nothing. */
function ask(path: string, question: string): string {
  const fd = net.openUnix();
  if (fd < 0) throw net.failure('socket');
  try {
    net.receiveTimeout(fd, ANSWER_TIMEOUT_MS);
    if (net.connectUnix(fd, path) < 0) throw net.failure('connect');
    const at = net.base + net.AT_TEXT;
    const length = net.putText(question);
    if (net.send(fd, at, length, 0) !== length) return '';
    net.shutdown(fd, SHUT_WR);
    let answer = '';
    for (let got = net.receive(fd, at, ANSWER_MAX, 0); got > 0; got = net.receive(fd, at, ANSWER_MAX, 0)) {
      answer += net.text(got);
    }
    return answer;
  } finally {
    net.close(fd);
  }
}
