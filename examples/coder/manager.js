// The manager's side of the control protocol (docs/daemon.md), as a desktop program has it that owns a tunnel device: it starts
// tslirp on the descriptor, applies the network settings that it is asked to, shows the log, and stops it. Nothing of tslirp is
// imported here: this is what a program in any language does.
//
//   node manager.js TUNNEL-FD
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

const program = join(import.meta.dirname ?? new URL('.', import.meta.url).pathname, '../../bin/tslirp');
const CONTROL_FD = 3;
const TUNNEL_FD = 4;

class Manager {
  bytes = Buffer.alloc(0);
  waiting = new Map();
  nextId = 1;

  constructor(tunnelFd) {
    // The child's control socket is its descriptor 3, the tunnel its descriptor 4.
    this.child = spawn(program, ['daemon', '--control-fd', `${CONTROL_FD}`], {
      stdio: ['ignore', 'ignore', 'inherit', 'pipe', tunnelFd],
    });
    this.socket = this.child.stdio[CONTROL_FD];
    this.gone = once(this.child, 'exit');
    this.socket.on('data', (chunk) => this.take(chunk));
    this.socket.on('close', () => {
      for (const { reject } of this.waiting.values()) reject(new Error('the stack is gone'));
    });
    // Both ends write their line at once.
    this.socket.write('tslirp-control embedder 1.0\n');
  }

  take(chunk) {
    this.bytes = Buffer.concat([this.bytes, chunk]);
    if (this.version === undefined) {
      const end = this.bytes.indexOf('\n');
      if (end < 0) return;
      const [word, role, version] = this.bytes.toString('latin1', 0, end).split(' ');
      if (word !== 'tslirp-control' || role !== 'stack') throw new Error('this is no tslirp');
      this.version = version;
      this.bytes = this.bytes.subarray(end + 1);
    }
    while (this.bytes.length >= 4) {
      const length = this.bytes.readUInt32BE(0);
      if (this.bytes.length < 4 + length) return;
      const message = JSON.parse(this.bytes.toString('utf8', 4, 4 + length));
      this.bytes = this.bytes.subarray(4 + length);
      void this.receive(message);
    }
  }

  send(message) {
    const content = Buffer.from(JSON.stringify(message));
    const header = Buffer.alloc(4);
    header.writeUInt32BE(content.length);
    this.socket.write(Buffer.concat([header, content]));
  }

  call(type, fields = {}) {
    const id = this.nextId++;
    this.send({ id, type, ...fields });
    return new Promise((resolve, reject) => this.waiting.set(id, { resolve, reject }));
  }

  async receive({ id, re, type, ...fields }) {
    if (re !== undefined) {
      const call = this.waiting.get(re);
      this.waiting.delete(re);
      if (fields.ok) call?.resolve(fields);
      else call?.reject(new Error(`${fields.code}: ${fields.message}`));
    } else if (type === 'settings') {
      // A diff: what is not in it stays as it is.
      const error = await this.applySettings(fields.diff).catch((cause) => String(cause));
      if (error === undefined) this.send({ re: id, ok: true });
      else this.send({ re: id, ok: false, code: 'SETTINGS_REJECTED', message: error });
    } else if (type === 'log') console.log(`log ${fields.level}: ${fields.message}`);
    else if (type === 'event') console.log(`event ${fields.event.type}`);
  }

  // Where a real one asks its system for addresses, routes, MTU and DNS.
  async applySettings({ mtu, ipv4, dns }) {
    if (mtu !== undefined) console.log(`settings mtu ${mtu}`);
    if (ipv4 !== undefined) console.log(`settings addresses ${ipv4.addresses} by ${ipv4.router}`);
    if (dns !== undefined) console.log(`settings dns ${dns.servers}`);
  }
}

const manager = new Manager(Number(process.argv[2]));
await manager.call('subscribe', { types: ['state', 'link.up', 'link.down'] });
const config = { link: { fd: TUNNEL_FD }, mtu: 1280, policy: { routing: true } };
const { tunnel } = await manager.call('start', { config });
const { status } = await manager.call('status', { tunnel });
console.log(`tunnel ${tunnel} is ${status.state}`);
process.stdin.resume();
await once(process.stdin, 'end');
const { reason } = await manager.call('stop', { graceMs: 1000 });
console.log(`stopped: ${reason.code}, exit ${(await manager.gone)[0]}`);
