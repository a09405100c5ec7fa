// A network in a page: a machine of this page (in real use an emulator's) fetches from a server of this page, through a
// gateway that ends its connections. No packet leaves the page.
import { Stack, streamsOf } from 'tslirp/stack';

// The gateway of the machine, and all the world behind it.
const gateway = new Stack({
  ipv4: '10.0.2.2/24',
  peer4: '10.0.2.100',
  congestion: 'none',
  // An emulator's network device takes the frame here; setTimeout would do as well.
  transmit: (frame) => machine.receive(frame),
  onConnection: (request) => {
    const { readable, writable } = streamsOf(request.accept());
    serve(`${request.localAddress}:${request.localPort}`, readable, writable);
  },
});

const machine = new Stack({
  role: 'host',
  ipv4: '10.0.2.100/24',
  peer4: '10.0.2.2',
  congestion: 'none',
  transmit: (frame) => gateway.receive(frame),
});

/** What the world answers: a page might call fetch() here, or open a WebSocket to a proxy. */
async function serve(name, readable, writable) {
  const reader = readable.getReader();
  const { value } = await reader.read();
  const size = Number(/GET \/(\d+)/.exec(new TextDecoder().decode(value))?.[1] ?? 0);
  const writer = writable.getWriter();
  await writer.write(
    new TextEncoder().encode(`HTTP/1.1 200 OK\r\nServer: ${name}\r\nContent-Length: ${size}\r\n\r\n`),
  );
  for (let left = size; left > 0; left -= 65536)
    await writer.write(new Uint8Array(Math.min(left, 65536)).fill(120));
  await writer.close();
}

/** The machine's program. Resolves to the answer's head and how many bytes followed it. */
async function fetchOverTcp(address, path) {
  const { readable, writable } = streamsOf(machine.connect({ address, port: 80 }));
  const writer = writable.getWriter();
  await writer.write(new TextEncoder().encode(`GET ${path} HTTP/1.1\r\nHost: ${address}\r\n\r\n`));
  await writer.close();
  let head = '';
  let bytes = 0;
  for await (const chunk of readable) {
    if (bytes === 0) head = new TextDecoder().decode(chunk).split('\r\n\r\n')[0];
    bytes += chunk.length;
  }
  return { head, bytes: bytes - head.length - 4 };
}

const size = 16 * 1024 * 1024;
const begin = performance.now();
const { head, bytes } = await fetchOverTcp('192.0.2.7', `/${size}`);
const seconds = (performance.now() - begin) / 1000;
const lines = [
  ...head.split('\r\n'),
  '',
  `${bytes} bytes, ${((bytes * 8) / seconds / 1e6).toFixed(0)} Mbit/s`,
];
document.querySelector('#result').textContent = lines.join('\n');
