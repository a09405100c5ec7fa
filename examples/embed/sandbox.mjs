// node examples/embed/sandbox.mjs COMMAND…
//
// Runs COMMAND, as an ordinary user, in a network of its own that leads to the internet and not to this machine. Nothing in
// there is ours but socat, which carries packets between a TAP and the socket that the tunnel listens on.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openTunnel } from 'tslirp';

const directory = mkdtempSync(join(tmpdir(), 'sandbox-'));
const link = join(directory, 'link');
const tunnel = await openTunnel({ link: { spec: `bess:${link}` }, policy: { routing: true } });

const inside = `
  socat TUN:10.0.2.100/24,tun-name=tap0,tun-type=tap,iff-no-pi,iff-up UNIX-CONNECT:"$0",type=5 &
  ip link set lo up
  until ip route add default via 10.0.2.2 dev tap0 2>/dev/null; do sleep 0.05; done
  exec "$@"`;
const namespaces = ['--user', '--map-root-user', '--net'];
const words = process.argv.slice(2);
const command = spawn('unshare', [...namespaces, 'sh', '-c', inside, link, ...words], { stdio: 'inherit' });
const [code] = await once(command, 'exit');
// socat ends with its socket.
await tunnel.stop();
rmSync(directory, { recursive: true });
process.exitCode = code ?? 1;
