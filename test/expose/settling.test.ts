import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { OpenSocket } from '../../src/expose/open-socket.ts';
import {
  ABSENCE_MS,
  type Changes,
  CONFIRM_MS,
  SERVICES_MAX,
  Settling,
  UDP_CONFIRM_MS,
} from '../../src/expose/settling.ts';

function socketOn(port: number, inode: number, proto: 'tcp' | 'udp' = 'tcp'): OpenSocket {
  return { proto, family: 4, ip: '0.0.0.0', port, v6only: false, device: 0, uid: 0, inode };
}

/** What a look has told of, as `+80 -81 ~82 ?83`. */
function told({ pending, added, removed, flapped }: Changes): string {
  const marked = (mark: string, list: Changes['added']) => list.map(({ socket }) => mark + socket.port);
  return [
    ...marked('?', pending),
    ...marked('+', added),
    ...marked('-', removed),
    ...marked('~', flapped),
  ].join(' ');
}

test('a listener is told of when another look confirms it, UDP after half a second', () => {
  const settling = new Settling();
  const both = [socketOn(80, 1), socketOn(53, 2, 'udp')];
  assert.equal(told(settling.look(both, 1000)), '?80 ?53');
  assert.equal(settling.due, 1000 + CONFIRM_MS);
  assert.equal(told(settling.look(both, 1000 + CONFIRM_MS - 1)), '');
  assert.equal(told(settling.look(both, 1000 + CONFIRM_MS)), '+80');
  assert.equal(settling.due, 1000 + UDP_CONFIRM_MS);
  assert.equal(told(settling.look(both, 1000 + UDP_CONFIRM_MS - 1)), '');
  assert.equal(told(settling.look(both, 1000 + UDP_CONFIRM_MS)), '+53');
  assert.equal(settling.due, Number.POSITIVE_INFINITY);
});

test('A-4: a listener that lives 50 ms is never told of', () => {
  const settling = new Settling();
  settling.look([socketOn(80, 1)], 1000);
  assert.equal(told(settling.look([], 1055)), '');
  // Nor the next one, which begins anew.
  assert.equal(told(settling.look([socketOn(80, 2)], 1100)), '?80');
  assert.equal(told(settling.look([socketOn(80, 2)], 1154)), '');
});

test('A-5: restarted every second, ten times: one service, nine flaps', () => {
  const settling = new Settling();
  let added = 0;
  let flaps = 0;
  for (let start = 0; start < 10; start++) {
    const sockets = [socketOn(80, start + 1)];
    // It is there for 0.6 s of each second.
    for (const at of [0, 200, 400]) {
      const changes = settling.look(sockets, 1000 * start + at);
      added += changes.added.length;
      flaps += changes.flapped.length;
    }
    for (const at of [600, 800]) assert.equal(told(settling.look([], 1000 * start + at)), '');
  }
  assert.equal(added, 1);
  assert.equal(flaps, 9);
});

test('a restart between two looks is seen by its inode, and one of several sockets that goes is none', () => {
  const settling = new Settling();
  const one = [socketOn(80, 1)];
  settling.look(one, 0);
  settling.look(one, 100);
  assert.equal(told(settling.look([socketOn(80, 2), socketOn(80, 3)], 200)), '~80');
  assert.equal(told(settling.look([socketOn(80, 3)], 300)), '');
  assert.equal(told(settling.look([socketOn(80, 3), socketOn(80, 4)], 400)), '');
});

test('gone: missed by two looks and for two seconds', () => {
  const settling = new Settling();
  settling.look([socketOn(80, 1)], 0);
  settling.look([socketOn(80, 1)], 100);
  assert.equal(told(settling.look([], 1000)), '');
  assert.equal(settling.due, 1000 + ABSENCE_MS);
  assert.equal(told(settling.look([], 1000 + ABSENCE_MS - 1)), '');
  const gone = settling.look([], 1000 + ABSENCE_MS);
  assert.equal(told(gone), '-80');
  assert.ok(gone.removed.every((service) => !settling.has(service)));
});

test('one look that comes late does not take a service away', () => {
  const settling = new Settling();
  settling.look([socketOn(80, 1)], 0);
  settling.look([socketOn(80, 1)], 100);
  assert.equal(told(settling.look([], 9000)), '');
  assert.equal(told(settling.look([socketOn(80, 1)], 9100)), '~80');
});

test('more services than are kept: the others wait until some have gone', () => {
  const settling = new Settling();
  const all = Array.from({ length: SERVICES_MAX + 10 }, (_, index) => socketOn(index + 1, index + 1));
  assert.equal(settling.look(all, 0).pending.length, SERVICES_MAX);
  assert.equal(settling.isFull, true);
  assert.equal(settling.look(all, 100).added.length, SERVICES_MAX);
  const rest = all.slice(20);
  settling.look(rest, 200);
  const changes = settling.look(rest, 200 + ABSENCE_MS);
  assert.equal(changes.removed.length, 20);
  assert.equal(changes.pending.length, 10);
  assert.equal(settling.isFull, false);
});
