import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseLinkSpec } from '../../src/cli/link-spec.ts';
import type {
  DatagramTarget,
  DialTarget,
  Greeting,
  ListenTarget,
  SocketPlace,
  SocketTarget,
} from '../../src/device-spec.ts';
import { TEXTS, type Text } from './support/link-specs.ts';

function target(text: string): SocketTarget {
  const { target: found } = parseLinkSpec(text);
  assert.ok(found.kind !== 'wireguardFile' && found.kind !== 'tunnel' && found.kind !== 'webSocket');
  return found;
}

const unix = (path: string): SocketPlace => ({ family: 'unix', path });

describe('parseLinkSpec', () => {
  const framed = { framing: 'be32', medium: 'ethernet', oneOff: false } as const;
  const greeting: Greeting = { kind: 'none' };
  const listening = (more: Partial<ListenTarget> & Pick<ListenTarget, 'at'>): ListenTarget => ({
    ...framed,
    ...({ kind: 'listen', type: 'stream', greeting, allowUids: [], awaited: false } as const),
    ...more,
  });
  const dialing = (more: Partial<DialTarget> & Pick<DialTarget, 'at'>): DialTarget => ({
    ...framed,
    ...({ kind: 'dial', type: 'stream', greeting } as const),
    ...more,
  });
  const datagram: Omit<DatagramTarget, 'local' | 'remote'> = { ...framed, kind: 'datagram', framing: 'bare' };
  const ip = (address: string, port: number): SocketPlace => ({ family: 'ip', address, port });
  const vsock = (cid: number, port: number): SocketPlace => ({ family: 'vsock', cid, port });

  const expected: [string, SocketTarget][] = [
    ['fd:7', { kind: 'descriptor', fd: 7, probe: true }],
    ['fd:7,medium=ip', { kind: 'descriptor', fd: 7, probe: true, medium: 'ip' }],
    ['fd:3,4,framing=le16', { kind: 'descriptor', fd: 3, output: 4, probe: true, framing: 'le16' }],
    ['qemu:unix:/p', listening({ at: unix('/p') })],
    ['qemu:unix:/p,connect', dialing({ at: unix('/p') })],
    ['qemu:tcp:127.0.0.1:1234', listening({ at: ip('127.0.0.1', 1234) })],
    ['qemu:tcp:[::1]:1234,connect', dialing({ at: ip('::1', 1234) })],
    ['fd:7,multi,allow-uid=5', { kind: 'descriptor', fd: 7, probe: true, multi: true, allowUids: [5] }],
    ['qemu:tcp:vm-1.example:80,connect', dialing({ at: ip('vm-1.example', 80) })],
    ['passt:', listening({ at: unix('') })],
    ['passt:/p,allow-uid=7,allow-uid=8', listening({ at: unix('/p'), allowUids: [7, 8] })],
    ['bess:/p', listening({ type: 'seqpacket', framing: 'bare', at: unix('/p') })],
    ['vpnkit:/p', listening({ framing: 'le16', at: unix('/p'), greeting: { kind: 'vpnkit' } })],
    ['vfkit:/p', { ...datagram, local: unix('/p'), remote: null }],
    ['dgram:local=/a,remote=/b', { ...datagram, local: unix('/a'), remote: unix('/b') }],
    [
      'udp:local=127.0.0.1:1,remote=[::1]:2',
      {
        ...datagram,
        local: ip('127.0.0.1', 1),
        remote: ip('::1', 2),
      },
    ],
    ['stdio:', { kind: 'descriptor', fd: 0, output: 1, framing: 'le16' }],
    ['vsock:3:1024', dialing({ framing: 'le16', at: vsock(3, 1024) })],
    [
      'vsock:any:1024,listen,framing=be32',
      listening({ at: vsock(0xffffffff, 1024), greeting: { kind: 'post' } }),
    ],
    [
      'vsock-uds:/p:5001',
      dialing({ framing: 'le16', at: unix('/p'), greeting: { kind: 'connect', port: 5001 } }),
    ],
    [
      'vsock-uds:/p:1024,listen',
      listening({ framing: 'le16', at: unix('/p_1024'), greeting: { kind: 'post' } }),
    ],
  ];
  for (const [text, spec] of expected) {
    test(`${text}`, () => assert.deepEqual(target(text), spec));
  }

  test('what is the same for all kinds', () => {
    const { guest, mtu, text } = parseLinkSpec('qemu:unix:/p,guest=vm-1.a,mtu=9000');
    assert.deepEqual([guest, mtu, text], ['vm-1.a', 9000, 'qemu:unix:/p,guest=vm-1.a,mtu=9000']);
    assert.deepEqual([parseLinkSpec('bess:/p').guest, parseLinkSpec('bess:/p').mtu], ['', 0]);
    assert.equal(parseLinkSpec('qemu:unix:/p,mtu=65521').mtu, 65521);
  });

  test('a path is made whole', () => {
    assert.deepEqual(target('bess:p'), { ...target('bess:/'), at: unix(`${process.cwd()}/p`) });
  });

  for (const [text, message] of TEXTS satisfies readonly Text[]) {
    test(`${JSON.stringify(text)} is refused in one line`, () => {
      assert.throws(() => parseLinkSpec(text), { code: 'ERR_USAGE', message });
    });
  }
});
