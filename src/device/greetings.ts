/**
 * What is said on a stream before the first frame. A greeting is a generator: it yields how many bytes it wants next, or
 * bytes to send, and throws with one line where the other end does not keep to it. It takes no byte too many, so that
 * frames may follow at once. Pure.
 *
 * Read: gvisor-tap-vsock (pkg/transport, hyperkit.c's vpnkit protocol), Firecracker docs/vsock.md.
 */

/** The next so many bytes; or the same without taking them; or these are to be sent. */
export type Step = number | { peek: number } | { send: Uint8Array };
export type GreetingSteps = Generator<Step, void, Uint8Array>;

const MAGIC = 'VMN3T';
/** Magic, version (32 bits), commit. */
const HELLO_BYTES = 49;
/** Command, UUID (36 bytes of text), 4 bytes. */
const COMMAND_BYTES = 41;
const UUID_BYTES = 36;
/** Ethernet, and the same with a preferred IPv4 address. */
const COMMANDS = [1, 8];
const ANSWER_BYTES = 258;
const ANSWER_OK = 1;
const ETHERNET_HEADER = 14;

const latin1 = new TextDecoder('latin1');
const LINE_MAX = 256;
const REQUEST_MAX = 8192;
const NEWLINE = 10;

/** The same for the same machine, whenever it comes: a locally administered address out of its UUID. */
export function macOf(uuid: string): Uint8Array {
  // Not loaded by every start: it takes some milliseconds of it.
  const { createHash } = process.getBuiltinModule('node:crypto');
  const mac = new Uint8Array(createHash('sha256').update(uuid.toLowerCase()).digest().subarray(0, 6));
  mac[0] = ((mac[0] as number) & 0xfc) | 2;
  return mac;
}

export function* vpnkitGreeting(mtu: number): GreetingSteps {
  const hello = yield HELLO_BYTES;
  const magic = latin1.decode(hello.subarray(0, MAGIC.length));
  if (magic !== MAGIC) throw new Error(`its hello begins with ${JSON.stringify(magic)}, not ${MAGIC}`);
  // Whatever its version: what follows is the same in all.
  yield { send: hello };
  const command = yield COMMAND_BYTES;
  if (!COMMANDS.includes(command[0] as number))
    throw new Error(`command ${command[0]} is unknown; accepted: ${COMMANDS.join(', ')}`);
  const answer = new Uint8Array(ANSWER_BYTES);
  const view = new DataView(answer.buffer);
  view.setUint8(0, ANSWER_OK);
  view.setUint16(1, mtu, true);
  view.setUint16(3, mtu + ETHERNET_HEADER, true);
  answer.set(macOf(latin1.decode(command.subarray(1, 1 + UUID_BYTES))), 5);
  yield { send: answer };
}

/** An HTTP request may come first, which wants no answer; its first letters are no length that a frame has. */
export function* postGreeting(): GreetingSteps {
  const first = yield { peek: 2 };
  if (latin1.decode(first) !== 'PO') return;
  let text = '';
  while (!text.endsWith('\r\n\r\n')) {
    if (text.length === REQUEST_MAX) throw new Error(`its request is longer than ${REQUEST_MAX} bytes`);
    text += latin1.decode(yield 1);
  }
  if (!text.startsWith('POST ')) throw new Error('its request is no POST');
}

/** To a port of the guest, by way of its virtual machine. The number in the answer differs between them. */
export function* connectGreeting(port: number): GreetingSteps {
  yield { send: new TextEncoder().encode(`CONNECT ${port}\n`) };
  let line = '';
  for (;;) {
    const byte = yield 1;
    if (byte[0] === NEWLINE) break;
    line += latin1.decode(byte);
    if (line.length === LINE_MAX) throw new Error(`its answer has no end within ${LINE_MAX} bytes`);
  }
  if (line === '') throw new Error('its answer is an empty line');
  if (!/^OK \d+$/.test(line)) throw new Error(`its answer is ${JSON.stringify(line)}, not "OK" and a number`);
}
